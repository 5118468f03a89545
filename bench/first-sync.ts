/** A source that is mirrored for the first time, again and again. */
import { renameSync, rmdirSync } from 'node:fs';
import { Bed, breathe, type Run } from './bed.ts';
import { followed, writeFiles } from './changes.ts';

const CONTENT = `${'a small file '.repeat(8)}\n`.slice(-100);

/** How long the first full sync took, as the log tells of it, s; of others, all that the start took. */
function syncSeconds(run: Run, upSeconds: number): number {
  if (run.mirror.role !== 'ours') return upSeconds;
  const line = run.output.split('\n').find((text) => text.includes('"sync.success"'));
  if (!line) throw new Error(`no full sync in:\n${run.output.slice(-5000)}`);
  return JSON.parse(line).duration_ms / 1000;
}

/** Mirrors the source into a new backup: how long the sync took, s, and a mirror until it follows changes, within `limit` ms. */
export async function syncOnce(run: Run, limit: number): Promise<Record<string, number>> {
  await run.open();
  const started = performance.now();
  await run.mirror.launch(run);
  const seconds = () => (performance.now() - started) / 1000;
  const s = syncSeconds(run, seconds());
  if (run.mirror.push) return { s };
  await followed(run, `probe of ${run.mirror.name}`.replaceAll(/\W/g, '-'), limit);
  return { s, up: seconds() };
}

/** The source, which goes from one bed to the next, so that each has a backup that never held anything. */
export class Passed {
  constructor(private at: string) {}

  async toNewBed(): Promise<Bed> {
    const bed = await Bed.make('full');
    await bed.authorise();
    rmdirSync(bed.path('source'));
    renameSync(this.at, bed.path('source'));
    this.at = bed.path('source');
    return bed;
  }
}

/** @param files of 100 bytes each */
export async function makeSource(files: string[]): Promise<Passed> {
  const bed = await Bed.make('full');
  for (let from = 0; from < files.length; from += 1000) {
    writeFiles(bed.path('source'), files.slice(from, from + 1000), () => CONTENT);
    await breathe();
  }
  return new Passed(bed.path('source'));
}
