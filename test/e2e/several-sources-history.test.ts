/** What an operator does about one of several sources: its history, a takeover, a restore, and what is told of it. */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Member } from '../member.ts';
import { CHEAP_LOGIN, Pair, userName } from '../pair.ts';
import { cleanEnv, content, count, eventually, freePort, type Program } from '../processes.ts';
import { binary } from '../project.ts';
import { stepsOf, take } from '../recovery-page.ts';
import { Services } from '../services.ts';
import { run } from '../thief.ts';
import { expectEqual } from '../tree.ts';

setDefaultTimeout(120_000);

/** Asks a program for something; what is wrong is in its log. */
async function askProgram(name: 'rsync-inotify' | 'start-sshd', args: string[], env: Record<string, string>) {
  const { status, stdout, stderr } = await run(binary(name), args, '', { ...cleanEnv(), NO_COLOR: '1', ...env });
  return { status, output: stdout + stderr };
}
const ask = ({ backupEnv }: Pair, ...args: string[]) => askProgram('start-sshd', args, backupEnv);
const askSource = ({ pair, env }: Member, ...args: string[]) =>
  askProgram('rsync-inotify', args, { ...pair.sourceEnv, ...env });
const statusOf = (pair: Pair) => JSON.parse(content(pair.path('backup-status.json')));
// biome-ignore lint/suspicious/noExplicitAny: it is what programs read
const sourceOf = (pair: Pair, name: string): any =>
  statusOf(pair).sources.find((source: { name: string }) => source.name === name);
const stateOf = (member: Member): string => JSON.parse(content(member.path('status.json'))).targets[0].state;
const historyOf = (member: Member) => join(member.copy, '.history');

/** Two sources that are mirrored, each with a file. */
async function startBoth(pair: Pair, env: Record<string, string> = {}) {
  const members = ['web1', 'web2'].map((name) => new Member(pair, name)) as [Member, Member];
  for (const member of members) member.publish();
  const backup = pair.start('start-sshd', env);
  for (const member of members) member.write('file', `first of ${member.name}`);
  const programs = (await Promise.all(members.map((member) => member.run()))) as [Program, Program];
  for (const member of members) await member.isMirrored();
  return { backup, members, programs };
}

/** All that is in a directory, with what would tell that somebody has touched it. */
const snapshot = (directory: string): string[] =>
  readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => {
      const { ino, size, mtimeMs, ctimeMs } = lstatSync(join(directory, name));
      return [name, ino, size, mtimeMs, ctimeMs].join(' ');
    });

/** Has a source send a file by hand, slowly; returns once it is being received. */
async function sendSlowly(member: Member): Promise<{ sent: Promise<number | string | null> }> {
  const { rsync, host } = thief(member);
  const [file, place] = [member.pair.path(`large-${member.name}`), join(member.copy, 'slow')];
  writeFileSync(file, Buffer.alloc(400_000, 'x'));
  const sent = rsync('-a', '--bwlimit=100', file, `${host}:${place}/`).then(({ status }) => status);
  await eventually(() => existsSync(place) && readdirSync(place).length > 0);
  return { sent };
}

/** Asks with the key of a source for something else than it would. */
const thief = ({ pair, key }: Member) => {
  const known = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR', CHEAP_LOGIN];
  const options = ['-F', 'none', '-p', `${pair.port}`, '-i', key, ...known.flatMap((option) => ['-o', option])];
  const host = `${userName()}@127.0.0.1`;
  return {
    ssh: (...words: string[]) => run('ssh', [...options, host, ...words]),
    rsync: (...args: string[]) => run('rsync', ['-e', ['ssh', ...options].join(' '), ...args]),
    host,
  };
};

test('each source has a history of its own, which is listed and recovered by its name', async () => {
  await using pair = await Pair.withKeys('several-history');
  const { members } = await startBoth(pair, { HISTORY_DAYS: '1' });
  const [web1, web2] = members;
  await Bun.sleep(30); // the kernel's clock for files goes in steps
  const at = new Date().toISOString();
  await Bun.sleep(30);
  for (const member of members) member.write('file', `second of ${member.name}, longer`);
  web2.write('other');
  for (const member of members) await member.isMirrored();
  rmSync(web2.path('source', 'other'));
  await web2.isMirrored();
  expect(existsSync(pair.path('backup', '.history'))).toBe(false);

  for (const args of [['--history'], ['--recover', '--at', at, '--to', pair.path('nowhere')]])
    expect(await ask(pair, ...args)).toMatchObject({ status: 2, output: expect.stringContaining('web1、web2') });
  const listed = await ask(pair, '--history', '--source', 'web1');
  expect([listed.status, count(listed.output, ' file\n'), count(listed.output, ' other\n')]).toEqual([0, 1, 0]);
  expect((await ask(pair, '--history', 'other', '--source', 'web2')).output).toContain(' other\n');
  for (const { name } of members) {
    const to = pair.path(`recovered-${name}`);
    const { status, output } = await ask(pair, '--recover', '--source', name, '--at', at, '--to', to);
    expect([status, output]).toEqual([0, expect.stringContaining('1 个文件')]);
    expect([readdirSync(to), content(join(to, 'file'))]).toEqual([['file'], `first of ${name}`]);
  }
  const within = await ask(pair, '--recover', '--source', 'web1', '--at', at, '--to', join(web2.copy, 'new'));
  expect(within).toMatchObject({ status: 1, output: expect.stringContaining('下一次镜像会删除它') });

  // The service names what each has kept, and tells what that costs.
  await eventually(() => members.every((it) => !readdirSync(historyOf(it)).some((name) => /^(now|done)-/.test(name))));
  await eventually(
    () => sourceOf(pair, 'web1').history.versions === 1 && sourceOf(pair, 'web2').history.versions === 2,
  );
  expect(statusOf(pair).history).toMatchObject({ days: 1, versions: 3 });
  expect(readdirSync(pair.path('host-keys')).filter((name) => name.startsWith('history-'))).toHaveLength(2);
  // Neither reaches that of the other one.
  const { rsync, host } = thief(web1);
  const kept = snapshot(historyOf(web2));
  for (const to of [historyOf(web2), historyOf(web1), pair.path('backup', 'web2')])
    expect((await rsync('-a', '--delete', `${web1.path('source')}/`, `${host}:${to}/`)).status).not.toBe(0);
  expect(snapshot(historyOf(web2))).toEqual(kept);
});

test('a source that gets a name keeps its history, with what is moved', async () => {
  await using pair = await Pair.withKeys('several-named');
  const member = new Member(pair, '');
  const backup = pair.start('start-sshd', { HISTORY_DAYS: '1' });
  member.write('file', 'first');
  const source = await member.run();
  await member.isMirrored();
  await Bun.sleep(30);
  const at = new Date().toISOString();
  await Bun.sleep(30);
  member.write('file', 'second, longer');
  await member.isMirrored();
  await source.stop();
  const [root, own] = [pair.path('backup'), pair.path('backup', 'web1')];
  mkdirSync(own);
  for (const name of readdirSync(root).filter((it) => it !== 'web1')) renameSync(join(root, name), join(own, name));
  // What is still let in without the name leaves it alone, too.
  const { rsync, host } = thief(member);
  expect((await rsync('-a', '--delete', `${member.path('source')}/`, `${host}:${own}/`)).status).toBe(0);
  member.publish('sources/web1.pub');
  await backup.shows('改用名称 web1');
  await member.run({ SOURCE_NAME: 'web1' });
  member.write('file', 'third, longer still');
  await eventually(() => expectEqual(member.path('source'), own, ['--exclude=/.history']));
  const to = pair.path('recovered');
  expect(await ask(pair, '--recover', '--at', at, '--to', to)).toMatchObject({ status: 0 }); // the only one needs no name
  expect(content(join(to, 'file'))).toBe('first');
  await eventually(() => sourceOf(pair, 'web1').history.versions === 2);
  expect(readdirSync(root)).toEqual(['web1']);
});

test('the backup takes over from one source, the other one mirrors on, and all of that is told by name', async () => {
  await using pair = await Pair.withKeys('several-promote');
  await using services = new Services();
  const port = await freePort();
  const views = { METRICS_PORT: String(port), NOTIFY_URL: services.urls.json ?? '', NOTIFY_AFTER: '5' };
  const { backup, members, programs } = await startBoth(pair, views);
  const [web1, web2] = members;
  const metric = async (name: string) => {
    const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    return Object.fromEntries(
      ['', 'web1', 'web2'].flatMap((source) => {
        const [, value] = new RegExp(`^rsync_backup_${name}\\{source="${source}"\\} (\\S+)$`, 'm').exec(text) ?? [];
        return value === undefined ? [] : [[source, Number(value)]];
      }),
    );
  };
  await eventually(async () => expect(await metric('sessions')).toEqual({ web1: 1, web2: 1 }) ?? true);
  expect(await metric('promoted')).toEqual({ web1: 0, web2: 0 });
  const received = await metric('last_received_timestamp_seconds');
  for (const name of ['web1', 'web2']) expect(Date.now() / 1000 - (received[name] ?? 0)).toBeLessThan(120);

  const promoted = await ask(pair, '--promote', '--source', 'web1');
  expect(promoted).toMatchObject({ status: 0, output: expect.stringContaining(`DEST_DIR=${web1.copy}，自 `) });
  const before = snapshot(web1.copy);
  for (const member of members) member.write('while', 'it has taken over');
  await eventually(() => stateOf(web1) === 'promoted');
  await web2.isMirrored();
  for (let n = 0; n < 5; n++) {
    web2.write(`more ${n}`);
    await web2.isMirrored();
  }
  expect(snapshot(web1.copy)).toEqual(before);
  expect(stateOf(web2)).not.toBe('promoted');
  // Whoever follows what is said gives back this source, and no other one.
  for (const output of [programs[0].output, (await askSource(web1, '--healthcheck')).output])
    expect(output).toContain('start-sshd --demote --source web1');
  expect((await ask(pair, '--allow-restore', '--source', 'web1')).output).toContain(
    '再执行 start-sshd --demote --source web1',
  );
  expect(programs[1].output).not.toContain('[ERROR');
  expect((await thief(web1).ssh('echo', 'ok')).stdout).toBe('ok\n');
  for (const { copy } of members)
    expect((await thief(web1).ssh(`start-sshd --identify ${copy}`)).stderr).toContain(
      '备份端已接管 (start-sshd --promote)',
    );
  expect((await thief(web2).ssh(`start-sshd --identify ${web2.copy}`)).stdout).toContain('"start"');

  expect(await metric('promoted')).toEqual({ web1: 1, web2: 0 });
  expect([Boolean(sourceOf(pair, 'web1').promoted), sourceOf(pair, 'web2').promoted]).toEqual([true, null]);
  expect(statusOf(pair).promoted).toBeNull();
  expect((await ask(pair, '--status')).output).toMatch(/\nweb1 .* 已接管，自 .*\nweb2 .* 正常 /);
  expect((await ask(pair, '--healthcheck')).output).toContain('2 个源端，其中 1 个已被接管');
  const { body } = await services.takes('json', ({ text }) => text.includes('promoted'));
  expect(body.reports).toContainEqual(expect.objectContaining({ problem: 'promoted', source: 'web1' }));
  expect(body.text).toContain('--demote --source web1');

  // It outlives the service, and a mirror of the other one goes on after it.
  await backup.stop();
  const again = pair.start('start-sshd', views);
  await again.shows('SSH 服务器就绪');
  web2.write('after the restart');
  await web2.isMirrored();
  expect(snapshot(web1.copy)).toEqual(before);
  expect(again.output).toContain(`备份端已接管 DEST_DIR=${web1.copy}`);

  // The application writes there; given back, all is compared and the source counts.
  writeFileSync(join(web1.copy, 'file'), 'of the application');
  writeFileSync(join(web1.copy, 'new'), 'of the application');
  expect((await ask(pair, '--demote', '--source', 'web1')).output).toContain(`DEST_DIR=${web1.copy} 重新接收镜像`);
  expect(await metric('promoted')).toEqual({ web1: 0, web2: 0 });
  await programs[0].stop();
  await web1.run();
  await web1.isMirrored();
  expect(count(again.output, '备份端已接管 DEST_DIR=')).toBe(1);
});

test('what is under way of one source is ended, and of another one it is not', async () => {
  await using pair = await Pair.withKeys('several-under-way');
  const { members, programs } = await startBoth(pair);
  for (const program of programs) await program.stop();
  const [one, other] = await Promise.all(members.map(sendSlowly));
  expect(await ask(pair, '--promote', '--source', 'web1')).toMatchObject({ status: 0 });
  const before = snapshot(members[0].copy);
  expect(await one?.sent).not.toBe(0);
  expect(await other?.sent).toBe(0);
  expect(snapshot(members[0].copy)).toEqual(before);
});

test('a source that was away while the backup had taken over compares all when it comes back', async () => {
  await using pair = await Pair.withKeys('several-away');
  const { members } = await startBoth(pair);
  const [web1, web2] = members;
  const { ssh } = thief(web1);
  const identity = async ({ copy }: Member) => JSON.parse((await ssh(`start-sshd --identify ${copy}`)).stdout).start;
  const other = async () => JSON.parse((await thief(web2).ssh(`start-sshd --identify ${web2.copy}`)).stdout).start;
  const [before, beside] = [await identity(web1), await other()];
  for (const flag of ['--promote', '--demote']) await ask(pair, flag, '--source', 'web1');
  expect(await identity(web1)).not.toBe(before);
  expect(await other()).toBe(beside);
});

test('without a service the marks are made all the same, of one source or of all, and one of them is given back', async () => {
  await using pair = await Pair.withKeys('several-stopped');
  const { backup, members } = await startBoth(pair);
  const [web1, web2] = members;
  await backup.stop();
  expect(await ask(pair, '--promote', '--source', 'web3')).toMatchObject({ status: 2 });
  expect(await ask(pair, '--promote')).toMatchObject({ status: 0, output: expect.stringContaining('（全部源端）') });
  expect((await ask(pair, '--demote', '--source', 'web2')).output).toContain(`DEST_DIR=${web2.copy} 重新接收镜像`);
  const before = snapshot(web1.copy);
  for (const member of members) member.write('later');
  const again = pair.start('start-sshd');
  await again.shows('SSH 服务器就绪');
  await web2.isMirrored();
  await eventually(() => stateOf(web1) === 'promoted');
  expect(snapshot(web1.copy)).toEqual(before);
  expect((await ask(pair, '--demote')).output).toContain('（全部源端）');
  expect(readdirSync(pair.path('host-keys')).filter((name) => name.startsWith('promoted-'))).toEqual([]);
});

test('one source alone may read, and its directory alone', async () => {
  await using pair = await Pair.withKeys('several-restore');
  const { members, programs } = await startBoth(pair);
  const [web1, web2] = members;
  for (const program of programs) await program.stop();
  for (const member of members) rmSync(member.path('source', 'file'));
  expect(await ask(pair, '--allow-restore')).toMatchObject({
    status: 2,
    output: expect.stringContaining('web1、web2'),
  });
  const allowed = await ask(pair, '--allow-restore', '10m', '--source', 'web1');
  expect(allowed.output).toContain('源端 web1：源端现在可以读取 DEST_DIR/web1，到 ');
  expect([Boolean(sourceOf(pair, 'web1').restore), sourceOf(pair, 'web2').restore]).toEqual([true, null]);

  expect((await askSource(web2, '--restore')).status).toBe(1);
  const stolen = pair.path('stolen');
  mkdirSync(stolen);
  for (const [member, from] of [
    [web2, web2.copy],
    [web2, web1.copy],
    [web1, web2.copy],
    [web1, pair.path('backup')],
  ] as const) {
    const { rsync, host } = thief(member);
    expect((await rsync('-a', `${host}:${from}/`, `${stolen}/`)).status).not.toBe(0);
  }
  expect(readdirSync(stolen)).toEqual([]);
  expect(await askSource(web1, '--restore')).toMatchObject({ status: 0, output: expect.stringContaining('恢复完成') });
  expect(expectEqual(web1.path('source'), web1.copy)).toBe(true);
  expect((await ask(pair, '--allow-restore', '0s', '--source', 'web1')).output).toContain('恢复的许可已结束');
  expect((await askSource(web1, '--restore', 'file')).status).toBe(1);
});

test('docs/recovery says what is done about one of several sources', async () => {
  await using pair = await Pair.withKeys('several-page');
  const { members } = await startBoth(pair, { HISTORY_DAYS: '1' });
  const [web1, web2] = members;
  mkdirSync(web1.path('source', 'web'));
  for (const n of [1, 2, 3]) web1.write(`web/${n}`);
  await web1.isMirrored();
  await Bun.sleep(1100); // the page tells times by whole seconds
  const moment = new Date().toLocaleString('sv-SE');
  const named = (text: string) => text.replaceAll('/data/backup', pair.path('backup'));
  for (const step of stepsOf('One of several sources', 'docker')) {
    const code = named(step.code).replaceAll('2025-10-09 12:00:00', moment);
    await take({ ...step, code, prints: step.prints.map(named) }, (script) => inShell(pair, script));
  }
  await web1.isMirrored();
  web2.write('last');
  await web2.isMirrored();
});

/** Runs a script of the page on the host itself: a container of compose would run the same program. */
function inShell(pair: Pair, script: string) {
  const programs = join(binary('start-sshd'), '..');
  const { stdout, stderr, exitCode } = Bun.spawnSync(['bash', '-ec', `docker() { shift 3; "$@"; }\n${script}`], {
    env: { ...cleanEnv(), ...pair.backupEnv, NO_COLOR: '1', PATH: `${programs}:${process.env.PATH}` },
    stderr: 'pipe',
  });
  return { status: exitCode, output: `${stdout}${stderr}` };
}
