/**
 * Prints THIRD_PARTY_NOTICES.txt: the licences of all that the two programs hold besides this project.
 *
 *   bun run notices
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

const ROOT = join(import.meta.dir, '..');
const LICENCE_FILE = /^(licen[cs]e|copyright|notice)/i;
const RULE = `${'='.repeat(80)}\n`;

const read = (...path: string[]) => `${readFileSync(join(ROOT, ...path), 'utf8').replace(/^\n+|\s+$/g, '')}\n`;

/** The directories of the packages of which the bundler takes something into a program. */
async function bundledPackages(): Promise<string[]> {
  const entrypoints = ['rsync-inotify', 'start-sshd'].map((name) => join(ROOT, 'scripts', `${name}.ts`));
  const { metafile } = await Bun.build({ entrypoints, target: 'bun', metafile: true });
  if (!metafile) throw new Error('Bun tells nothing of what it has bundled');
  const outputs = Object.values(metafile.outputs).flatMap(({ inputs }) => Object.entries(inputs));
  const files = outputs.filter(([, { bytesInOutput }]) => bytesInOutput > 0).map(([file]) => file);
  const directory = /^.*node_modules\/(@[^/]+\/)?[^/]+/;
  const found = files.flatMap((file) => directory.exec(relative(ROOT, join(process.cwd(), file)))?.[0] ?? []);
  return [...new Set(found)].sort();
}

/** A package's name and version, and its licences word for word. zx lists there what it has bundled itself. */
function noticesOf(directory: string): string {
  const { name, version, homepage, license } = JSON.parse(read(directory, 'package.json'));
  const own = readdirSync(join(ROOT, directory)).filter((file) => LICENCE_FILE.test(file));
  const bundled = name === 'zx' ? ['build/3rd-party-licenses'] : [];
  if (own.length === 0) throw new Error(`${directory} has no licence`);
  const title = [`${name} ${version}`, license, homepage].filter(Boolean).join('\n');
  return [`${title}\n`, ...[...own, ...bundled].map((file) => read(directory, file))].join('\n');
}

/** Bun's own list has links in a table, for a page. */
function bunNotices(): string {
  const { version } = JSON.parse(read('node_modules/bun-types/package.json'));
  const page = read('node_modules/bun-types/docs/project/license.mdx').replace(/^---[\s\S]*?---\n/, '');
  const plain = page.replace(/\[(`?)([^\]`]+)\1\]\(([^)]+)\)/g, '$2 <$3>').replace(/`/g, '');
  const table = plain.replace(/^\|.*\n\|[ :|-]+\|\n/gm, '').replace(/^\| (.*?) +\| (.*?) +\|$/gm, '- $1: $2');
  return `Bun ${version}
MIT
https://bun.com

Each binary is Bun with the program appended to it; rsync-inotify.js and start-sshd.js are the programs alone. To have a
binary with a Bun of your own making, take this project's sources and the command "build" of its package.json, with
--compile-executable-path=YOUR_BUN. What follows is what Bun says of itself.
${table}`;
}

/** The whole text. */
export async function notices(): Promise<string> {
  const packages = await bundledPackages();
  const lesser = ['LGPL-2', 'LGPL-2.1'].map((name) => read('packaging/licenses', `${name}.txt`));
  return [
    'What rsync-inotify and start-sshd hold besides the project itself, and its licences.\nMade by: bun run notices\n',
    ...packages.map(noticesOf),
    bunNotices(),
    ...lesser,
  ].join(`\n${RULE}\n`);
}

if (import.meta.main) process.stdout.write(await notices());
