/**
 * Ends the sessions of a key that is no longer in force: sshd asks for the key at the login alone, and a connection may stand for months.
 *
 *   const sessions = new KeySessions({ key, guard, sshd });
 *   key.authorize(line);
 *   sessions.follow(); // those of the key before are over within 2 s
 */
import { log, warn } from '../service/log.ts';
import { t } from '../service/text.ts';
import type { SharedKey } from './authorized-keys.ts';
import { about, fieldsOf } from './doors.ts';
import type { Guard } from './guard.ts';
import type { Sshd } from './sshd.ts';

/** Stands for the fingerprint of a key where none may do anything. */
const NO_KEY = 'withdrawn';

/** What is said of connections that have been ended: of whichever key, for which of them it was is not to be known from outside of sshd. */
const endedAll = (sessions: number) => t`已断开全部 ${sessions} 个连接及其命令`;
/** The same of the key of one source among others, of whose connections it is known by what runs over them. */
const endedOwn = (sessions: number) => t`已断开它的 ${sessions} 个连接及其命令`;

interface Parts {
  key: Pick<SharedKey, 'fingerprint' | 'findChange' | 'isWithdrawn'>;
  guard: Pick<Guard, 'admitKey'>;
  /** Ends sessions: all that there are, or where there are other sources, those of a key, by its fingerprint. */
  sshd: { endSessions: (fingerprint: string) => ReturnType<Sshd['endSessions']> };
  /** The name of the source, '' for one without. */
  name?: string;
}

export class KeySessions {
  /** The fingerprint of the key that was let in last, and what stands for that now. */
  private fingerprint = '';
  private admitted = '';

  private readonly name: string;
  private readonly ended: typeof endedAll;

  constructor(private readonly parts: Parts) {
    this.name = parts.name ?? '';
    this.ended = this.name ? endedOwn : endedAll;
  }

  /** Lets in sessions of the key that has just been authorised, be it once more; ends those of another one before. @throws {Failure} */
  follow(): void {
    const { fingerprint: former, parts } = this;
    const { fingerprint, isWithdrawn } = parts.key;
    if (!fingerprint || isWithdrawn || fingerprint === this.admitted) return;
    this.fingerprint = fingerprint;
    this.admit(fingerprint); // commands over connections that it stops too late
    if (!former || former === fingerprint) return;
    const sessions = parts.sshd.endSessions(former);
    const what = t`源端公钥已更换，原公钥 ${former} 不再有效：${this.ended(sessions)}`;
    if (!this.name) log('key.replaced', what, { former, sessions });
    else
      warn('key.replaced', about(this.name, t`${what}。现公钥: ${fingerprint}。若不是有意更换，请检查共享卷`), {
        ...{ former, fingerprint, sessions },
        ...fieldsOf(this.name),
      });
  }

  /** Lets in sessions of no key any more, and ends those that there are; returns how many. @throws {Failure} */
  close(): number {
    const { fingerprint: former } = this;
    this.fingerprint = '';
    this.admit(NO_KEY);
    return former ? this.parts.sshd.endSessions(former) : 0;
  }

  /** Ends sessions where the directory that they write into is another one by now: the source compares all then. */
  restart(directory: string): void {
    const sessions = this.parts.sshd.endSessions(this.fingerprint);
    const what = t`${directory} 已不是原来的目录：${this.ended(sessions)}，由源端重新比较`;
    warn('destination.exchanged', about(this.name, what), { sessions, ...fieldsOf(this.name) });
  }

  private admit(key: string): void {
    this.admitted = key;
    this.parts.guard.admitKey(key);
  }

  /** Ends sessions where somebody has taken the key's line out of authorized_keys, or changed what it may do. @throws {Failure} */
  look(): void {
    const { key, sshd } = this.parts;
    const change = key.findChange();
    if (!change) return;
    this.admit(change === 'removed' ? NO_KEY : key.fingerprint);
    const sessions = sshd.endSessions(key.fingerprint);
    const fields = { fingerprint: key.fingerprint, sessions, ...fieldsOf(this.name) };
    const removed = t`源端公钥的行已从 authorized_keys 中删除，公钥不再有效：${this.ended(sessions)}`;
    const edited = t`authorized_keys 中源端公钥的行已被修改：${this.ended(sessions)}，由源端重新登录`;
    if (change === 'removed') warn('key.withdrawn', about(this.name, removed), fields);
    else warn('key.edited', about(this.name, edited), fields);
  }
}
