/**
 * Into which directories nothing is mirrored, because the backup has taken over: all of DEST_DIR, or that of one source or another.
 *
 *   const marks = new PromotionMarks(config, doors);
 *   marks.of(marks.find('web1')).put();
 *   marks.sinceOf({ name: 'web1', directory: '/data/backup/web1' }); // 2025-10-09T04:00:00.000Z
 *   marks.remove(marks.whole); // of all
 */

import { backupCommand } from '../service/source-names.ts';
import { localTime, t } from '../service/text.ts';
import type { Config } from './config.ts';
import { doorFor } from './door-choice.ts';
import { configOf, type Door, type Doors } from './doors.ts';
import { PromotionMark } from './promotion-mark.ts';

/** All of DEST_DIR, or the directory of a source. */
export type Scope = Door;

export class PromotionMarks {
  private readonly known = new Map<string, PromotionMark>();

  constructor(
    private readonly config: Pick<Config, 'DEST_DIR' | 'HOST_KEY_DIR'>,
    private readonly doors: Pick<Doors, 'list'>,
  ) {}

  /** All of DEST_DIR: where it is marked, nothing is mirrored for any source, also for those that are still to come. */
  get whole(): Scope {
    return { name: '', directory: this.config.DEST_DIR };
  }

  /** Lists all that may be marked. */
  get scopes(): Scope[] {
    return [this.whole, ...this.doors.list().filter(({ name }) => name)];
  }

  /** Finds what is meant. @param name of the source; nothing for all of them @throws {Failure} where there is none of that name */
  find(name: string | undefined): Scope {
    return name === undefined ? this.whole : doorFor(this.doors.list(), name);
  }

  /** The mark of one by itself. */
  of(scope: Scope): PromotionMark {
    const found = this.known.get(scope.directory) ?? new PromotionMark(configOf(this.config, scope));
    this.known.set(scope.directory, found);
    return found;
  }

  /** Since when nothing is mirrored into a directory. @throws where that cannot be known */
  sinceOf(scope: Scope): Date | undefined {
    return this.of(this.whole).since ?? this.of(scope).since;
  }

  /** Whether what `remove` would remove is there. @throws where that cannot be known */
  isMarked(scope: Scope): boolean {
    const those = scope.name ? [this.whole, scope] : this.scopes;
    return those.some((it) => this.of(it).since);
  }

  /** Removes the mark of a source, while those of all others stay; those of all where the whole is meant. @throws {Failure} */
  remove(scope: Scope): void {
    const since = scope.name ? this.of(this.whole).since : undefined;
    const others = this.scopes.filter(({ name }) => name && name !== scope.name);
    if (since) for (const other of others) this.of(other).put(since);
    for (const it of scope.name ? [this.whole, scope] : this.scopes) this.of(it).remove();
  }

  /** Has a source from which the backup has taken over be kept off under another name, too. @throws {Failure} */
  inherit(from: Scope, to: Scope): void {
    const { since } = this.of(from);
    if (since) this.of(to).put(since);
  }

  /** Says what is meant, for people. */
  describe({ name, directory }: Scope): string {
    return name || this.scopes.length === 1 ? directory : t`${directory}（全部源端）`;
  }

  /** What --promote says where nothing of the source is left. */
  describePromoted(scope: Scope, since: Date): string {
    const what = t`备份端已接管 DEST_DIR=${this.describe(scope)}，自 ${localTime(since)} 起`;
    return t`${what}：不接收镜像，直到 ${backupCommand('--demote', scope.name)}`;
  }

  describeDemoted(scope: Scope): string {
    return t`DEST_DIR=${this.describe(scope)} 重新接收镜像：源端随即比较全部内容，并以源端的内容为准`;
  }

  describeNoMark(scope: Scope): string {
    return t`DEST_DIR=${this.describe(scope)} 没有被接管，照常接收镜像`;
  }
}
