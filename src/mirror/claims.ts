/**
 * The name of a source among others on the shared volume: whoever publishes its key under a name first has it, and nobody takes it from
 * another one without a word.
 *
 *   claimName('/shared-keys', 'web1', line); // throws where another key is in sources/web1.pub
 *   leaveNames('/shared-keys', 'web1', line); // removes the same key from id_rsa.pub, from files of other names, and from claims
 */
import { randomUUID } from 'node:crypto';
import { chmodSync, linkSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type HeldDirectory, holdDirectory, readSmallFile, replaceFile } from '../service/files.ts';
import { fingerprint, holdsKey, MAX_KEY_BYTES, parsePublicKey } from '../service/keys.ts';
import { CLAIM_END } from '../service/source-names.ts';
import { escapeText, Failure, t } from '../service/text.ts';

/** How many files of other sources are looked at. */
const MAX_FILES = 1000;
/** What a file system says that has no hard links: FAT, and some that go over a network. */
const UNLINKABLE = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'];

const directoryOf = (shared: string) => join(shared, 'sources');
const fileOf = (name: string) => `${name}.pub`;
const codeOf = (cause: unknown) => (cause as NodeJS.ErrnoException).code ?? '';

/**
 * Publishes the key under a name.
 * @param shared the directory of the shared volume @param line the public key
 * @throws {Failure} where another key has that name @throws where it cannot be written
 */
export function claimName(shared: string, name: string, line: string): void {
  mkdirSync(directoryOf(shared), { recursive: true, mode: 0o755 });
  using place = holdDirectory(directoryOf(shared));
  if (!holdsKey(place.at(fileOf(name)), line) && !publish(place, name, line)) {
    const taken = describeTaken(shared, name, line);
    if (!taken) return;
    leaveClaim(place, name, line);
    throw new Failure(taken);
  }
}

/** Has the backup know, too, that we were refused a name: it tells of the last one who was. */
function leaveClaim(place: HeldDirectory, name: string, line: string): void {
  try {
    replaceFile(place.at(`${name}${CLAIM_END}`), line, 0o644);
  } catch {
    // We end with the reason all the same.
  }
}

/** Puts a file in its place that is not there yet, whole, even where somebody else does so at that moment; returns whether it could. */
function publish(place: HeldDirectory, name: string, line: string): boolean {
  const [temporary, file] = [place.at(`.${name}.${randomUUID()}.tmp`), place.at(fileOf(name))];
  try {
    writeFileSync(temporary, line, { flag: 'wx' });
    chmodSync(temporary, 0o644); // whatever the umask
    linkSync(temporary, file);
  } catch (cause) {
    if (codeOf(cause) === 'EEXIST') return false;
    if (!UNLINKABLE.includes(codeOf(cause))) throw cause;
    return writeAtOnce(file, line);
  } finally {
    rmSync(temporary, { force: true });
  }
  return true;
}

function writeAtOnce(file: string, line: string): boolean {
  try {
    writeFileSync(file, line, { flag: 'wx', mode: 0o644 });
    return true;
  } catch (cause) {
    if (codeOf(cause) === 'EEXIST') return false;
    throw cause;
  }
}

/** Says whose key is in the file of our name, and what to do; nothing where it is ours, or none is there. */
export function describeTaken(shared: string, name: string, line: string): string | undefined {
  const path = join(directoryOf(shared), fileOf(name));
  const what = t`SOURCE_NAME=${name} 已被占用: ${escapeText(path)}`;
  const advice = t`请改用另一个 SOURCE_NAME；若由本机取代原来的源端，请先停止它，再删除该文件，然后重启本服务`;
  try {
    using place = holdDirectory(directoryOf(shared));
    if (holdsKey(place.at(fileOf(name)), line)) return undefined;
    const other = parsePublicKey(readSmallFile(place.at(fileOf(name)), MAX_KEY_BYTES));
    const comment = other.line.slice(other.key.length).trim() || '–';
    return t`${what} 中是另一个源端的公钥 ${fingerprint(other.key)}（${escapeText(comment)}），本机的是 ${fingerprint(line)}。${advice}`;
  } catch (cause) {
    return codeOf(cause) === 'ENOENT' ? undefined : t`${what} 不是公钥文件。${advice}`;
  }
}

/**
 * Removes our key from where it was published before, without a name or under another one, and from names that we were refused; keys of others stay.
 * @param name ours now, '' for none
 */
export function leaveNames(shared: string, name: string, line: string): void {
  if (name) withdraw(join(shared, 'id_rsa.pub'), line);
  try {
    using place = holdDirectory(directoryOf(shared));
    const keys = readdirSync(place.at('')).filter((file) => file.endsWith('.pub') || file.endsWith(CLAIM_END));
    const others = keys.filter((file) => file !== fileOf(name));
    for (const file of others.slice(0, MAX_FILES)) withdraw(place.at(file), line);
  } catch (cause) {
    if (name) throw cause; // without one, what is there is nothing to us
  }
}

function withdraw(path: string, line: string): void {
  if (holdsKey(path, line)) rmSync(path, { force: true });
}
