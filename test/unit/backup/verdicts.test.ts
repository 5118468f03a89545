import { describe, expect, test } from 'bun:test';
import { parseCommand, parseReceiver } from '../../../src/backup/forced-command.ts';
import { nameOf, optionsOfRsync } from './rsync-help.ts';
import { VERDICTS, type Verdict } from './verdicts.ts';

/** What becomes of an option at the door. */
function verdictOn(option: string): Verdict {
  try {
    const command = parseCommand(`rsync --server -re.iLsfxCIvu '${option}' . /data/backup/`);
    const { options, directories } = parseReceiver(command, new Set());
    if (directories.length > 0) return 'confined';
    return options.includes(option) ? 'let in' : 'left out';
  } catch (cause) {
    expect(String(cause)).toContain('不允许 rsync 选项');
    return 'refused';
  }
}

describe('the options of rsync', () => {
  test.each(VERDICTS)('%s: %s, for it %s', (option, verdict) => {
    expect(verdictOn(option.split('|')[0] ?? '')).toBe(verdict);
  });

  test('are all judged that the rsync of this machine has', () => {
    const judged = new Set(VERDICTS.flatMap(([option]) => option.split(/[| ]/).map(nameOf)));
    const names = optionsOfRsync();
    expect(names.length).toBeGreaterThan(200);
    expect(names.filter((name) => !judged.has(name))).toEqual([]);
  });
});
