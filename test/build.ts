/** Builds the two binaries before the tests, so that they never run yesterday's. */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const built = spawnSync(process.execPath, ['run', 'build'], { cwd: join(import.meta.dir, '..'), encoding: 'utf8' });
if (built.status !== 0) throw new Error(`bun run build failed:\n${built.stdout}${built.stderr}`);
