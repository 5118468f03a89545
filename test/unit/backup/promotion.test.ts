import { afterEach, beforeEach, expect, test } from 'bun:test';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { admit, admitUnlessPromoted, Promoted } from '../../../src/backup/admission.ts';
import { authorizedLine } from '../../../src/backup/authorized-keys.ts';
import { readConfig } from '../../../src/backup/config.ts';
import { Promotion } from '../../../src/backup/promotion.ts';
import { answerPromotion } from '../../../src/backup/promotion-answers.ts';
import { MARK_VARIABLE, PromotionMark, promotedSince } from '../../../src/backup/promotion-mark.ts';
import { saysPromoted } from '../../../src/mirror/faults.ts';
import { withOwnClock } from '../mirror/stand-ins.ts';

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

/** A service of which it is told what is done, and which may have something that does not end. */
function bed(isOver = true) {
  const done: string[] = [];
  const note = (what: string) => void done.push(what);
  const promotion = new Promotion({
    config: configOf(),
    guard: { rest: async () => note('rest'), renew: async () => note('renew') },
    key: { restrict: () => note('restrict') },
    sshd: {
      endSessionsForGood: async () => {
        note('end');
        return { sessions: 1, isOver };
      },
    },
    reports: { renewBar: () => {} },
  });
  return { promotion, done, mark: new PromotionMark(configOf()) };
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
  const { promotion, mark } = bed(false);
  const { isDone, text } = await promotion.commands.promote(SOURCE, gone);
  expect([isDone, Boolean(mark.since)]).toEqual([false, true]);
  expect(text).toContain('请稍后再次执行');
});

test('where no service runs that would look for a mark, none is made', async () => {
  const { argv, env } = process;
  const ask = async (word: string) => answerPromotion([word]).catch(({ message }) => message);
  try {
    process.env = { ...env, HOST_KEY_DIR: directory, DEST_DIR: directory, STATUS_FILE: join(directory, 'status.json') };
    for (const word of ['--promote', '--demote']) {
      process.argv = [...argv.slice(0, 2), word];
      expect(await ask(word)).toContain(`没有 start-sshd 曾以 HOST_KEY_DIR=${directory}`);
    }
    process.argv = [...argv.slice(0, 2), '--promote', 'now'];
    expect(await ask('--promote')).toContain('用法错误');
  } finally {
    Object.assign(process, { argv, env });
  }
  expect(readdirSync(directory)).toEqual([]);
  expect(await answerPromotion(['--status'])).toBeUndefined();
});
