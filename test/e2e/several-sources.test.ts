import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { eioAt, mayFail } from '../eio.ts';
import { Member } from '../member.ts';
import { mayHaveNamespace, Namespace } from '../namespace.ts';
import { Pair, remoteRsyncsOf } from '../pair.ts';
import { cleanEnv, content, count, eventually, mistakesFoundBy, Program } from '../processes.ts';
import { binary } from '../project.ts';
import { Thief } from '../thief.ts';
import { expectEqual } from '../tree.ts';

setDefaultTimeout(120_000);

const authorized = (pair: Pair) => content(pair.path('backup-ssh', 'authorized_keys'));

describe.concurrent('sources with names', () => {
  test('mirror side by side, each into its directory, and a restart of the backup changes nothing of it', async () => {
    await using pair = await Pair.withKeys('side-by-side');
    const members = ['web1', 'web2', 'db.main_1-a'].map((name) => new Member(pair, name));
    for (const member of members) member.write('first');
    let backup = pair.start('start-sshd');
    const sources = await Promise.all(members.map((member) => member.run()));
    for (const member of members) await member.isMirrored();
    await backup.shows(/源端 web1：发现源端公钥，配置授权/);
    expect(readdirSync(pair.path('backup')).sort()).toEqual(['db.main_1-a', 'web1', 'web2']);
    expect(sources[0]?.output).toContain(`目标目录: ${pair.path('backup')}/web1/`);
    const [first] = members as [Member];
    expect(JSON.parse(content(first.path('status.json'))).source_name).toBe('web1');
    const { stdout } = spawnSync(binary('rsync-inotify'), ['--status'], {
      encoding: 'utf8',
      env: { ...cleanEnv(), ...first.env },
    });
    expect(stdout).toContain('源端名称: web1\n');
    expect(stdout).toContain(`${pair.path('backup')}/web1/`);
    expect(await backup.stop()).toBe(0);
    backup = pair.start('start-sshd');
    await backup.shows('SSH 服务器就绪');
    for (const member of members) member.write('second');
    for (const member of members) await member.isMirrored();
    expect(backup.output).not.toMatch(/\[(WARN|ERROR)/);
    expect(readdirSync(pair.path('shared', 'sources')).sort()).toEqual(members.map(({ name }) => `${name}.pub`).sort());
  });

  test('are let in where their keys and those of the backup are carried by hand', async () => {
    await using pair = await Pair.withKeys('carried');
    const members = ['web1', 'web2', 'web3'].map((name) => new Member(pair, name));
    const backup = pair.start('start-sshd');
    await backup.shows('等待源端生成公钥');
    await eventually(
      () => existsSync(pair.path('shared', 'host_keys')) && readdirSync(pair.path('shared', 'host_keys')).length === 3,
    );
    const own = (member: Member) => pair.path(`shared-${member.name}`);
    for (const member of members) cpSync(pair.path('shared'), own(member), { recursive: true });
    const sources = members.map((member) => member.start({ SHARED_KEYS_DIR: own(member), MAX_RETRIES: '30' }));
    for (const source of sources) await source.shows('公钥已共享 ✓');
    mkdirSync(pair.path('shared', 'sources'));
    for (const member of members) {
      expect(readdirSync(join(own(member), 'sources'))).toEqual([`${member.name}.pub`]);
      copyFileSync(
        join(own(member), 'sources', `${member.name}.pub`),
        pair.path('shared', 'sources', `${member.name}.pub`),
      );
      member.write('file');
    }
    for (const member of members) await member.isMirrored();
    expect(backup.output).not.toContain('[ERROR');
  });

  test('go on while the key of one is replaced, whose former sessions end, and both keys are told', async () => {
    await using pair = await Pair.withKeys('replaced-name');
    const [one, two] = [new Member(pair, 'web1'), new Member(pair, 'web2')];
    const backup = pair.start('start-sshd');
    const [source, other] = await Promise.all([one.run(), two.run()]);
    const remote = () => remoteRsyncsOf(pair).length;
    await eventually(() => remote() >= 2);
    const next = new Member(pair, 'web1', 'next');
    next.publish();
    await backup.shows(
      `源端 web1：源端公钥已更换，原公钥 ${one.fingerprint} 不再有效：已断开它的 1 个连接及其命令。现公钥: ${next.fingerprint}`,
    );
    await source?.shows('SOURCE_NAME=web1 已被占用');
    expect(source?.output).toContain(`是另一个源端的公钥 ${next.fingerprint}（thief），本机的是 ${one.fingerprint}`);
    one.write('late');
    two.write('on');
    await two.isMirrored();
    expect(other?.output).not.toContain('SSH 连接已断开');
    await source?.stop();
    next.write('of the next one');
    await next.run();
    await next.isMirrored();
    expect(count(backup.output, '已断开')).toBe(1);
    expect(authorized(pair)).not.toContain(content(`${one.key}.pub`).split(' ')[1]);
  });

  test('are not taken from each other: a second host with a name ends, and both sides say whose it is', async () => {
    await using pair = await Pair.withKeys('claimed');
    const [one, two] = [new Member(pair, 'web1'), new Member(pair, 'web1', 'clone')];
    const backup = pair.start('start-sshd');
    for (const member of [one, two]) member.write('file');
    await one.run();
    const second = two.start();
    expect(await second.exited).toBe(1);
    const file = pair.path('shared', 'sources', 'web1.pub');
    expect(second.output).toContain(
      `SOURCE_NAME=web1 已被占用: ${file} 中是另一个源端的公钥 ${one.fingerprint}（thief），本机的是 ${two.fingerprint}`,
    );
    expect(second.output).toContain('请改用另一个 SOURCE_NAME');
    await backup.shows(
      `源端 web1：另一台主机也要用这个名称，它的公钥 ${two.fingerprint}（thief）没有生效，生效的仍是 ${one.fingerprint}`,
    );
    expect(content(file)).toBe(content(`${one.key}.pub`));
    await one.isMirrored();
    const other = await two.run({ SOURCE_NAME: 'web2' });
    expect(readdirSync(pair.path('shared', 'sources')).sort()).toEqual(['web1.pub', 'web2.pub']); // it claims nothing any more
    expect(count(backup.output, '另一台主机也要用这个名称')).toBe(1);
    await other.stop();
    rmSync(file); // and it takes the place of the first one once the file has changed
    await (await two.run()).stop();
    await backup.shows(`源端 web1：源端公钥已更换，原公钥 ${one.fingerprint} 不再有效`);
    // However soon it comes after its name has changed: it is refused by the former one then, and let in when it logs in anew.
    for (const name of ['web2', 'web1', 'web2', 'web1']) await (await two.run({ SOURCE_NAME: name })).stop();
  });

  test('have one that wins where several hosts start with one name at the same time', async () => {
    await using pair = await Pair.withKeys('race');
    const members = [1, 2, 3, 4].map((n) => new Member(pair, 'web1', `host${n}`));
    const programs = members.map((member) => member.start({ MAX_RETRIES: '1' }));
    await eventually(() => programs.filter(({ output }) => /公钥已共享 ✓|已被占用/.test(output)).length === 4);
    const winners = programs.filter(({ output }) => output.includes('公钥已共享 ✓'));
    expect(winners).toHaveLength(1);
    const winner = members[programs.indexOf(winners[0] as Program)] as Member;
    expect(content(pair.path('shared', 'sources', 'web1.pub')).split(' ')[1]).toBe(
      content(`${winner.key}.pub`).split(' ')[1] as string,
    );
  });

  test('keep their keys while their files are gone, and are forgotten with their directories', async () => {
    await using pair = await Pair.withKeys('gone');
    const [one, two] = [new Member(pair, 'web1'), new Member(pair, 'web2')];
    const backup = pair.start('start-sshd');
    const [source] = await Promise.all([one.run(), two.run()]);
    rmSync(pair.path('shared', 'sources', 'web1.pub'));
    one.write('still mirrored');
    await one.isMirrored();
    await source?.stop();
    renameSync(one.copy, pair.path('aside'));
    await backup.shows(`源端 web1 的公钥文件和目录都已移走：公钥 ${one.fingerprint} 不再用于它`);
    expect(authorized(pair)).not.toContain('sources/web1.pub');
    expect(authorized(pair)).toContain('sources/web2.pub');
    two.write('on');
    await two.isMirrored();
    expect(readdirSync(pair.path('backup'))).toEqual(['web2']);
  });

  test('lose their sessions where their line is taken out of authorized_keys, and others do not', async () => {
    await using pair = await Pair.withKeys('withdrawn-name');
    const [one, two] = [new Member(pair, 'web1'), new Member(pair, 'web2')];
    const backup = pair.start('start-sshd');
    const [source, other] = await Promise.all([one.run(), two.run()]);
    const lines = authorized(pair)
      .split('\n')
      .filter((line) => !line.includes(' web1" '));
    writeFileSync(pair.path('backup-ssh', 'authorized_keys'), lines.join('\n'));
    await backup.shows(
      /\[WARN .*源端 web1：源端公钥的行已从 authorized_keys 中删除，公钥不再有效：已断开它的 1 个连接/,
    );
    await source?.shows('SSH 连接已断开');
    two.write('on');
    await two.isMirrored();
    expect(other?.output).not.toContain('SSH 连接已断开');
    two.publish(); // the line of another one stays where the marker of the one that is gone was left behind
    await sleep(1500);
    expect(authorized(pair)).toContain(' web2" ');
  });

  test('have a connection end that has logged in by their former name, with its next command, so that they come by the new one', async () => {
    await using pair = await Pair.withKeys('former-name');
    const source = new Thief(pair, undefined, 'web1');
    const backup = pair.start('start-sshd');
    await backup.shows('SSH 服务器就绪');
    const control = pair.path('control');
    const connection = pair.keep(
      new Program('ssh', [...source.sshOptions, '-M', '-N', '-S', control, source.host], {}),
    );
    await eventually(() => existsSync(control));
    renameSync(pair.path('shared', 'sources', 'web1.pub'), pair.path('shared', 'sources', 'web2.pub'));
    await backup.shows(/源端 web1 改用名称 web2：.*，已断开 0 个连接/); // nothing has run over it, so that nobody knows whose it is
    await backup.shows('源端 web2：SSH 免密登录配置完成 ✓');
    expect((await source.ssh('-S', control, source.host, '--', 'echo by the first name')).status).not.toBe(0);
    await eventually(() => !connection.running);
    await eventually(async () => (await source.ssh(source.host, '--', 'echo again')).stdout === 'again\n');
  });

  test('find their directory made anew where somebody has replaced it, and compare all of it', async () => {
    await using pair = await Pair.withKeys('exchanged');
    const [one, two] = [new Member(pair, 'web1'), new Member(pair, 'web2')];
    for (const member of [one, two]) member.write('file');
    const backup = pair.start('start-sshd');
    const [, other] = await Promise.all([one.run(), two.run()]);
    await one.isMirrored();
    renameSync(one.copy, pair.path('aside'));
    await backup.shows(/源端 web1：.*已不是原来的目录：已断开它的 1 个连接及其命令，由源端重新比较/);
    await one.isMirrored();
    expect(other?.output).not.toContain('SSH 连接已断开');
  });

  test.skipIf(!mayFail)(
    'are held up by no disk of another one that hangs: a key is replaced, and others come',
    async () => {
      await using pair = await Pair.withKeys('hung-name');
      using disk = await eioAt(pair.path('backup', 'web1'));
      const [one, two, three] = [new Member(pair, 'web1'), new Member(pair, 'web2'), new Member(pair, 'web3')];
      one.publish();
      two.publish();
      const backup = pair.start('start-sshd');
      await eventually(() => authorized(pair).includes(' web2" '));
      await backup.shows('SSH 服务器就绪');
      disk.hang();
      await backup.shows(/\[ERROR .*源端 web1：.*web1 没有应答，请检查磁盘/);
      const next = new Member(pair, 'web2', 'next');
      next.publish();
      await backup.shows(`源端 web2：源端公钥已更换，原公钥 ${two.fingerprint} 不再有效`);
      three.write('file');
      await three.run();
      await three.isMirrored();
      expect(count(backup.output, '没有应答')).toBe(1);
    },
  );

  test.if(mayHaveNamespace())(
    'are refused while a disk of their own is not mounted, also over a restart, and others mirror on',
    async () => {
      await using pair = await Pair.withKeys('own-disk');
      await using namespace = await Namespace.make();
      const [one, two] = [new Member(pair, 'web1'), new Member(pair, 'web2')];
      mkdirSync(one.copy, { recursive: true });
      const mount = () => namespace.run('mount --bind "$1" "$2"', pair.path('disk'), one.copy);
      const start = () => pair.start('start-sshd', {}, namespace.wrapper);
      const isMirrored = () => eventually(() => expectEqual(one.path('source'), pair.path('disk')));
      mkdirSync(pair.path('disk'));
      mount();
      for (const member of [one, two]) member.write('file');
      let backup = start();
      await Promise.all([one.run(), two.run()]);
      await isMirrored();
      namespace.run('umount --lazy "$1"', one.copy);
      const refusal = /\[ERROR .*源端 web1：.*web1 所在的磁盘没有挂载：此前位于挂载点/;
      await backup.shows(refusal);
      for (const turn of ['first', 'second']) {
        for (const member of [one, two]) member.write(turn);
        await two.isMirrored();
        expect(readdirSync(one.copy)).toEqual([]);
        if (turn === 'second') break;
        await backup.stop();
        backup = start();
        await backup.shows(refusal);
      }
      mount();
      await isMirrored();
      expect(readdirSync(one.copy)).toEqual([]);
    },
  );

  test('are refused where something else than a directory has their name on the backup, until it is gone', async () => {
    await using pair = await Pair.withKeys('in-the-way');
    const one = new Member(pair, 'web1');
    mkdirSync(pair.path('outside'));
    mkdirSync(pair.path('backup'));
    symlinkSync(pair.path('outside'), one.copy);
    one.publish();
    one.write('file');
    const backup = pair.start('start-sshd');
    await backup.shows(/\[ERROR .*源端 web1：源端公钥未生效: .*web1 是链接或文件，不是目录/);
    await sleep(1500);
    expect(count(backup.output, '[ERROR')).toBe(1);
    expect(readdirSync(pair.path('outside'))).toEqual([]);
    rmSync(one.copy);
    await one.run();
    await one.isMirrored();
    expect(readdirSync(pair.path('outside'))).toEqual([]);
  });
});

describe.concurrent('a source without a name, and sources with names,', () => {
  test('stand beside each other in no order: one without a name that was first stays, also over a restart', async () => {
    await using pair = await Pair.withKeys('nameless-first');
    const [one, two] = [new Member(pair, ''), new Member(pair, 'web1')];
    let backup = pair.start('start-sshd');
    one.write('file');
    await one.run();
    two.publish();
    const refusal = /\[ERROR .*源端 web1：源端公钥未生效: 已有一个没有名字的源端镜像到 .*请给它也设置 SOURCE_NAME/;
    await backup.shows(refusal);
    await one.isMirrored();
    await backup.stop();
    rmSync(pair.path('backup-ssh'), { recursive: true }); // as of a container that was made anew
    backup = pair.start('start-sshd');
    await backup.shows(refusal);
    one.write('another');
    await one.isMirrored();
    expect(authorized(pair)).not.toContain('web1');
    expect(existsSync(two.copy)).toBe(false);
    await sleep(1500);
    expect(count(backup.output, '[ERROR')).toBe(1);
  });

  test('nor does one come in the place of those with names, when their files are gone and the backup has restarted, until their directories are', async () => {
    await using pair = await Pair.withKeys('named-first');
    const [one, two] = [new Member(pair, 'web1'), new Member(pair, '')];
    let backup = pair.start('start-sshd');
    one.write('file');
    await (await one.run()).stop();
    await one.isMirrored();
    two.publish();
    const refusal = /\[ERROR .*源端公钥未生效: 没有名字的源端会删除具名源端（web1）在 .*的备份。请给它设置 SOURCE_NAME/;
    await backup.shows(refusal);
    await backup.stop();
    for (const path of ['shared/sources', 'backup-ssh']) rmSync(pair.path(path), { recursive: true });
    backup = pair.start('start-sshd', { KEY_RETRIES: '1' });
    await backup.shows(refusal);
    await backup.shows('SSH 服务器就绪');
    expect(authorized(pair)).toBe('');
    const offset = backup.output.length;
    renameSync(one.copy, pair.path('aside'));
    await backup.shows('SSH 免密登录配置完成 ✓', offset);
    two.write('file');
    await two.run();
    await two.isMirrored();
  });

  test('are the same one where that gets a name: it follows by itself, and what was moved is not sent again', async () => {
    await using pair = await Pair.withKeys('renamed');
    const before = new Member(pair, '', 'same');
    for (let n = 0; n < 20; n++) before.write(`file-${n}`, `${n}`.repeat(10_000));
    const backup = pair.start('start-sshd');
    const source = await before.run();
    await before.isMirrored();
    await source.stop();
    mkdirSync(pair.path('backup', 'web1'));
    for (const name of readdirSync(pair.path('backup')).filter((it) => it !== 'web1'))
      renameSync(pair.path('backup', name), pair.path('backup', 'web1', name));
    const names = readdirSync(before.path('source'));
    const inodes = () => names.map((name) => lstatSync(pair.path('backup', 'web1', name)).ino);
    const kept = inodes();
    backup.signal('SIGSTOP'); // so that it mirrors into its new directory for a while by the name that it had
    const after = await before.run({ SOURCE_NAME: 'web1' });
    backup.signal('SIGCONT');
    await backup.shows(/\[WARN .*没有名字的源端改用名称 web1：公钥 SHA256:\S+ 不再用于它/);
    writeFileSync(before.path('source', 'new'), 'new');
    await eventually(() => expectEqual(before.path('source'), pair.path('backup', 'web1')));
    expect(inodes()).toEqual(kept);
    expect(existsSync(pair.path('shared', 'id_rsa.pub'))).toBe(false);
    expect(readdirSync(pair.path('backup'))).toEqual(['web1']);
    expect(count(authorized(pair), content(`${before.key}.pub`).split(' ')[1] ?? '-')).toBe(1);
    await after.stop();
    renameSync(pair.path('backup', 'web1'), pair.path('backup', 'web2'));
    backup.signal('SIGSTOP'); // as one that is busy, and knows the key by its former name for a while
    const renamed = before.start({ SOURCE_NAME: 'web2', MAX_RETRIES: '10' });
    await renamed.shows(/SSH 连接重试.*start-sshd: 拒绝执行：/);
    backup.signal('SIGCONT');
    await renamed.shows('✓ 服务运行中');
    await backup.shows('源端 web1 改用名称 web2');
    await eventually(() => expectEqual(before.path('source'), pair.path('backup', 'web2')));
    expect(readdirSync(pair.path('shared', 'sources'))).toEqual(['web2.pub']);
    expect(backup.output).not.toContain('[ERROR');
  });
});

describe.concurrent('a shared volume', () => {
  test('has no file in sources/ followed, waited for or taken that is no key of a source; each is told once', async () => {
    await using pair = await Pair.withKeys('hostile');
    const [one, two] = [new Member(pair, 'web1'), new Member(pair, 'good')];
    for (const member of [one, two]) member.publish();
    const key = content(`${one.key}.pub`);
    const at = (name: string) => pair.path('shared', 'sources', name);
    for (const name of [
      '..pub',
      '...pub',
      '.history.pub',
      '.pub',
      '-x.pub',
      'a b.pub',
      'new\nline.pub',
      'é.pub',
      `${'x'.repeat(65)}.pub`,
    ])
      writeFileSync(at(name), key);
    symlinkSync(`${two.key}.pub`, at('link.pub'));
    mkdirSync(at('directory.pub'));
    spawnSync('mkfifo', [at('fifo.pub')]);
    writeFileSync(at('large.pub'), 'x'.repeat(10_000_000));
    writeFileSync(at('rubbish.pub'), 'rubbish');
    writeFileSync(at('two.pub'), `${key}${key}`);
    writeFileSync(at('command.pub'), `command="id" ${key}`);
    writeFileSync(at('x-twin.pub'), key);
    writeFileSync(at('GOOD.pub'), content(`${pair.path('source-ssh', 'id_rsa')}.pub`));
    writeFileSync(at('ignored.txt'), key);
    const backup = pair.start('start-sshd');
    await backup.shows('SSH 服务器就绪');
    await backup.shows(/源端 x-twin：源端公钥未生效: 该公钥已用于源端/);
    await sleep(1500);
    const errors = backup.lines.filter((line) => line.startsWith('[ERROR'));
    expect(new Set(errors.map((line) => line.slice(line.indexOf(']')))).size).toBe(errors.length);
    for (const name of [
      '..pub',
      '...pub',
      '.history.pub',
      '.pub',
      '-x.pub',
      'a b.pub',
      'new\\nline.pub',
      'é.pub',
      'link.pub',
      'directory.pub',
      'fifo.pub',
      'large.pub',
    ])
      expect(errors.filter((line) => line.includes(`/sources/${name}：`))).toHaveLength(1);
    for (const name of ['rubbish', 'two', 'command', 'x-twin'])
      expect(errors.filter((line) => line.includes(`源端 ${name}：源端公钥未生效`))).toHaveLength(1);
    expect(errors.filter((line) => line.includes('只有大小写或末尾的点不同'))).toHaveLength(1);
    expect(errors).toHaveLength(13 + 5);
    const names = [...authorized(pair).matchAll(/sources\/(.*)\.pub on/g)].map(([, name]) => name);
    expect(names).toHaveLength(2);
    expect(readdirSync(pair.path('backup')).sort()).toEqual(names.sort() as string[]);
  });

  test.each([
    ['a link', (path: string, pair: Pair) => symlinkSync(pair.path('elsewhere'), path)],
    ['a file', (path: string) => writeFileSync(path, '')],
  ])('whose sources/ is %s is told, and lets nobody in by it', async (_, make) => {
    await using pair = await Pair.withKeys('no-sources');
    const one = new Member(pair, 'web1');
    one.publish();
    renameSync(pair.path('shared', 'sources'), pair.path('elsewhere'));
    make(pair.path('shared', 'sources'), pair);
    const backup = pair.start('start-sshd', { KEY_RETRIES: '1' });
    await backup.shows(/\[ERROR .*忽略了 .*\/sources\/：应为目录，不能是链接/);
    await backup.shows('SSH 服务器就绪');
    expect(authorized(pair)).toBe('');
    expect(await one.start().exited).toBe(1);
  });
});

test.each(['.', '..', 'a/b', '.history', '-x', 'a b', 'x'.repeat(65), '网站'])(
  'SOURCE_NAME=%s is refused with what it should be',
  (name) => {
    const said = mistakesFoundBy(binary('rsync-inotify'), { SOURCE_DIR: '/tmp/', SOURCE_NAME: name });
    expect(said).toContain('SOURCE_NAME');
    expect(said).toContain('应为1 到 64 个字母、数字和 . _ -，不以 . 或 - 开头，例如 web1');
  },
);
