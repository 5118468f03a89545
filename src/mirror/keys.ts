/**
 * The source's own key pair, and its public half for the backup.
 *
 *   if (!hasKey(key)) await makeKey(key);
 *   sharePublicKey(config, await publicHalfOf(key));
 */
import { mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { replaceFile } from '../service/files.ts';
import { generateKeyPair, holdsKey } from '../service/keys.ts';
import { run } from '../service/processes.ts';
import { escapeText, Failure, reasonOf, t } from '../service/text.ts';
import { claimName, leaveNames } from './claims.ts';
import type { Config } from './config.ts';

/** Names the file of the private key. */
export const keyFile = (config: Config) => join(config.SSH_DIR, 'id_rsa');

/** Whether there is a private key. */
export const hasKey = (key: string) => !!statSync(key, { throwIfNoEntry: false })?.size;

/** Makes the pair. */
export async function makeKey(key: string): Promise<void> {
  const directory = dirname(key);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  await generateKeyPair(key, 'rsa', 'rsync-inotify', join(directory, '.new-id_rsa'));
}

/**
 * Reads the public half of a private key, and puts it beside it: ssh offers what that file says, even if it belongs to a former key.
 * @throws {Failure}
 */
export async function publicHalfOf(key: string): Promise<string> {
  const derived = await run`ssh-keygen -y -P ${''} -f ${key}`;
  if (derived.exitCode !== 0) {
    throw new Failure(
      t`无法读取 SSH 私钥 ${escapeText(key)}：${reasonOf(derived)}。它应没有口令、权限为 0600；移走它后重启会生成新的密钥对`,
    );
  }
  try {
    if (!holdsKey(`${key}.pub`, derived.stdout)) replaceFile(`${key}.pub`, derived.stdout, 0o644);
  } catch {} // without it, ssh takes what it needs from the private one
  return derived.stdout;
}

/** Puts the public half into the shared volume. @throws {Failure} */
export function sharePublicKey({ SHARED_KEYS_DIR, SOURCE_NAME }: Config, line: string): void {
  try {
    mkdirSync(SHARED_KEYS_DIR, { recursive: true, mode: 0o755 });
    const shared = join(SHARED_KEYS_DIR, 'id_rsa.pub');
    if (SOURCE_NAME) claimName(SHARED_KEYS_DIR, SOURCE_NAME, line);
    else if (!holdsKey(shared, line)) replaceFile(shared, line, 0o644);
    leaveNames(SHARED_KEYS_DIR, SOURCE_NAME, line);
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    const where = `SHARED_KEYS_DIR=${escapeText(SHARED_KEYS_DIR)}`;
    throw new Failure(t`无法写入 ${where}：${reasonOf(cause)}。请检查共享卷的挂载和权限`);
  }
}
