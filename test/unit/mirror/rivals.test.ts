import { describe, expect, test } from 'bun:test';
import { EventEmitter } from 'node:events';
import { parseRivals, placeOf, Rivals } from '../../../src/mirror/rivals.ts';
import { TargetState } from '../../../src/mirror/target-state.ts';
import { hostFor, passSeconds, settle, withOwnClock } from './stand-ins.ts';

const log = withOwnClock();

/** A target whose backup answers what a test has it answer. */
function bed(answer: string[] | undefined, variables: Record<string, string> = {}) {
  const state = new TargetState('backup', false);
  const connection = Object.assign(new EventEmitter(), { findRoute: () => ({ knownHosts: undefined }) });
  const it = { state, connection, answer, asked: 0 };
  new Rivals({ host: hostFor(variables), state, connection: connection as never }, async () => {
    it.asked++;
    return it.answer;
  });
  return it;
}

describe('other sources of a target', () => {
  test('are asked for at the start and every two minutes, told once, and that they have gone', async () => {
    const it = bed([]);
    it.connection.emit('connected');
    await settle();
    expect(it.asked).toBe(0); // what is to be sent goes before
    await passSeconds(1);
    expect([it.asked, it.state.rivals]).toEqual([1, []]);
    it.answer = ['web2 (10.0.0.2)\n'];
    await passSeconds(360);
    expect([it.asked, it.state.report().rivals]).toEqual([4, ['web2 (10.0.0.2)\n']]);
    expect(log.text.match(/镜像到此目标.*/g)).toEqual([
      '镜像到此目标: web2 (10.0.0.2)\\n。它们会互相覆盖和删除，请只保留一个',
    ]);
    it.answer = undefined; // in time
    await passSeconds(120);
    expect(it.state.rivals).toEqual(['web2 (10.0.0.2)\n']);
    it.answer = [];
    await passSeconds(120);
    expect(it.state.rivals).toEqual([]);
    expect(log.text).toContain('没有其他 rsync-inotify 镜像到此目标了');
    it.connection.emit('lost');
    await passSeconds(300);
    expect(it.asked).toBe(6);
  });

  test('are asked for once on each connection of a backup that does not know', async () => {
    const it = bed(undefined);
    for (const times of [1, 2]) {
      it.connection.emit('connected');
      await passSeconds(600);
      expect(it.asked).toBe(times);
    }
  });

  test('are not asked for where nothing is deleted', async () => {
    const it = bed(['web2'], { RSYNC_OPTS: '-avz' });
    it.connection.emit('connected');
    await passSeconds(600);
    expect([it.asked, it.state.rivals]).toEqual([0, []]);
  });

  test.each([
    ['/tmp/', '-a', '/backup/'],
    ['/tmp', '-a', '/backup/tmp'],
    ['/usr/bin/', '-aR', '/backup/usr/bin'],
    ['/usr/bin', '-aR', '/backup/usr/bin'],
  ])('are those of its place: %s with %s', (SOURCE_DIR, RSYNC_OPTS, place) => {
    expect(placeOf(hostFor({ SOURCE_DIR, RSYNC_OPTS, DEST_DIR: '/backup/' }))).toBe(place);
  });

  test('are a short list of names, whatever the backup says', () => {
    expect(parseRivals('["a","b","c","d"]\n')).toEqual(['a', 'b', 'c']);
    expect(parseRivals(`["${'x'.repeat(500)}",7]`)).toEqual(['x'.repeat(200), '7']);
    expect(parseRivals('["a\\n[b\\u202e"]')).toEqual(['a\\u000a[b\\u202e']);
    for (const wrong of [undefined, '', '{}', 'null', '[', '["a"', 'words']) expect(parseRivals(wrong)).toBeUndefined();
  });
});
