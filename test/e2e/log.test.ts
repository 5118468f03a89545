import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileOf, LANGUAGES, type Language, PAGES, read } from '../pages.ts';
import { isRoot, Pair } from '../pair.ts';
import { cleanEnv, content, count, eventually, Program } from '../processes.ts';
import { binary, programCode } from '../project.ts';

setDefaultTimeout(120_000);

type Entry = Record<string, unknown> & { time: string; level: string; event: string; message: string };
const entriesOf = (program: Program): Entry[] =>
  program.output
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
const logOf = (pair: Pair, ...names: string[]) => pair.path('logs', ...(names.length > 0 ? names : ['sync.log']));
const withoutColours = (text: string) => Bun.stripANSI(text);

/** The events that the programs log, of which some are told of each kind of target, and those that the table of a page names. */
const KINDS_OF_TARGETS = ['ssh', 'daemon'];
const loggedEvents = () => {
  const calls = programCode().matchAll(
    /\b(?:log|info|warn|error|heading|tell)\(\s*(?:'([a-z_]+)|`\$\{words\.kind\})(\.[a-z_]+)['`]/g,
  );
  const events = [...calls].flatMap(([, name, of = '']) => (name ? [name] : KINDS_OF_TARGETS).map((kind) => kind + of));
  return [...new Set(events)].sort();
};
const eventsOfTable = (language: Language) => {
  const pages = PAGES.map((page) => read(fileOf(page, language))).join('\n');
  const rows = pages.matchAll(/^\| `([a-z_]+\.[a-z_]+)` \| (?:info|warn|error) \|/gm);
  return [...rows].map(([, event = '']) => event).sort();
};

describe.concurrent('the log for programs', () => {
  test('has one object a line, with time, level, event and message, and of a sync what it did', async () => {
    await using pair = await Pair.withKeys('json');
    const backup = pair.start('start-sshd', { LOG_FORMAT: 'json' });
    const source = pair.start('rsync-inotify', { LOG_FORMAT: 'json', SYNC_INTERVAL: '0' });
    await source.shows('"event":"service.ready"');
    writeFileSync(pair.path('source', 'file'), 'x'.repeat(5000));
    await source.shows('"mode":"incremental"');
    await Promise.all([source.stop(), backup.stop()]);
    for (const { time, level, event, message } of [...entriesOf(source), ...entriesOf(backup)]) {
      expect(new Date(time).toISOString()).toBe(time);
      expect(['info', 'warn', 'error']).toContain(level);
      expect(event).toMatch(/^[a-z_]+\.[a-z_]+$/);
      expect(message).not.toMatch(/^=+$/);
    }
    const target = `${pair.sourceEnv.DEST_HOST}:${pair.sourceEnv.DEST_DIR}`;
    const synced = entriesOf(source).find(({ mode }) => mode === 'incremental');
    expect(synced).toMatchObject({ event: 'sync.success', target, files: 1, exit_code: 0, level: 'info' });
    expect(synced?.duration_ms).toBeNumber();
    expect(synced?.bytes).toBeGreaterThan(100);
    const changed = entriesOf(source).find(({ event }) => event === 'file.changed');
    expect(changed).toMatchObject({ path: pair.path('source', 'file'), events: 'CREATE' });
    expect(entriesOf(source).some(({ event, message }) => event === 'rsync.output' && message === 'file')).toBe(true);
    const known = loggedEvents();
    for (const { event } of [...entriesOf(source), ...entriesOf(backup)]) {
      if (event !== 'rsync.output') expect(known).toContain(event);
    }
  });

  test('says what failed, with rsync’s exit code and its own words', async () => {
    await using pair = await Pair.withKeys('json-failure');
    const { source } = await pair.run({ LOG_FORMAT: 'json', SYNC_INTERVAL: '0' }, '"event":"service.ready"');
    rmSync(pair.path('backup'), { recursive: true });
    writeFileSync(pair.path('backup'), 'a file in its place');
    writeFileSync(pair.path('source', 'file'), 'words');
    await source.shows('"event":"sync.retry"');
    const entries = entriesOf(source);
    const failure = entries.find(({ event }) => event === 'sync.failure');
    expect(failure).toMatchObject({ level: 'error', mode: 'incremental' });
    expect(failure?.exit_code).toBeGreaterThan(0);
    expect(failure?.message).toContain(`(退出码: ${failure?.exit_code})`);
    expect(entries.find(({ event }) => event === 'sync.retry')).toMatchObject({ delay_ms: 1000, pending: 1 });
    expect(entries.some(({ event, message }) => event === 'rsync.output' && message.startsWith('rsync'))).toBe(true);
  });

  test('shows no name of a file that could start a line or control a terminal, and loses none of it', async () => {
    await using pair = await Pair.withKeys('json-names');
    const { source } = await pair.run({ LOG_FORMAT: 'json' }, '"event":"service.ready"');
    const names = [
      'line\n{"event":"forged"}',
      'bell\x07',
      'csi\u009b31m',
      'turn\u202earound',
      'next\u2028line',
      'quote"',
    ];
    for (const name of names) writeFileSync(pair.path('source', name), '');
    await eventually(() =>
      names.every((name) => entriesOf(source).some(({ path }) => path === pair.path('source', name))),
    );
    expect(source.output.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Zl}\u202e]/u);
    expect(entriesOf(source).map(({ event }) => event)).not.toContain('forged');
  });

  test('comes from its first line on, also where the configuration is wrong', async () => {
    const env = { ...cleanEnv(), LOG_FORMAT: 'json', SOURCE_DIR: '/no/such', MAX_RETRIES: '0' };
    const program = new Program(binary('rsync-inotify'), [], { env });
    expect(await program.exited).toBe(2);
    const entries = entriesOf(program);
    expect(entries.length).toBe(2);
    for (const entry of entries) expect(entry).toMatchObject({ level: 'error', event: 'service.failed', exit_code: 2 });
  });
});

test.each(LANGUAGES)('a page in %s has a table of all events', (language) => {
  const events = [...loggedEvents(), 'rsync.output', 'sshd.output'];
  expect(eventsOfTable(language)).toEqual([...new Set(events)].sort());
});

describe.concurrent('the log file', () => {
  test('is the log without colours to the last line, in a directory that is made for it', async () => {
    await using pair = await Pair.withKeys('log-file');
    const backup = pair.start('start-sshd', { NO_COLOR: '', LOG_FILE: logOf(pair, 'sshd.log') });
    const source = pair.start('rsync-inotify', { NO_COLOR: '', LOG_FILE: logOf(pair) });
    await source.shows('✓ 服务运行中');
    writeFileSync(pair.path('source', 'file'), 'words');
    await source.shows('CLOSE_WRITE');
    expect(await source.stop()).toBe(0);
    expect(await backup.stop()).toBe(0);
    expect(source.output).toContain('\x1b[');
    expect(readFileSync(logOf(pair), 'utf8')).toBe(withoutColours(source.output));
    expect(readFileSync(logOf(pair, 'sshd.log'), 'utf8')).toBe(withoutColours(backup.output));
  });

  test('goes on after a restart, and holds why a start has failed', async () => {
    await using pair = await Pair.withKeys('log-failure');
    const env = { LOG_FILE: logOf(pair), MAX_RETRIES: '1' };
    const first = pair.start('rsync-inotify', env);
    expect(await first.exited).toBe(1);
    const again = pair.start('rsync-inotify', env);
    expect(await again.exited).toBe(1);
    expect(content(logOf(pair))).toBe(first.output + again.output);
    expect(content(logOf(pair))).toContain('SSH 服务未就绪');
  });

  test.if(isRoot)(
    'is written in a directory of another user, which is told once, but through no link there',
    async () => {
      await using pair = await Pair.withKeys('log-foreign');
      mkdirSync(pair.path('logs'));
      chownSync(pair.path('logs'), 1234, 1234);
      writeFileSync(pair.path('victim'), 'safe');
      const STATUS_FILE = logOf(pair, 'status.json');
      for (const name of ['status.json', 'sync.prom']) symlinkSync('../victim', logOf(pair, name));
      const env = { LOG_FILE: logOf(pair), STATUS_FILE, METRICS_FILE: logOf(pair, 'sync.prom'), SYNC_INTERVAL: '0' };
      const { source } = await pair.run(env);
      for (const name of ['LOG_FILE', 'STATUS_FILE', 'METRICS_FILE']) {
        await source.shows(`] ${name}=`);
        expect(count(source.output, `] ${name}=`)).toBe(1);
      }
      await eventually(() => content(logOf(pair)).includes('✓ 服务运行中')); // stdout has it a moment earlier
      rmSync(logOf(pair));
      symlinkSync('../victim', logOf(pair));
      const offset = source.output.length;
      const change = setInterval(() => writeFileSync(pair.path('source', 'file'), `${Math.random()}`), 300);
      await source.shows(/\[ERROR .*\] 无法写入日志文件 .*不跟随/, offset);
      rmSync(logOf(pair));
      await source.shows('日志文件已恢复写入', offset);
      clearInterval(change);
      expect(content(pair.path('victim'))).toBe('safe');
      expect(JSON.parse(content(STATUS_FILE)).program).toBe('rsync-inotify');
    },
  );

  test('is rotated by size, and no more files are kept than asked for', async () => {
    await using pair = await Pair.withKeys('log-rotation');
    const env = { LOG_FILE: logOf(pair), LOG_MAX_SIZE: '4K', LOG_MAX_FILES: '2', SYNC_INTERVAL: '0' };
    const { source } = await pair.run(env);
    for (let n = 0; n < 200; n++) writeFileSync(pair.path('source', `file-${n}`), '');
    await pair.isMirrored();
    expect(await source.stop()).toBe(0);
    const names = ['sync.log.2', 'sync.log.1', 'sync.log'];
    expect(readdirSync(pair.path('logs')).sort()).toEqual(names.toReversed());
    const kept = names.map((name) => readFileSync(logOf(pair, name), 'utf8')).join('');
    expect(source.output).toEndWith(kept);
    expect(statSync(logOf(pair, 'sync.log.1')).size).toBeGreaterThanOrEqual(4096);
  });

  test('that was moved or removed, with its directory or without, is made anew', async () => {
    await using pair = await Pair.withKeys('log-lost');
    const { source } = await pair.run({ LOG_FILE: logOf(pair), SYNC_INTERVAL: '0' });
    const losses = [
      () => renameSync(logOf(pair), logOf(pair, 'moved')),
      () => rmSync(logOf(pair)),
      () => rmSync(pair.path('logs'), { recursive: true }),
    ];
    for (const [n, lose] of losses.entries()) {
      lose();
      const name = `lost-${n}`;
      await eventually(() => {
        writeFileSync(pair.path('source', name), `${performance.now()}`);
        return content(logOf(pair)).includes(name);
      });
    }
    expect(source.output).not.toContain('日志文件');
  });

  test('that cannot be written is told once, and goes on when it can be', async () => {
    await using pair = await Pair.withKeys('log-blocked');
    const { source } = await pair.run({ LOG_FILE: logOf(pair), SYNC_INTERVAL: '0' });
    rmSync(pair.path('logs'), { recursive: true });
    writeFileSync(pair.path('logs'), 'a file in place of the directory');
    await eventually(() => {
      writeFileSync(pair.path('source', 'file'), `${performance.now()}`);
      return source.output.includes('无法写入日志文件');
    });
    await sleep(3000); // it goes on trying
    writeFileSync(pair.path('source', 'file'), 'words');
    await pair.isMirrored();
    expect(count(source.output, '无法写入日志文件')).toBe(1);
    rmSync(pair.path('logs'));
    await eventually(() => {
      writeFileSync(pair.path('source', 'later'), `${performance.now()}`);
      return content(logOf(pair)).includes('later');
    });
    await source.shows(/日志文件已恢复写入，其中最多缺少 \d+ 条日志/);
    await eventually(() => content(logOf(pair)).includes('日志文件已恢复写入'));
  });

  test.skipIf(!isRoot)('on a full disk is told once, and goes on when there is room', async () => {
    await using pair = await Pair.withKeys('log-full');
    const disk = mkdtempSync(join(tmpdir(), 'log-disk-'));
    spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=128k', 'tmpfs', disk]);
    try {
      const file = join(disk, 'sync.log');
      const { source } = await pair.run({ LOG_FILE: file, SYNC_INTERVAL: '0' });
      spawnSync('dd', ['if=/dev/zero', `of=${join(disk, 'ballast')}`, 'bs=4k'], { stdio: 'ignore' });
      for (let n = 0; n < 300; n++) writeFileSync(pair.path('source', `file-${n}`), '');
      await source.shows('无法写入日志文件');
      await pair.isMirrored();
      rmSync(join(disk, 'ballast'));
      await eventually(async () => {
        writeFileSync(pair.path('source', `later-${performance.now()}`), ''); // a busy log names nothing twice
        await Bun.sleep(200);
        return content(file).includes('source/later');
      });
      await source.shows('日志文件已恢复写入');
      expect(await source.stop()).toBe(0);
      expect(count(source.output, '无法写入日志文件')).toBe(1);
      expect(content(file)).toEndWith(source.output.slice(source.output.lastIndexOf('[')));
    } finally {
      spawnSync('umount', [disk]);
      rmSync(disk, { recursive: true });
    }
  });

  test('may lie in the source only where that is not watched', async () => {
    await using pair = await Pair.withKeys('log-inside');
    const inside = pair.path('source', 'new', 'log');
    const refused = pair.start('rsync-inotify', { LOG_FILE: inside, STATUS_FILE: inside, METRICS_FILE: inside });
    expect(await refused.exited).toBe(2);
    const names = ['LOG_FILE', 'STATUS_FILE', 'METRICS_FILE'];
    for (const name of names) expect(refused.output).toContain(`配置错误: ${name}="${inside}"`);
    expect(refused.output).toContain('已用于另一个变量');
    const { source } = await pair.run({ LOG_FILE: inside, WATCH_EXCLUDE: 'cache:new' });
    await eventually(() => content(inside).includes('✓ 服务运行中'));
    expect(source.output).not.toContain('检测到文件变化');
  });

  test('of the backup in reach of the source is warned of', async () => {
    await using pair = await Pair.withKeys('log-exposed');
    const backup = pair.start('start-sshd', { LOG_FILE: pair.path('backup', 'log') });
    await backup.shows(`[WARN`);
    expect(backup.output).toContain(`${pair.path('backup', 'log')} 在 DEST_DIR=${pair.path('backup')} 之内`);
  });
});
