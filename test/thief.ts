/** Somebody who has got hold of the source's key, and what they do with it. */

import { expect } from 'bun:test';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Outcome, Request } from './odd-client.ts';
import { CHEAP_LOGIN, type Pair, userName } from './pair.ts';
import { type Answer, answerOf, content } from './processes.ts';

/** Runs a program to its end. */
export async function run(program: string, args: string[], input = '', env = process.env): Promise<Answer> {
  return answerOf(spawn(program, args, { env }), input);
}

/** Makes a key pair where the private half may stay. */
export function makeKey(path: string, ...args: string[]): void {
  spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'thief', '-f', path, ...args]);
}

/** Somebody who has got hold of the source's key. */
export class Thief {
  readonly key: string;
  /** What they must neither read nor change. */
  private readonly other: string;

  /** @param name that of the source, '' for one without: what they must not touch is that of another source then, beside theirs */
  constructor(
    readonly pair: Pair,
    readonly user = userName(),
    name = '',
  ) {
    this.key = pair.path('stolen');
    makeKey(this.key);
    const shared = pair.path('shared', name ? `sources/${name}.pub` : 'id_rsa.pub');
    mkdirSync(dirname(shared), { recursive: true });
    writeFileSync(shared, content(`${this.key}.pub`));
    this.other = name ? pair.path('backup', 'outside') : pair.path('outside');
    mkdirSync(join(this.other, 'deep'), { recursive: true });
    writeFileSync(join(this.other, 'secret'), 'SECRETWORD:of the backup\n', { mode: 0o600 });
  }

  get host(): string {
    return `${this.user}@127.0.0.1`;
  }

  get sshOptions(): string[] {
    const options = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR'];
    const more = [CHEAP_LOGIN, 'IdentitiesOnly=yes', 'IdentityAgent=none', `IdentityFile=${this.key}`];
    return ['-F', 'none', '-p', `${this.pair.port}`, ...[...options, ...more].flatMap((option) => ['-o', option])];
  }

  ssh(...args: string[]): Promise<Answer> {
    return run('ssh', [...this.sshOptions, ...args]);
  }

  rsync(...args: string[]): Promise<Answer> {
    return this.rsyncThrough('', ...args);
  }

  /** @param edit a line of sh that changes the words of the remote command, as a client of one's own would */
  rsyncThrough(edit: string, ...args: string[]): Promise<Answer> {
    const wrapper = this.pair.path(`wrapper-${Bun.hash(edit)}`);
    const ssh = ['ssh', ...this.sshOptions].map((word) => `'${word}'`).join(' ');
    const script = `#!/bin/bash\nhost=$1\nshift\nwords=("$@")\n${edit}\nexec ${ssh} "$host" "\${words[@]}"\n`;
    if (!existsSync(wrapper)) writeFileSync(wrapper, script, { mode: 0o755 }); // one that runs cannot be written
    return run('rsync', ['-e', wrapper, ...args]);
  }

  /** Asks for what ssh would not ask for. */
  async ask(...requests: Request[]): Promise<Outcome[]> {
    const client = [join(import.meta.dir, 'odd-client.ts'), `${this.pair.port}`, this.user, this.key];
    const { stdout, stderr } = await run(process.execPath, client, JSON.stringify(requests));
    expect(stderr).toBe('');
    return JSON.parse(stdout);
  }

  /** What is outside of what they may touch, to be compared. */
  get outside(): string[] {
    const all = ['.', ...readdirSync(this.other, { recursive: true, encoding: 'utf8' }).sort()];
    return all.map((name) => {
      const { mode, uid, gid, size, mtimeMs } = lstatSync(join(this.other, name));
      return [name, mode, uid, gid, size, mtimeMs].join(' ');
    });
  }
}
