/**
 * The source's key: what the shared volume holds of it, and its line in authorized_keys, where lines of other people
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
import { touch } from '../service/status.ts';
import { escapeText, Failure, reasonOf, t } from '../service/text.ts';
import type { Config } from './config.ts';
import { FORCED_COMMAND } from './forced-command.ts';
import { PromotionMark } from './promotion-mark.ts';

const MIN_RSA_BITS = 2048;
/** The line above ours in `authorized_keys`. */
const MARKER = '# start-sshd: the next line is the key from the shared volume and is replaced with it';

/** Names the file on the shared volume that holds the source's public key. */
export const sharedKeyFile = (config: Config) => join(config.SHARED_KEYS_DIR, 'id_rsa.pub');
const authorizedKeysFile = (config: Config) => join(config.SSH_DIR, 'authorized_keys');

/** The key of the source: the one in force, the one that was found last, and why the file was refused last. */
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

  constructor(private readonly config: Config) {
    this.glance = new Glance(sharedKeyFile(config));
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
   * @throws where it is no key file, cannot be read, or its key is too weak
   */
  findNew(): string | undefined {
    const content = readSharedKey(this.config);
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
    authorize(this.config, Buffer.from(line).toString('latin1'));
    this.inForce = line;
    this.admit(line);
  }

  /**
   * Gives the key in a line of ours that an earlier start has left no more than this start does.
   * @throws {Failure}
   */
  restrictFormer(): void {
    const key = formerKey(readAuthorizedKeys(authorizedKeysFile(this.config)));
    if (!key) return;
    authorize(this.config, key);
    this.admit(key);
  }

  /**
   * Gives the key that can log in what it is given now: with ALLOW_SHELL, that is another thing once the backup has taken over.
   * @throws {Failure}
   */
  restrict(): void {
    const { admitted, inForce, config } = this;
    if (!config.ALLOW_SHELL || !admitted || this.isWithdrawn) return;
    authorize(config, admitted === inForce ? Buffer.from(admitted).toString('latin1') : admitted);
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

/** Reads what the shared key file holds, '' while there is none. @throws {Failure} where it cannot be read, or is no such file */
function readSharedKey(config: Config): string {
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

/** Writes a key's line in `authorized_keys`: what sshd starts for it instead of what it asks for, always where the backup has taken over. */
export function authorizedLine(config: Config, key: string): string {
  if (config.ALLOW_SHELL && !new PromotionMark(config).since) return `restrict ${key}`;
  const script = Bun.main.startsWith('/$bunfs/') ? [] : ['--no-env-file', Bun.main]; // a compiled program is its own script
  const program = process.execPath.replace(/ \(deleted\)$/, ''); // replaced by a newer one since we were started
  const option = commandOption([program, ...script, FORCED_COMMAND, fingerprint(key)]);
  return `restrict,${Buffer.from(option).toString('latin1')} ${key}`;
}

/**
 * Puts our line into what `authorized_keys` holds, in place of the last one of ours. It comes first: if a line of
 * somebody else lets the same key in, with other restrictions or none, sshd goes by the first.
 */
export function mergeAuthorizedKeys(content: string, line: string, key: string): string {
  const [type, body] = key.split(' ');
  const isOurs = (other: string) => `${other} `.startsWith(`${type} ${body} `);
  const lines = content.split('\n');
  const others = lines.filter((other, n) => other !== MARKER && lines[n - 1] !== MARKER && !isOurs(other));
  return [MARKER, line, ...others.filter(Boolean), ''].join('\n');
}

/** Reads all that is authorised, '' where nothing is. */
const readAuthorizedKeys = (file: string) => (existsSync(file) ? readFileSync(file, 'latin1') : '');

/**
 * Authorises a key in place of the one before.
 * @throws {Failure}
 */
function authorize(config: Config, key: string): void {
  let file = authorizedKeysFile(config);
  try {
    mkdirSync(config.SSH_DIR, { recursive: true, mode: 0o700 });
    if (existsSync(file)) file = realpathSync(file);
    const content = mergeAuthorizedKeys(readAuthorizedKeys(file), authorizedLine(config, key), key);
    replaceFile(file, Buffer.from(content, 'latin1'), 0o600);
  } catch (cause) {
    throw new Failure(t`无法写入 ${escapeText(file)}：${reasonOf(cause)}。请检查 SSH_DIR 的权限和磁盘空间`);
  }
}

/** Finds the key in the line of ours that an earlier start has left. */
function formerKey(content: string): string | undefined {
  const [, rest = ''] = content.split(`${MARKER}\n`);
  const [line = ''] = rest.split('\n');
  const [, key] = /^(?:(?:"(?:\\"|(?!\\")[^"])*"|[^" ])+ )?(\S+ AAAA.*)$/.exec(line) ?? []; // options, then the key
  return key;
}

/** Finds the lines that let a key in. */
function linesWith(key: string, content: string): string {
  const [, body = ''] = key.split(' ');
  return content
    .split('\n')
    .filter((line) => line.includes(body) && !line.trimStart().startsWith('#'))
    .join('\n');
}
