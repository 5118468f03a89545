import { afterEach, beforeEach, describe, expect, test } from 'bun:test';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { readConfig } from '../../../src/mirror/environment.ts';
import { RuleFiles, ruleFilesOf } from '../../../src/mirror/rule-files.ts';
import { scratch } from '../service/scratch.ts';
import { keepLog } from './stand-ins.ts';

let log: ReturnType<typeof keepLog>;
beforeEach(() => {
  log = keepLog();
});
afterEach(() => log[Symbol.dispose]());

const SOURCE_DIR = '/srv/web/';

describe('the files that options name', () => {
  const paths = (RSYNC_OPTS: string) => ruleFilesOf({ RSYNC_OPTS, SOURCE_DIR }).map(({ path }) => path);

  test('are those of patterns, of rules and of names', () => {
    expect(paths('-a --exclude-from=/e/x --include-from /e/i --exclude=/e/no')).toEqual(['/e/x', '/e/i']);
    expect(paths(`-a --filter='merge /e/m' -f '. /e/n' --filter='.,- /e/o' -f '._/e/p'`)).toEqual([
      ...['/e/m', '/e/n', '/e/o', '/e/p'],
    ]);
    expect(paths('-a --files-from=/e/list')).toEqual(['/e/list']);
    expect(paths('-a --exclude-from=rules')).toEqual([join(process.cwd(), 'rules')]);
  });

  test('are none that are on the backup or come from standard input, and no rules', () => {
    expect(paths('-avz --delete --exclude-from=- --files-from=:/list --files-from=host:/list')).toEqual([]);
    expect(paths(`-a --filter='- /e/x' --filter='dir-merge .rules' -f 'protect /x'`)).toEqual([]);
  });

  test('are those above the source that -F and rules like it look for', () => {
    expect(paths('-aF')).toEqual(['/srv/.rsync-filter', '/.rsync-filter']);
    expect(paths(`-a --filter=': /.rules'`)).toEqual(['/srv/.rules', '/.rules']);
    expect(paths('-aC')).toEqual([join(homedir(), '.cvsignore')]);
  });
});

describe('a change of a file of rules', () => {
  function rulesIn(directory: string, name = 'rules') {
    const path = join(directory, 'rules');
    writeFileSync(path, '*.o\n');
    return { path, rules: new RuleFiles({ RSYNC_OPTS: `-a --filter='. ${join(directory, name)}'`, SOURCE_DIR }) };
  }
  /** What is found in two looks, after which nothing is about to change any more. */
  const lookTwice = async (rules: RuleFiles) => [await rules.hasChanged(), await rules.hasChanged()];

  test('counts whichever target has options that name it', async () => {
    using directory = scratch();
    const [all, own] = [join(directory.path, 'all'), join(directory.path, 'own')];
    for (const path of [all, own]) writeFileSync(path, '*.o\n');
    const options = `-a --exclude-from=${all}`;
    const hosts = [options, `${options} --exclude-from=${own}`].map((RSYNC_OPTS) => ({
      config: { ...readConfig({ SOURCE_DIR: '/tmp/' }), RSYNC_OPTS },
    }));
    const rules = RuleFiles.ofAll(hosts);
    expect(await lookTwice(rules)).toEqual([false, false]);
    writeFileSync(own, '*.o\n*.tmp\n');
    expect(await lookTwice(rules)).toEqual([false, true]);
    writeFileSync(all, '*.o\n*.tmp\n');
    expect(await lookTwice(rules)).toEqual([false, true]);
    expect(log.text.split('已更改')).toHaveLength(3);
  });

  test('counts once it has been the same twice', async () => {
    using directory = scratch();
    const { path, rules } = rulesIn(directory.path);
    expect(await lookTwice(rules)).toEqual([false, false]);
    writeFileSync(path, '*.o\n*.tmp\n');
    expect(await rules.hasChanged()).toBe(false);
    writeFileSync(path, '*.o\n*.tmp\n*.bak\n');
    expect(await lookTwice(rules)).toEqual([false, true]);
    expect(await lookTwice(rules)).toEqual([false, false]);
    expect(log.text).toContain(`RSYNC_OPTS 所指的文件 ${path} 已更改，立即进行一次全量比较`);
  });

  test('is none where it says the same as before', async () => {
    using directory = scratch();
    const { path, rules } = rulesIn(directory.path);
    await lookTwice(rules);
    writeFileSync(`${path}.new`, '*.o\n');
    renameSync(`${path}.new`, path);
    expect(await lookTwice(rules)).toEqual([false, false]);
  });

  test('is none where an editor replaces it, but one that is gone is told', async () => {
    using directory = scratch();
    const { path, rules } = rulesIn(directory.path);
    await lookTwice(rules);
    rmSync(path);
    expect(await rules.hasChanged()).toBe(false);
    writeFileSync(path, '*.o\n');
    expect(await lookTwice(rules)).toEqual([false, false]);
    expect(log.text).toBe('');
    rmSync(path);
    expect(await lookTwice(rules)).toEqual([false, true]);
    expect(log.text).toContain(`${path} 不见了或无法读取`);
    writeFileSync(path, '*.o\n');
    expect(await lookTwice(rules)).toEqual([false, true]);
  });

  test('may be in one that another one names', async () => {
    using directory = scratch();
    writeFileSync(join(directory.path, 'all'), `+ *.c\n. ${join(directory.path, 'rules')}\n`);
    const { path, rules } = rulesIn(directory.path, 'all');
    const before = await rules.describe();
    expect(await rules.describe()).toBe(before);
    await lookTwice(rules);
    writeFileSync(path, '*.a\n');
    expect(await lookTwice(rules)).toEqual([false, true]);
    expect(await rules.describe()).not.toBe(before);
  });
});
