/**
 * What is told of what an rsync prints: the first and the last lines of many; and of its complaints so many of each kind.
 *
 *   const excerpt = new Excerpt<string>();
 *   excerpt.take('a'); // ['a'], what is told now
 *   excerpt.end();     // { omitted: 0, last: [] }
 */

/** How many lines are told at first, and how many at the end, where rsync's statistics stand. */
export const [FIRST_LINES, LAST_LINES] = [200, 20];
/** How many complaints of a kind are told, and how many kinds are told apart: whoever is at the other end may invent more. */
export const [OF_A_KIND, KINDS] = [20, 100];

/** Decides line by line what is told. */
export interface Selection<Line> {
  /** Takes a line; returns what is to be told now. */
  take(line: Line): Line[];
  /** Returns how many were left out, and what is to be told after that. */
  end(): { omitted: number; last: Line[] };
}

/** Tells all. */
export class Everything<Line> implements Selection<Line> {
  take(line: Line): Line[] {
    return [line];
  }

  end() {
    return { omitted: 0, last: [] };
  }
}

/** Tells the first and the last lines. */
export class Excerpt<Line> implements Selection<Line> {
  private count = 0;
  private last: Line[] = [];

  take(line: Line): Line[] {
    if (++this.count <= FIRST_LINES) return [line];
    this.last.push(line);
    if (this.last.length >= 2 * LAST_LINES) this.last = this.last.slice(-LAST_LINES);
    return [];
  }

  end() {
    const last = this.last.slice(-LAST_LINES);
    return { omitted: Math.max(0, this.count - FIRST_LINES - last.length), last };
  }
}

/** Tells so many complaints of each kind. */
export class Complaints<Line extends { text: string }> implements Selection<Line> {
  private readonly kinds = new Map<string, number>();
  private omitted = 0;

  /** @param mayTell whether a kind is told now at all */
  constructor(private readonly mayTell: (kind: string) => boolean) {}

  take(line: Line): Line[] {
    const kind = this.kindOf(line.text);
    const count = (this.kinds.get(kind) ?? 0) + 1;
    this.kinds.set(kind, count);
    if (count <= OF_A_KIND && this.mayTell(kind)) return [line];
    this.omitted++;
    return [];
  }

  end() {
    return { omitted: this.omitted, last: [] };
  }

  private kindOf(text: string): string {
    const kind = kindOf(text);
    return this.kinds.has(kind) || this.kinds.size < KINDS ? kind : '';
  }
}

/** How much of a complaint makes its kind, characters. */
const MAX_KIND = 200;

/** Says of what kind a complaint is: what it says but for names, numbers and the file that a transfer has failed for. */
export function kindOf(text: string): string {
  return text
    .replace(/".*"/, '"…"')
    .replace(/^(WARNING|ERROR): .* (failed verification)/, '$1: … $2')
    .replace(/\d+/g, '0')
    .slice(0, MAX_KIND);
}
