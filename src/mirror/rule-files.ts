/**
 * The files outside of the events' sight that RSYNC_OPTS name and that decide what is mirrored: what is changed in them counts for
 * all of the source.
 *
 *   const rules = new RuleFiles(config);
 *   await rules.describe(); // other than before where one of them says something else
 *   await rules.keep(targets);
 */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { lifecycle } from '../service/lifecycle.ts';
import { error, log } from '../service/log.ts';
import { cwd } from '../service/processes.ts';
import { escapeText, t } from '../service/text.ts';
import { homeDirectory } from '../service/user.ts';
import { ALL } from './changes.ts';
import type { Config, Host } from './config.ts';
import { parseWords } from './options.ts';
import { type Option, parseOptions } from './rsync-options.ts';
import type { TargetState } from './target-state.ts';

/** How often they are looked at, ms. What one of them says counts once it has been the same twice. */
const LOOK_MS = 1000;
/** How many files are followed at most: those that others name may name more. */
const MAX_FILES = 100;
/** How large one is at most that is read, bytes. */
const MAX_BYTES = 16_000_000;

interface RuleFile {
  path: string;
  /** Whether it may name others. */
  hasRules: boolean;
  /** Whether rsync does without it. */
  isOptional: boolean;
}

/** A rule that is replaced by those of a file: its modifiers, of which some say that the file holds patterns alone, and the file. */
const MERGE = /^(?:\.|merge\b),?([-+Cenws/!xpP]*)[ _](.+)$/s;
/** A rule of files in each directory, of which those above the source count too where its name begins with a slash (rsync(1)). */
const DIR_MERGE = /^(?::|dir-merge\b),?[-+Cenws/!xpP]*[ _]\/(.+)$/s;

const needed = (path: string, hasRules: boolean): RuleFile => ({
  path: resolve(cwd, path),
  hasRules,
  isOptional: false,
});

/** Finds the file that a rule is replaced by. */
function mergedBy(rule: string): RuleFile[] {
  const [, modifiers = '', path] = MERGE.exec(rule) ?? [];
  return path ? [needed(path, !/[-+]/.test(modifiers))] : [];
}

/** Names a file in each directory that the source lies in. */
function above(source: string, name: string): RuleFile[] {
  const files: RuleFile[] = [];
  for (let below = resolve(source); dirname(below) !== below; below = dirname(below))
    files.push({ path: join(dirname(below), name), hasRules: false, isOptional: true });
  return files;
}

/** Lists the files that an option names. */
function namedBy({ name, value = '' }: Option, source: string): RuleFile[] {
  if (/^--(ex|in)clude-from$/.test(name)) return value === '-' || !value ? [] : [needed(value, false)];
  if (name === '--files-from') return /^-?$|^[^/]*:/.test(value) ? [] : [needed(value, false)];
  if (name === '-F') return above(source, '.rsync-filter');
  if (name !== '-f' && name !== '--filter') return [];
  const [, everywhere] = DIR_MERGE.exec(value) ?? [];
  return everywhere ? above(source, everywhere) : mergedBy(value);
}

/** Lists the files that options name. */
export function ruleFilesOf({ RSYNC_OPTS, SOURCE_DIR }: Pick<Config, 'RSYNC_OPTS' | 'SOURCE_DIR'>): RuleFile[] {
  const options = parseOptions(parseWords(RSYNC_OPTS));
  const ignored = { path: join(homeDirectory(), '.cvsignore'), hasRules: false, isOptional: true };
  const isCvs = options.some(({ name }) => name === '-C' || name === '--cvs-exclude');
  return [...options.flatMap((option) => namedBy(option, SOURCE_DIR)), ...(isCvs ? [ignored] : [])];
}

/** What a file was when it was looked at. */
interface Look {
  /** What tells it from what it was before, '' where it is not there. */
  print: string;
  content: string;
  isOptional: boolean;
}

const ABSENT = { print: '', content: '\0' };

async function lookAt(path: string, known: Look | undefined): Promise<Pick<Look, 'print' | 'content'>> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    const print = [dev, ino, size, mtimeNs, ctimeNs].join(':');
    if (print === known?.print) return known;
    return { print, content: size > MAX_BYTES ? print : await readFile(path, 'latin1') };
  } catch {
    return ABSENT; // rsync will not be able to read it either
  }
}

export class RuleFiles {
  private readonly named: RuleFile[];
  /** What was found at the last look, by path. */
  private found = new Map<string, Look>();
  /** What counts. */
  private settled: Map<string, Look> | undefined;

  constructor(private readonly config: Pick<Config, 'RSYNC_OPTS' | 'SOURCE_DIR'>) {
    this.named = ruleFilesOf(config);
  }

  /** Makes one for the options of all targets: what is changed counts for each of them. */
  static ofAll(hosts: readonly Pick<Host, 'config'>[]): RuleFiles {
    const lists = new Set(hosts.map(({ config }) => config.RSYNC_OPTS));
    return new RuleFiles({ SOURCE_DIR: hosts[0]?.config.SOURCE_DIR ?? '', RSYNC_OPTS: [...lists].join(' ') });
  }

  /** Says what the options mean now, the same text as long as they mean the same. */
  async describe(): Promise<string> {
    const { RSYNC_OPTS } = this.config;
    if (this.named.length === 0) return RSYNC_OPTS;
    const hash = createHash('sha256');
    for (const [path, { content }] of await this.look()) hash.update(`${path}\0${content}\0`);
    return `${RSYNC_OPTS} ${hash.digest('hex')}`;
  }

  /** Looks again and again, and has all of the source compared when one of them has changed. */
  async keep(targets: readonly Pick<TargetState, 'changes'>[]): Promise<void> {
    while (this.named.length > 0 && !lifecycle.stopping) {
      if (await this.hasChanged()) for (const { changes } of targets) changes.add(ALL);
      await lifecycle.pause(LOOK_MS);
    }
  }

  /** Looks at them, tells of those that say something else than before, unless they are changing, and resolves with whether any does. */
  async hasChanged(): Promise<boolean> {
    const before = this.found;
    this.found = await this.look();
    this.settled ??= new Map(this.found);
    let isNews = false;
    for (const [path, look] of this.found) {
      const known = this.settled.get(path);
      if (before.get(path)?.print !== look.print) continue;
      this.settled.set(path, look);
      if (!known || known.content === look.content) continue;
      isNews = true;
      tell(path, look);
    }
    return isNews;
  }

  /** Finds what all of them are, those among them that others name. */
  private async look(): Promise<Map<string, Look>> {
    const looks = new Map<string, Look>();
    const rest = [...this.named];
    for (let file = rest.shift(); file && looks.size < MAX_FILES; file = rest.shift()) {
      const { path, hasRules, isOptional } = file;
      if (looks.has(path)) continue;
      const look = { ...(await lookAt(path, this.found.get(path))), isOptional };
      looks.set(path, look);
      if (hasRules) rest.push(...look.content.split(/\r?\n/).flatMap(mergedBy));
    }
    return looks;
  }
}

function tell(path: string, { print, isOptional }: Look): void {
  const fields = { path };
  const what = t`RSYNC_OPTS 所指的文件 ${escapeText(path)}`;
  if (print || isOptional) log('rules.changed', t`${what} 已更改，立即进行一次全量比较`, fields);
  else error('rules.missing', t`${what} 不见了或无法读取，rsync 因此无法运行。请恢复该文件，之后会自动继续`, fields);
}
