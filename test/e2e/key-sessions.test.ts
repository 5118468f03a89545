import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawn } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectionsOf, isRoot, ordinaryUser, Pair, remoteRsyncsOf, theOnly } from '../pair.ts';
import { content, count, eventually, Program, processesWith } from '../processes.ts';
import { makeKey, Thief } from '../thief.ts';

setDefaultTimeout(120_000);

/** How soon the sessions of a key that is no longer in force are over, ms. */
const OVER_MS = 2000;

/** Puts another key on the shared volume. */
function replaceKey(pair: Pair): void {
  if (!existsSync(pair.path('next'))) makeKey(pair.path('next'));
  const file = pair.path('shared', 'id_rsa.pub');
  writeFileSync(`${file}.new`, content(pair.path('next.pub')));
  renameSync(`${file}.new`, file);
}

/** A connection that the thief keeps open. */
async function openMaster(pair: Pair, thief: Thief): Promise<Program> {
  const master = new Program('ssh', [...thief.sshOptions, '-M', '-N', '-S', pair.path('control'), thief.host], {});
  pair.keep(master);
  await eventually(() => existsSync(pair.path('control')));
  return master;
}

/** An rsync that has been let in, and would delete all that the backup holds once it is given its names. */
async function armDeletion(pair: Pair, thief: Thief): Promise<Program> {
  mkdirSync(pair.path('empty'), { recursive: true });
  const ssh = ['ssh', ...thief.sshOptions, '-S', pair.path('control')].join(' ');
  const words = [
    '-r',
    '--delete',
    '--files-from=-',
    '-e',
    ssh,
    `${pair.path('empty')}/`,
    `${thief.host}:${pair.path('backup')}/`,
  ];
  const script = `(while [ ! -e '${pair.path('go')}' ] && kill -0 $$ 2>&-; do sleep 0.05; done; echo ./) | exec rsync "$@"`;
  const armed = pair.keep(new Program('sh', ['-c', script, 'sh', ...words], {}));
  await theOnly(remoteRsyncsOf, pair);
  return armed;
}

/** A backup with a tree in it, and a thief whose deletion waits. */
async function start(pair: Pair, thief: Thief, env: Record<string, string> = {}) {
  mkdirSync(pair.path('backup'), { recursive: true });
  for (const name of ['one', 'two']) writeFileSync(pair.path('backup', name), 'content');
  const backup = pair.start('start-sshd', env);
  await backup.shows('SSH 服务器就绪');
  const master = await openMaster(pair, thief);
  const armed = await armDeletion(pair, thief);
  return { backup, master, armed };
}

describe.concurrent('a key that is no longer in force', () => {
  /** Expects that all that the thief has is over in time, and nothing was deleted. */
  const isOver = async (pair: Pair, thief: Thief, master: Program) => {
    await eventually(() => !master.running && remoteRsyncsOf(pair).length === 0, OVER_MS);
    writeFileSync(pair.path('go'), '');
    expect((await thief.ssh(thief.host, 'echo in')).stderr).toContain('Permission denied (publickey)');
    await sleep(300); // for what might still be deleted
    expect(readdirSync(pair.path('backup')).sort()).toEqual(['one', 'two']);
  };

  test('because another one was shared loses its connections and what waits there within 2 s', async () => {
    await using pair = await Pair.withKeys('replaced');
    const thief = new Thief(pair);
    const { backup, master } = await start(pair, thief);
    replaceKey(pair);
    await isOver(pair, thief, master);
    await backup.shows(/源端公钥已更换，原公钥 SHA256:\S+ 不再有效：已断开全部 1 个连接及其命令/);
    expect(backup.output.indexOf('原公钥')).toBeGreaterThan(backup.output.lastIndexOf('SSH 免密登录配置完成'));
  });

  test('because its line was removed loses them as well, and is not authorised again from the shared volume', async () => {
    await using pair = await Pair.withKeys('withdrawn');
    const thief = new Thief(pair);
    const { backup, master } = await start(pair, thief);
    writeFileSync(pair.path('backup-ssh', 'authorized_keys'), '# nobody\n');
    await isOver(pair, thief, master);
    await backup.shows(/\[WARN .*已从 authorized_keys 中删除，公钥不再有效：已断开全部 1 个连接/);
    await eventually(() => JSON.parse(content(pair.path('backup-status.json'))).key === null);
    replaceKey(pair);
    await eventually(() => JSON.parse(content(pair.path('backup-status.json'))).key !== null);
    expect(count(backup.output, 'SSH 免密登录配置完成')).toBe(2);
  });

  test('loses them where it may run anything, too, whatever its commands have done to outlive it', async () => {
    await using pair = await Pair.withKeys('replaced-shell');
    const thief = new Thief(pair);
    const { backup, master } = await start(pair, thief, { ALLOW_SHELL: 'true' });
    const mark = pair.path('marked');
    const asks = `trap '' HUP; : ${mark}; while :; do sleep 1; done`;
    const leaves = `setsid sh -c ': ${mark}; sleep 600; :'; :`; // for a group and a session of its own
    for (const command of [asks, leaves])
      pair.keep(new Program('ssh', [...thief.sshOptions, '-S', pair.path('control'), thief.host, command], {}));
    const marked = () => [...processesWith(mark).values()].filter((words) => /^\S*sh -c/.test(words));
    await eventually(() => marked().length === 3);
    replaceKey(pair);
    await eventually(() => marked().length === 0, OVER_MS);
    await isOver(pair, thief, master);
    await backup.shows('原公钥');
  });

  test.each(['false', 'true'])(
    'lets nobody in who logs in at that very moment (ALLOW_SHELL=%s)',
    async (ALLOW_SHELL) => {
      await using pair = await Pair.withKeys(`moment-${ALLOW_SHELL}`);
      const thief = new Thief(pair);
      mkdirSync(pair.path('backup'));
      const backup = pair.start('start-sshd', { ALLOW_SHELL });
      await backup.shows('SSH 服务器就绪');
      const command = `rsync --server -re.iLsfxCIvu . ${pair.path('backup')}/`;
      const loop = `while ! [ -e '${pair.path('go')}' ] && kill -0 $PPID; do sleep 4 | ssh "$@"; done`;
      for (let n = 0; n < 4; n++) {
        const words = ['-c', loop, 'sh', ...thief.sshOptions, thief.host, command];
        spawn('sh', words, { stdio: ['pipe', 'ignore', 'ignore'] });
        await sleep(300); // or all would log in at the same time
      }
      await eventually(() => remoteRsyncsOf(pair).length > 0);
      await sleep(500);
      replaceKey(pair);
      await backup.shows('原公钥');
      await sleep(OVER_MS - 500);
      expect(remoteRsyncsOf(pair)).toEqual([]);
      const offset = backup.output.length;
      await sleep(1000);
      expect(backup.output.slice(offset)).not.toContain('Accepted');
      expect(remoteRsyncsOf(pair)).toEqual([]);
      writeFileSync(pair.path('go'), '');
    },
  );

  test.if(isRoot && Bun.which('useradd') !== null)('loses them where sshd runs as an ordinary user', async () => {
    using user = ordinaryUser();
    await using pair = await Pair.withKeys('replaced-user', user);
    const thief = new Thief(pair, user.name);
    mkdirSync(pair.path('backup'));
    for (const name of ['shared', 'backup']) chownSync(pair.path(name), user.uid, user.gid);
    const { master } = await start(pair, thief);
    replaceKey(pair);
    await isOver(pair, thief, master);
  });

  test('runs nothing on beyond the end of the service, where it may run anything either', async () => {
    await using pair = await Pair.withKeys('restart-shell');
    const thief = new Thief(pair);
    const { backup, master } = await start(pair, thief, { ALLOW_SHELL: 'true' });
    const mark = pair.path('marked');
    const loop = `trap '' HUP; : ${mark}; while :; do sleep 1; done`;
    pair.keep(new Program('ssh', [...thief.sshOptions, '-S', pair.path('control'), thief.host, loop], {}));
    const marked = () => [...processesWith(mark).values()].filter((words) => /^\S*sh -c trap/.test(words));
    await eventually(() => marked().length === 1);
    expect(await backup.stop()).toBe(0);
    expect(marked()).toEqual([]);
    expect(remoteRsyncsOf(pair)).toEqual([]);
    await eventually(() => !master.running);
  });

  test('has no rsync left that outlives its connection, nor the service', async () => {
    await using pair = await Pair.withKeys('stray');
    const thief = new Thief(pair);
    const { backup, master } = await start(pair, thief);
    const rsync = await theOnly(remoteRsyncsOf, pair);
    process.kill(rsync, 'SIGSTOP'); // as if it were busy
    await master.stop('SIGKILL');
    await eventually(() => JSON.parse(content(pair.path('backup-status.json'))).sessions === 0);
    expect(remoteRsyncsOf(pair)).toEqual([rsync]);
    await backup.stop('SIGKILL');
    expect(remoteRsyncsOf(pair)).toEqual([rsync]);
    // Beside ours it may be what another test has left: no service of either is there any more.
    await pair.start('start-sshd').shows(/已结束上次运行遗留的 [1-9]\d* 个源端命令/);
    expect(remoteRsyncsOf(pair)).toEqual([]);
  });
});

describe.concurrent('the key in force', () => {
  test('keeps its connection when it is shared again, is not there for a while, or is replaced by rubbish', async () => {
    await using pair = await Pair.withKeys('kept');
    const { backup } = await pair.run({ SYNC_INTERVAL: '0' });
    const connection = await theOnly(connectionsOf, pair);
    const file = pair.path('shared', 'id_rsa.pub');
    const key = content(file);
    const authorised = '] SSH 免密登录配置完成 ✓';
    for (const [text, said] of [
      [key],
      [key.replace('\n', ' another comment\n'), authorised],
      ['rubbish', '源端公钥未生效'],
      [key, authorised], // else what is put back below may be the line before
    ] as const) {
      const offset = backup.output.length;
      rmSync(file);
      await sleep(700);
      writeFileSync(file, text);
      await (said ? backup.shows(said, offset) : sleep(700));
    }
    const authorized = pair.path('backup-ssh', 'authorized_keys');
    renameSync(authorized, `${authorized}.aside`); // as an editor does
    Bun.sleepSync(50); // while nothing else here can make it longer
    renameSync(`${authorized}.aside`, authorized);
    await sleep(1500);
    writeFileSync(pair.path('source', 'file'), 'content');
    await pair.isMirrored();
    expect(backup.output).not.toMatch(/已断开|不再有效/);
    expect(connectionsOf(pair)).toEqual([connection]);
  });

  test('mirrors on by itself after its line was edited, which ends its connection once', async () => {
    await using pair = await Pair.withKeys('edited');
    const { backup, source } = await pair.run({ SYNC_INTERVAL: '0' });
    const authorized = pair.path('backup-ssh', 'authorized_keys');
    writeFileSync(authorized, content(authorized).replace('restrict,', 'restrict,from="127.0.0.1",'));
    await backup.shows(/\[WARN .*authorized_keys 中源端公钥的行已被修改：已断开全部 1 个连接及其命令，由源端重新登录/);
    await source.shows('SSH 连接已恢复 ✓');
    writeFileSync(pair.path('source', 'file'), 'content');
    await pair.isMirrored();
    expect(count(backup.output, '已断开')).toBe(1);
  });
});
