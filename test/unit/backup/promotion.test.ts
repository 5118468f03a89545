import { afterEach, beforeEach, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { admit, admitUnlessPromoted, Promoted, SOURCE_VARIABLE } from '../../../src/backup/admission.ts';
import { authorizedLine } from '../../../src/backup/authorized-keys.ts';
import { readConfig } from '../../../src/backup/config.ts';
import { Doors } from '../../../src/backup/doors.ts';
import { Promotion } from '../../../src/backup/promotion.ts';
import { answerPromotion } from '../../../src/backup/promotion-answers.ts';
import { MARK_VARIABLE, PromotionMark, promotedSince } from '../../../src/backup/promotion-mark.ts';
import { PromotionMarks } from '../../../src/backup/promotion-marks.ts';
import { saysPromoted } from '../../../src/mirror/faults.ts';
import { passSeconds, withOwnClock } from '../mirror/stand-ins.ts';

const log = withOwnClock();
let directory: string;
const { [MARK_VARIABLE]: former } = process.env;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'promotion-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
  process.env[MARK_VARIABLE] = former ?? '';
});

const configOf = (DEST_DIR = '/data/backup/', more: NodeJS.ProcessEnv = {}) =>
  readConfig({ HOST_KEY_DIR: directory, DEST_DIR, SSH_DIR: directory, ...more });
const SOURCE = { command: '' };
const gone = new AbortController().signal;

/** A service of which it is told what is done, and which may have something that does not end. @param names those of its sources */
function bed({ isOver = true, names = [] as string[] } = {}) {
  const done: string[] = [];
  const note = (what: string) => void done.push(what);
  const config = configOf();
  const doors = new Doors(config);
  for (const name of names) doors.add(name);
  const promotion = new Promotion({
    ...{ config, doors },
    guard: {
      rest: async () => note('rest'),
      renew: async () => note('renew'),
      renewFor: async (some) => note(`renew ${some}`),
    },
    keys: { restrict: () => note('restrict'), fingerprintOf: (name) => `key of ${name}` },
    sshd: {
      endSessionsForGood: async (fingerprint) => {
        note(fingerprint === undefined ? 'end' : `end ${fingerprint}`);
        return { sessions: 1, isOver };
      },
    },
    reports: { renewBar: () => {} },
  });
  const reported = () =>
    doors
      .list()
      .filter((door) => promotion.report(door))
      .map(({ name }) => name);
  return { promotion, done, doors, reported, mark: new PromotionMark(config) };
}

/** Has a session say whether it may go on. @param name of its source */
function mayGoOn(name: string): boolean {
  Object.assign(process.env, { DEST_DIR: '/data/backup', [MARK_VARIABLE]: new PromotionMark(configOf()).file });
  if (name) process.env[SOURCE_VARIABLE] = name;
  try {
    admitUnlessPromoted();
    return true;
  } catch (cause) {
    expect(cause).toBeInstanceOf(Promoted);
    return false;
  } finally {
    delete process.env[SOURCE_VARIABLE];
    delete process.env.DEST_DIR;
  }
}

test('the mark is there until it is removed, each DEST_DIR has its own, and what it holds does not count', () => {
  const mark = new PromotionMark(configOf());
  expect(mark.since).toBeUndefined();
  mark.put();
  const { since } = mark;
  expect(Math.abs((since?.getTime() ?? 0) - Date.now())).toBeLessThan(10_000);
  mark.put();
  expect(mark.since).toEqual(since);
  expect(JSON.parse(readFileSync(mark.file, 'utf8')).directory).toBe('/data/backup');
  expect(statSync(mark.file).mode & 0o777).toBe(0o600);
  expect(new PromotionMark(configOf('/data/backup')).since).toEqual(since);
  expect(new PromotionMark(configOf('/data/other')).since).toBeUndefined();
  writeFileSync(mark.file, 'not ours');
  expect(mark.since).toEqual(statSync(mark.file).mtime);
  mark.remove();
  mark.remove();
  expect(mark.since).toBeUndefined();
  expect(readdirSync(directory)).toEqual([]);
});

test('while it is there no session goes on, in words that the source knows', () => {
  const mark = new PromotionMark(configOf());
  process.env[MARK_VARIABLE] = mark.file;
  admitUnlessPromoted();
  mark.put();
  expect(admitUnlessPromoted).toThrow(Promoted);
  expect(admit).toThrow(Promoted);
  expect(saysPromoted(`start-sshd: 拒绝执行：${new Promoted().message}\n`)).toBe(true);
  expect(saysPromoted('start-sshd: 拒绝执行：不提供 shell\n')).toBe(false);
  expect(saysPromoted(undefined)).toBe(false);
  mkdirSync(join(directory, 'a'));
  process.env[MARK_VARIABLE] = join(directory, 'a', 'x'.repeat(300)); // of which nobody can say whether it is there
  expect(admitUnlessPromoted).toThrow();
  expect(promotedSince(join(directory, 'a'))).toEqual(statSync(join(directory, 'a')).mtime);
});

test('with ALLOW_SHELL the key has no shell while it is there', () => {
  const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAYGE0lfYmAuzuREskpaFaIAk+d4trqBgd/TPs7aRZN/ rsync-inotify@source';
  const config = configOf('/data/backup/', { ALLOW_SHELL: 'true' });
  expect(authorizedLine(config, KEY)).toBe(`restrict ${KEY}`);
  new PromotionMark(config).put();
  expect(authorizedLine(config, KEY)).toStartWith('restrict,command="exec ');
});

test('the service ends what it has let in, and begins anew when it receives again; both are told once', async () => {
  const { promotion, done, mark } = bed();
  const { promote, demote } = promotion.commands;
  expect(await demote(SOURCE, gone)).toMatchObject({ isDone: true, text: expect.stringContaining('没有被接管') });
  expect([promotion.report(), done]).toEqual([null, []]);
  expect(await promote(SOURCE, gone)).toMatchObject({ isDone: true, text: expect.stringContaining('备份端已接管') });
  expect(promotion.report()).toBe(mark.since?.toISOString() ?? '');
  expect(done).toEqual(['restrict', 'end', 'rest']);
  await promote(SOURCE, gone);
  expect(log.text.match(/\[WARN/g)).toHaveLength(1);
  done.length = 0;
  expect(await demote(SOURCE, gone)).toMatchObject({ isDone: true, text: expect.stringContaining('重新接收镜像') });
  expect([promotion.report(), mark.since, done]).toEqual([null, undefined, ['renew', 'restrict']]);
});

test('what does not end is said, and nothing is received all the same', async () => {
  const { promotion, mark } = bed({ isOver: false });
  const { isDone, text } = await promotion.commands.promote(SOURCE, gone);
  expect([isDone, Boolean(mark.since)]).toEqual([false, true]);
  expect(text).toContain('请稍后再次执行');
});

test('of several sources one is taken over and given back by itself, and the others mirror on', async () => {
  const { promotion, done, reported } = bed({ names: ['web1', 'web2', 'constructor'] });
  const { promote, demote } = promotion.commands;
  const web1 = { command: '', source: 'web1' };
  expect(await demote(web1, gone)).toEqual({
    isDone: true,
    text: 'DEST_DIR=/data/backup/web1 没有被接管，照常接收镜像',
  });
  const { isDone, text } = await promote(web1, gone);
  expect([isDone, text]).toEqual([
    true,
    expect.stringMatching(/^备份端已接管 DEST_DIR=\/data\/backup\/web1，自 .* --demote --source web1$/),
  ]);
  expect(done).toEqual(['restrict', 'end key of web1']);
  expect(log.text).toContain('--demote --source web1');
  expect([promotion.report(), reported()]).toEqual([null, ['web1']]);
  expect(['web1', 'web2', 'constructor', 'later'].map(mayGoOn)).toEqual([false, true, true, true]);
  done.length = 0;
  expect(await demote(web1, gone)).toMatchObject({
    text: expect.stringContaining('DEST_DIR=/data/backup/web1 重新接收'),
  });
  expect([done, reported(), mayGoOn('web1')]).toEqual([['renew web1', 'restrict'], [], true]);
});

test('without a name it is all sources, also those to come, of which one can be given back by itself', async () => {
  const { promotion, done, doors, reported } = bed({ names: ['web1', 'web2'] });
  const { promote, demote } = promotion.commands;
  expect((await promote(SOURCE, gone)).text).toContain('DEST_DIR=/data/backup（全部源端），自 ');
  expect(done).toEqual(['restrict', 'end', 'rest']);
  doors.add('web3');
  expect(reported()).toEqual(['web1', 'web2', 'web3']);
  expect(['web1', 'web2', 'web3', 'later'].map(mayGoOn)).toEqual([false, false, false, false]);
  const since = promotion.report();
  done.length = 0;
  await demote({ command: '', source: 'web2' }, gone);
  expect(done).toEqual(['renew', 'restrict']);
  expect([promotion.report(), reported()]).toEqual([null, ['web1', 'web3']]);
  expect(promotion.report({ name: 'web1', directory: '/data/backup/web1' })).toBe(since);
  expect(['web1', 'web2', 'web3'].map(mayGoOn)).toEqual([false, true, false]);
  done.length = 0;
  expect((await demote(SOURCE, gone)).text).toContain('DEST_DIR=/data/backup（全部源端） 重新接收镜像');
  expect([done, reported()]).toEqual([['renew web1,web3', 'restrict'], []]);
  expect(['web1', 'web2', 'web3'].map(mayGoOn)).toEqual([true, true, true]);
  expect(readdirSync(directory).filter((name) => name.startsWith('promoted'))).toEqual([]);
});

test('a source is kept off under another name, too, and while it is forgotten, which is no end of it', async () => {
  const { promotion, doors, reported } = bed({ names: ['web1', 'web2'] });
  await promotion.commands.promote({ command: '', source: 'web1' }, gone);
  const marks = new PromotionMarks(configOf(), doors);
  for (const from of ['web1', 'web2']) marks.inherit(doors.doorOf(from), doors.add(`${from}-new`));
  expect(['web1', 'web2', 'web1-new', 'web2-new'].map(mayGoOn)).toEqual([false, true, false, true]);
  expect(marks.sinceOf(doors.doorOf('web1-new'))).toEqual(marks.sinceOf(doors.doorOf('web1')));
  void promotion.keep();
  await passSeconds(2);
  expect(reported()).toEqual(['web1', 'web1-new']);
  doors.remove('web1');
  await passSeconds(2);
  expect(promotion.report(doors.doorOf('web1'))).toBeNull();
  expect([mayGoOn('web1'), log.text.includes('重新接收镜像')]).toEqual([false, false]);
});

test('a source that there is not is none to be taken over', async () => {
  const { promotion, done } = bed({ names: ['web1'] });
  for (const source of ['web2', '', '../web1', 7, null])
    await expect(promotion.commands.promote({ command: '', source }, gone)).rejects.toThrow('没有名为');
  const restore = promotion.unlessPromoted(async () => ({ isDone: true, text: 'done' }));
  expect(await restore({ command: '', source: 'web1' }, gone)).toMatchObject({ isDone: true });
  await promotion.commands.promote({ command: '', source: 'web1' }, gone);
  expect(await restore({ command: '' }, gone)).toMatchObject({ isDone: false });
  expect(done).toEqual(['restrict', 'end key of web1']);
});

test('where no service runs that would look for a mark, none is made', async () => {
  const { env } = process;
  const ask = async (...words: string[]) => answerPromotion(words).catch(({ message }) => message);
  try {
    process.env = { ...env, HOST_KEY_DIR: directory, DEST_DIR: directory, STATUS_FILE: join(directory, 'status.json') };
    for (const words of [['--promote'], ['--demote'], ['--promote', '--source', 'web1']])
      expect(await ask(...words)).toContain(`没有 start-sshd 曾以 HOST_KEY_DIR=${directory}`);
    for (const words of [
      ['--promote', 'now'],
      ['--promote', '--source'],
    ])
      expect(await ask(...words)).toContain('用法错误');
  } finally {
    process.env = env;
  }
  expect(readdirSync(directory)).toEqual([]);
  expect(await answerPromotion(['--status'])).toBeUndefined();
});
