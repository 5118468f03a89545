/**
 * Lists versions by the time when they were replaced or deleted. There may be millions: each takes as many bytes as its path and some more.
 *
 *   const listing = new Listing();
 *   listing.add({ until: Date.now(), size: 4096, path: 'web/index.html' });
 *   for (const piece of listing.pieces()) process.stdout.write(piece);
 */
import { inUnits, localTime, showPath, t, table } from '../service/text.ts';

/** How much room for paths is made at a time, bytes: none is longer. */
const BLOCK = 1_000_000;
/** How many lines are a piece, and after how many pieces what they have left behind is collected: it would pile up to the end. */
const LINES = 1000;
const COLLECT = 25;

/** A version. The path is bytes in a latin1 string, the time ms since 1970, the size bytes. */
interface Row {
  until: number;
  size: number;
  path: string;
}

export class Listing {
  private readonly until: number[] = [];
  private readonly size: number[] = [];
  /** Where the path of each begins, counted over all blocks; a NUL ends it. */
  private readonly start: number[] = [];
  private readonly blocks: Buffer[] = [];
  private used = BLOCK;

  add({ until, size, path }: Row): void {
    if (this.used + path.length + 1 > BLOCK) {
      this.blocks.push(Buffer.alloc(BLOCK));
      this.used = 0;
    }
    this.until.push(until);
    this.size.push(size);
    this.start.push((this.blocks.length - 1) * BLOCK + this.used);
    this.used += this.blocks.at(-1)?.write(`${path}\0`, this.used, 'latin1') ?? 0;
  }

  get length(): number {
    return this.until.length;
  }

  /** Writes the table, piece by piece. */
  *pieces(): Generator<string> {
    const width = this.size.reduce((most, size) => Math.max(most, inUnits(size).length), 4);
    const [head = ''] = table([
      [t`被替换或删除于`, t`大小`, t`路径`],
      ['0'.repeat(19), '0'.repeat(width), ''],
    ]);
    let [lines, count] = [[head], 0];
    const order = new Uint32Array(this.length).map((_, row) => row).sort((a, b) => this.timeOf(a) - this.timeOf(b));
    for (const row of order) {
      const [time, size] = [localTime(new Date(this.timeOf(row))), inUnits(this.size[row] ?? 0)];
      if (lines.push([time, size.padEnd(width), showPath(this.pathOf(row))].join('  ')) < LINES) continue;
      yield `${lines.join('\n')}\n`;
      lines = [];
      if (++count % COLLECT === 0) Bun.gc(true);
    }
    if (lines.length > 0) yield `${lines.join('\n')}\n`;
  }

  private timeOf(row: number): number {
    return this.until[row] ?? 0;
  }

  private pathOf(row: number): string {
    const start = this.start[row] ?? 0;
    const block = this.blocks[Math.floor(start / BLOCK)];
    const from = start % BLOCK;
    return block?.toString('latin1', from, block.indexOf(0, from)) ?? '';
  }
}
