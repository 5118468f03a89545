/** Commands for the running source of a pair. */

import { spawn, spawnSync } from 'node:child_process';
import type { Pair } from './pair.ts';
import { answerOf, cleanEnv, content } from './processes.ts';
import { binary } from './project.ts';

const envOf = (pair: Pair) => ({ ...cleanEnv(), NO_COLOR: '1', ...pair.sourceEnv });

/** Has the running source do something; this process waits for that, and does nothing else meanwhile. */
export function tell(pair: Pair, ...args: string[]) {
  const { status, stdout, stderr } = spawnSync(binary('rsync-inotify'), args, { env: envOf(pair), encoding: 'utf8' });
  return { status, output: stdout + stderr };
}

/** The same, while this process goes on. */
export async function tellMeanwhile(pair: Pair, ...args: string[]) {
  const { status, stdout, stderr } = await answerOf(spawn(binary('rsync-inotify'), args, { env: envOf(pair) }));
  return { status, output: stdout + stderr };
}

export const statusOf = (pair: Pair) => JSON.parse(content(pair.path('source-status.json')) || '{}');
export const stateOf = (pair: Pair) => statusOf(pair).targets?.[0]?.state;
