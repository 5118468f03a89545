import { expect, test } from 'bun:test';
import { error, log, writeLine } from '../../../src/service/log.ts';
import { programCode } from '../../project.ts';
import { keepLog } from '../mirror/stand-ins.ts';

test('an entry is one line, whatever its message holds', () => {
  using kept = keepLog();
  log('any.event', 'a\n[2025-10-09 12:00:00] 同步成功 ✓\r\u001b[31m\u202e');
  error('any.event', 'second');
  const [first = '', second = '', ...rest] = Bun.stripANSI(kept.text).split('\n');
  expect(first).toMatch(/^\[[-\d: ]+\] a\\u000a\[2025-10-09 12:00:00\] 同步成功 ✓\\u000d\\u001b\[31m\\u202e$/);
  expect(second).toMatch(/^\[ERROR [-\d: ]+\] second$/);
  expect(rest).toEqual(['']);
});

test('a line of another program is a whole line', () => {
  using kept = keepLog();
  writeLine('file');
  log('any.event', 'entry');
  expect(Bun.stripANSI(kept.text)).toMatch(/^file\n\[[-\d: ]+\] entry\n$/);
});

test('what stands behind the bracket of an entry are words of ours, never a name', () => {
  const calls = programCode().matchAll(/\b(?:log|info|warn|error|heading)\(\s*'[a-z_]+\.[a-z_]+',\s*`\$\{(\w+)/g);
  const beginnings = [...new Set([...calls].map(([, expression = '']) => expression))];
  expect(beginnings).not.toBeEmpty();
  for (const expression of beginnings)
    expect(expression).not.toMatch(/^(showPath|escapeText|decodePath|reasonOf|lastLine)$/);
});
