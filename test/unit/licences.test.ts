import { describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { notices } from '../../packaging/notices.ts';
import { ROOT } from '../project.ts';

const read = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8');
const manifest = JSON.parse(read('package.json'));

describe('the licences', () => {
  test('of what the binaries hold are those in THIRD_PARTY_NOTICES.txt (bun run notices)', async () => {
    const text = await notices();
    expect(read('THIRD_PARTY_NOTICES.txt') === text).toBe(true);
    for (const name of Object.keys(manifest.dependencies))
      expect(text).toContain(`\n${name} ${manifest.dependencies[name]}\n`);
  });

  test('go with the image and with the release', () => {
    expect(manifest.license).toBe('MIT');
    for (const name of ['LICENSE', 'THIRD_PARTY_NOTICES.txt']) {
      expect(read('rsync_inotify.dockerfile')).toMatch(
        new RegExp(`^COPY .*\\b${name}\\b.* /usr/share/doc/rsync-inotify/$`, 'm'),
      );
      expect(read('.dockerignore')).toContain(`!${name}\n`);
    }
  });
});
