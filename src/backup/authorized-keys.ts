/**
 * The key of a source: what the shared volume holds of it, and its line in authorized_keys, where lines of other people
 * stay as they are.
 *
 *   const key = new SharedKey(config);
 *   const line = key.findNew(); // 'ssh-rsa AAAA… rsync-inotify@source'
 *   if (line) key.authorize(line);
 *
 * Comments in authorized_keys need not be UTF-8: what is written there is bytes, kept as latin1 strings.
 */
import { existsSync, mkdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { quote } from 'shlex';
import { readSmallFile, replaceFile } from '../service/files.ts';
import { Glance } from '../service/glance.ts';
import { fingerprint, MAX_KEY_BYTES, parsePublicKey } from '../service/keys.ts';
import { error } from '../service/log.ts';
import { isSourceName } from '../service/source-names.ts';
import { touch } from '../service/status.ts';
import { escapeText, Failure, reasonOf, t } from '../service/text.ts';
import type { Config } from './config.ts';
import { FORCED_COMMAND } from './forced-command.ts';
import { PromotionMark, promotedIn } from './promotion-mark.ts';

const MIN_RSA_BITS = 2048;
/** The line above ours in `authorized_keys`, for a source without a name and for one that has one. */
const MARKER = '# start-sshd: the next line is the key from the shared volume and is replaced with it';
const NAMED_MARKER =
  /^# start-sshd: the next line is the key from sources\/(.+)\.pub on the shared volume and is replaced with it$/;
const markerOf = (name: string) => (name ? MARKER.replace('the shared volume', `sources/${name}.pub on $&`) : MARKER);

/** Finds the name of the source whose key is in the line below, '' for one without a name; nothing where it is no line of ours. */
function nameIn(marker: string | undefined): string | undefined {
  if (marker === MARKER) return '';
  const [, name] = NAMED_MARKER.exec(marker ?? '') ?? [];
  return name && isSourceName(name) ? name : undefined;
}

/** Names the directory on the shared volume that holds the public keys of sources with names. */
export const sourcesDirectory = (config: Pick<Config, 'SHARED_KEYS_DIR'>) => join(config.SHARED_KEYS_DIR, 'sources');
/** Names the file on the shared volume that holds a source's public key. */
export const sharedKeyFile = (config: Pick<Config, 'SHARED_KEYS_DIR'>, name = '') =>
  name ? join(sourcesDirectory(config), `${name}.pub`) : join(config.SHARED_KEYS_DIR, 'id_rsa.pub');
const authorizedKeysFile = (config: Config) => join(config.SSH_DIR, 'authorized_keys');

/** Finds `TYPE BASE64` in a line, whatever its comment. */
export const bodyOf = (line: string) => line.split(' ', 2).join(' ');

/** The key of a source: the one in force, the one that was found last, and why the file was refused last. */
export class SharedKey {
  private inForce = '';
  private found = '';
  private complaint = '';
  /** The key that can log in: the one in force, or before there is one that of an earlier start. */
  private admitted = '';
  /** Its lines in authorized_keys as they were found last, other ones that were found since, and by what the file was known then. */
  private lines = '';
  private suspicion: string | undefined;
  private stamp = '';

  private readonly glance: Glance;

  /** @param name that of the source, '' for one without */
  constructor(
    private readonly config: Config,
    readonly name = '',
  ) {
    this.glance = new Glance(sharedKeyFile(config, name));
  }

  /** Whether the shared volume answers; that it does not is told once. The key in force stays meanwhile. */
  async answers(): Promise<boolean> {
    const isThere = await this.glance.answers();
    const what = t`共享卷没有应答: ${escapeText(sharedKeyFile(this.config))}。已授权的公钥继续有效`;
    if (!isThere && this.noteComplaint(what)) error('key.refused', what);
    return isThere;
  }

  get isInForce(): boolean {
    return this.inForce !== '' && !this.isWithdrawn;
  }

  /** Whether somebody has taken the key out of authorized_keys. */
  get isWithdrawn(): boolean {
    return this.admitted !== '' && this.lines === '';
  }

  /** Whether authorized_keys has to be looked at once more to know. */
  get isInDoubt(): boolean {
    return this.suspicion !== undefined;
  }

  /**
   * Reads the key on the shared volume, nothing where there is none or that one is in force.
   * @param content what the file holds, '' where there is none
   * @throws where it is no key file, cannot be read, or its key is too weak
   */
  findNew(content = readSharedKey(this.config)): string | undefined {
    return content && content !== this.inForce ? parseSharedKey(content) : undefined;
  }

  /** Remembers which key was found last; returns whether it is another one than before. */
  noteSight(line: string): boolean {
    const isOther = line !== this.found;
    this.found = line;
    return isOther;
  }

  /**
   * Authorises a key in place of the one before.
   * @throws {Failure}
   */
  authorize(line: string): void {
    authorize(this.config, Buffer.from(line).toString('latin1'), this.name);
    this.inForce = line;
    this.admit(line);
  }

  /** Whether a key can log in that is the one of a line, whatever its comment. */
  holds(line: string): boolean {
    return this.admitted !== '' && !this.isWithdrawn && bodyOf(this.admitted) === bodyOf(line);
  }

  /**
   * Takes the key out of authorized_keys, if it is there.
   * @throws {Failure}
   */
  withdraw(): void {
    edit(this.config, (content) => pairsIn(content).flatMap((pair) => (pair.name === this.name ? [] : pair.lines)));
    this.inForce = this.found = this.admitted = this.lines = '';
    this.suspicion = undefined;
    touch();
  }

  /**
   * Gives the key in a line of ours that an earlier start has left no more than this start does.
   * @throws {Failure}
   */
  restrictFormer(): void {
    const key = formerKey(readAuthorizedKeys(authorizedKeysFile(this.config)), this.name);
    if (!key) return;
    authorize(this.config, key, this.name);
    this.admit(key);
  }

  /**
   * Gives the key that can log in what it is given now: with ALLOW_SHELL, that is another thing once the backup has taken over.
   * @throws {Failure}
   */
  restrict(): void {
    const { admitted, inForce, config } = this;
    if (!config.ALLOW_SHELL || !admitted || this.isWithdrawn) return;
    authorize(config, admitted === inForce ? Buffer.from(admitted).toString('latin1') : admitted, this.name);
    this.admit(admitted);
  }

  private admit(line: string): void {
    this.admitted = line;
    this.lines = linesWith(line, readAuthorizedKeys(authorizedKeysFile(this.config)));
    this.suspicion = undefined;
    this.stamp = '';
    touch();
  }

  /** Tells the fingerprint of the key that can log in, '' where there is none. */
  get fingerprint(): string {
    return this.admitted && fingerprint(this.admitted);
  }

  /**
   * Says what somebody else has done to the lines of the key in authorized_keys since the last look. The file is looked at twice, for it may
   * be gone while it is written anew; what cannot be looked at says nothing.
   */
  findChange(): 'removed' | 'edited' | undefined {
    const found = this.admitted ? this.findLines() : this.lines;
    const isNew = found !== this.lines && found !== this.suspicion;
    if (found === this.lines) this.suspicion = undefined;
    if (isNew) this.suspicion = found;
    if (found === this.lines || isNew) return undefined;
    this.lines = found;
    this.suspicion = undefined;
    touch();
    return found ? 'edited' : 'removed';
  }

  private findLines(): string {
    const file = authorizedKeysFile(this.config);
    try {
      const found = statSync(file, { bigint: true, throwIfNoEntry: false });
      const stamp = found ? [found.ino, found.size, found.mtimeNs, found.ctimeNs].join() : 'none';
      if (stamp === this.stamp) return this.suspicion ?? this.lines;
      const lines = linesWith(this.admitted, readAuthorizedKeys(file));
      this.stamp = stamp;
      return lines;
    } catch {
      return this.lines;
    }
  }

  /** Remembers why the file was refused, '' if it was not; returns whether that is news. */
  noteComplaint(reason: string): boolean {
    const isNew = reason !== this.complaint;
    this.complaint = reason;
    return isNew;
  }

  /** Tells the fingerprint of the key in force. */
  report(): string | null {
    return this.isInForce ? fingerprint(this.inForce) : null;
  }
}

/**
 * Reads what the shared key file of a source without a name holds, '' while there is none.
 * @throws {Failure} where it cannot be read, or is no such file
 */
export function readSharedKey(config: Pick<Config, 'SHARED_KEYS_DIR'>): string {
  const file = sharedKeyFile(config);
  try {
    return readSmallFile(file, MAX_KEY_BYTES).trim();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw new Failure(t`${escapeText(file)}：${reasonOf(cause)}`);
  }
}

/**
 * Checks that a text is one line of `TYPE BASE64 [COMMENT]` with a key that is whole and not weak; returns it.
 * @throws on anything else
 */
export function parseSharedKey(content: string): string {
  const { line, bits = MIN_RSA_BITS } = parsePublicKey(content);
  if (bits < MIN_RSA_BITS) throw new Error(t`RSA 公钥应至少有 ${MIN_RSA_BITS} 位`);
  return line;
}

/** Writes the words that sshd starts as a value of an option in authorized_keys (sshd(8)): it goes through a shell. */
export function commandOption(words: string[]): string {
  const command = ['exec', ...words.map(quote)].join(' ');
  return `command="${command.replaceAll('"', '\\"')}"`;
}

/**
 * Writes a key's line in `authorized_keys`: what sshd starts for it instead of what it asks for, always where the backup has taken over.
 * @param name that of its source, '' for one without
 */
export function authorizedLine(config: Config, key: string, name = ''): string {
  const isPromoted = () => promotedIn(new PromotionMark(config).file, join(config.DEST_DIR, name));
  if (config.ALLOW_SHELL && !isPromoted()) return `restrict ${key}`;
  const script = Bun.main.startsWith('/$bunfs/') ? [] : ['--no-env-file', Bun.main]; // a compiled program is its own script
  const program = process.execPath.replace(/ \(deleted\)$/, ''); // replaced by a newer one since we were started
  const option = commandOption([program, ...script, FORCED_COMMAND, fingerprint(key), ...(name ? [name] : [])]);
  return `restrict,${Buffer.from(option).toString('latin1')} ${key}`;
}

/** A line of `authorized_keys`, or one of ours with what stands above it and the name of its source. */
interface Entry {
  lines: string[];
  name: string | undefined;
}

/** What sshd starts for one of ours. */
const OURS = new RegExp(` ${FORCED_COMMAND} SHA256:\\S+?(?: (\\S+?))?" `);

/** Takes what `authorized_keys` holds apart. A line of ours says whose it is, wherever somebody has put it, but for one that lets in a shell. */
function pairsIn(content: string): Entry[] {
  const entries: Entry[] = [];
  const lines = content.split('\n').filter(Boolean);
  for (let n = 0; n < lines.length; n++) {
    const [line = '', next = ''] = lines.slice(n, n + 2);
    const [own, below] = [OURS.exec(line), OURS.exec(next)];
    const name = own ? (own[1] ?? '') : nameIn(line);
    const isWhole = !own && name !== undefined && (below ? (below[1] ?? '') === name : /^restrict\b/.test(next)); // or ours is gone from there
    entries.push({ lines: isWhole ? [line, next] : [line], name });
    if (isWhole) n++;
  }
  return entries;
}

/**
 * Puts our line into what `authorized_keys` holds, in place of the last one of ours for that source, and of one for another source with the
 * same key. It comes first: if a line of somebody else lets the same key in, with other restrictions or none, sshd goes by the first.
 */
export function mergeAuthorizedKeys(content: string, line: string, key: string, name = ''): string {
  const [type, body = ''] = key.split(' ');
  const isOurs = (other: string) => `${other} `.startsWith(`${type} ${body} `);
  const others = pairsIn(content).filter(({ lines, name: owner }) =>
    owner === undefined ? !isOurs(lines[0] ?? '') : owner !== name && !lines.at(-1)?.includes(` ${body}`),
  );
  return [markerOf(name), line, ...others.flatMap(({ lines }) => lines), ''].join('\n');
}

/** Reads all that is authorised, '' where nothing is. */
const readAuthorizedKeys = (file: string) => (existsSync(file) ? readFileSync(file, 'latin1') : '');

/**
 * Lists the names of the sources that earlier starts have authorised, '' for one without.
 * @throws where that cannot be read
 */
export const formerNames = (config: Config) => [
  ...new Set(pairsIn(readAuthorizedKeys(authorizedKeysFile(config))).flatMap(({ name }) => name ?? [])),
];

/**
 * Authorises a key in place of the one before.
 * @throws {Failure}
 */
const authorize = (config: Config, key: string, name: string) =>
  edit(config, (content) => mergeAuthorizedKeys(content, authorizedLine(config, key, name), key, name).split('\n'));

/**
 * Changes what is authorised.
 * @throws {Failure}
 */
function edit(config: Config, change: (content: string) => string[]): void {
  let file = authorizedKeysFile(config);
  try {
    mkdirSync(config.SSH_DIR, { recursive: true, mode: 0o700 });
    if (existsSync(file)) file = realpathSync(file);
    const lines = change(readAuthorizedKeys(file)).filter(Boolean);
    if (lines.length === 0 && !existsSync(file)) return;
    replaceFile(file, Buffer.from([...lines, ''].join('\n'), 'latin1'), 0o600);
  } catch (cause) {
    throw new Failure(t`无法写入 ${escapeText(file)}：${reasonOf(cause)}。请检查 SSH_DIR 的权限和磁盘空间`);
  }
}

/** Finds the key in the line of ours that an earlier start has left for a source. */
function formerKey(content: string, name: string): string | undefined {
  const lines = pairsIn(content).flatMap((entry) => (entry.name === name ? (entry.lines.at(-1) ?? []) : []));
  const find = (line: string) => /^(?:(?:"(?:\\"|(?!\\")[^"])*"|[^" ])+ )?(\S+ AAAA.*)$/.exec(line)?.[1] ?? []; // options, then the key
  return lines.flatMap(find)[0];
}

/** Finds the lines that let a key in. */
function linesWith(key: string, content: string): string {
  const [, body = ''] = key.split(' ');
  return content
    .split('\n')
    .filter((line) => line.includes(body) && !line.trimStart().startsWith('#'))
    .join('\n');
}
