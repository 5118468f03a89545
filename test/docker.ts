/** Docker, for the tests that need it. */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ROOT } from './project.ts';

/** Why there is no Docker here, if there is none. */
export function dockerObstacle(): string {
  if (spawnSync('docker', ['compose', 'version']).status !== 0) return 'docker compose v2 is not installed';
  if (spawnSync('docker', ['info']).status !== 0) return 'no Docker engine runs';
  return '';
}

/** Runs `docker …` and returns what it printed. @throws when it fails, with all of that */
export function docker(args: string[], options: { cwd?: string; input?: string } = {}): string {
  const { stdout, stderr, status } = spawnSync('docker', args, { ...options, encoding: 'utf8' });
  if (status !== 0) throw new Error(`docker ${args.join(' ')} (${status})\n${stdout}${stderr}`);
  return stdout + stderr;
}

/** Builds the image under a name of the test's own: a new one under the usual name would replace running containers. */
export function buildImage(image: string): void {
  docker(['build', '-q', '-t', image, '-f', join(ROOT, 'rsync_inotify.dockerfile'), ROOT]);
}
