import { describe as about, expect, test } from 'bun:test';
import { version } from '../../../package.json';
import type { Trouble } from '../../../src/backup/guard.ts';
import { metricsOf } from '../../../src/backup/monitor.ts';
import type { Shortage } from '../../../src/backup/room.ts';
import type { SourceStatus } from '../../../src/backup/source-status.ts';
import { describe, judge, look, PROBLEMS, problemsOf, type Status } from '../../../src/backup/status.ts';
import { registryOf } from '../../../src/service/metrics.ts';

const now = () => new Date().toISOString();
const destination = (writable: boolean, shortage: Shortage | null = null) => ({
  ...{ directory: '/data/backup', writable, free_bytes: 5_000_000, size_bytes: 8_000_000, free_files: 1000 },
  ...{ shortage, trouble: null },
});
/** Tells of one source, as the service does of the one without a name. */
const sourceWith = (change: Partial<SourceStatus> = {}): SourceStatus => ({
  ...{ name: '', directory: '/data/backup', key: 'SHA256:abc', sessions: 2, received: null, refused: 3 },
  ...{ restore: null, doubled: [], history: null, promoted: null, ...change },
});
const named = (name: string, change: Partial<SourceStatus> = {}) =>
  sourceWith({ ...{ name, directory: `/data/backup/${name}`, refused: 0 }, ...change });
/** What the state of all says of a source without a name, too. */
const statusWith = (change: Partial<Status>): Status => {
  const status = stateWith(change);
  const { key, sessions, received, refused, restore, doubled, history, promoted } = status;
  return {
    sources: [sourceWith({ key, sessions, received, refused, restore, doubled, history, promoted })],
    ...status,
  };
};
const stateWith = (change: Partial<Status>): Omit<Status, 'sources'> & Partial<Status> => ({
  program: 'start-sshd',
  version: '1.0.0',
  pid: 7,
  host: 'backup',
  started: '2025-10-09T12:00:00.000Z',
  updated: now(),
  phase: 'serving',
  sshd: { pid: 8, port: 22, listen: null, unlisted_logins: 0 },
  destination: destination(true),
  key: 'SHA256:abc',
  sessions: 2,
  received: null,
  restore: null,
  refused: 3,
  shell: false,
  stalled: 0,
  doubled: [],
  history: null,
  promoted: null,
  errors: [],
  ...change,
});
const troubled = (trouble: Trouble) => ({
  destination: { ...destination(trouble === 'replaced'), trouble },
});
const minuteAgo = () => new Date(Date.now() - 60_000).toISOString();

about('the health of the backup', () => {
  test.each<[string, Partial<Status>]>([
    ['健康: SSH 服务运行中，2 个连接', {}],
    ['不健康: 正在启动', { phase: 'starting', key: null }],
    ['不健康: 服务已停止', { phase: 'stopped', updated: minuteAgo() }],
    ['不健康: 状态已过期 60 秒，服务可能已不在运行', { updated: minuteAgo() }],
    ['不健康: 没有源端公钥，源端无法登录', { key: null }],
    ['不健康: 目标目录 /data/backup 所在的磁盘没有应答', { stalled: 1 }],
    ['不健康: 目标目录 /data/backup 无法写入', { destination: destination(false) }],
    ['不健康: 目标目录 /data/backup 已不是启动时的目录', troubled('replaced')],
    ['不健康: 目标目录 /data/backup 所在的磁盘没有挂载', troubled('unmounted')],
    ['不健康: 目标目录 /data/backup 无法写入', troubled('failed')],
    ['不健康: 目标目录 /data/backup 所在的文件系统是只读的', { destination: destination(false, 'read_only') }],
    [
      '不健康: 目标目录 /data/backup 所在的磁盘几乎已满，剩余 5.0 MB',
      { destination: destination(true, 'nearly_full') },
    ],
    [
      '不健康: 目标目录 /data/backup 所在的磁盘没有空闲的 inode，不能再创建文件',
      { destination: destination(true, 'no_files') },
    ],
    [
      '不健康: 多个 rsync-inotify 同时镜像到 /data/backup/web (one (::1)、two (::1))，请只保留一个',
      { doubled: [{ directory: '/data/backup/web', sources: ['one (::1)', 'two (::1)'] }] },
    ],
    [
      '不健康: 多个 rsync-inotify 同时镜像到 /data/backup/a\\n【恢复】b (one (::1)、two (::1))，请只保留一个',
      { doubled: [{ directory: '/data/backup/a\n【恢复】b', sources: ['one (::1)', 'two (::1)'] }] },
    ],
    ['不健康: 目标目录 /data/backup 的磁盘配额已用完', { destination: destination(true, 'quota') }],
    ['不健康: 目标目录 /data/backup 所在的磁盘已满', { destination: destination(true, 'full') }],
    [
      '不健康: 没有源端公钥，源端无法登录；目标目录 /data/backup 无法写入；目标目录 /data/backup 所在的磁盘已满',
      { key: null, destination: destination(false, 'full') },
    ],
  ])('is told in a line: %s', (line, change) => {
    expect(judge(statusWith(change))).toEqual({ healthy: line.startsWith('健康'), line });
  });

  test('goes by names in the file', () => {
    expect(problemsOf(statusWith({ key: null, destination: destination(false, 'full') }))).toEqual([
      'no_key',
      'destination',
      'disk_full',
    ]);
    expect(problemsOf(statusWith(troubled('replaced')))).toEqual(['destination']);
    expect(problemsOf(statusWith({ updated: minuteAgo() }), Date.now())).toEqual(['stale']);
  });
});

test('what is reported is what is wrong, by its name, and that the backup has taken over, which is no fault', () => {
  expect(look(statusWith({}))).toEqual({ sightings: [], isHealthy: true, isPartial: false });
  expect(look(statusWith({ phase: 'starting' }))).toMatchObject({ isHealthy: false, isPartial: true });
  expect(look(statusWith({ key: null, destination: destination(true, 'full') }))).toEqual({
    sightings: [
      { problem: 'no_key', text: '没有源端公钥，源端无法登录' },
      { problem: 'disk_full', text: '目标目录 /data/backup 所在的磁盘已满' },
    ],
    ...{ isHealthy: false, isPartial: false },
  });
  expect(look(statusWith({ promoted: minuteAgo() }))).toEqual({
    sightings: [{ problem: 'promoted', text: '备份端已接管，不接收镜像，直到执行 start-sshd --demote' }],
    ...{ isHealthy: true, isPartial: false },
  });
});

test('the status is a table, with the last warnings and errors below it', () => {
  const errors = [{ time: now(), level: 'warn' as const, event: 'x', message: 'full', count: 1 }];
  const lines = describe(statusWith({ key: null, destination: destination(false, 'full'), errors })).split('\n');
  expect(lines[0]).toStartWith('start-sshd 1.0.0 (PID 7)，启动于 20');
  expect(lines.slice(2, 10)).toEqual([
    '',
    'SSH 服务    PID 8，所有地址，端口 22',
    '目标目录    /data/backup（无法写入）',
    '源端公钥    –',
    '连接        2',
    '最近接收    –',
    '拒绝的命令  3',
    '',
  ]);
  expect(lines[10]).toBe('最近的警告和错误:');
  expect(lines[11]).toMatch(/^ {2}\[WARN .*\] full$/);
});

about('the metrics', () => {
  let status = statusWith({});
  const values = async () => {
    const registry = await registryOf(metricsOf(() => status));
    const lines = [...(await registry.metrics()).matchAll(/^rsync_backup_(.+) (\S+)$/gm)];
    return Object.fromEntries(lines.map(([, name, value]) => [name, value]));
  };
  const ofSource = (readings: Record<string, string>) =>
    Object.fromEntries(Object.entries(readings).map(([name, value]) => [`${name}{source=""}`, value]));
  const usual = ofSource({
    ...{ sessions: '4', refused_total: '3', promoted: '0' },
    ...{ free_bytes: '5000000', size_bytes: '8000000', free_files: '1000' },
  });
  const service = { healthy: '1', shell_allowed: '0', start_time_seconds: '1760011200' };
  const noProblem = Object.fromEntries(PROBLEMS.map((problem) => [`problem{problem="${problem}",source=""}`, '0']));
  const build = { [`build_info{version="${version}"}`]: '1' };

  test('are the same state, of one source without a name, without what is not known', async () => {
    status = statusWith({ sessions: 4 });
    expect(await values()).toEqual({ ...usual, ...service, ...noProblem, ...build });
    const { size_bytes: _, free_files: __, ...room } = destination(true);
    const unknown = { size_bytes: null, free_files: null };
    status = statusWith({ destination: { ...room, free_bytes: Number.MAX_SAFE_INTEGER, ...unknown } });
    const names = Object.keys(await values()).filter((name) => /free|size/.test(name));
    expect(names).toEqual([]);
  });

  test('tell of what was received, of older versions, of a backup that has taken over and of a shell', async () => {
    status = statusWith({
      ...{ received: '2025-10-09T12:00:00.500Z', promoted: '2025-10-09T12:00:01.000Z', sessions: 4, shell: true },
      history: { days: 30, versions: 7, bytes: 4096 },
    });
    expect(await values()).toEqual({
      ...{ ...usual, ...service, ...noProblem, ...build, shell_allowed: '1' },
      ...ofSource({ promoted: '1', history_versions: '7', history_bytes: '4096' }),
      ...ofSource({ last_received_timestamp_seconds: '1760011200.5' }),
    });
  });

  test.each<[string[], Partial<Status>]>([
    [['starting'], { phase: 'starting', key: null }],
    [['no_key'], { key: null }],
    [['destination'], { destination: destination(false) }],
    [['disk_full'], { destination: destination(true, 'nearly_full') }],
    [['stalled'], { stalled: 1 }],
    [['doubled'], { doubled: [{ directory: '/data/backup/web', sources: ['one (::1)', 'two (::1)'] }] }],
    [['no_key', 'disk_full'], { key: null, destination: destination(true, 'quota') }],
  ])('name what is wrong: %p', async (problems, change) => {
    status = statusWith({ sessions: 4, ...change });
    const found = Object.fromEntries(problems.map((problem) => [`problem{problem="${problem}",source=""}`, '1']));
    expect(await values()).toEqual({ ...usual, ...service, ...noProblem, ...build, healthy: '0', ...found });
  });

  test('are those of each source, whose name is a label', async () => {
    const sources = [
      named('web1', {
        received: '2025-10-09T12:00:00.000Z',
        refused: 5,
        history: { days: 30, versions: 7, bytes: 512 },
      }),
      named('web2', { key: null, sessions: 0, promoted: '2025-10-09T12:00:01.000Z' }),
    ];
    status = statusWith({ sessions: 2, sources });
    const found = await values();
    const both = (name: string) => ['web1', 'web2'].map((source) => found[`${name}{source="${source}"}`]);
    expect(both('sessions')).toEqual(['2', '0']);
    expect(both('refused_total')).toEqual(['5', '0']);
    expect(both('promoted')).toEqual(['0', '1']);
    expect(both('history_versions')).toEqual(['7', undefined as never]);
    expect(both('last_received_timestamp_seconds')).toEqual(['1760011200', undefined as never]);
    const problem = (name: string, source: string) => found[`problem{problem="${name}",source="${source}"}`];
    expect(['', 'web1', 'web2'].map((source) => problem('no_key', source))).toEqual([undefined as never, '0', '1']);
    expect(['', 'web1'].map((source) => problem('destination', source))).toEqual(['0', undefined as never]);
    expect(found['free_bytes{source=""}']).toBe('5000000');
    expect(Object.keys(found).filter((name) => /^(sessions|promoted)\{source=""/.test(name))).toEqual([]);
  });
});

about('several sources with names', () => {
  const since = '2025-10-09T12:00:01.000Z';
  const doubled = [{ directory: '/data/backup/web3', sources: ['one (::1)', 'two (::1)'] }];

  test('are well, or are said to be taken over', () => {
    const line = (sources: SourceStatus[]) => judge(statusWith({ sources }));
    expect(line([named('web1'), named('web2')])).toEqual({
      healthy: true,
      line: '健康: SSH 服务运行中，2 个连接，2 个源端',
    });
    expect(line([named('web1', { promoted: since }), named('web2')])).toMatchObject({
      ...{ healthy: true, line: expect.stringContaining('2 个源端，其中 1 个已被接管') },
    });
  });

  test('are named where something is wrong with them, in reports as well, and no more of them than can be read', () => {
    const status = statusWith({
      sources: [named('web1', { promoted: since }), named('web2', { key: null }), named('web3', { doubled })],
      doubled,
    });
    expect(problemsOf(status)).toEqual(['no_key', 'doubled']);
    expect(judge(status).line).toBe(
      '不健康: 没有源端 web2 的公钥，它无法登录（若已不再使用，请移走 /data/backup/web2）；多个名为 web3 的 rsync-inotify 同时镜像到 /data/backup/web3 (one (::1)、two (::1))，请只保留一个',
    );
    expect(look(status).sightings).toEqual([
      { problem: 'no_key', source: 'web2', text: expect.stringContaining('没有源端 web2 的公钥，它无法登录') },
      { problem: 'doubled', source: 'web3', text: expect.stringContaining('名为 web3') },
      {
        ...{ problem: 'promoted', source: 'web1' },
        text: '备份端已接管源端 web1，不接收它的镜像，直到执行 start-sshd --demote --source web1',
      },
    ]);
    const many = Array.from({ length: 50 }, (_, n) => named(`web${n}`, { key: null }));
    expect(judge(statusWith({ sources: many })).line).toMatch(
      /源端 web4 的公钥，它无法登录（.*）；…另有 45 个问题，见 --status$/,
    );
    expect(look(statusWith({ sources: many, promoted: since })).sightings).toHaveLength(51);
  });

  test('are rows of a table', () => {
    const restore = { until: since, reading: 1 };
    const sources = [
      named('web1', { promoted: since, refused: 4, history: { days: 30, versions: 7, bytes: 512 } }),
      named('web2', { key: null, restore, sessions: 0 }),
      named('web3'),
    ];
    const lines = describe(statusWith({ sources, restore })).split('\n');
    expect(lines.filter((line) => line.startsWith('源端公钥') || line.startsWith('允许恢复'))).toEqual([]);
    const at = lines.findIndex((line) => line.startsWith('源端 '));
    expect(lines[at]?.split(/ {2,}/)).toEqual(['源端', '连接', '最近接收', '拒绝的命令', '旧版本', '状态', '公钥']);
    expect(lines[at + 1]).toMatch(/^web1 +2 +– +4 +7 \(512 B\) +已接管，自 2025-10-09 \S+ 起 +SHA256:abc$/);
    expect(lines[at + 2]).toMatch(/^web2 +0 +– +0 +– +没有公钥；允许恢复，到 2025-10-09 \S+ 为止 +–$/);
    expect(lines[at + 3]).toMatch(/^web3 +2 +– +0 +– +正常 +SHA256:abc$/);
  });
});
