/**
 * What the running service does when it is told to, and how it is told.
 *
 *   const commands = new Commands(backups);
 *   commands.onAccept(() => mounts.forgetMissing().map((path) => `不再保留 ${showPath(path)}`));
 *   await commands.listen(config.STATUS_FILE);
 *   const { status } = await acceptDeletions(); // elsewhere
 */
import { resolve } from 'node:path';
import { ask, type Command, serve, socketOf } from '../service/control.ts';
import { type Answer, lifecycle } from '../service/lifecycle.ts';
import { warn } from '../service/log.ts';
import { escapeText, reasonOf } from '../service/text.ts';
import type { Brake } from './brake.ts';
import { variables } from './config.ts';
import { describeDirectories } from './held.ts';

/** A target that may hold deletions back. */
interface Holding {
  brake: Pick<Brake, 'accept' | 'letThrough'>;
  state: { name: string };
}

/** Lets something through that was held back; tells what, in lines for people. */
export type AcceptHook = () => string[] | Promise<string[]>;

export class Commands {
  private readonly hooks: AcceptHook[] = [];

  constructor(private readonly holding: Holding[]) {}

  /** Has `hook` run when somebody accepts deletions. */
  onAccept(hook: AcceptHook): void {
    this.hooks.push(hook);
  }

  /** Listens for commands from now on, until the exit. Where that is not possible, it is told, and the mirror goes on. */
  async listen(statusFile: string): Promise<void> {
    const path = socketOf(statusFile);
    try {
      lifecycle.onExit(await serve(path, { 'accept-deletions': this.accept }));
    } catch (cause) {
      const what = `无法监听 ${escapeText(path)}：${reasonOf(cause)}`;
      warn('control.failed', `${what}。--accept-deletions 不可用，镜像不受影响。请检查目录和权限，或更改 STATUS_FILE`);
    }
  }

  /** Lets through what is held on all targets. */
  private readonly accept: Command = async () => {
    const hooked: string[] = [];
    for (const hook of this.hooks) hooked.push(...(await hook())); // before the comparison that is to know of it
    if (hooked.length > 0) for (const { brake } of this.holding) brake.letThrough();
    const accepted = this.holding.flatMap(({ brake, state }) => {
      const held = brake.accept();
      if (!held) return [];
      const where = describeDirectories(held.directories);
      return [`${state.name}: 放行 ${held.count} 个文件的删除，主要位于 ${where}，随即全量同步`];
    });
    const lines = [...accepted, ...hooked];
    return { isDone: true, text: lines.length > 0 ? lines.join('\n') : '没有被暂缓的删除' };
  };
}

/** Answers --accept-deletions. @throws {Failure} where no service runs */
export async function acceptDeletions(): Promise<Answer> {
  const statusFile = resolve(process.env.STATUS_FILE || String(variables.STATUS_FILE.default));
  const { isDone, text } = await ask(socketOf(statusFile), { command: 'accept-deletions' });
  return { text: `${text}\n`, status: isDone ? 0 : 1 };
}
