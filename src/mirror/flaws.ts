/**
 * What a target has, but for attributes that it cannot set: told once, and tried again more and more seldom, for most file systems that
 * know no owners never will.
 *
 *   flaws.note(outcome);
 *   flaws.take(); // the paths to be tried again, once flaws.isDue
 */
import { lifecycle } from '../service/lifecycle.ts';
import { decodePath, escapeText, showPath, t } from '../service/text.ts';
import { type Batch, UNKNOWN } from './changes.ts';
import type { Attribute } from './faults.ts';
import type { Outcome } from './rsync.ts';
import type { TargetState } from './target-state.ts';

/** How long they rest at first, and at most where there is no regular comparison, ms. */
const FIRST_MS = 1000;
const MAX_MS = 3_600_000;
/** How many paths are tried again by themselves; beyond, the regular comparison does that. */
const MAX_PATHS = 1000;

const ATTRIBUTES: Record<Attribute, { name: string; advice: string }> = {
  owner: {
    name: t`属主`,
    advice: t`请在 RSYNC_OPTS 或 DEST_RSYNC_OPTS 中加入 --no-owner --no-group（或使用 --chown、--fake-super）`,
  },
  group: {
    name: t`属组`,
    advice: t`请在 RSYNC_OPTS 或 DEST_RSYNC_OPTS 中加入 --no-group（或使用 --chown、--fake-super）`,
  },
  mode: { name: t`权限`, advice: t`请在 RSYNC_OPTS 或 DEST_RSYNC_OPTS 中加入 --no-perms` },
  times: {
    name: t`修改时间`,
    advice: t`请在 RSYNC_OPTS 或 DEST_RSYNC_OPTS 中加入 --omit-dir-times，或检查目标上的权限`,
  },
  acl: { name: 'ACL', advice: t`请去掉 RSYNC_OPTS 中的 -A，或只为此目标在 DEST_RSYNC_OPTS 中写 --no-A` },
  xattr: { name: t`扩展属性`, advice: t`请去掉 RSYNC_OPTS 中的 -X，或只为此目标在 DEST_RSYNC_OPTS 中写 --no-X` },
};

/** What it works with. */
interface Parts {
  state: Pick<TargetState, 'unsettable' | 'warn'>;
  /** Seconds between two regular comparisons, 0 for never. */
  interval: number;
  /** Says that there is something to be sent. */
  wake: () => void;
}

export class Flaws {
  isDue = false;
  private readonly paths = new Set<string>();
  private restMs = FIRST_MS;
  private isResting = false;

  constructor(private readonly parts: Parts) {}

  /** Takes in what a sync could not set. */
  note({ faults, mode }: Outcome): void {
    const { unsettable } = this.parts.state;
    if (!faults) return;
    this.tell(faults.attributes);
    if (mode === 'full') for (const it of unsettable) if (!faults.attributes.has(it)) unsettable.delete(it);
    if (unsettable.size === 0) this.restMs = FIRST_MS;
    for (const { path, kind } of faults.list)
      if (kind === 'attributes' && this.paths.size < MAX_PATHS) this.paths.add(path);
    if (this.paths.size > 0) lifecycle.background(this.rest());
  }

  private tell(attributes: NonNullable<Outcome['faults']>['attributes']): void {
    const { state } = this.parts;
    for (const [attribute, { path, text }] of attributes) {
      if (state.unsettable.has(attribute)) continue;
      state.unsettable.add(attribute);
      const { name, advice } = ATTRIBUTES[attribute];
      const what = t`目标上不能设置${name}，例如 ${showPath(path) || './'}：${escapeText(text)}。内容已同步，但它的权限和时间可能也没有设置，会再次传输`;
      const message = t`${what}；若目标的文件系统不支持，${advice}`;
      state.warn('file.unsettable', message, { attribute, path: decodePath(path) });
    }
  }

  /** Waits until they may be tried again, twice as long each time. */
  private async rest(): Promise<void> {
    if (this.isResting || this.isDue) return;
    this.isResting = true;
    await lifecycle.pause(this.restMs);
    this.isResting = false;
    const { interval, wake } = this.parts;
    this.restMs = Math.min(2 * this.restMs, interval > 0 ? interval * 1000 : MAX_MS);
    this.isDue = true;
    wake();
  }

  /** Hands out what is to be tried again. */
  take(): Batch {
    this.isDue = false;
    const batch = new Map([...this.paths].map((path) => [path, UNKNOWN]));
    this.paths.clear();
    return batch;
  }
}
