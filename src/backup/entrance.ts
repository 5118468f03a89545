/**
 * Lets sessions in: writes down for them which start they belong to, which directory DEST_DIR is, and whose keys count.
 *
 *   const entrance = new Entrance(() => sshd.sessionFiles.admission);
 *   entrance.begin(place, reason);
 *   entrance.admitKey('SHA256:…', 'web1');
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type Admission, type Place, writeAdmission } from './admission.ts';

export class Entrance {
  private admission: Admission | undefined;
  /** The fingerprints of the keys whose sessions are let in, by the names of their sources. */
  private readonly keys = new Map<string, string>();
  /** How often each source was let in anew by itself. */
  private readonly turns = new Map<string, number>();

  /** Why nothing is received of some sources. */
  private readonly barred = new Map<string, string>();

  /** @param file tells where it is written */
  constructor(private readonly file: () => string) {}

  /** Whether anything has been written yet. */
  get isKnown(): boolean {
    return this.admission !== undefined;
  }

  /** Begins anew: what has come before is another start to sources. @param place DEST_DIR; null to let nobody use it @throws {Failure} */
  begin(place: Place | null, reason: string): void {
    this.admission = { start: randomUUID(), boot: bootId(), place, reason, keys: {} };
    this.write();
  }

  /**
   * Lets in sessions of this key alone from now on, of those of a source.
   * @param key its fingerprint @param name the name of the source, '' for one without
   * @throws {Failure}
   */
  admitKey(key: string, name: string): void {
    this.keys.set(name, key);
    this.write();
  }

  /** Lets some sources in anew, to which that is another start, and to all others none. @throws {Failure} */
  renewFor(names: readonly string[]): void {
    for (const name of names) this.turns.set(name, (this.turns.get(name) ?? 0) + 1);
    this.write();
  }

  /** Has nothing be received of a source, or again where no reason is given; returns whether that is news. @throws {Failure} */
  bar(name: string, reason: string): boolean {
    if (reason === (this.barred.get(name) ?? '')) return false;
    if (reason) this.barred.set(name, reason);
    else this.barred.delete(name);
    this.write();
    return true;
  }

  /** Lets nobody use DEST_DIR any more, for the end of the program. @throws {Failure} */
  close(reason: string): void {
    if (this.admission) this.admission = { ...this.admission, place: null, reason };
    this.write();
  }

  /** Writes down what is so now, once anything is. @throws {Failure} */
  write(): void {
    if (!this.admission) return;
    const [keys, turns] = [Object.fromEntries(this.keys), Object.fromEntries(this.turns)];
    writeAdmission(this.file(), { ...this.admission, keys, turns, barred: Object.fromEntries(this.barred) });
  }
}

/** Finds the kernel's name of this boot. */
function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return 'unknown';
  }
}
