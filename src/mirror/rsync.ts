/**
 * rsync's side of things: what its exit status means, and what it prints.
 *
 *   outcomeOf(23); // 'partial'
 *   meaningOf(23); // '部分文件传输失败，请检查权限、磁盘空间'
 */
import type { ChildProcess } from 'node:child_process';
import type { Readable } from 'node:stream';
import { type ForeignLine, ForeignLines } from '../service/foreign-lines.ts';
import { LineCutter } from '../service/lines.ts';
import { drawLine, drawsLines, info, isJson, writeLine, writeTogether } from '../service/log.ts';
import { limit } from '../service/processes.ts';
import { Failure, inUnits, reasonOf, t } from '../service/text.ts';
import { Everything, type Selection } from './excerpt.ts';
import { type Faults, MAX_CHATTER, saysPromoted } from './faults.ts';
import type { Move } from './moves.ts';
import type { Plan } from './options.ts';
import { type Progress, parseProgress, progressFilter } from './progress.ts';
import type { LeftOut } from './size-limit.ts';
import { UNREACHABLE } from './ssh.ts';

export type Mode = 'full' | 'incremental';

/** What became of a sync: all was mirrored; all but some files; all but what `--max-delete` kept; nobody answered; it failed. */
export type OutcomeKind = 'done' | 'partial' | 'limited' | 'unreachable' | 'failed';

/** What was transferred, as far as the options of rsync let it be known. */
export interface Totals extends Entries {
  files?: number | undefined;
  /** What went over the network, both ways. */
  bytes?: number | undefined;
}

/** What became of entries of the backup, directories among them, as far as rsync has told. */
export interface Entries {
  created?: number | undefined;
  deleted?: number | undefined;
  /** How many of what was deleted were directories. */
  directories?: number | undefined;
  /** How many the source has, but for those that filters leave out. */
  listed?: number | undefined;
}

/** How a sync went. */
export interface Outcome extends Totals {
  mode: Mode;
  kind: OutcomeKind;
  /** The exit status of rsync, null where it was not let run. */
  status: number | null;
  seconds: number;
  /** Why it was not let run, for people. */
  reason?: string | undefined;
  /** What rsync has complained of. */
  faults?: Faults | undefined;
  /** The files that were left out because they were too large for now. */
  leftOut?: LeftOut | undefined;
  /** The renames that the backup could not be asked for. */
  unrepeated: Move[];
}

/** What came of an rsync. */
export interface Sent {
  status: number;
  files?: number | undefined;
  /** Whether it has left something undeleted because of a limit that was ours. */
  isCut?: boolean;
  faults?: Faults;
}

/** What was done before the first rsync of a sync. */
export const NOTHING: Totals = { files: 0, bytes: 0, created: 0, deleted: 0 };

/** `--max-delete` has kept something. */
export const LIMITED = 25;
/** Exit statuses that say that something was mirrored. Where files vanish on the way, that is no failure; to try again where `--max-delete` was reached would delete the next lot. */
const KINDS: Record<number, OutcomeKind> = {
  0: 'done',
  24: 'done',
  23: 'partial',
  [LIMITED]: 'limited',
  [UNREACHABLE]: 'unreachable',
  // Of a daemon: it has refused before it was told anything, or does not answer.
  5: 'unreachable',
  10: 'unreachable',
  35: 'unreachable',
};

/** Decides what an exit status of rsync says about a sync. */
export const outcomeOf = (status: number): OutcomeKind => KINDS[status] ?? 'failed';

/** What rsync says where its `--max-delete` has kept something: files that fail or vanish hide that in its exit status. */
const LIMIT_REACHED = 'Deletions stopped due to --max-delete limit';

/** Listens to what an rsync says for whether its `--max-delete` has kept something. */
export function hearLimit(stderr: Readable): () => boolean {
  let isReached = false;
  let rest = '';
  stderr.on('data', (chunk) => {
    const text = `${rest}${chunk}`;
    isReached ||= text.includes(LIMIT_REACHED);
    rest = text.slice(-LIMIT_REACHED.length);
  });
  return () => isReached;
}

/** Adds what an rsync has done to what others have done before it for the same sync; how many there are, the last one that tells it knows best. */
export function addTotals(one: Totals, other: Totals): Totals {
  const add = (key: Exclude<keyof Totals, 'listed'>) => {
    const [a, b] = [one[key], other[key]];
    return a === undefined || b === undefined ? undefined : a + b;
  };
  const sums = { files: add('files'), bytes: add('bytes'), created: add('created'), deleted: add('deleted') };
  const listed = other.listed ?? one.listed;
  return listed === undefined ? sums : { ...sums, listed };
}

/** Whether an rsync has done its work, though perhaps not for every file. */
export const hasRun = (status: number) => !['failed', 'unreachable'].includes(outcomeOf(status));

/** Exit statuses of an rsync whose connection was gone, though not of such a one alone. */
const DISCONNECTED = [10, 12, 20, 30, UNREACHABLE];
/** Whether an rsync may have lost its connection. */
export const mayBeDisconnected = (status: number) => DISCONNECTED.includes(status);

/** Says what an rsync that has ended means for the batch: where only attributes could not be set, the backup has all that it can have. */
export function describeSent(sent: Sent): Sent & { kind: OutcomeKind } {
  const kind = outcomeOf(sent.status);
  return { ...sent, kind: kind === 'partial' && sent.faults?.isOfAttributes ? 'done' : kind };
}

/** Says what it means that no rsync has run: nothing of rsync where it was not let, the shell's status where it could not be started, for lack of memory for example. */
export function describeFailure(cause: unknown) {
  if (cause instanceof Failure) return { kind: 'failed' as const, status: null, reason: cause.message };
  return { kind: 'failed' as const, status: 126, reason: t`无法启动 rsync：${reasonOf(cause)}` };
}

/** Exit codes of rsync(1) and ssh(1): what they mean and what to do. */
const EXIT_CODES: Record<number, string> = {
  1: t`语法或用法错误，请检查 RSYNC_OPTS`,
  2: t`协议不兼容，请检查两端 rsync 版本，以及备份端的登录 shell 是否在执行命令时自己也输出内容`,
  3: t`选择输入输出文件或目录出错，请检查目录和权限`,
  4: t`不支持请求的操作，请检查两端 rsync 版本`,
  5: t`启动客户端与服务器协议出错，请检查备份端`,
  6: t`无法写入日志文件`,
  10: t`套接字读写错误，请检查网络`,
  11: t`文件读写错误，请检查备份端磁盘空间、目录和权限，以及 RSYNC_OPTS 所指的规则文件`,
  12: t`rsync 协议数据流错误或协议版本不匹配，请检查网络、备份端磁盘空间和两端 rsync 版本`,
  13: t`程序诊断错误`,
  14: t`进程间通信错误`,
  20: t`收到终止信号`,
  21: t`waitpid() 出错`,
  22: t`内存分配失败，请检查内存`,
  23: t`部分文件传输失败，请检查权限、磁盘空间`,
  24: t`部分源文件在传输前消失`,
  25: t`达到 --max-delete 限制，部分文件没有删除`,
  30: t`数据收发超时，请检查网络`,
  35: t`等待守护进程连接超时，请检查网络`,
  126: t`rsync 无法执行，请检查权限和系统资源`,
  127: t`备份端找不到 rsync，请在备份端安装 rsync`,
  255: t`SSH 连接失败，请检查 SSH 服务、密钥配置`,
};

/** Says what an exit status means and what to do. */
export function meaningOf(status: number): string {
  if (status > 128 && status < 255) return t`rsync 被信号 ${status - 128} 终止；信号 9 多为内存不足`;
  return EXIT_CODES[status] ?? t`未知错误，请参阅 rsync(1)`;
}

/** What comes of a sync that was kept from being begun by a pause, or a restore, until the end. */
export const NOT_SENT: Outcome = {
  ...{ mode: 'incremental', kind: 'failed', status: null, seconds: 0, unrepeated: [] },
  reason: t`暂停期间没有同步`,
};

/**
 * Says for people why a sync has failed: where the backup has said why it refuses, that tells more than the status that comes of it. That it
 * has taken over is told by itself.
 */
export function describeFailed({ status, reason, faults }: Pick<Outcome, 'status' | 'reason' | 'faults'>): string {
  if (reason !== undefined || status === null) return reason ?? '';
  const refusal = saysPromoted(faults?.refusal) ? undefined : faults?.refusal;
  return t`同步失败 (退出码: ${status})：${refusal ? t`备份端${refusal}` : meaningOf(status)}`;
}

/**
 * Decides how a comparison of all tells of itself, and what of that is not passed on: where it deletes, the statistics are needed
 * to know how many files the target holds.
 */
export function tellingOf(plan: Plan, show: (progress: Progress) => void) {
  const { mayProgress, deletes, asksForStats, isVerbose } = plan;
  const mayCount = deletes && !asksForStats;
  const filters = [...(mayProgress ? [progressFilter(show)] : []), ...(mayCount ? [statsFilter(isVerbose)] : [])];
  const options = [...(mayProgress ? ['--info=progress2'] : []), ...(mayCount ? ['--info=stats2'] : [])];
  return { options, filter: (bytes: string) => filters.reduce((text, pass) => pass(text), bytes) };
}

/**
 * Takes the statistics out of rsync's output that only we have asked for.
 * @param isVerbose whether it would tell the two lines at the end of them by itself
 */
export function statsFilter(isVerbose: boolean): (bytes: string) => string {
  const end = isVerbose ? /^$/ : /^(sent \S+ bytes {2}received .*|total size is .*|)$/;
  let rest = '';
  let isWithin = false;
  let isBehind = false;
  const isOurs = (line: string) => {
    isWithin ||= line.startsWith('Number of files: ');
    if (!isWithin) return (isBehind || !isVerbose) && end.test(line);
    isWithin = !line.startsWith('Total bytes received: ');
    isBehind = !isWithin;
    return true;
  };
  return (bytes) => {
    const lines = (rest + bytes).split('\n');
    rest = lines.pop() ?? '';
    return lines.flatMap((line) => (isOurs(line) ? [] : `${line}\n`)).join('');
  };
}

/** Takes something out of what rsync prints. */
export type Filter = (bytes: string) => string;

/** How long a line may go on that rsync prints, bytes: one that is longer has no end. */
const ENDLESS_LINE = 10_000_000;

/** Ends an rsync that goes on without end to say what is none of rsync's words: the other side says that, beside or in place of rsync. */
export function limitTalk(rsync: ChildProcess) {
  let excess: string | undefined;
  const told = (why: string) => {
    excess = why;
  };
  const end = limit(rsync, { bytes: Number.POSITIVE_INFINITY, line: ENDLESS_LINE, told });
  return {
    /** Ends it where what it has complained of is not what rsync complains of, unless the options have it tell everything there. */
    weigh: ({ isFlooded }: Faults, { errorOptions }: Plan) => {
      if (isFlooded && errorOptions.length === 0)
        end(t`的标准错误中有超过 ${inUnits(MAX_CHATTER)} 不是 rsync 的错误信息，已中止`);
    },
    /** @throws {Failure} where it was ended */
    check: () => {
      if (excess !== undefined) throw new Failure(t`备份端${excess}。请检查备份端，例如登录时运行的脚本；将自动重试`);
    },
  };
}

/**
 * Passes rsync's own output on, as it is in text, as entries in JSON. The names of files are in it, and what the backup says:
 * none of it becomes a line of ours.
 */
export function passOn(output: Readable, target: string, filter: Filter = (bytes) => bytes, told?: Told): void {
  const { take, end } = tellerFor(target, filter, told);
  output.setEncoding('latin1').on('data', take).once('end', end);
}

/** How long what an rsync prints is gathered, ms, and how much of it, bytes: it writes its progress and each name apart. */
const GATHER_MS = 20;
const GATHERED = 32_768;

/** Passes it on in larger pieces, which cost less. @returns passes on at once what was gathered */
export function passOnGathered(
  output: Readable,
  target: string,
  filter: Filter = (bytes) => bytes,
  told?: Told,
): () => void {
  const { take, end } = tellerFor(target, filter, told);
  let gathered = '';
  let timer: NodeJS.Timeout | undefined;
  const flush = () => {
    clearTimeout(timer);
    timer = undefined;
    const bytes = gathered;
    gathered = '';
    if (bytes) take(bytes);
  };
  output.setEncoding('latin1').on('data', (chunk: string) => {
    gathered += chunk;
    if (gathered.length >= GATHERED) flush();
    else timer ??= setTimeout(flush, GATHER_MS);
  });
  output.once('end', () => {
    flush();
    end();
  });
  output.once('close', flush); // one that was ended early
  return flush;
}

/** Selects what of the lines is told. */
type Told = Selection<ForeignLine>;

/** Makes what tells what comes in pieces, and what is left at the end. */
function tellerFor(target: string, filter: Filter, told: Told = new Everything()) {
  const [pieces, wholes] = [new LineCutter('\r'), new LineCutter()]; // filters see pieces: progress comes without line ends
  const sift = (bytes: string) => wholes.cut(filter(pieces.cut(bytes)));
  const lines = new ForeignLines('rsync');
  const write = ({ text, shown }: ForeignLine) => {
    if (!isJson) writeLine(shown);
    else if (text.trim()) info('rsync.output', text, { target });
  };
  const tell = (line: ForeignLine) => told.take(line).forEach(write);
  /** Progress that is about to be replaced: by more of it, and then it is told, or by the last word of it. */
  let waiting: ForeignLine | undefined;
  const pass = (line: ForeignLine) => {
    const isProgress = parseProgress(`\r${line.text}`) !== undefined;
    if (waiting && (!isProgress || line.isOverwritten)) tell(waiting);
    waiting = undefined;
    if (!isProgress || !line.isOverwritten) tell(line);
    else if (drawsLines()) drawLine(line.shown);
    else waiting = line;
  };
  const passAll = (bytes: string) => writeTogether(() => lines.read(bytes).forEach(pass));
  let isMidLine = false;
  return {
    take: (bytes: string) => {
      isMidLine = !bytes.endsWith('\n');
      passAll(sift(bytes));
    },
    end: () => {
      const kept = isMidLine ? sift('\n') : ''; // filters may keep the last words until their line ends
      if (kept !== '\n') passAll(kept);
      lines.end().forEach(pass);
      if (waiting) tell(waiting);
      const { omitted, last } = told.end();
      if (omitted > 0) info('rsync.omitted', t`另有 ${omitted} 行 rsync 输出未逐条列出`, { target, lines: omitted });
      last.forEach(write);
    },
  };
}
