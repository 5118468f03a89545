import { expect, test } from 'bun:test';
import { Ceiling, summariseAll } from '../../../src/backup/ceiling.ts';
import { complaints } from '../../../src/service/status.ts';
import { eventually } from '../../processes.ts';

const summaries = (what: string) => complaints.filter(({ message }) => message.startsWith(`${what}：另有`));

test('the first are told, the last of them says so, the others are counted and told once, and then it begins anew', async () => {
  const ceiling = new Ceiling('lines', 3, 50);
  for (let round = 1; round <= 2; round++) {
    expect(Array.from({ length: 5 }, () => ceiling.count())).toEqual(['told', 'told', 'last', 'omitted', 'omitted']);
    await eventually(() => summaries('lines').reduce((sum, { count }) => sum + count, 0) === round);
  }
  expect(summaries('lines')[0]?.message).toMatch(
    /^lines：另有 2 条未逐条记录（首次 [-\d]{10} [:\d]{8}，末次 [-\d]{10} [:\d]{8}）$/,
  );
});

test('what was left out is told at the end, and nothing where nothing was', () => {
  const [few, many] = [new Ceiling('few', 3), new Ceiling('many', 3)];
  for (let n = 0; n < 3; n++) few.count();
  for (let n = 0; n < 100_000; n++) many.count();
  summariseAll();
  summariseAll();
  expect(summaries('few')).toEqual([]);
  expect(summaries('many').map(({ message, count }) => [message.slice(0, 14), count])).toEqual([
    ['many：另有 99997 ', 1],
  ]);
});
