/** The machine that was measured, and the versions of what takes part. */
import { spawnSync } from 'node:child_process';
import { cpus, release, totalmem } from 'node:os';
import { place } from './bed.ts';

/** What a program prints about itself, with the arguments that ask for it. */
function versionOf(pattern: RegExp, command: string, ...args: string[]): string {
  const { stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  return pattern.exec(`${stdout}${stderr}`)?.[1] ?? 'not installed';
}

export function describeMachine() {
  return {
    date: new Date().toISOString().slice(0, 16).replace('T', ' '),
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    fileSystem: spawnSync('stat', ['-f', '-c', '%T', place.directory], { encoding: 'utf8' }).stdout.trim(),
    versions: {
      rsync: versionOf(/version v?(\S+)/, 'rsync', '--version'),
      OpenSSH: versionOf(/OpenSSH_([^\s,]+)/, 'ssh', '-V'),
      inotifywait: versionOf(/inotifywait (\S+)/, 'inotifywait', '--help'),
      lsyncd: versionOf(/Version: (\S+)/, 'lsyncd', '--version'),
      Unison: versionOf(/version (\S+)/, 'unison', '-version'),
      Syncthing: versionOf(/syncthing v(\S+)/, 'syncthing', '--version'),
      Bun: Bun.version,
    },
  };
}

export type Machine = ReturnType<typeof describeMachine>;
