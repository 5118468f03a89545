/**
 * The links on the way to DEST_DIR: where one is replaced, what waits has to end at once, for it would still go to where the link has led.
 *
 *   const links = new LinkWatch(() => sshd.endSessions());
 *   links.follow('/backup/current/');
 */
import { type FSWatcher, readlinkSync, watch } from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** How many links are followed at most (path_resolution(7)). */
const MAX_LINKS = 40;

/** Lists the links on the way to a path as they are met, each in the directory where it really is. */
export function linksOn(path: string): string[] {
  const links: string[] = [];
  let place = '/';
  for (const rest = partsOf(path); rest.length > 0 && links.length < MAX_LINKS; ) {
    const next = join(place, rest.shift() ?? '');
    const target = linkAt(next);
    if (target === undefined) place = next;
    else {
      links.push(next);
      rest.unshift(...partsOf(target));
      if (target.startsWith('/')) place = '/';
    }
  }
  return links;
}

const partsOf = (path: string) => path.split('/').filter(Boolean);

/** Reads a link: nothing where there is none. */
function linkAt(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

export class LinkWatch {
  private watchers: FSWatcher[] = [];

  /** @param onChange what is done when a link may lead elsewhere */
  constructor(private readonly onChange: () => void) {}

  /** Watches the links to a path, and no others any more. Where that is not possible, whoever asks has to look now and then. */
  follow(path: string): void {
    for (const watcher of this.watchers) watcher.close();
    this.watchers = linksOn(path).flatMap((link) => {
      try {
        const name = basename(link);
        const watcher = watch(dirname(link), { persistent: false }, (_, changed) => {
          if (changed === name) this.onChange();
        });
        return watcher.on('error', () => watcher.close());
      } catch {
        return []; // there are no watches left, for example
      }
    });
  }
}
