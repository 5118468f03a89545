/**
 * An rsync that begins only when a test lets it, so that something can happen between what was decided and what is done.
 *
 *   const rsync = new HeldRsync(pair);
 *   await pair.run({ ...rsync.env });
 *   rsync.hold();
 *   // something has to be mirrored
 *   await rsync.isHeld();
 *   rsync.leave();
 */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import type { Pair } from './pair.ts';
import { eventually } from './processes.ts';

/** One for names waits once it has them; one that only asks does not wait. A request to end comes too late for it. */
const script = (rsync: string, hold: string) => `#!/bin/sh
wait_for_leave() { trap '' TERM; while [ -e '${hold}' ]; do touch '${hold}.on'; sleep 0.05; done; }
case "$*" in
  *--dry-run*) ;;
  *--files-from=-*)
    names='${hold}'.names.$$
    cat > "$names"
    wait_for_leave
    exec ${rsync} "$@" < "$names" ;;
  *) wait_for_leave ;;
esac
exec ${rsync} "$@"
`;

export class HeldRsync {
  private readonly path: string;
  readonly env: { PATH: string };

  constructor(pair: Pair) {
    const directory = pair.path('held-rsync');
    this.path = `${directory}/hold`;
    this.env = { PATH: `${directory}:${process.env.PATH}` };
    mkdirSync(directory);
    writeFileSync(`${directory}/rsync`, script(Bun.which('rsync') ?? '', this.path), { mode: 0o755 });
  }

  /** Has those wait that come from now on. */
  hold(): void {
    writeFileSync(this.path, '');
  }

  /** Resolves when one waits. */
  async isHeld(): Promise<void> {
    await eventually(() => existsSync(`${this.path}.on`));
  }

  leave(): void {
    rmSync(this.path);
  }
}
