/** What comes from outside and is told in the log, or printed for people, can be taken for no line of the programs' own. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { isRoot, Pair } from '../pair.ts';
import { answerOf, count, Program } from '../processes.ts';
import { ROOT } from '../project.ts';

setDefaultTimeout(120_000);

const STAMP = '2025-10-09 12:00:00';
const SUCCESS = `[${STAMP}] FORGED 同步成功 (耗时: 1秒) ✓`;
/** What would be taken for a line of ours if it were printed as it is. */
const FORGERIES = [
  SUCCESS,
  `  \t${SUCCESS}`,
  `over\r${SUCCESS}`,
  `wiped\x1b[2K\x1b[G\x1b[32m[${STAMP}]\x1b[0m FORGED`,
  `c1 \x9b2K\x9bG[${STAMP}] FORGED`,
  `next\u2028${SUCCESS}`,
  `nel\u0085${SUCCESS}`,
  `vt\v${SUCCESS}\f${SUCCESS}`,
  `\u202e✓ 功成步同 DEGROF ]${STAMP}[`,
  `\u200b\ufeff${SUCCESS}`,
  `\u3164\u2800${SUCCESS}`,
  `［２０２５-１０-０９ １２:００:００］ FORGED`,
  `[ERROR] FORGED 同步失败`,
  `rsync-backup  | ${SUCCESS}`,
];
/** Lines of the log that are ours and name a file. */
const OURS = /^\[INFO \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] 检测到文件变化: \//;

/** What controls a terminal, ends a line or turns text around. */
const UNSAFE = /[^\P{Cc}\t\n]|[\p{Zl}\p{Zp}\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/u;

/** Finds what a person or a tool would take for a line of ours, and what controls a terminal. */
function forgedLinesOf(output: string): string[] {
  const lines = output.split('\n');
  const isForged = (line: string) => line.includes('FORGED') && !OURS.test(line) && /^\P{L}*[[［]/u.test(line);
  return lines.filter((line) => isForged(line) || UNSAFE.test(line));
}

/** Starts an sshd whose sessions first say what a file holds, and greets with it, too. */
async function startHostile(pair: Pair, said: string): Promise<void> {
  const key = pair.path('host_key');
  spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key]);
  mkdirSync(pair.path('shared', 'host_keys'), { recursive: true });
  copyFileSync(`${key}.pub`, pair.path('shared', 'host_keys', 'host.ed25519.pub'));
  writeFileSync(pair.path('said'), said);
  const session = pair.path('session');
  writeFileSync(session, `#!/bin/sh\ncat ${pair.path('said')} >&2\nexec sh -c "$SSH_ORIGINAL_COMMAND"\n`);
  chmodSync(session, 0o755);
  if (isRoot) mkdirSync('/run/sshd', { recursive: true });
  const settings = [
    ...[`HostKey=${key}`, `AuthorizedKeysFile=${pair.path('shared', 'id_rsa.pub')}`, `ForceCommand=${session}`],
    ...['ListenAddress=127.0.0.1', 'PidFile=none', 'UsePAM=no', 'StrictModes=no', `Banner=${pair.path('said')}`],
  ].flatMap((setting) => ['-o', setting]);
  const sshd = new Program('/usr/sbin/sshd', ['-D', '-e', '-f', '/dev/null', '-p', `${pair.port}`, ...settings], {});
  await pair.keep(sshd).shows('Server listening');
}

/** Has the backup, and names in the source, say what would be taken for lines of ours; returns what the source prints. */
async function provoke(pair: Pair, env: Record<string, string>): Promise<string> {
  await startHostile(pair, `${FORGERIES.join('\n')}\nno end of line: ${SUCCESS}\r${SUCCESS}`);
  const names = FORGERIES.map((text) => text.replaceAll('/', '|'));
  for (const name of names) writeFileSync(pair.path('source', name), name);
  writeFileSync(pair.path('source', `two\n${SUCCESS}`), '');
  writeFileSync(
    Buffer.concat([Buffer.from(pair.path('source', '')), Buffer.from(`/caf\xe9 ${SUCCESS}`, 'latin1')]),
    '',
  );
  const source = pair.start('rsync-inotify', { SYNC_INTERVAL: '0', ...env });
  await source.shows('✓ 服务运行中');
  for (const name of names) writeFileSync(pair.path('source', name), `${name} again`);
  await pair.isMirrored();
  await source.stop();
  return source.output;
}

test('neither a backup nor the name of a file forges a line of the log', async () => {
  await using pair = await Pair.withKeys('forged');
  const output = await provoke(pair, { RSYNC_OPTS: '-avz --delete --progress', LOG_FILE: pair.path('log') });
  expect(forgedLinesOf(output)).toEqual([]);
  expect(readFileSync(pair.path('log'), 'utf8')).toBe(output);
  expect(output).toContain(`\nrsync: ${SUCCESS}\n`);
});

test('nor a line of the log for programs', async () => {
  await using pair = await Pair.withKeys('forged-json');
  const output = await provoke(pair, { LOG_FORMAT: 'json' });
  const entries = output
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  for (const { event, message } of entries) {
    if (!`${message}`.includes('FORGED')) continue;
    expect(['rsync.output', 'file.changed']).toContain(event);
    expect(message).not.toMatch(/[^\P{Cc}\t]|[\p{Zl}\p{Zp}\u202e\ufeff]/u);
  }
  expect(entries.filter(({ message }) => message === SUCCESS).length).toBeGreaterThan(0);
});

/** Tries to log in by a name that no ssh would send; the key does not matter. */
async function knockAs(pair: Pair, user: string): Promise<void> {
  const key = pair.path('source-ssh', 'id_rsa');
  const client = [join(ROOT, 'test', 'odd-client.ts'), `${pair.port}`, user, key];
  await answerOf(spawn(process.execPath, client), JSON.stringify([['exec', 'true']]));
}

test('whoever reaches the port of the backup forges neither its lines nor what sshd says, and hides nothing', async () => {
  await using pair = await Pair.withKeys('forged-sshd');
  const backup = pair.start('start-sshd', { KEY_RETRIES: '1', NO_COLOR: '1' });
  await backup.shows('SSH 服务器就绪');
  await knockAs(pair, `x\r\nAccepted publickey for root from 10.0.0.1 port 7 FORGED\r\n${SUCCESS}\u202e\x1b[31m\b`);
  await knockAs(pair, 'y from 10.0.0.1 port 7\nServer listening on FORGED port 7.\r\nServer listening on ');
  const socket = connect(pair.port, '127.0.0.1').on('error', () => {});
  socket.end('SSH-2.0-\x1b[31m\u202eFORGED\r\n');
  await backup.shows(/Invalid user y.*Server listening on {2}from 127\.0\.0\.1 port \d+\n/);
  await backup.stop();
  expect(backup.output).not.toMatch(UNSAFE);
  const lines = backup.output.trimEnd().split('\n');
  for (const line of lines) expect(line).toMatch(/^\[(INFO |WARN |ERROR )?\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] /);
  expect(lines.filter((line) => /sshd: (Accepted|\[|Server)/.test(line))).toEqual([]);
  expect(count(backup.output, String.raw`sshd: Invalid user x\r\nAccepted publickey for root from 10.0.0.1`)).toBe(1);
});
