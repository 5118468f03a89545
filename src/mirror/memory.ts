/**
 * What is remembered over restarts, in a file beside the keys, which outlive a container: what the source was, what was mounted
 * below it, and how much was deleted on each target.
 *
 *   const memory = new Memory(config);
 *   memory.data.mounts.push({ path: 'photos', … });
 *   memory.save();
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { replaceFile } from '../service/files.ts';
import { warn } from '../service/log.ts';
import { type Identity, mountsBelow, parseMountinfo, readMountinfo } from '../service/mounts.ts';
import { escapeText, reasonOf, t } from '../service/text.ts';
import type { Config } from './config.ts';

/** A mount below the source. */
export interface RememberedMount {
  /** Below the source, as bytes in a latin1 string. */
  path: string;
  /** What was mounted there, nothing where that could not be told. */
  identity: Identity | undefined;
  /** Whether there was something in it. */
  isFilled: boolean;
  /** Whether something else has come in its place that was empty, so that its copy stays. */
  isReplaced: boolean;
}

/** Deletions on a target that wait for somebody to let them through. */
export interface Held {
  /** How many files would be deleted. */
  count: number;
  /** The directories with the most of them, as bytes in latin1 strings, and how many they have. */
  directories: { path: string; count: number }[];
  /** Since when, ms since 1970. */
  since: number;
}

export interface RememberedTarget {
  /** How many files it held at its last full comparison. */
  files: number | undefined;
  /** How many files the source held then, filters or not. */
  sourceFiles: number | undefined;
  /** How many more it has come to hold since, nothing where that is not known. */
  growth?: number | undefined;
  /** RSYNC_OPTS at its last full comparison: others may delete what was kept. */
  options?: string | undefined;
  /** Which directory the source was then, by its inode and when it was made. */
  place?: string | undefined;
  /** How many files were deleted when, less those that came, ms since 1970. */
  deletions: { time: number; count: number }[];
  held: Held | undefined;
  /** What the backup said of itself when it was last compared as a whole. */
  backup: string | undefined;
}

/** From when to when, ms since 1970. */
export interface Span {
  since: number;
  until: number;
}

export interface Remembered {
  source: Identity | undefined;
  mounts: RememberedMount[];
  targets: Record<string, RememberedTarget>;
  /** While nothing is sent because an operator wants that. */
  pause?: Span | undefined;
}

/** How long what changes often may wait to be written down, ms. */
const SAVE_MS = 2000;

/** What no time is beyond, ms since 1970, nor can a `Date` be. */
const MAX_TIME = 8.64e15;

const NOTHING: Remembered = { source: undefined, mounts: [], targets: {} };

const isRecord = (it: unknown): it is object => typeof it === 'object' && it !== null && !Array.isArray(it);

/** Whether it has the form of what is remembered, as far as that may lack parts. */
function isRemembered(it: unknown): it is Partial<Remembered> {
  const { source = {}, mounts = [], targets = {}, pause = { since: 0, until: 0 } } = Object(it);
  const { since, until } = Object(pause);
  const isSpan = isRecord(pause) && [since, until].every((time) => Number.isFinite(time) && Math.abs(time) < MAX_TIME);
  return isRecord(it) && isRecord(source) && Array.isArray(mounts) && isRecord(targets) && isSpan;
}

type Place = Pick<Config, 'SSH_DIR' | 'SOURCE_DIR'>;

/** Names a file of this source's own beside the keys: several may share a directory of keys. */
function fileFor({ SSH_DIR, SOURCE_DIR }: Place, kind: string): string {
  const name = createHash('sha256')
    .update(SOURCE_DIR.replace(/(?<=.)\/$/, ''))
    .digest('hex')
    .slice(0, 16);
  return join(SSH_DIR, `rsync-inotify-${name}.${kind}`);
}

/** Names the file that is locked while somebody restores into this source; nobody else can read it, and so lock it. */
export const restoreLockOf = (config: Place) => fileFor(config, 'lock');

export class Memory {
  readonly data: Remembered;
  /** The file that is locked while somebody restores. */
  readonly restoreLock: string;
  private readonly path: string;
  private isBroken = false;
  private saving: NodeJS.Timeout | undefined;

  /** Reads what is remembered of this source. */
  constructor(config: Place) {
    this.path = fileFor(config, 'json');
    this.restoreLock = restoreLockOf(config);
    this.data = { ...structuredClone(NOTHING), ...this.read() };
  }

  private read(): Partial<Remembered> {
    try {
      const read: unknown = JSON.parse(readFileSync(this.path, 'utf8'));
      if (isRemembered(read)) return read;
      throw new Error(t`内容不是本程序写入的`);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'ENOENT')
        warn('memory.failed', t`无法读取 ${escapeText(this.path)}，视为首次启动：${reasonOf(cause)}`);
      return {};
    }
  }

  /** What is remembered of a target. */
  target(name: string): RememberedTarget {
    this.data.targets[name] ??= {
      ...{ files: undefined, sourceFiles: undefined, deletions: [], held: undefined, backup: undefined },
    };
    return this.data.targets[name];
  }

  /** Finds the mounts that are not there now. @param realRoot where the source really is, as bytes in a latin1 string */
  missingMounts(realRoot: string): string[] {
    const there = mountsBelow(parseMountinfo(readMountinfo()), realRoot).map((mount) => mount.path);
    return this.data.mounts.map((mount) => mount.path).filter((path) => !there.includes(join(realRoot, path)));
  }

  /** Forgets how many files the source held: it is another directory now, of which nothing is known. */
  forgetCounts(): void {
    for (const target of Object.values(this.data.targets)) target.sourceFiles = undefined;
  }

  /** Writes it down before long: what changes with each batch is not worth a file each time. */
  saveSoon(): void {
    this.saving ??= setTimeout(() => this.save(), SAVE_MS);
  }

  /** Writes it down; returns whether that was possible. Where not, it is told once, and the guards work until the next start. */
  save(): boolean {
    clearTimeout(this.saving);
    this.saving = undefined;
    try {
      mkdirSync(dirname(this.path), { recursive: true, mode: 0o700 });
      replaceFile(this.path, `${JSON.stringify(this.data)}\n`, 0o600);
      this.isBroken = false;
      return true;
    } catch (cause) {
      const what = t`无法保存 ${escapeText(this.path)}：${reasonOf(cause)}`;
      if (!this.isBroken) warn('memory.failed', t`${what}。重启后将不记得源目录、挂载点、被暂缓的删除和暂停`);
      this.isBroken = true;
      return false;
    }
  }
}
