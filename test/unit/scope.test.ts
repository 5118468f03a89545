/** What keeps a program that hangs from holding up the whole bench. */
import { expect, test } from 'bun:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { goOn, limited, started } from '../../bench/scope.ts';

/** Something that was started, and whether it was ended. */
const something = () => {
  const it = {
    ended: false,
    async [Symbol.asyncDispose]() {
      it.ended = true;
    },
  };
  return it;
};

test('work that hangs is given up, what it has started is ended, and it gets no further', async () => {
  const [one, other] = [something(), something()];
  const steps: string[] = [];
  const hang = Promise.withResolvers<void>();
  const hanging = limited(50, async () => {
    started(one);
    await hang.promise;
    steps.push('later');
    await goOn();
    steps.push('further');
  });
  await expect(hanging).rejects.toThrow('not within 0.05 s');
  expect(one.ended).toBe(true);
  expect(await limited(1000, async () => started(other))).toBe(other);
  expect(other.ended).toBe(false);
  hang.resolve();
  await sleep(50);
  expect(steps).toEqual(['later']);
});

test('work within work ends with it, and one that fails takes nothing else along', async () => {
  const [inner, beside] = [something(), something()];
  const steps: string[] = [];
  await limited(1000, async () => {
    started(beside);
    const failing = limited(1000, async () => {
      started(inner);
      throw new Error('it fails');
    });
    await expect(failing).rejects.toThrow('it fails');
    await goOn();
    steps.push('on');
  });
  expect([inner.ended, beside.ended, steps]).toEqual([true, false, ['on']]);
  const hang = Promise.withResolvers<void>();
  const outer = limited(50, () => limited(10_000, () => hang.promise.then(goOn).then(() => steps.push('too far'))));
  await expect(outer).rejects.toThrow('not within');
  hang.resolve();
  await sleep(50);
  expect(steps).toEqual(['on']);
});
