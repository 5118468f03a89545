/** Backups without start-sshd: what any sshd with an rsync is good for, a NAS among them. */

import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { quote } from 'shlex';
import { isRoot, ordinaryUser, Pair } from '../pair.ts';
import { cleanEnv, content, eventually } from '../processes.ts';
import { binary } from '../project.ts';
import { expectEqual } from '../tree.ts';

setDefaultTimeout(180_000);

const COARSE = '不接受纳秒精度';

/** An rsync that knows no more than one before 3.1.3, or such a one itself where OLD_RSYNC names it. */
function oldRsync(pair: Pair): string {
  if (process.env.OLD_RSYNC) return process.env.OLD_RSYNC;
  const script = `#!/bin/sh
for word; do case $word in -@-1) echo 'rsync: -@-1: unknown option' >&2; exit 1;; esac; done
exec rsync "$@"
`;
  writeFileSync(pair.path('old-rsync'), script, { mode: 0o755 });
  return pair.path('old-rsync');
}

const RRSYNC = Bun.which('rrsync');
const SUDO = isRoot ? Bun.which('sudo') : null;

/** A user of the backup, whose home directory holds the key and the mirror. */
type Login = ReturnType<typeof loginOf>;

function loginOf() {
  const user = ordinaryUser();
  spawnSync('usermod', ['-p', '*', user.name]); // sshd lets nobody in whose account is locked
  const sudoers = `/etc/sudoers.d/${user.name}`;
  const backup = `${user.home}/mirror`;
  mkdirSync(backup);
  chownSync(backup, user.uid, user.gid);
  return {
    ...{ user, backup, sudoers },
    env: { DEST_HOST: `${user.name}@127.0.0.1`, DEST_DIR: `${backup}/` },
    [Symbol.dispose]: () => {
      for (const path of [sudoers, user.home]) rmSync(path, { recursive: true, force: true });
      user[Symbol.dispose]();
    },
  };
}

const BY_SUDO = `-avz --delete --rsync-path='sudo -n rsync'`;

/** Lets a user start rsync as root, and nothing else look at the backup. */
function mayStartRsync({ user, sudoers, backup }: Login): void {
  writeFileSync(sudoers, `${user.name} ALL=(root) NOPASSWD: ${Bun.which('rsync')}\n`, { mode: 0o440 });
  chownSync(backup, 0, 0);
  chmodSync(backup, 0o700);
}

interface Kind {
  name: string;
  needs?: string | boolean | null;
  /** Whether it has a user of its own. */
  hasUser?: boolean;
  prepare?: (login: Login) => void;
  sshd?: (pair: Pair) => { confinement?: string; more?: string[] };
  env?: (pair: Pair) => Record<string, string>;
  isCoarse?: boolean;
  /** Whose the files in the backup are, with the source's file that is another's. */
  keeps?: 'owners' | 'owners aside' | 'no owners';
  mayRead?: boolean;
}

const KINDS: Kind[] = [
  {
    name: 'a shell, a banner and one session a connection',
    sshd: (pair) => {
      writeFileSync(pair.path('banner'), 'Authorised use only.\n[ERROR] not a line of ours\n');
      return { more: ['MaxSessions=1', `Banner=${pair.path('banner')}`] };
    },
  },
  {
    name: 'a key that rrsync confines',
    needs: RRSYNC,
    sshd: (pair) => ({ confinement: `restrict,command="${RRSYNC} -wo -no-lock ${pair.path('backup')}"` }),
    env: () => ({ DEST_DIR: '/' }),
    isCoarse: true,
    mayRead: false,
  },
  {
    name: 'a key that rrsync lets read as well',
    needs: RRSYNC,
    sshd: (pair) => ({ confinement: `restrict,command="${RRSYNC} -no-lock ${pair.path('backup')}"` }),
    env: () => ({ DEST_DIR: '/' }),
    isCoarse: true,
  },
  {
    name: 'an rsync before 3.1.3',
    env: (pair) => ({ RSYNC_OPTS: `-avz --delete --rsync-path=${oldRsync(pair)}` }),
    isCoarse: true,
  },
  { name: 'a user who is not root', needs: isRoot, hasUser: true, keeps: 'no owners' },
  {
    name: 'a user without a home directory',
    needs: isRoot,
    hasUser: true,
    prepare: ({ user }) => spawnSync('usermod', ['-d', '/nowhere', user.name]),
    keeps: 'no owners',
  },
  {
    name: 'a user who may start rsync as root',
    needs: SUDO,
    hasUser: true,
    prepare: mayStartRsync,
    env: () => ({ RSYNC_OPTS: BY_SUDO }),
  },
  {
    name: 'a user whose rsync keeps owners and modes aside',
    needs: isRoot,
    hasUser: true,
    env: () => ({ RSYNC_OPTS: '-avz --delete -M--fake-super' }),
    keeps: 'owners aside',
  },
];

/** Owner and group of the source's file that is another's. */
const [UID, GID] = [1234, 4321];

test.each(KINDS)('a backup with $name has every change', async (kind) => {
  const { needs = true, sshd, isCoarse = false, keeps = 'owners', mayRead = true } = kind;
  if (!needs) return console.log('skipped: it is not installed here, or needs root');
  using login = kind.hasUser ? loginOf() : undefined; // removed after all that runs as that user
  await using pair = await Pair.withKeys('plain-sshd');
  if (login) kind.prepare?.(login);
  const backup = login?.backup ?? pair.path('backup');
  const env = { SYNC_INTERVAL: '0', ...login?.env, ...kind.env?.(pair) };
  mkdirSync(pair.path('source', 'sub'));
  mkdirSync(backup, { recursive: true });
  writeFileSync(pair.path('source', 'sub', 'kept'), 'kept', { mode: 0o640 });
  if (isRoot) chownSync(pair.path('source', 'sub', 'kept'), UID, GID);
  writeFileSync(`${backup}/stale`, 'stale');
  await pair.startPlainSshd(pair.port, { ...(login && { keys: `${login.user.home}/keys` }), ...sshd?.(pair) });
  const source = pair.start('rsync-inotify', env);
  await source.shows('✓ 服务运行中');
  const ask = (...args: string[]) => {
    const environment = { ...cleanEnv(), ...pair.sourceEnv, ...env };
    return spawnSync(binary('rsync-inotify'), args, { env: environment, encoding: 'utf8' });
  };
  const unlike = keeps === 'owners' ? [] : ['--no-o', '--no-g'];
  const isMirrored = () =>
    eventually(() => expectEqual(pair.path('source'), backup, unlike)).catch((cause) => {
      throw new Error(`${cause}\n${source.output}`);
    });
  await isMirrored();
  const write = (text: string) => {
    writeFileSync(pair.path('source', 'file'), text);
    utimesSync(pair.path('source', 'file'), 1_000_000_000.25, 1_000_000_000.25 + Number(text.at(-1)) / 10);
  };
  for (const text of ['text 1', 'text 2', 'text 3']) {
    write(text);
    await eventually(() => content(`${backup}/file`) === text);
  }
  renameSync(pair.path('source', 'sub'), pair.path('source', 'renamed'));
  rmSync(pair.path('source', 'file'));
  await isMirrored();
  expect(source.output.split(COARSE)).toHaveLength(isCoarse ? 2 : 1);
  expect(source.output).not.toMatch(/^\[ERROR/m);
  if (isRoot) expect(statSync(`${backup}/renamed/kept`).uid === UID).toBe(keeps === 'owners');
  expect(ask('--verify')).toMatchObject({ status: 0, stdout: expect.stringContaining('相同') });
  if (!mayRead) return;
  const { status, stdout } = ask('--restore', '--to', pair.path('restored'));
  expect([status, stdout]).toEqual([0, expect.stringContaining('恢复完成，与备份相同')]);
  expectEqual(pair.path('source'), pair.path('restored'), keeps === 'no owners' ? unlike : []);
});

test('an empty source is compared with the backup by the rsync that the options name, too', async () => {
  if (!SUDO) return console.log('skipped: sudo is not installed here, or it is not root');
  using login = loginOf();
  await using pair = await Pair.withKeys('empty-source');
  mayStartRsync(login);
  writeFileSync(`${login.backup}/kept`, 'kept');
  await pair.startPlainSshd(pair.port, { keys: `${login.user.home}/keys` });
  const source = pair.start('rsync-inotify', { ...login.env, RSYNC_OPTS: BY_SUDO });
  expect(await source.exited).toBe(1);
  expect(source.output).toContain('源目录为空而备份不为空');
});

test.each([
  ['a sudo that asks for a password', 'sudo rsync', '备份端的 sudo 要求输入密码'],
  ['an rsync without ACLs', 'echo rsync: ACLs are not supported on this server >&2; false', '不支持 ACLs，.*写 --no-A'],
])('%s is told of with what to do', async (_, path, advice) => {
  if (!SUDO) return console.log('skipped: sudo is not installed here, or it is not root');
  using login = loginOf();
  await using pair = await Pair.withKeys('no-rsync');
  await pair.startPlainSshd(pair.port, { keys: `${login.user.home}/keys` });
  const source = pair.start('rsync-inotify', { ...login.env, RSYNC_OPTS: `-avz --rsync-path=${quote(path)}` });
  expect(await source.exited).toBe(1);
  expect(source.output).toMatch(new RegExp(`ERROR.*同步失败 \\(退出码: \\d+\\)：.*${advice}`));
});

test('a shell that prints something when it runs a command is named, with what it prints', async () => {
  if (!isRoot) return console.log('skipped: only root makes users');
  using login = loginOf();
  await using pair = await Pair.withKeys('loud-shell');
  const shell = `${login.user.home}/shell`;
  writeFileSync(shell, '#!/bin/sh\necho Welcome to the NAS\nexec /bin/sh "$@"\n', { mode: 0o755 });
  spawnSync('usermod', ['-s', shell, login.user.name]);
  writeFileSync(pair.path('source', 'file'), 'file');
  await pair.startPlainSshd(pair.port, { keys: `${login.user.home}/keys` });
  const source = pair.start('rsync-inotify', { ...login.env, MAX_RETRIES: '1' });
  expect(await source.exited).toBe(1);
  expect(source.output).toMatch(/ERROR.*登录测试失败 \(退出码: 2\)：.*（Welcome to the NAS），rsync 因此无法工作/);
  expect(existsSync(`${login.backup}/file`)).toBe(false);
});
