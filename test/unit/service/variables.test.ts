import { describe, expect, test } from 'bun:test';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { ValidatorSpec } from 'envalid';
import { Failure } from '../../../src/service/text.ts';
import {
  address,
  checked,
  countUpTo,
  describeVariables,
  file,
  flag,
  logVariables,
  matching,
  missingPrograms,
  mistake,
  parseFlags,
  port,
  readVariables,
  refuseMistakes,
  seconds,
} from '../../../src/service/variables.ts';
import { scratch } from './scratch.ts';

const specs = {
  FIRST: seconds({ default: 5, desc: 'the first' }),
  SECOND: flag({ default: false, desc: 'the second' }),
  THIRD: countUpTo(10)({ default: 3, desc: 'the third' }),
};

/** What a validator makes of a text, or what it says against it. */
function taken(spec: ValidatorSpec<unknown>, text: string): unknown {
  const { config, mistakes } = readVariables({ IT: spec }, { IT: text });
  return mistakes.length > 0 ? mistakes[0]?.message.replace(/^.*：/s, '') : config.IT;
}

describe('variables', () => {
  test('have their defaults where they are not set, or are empty', () => {
    for (const env of [{}, { FIRST: '', SECOND: '', THIRD: '' }]) {
      const { config, mistakes } = readVariables(specs, env);
      expect([config.FIRST, config.SECOND, config.THIRD]).toEqual([5, false, 3]);
      expect(mistakes).toEqual([]);
    }
  });

  test('that are right are read beside those that are not', () => {
    const { config, mistakes } = readVariables(specs, { FIRST: 'x\ny', SECOND: 'true', THIRD: '11' });
    expect(config.SECOND).toBe(true);
    expect(Object.keys({ ...config })).toEqual(['SECOND']);
    expect(mistakes.map(({ name }) => name).sort()).toEqual(['FIRST', 'THIRD']);
    expect(mistakes.find(({ name }) => name === 'FIRST')?.message).toBe(
      '配置错误: FIRST="x\\ny"：应为 0 到 2000000 之间的秒数，可带小数，例如 5 或 0.5',
    );
  });

  test.each<[string, ValidatorSpec<unknown>, ...[string, unknown][]]>([
    ['flag', flag(), ['true', true], ['false', false]],
    ['seconds', seconds(), ['0', 0], ['0.25', 0.25], ['2000000', 2_000_000]],
    ['count', countUpTo(10)(), ['1', 1], ['10', 10], ['007', 7]],
    ['port', port(), ['1', '1'], ['65535', '65535']],
    ['address', address(), ['127.0.0.1', '127.0.0.1'], ['::1', '::1']],
    ['size', logVariables('').LOG_MAX_SIZE, ['10M', '10M'], ['1K', '1K']],
    ['format', logVariables('').LOG_FORMAT, ['json', 'json'], ['text', 'text']],
  ])('of this kind are taken: %s', (_, spec, ...pairs) => {
    for (const [text, value] of pairs) expect([text, taken(spec, text)]).toEqual([text, value]);
  });

  test.each<[string, ValidatorSpec<unknown>, string, string[]]>([
    ['flag', flag(), '应为 true 或 false', ['True', '1', 'yes', ' true']],
    ['seconds', seconds(), '之间的秒数', ['-1', '1.', '.5', '2000000.1', '1e3', '5s', 'Infinity', '0x10']],
    ['count', countUpTo(10)(), '应为 1 到 10 之间的整数', ['0', '11', '1.5', '-1', 'x', '99999999999999999999']],
    ['port', port(), '应为 1 到 65535 之间的端口', ['0', '65536', '080', 'ssh', '22 ']],
    ['address', address(), '应为 IP 地址', ['localhost', '127.0.0', '[::1]', '127.0.0.1:22']],
    ['size', logVariables('').LOG_MAX_SIZE, '应为整数加单位', ['0M', '10', '10m', '1.5M', '1000000M']],
    ['format', logVariables('').LOG_FORMAT, '应为 text 或 json', ['JSON', 'xml']],
  ])('of this kind are refused: %s', (_, spec, reason, texts) => {
    for (const text of texts) expect(String(taken(spec, text))).toContain(reason);
  });

  test('that name a file name one that is there or can be', () => {
    using directory = scratch();
    const at = (name: string) => join(directory.path, name);
    writeFileSync(at('file'), '');
    mkdirSync(at('directory'));
    const take = (text: string) => taken(file({ default: '' }), text);
    expect(take(at('file'))).toBe(at('file'));
    expect(take(at('new/one'))).toBe(at('new/one'));
    expect(take('relative')).toBe(resolve('relative'));
    expect(take('')).toBe('');
    for (const path of [at('directory'), '/dev/null']) expect(take(path)).toBe('应为普通文件，不能是目录或设备');
    for (const path of ['~/x', `${at('file')}/`, 'a\0b']) expect(take(path)).toBe('应为文件的完整路径；~ 不会展开');
  });

  test('can be of any kind: checked and left as they are, or read by their form', () => {
    const even = checked((value) => {
      if (Number(value) % 2) throw new Error('odd');
    })({ default: '' });
    expect([taken(even, '4'), taken(even, '3')]).toEqual(['4', 'odd']);
    const words = matching(/^\w+$/, 'one word', (text) => text.length)({ default: 0 });
    expect([taken(words, 'abc'), taken(words, 'a b')]).toEqual([3, 'one word']);
  });

  test('are listed with defaults and meanings', () => {
    const all = { ...specs, SSH_DIR: checked(() => {})({ default: '/home/me/.ssh', desc: 'keys' }) };
    const none = { NONE: checked(() => {})({ default: '', desc: 'nothing' }) };
    expect(describeVariables({ ...all, ...none }, 8, 10)).toBe(
      [
        '  FIRST    5           the first',
        '  SECOND   false       the second',
        '  THIRD    3           the third',
        '  SSH_DIR  $HOME/.ssh  keys',
        '  NONE     –           nothing',
      ].join('\n'),
    );
  });
});

describe('a start', () => {
  const refusal = (...args: Parameters<typeof refuseMistakes>): Failure | undefined => {
    try {
      refuseMistakes(...args);
      return undefined;
    } catch (cause) {
      return cause as Failure;
    }
  };

  test('is not refused where nothing is wrong', () => {
    expect(refusal(specs, [])).toBeUndefined();
  });

  test('is refused with every mistake, in the order of the variables, and then what is missing: status 2', () => {
    const mistakes = ['THIRD', 'FIRST', 'SECOND', 'FIRST'].map((name, n) => mistake(name, 'x', `${n}`));
    const { message, status } = refusal(specs, mistakes, ['rsync is missing']) ?? {};
    expect(message?.split('\n')).toEqual([
      '配置错误: FIRST="x"：1',
      '配置错误: FIRST="x"：3',
      '配置错误: SECOND="x"：2',
      '配置错误: THIRD="x"：0',
      'rsync is missing',
    ]);
    expect(status).toBe(2);
  });

  test('is refused where programs alone are missing: status 1', () => {
    const find = (program: string) => (program === 'rsync' ? '/usr/bin/rsync' : null);
    const missing = missingPrograms({ rsync: 'rsync', ssh: 'openssh-client', 'ssh-keygen': 'openssh-client' }, find);
    expect(missing).toEqual([
      '缺少程序 ssh：请安装软件包 openssh-client（例如 apt-get install openssh-client）',
      '缺少程序 ssh-keygen：请安装软件包 openssh-client（例如 apt-get install openssh-client）',
    ]);
    const failure = refusal(specs, [], missing);
    expect(failure).toBeInstanceOf(Failure);
    expect(failure?.message).toBe(missing.join('\n'));
    expect(failure?.status).toBe(1);
  });
});

describe('flags', () => {
  /** Reads them as a program would that was started with these words. */
  function parse(...words: string[]) {
    const { argv } = process;
    process.argv = [...argv.slice(0, 2), ...words];
    try {
      return parseFlags('program', ['help', 'check']);
    } finally {
      process.argv = argv;
    }
  }

  test('are those that are known', () => {
    expect({ ...parse() }).toEqual({});
    expect({ ...parse('--check', '--help') }).toEqual({ check: true, help: true });
  });

  test('are a mistake otherwise: status 2', () => {
    for (const words of [['--other'], ['-h'], ['word'], ['--help=yes'], ['--', 'word']]) {
      let failure: unknown;
      try {
        parse(...words);
      } catch (cause) {
        failure = cause;
      }
      expect(failure).toBeInstanceOf(Failure);
      expect((failure as Failure).status).toBe(2);
      expect((failure as Failure).message).toMatch(/^用法错误: .+。请参阅 program --help$/s);
    }
  });
});
