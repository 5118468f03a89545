import { expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { cleanEnv } from '../../processes.ts';
import { ROOT } from '../../project.ts';

setDefaultTimeout(60_000);

/** What --check says under these variables, and its exit status. */
function check(env: Record<string, string>): { status: number | null; lines: string[] } {
  const { status, stdout } = spawnSync(
    process.execPath,
    ['run', '--no-env-file', 'scripts/rsync-inotify.ts', '--check'],
    {
      cwd: ROOT,
      env: { ...cleanEnv(), NO_COLOR: '1', SOURCE_DIR: '/tmp/', ...env },
      encoding: 'utf8',
    },
  );
  return {
    status,
    lines: stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(/^\[ERROR .{19}\] /, '')),
  };
}

test('what rsync and ssh say of their options is told with all other mistakes, in the order of the variables', () => {
  const { status, lines } = check({
    MAX_RETRIES: '0',
    SSH_OPTS: '-o NoSuchOption=1',
    RSYNC_OPTS: '-avz --no-such-option',
    DEST_HOST: 'a b',
  });
  expect(status).toBe(2);
  expect(lines.map((line) => line.replace(/^配置错误: (\w+)=.*/, '$1'))).toEqual([
    ...['DEST_HOST', 'RSYNC_OPTS', 'SSH_OPTS', 'MAX_RETRIES'],
  ]);
  expect(lines[1]).toStartWith('配置错误: RSYNC_OPTS="-avz --no-such-option"：rsync 不接受这些选项：');
  expect(lines[2]).toStartWith('配置错误: SSH_OPTS="-o NoSuchOption=1"：ssh 不接受这些选项：');
});

test.each([
  ['SSH_OPTS', '-V', '不能包含只显示信息的选项，例如 -V'],
  ['SSH_OPTS', 'backup', '只能包含选项，例如 -p 2222'],
  ['SSH_OPTS', '-N', '不能包含 -N、-s、-f 或 -n，否则无法运行 rsync'],
  ['SSH_OPTS', '-p 70000', 'ssh 不接受这些选项：Bad port'],
  ['RSYNC_OPTS', "-a 'open", '引号或反斜杠没有配对'],
  ['RSYNC_OPTS', '-a --delete-nothing', 'rsync 不接受这些选项：'],
  ['RSYNC_OPTS', '-a --password-file=/x', 'rsync:// 目标的密码文件请写入 RSYNC_PASSWORD_FILE'],
  ['RSYNC_OPTS', '-a --delete-before --delete-after', 'rsync 不接受这些选项：rsync: You may not combine multiple'],
  ['RSYNC_OPTS', '-a --exclude-from=/no/such', 'rsync 不接受这些选项：rsync: '],
])('%s="%s" is refused', (name, value, reason) => {
  const { status, lines } = check({ [name]: value });
  expect(status).toBe(2);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toStartWith(`配置错误: ${name}=`);
  expect(lines[0]).toContain(reason);
});

test('mirrors of which one lies in the other are refused', () => {
  const nested = (DEST_HOSTS: string) => check({ DEST_HOSTS, SSH_OPTS: '-F none' });
  expect(nested('a:/data a:/data/below')).toEqual({
    status: 2,
    lines: ['配置错误: DEST_HOSTS 中的 root@a:/data 和 root@a:/data/below 相同或互相包含，两份镜像会互相破坏'],
  });
  expect(nested('a:/data a:/data/').status).toBe(2);
  expect(nested('a:/data a:/database b:/data').status).toBe(0);
});

test.each([
  "-avz --delete --exclude='a b'",
  '-aHAX -e ssh --rsync-path="sudo rsync" -M--fake-super',
  '-a --write-batch=/no/such/batch --port=1 --timeout=1 --files-from=/dev/null --log-file=/no/such/log',
])('all that is right is said to be: %s', (RSYNC_OPTS) => {
  expect(check({ RSYNC_OPTS, SSH_OPTS: '-p 2222' })).toEqual({ status: 0, lines: ['配置有效，所需程序齐全 ✓'] });
});

test('options for daemons alone are taken where all targets that get them are daemons', () => {
  const DEST_HOST = 'rsync://me@127.0.0.1:1/m/';
  const valid = { status: 0, lines: ['配置有效，所需程序齐全 ✓'] };
  expect(check({ DEST_HOST, RSYNC_OPTS: '-av --contimeout=30 --motd' })).toEqual(valid);
  expect(check({ DEST_HOSTS: `${DEST_HOST} localhost`, DEST_RSYNC_OPTS: `${DEST_HOST}: --contimeout=30` })).toEqual(
    valid,
  );
  expect(check({ DEST_HOSTS: `${DEST_HOST} localhost`, RSYNC_OPTS: '-av --contimeout=30' })).toEqual({
    status: 2,
    lines: [expect.stringContaining('--contimeout')],
  });
  expect(check({ DEST_HOST, RSYNC_OPTS: '-av --no-such-option' })).toEqual({
    status: 2,
    lines: [expect.stringMatching(/RSYNC_OPTS=.*rsync 不接受这些选项：/)],
  });
});
