/**
 * Has an rsync leave out files that are too large for now, and hears which they are.
 *
 *   const size = new SizeLimit(1_000_000, locate);
 *   start('rsync', [...size.options, …]);   // its output goes through size.filter
 *   size.leftOut;                           // ['videos/a.mp4']
 */
import { unescapeName } from './differences.ts';

/** How many names are kept. */
const MAX_NAMES = 1000;
/** How long a line may be that is kept until it ends, characters: rsync names a path, each byte as `\#ooo`. */
const MAX_LINE = 70_000;
const TOO_LARGE = /^(.*) is over max-size\n?$/s;

/** The files that were left out, below the source, or that there are too many to be named. */
export type LeftOut = string[] | 'many';

export class SizeLimit {
  readonly options: string[];
  private readonly names = new Set<string>();
  private isComplete = true;
  private rest = '';

  /**
   * @param most how large a file may be, bytes
   * @param locate says what a path that rsync tells is called below the source
   */
  constructor(
    most: number,
    private readonly locate: (told: string) => string | undefined,
  ) {
    this.options = [`--max-size=${most}B`, '--info=skip1'];
  }

  /** The files that were left out. */
  get leftOut(): LeftOut {
    return this.isComplete ? [...this.names] : 'many';
  }

  /** Takes what rsync says of them out of its output, bytes in a latin1 string. */
  readonly filter = (chunk: string): string => {
    const lines = (this.rest + chunk).split(/(?<=\n)/);
    this.rest = lines.at(-1)?.endsWith('\n') ? '' : (lines.pop() ?? '');
    if (this.rest.length > MAX_LINE) {
      lines.push(this.rest);
      this.rest = '';
      this.isComplete = false;
    }
    return lines.filter((line) => !this.take(line)).join('');
  };

  private take(line: string): boolean {
    const [, told] = TOO_LARGE.exec(line) ?? [];
    if (told === undefined) return false;
    const path = this.locate(unescapeName(told));
    if (path === undefined || this.names.size >= MAX_NAMES) this.isComplete = false;
    else this.names.add(path);
    return true;
  }
}
