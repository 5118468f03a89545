/** A pair that speaks English: its logs, what its programs answer, and what each side understands of another that speaks Chinese. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { CHEAP_LOGIN, Pair, userName } from '../pair.ts';
import { cleanEnv, content, eventually, type Program } from '../processes.ts';
import { binary } from '../project.ts';
import { Services } from '../services.ts';

setDefaultTimeout(120_000);

/** Chinese characters, and the punctuation that goes with them. */
const CHINESE = /[\p{Script=Han}\u3001\u3002\uff01-\uff5e“”]/u;
const SPEAKS_ENGLISH = { LOG_LANG: 'en' };

/** Runs a program with a flag beside the services of a pair. */
function ask(pair: Pair, name: 'rsync-inotify' | 'start-sshd', ...flags: string[]) {
  const own = name === 'rsync-inotify' ? pair.sourceEnv : pair.backupEnv;
  const env = { ...cleanEnv(), NO_COLOR: '1', ...own, ...SPEAKS_ENGLISH };
  const { status, stdout } = spawnSync(binary(name), flags, { env, encoding: 'utf8' });
  return { status, stdout, isEnglish: !CHINESE.test(stdout) };
}

/** Runs a command on the backup with the source's key. */
function command(pair: Pair, words: string, more: string[] = []) {
  const known = ['-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR'];
  const options = ['-F', 'none', '-p', `${pair.port}`, '-i', pair.path('source-ssh', 'id_rsa'), '-o', CHEAP_LOGIN];
  return spawnSync('ssh', [...options, ...known, ...more, `${userName()}@127.0.0.1`, words], { encoding: 'utf8' })
    .stderr;
}

/** The messages of a log, without what rsync and sshd print themselves. */
const messagesOf = ({ output }: Program, format: string) =>
  format === 'text'
    ? output.split('\n').filter((line) => line.startsWith('['))
    : output
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line))
        .filter(({ event }) => !event.endsWith('.output'))
        .map(({ message }): string => message);

const problemsOf = (pair: Pair): { problem: string }[] => JSON.parse(content(pair.path('source-status.json'))).problems;

describe.each(['text', 'json'])('a pair with LOG_LANG=en and a log as %s', (LOG_FORMAT) => {
  test('says all in English: a start, changes, held deletions, refusals, a backup that is gone, and a stop', async () => {
    await using pair = await Pair.make('english'); // with keys to be made, which is told, too
    mkdirSync(pair.path('source', 'photos'));
    for (let n = 0; n < 30; n++) writeFileSync(pair.path('source', 'photos', `${n}`), `${n}`);
    await using services = new Services();
    const env = { ...SPEAKS_ENGLISH, LOG_FORMAT, NOTIFY_URL: services.urls.json ?? '', NOTIFY_AFTER: '0' };
    const backup = pair.start('start-sshd', env);
    const source = pair.start('rsync-inotify', { ...env, SYNC_INTERVAL: '0', MAX_DELETE: '5' });
    await source.shows('✓ Service is running, watching for changes...');
    await backup.shows('SSH login by key is set up ✓');
    writeFileSync(pair.path('source', 'file'), 'words');
    await pair.isMirrored();
    renameSync(pair.path('source', 'photos'), pair.path('photos-elsewhere'));
    await source.shows('Files to be deleted on the target: 31, which is more than the limit of 5 within an hour');
    await eventually(() => problemsOf(pair).some(({ problem }) => problem === 'deletions'));
    expect(ask(pair, 'rsync-inotify', '--healthcheck')).toMatchObject({
      ...{ status: 1, isEnglish: true },
      stdout: expect.stringMatching(/^unhealthy: too many deletions, which are held/),
    });
    expect(ask(pair, 'rsync-inotify', '--status')).toMatchObject({
      ...{ status: 0, isEnglish: true },
      stdout: expect.stringContaining('most of them in photos (31)'),
    });
    expect(ask(pair, 'rsync-inotify', '--accept-deletions')).toMatchObject({
      ...{ status: 0, isEnglish: true },
      stdout: expect.stringContaining('deletions are let through (files: 31)'),
    });
    await source.shows('No deletions are held any more, mirroring as usual again ✓');
    expect(command(pair, 'reboot')).toBe('start-sshd: refused: only rsync may run here, to write the mirror\n');
    await backup.shows(
      'Refused a command of the source: only rsync may run here, to write the mirror. Command: reboot',
    );
    const echo = 'start-sshd: 拒绝执行：不允许该 rsync 选项 \n'; // for sources that know Chinese alone
    expect(command(pair, 'rsync --server --daemon . /x')).toBe(
      `start-sshd: refused: the rsync option --daemon is not allowed\n${echo}`,
    );
    await eventually(() => /^refused commands +2$/m.test(ask(pair, 'start-sshd', '--status').stdout));
    expect(ask(pair, 'start-sshd', '--status').isEnglish).toBe(true);
    const { text } = await services.takes('json');
    expect(text).toContain('[PROBLEM] ');
    expect(text).not.toMatch(CHINESE);
    expect(await backup.stop()).toBe(0);
    await source.shows('The SSH connection was lost; connecting again...');
    const said = source.output.length;
    writeFileSync(pair.path('source', 'file'), 'more words');
    await source.shows('Change detected: ', said);
    expect(await source.stop()).toBe(0);
    await source.shows('Service stopped ✓');
    const messages = [...messagesOf(source, LOG_FORMAT), ...messagesOf(backup, LOG_FORMAT)];
    expect(messages.length).toBeGreaterThan(40);
    expect(messages.filter((message) => CHINESE.test(message))).toEqual([]);
    expect(`${source.output}${backup.output}`).not.toMatch(CHINESE);
  });
});

describe.each([
  ['a Chinese source', {}, '备份端已接管 (start-sshd --promote)，不接收镜像', SPEAKS_ENGLISH, 'start-sshd: refused: '],
  [
    'an English source',
    SPEAKS_ENGLISH,
    'The backup has taken over (start-sshd --promote) and receives no mirror',
    {},
    'start-sshd: 拒绝执行：',
  ],
])('%s and a backup that speaks the other language', (_, sourceEnv, taken, backupEnv, refusal) => {
  test('understand each other where the backup takes over, and receives again', async () => {
    await using pair = await Pair.withKeys('languages');
    const backup = pair.start('start-sshd', backupEnv);
    const source = pair.start('rsync-inotify', { ...sourceEnv, SYNC_INTERVAL: '0' });
    await source.shows('✓ ');
    writeFileSync(pair.path('source', 'file'), 'words');
    await pair.isMirrored();
    expect(ask(pair, 'start-sshd', '--promote').status).toBe(0);
    await source.shows(taken);
    // Which language it is, is not the peer's to say.
    for (const language of ['zh', 'en'])
      expect(command(pair, 'ls', ['-o', `SetEnv=LOG_LANG=${language}`])).toStartWith(refusal);
    // A source that knows its own language alone asks the same, and knows the answer by these words.
    expect(command(pair, `start-sshd --identify ${pair.path('backup')}/`)).toContain(
      'start-sshd: 拒绝执行：备份端已接管',
    );
    writeFileSync(pair.path('source', 'file'), 'more words');
    expect(ask(pair, 'start-sshd', '--demote').status).toBe(0);
    await eventually(() => content(pair.path('backup', 'file')) === 'more words');
    await Promise.all([source.stop(), backup.stop()]);
  });
});
