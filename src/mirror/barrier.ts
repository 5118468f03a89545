/**
 * Has all that happened until now mirrored at once, and says when it is on every target: a marker goes the way of all events, and what each
 * target lacks once that has come back is waited for, whatever comes after it.
 *
 *   const barrier = new Barrier({ targets, watch, source, look });
 *   await barrier.sync({ command: 'sync', ms: 30_000 }, gone); // { isDone: true, text: '此前的变化都已到达每个目标 …' }
 */
import type { Command, Reply } from '../service/control.ts';
import { MAX_DURATION_MS } from '../service/duration.ts';
import { lifecycle } from '../service/lifecycle.ts';
import { escapeText, localTime, showPath, t } from '../service/text.ts';
import { type Batch, type Change, oldestOf, TREE } from './changes.ts';
import type { Source } from './source.ts';
import type { TargetState } from './target-state.ts';
import type { Watch } from './watch.ts';

/** How many may wait at a time, so that there is room for other commands. */
const MAX_WAITING = 48;
/** How often it is looked whether all is there: at first, and after a while, ms. */
const [FIRST_LOOK_MS, LAST_LOOK_MS] = [5, 200];
/** How long something may fail until it is no longer waited for, ms: most of it is over by then. */
const FAILING_MS = 30_000;
/** How many paths that fail are named. */
const NAMED = 5;

interface Parts {
  targets: TargetState[];
  watch: Pick<Watch, 'marker' | 'unseen'>;
  source: Pick<Source, 'isFound' | 'refusal'>;
  /** Looks what no event tells of: where the source is now, and what is mounted below it. */
  look: () => Promise<void>;
}

/** What a target lacks: it waits for that, or is kept from getting it, or has tried in vain. */
interface Lack {
  state: 'open' | 'barred' | 'failed';
  /** Says why, which may take long where much waits. */
  reason: () => string;
}

/**
 * When each target knew of all that had happened, ms on the clock of `performance.now()`, and how often each had tried what fails when
 * nothing else was left.
 */
interface Moment {
  at: number;
  tries: Map<TargetState, number>;
}

export class Barrier {
  private waiting = 0;

  constructor(private readonly parts: Parts) {}

  /** Answers --sync: done is it once all is there that happened before. */
  readonly sync: Command = async ({ ms }, gone) => {
    if (typeof ms !== 'number' || !(ms > 0 && ms <= MAX_DURATION_MS)) return { isDone: false, text: t`时长无效` };
    if (this.waiting >= MAX_WAITING)
      return { isDone: false, text: t`已有 ${this.waiting} 个 --sync 在等待，请稍后再试` };
    this.waiting++;
    try {
      return await this.pass(ms, gone);
    } finally {
      this.waiting--;
    }
  };

  private async pass(ms: number, gone: AbortSignal): Promise<Reply> {
    const started = performance.now();
    let moment: Moment | undefined;
    if (!this.isBarred()) {
      lifecycle.background(
        this.mark().then((it) => {
          moment = it;
        }),
      );
    }
    for (;;) {
      const lacks = this.parts.targets.flatMap((target) => this.lackOf(target, moment) ?? []);
      const waited = performance.now() - started;
      if (lifecycle.stopping) return { isDone: false, text: t`服务正在停止，此前的变化尚未全部到达` };
      if (lacks.length === 0)
        return { isDone: true, text: t`此前的变化都已到达每个目标 (耗时: ${Math.round(waited / 1000)}秒) ✓` };
      const barred = lacks.filter(({ state }) => state === 'barred');
      const isOver = barred.length > 0 || lacks.every(({ state }) => state === 'failed');
      const lines = () => (barred.length > 0 ? barred : lacks).map(({ reason }) => reason());
      if (isOver || gone.aborted) return { isDone: false, text: lines().join('\n') };
      if (waited >= ms)
        return { isDone: false, text: [t`在 ${Math.round(ms / 1000)} 秒内没有全部到达：`, ...lines()].join('\n') };
      if (moment) for (const target of this.parts.targets) press(target, moment);
      await lifecycle.pause(Math.min(ms - waited, LAST_LOOK_MS, FIRST_LOOK_MS + waited / 10));
    }
  }

  /** Has each target know of all that has happened, and send it at once; also of what is not watched. */
  private async mark(): Promise<Moment | undefined> {
    const { targets, watch, look } = this.parts;
    try {
      await look();
      await watch.marker();
    } catch {
      return undefined; // the service stops
    }
    const unseen: Batch = new Map(watch.unseen().map((path) => [path, TREE]));
    for (const target of targets) target.changes.add(unseen);
    for (const target of targets) target.rouse();
    return { at: performance.now(), tries: new Map() };
  }

  private isBarred(): boolean {
    return this.parts.targets.some((target) => this.barOf(target) !== undefined);
  }

  /** Says why a target gets nothing for now. */
  private barOf(target: TargetState): string | undefined {
    const { source } = this.parts;
    const { pause } = target;
    if (!source.isFound || source.refusal !== undefined) return t`源目录不见了或被替换，没有在镜像`;
    if (target.isPromoted) return t`备份端已接管，不接收镜像`;
    if (pause) return t`已按要求暂停同步，到 ${localTime(new Date(pause.until))} 为止；请先执行 rsync-inotify --resume`;
    if (target.isRestoring) return t`正在恢复源目录，暂停同步`;
    return target.up ? undefined : t`无法连接目标`;
  }

  private lackOf(target: TargetState, moment: Moment | undefined): Lack | undefined {
    const bar = this.barOf(target);
    const lack = bar === undefined ? lackSince(target, moment) : { state: 'barred' as const, reason: () => bar };
    return lack && { ...lack, reason: () => `${target.name}: ${lack.reason()}` };
  }
}

/** Has a target send at once what it lacks of what had happened at a moment, and try once more what fails when nothing else is left. */
function press(target: TargetState, { at, tries }: Moment): void {
  if (oldestOf(target.later.waiting) <= at) target.later.hasten();
  if (before(target, at).next().value) target.hurry();
  else if (countFailing(target) > 0 && !tries.has(target)) {
    tries.set(target, target.tries);
    target.rouse();
  }
}

/** Finds what a target lacks of what had happened at a moment, which may not have come yet. */
function lackSince(target: TargetState, moment: Moment | undefined): Lack | undefined {
  if (!moment) return { state: 'open', reason: () => t`尚未得知此前的全部变化` };
  const { at, tries } = moment;
  const { failingSince, held } = target;
  const isFailing = failingSince !== undefined && Date.now() - failingSince > FAILING_MS;
  const isOld = performance.now() - at > FAILING_MS;
  if (!target.mirrored || before(target, at).next().value) {
    const what = () => (target.mirrored ? t`缺少 ${[...before(target, at)].length} 处变化` : t`首次全量同步尚未完成`);
    if (!isFailing || !isOld) return { state: 'open', reason: what };
    return { state: 'failed', reason: () => t`${what()}，同步反复失败，请查看 --status 和日志` };
  }
  const failed = countFailing(target);
  const isTried = target.tries > (tries.get(target) ?? target.tries) || isOld;
  if (failed > 0) return { state: isTried ? 'failed' : 'open', reason: () => describeFailing(target, failed) };
  if (!held?.count) return undefined;
  const reason = () => t`其余变化已到达，暂缓删除 ${held.count} 个文件；确认后请执行 rsync-inotify --accept-deletions`;
  return { state: 'failed', reason };
}

const countFailing = ({ unmirrored, failed }: TargetState) => Math.max(unmirrored.size, failed.size);

/** Finds the changes that were seen first before a moment, and wait or are on their way; what fails by itself is not among them. */
function* before({ changes, batch, beside, withheld, queued, later }: TargetState, at: number): Generator<Change> {
  for (const lot of [changes.waiting, batch, beside, withheld, ...queued, later.waiting])
    for (const change of lot.values()) if (change.since > 0 && change.since <= at) yield change;
}

function describeFailing({ unmirrored }: TargetState, count: number): string {
  const paths = unmirrored.first(NAMED).map(({ path, text }) => `${showPath(path)} (${escapeText(text)})`);
  const names = paths.length > 0 ? t`：${paths.join(t`、`)}` : '';
  return t`其余变化已到达，有 ${count} 个路径无法同步${names}`;
}
