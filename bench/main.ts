/**
 * Measures rsync-inotify beside lsyncd, Unison, Syncthing, a plain shell loop and a bare rsync: in one run, on this
 * machine, over sshd on loopback. Prints the tables and writes them, all numbers and the plots.
 *
 *   bun run bench                                  everything, half an hour, into bench/results and the pages
 *   bun run bench latency burst                    some workloads, into dist/bench
 *   bun run bench trees full --sizes 1000,10000    smaller trees; options and directories, too
 *   bun run bench --below /mnt/disk                in another place than the home directory; 10 GB are needed there
 *   bun run bench --again                          nothing: the tables and plots once more, of the published results
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { fileOf, LANGUAGES, read } from '../test/pages.ts';
import { ROOT } from '../test/project.ts';
import { place, removeAll } from './bed.ts';
import { describeMachine, type Machine } from './machine.ts';
import { missingPeers } from './peers.ts';
import { plotsOf } from './plots.ts';
import { tell } from './progress.ts';
import { limited } from './scope.ts';
import type { Section } from './section.ts';
import { PAGES_WITH_RESULTS, withResults } from './summary.ts';
import { document } from './table.ts';
import { burst } from './workloads/burst.ts';
import { compare } from './workloads/compare.ts';
import { cpu } from './workloads/cpu.ts';
import { directories } from './workloads/directories.ts';
import { full } from './workloads/full.ts';
import { history } from './workloads/history.ts';
import { idle } from './workloads/idle.ts';
import { latency } from './workloads/latency.ts';
import { line } from './workloads/line.ts';
import { link } from './workloads/link.ts';
import { moves } from './workloads/moves.ts';
import { moreOptions } from './workloads/options.ts';
import { restart } from './workloads/restart.ts';
import { single } from './workloads/single.ts';
import { sustained } from './workloads/sustained.ts';
import { trees } from './workloads/trees.ts';
import { up } from './workloads/up.ts';

const SIZES = [1000, 1_000_000];
const DIRECTORIES = [1000, 100_000];
const FULL = [100_000];
/** What takes longer hangs, ms. */
const WORKLOAD_MS = 900_000;

/** @param sizes of the trees, where they shall be others than usual */
const workloads = (sizes: number[] | undefined): Record<string, () => Promise<Section>> => ({
  latency,
  history,
  options: () => moreOptions(sizes?.[0] ?? 1000, sizes?.at(-1) ?? 60_000),
  burst,
  trees: () => trees(sizes ?? SIZES),
  directories: () => directories(sizes ?? DIRECTORIES),
  moves,
  sustained,
  link,
  line,
  full: () => full(Math.max(...(sizes ?? FULL))),
  single,
  compare,
  cpu,
  idle,
  up,
  restart,
});

const PUBLISHED = join(ROOT, 'bench/results');

interface Results {
  machine: Machine;
  leftOut: string[];
  sections: Section[];
}

/** What is to be measured; nothing with `--again`. Only a complete run replaces the published results. */
function readArguments(): { chosen: [string, () => Promise<Section>][]; directory: string; again: boolean } {
  const options = { sizes: { type: 'string' }, below: { type: 'string' }, again: { type: 'boolean' } } as const;
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  if (values.below !== undefined) place.directory = resolve(values.below);
  const sizes = values.sizes?.split(',').map(Number);
  if (sizes && !sizes.every((size) => Number.isInteger(size) && size > 0)) throw new Error(`--sizes: ${values.sizes}`);
  const all = workloads(sizes);
  const unknown = positionals.find((name) => !(name in all));
  if (unknown !== undefined) throw new Error(`no workload ${unknown}: there are ${Object.keys(all).join(', ')}`);
  const chosen = Object.entries(all).filter(([name]) => positionals.length === 0 || positionals.includes(name));
  const isComplete = positionals.length === 0 && values.sizes === undefined;
  const directory = isComplete ? PUBLISHED : join(ROOT, 'dist/bench');
  return { chosen, directory, again: values.again ?? false };
}

/** Lists of numbers stay on one line. */
const json = (value: unknown) =>
  JSON.stringify(value, (_, each) => (typeof each === 'number' ? Number(each.toPrecision(5)) : each), 2).replace(
    /\[[\d\s,.e[\]-]*\]/g,
    (list) => list.replace(/\s+/g, ''),
  );

/** Writes the tables and the plots, those of a complete run into the pages, too; returns the large table. */
function publish(directory: string, { machine, leftOut, sections }: Results): string {
  const write = (name: string, content: string) => writeFileSync(join(directory, name), content);
  const text = document(machine, sections, leftOut);
  write('table.md', text);
  if (directory === PUBLISHED) {
    for (const language of LANGUAGES)
      for (const page of PAGES_WITH_RESULTS) {
        const file = fileOf(page, language);
        writeFileSync(join(ROOT, file), withResults(read(file), machine, sections, language));
      }
  }
  for (const [name, svg] of plotsOf(sections)) write(`${name}.svg`, svg);
  return text;
}

/** Measures a workload; one that fails or hangs is left out, and what it has started is ended. */
async function sectionsOf(name: string, measure: () => Promise<Section>): Promise<Section[]> {
  tell(name);
  const started = performance.now();
  try {
    const section = await limited(WORKLOAD_MS, measure);
    const seconds = Math.round((performance.now() - started) / 1000);
    tell(`${name} took ${seconds} s`);
    return [{ ...section, seconds }];
  } catch (error) {
    console.error(error);
    tell(`${name} failed after ${Math.round((performance.now() - started) / 1000)} s and is left out`);
    process.exitCode = 1;
    return [];
  }
}

async function main(): Promise<void> {
  const { chosen, directory, again } = readArguments();
  if (again) {
    publish(PUBLISHED, JSON.parse(readFileSync(join(PUBLISHED, 'results.json'), 'utf8')));
    return console.log(`written to ${PUBLISHED}`);
  }
  const results: Results = { machine: describeMachine(), leftOut: missingPeers(), sections: [] };
  for (const [name, measure] of chosen) results.sections.push(...(await sectionsOf(name, measure)));
  const kept = json(results); // rounded, so that the same tables can be made of it again
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'results.json'), `${kept}\n`);
  console.log(`${publish(directory, JSON.parse(kept))}\nwritten to ${directory}`);
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
