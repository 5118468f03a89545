/** The options that the rsync of this machine has, which are all to be judged. */
import { spawnSync } from 'node:child_process';

/** What options are called: `--info=ALL4` is `--info`, `-B1` is `-B`. */
export const nameOf = (option: string) => (option.startsWith('--') ? option.replace(/=.*/, '') : option.slice(0, 2));

/** Lists what options are called by `rsync --help`. */
export function optionsOfRsync(): string[] {
  const { stdout } = spawnSync('rsync', ['--help'], { encoding: 'utf8' });
  const [, list = ''] = stdout.split(/^Options$/m);
  const found = [...list.matchAll(/^(--?[^\s,]+)(?:, (--?\S+))?/gm)];
  return found.flatMap(([, name = '', other = name]) => [nameOf(name), nameOf(other)]);
}
