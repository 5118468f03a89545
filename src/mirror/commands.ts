/**
 * What the running service does when it is told to, and how it is told.
 *
 *   const commands = commandsFor({ backups, guard, mounts, source, watch });
 *   await commands.listen(config.STATUS_FILE);
 *   const answer = await answerCommand(['--pause', '10m']); // elsewhere
 */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { answerOf, ask, type Command, type Request, serveAlone, socketOf } from '../service/control.ts';
import { MAX_DURATION_MS, parseDuration } from '../service/duration.ts';
import { type Answer, lifecycle } from '../service/lifecycle.ts';
import { info, warn } from '../service/log.ts';
import { answerTest } from '../service/reporting.ts';
import { isSourceName } from '../service/source-names.ts';
import { escapeText, Failure, reasonOf, showPath, t } from '../service/text.ts';
import { parseFlags } from '../service/variables.ts';
import { Barrier } from './barrier.ts';
import type { Brake } from './brake.ts';
import { ALL } from './changes.ts';
import { absoluteSource, originOf, variables } from './config.ts';
import { describeDirectories } from './held.ts';
import type { Mounts } from './mounts.ts';
import type { Pause } from './pause.ts';
import { COMPLETE, PAUSE, type Restoring } from './restoring.ts';
import type { Source } from './source.ts';
import type { SourceGuard } from './source-guard.ts';
import type { TargetState } from './target-state.ts';
import type { Watch } from './watch.ts';

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
      warn(
        'control.failed',
        t`${what}。--accept-deletions、--sync、--pause 和 --resume 不可用，镜像不受影响。请检查目录和权限，或更改 STATUS_FILE`,
      );
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
  backups: (Holding & {
    state: TargetState;
    restoring: Pick<Restoring, 'pause' | 'complete'>;
    pause: Pick<Pause, 'pause' | 'resume'>;
  })[];
  guard: Pick<SourceGuard, 'isWaiting' | 'accept' | 'look'>;
  mounts: Pick<Mounts, 'report' | 'forgetMissing' | 'meetAll'>;
  source: Pick<Source, 'isFound' | 'refusal'>;
  watch: Pick<Watch, 'marker' | 'unseen'>;
}

/** Makes the commands of a service: the source comes before what is deleted in it, and that before what is missing. */
export function commandsFor({ backups, guard, mounts, source, watch }: Holders): Commands {
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
  if (!first) return new Commands(kinds);
  const { restoring, pause } = first;
  const look = async () => {
    await guard.look();
    await mounts.meetAll();
  };
  const { sync } = new Barrier({ targets: backups.map(({ state }) => state), source, watch, look });
  const others = { [PAUSE]: restoring.pause, [COMPLETE]: restoring.complete, pause: pause.pause, resume: pause.resume };
  return new Commands(kinds, { ...others, sync });
}

/** Has the service do something. @param ms how long the command may take @throws {Failure} where no service runs */
async function askService(request: Request, ms?: number): Promise<Answer> {
  const statusFile = resolve(process.env.STATUS_FILE || String(variables.STATUS_FILE.default));
  return answerOf(await ask(socketOf(statusFile), request, ms));
}

/** For how long nothing is sent where nobody says. */
const USUAL_PAUSE = '1h';
/** How much longer than its duration a command may take to be answered, ms, and when it is told that it is waited for. */
const [MARGIN_MS, TELL_MS] = [10_000, 2000];

/** Answers --accept-deletions, --sync, --pause, --resume and --notify-test; nothing where something else is asked for. @throws {Failure} where no service runs */
export async function answerCommand(args: readonly string[]): Promise<Answer | undefined> {
  if (args.includes('--notify-test')) return testReports();
  const name = (['accept-deletions', 'sync', 'pause', 'resume'] as const).find((it) => args.includes(`--${it}`));
  if (!name) return undefined;
  const duration = readDuration(name, args);
  lifecycle.abandonOnSignal(1);
  if (name === 'sync') return askForSync(duration === undefined ? MAX_DURATION_MS : parseDuration(duration));
  if (name !== 'pause') return askService({ command: name });
  const ms = parseDuration(duration ?? USUAL_PAUSE);
  if (ms === 0) throw new Failure(t`用法错误: --pause 的时长应大于 0；要结束暂停，请执行 rsync-inotify --resume`, 2);
  return askSlowly({ command: name, ms }, () =>
    info('pause.waiting', t`已不再开始新的同步，等待正在进行的同步结束...`),
  );
}

/** Asks for a sync. @param ms how long it may take @throws {Failure} */
function askForSync(ms: number): Promise<Answer> {
  if (ms === 0) throw new Failure(t`用法错误: --sync 的时长应大于 0`, 2);
  return askSlowly({ command: 'sync', ms }, () => info('sync.waiting', t`等待此前的变化到达每个目标...`));
}

/** Asks for what may take as long as it says, which is told before long. @throws {Failure} */
function askSlowly(request: Request & { ms: number }, tell: () => void): Promise<Answer> {
  const telling = setTimeout(tell, TELL_MS);
  return askService(request, request.ms + MARGIN_MS).finally(() => clearTimeout(telling));
}

/** Takes the duration from the arguments, if there is one. @throws {Failure} (status 2) */
function readDuration(name: string, args: readonly string[]): string | undefined {
  try {
    const options = { [name]: { type: 'boolean' } } as const;
    const { positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
    if (positionals.length > 1) throw new Error(t`--${name} 之后应只有一个时长`);
    if (positionals.length > 0 && !['sync', 'pause'].includes(name)) throw new Error(t`--${name} 之后不应有其他内容`);
    return positionals[0];
  } catch (cause) {
    throw new Failure(t`用法错误: ${reasonOf(cause)}。请参阅 rsync-inotify --help`, 2);
  }
}

/** Answers --notify-test: no other variable has to be right for it. @throws {Failure} */
function testReports(): Promise<Answer> {
  parseFlags('rsync-inotify', ['notify-test']);
  const { SOURCE_DIR: given, SOURCE_NAME: name = '' } = process.env;
  const SOURCE_DIR = absoluteSource(given || String(variables.SOURCE_DIR.default));
  return answerTest(variables, originOf({ SOURCE_DIR, SOURCE_NAME: isSourceName(name) ? name : '' }));
}
