import { expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { Pair } from '../pair.ts';
import { content, count, eventually } from '../processes.ts';

setDefaultTimeout(120_000);

const CHANGED = '已更改，立即进行一次全量比较';

test.each([
  ['--exclude-from=', '*.tmp'],
  ['--filter=. ', '- *.tmp'],
])('a file of rules outside of the source counts as soon as it is edited, with %sFILE', async (option, rule) => {
  await using pair = await Pair.withKeys('rule-files');
  const rules = pair.path('rules');
  writeFileSync(rules, `${rule}\n`);
  writeFileSync(pair.path('source', 'a.tmp'), '');
  const RSYNC_OPTS = `-rt --delete '${option}${rules}'`;
  const { source } = await pair.run({ RSYNC_OPTS, SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '0' });
  expect(existsSync(pair.path('backup', 'a.tmp'))).toBe(false);
  writeFileSync(rules, '');
  await eventually(() => existsSync(pair.path('backup', 'a.tmp')));
  expect(count(source.output, CHANGED)).toBe(1);
  rmSync(rules);
  await source.shows(`${rules} 不见了或无法读取，rsync 因此无法运行`);
  await source.shows(/同步失败 \(退出码: 11\).*规则文件/);
  writeFileSync(pair.path('source', 'b.tmp'), '');
  writeFileSync(`${rules}.new`, '');
  renameSync(`${rules}.new`, rules);
  await eventually(() => existsSync(pair.path('backup', 'b.tmp')));
});

test.each(['outside of it', 'in it'])(
  'new exclusions that would delete too much are held: a file %s',
  async (place) => {
    await using pair = await Pair.withKeys('rule-files-brake');
    const isInside = place === 'in it';
    const rules = isInside ? pair.path('source', '.rsync-filter') : pair.path('rules');
    writeFileSync(rules, '');
    mkdirSync(pair.path('source', 'photos'));
    for (let n = 0; n < 200; n++) writeFileSync(pair.path('source', 'photos', `${n}`), '');
    const RSYNC_OPTS = `-rt --delete --delete-excluded ${isInside ? '-F' : `--exclude-from=${rules}`}`;
    const { source } = await pair.run({ RSYNC_OPTS, SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '0', MAX_DELETE: '100' });
    writeFileSync(rules, isInside ? '- /photos\n' : '/photos\n');
    await source.shows('超出一小时内的限额 100 个');
    expect(readdirSync(pair.path('backup', 'photos'))).toHaveLength(200);
  },
);

test.each([
  ['--delete-excluded', '- *.tmp', 'by rules'],
  ["--delete '--filter=R /[ab]'", '- *.tmp', 'by a comparison of all'],
  ['--delete', 'R /[ab]', 'by a comparison of all'],
])('a change beside rules takes nothing else away, with %s and the rule %s: %s', async (options, rule, way) => {
  await using pair = await Pair.withKeys('rule-files-risk');
  const names = ['.rsync-filter', 'a', 'b', 'c', 'd'];
  for (const name of names) writeFileSync(pair.path('source', name), name);
  writeFileSync(pair.path('source', '.rsync-filter'), `${rule}\n`);
  const RSYNC_OPTS = `-aF ${options}`;
  await pair.run({ RSYNC_OPTS, SYNC_INTERVAL: '0', FULL_SYNC_INTERVAL: '0' });
  writeFileSync(pair.path('source', 'c'), 'changed');
  rmSync(pair.path('source', 'd'));
  await pair.isMirrored();
  expect(readdirSync(pair.path('backup')).toSorted()).toEqual(['.rsync-filter', 'a', 'b', 'c']);
  const changes = () => JSON.parse(content(pair.path('source-status.json'))).targets[0].syncs;
  await eventually(() => changes().incremental.success > 0 || changes().full.success > 1);
  expect(changes().incremental.success > 0 ? 'by rules' : 'by a comparison of all').toBe(way);
});
