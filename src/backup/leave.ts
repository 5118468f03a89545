/**
 * For how long a source may read its directory, because somebody on this machine has said so. It is a state of the running service, and
 * ends with it.
 *
 *   const leave = new Leave('web1');
 *   leave.give(3_600_000);
 *   leave.attend(socket, '/data/backup'); // a session that reads: its connection ends when it may no longer
 */
import type { Socket } from 'node:net';
import type { Command } from '../service/control.ts';
import { MAX_DURATION_MS } from '../service/duration.ts';
import { log } from '../service/log.ts';
import { touch } from '../service/status.ts';
import { escapeText, localTime, t } from '../service/text.ts';
import { Ceiling, LAST } from './ceiling.ts';
import { about, fieldsOf } from './doors.ts';

/** How many reads are told an hour: a restore has two. */
const MAX_TOLD = 100;

/** What a session is told first. */
export const ALLOWED = 'allowed';
const FORBIDDEN = 'forbidden';

export class Leave {
  private until: Date | undefined;
  private end: NodeJS.Timeout | undefined;
  private readonly ceiling: Ceiling;
  /** The sessions that read now. */
  private readonly readers = new Set<Socket>();
  private readonly place: string;

  /** @param name of the source, '' for the one without a name */
  constructor(private readonly name = '') {
    this.place = name ? `DEST_DIR/${name}` : 'DEST_DIR';
    this.ceiling = new Ceiling(about(name, t`源端的读取`), MAX_TOLD);
  }

  private tell(event: string, text: string, fields: Record<string, unknown> = {}): void {
    log(event, about(this.name, text), { ...fields, ...fieldsOf(this.name) });
  }

  /** Lets the source read from now on, for so long, ms; what was allowed before counts no more. 0 ends it at once. */
  give(ms: number): void {
    clearTimeout(this.end);
    if (ms <= 0) {
      this.withdraw(t`已按要求结束`);
      return;
    }
    this.until = new Date(Date.now() + ms);
    this.end = setTimeout(() => this.withdraw(t`已到期`), ms).unref();
    const until = localTime(this.until);
    const fields = { until: this.until.toISOString() };
    this.tell('restore.allowed', t`允许源端读取 ${this.place} 以恢复数据，到 ${until} 为止`, fields);
    touch();
  }

  private withdraw(how: string): void {
    if (!this.until) return;
    this.until = undefined;
    const count = this.readers.size;
    const broken = count > 0 ? t`，已中断 ${count} 个正在进行的读取` : '';
    this.tell('restore.ended', t`恢复的许可${how}：源端不能再读取 ${this.place}${broken}`, { reading: count });
    for (const reader of this.readers) reader.destroy();
    this.readers.clear();
    touch();
  }

  /** Answers a session that wants to read; while it does, the connection stands. @param what it wants to read, for people */
  attend(socket: Socket, what: string): void {
    if (!this.until) {
      socket.end(`${FORBIDDEN}\n`);
      return;
    }
    this.readers.add(socket);
    const turn = this.ceiling.count();
    const shown = `${escapeText(what)}${turn === 'last' ? LAST : ''}`;
    if (turn !== 'omitted') this.tell('restore.reading', t`源端开始读取 ${shown}`);
    socket.once('close', () => {
      if (this.readers.delete(socket) && turn !== 'omitted')
        this.tell('restore.read', t`源端读取 ${escapeText(what)} 结束`);
      touch();
    });
    socket.write(`${ALLOWED}\n`);
    touch();
  }

  /** Does what `--allow-restore` asks for. */
  readonly allow: Command = async ({ ms }) => {
    if (typeof ms !== 'number' || !(ms >= 0 && ms <= MAX_DURATION_MS)) return { isDone: false, text: t`时长无效` };
    this.give(ms);
    const text = this.until
      ? t`源端现在可以读取 ${this.place}，到 ${localTime(this.until)} 为止`
      : t`恢复的许可已结束：源端不能读取 ${this.place}`;
    return { isDone: true, text: about(this.name, text) };
  };

  /** Tells until when the source may read, and how many sessions do. */
  report(): { until: string; reading: number } | null {
    return this.until ? { until: this.until.toISOString(), reading: this.readers.size } : null;
  }
}
