import { describe, expect, test } from 'bun:test';
import fc from 'fast-check';
import { parseCommand, parseReceiver } from '../../../src/backup/forced-command.ts';

/** What rsync-inotify, rsync 3.1 to 3.5 by hand and backup tools send. */
const REAL = [
  'rsync --server -vlogDtprze.iLsfxCIvu --delete . /data/backup/',
  'rsync --server -vlogDtprze.LsfxCIvu --log-format=%i --delete-during --timeout=60 . "/data/back up/"',
  "rsync --server -lHogDtpAXre.iLsfxCIvu -@-1 -B2048 --delete --backup-dir=old --partial-dir .p . /data/backup/'a b'",
  'rsync --server -ve.LsfxCIvu --usermap=*:root --iconv=UTF-8 --compress-choice=zstd --suffix=~ . /data/back\\ up',
  '/usr/bin/rsync --server -bvlogDtpRe.iLsfxCIvu --fake-super --info=PROGRESS2 --bwlimit=100 . ~/x',
];

/** Near misses: parts of real commands, in a different order, with something else between. */
const nearly = fc
  .tuple(
    fc.constantFrom(...REAL),
    fc.array(
      fc.tuple(
        fc.nat(200),
        fc.nat(12),
        fc.oneof(
          fc.constantFrom(
            ' --sender',
            ' --daemon',
            ' -s',
            ' . ',
            ' --server',
            " '",
            '"',
            '\\',
            '$(id)',
            '`',
            ';',
            '\n',
            '\0',
            '..',
            '~',
            '-e',
            ' -K',
            '=',
            ' --files-from=-',
            ' --log-file=/x',
            ' --rsync-path=x',
            '-',
            '\ufffd',
          ),
          fc.string({ unit: 'binary', maxLength: 6 }),
        ),
      ),
      { maxLength: 4 },
    ),
  )
  .map(([command, edits]) =>
    edits.reduce((text, [at, length, insert]) => text.slice(0, at) + insert + text.slice(at + length), command),
  );

/** What is let through, nothing for what is refused with a reason; any other error is thrown. */
function received(command: string) {
  try {
    return parseReceiver(parseCommand(command), new Set());
  } catch (error) {
    if (error instanceof Error && error.constructor.name === 'Refusal' && error.message) return undefined;
    throw error;
  }
}

describe('the commands of the source', () => {
  const ALLOWED = /^(-[A-Za-z]*(e\d*\.\w*)?|-@-?\d+|--[a-zA-Z0-9-]+(=.*)?)$/su;
  const FORBIDDEN =
    /^(--(sender|server|daemon|config|rsh|rsync-path|remote-option|files-from|log-file|write-devices|copy-devices|secluded-args|protect-args|remove-source-files|remove-sent-files|no-implied-dirs|read-batch|write-batch|only-write-batch|block-size|exclude-from|include-from|password-file|copy-dirlinks|keep-dirlinks|copy-links)(=|$)|-[A-Za-df-z]*[KLkMTfsP])/s;

  const isHarmless = (command: string) => {
    const receiver = received(command);
    if (!receiver) return;
    for (const option of receiver.options) {
      expect(option).toMatch(ALLOWED);
      expect(option).not.toMatch(FORBIDDEN);
    }
    expect(parseCommand(command).at(-1)).toBe(receiver.destination);
    expect(parseCommand(command)[1]).toBe('--server');
  };

  test('that mirror are let through', () => {
    for (const command of REAL) expect(received(command)?.options.length).toBeGreaterThan(0);
    expect(received(REAL[2] ?? '')).toEqual({
      options: ['-lHogDtpAXre.iLsfxCvu', '-@-1', '--delete', '--backup-dir=old', '--partial-dir=.p'],
      directories: ['old', '.p'],
      destination: '/data/backup/a b',
      hasBlockLength: true,
    });
  });

  test('are an allowed rsync or refused, whatever is done to them', () => {
    fc.assert(fc.property(nearly, isHarmless), { numRuns: 5000 });
    fc.assert(fc.property(fc.string({ unit: 'binary' }), isHarmless));
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.string(), fc.constantFrom(...REAL.join(' ').split(' ')))), (words) =>
        isHarmless(['rsync', '--server', ...words].join(' ')),
      ),
      { numRuns: 2000 },
    );
  });

  test('are read as a shell reads them, however they are quoted', () => {
    const text = fc.string({ unit: fc.constantFrom(...'ab -=./~\'"\\$`!#%&*()[]{}<>|;?é中'), maxLength: 12 });
    const escaped = text.map((part) => part.replace(/[^\w]/gu, '\\$&'));
    const single = text.map((part) => `'${part.replaceAll("'", '')}'`);
    const double = text.map((part) => `"${part.replace(/["\\$`]/g, '\\$&')}"`);
    const loose = text.map((part) => `"${part.replace(/["$`]/g, '').replace(/\\$/, '').replace(/\\\\/g, '\\')}x"`);
    const plain = fc.string({ unit: fc.constantFrom(...'abc=./-,:@%+é'), maxLength: 5 });
    const word = fc.array(fc.oneof(escaped, single, double, loose, plain), { minLength: 1, maxLength: 5 });
    const command = fc
      .array(
        word.map((parts) => parts.join('')),
        { maxLength: 5 },
      )
      .map((words) => words.join('  '));
    fc.assert(
      fc.property(fc.array(command, { minLength: 1, maxLength: 20 }), (commands) => {
        const script = commands.map((one) => `printf '%s\\0' x ${one}; printf '\\n\\0'`).join('\n');
        const { stdout } = Bun.spawnSync(['sh', '-c', script]);
        const words = commands.flatMap((one) => ['x', ...parseCommand(one), '\n']);
        expect(stdout.toString().split('\0').slice(0, -1)).toEqual(words);
      }),
      { numRuns: 200 },
    );
  });

  test('take no time, however long and however quoted', () => {
    const parts = ['a', '"', "'", '\\', ' ', '""', "''", `'"'"`, '\\"', '"\\', "$'", '-', '--', ' -e', ' .', '"a'];
    for (const part of parts) {
      for (const bytes of [60_000, 65_536, 1_048_576]) {
        const command = `rsync --server ${part.repeat(bytes / part.length)}`;
        const started = performance.now();
        received(command);
        received(`${command}"`);
        received(`rsync --server "${part.repeat(bytes / part.length - 2)}`);
        expect(`${part} ${performance.now() - started < 1000}`).toBe(`${part} true`);
      }
    }
  });
});
