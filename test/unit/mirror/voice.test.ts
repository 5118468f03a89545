import { afterEach, beforeEach, describe, expect, jest, test } from 'bun:test';
import { Absence } from '../../../src/mirror/absence.ts';
import { FIRST_LINES, LAST_LINES } from '../../../src/mirror/excerpt.ts';
import { LINES_AT_ONCE, Spell } from '../../../src/mirror/spell.ts';
import { Voice } from '../../../src/mirror/voice.ts';
import type { Entry } from '../../../src/service/log.ts';
import { outcome } from './stand-ins.ts';

/** A voice, with what it listens to. */
function bed({ isBusy = false } = {}) {
  const [spell, absence] = [new Spell(), new Absence()];
  if (isBusy) spell.spend(LINES_AT_ONCE, performance.now());
  const told: string[] = [];
  const entry: Entry = (event, message, fields) => void told.push(`${event} ${message} ${JSON.stringify(fields)}`);
  return { spell, absence, told, voice: new Voice(spell, absence, { log: entry, warn: entry }) };
}

const printed = (voice: Voice, lines: string[]) => {
  const selection = voice.lines<string>();
  const told = lines.flatMap((line) => selection.take(line));
  const { omitted, last } = selection.end();
  return { told: [...told, ...last], omitted };
};

describe('a batch', () => {
  test('is told of from the first line to the last where there is room', () => {
    const { spell, voice } = bed();
    for (let n = 0; n < 5; n++) {
      expect(voice.begins(false)).toBe(true);
      expect(printed(voice, ['a', 'b'])).toEqual({ told: ['a', 'b'], omitted: 0 });
      expect(voice.tells(outcome())).toBe(true);
      expect(voice.remarks('sync.renamed')).toBe(true);
    }
    expect(spell.summarise()).toBeUndefined();
  });

  test('in which nothing is new is counted where there is none', () => {
    const { spell, voice } = bed({ isBusy: true });
    expect(voice.begins(false)).toBe(false);
    expect(printed(voice, ['a', 'b'])).toEqual({ told: [], omitted: 0 });
    expect(voice.tells(outcome({ files: 2, bytes: 300, seconds: 0.5 }))).toBe(false);
    expect(spell.summarise()).toMatchObject({ syncs: 1, files: 2, bytes: 300, seconds: 0.5, lines: 2 });
    spell.tellsChange('something new', performance.now());
    expect(voice.begins(false)).toBe(true);
    expect(printed(voice, ['a'])).toEqual({ told: ['a'], omitted: 0 });
    expect(voice.tells(outcome())).toBe(true);
    expect(voice.begins(false)).toBe(false);
    expect(voice.begins(true)).toBe(true); // it is owed
  });

  test('that is large takes no more room than is told of it', () => {
    const { spell, voice } = bed();
    voice.begins(false);
    expect(printed(voice, Array(100_000).fill('a'))).toMatchObject({ omitted: 100_000 - FIRST_LINES - LAST_LINES });
    expect(spell.isBusy).toBe(false);
  });

  test('that is owed, as the regular comparison is, is told of however many there are, and takes no room', () => {
    const { spell, voice } = bed();
    for (let n = 0; n < 1000; n++) {
      expect(voice.begins(true)).toBe(true);
      expect(printed(voice, ['a', 'b']).told).toHaveLength(2);
      expect(voice.tells(outcome({ mode: 'full' }))).toBe(true);
    }
    expect(spell.isBusy).toBe(false);
    expect(bed({ isBusy: true }).voice.begins(true)).toBe(true);
  });

  test.each(['partial', 'limited', 'failed', 'unreachable'] as const)(
    'is told of in any case where it is %s',
    (kind) => {
      const { voice } = bed({ isBusy: true });
      voice.begins(false);
      expect(voice.tells(outcome({ kind, status: 1 }))).toBe(true);
    },
  );

  test('has what is new in its complaints told, in any case', () => {
    const { spell, voice } = bed({ isBusy: true });
    voice.begins(false);
    const complain = (text: string) => {
      const selection = voice.complaints<{ text: string }>();
      return [selection.take({ text }).length, selection.end().omitted];
    };
    expect(complain('file has vanished: "/a"')).toEqual([1, 0]);
    expect(complain('file has vanished: "/b"')).toEqual([0, 0]);
    expect(complain('rsync: write failed on "/c": No space left on device (28)')).toEqual([1, 0]);
    expect(spell.summarise()?.lines).toBe(1);
  });
});

describe('a target that is away', () => {
  beforeEach(() => void jest.useFakeTimers());
  afterEach(() => void jest.useRealTimers());

  test('is told of once, then every five minutes, and when it is back', () => {
    const { voice, told, spell } = bed();
    const unreachable = outcome({ kind: 'unreachable', status: 255 });
    const aloud: [number, ...boolean[]][] = [];
    for (let n = 0; n < 13; n++) {
      const begins = voice.begins(false);
      voice.noteAway(unreachable, n + 1);
      if (begins || voice.tells(unreachable)) aloud.push([n, begins, voice.tells(unreachable)]);
      jest.advanceTimersByTime(60_000);
    }
    expect(aloud).toEqual([[0, true, true]]);
    const why = '同步失败 (退出码: 255)：SSH 连接失败，请检查 SSH 服务、密钥配置';
    const reminder = (minutes: number) => {
      const tries = minutes + 1;
      const fields = { seconds: 60 * minutes, tries, pending: tries, exit_code: 255 };
      const what = `目标已有 ${minutes} 分钟无法连接，重试了 ${tries} 次，将继续重试；${tries} 处变化等待同步`;
      return `target.away ${what}。${why} ${JSON.stringify(fields)}`;
    };
    expect(told).toEqual([reminder(6), reminder(11)]);
    expect(spell.total.tries).toBe(9); // of 13, but for the first, the announced second, and these
    voice.noteReached();
    voice.noteReached();
    expect(told.slice(2)).toEqual([
      'target.back 目标恢复连接，此前 780 秒无法连接，重试了 13 次 ✓ {"seconds":780,"tries":13}',
    ]);
    expect(voice.tells(outcome())).toBe(true);
  });

  test('has another reason told at once', () => {
    const { voice } = bed();
    voice.noteAway(outcome({ kind: 'unreachable', status: 255 }), 1);
    voice.noteAway(outcome({ kind: 'unreachable', status: 255 }), 1);
    voice.noteAway(outcome({ kind: 'unreachable', status: 255, reason: '另一个原因' }), 1);
    expect(voice.tells(outcome({ kind: 'unreachable' }))).toBe(true);
  });
});
