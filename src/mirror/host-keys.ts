/**
 * The host keys that the backup has published in the shared volume, as ssh is to know them.
 *
 *   const knownHosts = hostKeys.refresh(); // a file for ssh, if anything was published
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { isWithin, realPath, replaceFile } from '../service/files.ts';
import { Glance } from '../service/glance.ts';
import { fingerprint } from '../service/keys.ts';
import { error, warn } from '../service/log.ts';
import { escapeText, Failure, reasonOf, t } from '../service/text.ts';
import { type Config, UNQUOTABLE } from './config.ts';
import { readPublishedKeys } from './published-keys.ts';
import { hasProxyFailed } from './ssh.ts';
import type { TargetState } from './target-state.ts';

/**
 * Makes a directory that nobody else may enter. Its path is short, for a socket (unix(7): 108 bytes, of which ssh needs some), and
 * has no links: rsync follows none that belongs to another user, not even to write its log (seen in 3.5.0).
 * @throws {Failure}
 */
export function temporaryDirectory(config: Config): string {
  const isUsable = (path: string) => Buffer.byteLength(path) <= 60 && !UNQUOTABLE.test(path);
  const places = [...runtimeDirectories(config), tmpdir(), '/tmp', config.SSH_DIR];
  const parents = places.map(withoutLinks).filter(isUsable);
  for (const parent of parents) {
    try {
      return mkdtempSync(join(parent, 'rsync-inotify-'));
    } catch {}
  }
  throw new Failure(t`无法在 ${parents.join(t`、`)} 中创建临时目录，请检查权限和磁盘空间`);
}

/** Says where a path leads, as far as it leads anywhere. */
function withoutLinks(path: string): string {
  try {
    return realPath(path);
  } catch {
    return path;
  }
}

/** Lists directories that no cleaner looks through, as some do with what is old in /tmp: that of systemd's unit, and that of the state in /run. */
function runtimeDirectories({ STATUS_FILE }: Config): string[] {
  const [ofUnit] = (process.env.RUNTIME_DIRECTORY ?? '').split(':');
  const ofState = dirname(STATUS_FILE);
  return [...(ofUnit ? [ofUnit] : []), ...(isWithin(ofState, '/run') ? [ofState] : [])];
}

export class HostKeys {
  /** The file for ssh, once there was something published; until then, SSH_OPTS decide what host is trusted. */
  file: string | undefined;
  private keys: string[] = [];
  private ignored: string[] = [];
  /** The refusals that are told already. */
  private readonly told = new Set<'backup' | 'jump'>();
  private ownDirectory: string | undefined;
  private readonly glance: Glance;
  private isSilent = false;

  /** @param jump the host or hosts that the backup is reached through, as ssh knows them */
  constructor(
    private readonly config: Config,
    private readonly target: Pick<TargetState, 'error'> = { error },
    private readonly jump = '',
  ) {
    this.glance = new Glance(this.directory);
  }

  /**
   * Reads anew what is published, before a connection is made; returns the file for ssh. What was published once is not
   * given up because it cannot be seen any more. @throws {Failure} where the keys cannot be read or kept
   */
  refresh(): string | undefined {
    if (this.isSilent && this.file) return this.file;
    if (this.isSilent) throw new Failure(t`${escapeText(this.directory)} 没有应答。请检查共享卷`);
    const { keys, faults, isEmpty } = readPublishedKeys(this.directory);
    if (isEmpty && !this.file) return undefined;
    this.keys = keys;
    for (const line of faults) if (!this.ignored.includes(line)) warn('host_key.ignored', line);
    this.ignored = faults;
    this.file = this.keep([...new Set(this.keys)].map((key) => `* ${key}\n`).join(''));
    if (this.keys.length === 0) this.tellRefusal();
    return this.file;
  }

  /** Finds out whether the shared volume answers: where it does not, what was published before counts, and nothing waits for it. */
  async look(): Promise<void> {
    const wasSilent = this.isSilent;
    this.isSilent = !(await this.glance.answers());
    if (!this.isSilent || wasSilent) return;
    warn('host_key.silent', t`共享卷没有应答: ${escapeText(this.directory)}。在此之前公布的主机密钥继续有效`);
  }

  private get directory(): string {
    return join(this.config.SHARED_KEYS_DIR, 'host_keys');
  }

  /** Keeps the lines for ssh in SSH_DIR, under a name that no other pair uses, or else in a directory of our own. */
  private keep(lines: string): string {
    const { SSH_DIR, SHARED_KEYS_DIR } = this.config;
    const path = join(SSH_DIR, `known_hosts${SHARED_KEYS_DIR.replaceAll('/', '-')}`);
    try {
      if (!this.ownDirectory) return keepFile(path, lines);
    } catch {} // a mounted secret, for example
    try {
      if (!this.ownDirectory || !existsSync(this.ownDirectory)) {
        const directory = temporaryDirectory(this.config);
        process.once('exit', () => removeIfPossible(directory));
        this.ownDirectory = directory;
      }
      return keepFile(join(this.ownDirectory, 'known_hosts'), lines);
    } catch (cause) {
      throw new Failure(t`无法保存公布的主机密钥：${reasonOf(cause)}`);
    }
  }

  /** Tells, once until a connection stands, why the backup or a host on the way to it is not trusted, if ssh said so. */
  explain(said: string): void {
    if (!said.includes('Host key verification failed')) return;
    if (hasProxyFailed(said)) this.tellJumpRefusal();
    else this.tellRefusal();
  }

  /** The ssh that gets to a jump host is started by ssh, which passes on neither host keys of ours nor options. */
  private tellJumpRefusal(): void {
    if (this.told.has('jump')) return;
    this.told.add('jump');
    const what = t`跳板机 ${escapeText(this.jump)} 的主机密钥未知，或已改变，ssh 拒绝经由它连接，没有发送任何数据。这与备份主机的身份无关。`;
    const advice = t`请核对跳板机的密钥指纹，再写入它所用的 known_hosts：ssh 连接跳板机时不用 SSH_DIR 和 SSH_OPTS，只用 ~/.ssh 和 ssh 的配置文件（可用 -F 指定，在其中为跳板机写明 UserKnownHostsFile 和 IdentityFile）`;
    this.target.error('host_key.jump_refused', `${what}${advice}`, { jump: this.jump });
  }

  private tellRefusal(): void {
    if (this.told.has('backup')) return;
    this.told.add('backup');
    const where = escapeText(this.directory);
    const expected = this.keys.map(fingerprint).join(t` 或 `);
    const [what, advice] = expected
      ? [
          t`备份主机的密钥与 ${where} 中公布的不符，可能有人在冒充备份主机！`,
          t`应为 ${expected}。若备份端是重建的，它的 start-sshd 启动时会公布新密钥，请检查两端是否挂载了同一个共享卷；没有共享卷时，请将新的 host_keys 复制过来`,
        ]
      : [
          t`${where} 中没有有效的主机密钥，无法确认备份主机的身份。`,
          this.file
            ? t`备份端的 start-sshd 启动时会公布它们，请检查共享卷；若备份端确实不再公布，请清空该目录并重启服务`
            : t`备份端的 start-sshd 启动时会公布它们，请检查共享卷；没有共享卷时，请将备份端的 host_keys 复制过来；备份端没有 start-sshd 时（例如 NAS），请将它的主机公钥写入该目录`,
        ];
    this.target.error('host_key.refused', t`${what}已拒绝连接，没有发送任何数据。${advice}`);
  }

  /** Has a refusal be news again: a connection stands. */
  forgetRefusal(): void {
    this.told.clear();
  }
}

/** Removes a directory, unless a restore has fenced us off from it. */
function removeIfPossible(directory: string): void {
  try {
    rmSync(directory, { recursive: true, force: true });
  } catch {}
}

/** Sees to it that a private file holds just that; returns its path. */
function keepFile(path: string, content: string): string {
  replaceFile(path, content, 0o600);
  return path;
}
