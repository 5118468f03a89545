import { describe, expect, test } from 'bun:test';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { Excerpt } from '../../../src/mirror/excerpt.ts';
import { Faults } from '../../../src/mirror/faults.ts';
import { planFor } from '../../../src/mirror/options.ts';
import {
  addTotals,
  describeFailed,
  hearLimit,
  mayBeDisconnected,
  meaningOf,
  NOTHING,
  type OutcomeKind,
  outcomeOf,
  passOn,
  passOnGathered,
  tellingOf,
} from '../../../src/mirror/rsync.ts';
import { eventually } from '../../processes.ts';
import { keepLog, settle } from './stand-ins.ts';

test('an rsync is heard to say that its limit has kept something, in whatever pieces that comes', async () => {
  const hear = async (pieces: string[]) => {
    const stderr = new PassThrough();
    const isLimited = hearLimit(stderr);
    for (const piece of pieces) stderr.write(piece);
    stderr.end();
    await once(stderr, 'end');
    return isLimited();
  };
  const line = 'Deletions stopped due to --max-delete limit (3 skipped)\n';
  expect(await hear([`${'x'.repeat(5000)}\n${line}${'y'.repeat(5000)}`])).toBe(true);
  expect(await hear([...line])).toBe(true);
  expect(await hear(['file has vanished: "/x"\n', 'rsync warning: some files vanished (code 24)\n'])).toBe(false);
});

test('what several rsyncs have done is added, unless it is not known', () => {
  const one = { files: 1, bytes: 10, created: 3, deleted: 1 };
  expect(addTotals(NOTHING, one)).toEqual(one);
  expect(addTotals({ ...one, listed: 9 }, { ...one, listed: 8 }).listed).toBe(8);
  expect(addTotals({ ...one, listed: 9 }, one).listed).toBe(9); // what goes after it by names does not tell it
  expect(addTotals(one, { files: 2, bytes: 20, created: undefined, deleted: 4 })).toEqual({
    ...{ files: 3, bytes: 30, created: undefined, deleted: 5 },
  });
});

describe('an exit status of rsync', () => {
  /** All that are special; any other one says that it failed. */
  const KINDS: Record<number, OutcomeKind> = {
    0: 'done',
    5: 'unreachable',
    10: 'unreachable',
    35: 'unreachable',
    23: 'partial',
    24: 'done',
    25: 'limited',
    255: 'unreachable',
  };
  const all = Array.from({ length: 256 }, (_, status) => status);

  test.each(all.map((status): [number, OutcomeKind] => [status, KINDS[status] ?? 'failed']))('%d: %s', (status, kind) =>
    expect(outcomeOf(status)).toBe(kind),
  );

  test('may say that the connection was gone', () => {
    expect(all.filter(mayBeDisconnected)).toEqual([10, 12, 20, 30, 255]);
  });

  test('is put into words that say what to do', () => {
    const words: Record<number, string> = {
      1: '语法或用法错误，请检查 RSYNC_OPTS',
      11: '文件读写错误，请检查备份端磁盘空间、目录和权限，以及 RSYNC_OPTS 所指的规则文件',
      12: 'rsync 协议数据流错误或协议版本不匹配，请检查网络、备份端磁盘空间和两端 rsync 版本',
      23: '部分文件传输失败，请检查权限、磁盘空间',
      25: '达到 --max-delete 限制，部分文件没有删除',
      30: '数据收发超时，请检查网络',
      126: 'rsync 无法执行，请检查权限和系统资源',
      127: '备份端找不到 rsync，请在备份端安装 rsync',
      129: 'rsync 被信号 1 终止；信号 9 多为内存不足',
      137: 'rsync 被信号 9 终止；信号 9 多为内存不足',
      254: 'rsync 被信号 126 终止；信号 9 多为内存不足',
      255: 'SSH 连接失败，请检查 SSH 服务、密钥配置',
      7: '未知错误，请参阅 rsync(1)',
      128: '未知错误，请参阅 rsync(1)',
      256: '未知错误，请参阅 rsync(1)',
    };
    const told = Object.fromEntries(Object.keys(words).map((status) => [status, meaningOf(Number(status))]));
    expect(told).toEqual(words);
  });

  test('has words of its own wherever rsync(1) knows one', () => {
    const known = [1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 20, 21, 22, 23, 24, 25, 30, 35, 126, 127, 255];
    const unknown = meaningOf(99);
    expect(known.filter((status) => meaningOf(status) === unknown)).toEqual([]);
    expect(new Set(known.map(meaningOf)).size).toBe(known.length);
  });
});

test('a sync that has failed is told by why the backup refuses, if it says so', () => {
  const faults = (refusal?: string) => Object.assign(new Faults(() => undefined), { refusal });
  expect(describeFailed({ status: 12, faults: faults() })).toStartWith('同步失败 (退出码: 12)：rsync 协议数据流错误');
  expect(describeFailed({ status: 12, faults: faults('拒绝执行：…') })).toBe(
    '同步失败 (退出码: 12)：备份端拒绝执行：…',
  );
  expect(describeFailed({ status: null, reason: '源目录不见了' })).toBe('源目录不见了');
});

describe.each([
  ['at once', passOn],
  ['gathered', passOnGathered],
])('what rsync prints, passed on %s,', (_, pass) => {
  /** Has it print these chunks; returns what comes out. */
  async function print(chunks: string[], filter?: (bytes: string) => string): Promise<string> {
    using kept = keepLog();
    const output = new PassThrough();
    pass(output, 'root@backup:/data/', filter);
    for (const chunk of chunks) output.write(Buffer.from(chunk, 'latin1'));
    output.end();
    await once(output, 'end');
    return kept.text;
  }

  test('comes out as it is, but for what controls a terminal, even where that is cut in two', async () => {
    expect(await print(['a\x1b[2J\n', 'b\xc2', '\x9bc\n'])).toBe('a\\#033[2J\nb\\#302\\#233c\n');
    expect(await print(['\xe4\xb8', '\xad\n\n', 'no end'])).toBe('中\n\nno end\n');
    expect(await print(['cut \xc2'])).toBe('cut \\#302\n');
  });

  test('has states of its progress on lines of their own, where no terminal shows them in one place', async () => {
    const states = ['      5  50%    1.00kB/s    0:00:01', '      8  80%    1.00kB/s    0:00:01'];
    const last = '     10 100%    1.00kB/s    0:00:02 (xfr#1, to-chk=0/2)';
    expect(await print(['file\n\r', states[0] as string, `\r${states[1]}\r`, `${last}\nnext\n`])).toBe(
      `file\n${states[0]}\n${last}\nnext\n`,
    );
    expect(await print([`\r${states[0]}\r`, 'rsync error\n'])).toBe(`${states[0]}\nrsync error\n`);
    expect(await print([`\r${states[0]}`, '\r'])).toBe(`${states[0]}\n`);
    expect(await print(['other text\rin its place\n'])).toBe('other text\nin its place\n');
  });

  test('is told from the log where it looks like that', async () => {
    expect(await print(['[ERROR 2025-10-09 12:00:00] a file\n', '[id].ts\n'])).toBe(
      'rsync: [ERROR 2025-10-09 12:00:00] a file\nrsync: [id].ts\n',
    );
  });

  test('keeps no more than a line of what has no end, whatever filters wait for', async () => {
    const { filter } = tellingOf(
      planFor({ RSYNC_OPTS: '-a --delete', SSH_OPTS: '', RENAME_ON_TARGET: false }),
      () => {},
    );
    for (const piece of ['a'.repeat(50_000), `\r${'b'.repeat(49_999)}`]) {
      const text = await print(Array(100).fill(piece), filter);
      expect(text.length).toBeLessThan(piece.startsWith('a') ? 71_000 : 120_000);
      expect(text).toMatch(/（此行过长，省略 \d+ 字节）\n?$/);
    }
  });

  test('is told from the first to the last line but for those in between, where it is much', async () => {
    using kept = keepLog();
    const output = new PassThrough();
    pass(output, 'root@backup:/data/', undefined, new Excerpt());
    for (let n = 1; n <= 5000; n++) output.write(`file ${n}\n`);
    output.end('\nsent 1 bytes  received 2 bytes  3.00 bytes/sec\ntotal size is 4  speedup is 1.00\n');
    await once(output, 'end');
    const lines = kept.text.split('\n');
    expect(lines.slice(198, 203)).toEqual([
      'file 199',
      'file 200',
      expect.stringMatching(/INFO .* 另有 4783 行 rsync 输出未逐条列出$/),
      'file 4984',
      'file 4985',
    ]);
    expect(lines.at(-2)).toBe('total size is 4  speedup is 1.00');
  });

  test('comes out without what a filter takes', async () => {
    expect(await print(['one\n', 'two\n'], (bytes) => bytes.replace('one\n', ''))).toBe('two\n');
  });
});

describe('what rsync prints in many pieces', () => {
  const lines = Array.from({ length: 5000 }, (_, n) => `directory/file-${n}\n`);

  /** Has it print these lines, one a piece; returns what comes out, and in how many pieces the filter and stdout have it. */
  async function count(end: (output: PassThrough) => unknown) {
    using kept = keepLog();
    const output = new PassThrough();
    let sifted = 0;
    passOnGathered(output, 'root@backup:/data/', (bytes) => {
      sifted++;
      return bytes;
    });
    for (const line of lines) output.write(line);
    end(output);
    await once(output, 'close');
    return { sifted, text: kept.text, writes: kept.writes };
  }

  test('is told in few, and all of it', async () => {
    const { text, sifted, writes } = await count((output) => output.end());
    expect(text).toBe(lines.join(''));
    expect(sifted).toBeLessThan(20);
    expect(writes).toBeLessThan(20);
  });

  test('is told as far as it has come where it is ended', async () => {
    const { text } = await count((output) => setImmediate(() => output.destroy()));
    expect(text).not.toBe('');
    expect(lines.join('')).toStartWith(text);
  });

  test('is told soon, though more may come, and before what is to come after it', async () => {
    using kept = keepLog();
    const output = new PassThrough();
    const flush = passOnGathered(output, 'root@backup:/data/');
    output.write('first\n');
    await eventually(() => kept.text === 'first\n');
    output.write('second\n');
    await settle();
    flush();
    expect(kept.text).toBe('first\nsecond\n');
  });
});
