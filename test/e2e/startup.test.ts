import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectionsOf, copyOfBinary, isRoot, Pair, theOnly } from '../pair.ts';
import { cleanEnv, eventually, masked } from '../processes.ts';
import { binary } from '../project.ts';

setDefaultTimeout(120_000);

/** The guide's transcript of the backup, chapter 4.1, step 3. */
const BACKUP_TRANSCRIPT = `[TIME] ==========================================
[TIME] SSH 服务器 - 自动配置启动
[TIME] ==========================================
[TIME] 生成 SSH 主机密钥...
[TIME] SSH 主机密钥生成完成 ✓
[TIME] 配置 SSH 服务...
[TIME] SSH 配置完成 ✓
[TIME] 等待源端公钥...
[INFO TIME] 等待源端生成公钥... (1/30)
[TIME] 发现源端公钥，配置授权...
[TIME] SSH 免密登录配置完成 ✓
[TIME] 启动 SSH 服务...
[TIME] SSH 服务已启动 ✓
[TIME]   PID: NUMBER
[TIME]   端口: PORT
[TIME]   主机名: HOSTNAME
[TIME]   IP 地址: 127.0.0.1
[TIME] ==========================================
[TIME] SSH 服务器就绪，等待连接...
[TIME] ==========================================`;

/** The guide's transcript of the source, chapter 4.1, step 4; the list of events goes on after the guide's five. */
const SOURCE_TRANSCRIPT = `[TIME] ==========================================
[TIME] Rsync + Inotify 自动化实时同步服务
[TIME] ==========================================
[TIME] 版本: 自动化 v1.0
[TIME] 配置信息：
[TIME]   源目录: /data/source/
[TIME]   目标主机: rsync-backup
[TIME]   目标目录: /data/backup/
[TIME]   Rsync 选项: -avz --delete
[TIME]   同步间隔: 5秒
[TIME]   最大重试: 10次
[TIME] ==========================================
[TIME] ==========================================
[TIME] 配置 SSH 密钥（自动化）
[TIME] ==========================================
[TIME] 生成 SSH 密钥对...
[TIME] SSH 密钥生成完成 ✓
[TIME] 共享公钥到备份服务器...
[TIME] 公钥已共享 ✓
[TIME] ==========================================
[TIME] 等待 SSH 服务就绪
[TIME] ==========================================
[TIME] 目标主机: HOST:PORT
[TIME] SSH 服务已就绪 ✓
[TIME] ==========================================
[TIME] 测试 SSH 连接
[TIME] ==========================================
[TIME] SSH 免密登录测试成功 ✓
[TIME] ==========================================
[TIME] 首次全量同步
[TIME] ==========================================
[TIME] 同步成功 (耗时: N秒) ✓
[TIME] 首次全量同步完成 ✓
[TIME] ==========================================
[TIME] 实时监控已启动
[TIME] ==========================================
[TIME] 监控目录: /data/source/
[TIME] 批量同步间隔: 5秒
[TIME] 监控事件: CREATE, MODIFY, DELETE, MOVED_TO, CLOSE_WRITE, MOVED_FROM, ATTRIB, DELETE_SELF, MOVE_SELF, UNMOUNT, Q_OVERFLOW
[TIME] ==========================================
[TIME] ✓ 服务运行中，实时监控文件变化...`;

/** Runs one of the programs to its end. */
function run(name: string, args: string[], env: Record<string, string> = {}) {
  const { stdout, status } = spawnSync(binary(name), args, {
    env: { ...cleanEnv(), NO_COLOR: '1', ...env },
    encoding: 'utf8',
    timeout: 20_000,
  });
  return { stdout, status };
}

describe('the start-up log', () => {
  test('is the guide’s, line by line, on both sides', async () => {
    await using pair = await Pair.make('transcript');
    const backup = pair.start('start-sshd');
    await backup.shows('(1/30)');
    const source = pair.start('rsync-inotify');
    await source.shows('✓ 服务运行中');
    await source.shows('sending incremental file list'); // rsync's own words
    await backup.shows('SSH 服务器就绪');

    const sourceLines = masked(source.lines, {
      '/data/source/': `${pair.path('source')}/`,
      '/data/backup/': `${pair.path('backup')}/`,
      'HOST:PORT': `127.0.0.1:${pair.port}`,
      'rsync-backup': pair.sourceEnv.DEST_HOST ?? '',
    });
    expect(sourceLines.join('\n').replace(/耗时: \d+秒/, '耗时: N秒')).toBe(SOURCE_TRANSCRIPT);

    const ready = backup.output.slice(0, backup.output.indexOf('SSH 服务器就绪')).trimEnd().split('\n').length + 1;
    const backupLines = masked(backup.lines.slice(0, ready), { PORT: String(pair.port), HOSTNAME: hostname() });
    const others = /\(([2-9]|\d\d)\/30\)|上次运行遗留的/; // making the key may take long; another test may have left something
    const once = backupLines.filter((line) => !others.test(line));
    expect(once.join('\n').replace(/PID: \d+/, 'PID: NUMBER')).toBe(BACKUP_TRANSCRIPT);
  });

  test('names an existing key pair and existing host keys instead of making new ones', async () => {
    await using pair = await Pair.make('again');
    const first = await pair.run();
    const key = readFileSync(pair.path('source-ssh', 'id_rsa'), 'utf8');
    const hostKey = readFileSync(pair.path('host-keys', 'ssh_host_ed25519_key'), 'utf8');
    expect(await first.source.stop()).toBe(0);
    expect(await first.backup.stop()).toBe(0);

    const second = await pair.run();
    await second.source.shows('SSH 密钥已存在 ✓');
    await second.backup.shows('SSH 主机密钥已存在 ✓');
    expect(readFileSync(pair.path('source-ssh', 'id_rsa'), 'utf8')).toBe(key);
    expect(readFileSync(pair.path('host-keys', 'ssh_host_ed25519_key'), 'utf8')).toBe(hostKey);
  });

  test('is coloured in the brackets alone, unless NO_COLOR is set', () => {
    const { stdout } = run('rsync-inotify', ['--nonsense'], { NO_COLOR: '' });
    expect(stdout.replaceAll('\u001b', 'ESC')).toMatch(/^ESC\[31m\[ERROR [-\d]{10} [:\d]{8}\]ESC\[39m 用法错误/);
    expect(run('rsync-inotify', ['--nonsense']).stdout).toMatch(/^\[ERROR [-\d]{10} [:\d]{8}\] 用法错误/);
  });
});

describe('the keys', () => {
  test('are made private from the first moment, and only the host keys that are missing are made', async () => {
    await using pair = await Pair.make('keys');
    mkdirSync(pair.path('host-keys'));
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', pair.path('host-keys', 'ssh_host_ed25519_key')]);
    const kept = readFileSync(pair.path('host-keys', 'ssh_host_ed25519_key'), 'utf8');
    await pair.run();
    expect(readFileSync(pair.path('host-keys', 'ssh_host_ed25519_key'), 'utf8')).toBe(kept);
    const mode = (...names: string[]) => statSync(pair.path(...names)).mode & 0o777;
    expect(mode('host-keys', 'ssh_host_rsa_key')).toBe(0o600);
    expect(mode('host-keys', 'ssh_host_ecdsa_key')).toBe(0o600);
    expect(mode('source-ssh')).toBe(0o700);
    expect(mode('source-ssh', 'id_rsa')).toBe(0o600);
    expect(mode('backup-ssh')).toBe(0o700);
    expect(mode('backup-ssh', 'authorized_keys')).toBe(0o600);
    const { stdout } = spawnSync('ssh-keygen', ['-l', '-f', pair.path('shared', 'id_rsa.pub')], { encoding: 'utf8' });
    expect(stdout).toMatch(/^3072 SHA256:.*\(RSA\)/);
  });

  test('get a lost public half back from the private one', async () => {
    await using pair = await Pair.make('half');
    mkdirSync(pair.path('source-ssh'), { mode: 0o700 });
    spawnSync('ssh-keygen', ['-q', '-t', 'rsa', '-N', '', '-f', pair.path('source-ssh', 'id_rsa')]);
    spawnSync('rm', [pair.path('source-ssh', 'id_rsa.pub')]);
    await pair.run();
    expect(existsSync(pair.path('shared', 'id_rsa.pub'))).toBe(true);
  });
});

describe('bad configuration', () => {
  const wrong: [string, string, string][] = [
    ['SOURCE_DIR', '/no/such/directory', '应为已存在且当前用户可读的目录 (ENOENT)'],
    ['SOURCE_DIR', '/etc/os-release/', '应为'],
    ['SOURCE_DIR', binary('rsync-inotify'), '应为目录'],
    ['DEST_HOST', '-oProxyCommand=reboot', '应为 [user@]host'],
    ['DEST_HOST', 'two words', '应为 [user@]host'],
    ['DEST_DIR', '/a\nb', '应为目标主机上的目录'],
    ['DEST_DIR', ':module', '应为目标主机上的目录'],
    ['RSYNC_OPTS', "--exclude='open", '引号或反斜杠没有配对'],
    ['RSYNC_OPTS', '-avz --no-such-option', 'rsync 不接受这些选项：'],
    ['RSYNC_OPTS', 'avz --delete', '只能包含选项'],
    ['RSYNC_OPTS', '-avz -- /etc', '只能包含选项'],
    ['RSYNC_OPTS', '-avz --exclude .git node_modules', '只能包含选项，例如 -avz --delete：“node_modules” 不是选项'],
    ['RSYNC_OPTS', '-avz –delete', '只能包含选项：“–delete” 开头的长横线不是连字符'],
    ['RSYNC_OPTS', '-avzn --delete', '不能包含 -n：只是演练'],
    ['RSYNC_OPTS', '-a --daemon', '不能包含 --daemon：会让 rsync 作为服务端运行'],
    ['RSYNC_OPTS', '-a --remove-source-files', '不能包含 --remove-source-files：会删除源目录中已经传输的文件'],
    ['RSYNC_OPTS', '-a --rsh=rsh', '不能包含 --rsh：连接总是由 ssh 建立'],
    ['RSYNC_OPTS', '-lpt', '没有 -a 或 -r'],
    ['RSYNC_OPTS', '-a --append -W', 'rsync 不接受这些选项：rsync: --append cannot be used with --whole-file'],
    ['RSYNC_OPTS', '-a --contimeout=5', 'rsync 不接受这些选项：The --contimeout option may only be used'],
    ['SSH_OPTS', '-o "open', '引号或反斜杠没有配对'],
    ['SSH_OPTS', '-o NoSuchOption=1', 'ssh 不接受这些选项：'],
    ['SSH_OPTS', '-p 70000', 'ssh 不接受这些选项：Bad port'],
    ['SSH_OPTS', '2222', '只能包含选项'],
    ['SSH_OPTS', '-V', '不能包含只显示信息的选项'],
    ['SSH_OPTS', '-N', '不能包含 -N'],
    ['SSH_DIR', '~/.ssh', '应为目录的完整路径'],
    ['SSH_DIR', '/x/$\u007bHOME}', '应为目录的完整路径'],
    ['SHARED_KEYS_DIR', '/x\n[2025-10-09 12:00:00] forged', '应为目录的完整路径'],
    ['SYNC_INTERVAL', 'soon', '应为 0 到 2000000 之间的秒数'],
    ['SYNC_INTERVAL', '-1', '应为 0 到 2000000 之间的秒数'],
    ['SYNC_INTERVAL', '99999999', '应为 0 到 2000000 之间的秒数'],
    ['MAX_RETRIES', '0', '应为 1 到 1000000 之间的整数'],
    ['MAX_RETRIES', '1.5', '应为 1 到 1000000 之间的整数'],
    ['MAX_LAG', '-1', '应为 0 到 2000000 之间的秒数'],
    ['STATUS_FILE', '/tmp', '应为普通文件，不能是目录或设备'],
    ['STATUS_FILE', '/dev/null', '应为普通文件，不能是目录或设备'],
    ['LOG_FORMAT', 'xml', '应为 text 或 json'],
    ['LOG_FILE', '~/sync.log', '应为文件的完整路径；~ 不会展开'],
    ['LOG_MAX_SIZE', '10', '应为整数加单位 K、M 或 G'],
    ['LOG_MAX_FILES', '0', '应为 1 到 999 之间的整数'],
    ['METRICS_FILE', '/tmp/', '应为文件的完整路径'],
    ['METRICS_PORT', '65536', '应为 1 到 65535 之间的端口'],
    ['METRICS_LISTEN', 'localhost', '应为 IP 地址'],
    ['METRICS_HOSTS', 'status.example.org http://other', '应为主机名，以空格或逗号分隔'],
    ['METRICS_HOSTS', 'status.example.org:80', '应为主机名，以空格或逗号分隔'],
    ['METRICS_HOSTS', '*.example.org', '应为主机名，以空格或逗号分隔'],
    ['METRICS_HOSTS', '状态.example', '应为主机名，以空格或逗号分隔'],
  ];
  test.each(wrong)('of the source, %s=%j, is named with what is expected', (name, value, expected) => {
    const { stdout, status } = run('rsync-inotify', ['--check'], { SOURCE_DIR: '/tmp', [name]: value });
    expect(stdout).toContain(`配置错误: ${name}="${value.replace('\n', '\\n')}"：${expected}`);
    expect(stdout.trim().split('\n')).toHaveLength(1);
    expect(status).toBe(2);
  });

  test.each([
    ['/tmp/./', '-aR', '与 -R 一起使用时应为不含 /./ 的完整路径'],
    ['/tmp', '-d', 'RSYNC_OPTS 只复制一层'],
  ])('of the source, SOURCE_DIR=%s under %s, is named with what is expected', (SOURCE_DIR, RSYNC_OPTS, expected) => {
    const { stdout, status } = run('rsync-inotify', ['--check'], { SOURCE_DIR, RSYNC_OPTS });
    expect(stdout).toContain(`配置错误: SOURCE_DIR="${SOURCE_DIR}"：${expected}`);
    expect(status).toBe(2);
  });

  const wrongForSshd: [string, string, string][] = [
    ['SSHD_PORT', '65536', '应为 1 到 65535 之间的整数'],
    ['SSHD_PORT', 'ssh', '应为 1 到 65535 之间的整数'],
    ['SSHD_LISTEN', 'localhost', '应为 IP 地址'],
    ['KEY_RETRIES', 'many', '应为 1 到 1000000 之间的整数'],
    ['SSH_DIR', '/a"b', '应为目录的完整路径'],
    ['DEST_DIR', '~/backup', '应为目录的完整路径'],
  ];
  test.each(wrongForSshd)('of the backup, %s=%j, is named with what is expected', (name, value, expected) => {
    const { stdout, status } = run('start-sshd', ['--check'], { [name]: value });
    expect(stdout).toContain(`配置错误: ${name}="${value}"：${expected}`);
    expect(status).toBe(2);
  });

  test('is reported all at once, also at a start without --check, and nothing is done', async () => {
    await using pair = await Pair.make('mistakes');
    const source = pair.start('rsync-inotify', { SYNC_INTERVAL: 'x', MAX_RETRIES: 'y', SOURCE_DIR: '/nowhere' });
    expect(await source.exited).toBe(2);
    expect(source.lines).toHaveLength(3);
    const rehearsal = pair.start('rsync-inotify', { RSYNC_OPTS: '-avn' });
    expect(await rehearsal.exited).toBe(2);
    expect(rehearsal.lines).toHaveLength(1);
    const within = pair.start('rsync-inotify', { SYNC_INTERVAL: 'x', STATUS_FILE: pair.path('source', 'status.json') });
    expect(await within.exited).toBe(2);
    expect(within.lines).toHaveLength(2);
    expect(within.output).toMatch(/SYNC_INTERVAL=.*\n.*STATUS_FILE=/);
    expect(existsSync(pair.path('source-ssh'))).toBe(false);
    const backup = pair.start('start-sshd', { SSHD_PORT: 'x', KEY_RETRIES: 'y', SSHD_LISTEN: 'z' });
    expect(await backup.exited).toBe(2);
    expect(backup.lines).toHaveLength(3);
    expect(existsSync(pair.path('host-keys'))).toBe(false);
  });

  test('of a source directory that may not be read is named', () => {
    const directory = mkdtempSync(join(tmpdir(), 'unreadable-'));
    try {
      const program = copyOfBinary('rsync-inotify', directory);
      chmodSync(directory, 0o755);
      mkdirSync(join(directory, 'source'), { mode: 0 });
      const { stdout, status } = spawnSync(program, ['--check'], {
        env: { ...cleanEnv(), HOME: directory, NO_COLOR: '1', SOURCE_DIR: join(directory, 'source') },
        encoding: 'utf8',
        ...(isRoot ? { uid: 65534, gid: 65534, cwd: '/' } : {}), // root may read everything
      });
      expect(stdout).toContain('应为已存在且当前用户可读的目录 (EACCES)');
      expect(status).toBe(2);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe('flags', () => {
  test('--check says that all is well', () => {
    expect(run('rsync-inotify', ['--check'], { SOURCE_DIR: '/tmp' })).toEqual({
      stdout: '配置有效，所需程序齐全 ✓\n',
      status: 0,
    });
    expect(run('start-sshd', ['--check']).status).toBe(0);
  });

  test.each(['rsync-inotify', 'start-sshd'])('%s --version and --help answer', (name) => {
    expect(run(name, ['--version']).stdout).toMatch(new RegExp(`^${name} \\d+\\.\\d+\\.\\d+\\n$`));
    expect(run(name, ['--help']).stdout).toContain(`用法: ${name}`);
    expect(run(name, ['--help']).status).toBe(0);
  });

  test.each(['rsync-inotify', 'start-sshd'])('%s refuses flags and words that it does not know', (name) => {
    for (const word of ['--frobnicate', '-x', 'word']) {
      const { stdout, status } = run(name, [word]);
      expect(stdout).toContain(`用法错误:`);
      expect(stdout).toContain(word);
      expect(status).toBe(2);
    }
  });
});

test.if(isRoot)('a working directory that the user may not enter is no obstacle', async () => {
  await using pair = await Pair.make('cwd');
  const directory = mkdtempSync(join(tmpdir(), 'cwd-'));
  chmodSync(directory, 0o755);
  mkdirSync(pair.path('closed', 'open'), { recursive: true });
  chmodSync(pair.path('closed'), 0o700);
  const script = 'cd "$1" && exec setpriv --reuid=65534 --regid=65534 --clear-groups "$2" --check';
  try {
    for (const name of ['rsync-inotify', 'start-sshd']) {
      const args = ['-c', script, 'sh', pair.path('closed', 'open'), copyOfBinary(name, directory)];
      const env = { ...cleanEnv(), HOME: '/', NO_COLOR: '1', SOURCE_DIR: '/tmp' };
      expect(spawnSync('sh', args, { env, encoding: 'utf8' }).stdout).toBe('配置有效，所需程序齐全 ✓\n');
    }
  } finally {
    rmSync(directory, { recursive: true });
  }
});
if (!isRoot)
  console.warn('SKIPPED: a working directory that the user may not enter: only root can become another user');

describe('missing programs', () => {
  test('are all named with the package to install', async () => {
    await using pair = await Pair.make('programs');
    const source = run('rsync-inotify', ['--check'], { ...pair.sourceEnv, PATH: pair.directory });
    for (const name of ['rsync', 'openssh-client', 'inotify-tools']) expect(source.stdout).toContain(`软件包 ${name}`);
    expect(source.stdout).toContain('缺少程序 ssh-keygen');
    expect(source.status).toBe(1);
  });

  test('are named beside the mistakes of the configuration', () => {
    const { stdout, status } = run('rsync-inotify', ['--check'], { PATH: '/nowhere', SYNC_INTERVAL: 'x' });
    expect(stdout).toContain('SYNC_INTERVAL');
    expect(stdout).toContain('缺少程序 inotifywait');
    expect(status).toBe(2);
  });

  test('of the backup are named; sshd is found where an ordinary user has no PATH to', async () => {
    await using pair = await Pair.make('no-rsync');
    symlinkSync('/usr/bin/ssh-keygen', pair.path('ssh-keygen'));
    const { stdout, status } = run('start-sshd', ['--check'], { ...pair.backupEnv, PATH: pair.directory });
    expect(stdout).toContain('缺少程序 rsync：请安装软件包 rsync');
    expect(stdout).not.toContain('ssh-keygen');
    expect(stdout).not.toContain('sshd');
    expect(status).toBe(1);
  });
});

describe('waiting for the backup', () => {
  test('counts its tries and ends with status 1 when nobody answers', async () => {
    await using pair = await Pair.withKeys('nobody');
    const source = pair.start('rsync-inotify', { MAX_RETRIES: '2' });
    await source.shows('[WARN', 0, 10_000);
    await source.shows('SSH 连接重试... (1/2)');
    expect(await source.exited).toBe(1);
    expect(source.output).toMatch(/\[ERROR .*\] SSH 服务未就绪: 127\.0\.0\.1:\d+ 在 10 秒内没有应答/);
  });

  test('says in one line that ssh has failed, even if that gives no reason', async () => {
    await using pair = await Pair.withKeys('silent');
    mkdirSync(pair.path('bin'));
    const ssh = `#!/bin/sh\ncase " $* " in *' -G '*) exec ${Bun.which('ssh')} "$@" ;; esac\nexit 255\n`;
    writeFileSync(pair.path('bin', 'ssh'), ssh, { mode: 0o755 });
    pair.start('start-sshd');
    const source = pair.start('rsync-inotify', { PATH: `${pair.path('bin')}:${process.env.PATH}` });
    await source.shows(/SSH 连接重试... \(1\/10\)：exit code: 255\n/);
    expect(source.output).not.toContain('zx');
  });

  test('looks several times a second, and takes only an SSH server for one', async () => {
    await using pair = await Pair.withKeys('probe');
    let connections = 0;
    const server = createServer((socket) => {
      connections++;
      socket.on('error', () => {}).end('220 mail.example.org ready\r\n');
    }).listen(pair.port, '127.0.0.1');
    const source = pair.start('rsync-inotify');
    await source.shows('目标主机: 127.0.0.1:');
    const before = connections;
    await sleep(2000);
    expect(connections - before).toBeGreaterThanOrEqual(4);
    expect(source.output).not.toContain('SSH 服务已就绪');
    await source.stop();
    server.close();
  });

  test('finds the port where ssh finds it', async () => {
    await using pair = await Pair.withKeys('config');
    writeFileSync(pair.path('config'), `Host mirror\n  HostName 127.0.0.1\n  Port ${pair.port}\n`);
    pair.start('start-sshd');
    const DEST_HOST = pair.sourceEnv.DEST_HOST?.replace('127.0.0.1', 'mirror') ?? '';
    const source = pair.start('rsync-inotify', { DEST_HOST, SSH_OPTS: `-F ${pair.path('config')}` });
    await source.shows(`目标主机: 127.0.0.1:${pair.port}`);
    await source.shows('✓ 服务运行中');
  });

  test('reaches a backup behind a proxy command', async () => {
    await using pair = await Pair.withKeys('proxy');
    pair.start('start-sshd');
    writeFileSync(
      pair.path('proxy.ts'),
      'const s = require("net").connect(+process.argv[2], "127.0.0.1"); process.stdin.pipe(s).pipe(process.stdout);',
    );
    const proxy = `${process.execPath} run ${pair.path('proxy.ts')} ${pair.port}`;
    const source = pair.start('rsync-inotify', { SSH_OPTS: `-p 1 -o 'ProxyCommand=${proxy}'` });
    await source.shows('✓ 服务运行中');
  });

  test('ends with status 1 when the key is not accepted, and says why', async () => {
    await using pair = await Pair.withKeys('refused');
    spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', pair.path('other')]);
    mkdirSync(pair.path('elsewhere'));
    writeFileSync(pair.path('elsewhere', 'id_rsa.pub'), readFileSync(pair.path('other.pub')));
    pair.start('start-sshd', { SHARED_KEYS_DIR: pair.path('elsewhere') });
    const source = pair.start('rsync-inotify', { MAX_RETRIES: '1' });
    expect(await source.exited).toBe(1);
    expect(source.output).toMatch(/\[ERROR .*\] SSH 免密登录测试失败 \(退出码: 255\)：.*Permission denied/);
  });

  test('starts sshd without a key after its tries, and takes the key that comes later', async () => {
    await using pair = await Pair.withKeys('late');
    const backup = pair.start('start-sshd', { KEY_RETRIES: '1' });
    await backup.shows('没有等到源端公钥');
    await backup.shows('SSH 服务器就绪');
    const source = pair.start('rsync-inotify');
    await source.shows('✓ 服务运行中');
    await eventually(() => existsSync(pair.path('backup')));
  });

  test('goes on when the first full sync loses its connection, and the backup is there nevertheless', async () => {
    await using pair = await Pair.withKeys('first-cut');
    pair.start('start-sshd');
    writeFileSync(pair.path('source', 'big'), Buffer.alloc(2_000_000, 1));
    writeFileSync(pair.path('source', 'a file that comes first'), 'words');
    const RSYNC_OPTS = '-avi --delete --delete-excluded --stats --bwlimit=1000';
    const source = pair.start('rsync-inotify', { RSYNC_OPTS });
    await eventually(() => readdirSync(pair.path('backup')).some((name) => name.startsWith('.big')));
    process.kill(await theOnly(connectionsOf, pair), 'SIGKILL');
    await source.shows('✓ 服务运行中');
    await pair.isMirrored();
    expect(source.output).toMatch(/\[ERROR .*\] 同步失败 \(退出码: \d+\)：/);
    expect(source.output).toContain('首次全量同步未能传输全部文件');
    expect(source.output).not.toMatch(/deleting|DRY RUN/); // whether the backup is there is asked by a dry run
  });

  test('ends with status 1 when the first full sync fails', async () => {
    await using pair = await Pair.withKeys('first');
    pair.start('start-sshd');
    writeFileSync(pair.path('source', 'file'), '');
    const source = pair.start('rsync-inotify', { DEST_DIR: '/proc/no/such/place/' });
    expect(await source.exited).toBe(1);
    expect(source.output).toContain('start-sshd: 拒绝执行：/proc/no/such/place/ 不在 DEST_DIR=');
    expect(source.output).toMatch(/\[ERROR .*\] 同步失败 \(退出码: 12\)：/);
    expect(source.output).toMatch(/\[ERROR .*\] 首次全量同步失败/);
  });
});
