/** What the key of one source can do to another one that mirrors to the same backup: nothing. */

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isRoot, Pair } from '../pair.ts';
import { type Answer, content, eventually, Program } from '../processes.ts';
import { ROOT } from '../project.ts';
import { PLANTED, RECEIVE, REFUSED } from '../refused.ts';
import { makeKey, run, Thief } from '../thief.ts';

setDefaultTimeout(120_000);

const kernels: [string, string[]][] = [['with Landlock', []]];
if (isRoot && spawnSync('unshare', ['-m', 'true']).status === 0)
  kernels.push(['without Landlock', [process.execPath, '--no-env-file', join(ROOT, 'test', 'without-landlock.ts')]]);

/** Paths that are neither within the thief's own directory nor anything that a link in it may lead to. WHOLE is DEST_DIR. */
const ELSEWHERE = [
  ...['WHOLE', 'WHOLE/', 'WHOLE/new', 'WHOLE/.history', 'WHOLE/.history/', 'WHOLE/.history/kept', 'WHOLE/./'],
  ...['OUT/.history', 'OUT/.history/x', 'OUT/secret', 'OUT/deep', 'OUT/deep/new', 'DEST/../outside/deep', 'DEST/..'],
  ...['DEST/../', 'DEST/../.history', 'DEST/../web2', 'DEST/up/outside', 'DEST/whole/', 'DEST/whole/outside/new'],
  ...[
    'DEST/old/',
    'DEST/old/new',
    'WHOLE/WEB1',
    'WHOLE/web1x',
    'WHOLE/web1x/',
    '//WHOLE/outside',
    'WHOLE/web1/../outside',
  ],
];

const COMMANDS = [
  `${RECEIVE} . PATH`,
  `${RECEIVE} --delete . PATH`,
  'start-sshd --rename PATH',
  'start-sshd --errands PATH',
  'start-sshd --identify PATH',
  ...['backup-dir', 'compare-dest', 'copy-dest', 'link-dest', 'partial-dir', 'temp-dir'].flatMap((option) => [
    `${RECEIVE} --${option}=PATH . DEST/`,
    `${RECEIVE} --${option} PATH . DEST/deep/`,
  ]),
];

describe.each(kernels)('the key of one source among several, %s,', (kernel, wrapper) => {
  let pair: Pair;
  let thief: Thief;
  let backup: Program;
  let before: string[];

  beforeAll(async () => {
    pair = await Pair.withKeys('across');
    thief = new Thief(pair, undefined, 'web1');
    makeKey(pair.path('victim'));
    writeFileSync(pair.path('shared', 'sources', 'outside.pub'), content(pair.path('victim.pub')));
    for (const directory of ['web1', '.history/kept', 'outside/.history'])
      mkdirSync(pair.path('backup', directory), { recursive: true });
    for (const file of ['.history/kept/secret', 'outside/.history/secret', 'outside/deep/secret'])
      writeFileSync(pair.path('backup', file), 'SECRETWORD:kept\n');
    const links = { ...PLANTED, whole: '..', old: '../.history', direct: pair.path('backup', 'outside') };
    for (const [name, leads] of Object.entries(links)) symlinkSync(leads, pair.path('backup', 'web1', name));
    before = everything();
    backup = pair.start('start-sshd', { HISTORY_DAYS: '0' }, wrapper);
    await backup.shows('SSH 服务器就绪');
    await eventually(() => content(pair.path('backup-ssh', 'authorized_keys')).includes('sources/outside.pub'));
    pair.keep(new Program('ssh', [...thief.sshOptions, '-M', '-N', '-S', pair.path('control'), thief.host], {}));
    await eventually(() => existsSync(pair.path('control')));
  });
  afterAll(() => pair[Symbol.asyncDispose]());

  /** All that is not the thief's, to be compared. */
  const everything = () => [
    ...thief.outside,
    ...readdirSync(pair.path('backup')).filter((name) => name !== 'web1'),
    ...readdirSync(pair.path('backup', '.history'), { recursive: true, encoding: 'utf8' }).sort(),
    content(pair.path('backup', 'outside', 'secret')),
    content(pair.path('backup', '.history', 'kept', 'secret')),
  ];

  const fill = (text: string) =>
    text
      .replaceAll('DEST', pair.path('backup', 'web1'))
      .replaceAll('OUT', pair.path('backup', 'outside'))
      .replaceAll('WHOLE', pair.path('backup'));

  const ask = (command: string, input?: string): Promise<Answer> =>
    run('ssh', [...thief.sshOptions, '-S', pair.path('control'), thief.host, '--', fill(command)], input);

  const isRefused = async (command: string, reason: string) => {
    const { status, stdout, stderr } = await ask(command);
    const told = stderr.match(/^start-sshd: .*$/m)?.[0] ?? `${stderr}${backup.output}`;
    expect({ command, told, status, stdout }).toMatchObject({
      told: expect.stringContaining(reason),
      status: 1,
      stdout: '',
    });
    expect(everything()).toEqual(before);
  };

  /** Does several at a time, for each command is a session of its own. */
  const each = async (commands: [string, string][]) => {
    const left = [...commands];
    const work = async () => {
      for (let next = left.pop(); next; next = left.pop()) await isRefused(...next);
    };
    await Promise.all([1, 2, 3, 4].map(work)); // a connection has ten sessions, and those that have ended may be there for a moment
  };

  test('is refused whatever the key of the only one is refused', () => each(REFUSED));

  test('is refused what names the directory of another one, or what they lie in', () =>
    each(
      ELSEWHERE.flatMap((path) =>
        COMMANDS.map((command): [string, string] => [command.replace('PATH', path), '不在 DEST_DIR=']),
      ),
    ));

  test('reads nothing of another one, for which alone its owner has given leave', async () => {
    for (const path of ['OUT/', 'WHOLE/', 'DEST/direct/', 'DEST/planted/', 'DEST/../outside/'])
      await isRefused(`rsync --server --sender -logDtpre.iLsfxCIvu . ${path}`, '不在 DEST_DIR=');
  });

  test('renames and deletes nothing of another one by name, through a link or upwards', async () => {
    const orders = [
      'planted/secret',
      'direct/secret',
      '../outside/secret',
      'whole/outside/secret',
      'planted/../secret',
    ];
    for (const order of orders) {
      const batch = ['1000', `r${order}`, 'stolen', `f${order}`, 'dplanted/deep', `rfile`, order, '', ''].join('\0');
      writeFileSync(pair.path('backup', 'web1', 'file'), 'content');
      const { stdout } = await ask('start-sshd --errands DEST/', batch);
      expect(stdout).toStartWith('ready\n0 0 ');
      expect((await ask('start-sshd --rename DEST/', `${order}\0stolen\0file\0${order}\0`)).stdout).toBe('0\n');
      expect(everything()).toEqual(before);
    }
  });

  test('transfers nothing through a link that leads there, however rsync is asked', async () => {
    mkdirSync(pair.path('source', 'planted', 'deep'), { recursive: true });
    mkdirSync(pair.path('source', 'direct'));
    for (const name of ['planted/secret', 'planted/new', 'planted/deep/secret', 'direct/secret', 'direct/new'])
      writeFileSync(pair.path('source', name), 'overwritten');
    const target = `${thief.host}:${pair.path('backup', 'web1')}/`;
    const links = () => {
      for (const name of ['planted', 'direct'])
        rmSync(pair.path('backup', 'web1', name), { recursive: true, force: true });
      symlinkSync('../outside', pair.path('backup', 'web1', 'planted'));
      symlinkSync(pair.path('backup', 'outside'), pair.path('backup', 'web1', 'direct'));
    };
    for (const options of [
      ['-rR'],
      ['-aR', '--inplace'],
      ['-a', '--delete'],
      ['-aK'],
      ['-aR', '--append', '--delete'],
    ]) {
      links();
      const names = ['planted', 'direct'].map((name) => `${pair.path('source')}/./${name}/`);
      await thief.rsync(...options, '--no-implied-dirs', ...names, target);
      expect(everything()).toEqual(before);
    }
    // A link that comes in the place of a directory while rsync is there.
    links();
    for (const name of ['planted', 'direct']) rmSync(pair.path('backup', 'web1', name));
    mkdirSync(pair.path('backup', 'web1', 'planted'));
    const at = (name: string) => pair.path('backup', 'web1', name);
    const replace = (from: string, to: string) => {
      rmSync(at(to), { recursive: true, force: true }); // rsync may have made one where there was none
      renameSync(at(from), at(to));
    };
    const swap = setInterval(() => {
      for (const [from, to] of [
        ['planted', 'aside'],
        ['direct', 'planted'],
        ['planted', 'direct'],
        ['aside', 'planted'],
      ] as const) {
        try {
          if (existsSync(at(from))) replace(from, to);
        } catch {} // it has just been written into
      }
    }, 1);
    symlinkSync('../outside', pair.path('backup', 'web1', 'direct'));
    for (let n = 0; n < 5; n++)
      await thief.rsync('-r', '--ignore-times', `${pair.path('source', 'planted')}/`, `${target}planted/`);
    clearInterval(swap);
    expect(everything()).toEqual(before);
  });

  test('becomes no other one by a variable, and gets no shell, no files by sftp or scp, and no way to sockets or ports', async () => {
    const sets = ['START_SSHD_SOURCE=outside', `DEST_DIR=${pair.path('backup')}`, 'START_SSHD_ADMISSION=/tmp/x'];
    const options = sets.flatMap((set) => ['-o', `SetEnv=${set}`]).concat('-o', 'SendEnv=*');
    const asked = await thief.ssh(...options, thief.host, fill(`${RECEIVE} . OUT/`));
    expect(asked.stderr).toContain(`不在 DEST_DIR=${pair.path('backup', 'web1')} 之内`);
    expect((await thief.ssh(thief.host)).stderr).toContain('不提供 shell');
    const words = thief.sshOptions.map((word) => (word === '-p' ? '-P' : word));
    for (const protocol of ['-O', '-s']) {
      const secret = `${thief.host}:${pair.path('backup', 'outside', 'secret')}`;
      for (const paths of [
        [secret, pair.path('got')],
        [`${thief.key}.pub`, secret],
      ])
        expect((await run('scp', [...words, protocol, ...paths])).status).not.toBe(0);
    }
    expect(existsSync(pair.path('got'))).toBe(false);
    const socket = `${pair.path('backup-status.json')}.sock`;
    const [control, tcp] = await thief.ask(['openssh_forwardOutStreamLocal', socket], ['forwardIn', '127.0.0.1', 0]);
    expect([control?.said, tcp?.said]).toEqual([
      expect.stringContaining('open failed'),
      expect.stringContaining('Unable to bind'),
    ]);
    expect((await thief.ssh('-W', `127.0.0.1:${pair.port}`, thief.host)).stderr).toContain('stdio forwarding failed');
    expect(everything()).toEqual(before);
  });

  test('reads no line of a file of another one that a link of its own makes a list of rules', async () => {
    const own = (...names: string[]) => pair.path('backup', 'web1', 'rules', ...names);
    mkdirSync(pair.path('rules', 'below'), { recursive: true });
    writeFileSync(pair.path('rules', 'below', 'file'), '');
    for (const filter of [': .f', 'dir-merge,n .f', ':C .f', `: ${own('.f')}`]) {
      rmSync(own(), { recursive: true, force: true });
      mkdirSync(own('below'), { recursive: true });
      symlinkSync('../../outside/secret', own('.f'));
      symlinkSync(pair.path('backup', 'outside', 'secret'), own('below', '.f'));
      writeFileSync(own('below', 'victim'), '');
      const { stdout, stderr } = await thief.rsync(
        ...['-avv', '--delete', '-f', filter, `${pair.path('rules')}/`, `${thief.host}:${own()}/`],
      );
      expect(stdout + stderr).not.toMatch(/SECRETWORD|:kept|of the backup|rule from .* line \d/); // newer rsyncs say the line, and not what it holds
      expect(everything()).toEqual(before);
    }
  });

  test(`was told of, by its name`, () => {
    expect(backup.output).toMatch(/\[WARN .*\] 源端 web1：拒绝执行源端的命令：/);
    expect(backup.output).not.toContain('源端 outside：拒绝');
    expect(kernel).not.toBe('');
  });
});
