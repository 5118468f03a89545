/**
 * The directories that are mirrored into, each by a source of its own: DEST_DIR for one without a name, or DEST_DIR/NAME for each that has
 * one. Which they are is remembered beside the host keys, for a source without a name would delete all that those with names have mirrored.
 *
 *   const doors = new Doors(config);
 *   doors.onChange(() => doors.list()); // [{ name: 'web1', directory: '/data/backup/web1' }]
 *   const own = configOf(config, door); // of which DEST_DIR is that of the door
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { readSmallFile, replaceFile } from '../service/files.ts';
import { isSourceName } from '../service/source-names.ts';
import { touch } from '../service/status.ts';
import { t } from '../service/text.ts';
import type { Config } from './config.ts';

const MAX_BYTES = 65_536;
/** How many sources with names there may be. */
export const MAX_DOORS = 200;

export interface Door {
  /** What the source calls itself, '' for the one without a name. */
  readonly name: string;
  /** What it may mirror into. */
  readonly directory: string;
}

/** Names the source that something is told of, if it has a name. */
export const about = (name: string, text: string) => (name ? t`源端 ${name}：${text}` : text);
/** The same as a field of the log. */
export const fieldsOf = (name: string) => (name ? { source: name } : {});

/** Gives what knows one DEST_DIR that of a door. */
export const configOf = <C extends Pick<Config, 'DEST_DIR'>>(config: C, { directory }: Door): C => ({
  ...config,
  DEST_DIR: directory,
});

export class Doors {
  private readonly file: string;
  private readonly known = new Map<string, Door>();
  private readonly listeners: (() => void)[] = [];

  /** Several services may have the same host keys: each DEST_DIR has doors of its own. */
  constructor(private readonly config: Pick<Config, 'DEST_DIR' | 'HOST_KEY_DIR'>) {
    const hash = createHash('sha256').update(config.DEST_DIR).digest('hex').slice(0, 16);
    this.file = join(config.HOST_KEY_DIR, `doors-${hash}.json`);
    for (const name of this.recall()) this.known.set(name, this.doorOf(name));
  }

  /** Lists the doors that are in force or were earlier; before there was any, that of a source without a name. */
  list(): Door[] {
    return this.known.size > 0 ? [...this.known.values()] : [this.doorOf('')];
  }

  /** Finds one of them. */
  find(name: string): Door | undefined {
    return this.list().find((door) => door.name === name);
  }

  /** Whether there are sources with names, and therefore none without. */
  get areNamed(): boolean {
    return this.known.size > 0 && !this.known.has('');
  }

  /** Whether there is a source without a name, and therefore none with one. */
  get isNameless(): boolean {
    return this.known.has('');
  }

  /** Calls `listener` after the list has become another one. */
  onChange(listener: () => void): void {
    this.listeners.push(listener);
  }

  /**
   * Adds a door, and remembers it; one of the other kind, with a name or without, goes with it.
   * @throws where it cannot be remembered, which it is for now
   */
  add(name: string): Door {
    const known = this.known.get(name);
    if (known) return known;
    for (const other of this.known.keys()) if (!other !== !name) this.known.delete(other);
    const door = this.doorOf(name);
    this.known.set(name, door);
    this.change();
    return door;
  }

  /** Forgets one. @throws where it cannot be forgotten, which it is for now */
  remove(name: string): void {
    if (this.known.delete(name)) this.change();
  }

  private change(): void {
    for (const listener of this.listeners) listener();
    touch();
    const { DEST_DIR: directory } = this.config;
    replaceFile(this.file, `${JSON.stringify({ directory, names: [...this.known.keys()] })}\n`, 0o600);
  }

  /** Says what the door of a name is, or would be. */
  doorOf(name: string): Door {
    const { DEST_DIR } = this.config;
    return { name, directory: name ? join(DEST_DIR, name) : DEST_DIR };
  }

  /** Reads which were known: none where the file is missing, or is none of ours. */
  private recall(): string[] {
    try {
      const { names } = JSON.parse(readSmallFile(this.file, MAX_BYTES));
      const found = (names as unknown[]).map(String);
      return found.includes('') ? [''] : found.filter(isSourceName);
    } catch {
      return [];
    }
  }
}
