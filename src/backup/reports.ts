/**
 * What sessions tell the service: it takes that, over a socket in the runtime directory, into its log.
 *
 *   const reports = new Reports();
 *   await reports.listen(join(runtimeDirectory, 'reports'));
 */
import { existsSync } from 'node:fs';
import { info, warn } from '../service/log.ts';
import { touch } from '../service/status.ts';
import { escapeText, reasonOf, t } from '../service/text.ts';
import { Ceiling, LAST } from './ceiling.ts';
import { Leave } from './leave.ts';
import { MAX_SHOWN } from './session-reports.ts';
import { Sources } from './sources.ts';

/** How many refused commands are told an hour. Their words may be long, and many: what is told first shall stay in LOG_FILE. */
const MAX_TOLD = 20;
const REORDERED = t`目标目录不区分文件名的大小写，rsync 若在传输之后删除，会误删只改了大小写的文件：--delete-after 和 --delete-delay 按 --delete-during 执行`;
const UNBLOCKED = t`未采用源端的 --block-size（-B）：块的长度由备份端的 rsync 自行决定，因为极小的块的校验和会泄露文件内容；镜像不受影响`;

/** Takes the reports of sessions into the log. */
export class Reports {
  readonly sources = new Sources();
  readonly leave = new Leave();
  private refused = 0;
  /** Whether it is told already that all commands are refused. */
  private hasToldBar = false;
  private hasToldOrder = false;
  private hasToldBlocks = false;
  private readonly ceilings = {
    refused: new Ceiling(t`拒绝执行的命令`, MAX_TOLD),
    crowded: new Ceiling(t`因命令过多而拒绝执行的命令`, MAX_TOLD),
    unprotected: new Ceiling(t`缺少保护的命令`, MAX_TOLD),
  };
  /** Where it listens. */
  private path: string | undefined;
  private readonly listeners: (() => Promise<void> | undefined)[] = [];

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
        const [, what] = /^sending\n(.*)\n/.exec(report) ?? [];
        if (what !== undefined && !isReading) this.leave.attend(socket, what);
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
    const [, kind, message = ''] = /^(.*?)\n(.*)$/s.exec(report) ?? [];
    if (kind === 'announced') return this.greet(message);
    if (kind === 'loose') {
      await Promise.all(this.listeners.map((listener) => listener()));
      return '';
    }
    this.complain(kind, message);
    return '';
  }

  private greet(message: string): string {
    const [, instance = '', name = '', directory = ''] = /^(\S+) (\S+ \(\S*\)) (.*)$/s.exec(message) ?? [];
    const others = this.sources.note({ directory, instance, name });
    touch();
    return JSON.stringify(others);
  }

  private complain(kind: string | undefined, message: string): void {
    if (kind === 'unprotected') {
      const turn = this.ceilings.unprotected.count();
      const what = t`源端的命令${escapeText(message)}`;
      if (turn !== 'omitted') warn('command.unprotected', turn === 'last' ? `${what}${LAST}` : what);
      return;
    }
    if (kind === 'reordered') {
      if (!this.hasToldOrder) warn('command.reordered', REORDERED);
      this.hasToldOrder = true;
      return;
    }
    if (kind === 'unblocked') {
      if (!this.hasToldBlocks) info('command.block_size', UNBLOCKED);
      this.hasToldBlocks = true;
      return;
    }
    if (kind !== 'promoted') this.refused++; // where the backup has taken over, the source asks all the time, and has done nothing wrong
    touch();
    if (kind === 'promoted' || kind === 'barred') this.tellBar(message);
    else this.tellRefusal(kind === 'crowded' ? this.ceilings.crowded : this.ceilings.refused, message);
  }

  private tellRefusal(ceiling: Ceiling, message: string): void {
    const turn = ceiling.count();
    const what = t`拒绝执行源端的命令：${escapeText(message)}`;
    if (turn !== 'omitted') warn('command.refused', turn === 'last' ? `${what}${LAST}` : what);
  }

  private tellBar(message: string): void {
    if (!this.hasToldBar)
      warn('command.refused', t`拒绝执行源端的命令：${escapeText(message)}（同样原因的不再逐条记录）`);
    this.hasToldBar = true;
  }

  /** Has it told anew when all commands are refused: until now they were not, or for another reason. */
  renewBar(): void {
    this.hasToldBar = false;
  }

  /** Tells how many commands were refused. */
  report(): number {
    return this.refused;
  }
}
