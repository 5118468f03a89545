/** One of several sources that mirror to the backup of a pair. */

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import type { Pair } from './pair.ts';
import { eventually, PATIENCE_MS, type Program } from './processes.ts';
import { makeKey } from './thief.ts';
import { expectEqual } from './tree.ts';

/** A source of its own beside others of a pair, with a key of its own: an empty name is for the one without. */
export class Member {
  readonly key: string;

  constructor(
    readonly pair: Pair,
    readonly name: string,
    readonly id = name || 'nameless',
  ) {
    for (const directory of ['source', 'ssh', 'shared']) mkdirSync(this.path(directory), { recursive: true });
    this.key = this.path('ssh', 'id_rsa');
    makeKey(this.key);
  }

  path(kind: string, ...names: string[]): string {
    return kind === 'shared' ? this.pair.path('shared', ...names) : this.pair.path(`${kind}-${this.id}`, ...names);
  }

  /** Where its mirror lies. */
  get copy(): string {
    return this.pair.path('backup', this.name);
  }

  get env(): Record<string, string> {
    return {
      ...(this.name ? { SOURCE_NAME: this.name } : {}),
      ...{ SOURCE_DIR: `${this.path('source')}/`, SSH_DIR: this.path('ssh'), STATUS_FILE: this.path('status.json') },
      ...{ SYNC_INTERVAL: '0', MAX_RETRIES: '3' },
    };
  }

  start(env: Record<string, string> = {}): Program {
    return this.pair.start('rsync-inotify', { ...this.env, ...env });
  }

  async run(env: Record<string, string> = {}): Promise<Program> {
    const program = this.start(env);
    await program.shows('✓ 服务运行中');
    return program;
  }

  write(name: string, text = `${this.id}: ${name}`): void {
    writeFileSync(this.path('source', name), text);
  }

  async isMirrored(ms = PATIENCE_MS): Promise<void> {
    await eventually(() => expectEqual(this.path('source'), this.copy, ['--exclude=/.history']), ms).catch((error) => {
      throw new Error(`${error}\n${this.pair.programs.map(({ output }) => output).join('\n---\n')}`);
    });
  }

  /** Puts its key on the shared volume as it would itself. */
  publish(file = this.name ? `sources/${this.name}.pub` : 'id_rsa.pub'): void {
    mkdirSync(this.pair.path('shared', 'sources'), { recursive: true });
    copyFileSync(`${this.key}.pub`, this.pair.path('shared', `${file}.new`));
    renameSync(this.pair.path('shared', `${file}.new`), this.pair.path('shared', file));
  }

  get fingerprint(): string {
    const { stdout } = spawnSync('ssh-keygen', ['-lf', `${this.key}.pub`], { encoding: 'utf8' });
    return stdout.split(' ')[1] ?? '';
  }
}
