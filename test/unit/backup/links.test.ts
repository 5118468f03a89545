import { describe, expect, test } from 'bun:test';
import { mkdirSync, realpathSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LinkWatch, linksOn } from '../../../src/backup/links.ts';
import { eventually } from '../../processes.ts';
import { scratch } from '../service/scratch.ts';

/** Makes `releases/1`, `releases/2` and links to the first: `current`, and `way` to where that lies. */
function releases() {
  const directory = scratch();
  const path = (...names: string[]) => join(realpathSync(directory.path), ...names);
  for (const name of ['1', '2']) mkdirSync(path('releases', name, 'web'), { recursive: true });
  symlinkSync('releases/1', path('current'));
  symlinkSync(path(), path('way'));
  /** Has a link lead elsewhere in one go. */
  const flip = (name: string, target: string) => {
    symlinkSync(target, path('next'));
    renameSync(path('next'), path(name));
  };
  return { path, flip, [Symbol.dispose]: () => directory[Symbol.dispose]() };
}

describe('the links on the way to a path', () => {
  test('are found where they are, also behind others, and to what does not exist', () => {
    using bed = releases();
    expect(linksOn(bed.path('releases', '1'))).toEqual([]);
    expect(linksOn(`${bed.path('current')}/`)).toEqual([bed.path('current')]);
    expect(linksOn(bed.path('way', 'current', 'web', 'none'))).toEqual([bed.path('way'), bed.path('current')]);
    expect(linksOn(`${bed.path('current')}/../../current`)).toEqual([bed.path('current'), bed.path('current')]);
  });

  test('end where they lead in a circle', () => {
    using bed = releases();
    symlinkSync('round', bed.path('round'));
    expect(linksOn(bed.path('round')).length).toBe(40);
  });

  test('are watched, each time they are replaced, and nothing else in their directories', async () => {
    using bed = releases();
    let changes = 0;
    const links = new LinkWatch(() => changes++);
    links.follow(bed.path('way', 'current', 'web'));
    writeFileSync(bed.path('beside'), '');
    bed.flip('current', 'releases/2');
    await eventually(() => changes > 0);
    const before = changes;
    bed.flip('current', 'releases/1');
    await eventually(() => changes > before);
    links.follow(bed.path('releases', '1'));
    const last = changes;
    bed.flip('current', 'releases/2');
    await Bun.sleep(100);
    expect(changes).toBe(last);
  });
});
