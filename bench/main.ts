/**
 * Measures rsync-inotify beside lsyncd, a plain shell loop and a bare rsync: in one run, on this machine, over sshd on
 * loopback. Prints the tables and writes them, all numbers and the plots.
 *
 *   bun run bench                                  everything, a quarter of an hour, into bench/results
 *   bun run bench latency burst                    some workloads, into dist/bench
 *   bun run bench trees --sizes 1000,10000         smaller trees
 *   bun run bench --below /mnt/disk                in another place than the home directory; 2 GB are needed there
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT } from '../test/helpers.ts';
import { place, removeAll } from './bed.ts';
import { describeMachine } from './machine.ts';
import { hasLsyncd } from './mirrors.ts';
import { plotsOf } from './plots.ts';
import { tell } from './progress.ts';
import type { Section } from './section.ts';
import { document } from './table.ts';
import { burst } from './workloads/burst.ts';
import { idle } from './workloads/idle.ts';
import { latency } from './workloads/latency.ts';
import { moves } from './workloads/moves.ts';
import { sustained } from './workloads/sustained.ts';
import { trees } from './workloads/trees.ts';
import { up } from './workloads/up.ts';

const SIZES = [1000, 100_000, 1_000_000];

const workloads = (sizes: number[]): Record<string, () => Promise<Section>> => ({
  latency,
  burst,
  trees: () => trees(sizes),
  moves,
  sustained,
  idle,
  up,
});

/** What is to be measured. Only a complete run replaces the published results. */
function readArguments(): { chosen: [string, () => Promise<Section>][]; directory: string } {
  const options = { sizes: { type: 'string' }, below: { type: 'string' } } as const;
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  if (values.below !== undefined) place.directory = resolve(values.below);
  const sizes = values.sizes?.split(',').map(Number) ?? SIZES;
  if (!sizes.every((size) => Number.isInteger(size) && size > 0)) throw new Error(`--sizes: ${values.sizes}`);
  const all = workloads(sizes);
  const unknown = positionals.find((name) => !(name in all));
  if (unknown !== undefined) throw new Error(`no workload ${unknown}: there are ${Object.keys(all).join(', ')}`);
  const chosen = Object.entries(all).filter(([name]) => positionals.length === 0 || positionals.includes(name));
  const isComplete = positionals.length === 0 && values.sizes === undefined;
  return { chosen, directory: join(ROOT, isComplete ? 'bench/results' : 'dist/bench') };
}

/** Lists of numbers stay on one line. */
const json = (value: unknown) =>
  JSON.stringify(value, (_, each) => (typeof each === 'number' ? Number(each.toPrecision(5)) : each), 2).replace(
    /\[[\d\s,.e[\]-]*\]/g,
    (list) => list.replace(/\s+/g, ''),
  );

async function main(): Promise<void> {
  const { chosen, directory } = readArguments();
  const machine = describeMachine();
  const leftOut = hasLsyncd ? [] : ['lsyncd'];
  const sections: Section[] = [];
  for (const [name, measure] of chosen) {
    tell(name);
    sections.push(await measure());
  }
  const text = document(machine, sections, leftOut);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'results.json'), `${json({ machine, leftOut, sections })}\n`);
  writeFileSync(join(directory, 'table.md'), text);
  for (const [name, svg] of plotsOf(sections)) writeFileSync(join(directory, `${name}.svg`), svg);
  console.log(`${text}\nwritten to ${directory}`);
  tell('removing what was made');
  await removeAll();
}

/** Ends early, with nothing left behind. */
async function end(status: number): Promise<void> {
  tell('ending, and removing what was made');
  await removeAll();
  process.exit(status);
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => end(130));
main().catch(async (error) => {
  console.error(error);
  await end(1);
});
