/** A Prometheus with the files of monitoring/, which asks programs on this machine each second. */

import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MONITORING } from './monitoring.ts';
import type { Pair } from './pair.ts';
import { cleanEnv, freePort, Program } from './processes.ts';

/** Runs promtool and returns what it says; fails with that when it is not content. */
export function promtool(args: string[], input = ''): string {
  const { stdout, stderr, status } = spawnSync('promtool', args, { cwd: MONITORING, input, encoding: 'utf8' });
  if (status !== 0) throw new Error(`promtool ${args.join(' ')} (${status})\n${stdout}${stderr}`);
  return stdout + stderr;
}

/** A copy of monitoring/ for a pair, in which nothing takes longer than seconds. */
export function copyMonitoring(pair: Pair): string {
  const directory = pair.path('monitoring');
  cpSync(MONITORING, directory, { recursive: true });
  return directory;
}

/** Changes a file in place. @throws where a word that is to be replaced is not there */
export function rewrite(file: string, changes: [former: string | RegExp, word: string][]): void {
  let text = readFileSync(file, 'utf8');
  for (const [former, word] of changes) {
    if (text.search(former) < 0) throw new Error(`${file} has no ${former}`);
    text = text.replaceAll(former, word);
  }
  writeFileSync(file, text);
}

interface Sample {
  metric: Record<string, string>;
  value: [number, string];
}

interface Addresses {
  source?: string;
  backup?: string;
  alertmanager?: string;
}

/** Where a configuration of monitoring/ looks for what it asks and tells. */
const PLACES = { source: 'rsync-source:9873', backup: 'rsync-backup:9873', alertmanager: 'alertmanager:9093' };

export class Prometheus {
  private constructor(
    readonly program: Program,
    private readonly url: string,
  ) {}

  /** @param addresses what is there; only a backup alone is asked as in compose.backup-monitoring.yml */
  static async start(pair: Pair, addresses: Addresses, directory = copyMonitoring(pair)): Promise<Prometheus> {
    const file = addresses.source ? 'prometheus.yml' : 'prometheus-backup.yml';
    const path = join(directory, file);
    const places = Object.entries(PLACES).filter(([, place]) => readFileSync(path, 'utf8').includes(place));
    const targetOf = (name: string) => {
      const target = addresses[name as keyof Addresses];
      return target ? `"${target}"` : ''; // none
    };
    const targets = places.map(([name, place]): [string, string] => [`"${place}"`, targetOf(name)]);
    rewrite(path, [...targets, [/_interval: 15s/g, '_interval: 1s']]);
    const address = `127.0.0.1:${await freePort()}`;
    const data = `--storage.tsdb.path=${pair.path('prometheus')}`;
    const options = [`--config.file=${file}`, data, `--web.listen-address=${address}`];
    const program = pair.keep(new Program('prometheus', options, { cwd: directory, env: cleanEnv() }));
    await program.shows('Server is ready to receive web requests');
    return new Prometheus(program, `http://${address}/api/v1`);
  }

  async get(path: string, parameters: Record<string, string> = {}): Promise<unknown> {
    const answer = await fetch(`${this.url}/${path}?${new URLSearchParams(parameters)}`);
    const { status, data, error } = (await answer.json()) as { status: string; data: unknown; error?: string };
    if (status !== 'success') throw new Error(`${parameters.query ?? path}: ${error}`);
    return data;
  }

  async samples(query: string): Promise<Sample[]> {
    return ((await this.get('query', { query })) as { result: Sample[] }).result;
  }

  /** The value of a query that has one. */
  async value(query: string): Promise<number> {
    const samples = await this.samples(query);
    if (samples.length !== 1) throw new Error(`${query}: ${JSON.stringify(samples)}`);
    return Number(samples[0]?.value[1]);
  }
}
