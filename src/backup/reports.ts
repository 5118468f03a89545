/**
 * What sessions tell the service: it takes that, over a socket in the runtime directory, into its log, for each source by itself.
 *
 *   const reports = new Reports();
 *   await reports.listen(join(runtimeDirectory, 'reports'));
 *   reports.of('web1').refused; // 3
 */
import { existsSync } from 'node:fs';
import { warn } from '../service/log.ts';
import { isSourceName } from '../service/source-names.ts';
import { reasonOf, t } from '../service/text.ts';
import { DoorReports } from './door-reports.ts';
import { MAX_DOORS } from './doors.ts';
import { MAX_SHOWN } from './session-reports.ts';

/** Takes the reports of sessions into the log. */
export class Reports {
  private readonly doors = new Map<string, DoorReports>();
  /** Where it listens. */
  private path: string | undefined;
  private readonly listeners: (() => Promise<void> | undefined)[] = [];

  /** Finds what a source has told; names that are none, or too many, count as none. */
  of(name = ''): DoorReports {
    const known = this.doors.get(name);
    if (known) return known;
    if (name && (!isSourceName(name) || this.doors.size > MAX_DOORS)) return this.of();
    const fresh = new DoorReports(name);
    this.doors.set(name, fresh);
    return fresh;
  }

  /** Forgets sources that there are no more, and that one of them was allowed to read. @param names of those that there are */
  keepOnly(names: readonly string[]): void {
    for (const [name, { leave }] of this.doors) {
      if (!name || names.includes(name)) continue;
      leave.give(0);
      this.doors.delete(name);
    }
  }

  /** Calls `listener` with each command that writes files in place or with holes, before that is let begin. */
  onLoose(listener: () => Promise<void> | undefined): void {
    this.listeners.push(listener);
  }

  /** Listens on a socket; where that is not possible, this is told. */
  async listen(path: string): Promise<void> {
    const { createServer } = await import('node:net');
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      let report = '';
      let isReading = false;
      socket.setEncoding('utf8').on('data', (chunk: string) => {
        report = `${report}${chunk}`.slice(0, 4 * MAX_SHOWN);
        const [, name = '', what] = /^sending(?:@(\S+))?\n(.*)\n/.exec(report) ?? [];
        if (what !== undefined && !isReading) this.of(name).leave.attend(socket, what);
        isReading ||= what !== undefined;
      });
      socket.once('end', async () => socket.end(isReading ? '' : await this.take(report)));
      socket.on('error', () => {});
    });
    server
      .on('error', (cause) => warn('command.unreported', t`拒绝执行的命令不会记入日志：${reasonOf(cause)}`))
      .listen(path, () => {
        this.path = path;
      });
  }

  /** Whether somebody has removed the socket, as cleaners of /tmp do. */
  get isRemoved(): boolean {
    return this.path !== undefined && !existsSync(this.path);
  }

  /** Takes a report; resolves with what it is answered. */
  private async take(report: string): Promise<string> {
    const [, head = '', message = ''] = /^(.*?)\n(.*)$/s.exec(report) ?? [];
    const [kind = '', name] = head.split('@');
    if (kind === 'announced') return this.of(name).greet(message);
    if (kind === 'loose') await Promise.all(this.listeners.map((listener) => listener()));
    else this.of(name).complain(kind, message);
    return '';
  }

  /** Has it told anew when all commands are refused: until now they were not, or for another reason. */
  renewBar(): void {
    for (const reports of this.doors.values()) reports.renewBar();
  }

  /** Lists the directories that several sources of one name, or none, mirror into. */
  get doubled() {
    return [...this.doors.values()].flatMap(({ sources }) => sources.report());
  }

  /** Tells how many commands were refused. */
  report(): number {
    return [...this.doors.values()].reduce((sum, { refused }) => sum + refused, 0);
  }
}
