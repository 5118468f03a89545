/** Where the project lies, the code of its programs, and what `bun run build` makes of them. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = join(import.meta.dir, '..');
export const binary = (name: string) => join(ROOT, 'dist', name);
/** The program in one file, for Bun to run. */
export const bundle = (name: string) => join(ROOT, 'dist', `${name}.js`);

/** The modules of the two programs, as paths below the project. */
export const modules = (): string[] =>
  ['scripts', 'src'].flatMap((directory) =>
    readdirSync(join(ROOT, directory), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => join(directory, name))
      .sort(),
  );

/** The text of all of them. */
export const programCode = (): string =>
  modules()
    .map((path) => readFileSync(join(ROOT, path), 'utf8'))
    .join('\n');
