import { describe, expect, test } from 'bun:test';
import { Unwatched } from '../../../src/mirror/unwatched.ts';
import { lifecycle } from '../../../src/service/lifecycle.ts';
import { passSeconds, settle, withOwnClock } from './stand-ins.ts';

const log = withOwnClock();

/** Places that cannot be opened while they have an error. */
function bed() {
  const faults = new Map<string, string>();
  const tries: string[] = [];
  const opened: string[] = [];
  const unwatched = new Unwatched('/s/', async (path) => {
    tries.push(path.slice(3));
    const code = faults.get(path.slice(3));
    if (code) throw Object.assign(new Error(code), { code });
  });
  unwatched.on('open', (path) => opened.push(path));
  return { faults, tries, opened, unwatched };
}

test('a place is told once, with the reason and what is to be done, and again when it is none any more', () => {
  const { unwatched } = bed();
  unwatched.update(new Map([['a\u001b', 'EACCES']]));
  unwatched.update(new Map([['a\u001b', 'EACCES']]));
  expect(log.text.match(/无法监控 a\\x1b：没有进入的权限。.*WATCH_EXCLUDE/g)).toHaveLength(1);
  expect(unwatched.report()).toMatchObject({ count: 1, places: [{ path: 'a\\x1b', reason: 'EACCES' }] });
  expect(unwatched.paths).toEqual(['a\u001b']);
  expect(unwatched.covers('a\u001b/b')).toBe(true);
  expect(unwatched.covers('a')).toBe(false);
  unwatched.update(new Map());
  expect(log.text).toContain('已可监控，或已不存在');
  expect(unwatched.report()).toEqual({ count: 0, places: [] });
});

test('of many the log tells some, the status more, and memory stays bounded', () => {
  const { unwatched } = bed();
  const many = (count: number) => new Map(Array.from({ length: count }, (_, n) => [`d${n}`, 'EACCES'] as const));
  unwatched.update(many(12_000));
  expect(log.text.match(/无法监控 d/g)).toHaveLength(10);
  expect(log.text).toContain('另有 9990 处无法监控');
  expect(unwatched.size).toBe(12_000);
  expect(unwatched.paths).toHaveLength(10_000);
  expect(unwatched.report()).toMatchObject({ count: 12_000 });
  expect(unwatched.report().places).toHaveLength(20);
  expect(unwatched.has('another')).toBe(true); // it may be one of those that are not known by name
});

describe('a place is tried again', () => {
  test('with growing pauses while it cannot be opened', async () => {
    const { faults, tries, opened, unwatched } = bed();
    faults.set('a', 'EACCES');
    lifecycle.background(unwatched.keep());
    unwatched.update(new Map(faults));
    await passSeconds(4);
    expect(tries).toEqual([]);
    await passSeconds(1.5);
    expect(tries).toHaveLength(1);
    await passSeconds(10);
    expect(tries).toHaveLength(2);
    await passSeconds(3600);
    expect(tries.length).toBeLessThan(16);
    expect(opened).toEqual([]);
    faults.clear();
    await passSeconds(600);
    expect(opened).toEqual(['a']);
  });

  test('at once when something about it changes, and no other one', async () => {
    const { faults, opened, unwatched } = bed();
    faults.set('a', 'EACCES');
    unwatched.update(new Map(faults));
    await unwatched.retry('a');
    expect(opened).toEqual([]);
    faults.clear();
    await unwatched.retry('b');
    expect(opened).toEqual([]);
    await unwatched.retry('a');
    expect(opened).toEqual(['a']);
  });

  test('and is none any more where it is gone', async () => {
    const { faults, opened, unwatched } = bed();
    unwatched.update(new Map([['a', 'EACCES']]));
    faults.set('a', 'ENOENT');
    await unwatched.retry('a');
    await settle();
    expect(opened).toEqual(['a']);
  });
});
