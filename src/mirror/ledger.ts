/**
 * Keeps count of what a target holds and of what is deleted there, over restarts.
 *
 *   const ledger = new Ledger(parts);
 *   if (ledger.present <= ledger.left) return; // nothing that could be deleted is too much
 *   ledger.noteBatch(weighed, outcome);
 */
import { statSync } from 'node:fs';
import type { Allowance } from './allowance.ts';
import type { Census } from './census.ts';
import type { Departures } from './departures.ts';
import type { Estimate } from './estimate.ts';
import type { Memory, RememberedTarget } from './memory.ts';
import type { Entries, Outcome } from './rsync.ts';

/** What was found out of a sync before it was let run: how many deletions it means, how many of them of things that were only moved. */
export interface Weighed extends Estimate {
  /** Whether somebody has let through whatever it deletes. */
  isAccepted: boolean;
  /** Whether it deletes more than was foreseen, while the source holds enough of what it held. */
  isVast: boolean;
  /** Whether it deletes nothing, for nobody can say what it would delete from a source that nobody knows. */
  isDoubtful: boolean;
  /** How many files the source holds, where all of it is compared. */
  census: Census | undefined;
}

/** What the ledger of a target is kept with. */
interface Parts {
  remembered: RememberedTarget;
  memory: Pick<Memory, 'save' | 'saveSoon'>;
  allowance: Allowance;
  departures: Pick<Departures, 'arrived'>;
  /** The source, and what RSYNC_OPTS mean now. */
  directory: string;
  options: () => string;
}

export class Ledger {
  constructor(private readonly parts: Parts) {}

  /** Whether the target was ever compared as a whole. */
  get isKnown(): boolean {
    return this.parts.remembered.sourceFiles !== undefined;
  }

  /** Whether that was with the same options, and from the same directory. */
  get isFamiliar(): boolean {
    const { remembered, options } = this.parts;
    return this.isKnown && remembered.options === options() && this.isSamePlace;
  }

  /** Whether that was from the same directory. */
  get isSamePlace(): boolean {
    return this.parts.remembered.place === this.place;
  }

  private get place(): string | undefined {
    const found = statSync(this.parts.directory, { bigint: true, throwIfNoEntry: false });
    return found && `${found.ino}:${found.birthtimeNs}`;
  }

  /** How many files the target holds now: infinitely many where that is not known. */
  get present(): number {
    const { files = Number.POSITIVE_INFINITY, growth = Number.POSITIVE_INFINITY } = this.parts.remembered;
    return files + growth;
  }

  /** Whether that is known. */
  get isCounted(): boolean {
    return Number.isFinite(this.present);
  }

  /** Takes what rsync has counted for what the target holds. */
  recount(present: number): void {
    const { remembered, allowance, memory } = this.parts;
    Object.assign(remembered, { files: present, growth: 0 });
    if (this.isSmall) allowance.restart();
    memory.save();
  }

  /** Whether the target holds so little, as far as is known, that a percentage of it is no measure. */
  get isSmall(): boolean {
    return this.parts.allowance.isSmall(this.present);
  }

  /** How many more may be deleted now. */
  get left(): number {
    return this.parts.allowance.left();
  }

  /** Whether a comparison of all can only delete what may be deleted: the source holds enough of what it held. */
  async isHarmless(census: Census): Promise<boolean> {
    const { sourceFiles, growth } = this.parts.remembered;
    if (!this.isFamiliar || sourceFiles === undefined) return false;
    return this.present <= this.left || (growth !== undefined && census.reaches(sourceFiles + growth - this.left));
  }

  /** Forgets all that is not kept up to date while nothing is limited. */
  forget(): void {
    const nothing = { files: undefined, sourceFiles: undefined, growth: undefined, held: undefined };
    Object.assign(this.parts.remembered, nothing);
  }

  /** Has the next comparison of all count as one with other options: the target may hold something else than it did. */
  distrust(): void {
    this.parts.remembered.options = undefined;
  }

  /** Records what a batch has done. */
  noteBatch(weighed: Weighed | undefined, outcome: Entries): void {
    const { remembered, memory } = this.parts;
    const { created, deleted } = outcome;
    const isTold = created !== undefined && deleted !== undefined && remembered.growth !== undefined;
    remembered.growth = isTold ? (remembered.growth ?? 0) + created - deleted : undefined;
    if (weighed) this.spend(weighed, outcome);
    if (created !== 0 || deleted !== 0) memory.saveSoon();
  }

  /**
   * Records what a comparison of all has done.
   * @param counted how many files the source held, if they were counted
   * @param isWhole whether all of it was compared: what is hidden or could not be read is not listed, and stays on the target
   */
  noteAll(
    weighed: Weighed,
    outcome: Outcome,
    { counted, isWhole }: { counted: number | undefined; isWhole: boolean },
  ): void {
    const { remembered, memory, allowance, options } = this.parts;
    const { files: before, growth } = remembered;
    const listed = outcome.listed ? outcome.listed - 1 : counted; // rsync lists the source itself, too
    const after = before === undefined || growth === undefined ? undefined : before + growth - (outcome.deleted ?? 0);
    const found = listed === undefined ? undefined : listed + (remembered.held?.count ?? 0);
    const files = isWhole || found === undefined ? found : Math.max(found, after ?? before ?? 0);
    if (weighed.isAccepted) allowance.restart();
    else if (isWhole && before !== undefined && growth !== undefined && files !== undefined)
      allowance.spend(before + growth - files); // it does not tell what came
    else this.spend(weighed, outcome);
    const [source, known] = [counted ?? listed, isWhole ? 0 : (remembered.sourceFiles ?? 0) + (growth ?? 0)];
    remembered.growth = source !== undefined && (isWhole || after !== undefined) ? 0 : undefined;
    if (source !== undefined)
      Object.assign(remembered, {
        ...{ sourceFiles: Math.max(source, known), files },
        ...{ options: options(), place: this.place },
      });
    memory.save();
  }

  /**
   * Counts what was deleted. rsync tells of what was only moved, too; and a batch of what the target never had; what it has
   * deleted beyond both was gone by the time that it looked.
   */
  spend({ count, moved, isCertain, isAccepted }: Weighed, { created = 0, deleted }: Entries): void {
    const { remembered, allowance, departures } = this.parts;
    if (remembered.held && !isAccepted) {
      allowance.spend(deleted ?? 0); // before it came to be held
      return;
    }
    const told = deleted ?? count;
    const lost = isCertain ? Math.max(Math.min(count, told), told - moved - departures.arrived) : told;
    allowance.spend(lost - Math.max(0, created - (told - lost))); // what was only moved was created elsewhere
  }
}
