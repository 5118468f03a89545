/**
 * Reads the public keys that sources with names have published on the shared volume, where others may write, too: nothing outside of it is
 * read for them, nothing is waited for, and no more are taken than there may be sources.
 *
 *   const published = new PublishedSources('/shared-keys/sources');
 *   published.read(); // { contents: Map { 'web1' => 'ssh-rsa AAAA…' }, faults: [{ file: '..pub', reason: '…' }] }
 */
import { readdirSync, statSync } from 'node:fs';
import { type HeldDirectory, holdDirectory, readSmallFile } from '../service/files.ts';
import { Glance } from '../service/glance.ts';
import { MAX_KEY_BYTES } from '../service/keys.ts';
import { error } from '../service/log.ts';
import { CLAIM_END, isSourceName, NAME_FORM } from '../service/source-names.ts';
import { escapeText, reasonOf, t } from '../service/text.ts';

/** How many files are looked at. */
const MAX_FILES = 1000;
const END = '.pub';
/** How long after a change the time of a directory may hide another one, ms: FAT and some servers count in steps of seconds. */
const SETTLE_MS = 5000;

/** What stands in the way of a key. */
interface Fault {
  /** The name of the file, as it may be: it is not safe to print. */
  file: string;
  reason: string;
}

export interface Published {
  /** What the files hold, by the names of their sources. */
  contents: Map<string, string>;
  /** What those have left who were refused one of these names. */
  claims: Map<string, string>;
  faults: Fault[];
}

const nameOf = (file: string) => file.slice(0, -END.length);

const stampAt = (path: string) => {
  const { ino, mtimeNs, ctimeNs } = statSync(path, { bigint: true });
  return [ino, mtimeNs, ctimeNs].join();
};

export class PublishedSources {
  /** What is in the directory, and by what that was known when it was listed: somebody may have put a million names there. */
  private names: string[] = [];
  private claimed: string[] = [];
  private count = 0;
  private stamp = '';
  /** When that was found first, and when it was listed last, ms. */
  private since = 0;
  private listed = 0;

  private isSilent = false;

  /**
   * @param glance says whether the directory answers; a stand-in serves tests
   * @param stampOf says by what a directory is known until something comes or goes; a stand-in serves tests
   */
  constructor(
    private readonly directory: string,
    private readonly glance: Pick<Glance, 'answers'> = new Glance(directory),
    private readonly stampOf = stampAt,
  ) {}

  /** Whether the directory answers, be it that it is not there; that it does not is told once. Nothing is to be read until it does. */
  async answers(): Promise<boolean> {
    const wasSilent = this.isSilent;
    this.isSilent = !(await this.glance.answers());
    const what = t`共享卷没有应答: ${escapeText(this.directory)}。已授权的公钥继续有效`;
    if (this.isSilent && !wasSilent) error('key.refused', what);
    return !this.isSilent;
  }

  /** Reads what is published now; nothing where the directory is not there. */
  read(): Published {
    try {
      using place = holdDirectory(this.directory);
      this.list(place);
      return this.readFrom(place);
    } catch (cause) {
      const isMissing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
      return {
        contents: new Map(),
        claims: new Map(),
        faults: isMissing ? [] : [{ file: '', reason: reasonOf(cause) }],
      };
    }
  }

  private list(place: HeldDirectory): void {
    const [stamp, now] = [this.stampOf(place.at('.')), performance.now()];
    if (stamp !== this.stamp) this.since = now;
    else if (this.listed - this.since > SETTLE_MS) return;
    const all = readdirSync(place.at(''));
    const names = all.filter((name) => name.endsWith(END));
    this.count = names.length;
    this.names = names.sort().slice(0, MAX_FILES);
    const claims = new Set(all.filter((name) => name.endsWith(CLAIM_END)));
    this.claimed = this.names.map(nameOf).filter((name) => claims.has(`${name}${CLAIM_END}`));
    this.stamp = stamp;
    this.listed = now;
  }

  private readFrom(place: HeldDirectory): Published {
    const contents = new Map<string, string>();
    const faults: Fault[] = [];
    if (this.count > MAX_FILES)
      faults.push({ file: '', reason: t`其中有 ${this.count} 个公钥文件，只查看前 ${MAX_FILES} 个，请删除不再使用的` });
    for (const file of this.names) {
      const name = nameOf(file);
      if (!isSourceName(name)) faults.push({ file, reason: t`源端的名称应为${NAME_FORM}` });
      else
        try {
          contents.set(name, readSmallFile(place.at(file), MAX_KEY_BYTES).trim());
        } catch (cause) {
          if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') faults.push({ file, reason: reasonOf(cause) });
        }
    }
    return { contents, claims: this.readClaims(place), faults };
  }

  /** Reads what is left of others; what cannot be read is nobody's. */
  private readClaims(place: HeldDirectory): Map<string, string> {
    const claims = new Map<string, string>();
    for (const name of this.claimed.filter(isSourceName))
      try {
        claims.set(name, readSmallFile(place.at(`${name}${CLAIM_END}`), MAX_KEY_BYTES).trim());
      } catch {
        // It lets nobody in.
      }
    return claims;
  }
}
