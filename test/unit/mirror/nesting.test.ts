import { expect, test } from 'bun:test';
import { existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { refuseNested } from '../../../src/mirror/nesting.ts';
import { scratch } from '../service/scratch.ts';
import { hostFor } from './stand-ins.ts';

test('a source that cannot be looked at this moment is no reason to refuse a target', async () => {
  using directory = scratch();
  const source = join(directory.path, 'source');
  mkdirSync(source);
  const host = hostFor({ SOURCE_DIR: `${source}/`, DEST_DIR: `${source}/copy`, RSYNC_OPTS: '-ax --delete' });
  rmSync(source, { recursive: true });
  symlinkSync('source', source); // a link that leads nowhere
  await refuseNested(host, { findRoute: () => ({}) });
  expect(existsSync(source)).toBe(false);
});
