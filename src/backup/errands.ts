/**
 * Waits for what the source wants done by name, batch after batch: things to be renamed, and things to be deleted. It is started before
 * there is anything to do, and ends with its connection.
 *
 *   serveErrands('/data/backup/web/', DEST_DIR, { admit, mayRemove: true }); // on standard input: 1000\0rOLD\0NEW\0fGONE\0dDIRECTORY\0\0
 *                                                                           // on standard output: ready, and then 1 2 - - for each batch
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { t } from '../service/text.ts';
import { enter, fence, locate, Refusal } from './confinement.ts';
import { keepingOf } from './history-door.ts';
import { ReceiptMark } from './receipt-mark.ts';
import { type Kind, Removals } from './removals.ts';
import { type Kept, MAX_PATH_BYTES, PLACE, renameBelow } from './renames.ts';

/** How much may be asked for at a time; what could not be done of it is listed. */
const MAX_ORDERS = 20_000;
/** What stands before a path that is to be deleted. */
const KINDS: Record<string, Kind> = { f: 'file', d: 'directory' };

interface Terms {
  /** Lets the source go on, each time: its key or DEST_DIR may be others by now. @throws {Refusal} */
  admit: () => unknown;
  /** Whether anything may be deleted. */
  mayRemove: boolean;
}

/**
 * Reads fields from standard input, a NUL behind each. Bytes are latin1.
 * @throws {Refusal}
 */
function* readFields(): Generator<string> {
  const chunk = Buffer.alloc(65_536);
  let rest = '';
  for (let length = readSync(0, chunk); length > 0; length = readSync(0, chunk)) {
    const fields = (rest + chunk.toString('latin1', 0, length)).split('\0');
    if (fields.some((field) => field.length > MAX_PATH_BYTES + 1))
      throw new Refusal(t`路径超过 ${MAX_PATH_BYTES} 字节`);
    rest = fields.pop() ?? '';
    yield* fields;
  }
}

/** What was done of a batch. */
class Batch {
  private renamed = 0;
  private removed = 0;
  private readonly left: number[] = [];
  private readonly absent: number[] = [];
  private readonly removals: Removals;

  /** @param most how many entries may be deleted */
  constructor(
    private readonly place: number,
    private readonly most: number,
    private readonly keeping: Kept | undefined,
  ) {
    this.removals = new Removals(place, keeping);
  }

  rename(number: number, from: string, to: string): void {
    if (renameBelow(this.place, from, to, this.keeping)) this.renamed++;
    else this.left.push(number);
  }

  remove(number: number, path: string, kind: Kind): void {
    const { removed, isDone } = this.removals.remove(path, kind, this.most - this.removed);
    this.removed += removed;
    if (!isDone) this.left.push(number);
    else if (removed === 0) this.absent.push(number);
  }

  /** How often something was renamed, how many entries were deleted, which orders could not be done, and what was not there. */
  get answer(): string {
    return `${this.renamed} ${this.removed} ${this.left.join(',') || '-'} ${this.absent.join(',') || '-'}\n`;
  }
}

/**
 * Does what one batch asks for, as far as it can be done. It is done by this thread itself, the only one that is fenced in.
 * @throws {Refusal} where it is none
 */
function work(batch: Batch, fields: Iterator<string>): void {
  for (let number = 0; ; number++) {
    const order = next(fields);
    if (order === '') return;
    if (number >= MAX_ORDERS) throw new Refusal(t`一次超过 ${MAX_ORDERS} 项`);
    const [letter, path] = [order.slice(0, 1), order.slice(1)];
    const kind = KINDS[letter];
    if (letter === 'r') batch.rename(number, path, next(fields));
    else if (!kind) throw new Refusal(t`只能重命名或删除`);
    else batch.remove(number, path, kind);
  }
}

/** @throws {Refusal} where there is none */
function next(fields: Iterator<string>): string {
  const { value, done } = fields.next();
  if (done) throw new Refusal(t`一批操作不完整`);
  return value;
}

/** Opens what the source mirrors into, which is held open no longer than there is something to do. @throws {Refusal} */
function openDestination(directory: string, allowed: string): number {
  const { real, root } = locate(directory, allowed);
  try {
    if (enter(real, root) !== './') throw new Refusal(t`目标目录还不存在`);
    return openSync('.', PLACE);
  } finally {
    process.chdir('/');
  }
}

/**
 * Serves one source until its connection ends.
 * @param directory what it mirrors into
 * @throws {Refusal}
 */
export function serveErrands(directory: string, allowed: string, { admit, mayRemove }: Terms): never {
  const { START_SSHD_ADMISSION: file } = process.env;
  const { real, root } = locate(directory, allowed);
  const history = keepingOf(root, real);
  history?.refuse([real]);
  const mark = new ReceiptMark();
  fence(root, file ? [dirname(file)] : []);
  process.chdir('/'); // DEST_DIR can be unmounted while this waits
  writeSync(1, 'ready\n');
  const fields = readFields();
  for (let head = fields.next(); !head.done; head = fields.next()) {
    const most = mayRemove && /^\d{1,15}$/.test(head.value) ? Number(head.value) : 0;
    admit();
    mark.put();
    const place = openDestination(directory, allowed);
    try {
      using keeper = history?.keeper(real);
      const keeping = history && { keeper, isHistory: (at: Buffer) => history.isHistory(at) };
      const batch = new Batch(place, most, keeping);
      work(batch, fields);
      writeSync(1, batch.answer);
    } finally {
      closeSync(place);
    }
  }
  process.exit(0);
}
