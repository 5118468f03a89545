/**
 * Ends the sessions of a key that is no longer in force: sshd asks for the key at the login alone, and a connection may stand for months.
 *
 *   const sessions = new KeySessions({ key, guard, sshd });
 *   key.authorize(line);
 *   sessions.follow(); // those of the key before are over within 2 s
 */
import { lifecycle } from '../service/lifecycle.ts';
import { log, warn } from '../service/log.ts';
import { t } from '../service/text.ts';
import type { SharedKey } from './authorized-keys.ts';
import type { Guard } from './guard.ts';
import type { Sshd } from './sshd.ts';

/** How soon authorized_keys is looked at once more where it is in doubt, ms. */
const DOUBT_MS = 200;

/** Stands for the fingerprint of a key where none may do anything. */
const NO_KEY = 'withdrawn';

/** What is said of connections that have been ended: of whichever key, for which of them it was is not to be known from outside of sshd. */
const ended = (sessions: number) => t`已断开全部 ${sessions} 个连接及其命令`;

interface Parts {
  key: Pick<SharedKey, 'fingerprint' | 'findChange' | 'isInDoubt' | 'isWithdrawn'>;
  guard: Pick<Guard, 'admitKey'>;
  sshd: Pick<Sshd, 'endSessions'>;
}

export class KeySessions {
  /** The fingerprint of the key that was let in last, and what stands for that now. */
  private fingerprint = '';
  private admitted = '';

  constructor(private readonly parts: Parts) {}

  /** Lets in sessions of the key that has just been authorised, be it once more; ends those of another one before. @throws {Failure} */
  follow(): void {
    const { fingerprint: former, parts } = this;
    const { fingerprint, isWithdrawn } = parts.key;
    if (isWithdrawn || fingerprint === this.admitted) return;
    this.fingerprint = fingerprint;
    this.admit(fingerprint); // commands over connections that it stops too late
    if (!former || former === fingerprint) return;
    const sessions = parts.sshd.endSessions();
    log('key.replaced', t`源端公钥已更换，原公钥 ${former} 不再有效：${ended(sessions)}`, { former, sessions });
  }

  private admit(key: string): void {
    this.admitted = key;
    this.parts.guard.admitKey(key);
  }

  /** Looks again and again, whether or not the shared volume answers, until the program ends. @throws {Failure} */
  async keep(): Promise<void> {
    while (!lifecycle.stopping) {
      this.look();
      await (this.parts.key.isInDoubt ? lifecycle.pause(DOUBT_MS) : lifecycle.nextBeat());
    }
  }

  /** Ends sessions where somebody has taken the key's line out of authorized_keys, or changed what it may do. @throws {Failure} */
  look(): void {
    const { key, sshd } = this.parts;
    const change = key.findChange();
    if (!change) return;
    this.admit(change === 'removed' ? NO_KEY : key.fingerprint);
    const sessions = sshd.endSessions();
    const fields = { fingerprint: key.fingerprint, sessions };
    if (change === 'removed')
      warn('key.withdrawn', t`源端公钥的行已从 authorized_keys 中删除，公钥不再有效：${ended(sessions)}`, fields);
    else warn('key.edited', t`authorized_keys 中源端公钥的行已被修改：${ended(sessions)}，由源端重新登录`, fields);
  }
}
