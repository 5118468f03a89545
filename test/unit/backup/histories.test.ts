import { expect, test } from 'bun:test';
import type { Door } from '../../../src/backup/doors.ts';
import { Histories } from '../../../src/backup/histories.ts';
import { keepLog } from '../mirror/stand-ins.ts';

const doorOf = (name: string): Door => ({ name, directory: `/data/backup/${name}` });
const HOUR_MS = 3_600_000;

/** The histories of sources, of which some looks do not come back, and how many looks are under way at a time. */
function bed(names: string[], hung: string[] = []) {
  const state = { doors: names.map(doorOf), looks: [] as string[], now: 0, most: 0, lag: 0 };
  const make = (directory: string) => ({
    get lag() {
      return directory.endsWith('late') ? state.lag : 0;
    },
    look: async () => {
      state.looks.push(directory.replace(/.*\//, ''));
      state.most = Math.max(state.most, ++state.now);
      await (hung.some((name) => directory.endsWith(name)) ? new Promise(() => {}) : Bun.sleep(1));
      state.now--;
    },
    report: () => ({
      days: 30,
      ...(directory.endsWith('new') ? { versions: null, bytes: null } : { versions: 2, bytes: 8 }),
    }),
    saveTime: () => {},
  });
  const config = { HISTORY_DAYS: 30, HOST_KEY_DIR: '/nowhere' };
  const parts = { config, doors: { list: () => state.doors }, guard: { report: () => null } };
  return { state, histories: new Histories(parts, make, 50) };
}

test('the versions of many sources are tended one after the other, and those of a source that has come later, too', async () => {
  const { state, histories } = bed(['a', 'b', 'c', 'd', 'e']);
  await histories.lookAtAll();
  expect([state.looks.join(''), state.most]).toEqual(['abcde', 1]);
  state.doors = [...state.doors, doorOf('f')];
  await histories.lookAtAll();
  expect([state.looks.join(''), state.most]).toEqual(['abcdeabcdef', 1]);
});

test('one whose disk hangs holds up the others for a while, once', async () => {
  const { state, histories } = bed(['a', 'hung', 'c'], ['hung']);
  for (let n = 0; n < 3; n++) await histories.lookAtAll();
  expect(state.looks.join(' ')).toBe('a hung c a c a c');
});

test('what all cost is the sum of what is known', () => {
  expect(bed(['a', 'new', 'c']).histories.report()).toEqual({ days: 30, versions: 4, bytes: 16 });
  expect(bed(['new']).histories.report()).toEqual({ days: 30, versions: null, bytes: null });
  expect(bed(['a', 'new']).histories.of(doorOf('a')).report()).toEqual({ days: 30, versions: 2, bytes: 8 });
});

test('a clock that is wrong is told once, however many sources there are', async () => {
  using log = keepLog();
  const { state, histories } = bed(['a', 'late', 'very-late']);
  const looks = async (lag: number) => {
    state.lag = lag;
    for (let n = 0; n < 2; n++) await histories.lookAtAll();
    return log.text.split('本机时钟').length - 1;
  };
  expect(await looks(0)).toBe(0);
  expect(await looks(5 * HOUR_MS)).toBe(1);
  expect(log.text).toContain('约 5 小时');
  expect(await looks(0)).toBe(1);
  expect(await looks(-7 * HOUR_MS)).toBe(2);
});
