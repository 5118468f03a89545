/**
 * What the sessions of one source tell the service: it is counted for that source alone, so that a flood of one hides nothing of another.
 *
 *   const reports = new DoorReports('web1');
 *   reports.complain('refused', '不提供 shell。命令: ');
 *   reports.refused; // 1
 */
import { info, warn } from '../service/log.ts';
import { touch } from '../service/status.ts';
import { escapeText, t } from '../service/text.ts';
import { Ceiling, LAST } from './ceiling.ts';
import { about, fieldsOf } from './doors.ts';
import { Leave } from './leave.ts';
import { Sources } from './sources.ts';

/** How many refused commands are told an hour. Their words may be long, and many: what is told first shall stay in LOG_FILE. */
const MAX_TOLD = 20;
const REORDERED = t`目标目录不区分文件名的大小写，rsync 若在传输之后删除，会误删只改了大小写的文件：--delete-after 和 --delete-delay 按 --delete-during 执行`;
const UNBLOCKED = t`未采用源端的 --block-size（-B）：块的长度由备份端的 rsync 自行决定，因为极小的块的校验和会泄露文件内容；镜像不受影响`;

export class DoorReports {
  readonly sources: Sources;
  readonly leave: Leave;
  /** How many commands were refused. */
  refused = 0;
  /** Whether it is told already that all commands are refused. */
  private hasToldBar = false;
  private hasToldOrder = false;
  private hasToldBlocks = false;
  private readonly ceilings;

  /** @param name that of the source, '' for one without */
  constructor(private readonly name: string) {
    this.sources = new Sources(name);
    this.leave = new Leave(name);
    this.ceilings = {
      refused: new Ceiling(about(name, t`拒绝执行的命令`), MAX_TOLD),
      crowded: new Ceiling(about(name, t`因命令过多而拒绝执行的命令`), MAX_TOLD),
      unprotected: new Ceiling(about(name, t`缺少保护的命令`), MAX_TOLD),
    };
  }

  /** Takes down that a source lives; returns the names of others that mirror there, too, as JSON. */
  greet(message: string): string {
    const [, instance = '', name = '', directory = ''] = /^(\S+) (\S+ \(\S*\)) (.*)$/s.exec(message) ?? [];
    const others = this.sources.note({ directory, instance, name });
    touch();
    return JSON.stringify(others);
  }

  /** Takes what was not run as it was asked for, and why. */
  complain(kind: string, message: string): void {
    if (kind === 'unprotected') {
      const turn = this.ceilings.unprotected.count();
      const what = t`源端的命令${escapeText(message)}`;
      if (turn !== 'omitted') this.warn('command.unprotected', turn === 'last' ? `${what}${LAST}` : what);
      return;
    }
    if (kind === 'reordered') {
      if (!this.hasToldOrder) this.warn('command.reordered', REORDERED);
      this.hasToldOrder = true;
      return;
    }
    if (kind === 'unblocked') {
      if (!this.hasToldBlocks) info('command.block_size', about(this.name, UNBLOCKED), fieldsOf(this.name));
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
    if (turn !== 'omitted') this.warn('command.refused', turn === 'last' ? `${what}${LAST}` : what);
  }

  private tellBar(message: string): void {
    if (!this.hasToldBar)
      this.warn('command.refused', t`拒绝执行源端的命令：${escapeText(message)}（同样原因的不再逐条记录）`);
    this.hasToldBar = true;
  }

  /** Has it told anew when all commands are refused: until now they were not, or for another reason. */
  renewBar(): void {
    this.hasToldBar = false;
  }

  private warn(event: string, text: string): void {
    warn(event, about(this.name, text), fieldsOf(this.name));
  }
}
