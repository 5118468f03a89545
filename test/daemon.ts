/** An rsync daemon of a test's own, as a NAS has one. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { isRoot, type Pair } from './pair.ts';
import { content, eventually, freePort, Program, processesWith, signalAll } from './processes.ts';

/** Who may log in. */
const USER = 'mirror-user';
/** What is nowhere to be read but in the file. */
export const PASSWORD = 'correct-horse-7281';

/** The settings of a module, by their names in rsyncd.conf(5). */
export type Settings = Record<string, string | number>;

export class Daemon {
  private program: Program | undefined;

  private constructor(
    private readonly pair: Pair,
    readonly port: number,
  ) {}

  /** Starts one with a module `mirror`, which is the pair's backup, and others, which have the same settings but for their own. */
  static async start(pair: Pair, settings: Settings = {}, others: Record<string, Settings> = {}): Promise<Daemon> {
    const daemon = new Daemon(pair, await freePort());
    mkdirSync(pair.path('backup'), { recursive: true });
    writeFileSync(pair.path('secrets'), `${USER}:${PASSWORD}\n`, { mode: 0o600 });
    writeFileSync(pair.path('password'), `${PASSWORD}\n`, { mode: 0o600 });
    daemon.configure(settings, others);
    await daemon.up();
    return daemon;
  }

  /** Writes its settings, which it reads for each connection. */
  configure(settings: Settings, others: Record<string, Settings> = {}): void {
    const { pair, port } = this;
    const all: Settings = {
      ...{ path: pair.path('backup'), 'read only': 'no', 'use chroot': 'no' },
      ...{ 'auth users': USER, 'secrets file': pair.path('secrets') },
      ...(isRoot && { uid: 0, gid: 0 }),
      ...settings,
    };
    const lines = (it: Settings) => Object.entries(it).map(([name, value]) => `${name} = ${value}`);
    const modules = Object.entries({ mirror: {}, ...others }).flatMap(([name, own]) => [
      `[${name}]`,
      ...lines({ ...all, ...own }),
    ]);
    const files = { 'log file': pair.path('daemon.log'), 'lock file': pair.path('daemon.lock') };
    const common = lines({ ...files, port, address: '127.0.0.1' });
    writeFileSync(pair.path('rsyncd.conf'), [...common, ...modules, ''].join('\n'));
  }

  /** Starts it, also once more. */
  async up(): Promise<void> {
    const args = ['--daemon', '--no-detach', `--config=${this.pair.path('rsyncd.conf')}`];
    const before = this.log.split('rsyncd version').length;
    this.program = this.pair.keep(new Program('rsync', args, {}));
    await eventually(() => this.log.split('rsyncd version').length > before);
  }

  /** Ends it, with all connections. */
  async down(): Promise<void> {
    const all = [...processesWith(this.pair.path('rsyncd.conf')).keys()];
    signalAll(
      all.filter((pid) => pid !== this.program?.pid),
      'SIGTERM',
    );
    await this.program?.stop();
  }

  /** What it has written down. */
  get log(): string {
    return content(this.pair.path('daemon.log'));
  }

  /** Names a target below a module. */
  url(path = 'mirror/', user = USER): string {
    return `rsync://${user}@127.0.0.1:${this.port}/${path}`;
  }

  /** What a source needs that mirrors there. */
  get env(): Record<string, string> {
    return { DEST_HOST: this.url(), RSYNC_PASSWORD_FILE: this.pair.path('password'), SYNC_INTERVAL: '0' };
  }
}
