/** Places where a unit test may put files down. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A directory of a test's own, which goes with the block that it is declared in by `using`. */
export function scratch(): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), 'unit-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** Has a script in that directory take the place of a program until it is disposed of. */
export function standIn(program: string, directory: string, script: string): Disposable {
  writeFileSync(join(directory, program), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const { PATH } = process.env;
  process.env.PATH = `${directory}:${PATH}`;
  return {
    [Symbol.dispose]() {
      process.env.PATH = PATH;
    },
  };
}
