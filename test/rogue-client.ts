/** A client of rsync's protocol that does what no rsync does: it sends a file of its list as often as it likes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Thief } from './thief.ts';

/** The protocol that it speaks: the last one without variable lengths and negotiations. */
const PROTOCOL = 29;
const [LONG_NAME, SAME_OWNER] = [0x40, 0x08];
const [FILE_MODE, DIRECTORY_MODE] = [0o100644, 0o040755];
const TRANSFER = 0x8000;

function int(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

const entryOf = (name: string, size: number, mode: number) =>
  Buffer.concat([
    Buffer.of(LONG_NAME | SAME_OWNER),
    int(Buffer.byteLength(name)),
    Buffer.from(name),
    ...[size, 1_700_000_000, mode].map(int),
  ]);

/** The directories above a file, which have to be in the list, too. */
const above = (name: string) =>
  name
    .split('/')
    .map((_, n, names) => names.slice(0, n).join('/'))
    .slice(1);

/** The list: one file, and the directories above it. */
const listOf = (name: string, { size, mode }: { size: number; mode: number }) =>
  Buffer.concat([
    ...above(name).map((directory) => entryOf(directory, 4096, DIRECTORY_MODE)),
    entryOf(name, size, mode),
    Buffer.of(0),
    int(0),
  ]);

/** One transfer of the last file of the list. */
function transferOf(name: string, content: string, seed: Buffer): Buffer {
  const data = Buffer.from(content);
  const sum = new Bun.CryptoHasher('md4').update(seed).update(data).digest();
  const what = Buffer.from([TRANSFER & 0xff, TRANSFER >> 8]);
  const parts = [
    int(above(name).length),
    what,
    ...[0, 0, 0, 0].map(int),
    int(data.length),
    data,
    int(0),
    Buffer.from(sum),
  ];
  return Buffer.concat(parts);
}

interface Sending {
  directory: string;
  name: string;
  contents: string[];
  options?: string[];
  /** What the list says of the file, where that is not what its last content is. */
  status?: { size: number; mode: number };
}

/**
 * Has one rsync of the backup receive a file again and again, or never: it gives it a mode and a time then.
 * @param isThere resolves when all was received, or that rsync has said what it should
 * @returns what that rsync has said, all of it
 */
export async function sendAgain(
  thief: Thief,
  { directory, name, contents, options = ['-r'], status }: Sending,
  isThere: (said: () => string) => Promise<unknown>,
): Promise<string> {
  const words = ['rsync', '--server', ...options, '.', directory];
  const child = spawn('ssh', [...thief.sshOptions, thief.host, ...words], { stdio: ['pipe', 'pipe', 'pipe'] });
  const chunks: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => chunks.push(chunk));
  child.stdin.on('error', () => {});
  child.stdin.write(int(PROTOCOL));
  while (Buffer.concat(chunks).length < 8 && child.exitCode === null) await Bun.sleep(5);
  const seed = Buffer.concat(chunks).subarray(4, 8);
  child.stdin.write(listOf(name, status ?? { size: Buffer.byteLength(contents.at(-1) ?? ''), mode: FILE_MODE }));
  for (const content of contents) child.stdin.write(transferOf(name, content, seed));
  const said = () => Buffer.concat(chunks).toString('latin1');
  await Promise.race([isThere(said), once(child, 'close')]);
  child.stdin.end();
  if (child.exitCode === null) await once(child, 'close');
  return said();
}
