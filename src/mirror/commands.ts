/**
 * What the running service does when it is told to, and how it is told.
 *
 *   const commands = commandsFor({ backups, guard, mounts });
 *   await commands.listen(config.STATUS_FILE);
 *   const { status } = await acceptDeletions(); // elsewhere
 */
import { resolve } from 'node:path';
import { ask, type Command, serveAlone, socketOf } from '../service/control.ts';
import { type Answer, lifecycle } from '../service/lifecycle.ts';
import { warn } from '../service/log.ts';
import { escapeText, Failure, reasonOf, showPath, t } from '../service/text.ts';
import type { Brake } from './brake.ts';
import { ALL } from './changes.ts';
import { variables } from './config.ts';
import { describeDirectories } from './held.ts';
import type { Mounts } from './mounts.ts';
import { COMPLETE, PAUSE, type Restoring } from './restoring.ts';
import type { SourceGuard } from './source-guard.ts';
import type { TargetState } from './target-state.ts';

/** Something that is held back until somebody accepts it. */
interface Pending {
  /** Whether there is anything. */
  isPending: () => boolean;
  /** Lets it through; tells what, in lines for people. */
  accept: () => string[] | Promise<string[]>;
}

/** A target that may hold deletions back. */
interface Holding {
  brake: Pick<Brake, 'accept' | 'isHolding'>;
  state: Pick<TargetState, 'name' | 'held'>;
}

/** What targets hold back. */
const heldDeletions = (holding: Holding[]): Pending => ({
  isPending: () => holding.some(({ brake, state }) => brake.isHolding && state.held?.count !== 0),
  accept: () =>
    holding.flatMap(({ brake, state }) => {
      const held = brake.accept();
      if (!held) return [];
      const where = describeDirectories(held.directories);
      return [t`${state.name}: 放行 ${held.count} 个文件的删除，主要位于 ${where}，随即全量同步`];
    }),
});

export class Commands {
  /**
   * @param kinds what may be accepted, in the order in which that is done: one kind at a time, so that nobody accepts what he does not think of
   * @param others what else may be asked for
   */
  constructor(
    private readonly kinds: readonly Pending[],
    private readonly others: Record<string, Command> = {},
  ) {}

  /**
   * Listens for commands from now on, until the exit. Where that is not possible, it is told, and the mirror goes on.
   * @throws {Failure} where another service has this STATUS_FILE
   */
  async listen(statusFile: string): Promise<void> {
    try {
      lifecycle.onExit(await serveAlone(statusFile, { ...this.others, 'accept-deletions': this.accept }));
    } catch (cause) {
      if (cause instanceof Failure) throw cause;
      const what = t`无法监听 ${escapeText(socketOf(statusFile))}：${reasonOf(cause)}`;
      warn('control.failed', t`${what}。--accept-deletions 不可用，镜像不受影响。请检查目录和权限，或更改 STATUS_FILE`);
    }
  }

  private readonly accept: Command = async () => {
    for (const kind of this.kinds) {
      const lines = kind.isPending() ? await kind.accept() : [];
      if (lines.length === 0) continue;
      if (this.kinds.some((other) => other !== kind && other.isPending()))
        lines.push(t`另有内容也在等待确认，这次没有放行：请查看 --status，若同样有意，请再次执行`);
      return { isDone: true, text: lines.join('\n') };
    }
    return { isDone: true, text: t`没有被暂缓的删除` };
  };
}

/** What may hold something back. */
interface Holders {
  backups: (Holding & { state: Pick<TargetState, 'changes'>; restoring: Pick<Restoring, 'pause' | 'complete'> })[];
  guard: Pick<SourceGuard, 'isWaiting' | 'accept'>;
  mounts: Pick<Mounts, 'report' | 'forgetMissing'>;
}

/** Makes the commands of a service: the source comes before what is deleted in it, and that before what is missing. */
export function commandsFor({ backups, guard, mounts }: Holders): Commands {
  const adopt = async () => ((await guard.accept()) ? [t`源目录: 以现在的目录为准`] : []);
  const forget = () => {
    const lines = mounts
      .forgetMissing()
      .map((path) => t`挂载点 ${showPath(path)}: 不再保留其在备份上的内容，随即全量同步`);
    for (const { state } of backups) state.changes.add(ALL);
    return lines;
  };
  const kinds = [
    { isPending: () => guard.isWaiting, accept: adopt },
    heldDeletions(backups),
    { isPending: () => mounts.report().length > 0, accept: forget },
  ];
  const [first] = backups; // all share it
  return new Commands(kinds, first && { [PAUSE]: first.restoring.pause, [COMPLETE]: first.restoring.complete });
}

/** Answers --accept-deletions. @throws {Failure} where no service runs */
export async function acceptDeletions(): Promise<Answer> {
  const statusFile = resolve(process.env.STATUS_FILE || String(variables.STATUS_FILE.default));
  const { isDone, text } = await ask(socketOf(statusFile), { command: 'accept-deletions' });
  return { text: `${text}\n`, status: isDone ? 0 : 1 };
}
