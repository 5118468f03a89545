/**
 * Runs the pair on this machine, as whoever calls it: ./data/source is mirrored to ./data/backup over an sshd on
 * 127.0.0.1. Both logs are shown, the program's name in front of each line. Ctrl-C ends it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { userName } from './pair.ts';

const data = resolve('data');
const port = process.env.SSHD_PORT ?? '2222';
// Not below ./data: sshd trusts no key in a directory that a group may write to, as many a working copy is.
const keys = join(homedir(), '.cache', 'rsync-inotify-demo');

mkdirSync(keys, { recursive: true, mode: 0o700 });
mkdirSync(join(data, 'source'), { recursive: true });

const common = { SHARED_KEYS_DIR: join(keys, 'shared'), DEST_DIR: `${join(data, 'backup')}/` };
const backupEnv = {
  SSH_DIR: join(keys, 'backup'),
  STATUS_FILE: join(keys, 'backup-status.json'),
  HOST_KEY_DIR: join(keys, 'host-keys'),
  SSHD_PORT: port,
  SSHD_LISTEN: '127.0.0.1',
};
const sourceEnv = {
  SSH_DIR: join(keys, 'source'),
  STATUS_FILE: join(keys, 'source-status.json'),
  SOURCE_DIR: `${join(data, 'source')}/`,
  DEST_HOST: `${userName()}@127.0.0.1`,
  SSH_OPTS: `-p ${port}`,
};

function start(name: string, env: Record<string, string>): ChildProcess {
  const script = join(import.meta.dir, '..', 'scripts', `${name}.ts`);
  // Not with the .env that is meant for the containers.
  const child = spawn(process.execPath, ['run', '--no-env-file', script], {
    env: { ...process.env, ...env, ...common },
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true, // Ctrl-C is for us, so that the source can send its last changes before the backup ends
  });
  if (child.stdout) {
    createInterface({ input: child.stdout }).on('line', (line) => {
      console.log(`${name.padEnd(13)} | ${line}`);
      if (line.includes('✓ 服务运行中')) invite();
    });
  }
  return child;
}

function invite(): void {
  console.log(`
  请在这个目录里写入文件 / write files into:   ${join(data, 'source')}
  它们会立刻出现在 / and see them appear in:    ${join(data, 'backup')}
  按 Ctrl-C 结束 / Ctrl-C ends the demo
`);
}

const backup = start('start-sshd', backupEnv);
const source = start('rsync-inotify', sourceEnv);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => source.kill('SIGTERM'));
source.once('exit', () => backup.kill('SIGTERM'));
backup.once('exit', () => source.kill('SIGTERM'));
const ends = await Promise.all([once(source, 'exit'), once(backup, 'exit')]);
process.exitCode = Math.max(...ends.map(([status]) => status ?? 1));
