/**
 * What inotifywait says beside its events, whatever its version, and what is to be done about it.
 *
 *   const words = new WatcherWords();
 *   words.hear("Couldn't initialize inotify: Too many open files"); // 'complaint'
 *   words.advice; // 'inotify 实例数达到上限，请执行 sysctl fs.inotify.max_user_instances=1024'
 */
import { escapeText, t } from '../service/text.ts';

/** What a line is: the watches stand, it is to be told, or it is no complaint. */
type Meaning = 'established' | 'complaint' | 'nothing';

/** How many lines are kept of what it has complained of last. */
const MAX_KEPT = 2;

/**
 * Of a directory that is new: 4.25 says of each that it watches it. One that it could not watch is in doubt, and when the next
 * watcher has not watched it either, that is told with what can be done. One that was moved is in doubt as well.
 */
const OF_DIRECTORY = /^(Watching new directory|Couldn't watch new directory|Error removing watch on|Stat failed on) /;
/** How such a line ends: the name of the directory in it may hold line ends. */
const END_OF_DIRECTORY = /\/$|: [A-Z][A-Za-z ()/-]*$/;
/** A directory that is gone again needs no watch. */
const NO_MATTER = /^Setting up watches|No such file or directory$|Not a directory$|remov(e|ing) watch/;
/** What it ends with, which is told when it has ended. */
const LAST = /^Couldn't watch /;

/** What is to be done about what it has said last. */
const ADVICE: [said: RegExp, advice: string][] = [
  [/open files in system/, t`系统打开的文件数达到上限，请执行 sysctl fs.file-max=1048576`],
  [
    /initialize inotify|max_user_instances/,
    t`inotify 实例数达到上限，请执行 sysctl fs.inotify.max_user_instances=1024`,
  ],
  [
    /upper limit|amount of inotify watches|No space left/,
    t`监控数量达到上限，请执行 sysctl fs.inotify.max_user_watches=1048576`,
  ],
  [
    /Too many open files/,
    t`打开的文件数达到上限，请提高 ulimit -n（systemd 中为 LimitNOFILE，容器中为 --ulimit nofile）`,
  ],
];

export class WatcherWords {
  private readonly kept: string[] = [];
  /** Whether the next line goes on with the name of a directory. */
  private isWithinName = false;

  /** Takes in a line of its standard error. */
  hear(line: string): Meaning {
    if (this.isWithinName || OF_DIRECTORY.test(line)) {
      this.isWithinName = !END_OF_DIRECTORY.test(line);
      return 'nothing';
    }
    if (line.startsWith('Watches established')) return 'established';
    const isLast = LAST.test(line);
    if (NO_MATTER.test(line) && !isLast) return 'nothing';
    this.kept.push(escapeText(line));
    if (this.kept.length > MAX_KEPT) this.kept.shift();
    return isLast ? 'nothing' : 'complaint';
  }

  /** What it has said last, safe to print. */
  get last(): string {
    return this.kept.join(' ');
  }

  /** What is to be done about that, nothing where it is not known. */
  get advice(): string | undefined {
    return ADVICE.find(([said]) => said.test(this.last))?.[1];
  }
}
