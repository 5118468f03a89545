/**
 * SSH keys: pairs are made whole, public keys are read strictly, for what is read goes into files that ssh and sshd obey.
 *
 *   const { key, bits } = parsePublicKey(readSmallFile(path, MAX_KEY_BYTES));
 */
import { createHash } from 'node:crypto';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import sshKeygen from 'ssh-keygen-lite';
import { readSmallFile } from './files.ts';
import { t } from './text.ts';

/** How large a file with a public key may be, bytes. */
export const MAX_KEY_BYTES = 16_384;

export interface PublicKey {
  /** The whole line without its line end. */
  line: string;
  /** `TYPE BASE64`. */
  key: string;
  /** How long the modulus of an RSA key is, nothing for other types. */
  bits: number | undefined;
}

const TYPE =
  /ssh-rsa|ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com/;
const LINE = new RegExp(`^(${TYPE.source}) ([A-Za-z0-9+/]+={0,2})(?: [^\\p{Cc}]*)?$`, 'u');
/** Says how many parts a key of a type has, its name among them (RFC 4253, 6.6; RFC 5656, 3.1; RFC 8709, 4; OpenSSH's PROTOCOL.u2f). */
const partCountOf = (type: string) => ({ 'ssh-ed25519': 2, 'sk-ecdsa-sha2-nistp256@openssh.com': 4 })[type] ?? 3;

/**
 * Reads a line `TYPE BASE64 [COMMENT]`.
 * @throws on anything else: options, markers, more lines, half a key
 */
export function parsePublicKey(content: string): PublicKey {
  const line = content.replace(/\n$/, '');
  const [, type = '', body = ''] = LINE.exec(line) ?? [];
  const blob = Buffer.from(body, 'base64');
  const parts = partsOf(blob);
  const [name] = parts;
  const isWhole = type !== '' && name?.toString('latin1') === type && parts.length === partCountOf(type);
  if (!isWhole || blob.toString('base64') !== body) throw new Error(t`公钥文件应为完整的一行: 类型 BASE64 [注释]`);
  const modulus = type === 'ssh-rsa' ? parts[2] : undefined;
  return { line, key: `${type} ${body}`, bits: modulus && bitsOf(modulus) };
}

/** Takes a key apart, each part of which says how long it is (RFC 4253, 6.6); finds none where they do not add up to it. */
function partsOf(blob: Buffer): Buffer[] {
  const parts: Buffer[] = [];
  let end = 0;
  while (end + 4 <= blob.length) {
    const start = end + 4;
    end = start + blob.readUInt32BE(end);
    parts.push(blob.subarray(start, end));
  }
  return end === blob.length ? parts : [];
}

/** Counts the bits of a number that is written with its highest byte first. */
function bitsOf(number: Buffer): number {
  const first = number.findIndex((byte) => byte !== 0);
  return first < 0 ? 0 : 8 * (number.length - first) - Math.clz32(number[first] ?? 0) + 24;
}

/** Whether a file holds the public key of a line. */
export function holdsKey(path: string, line: string): boolean {
  try {
    return parsePublicKey(readSmallFile(path, MAX_KEY_BYTES)).key === parsePublicKey(line).key;
  } catch {
    return false;
  }
}

/** Works out the fingerprint of `TYPE BASE64 [COMMENT]`, as ssh and ssh-keygen show it. */
export function fingerprint(key: string): string {
  const blob = Buffer.from(key.split(' ')[1] ?? '', 'base64');
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
}

/**
 * Makes a key pair at `path` and `path`.pub: in a directory of its own, from where it is moved into place whole, the private half last.
 * @param workshop that directory, which is removed afterwards
 * @throws what ssh-keygen says, as a string
 */
export async function generateKeyPair(
  path: string,
  type: 'rsa' | 'ecdsa' | 'ed25519',
  owner: string,
  workshop: string,
): Promise<void> {
  rmSync(workshop, { recursive: true, force: true }); // of a start that was cut short
  mkdirSync(workshop, { mode: 0o700 });
  try {
    const [location, size] = [join(workshop, 'key'), type === 'rsa' ? '3072' : '256'];
    await sshKeygen({ location, type, size, comment: `${owner}@${hostname()}`, force: false, read: false });
    renameSync(`${location}.pub`, `${path}.pub`);
    renameSync(location, path);
  } finally {
    rmSync(workshop, { recursive: true });
  }
}
