/**
 * A session of the source that reads: a sending rsync behind a fence that lets nothing be written, for as long as the service allows it.
 *
 *   await send(['rsync', '--server', '--sender', '-logDtpre.iLsfxCIvu', '.', '/data/backup/'], '/data/backup');
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readlinkSync, statSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { join, relative } from 'node:path';
import { isWithin } from '../service/files.ts';
import { t } from '../service/text.ts';
import { admit } from './admission.ts';
import { confinedPath, fenceForReading, locate, neededBy, Refusal } from './confinement.ts';
import { hasHistory } from './history-door.ts';
import { HISTORY, RECOVERED } from './history-names.ts';
import { ALLOWED } from './leave.ts';
import { findProgram } from './programs.ts';
import { parseSender } from './sender-options.ts';
import { headOf, MAX_SHOWN } from './session-reports.ts';

/** How long the service may take to say whether it is allowed, ms. */
const ASK_MS = 5000;
const HOW = t`请在备份主机上执行 start-sshd --allow-restore，再执行 rsync-inotify --restore`;

/**
 * Asks the service whether the source may read now.
 * @returns what is aborted when it may no longer, or the service has ended
 * @throws {Refusal}
 */
async function obtainLeave(what: string): Promise<AbortSignal> {
  const { connect } = await import('node:net'); // which no other session needs
  const over = new AbortController();
  const socket = connect(process.env.START_SSHD_REPORTS ?? '').setEncoding('utf8');
  socket.on('error', () => {}).once('close', () => over.abort());
  socket.write(`${headOf('sending')}${what.slice(0, MAX_SHOWN).replaceAll('\n', '?')}\n`);
  const late = setTimeout(() => socket.destroy(), ASK_MS);
  const [answer] = await once(socket, 'data', { signal: over.signal }).catch(() => ['']);
  clearTimeout(late);
  if (!String(answer).startsWith(ALLOWED)) throw new Refusal(t`备份端现在不允许读取：${HOW}`);
  socket.resume();
  return over.signal;
}

/**
 * Says what must not be read of a directory: older versions, but for trees that somebody has recovered among them.
 * @param real the real path of the directory @param root that of DEST_DIR
 * @returns the name of what may not be read in it, '' for nothing
 * @throws {Refusal}
 */
function hiddenIn(real: string, root: string): string {
  if (!hasHistory(root)) return '';
  const history = join(root, HISTORY);
  if (real === root) return HISTORY;
  if (!isWithin(real, history)) return '';
  const [first, tree] = relative(history, real).split('/');
  if (first !== RECOVERED || !tree)
    throw new Refusal(t`${real} 在保存旧版本的 ${history} 之内，只有恢复出的目录可以读取`);
  return '';
}

/** Refuses a name that leads out of its directory, or to what must not be read of it. @throws {Refusal} */
function checkName(name: string, real: string, hidden: string): void {
  const path = confinedPath(name, real, real);
  if (name.split('/').includes('..') || (hidden && isWithin(path, join(real, hidden))))
    throw new Refusal(t`${name} 不能读取`);
}

/** Enters a directory and stays there, whatever comes in its place. @throws {Refusal} */
function enterOnly(real: string, root: string): void {
  if (!statSync(real, { throwIfNoEntry: false })?.isDirectory()) throw new Refusal(t`${real} 不是备份中的目录`);
  process.chdir(real);
  if (readlinkSync('/proc/self/cwd') !== real || !isWithin(real, root)) throw new Refusal(t`目录在检查时被替换`);
}

/**
 * Has nothing be read but what is in a directory, and nothing be written; without Landlock, it may be all of DEST_DIR but the older
 * versions that is read. @throws {Refusal} where that is not possible
 */
async function fenceIn(real: string, root: string, rsync: string): Promise<void> {
  if (fenceForReading(real, hiddenIn(real, root), neededBy(rsync))) return;
  const { secludeForReading } = await import('./seclusion.ts'); // which few need
  const history = join(root, HISTORY);
  const isSecluded =
    !isWithin(real, history) && secludeForReading(root, hasHistory(root) ? HISTORY : '', neededBy(rsync));
  if (!isSecluded)
    throw new Refusal(
      t`内核没有 Landlock（Linux 5.19 起），也不能建立挂载命名空间，无法限制读取的范围，因此不允许恢复`,
    );
  process.chdir(real);
}

/**
 * Runs a sending rsync to its end.
 * @throws {Refusal} where that is not allowed, or no longer
 */
export async function send(words: string[], allowed: string): Promise<never> {
  const { options, directory, names } = parseSender(words);
  admit();
  const { real, root } = locate(directory, allowed);
  const hidden = hiddenIn(real, root);
  for (const name of names) checkName(name, real, hidden);
  const rsync = findProgram('rsync');
  if (!rsync) throw new Refusal(t`本机没有 rsync`);
  const over = await obtainLeave(real);
  enterOnly(real, root);
  await fenceIn(real, root, rsync);
  const wanted = names.length > 0 ? names.map((name) => `././${name}`) : ['./']; // as the source has named them, from here
  const rules = hidden ? [`--filter=H /${hidden}`] : [];
  const child = spawn(rsync, ['--server', '--sender', ...options, ...rules, '.', ...wanted], {
    stdio: 'inherit',
    argv0: 'rsync',
  });
  const end = () => child.kill('SIGKILL'); // it has nothing to tidy up
  for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT'] as const) process.on(signal, end);
  over.addEventListener('abort', () => {
    writeSync(2, t`start-sshd: 恢复的许可已结束，读取已中断：${HOW}\n`);
    end();
  });
  if (over.aborted) end();
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  process.exit(code ?? 128 + (signal ? constants.signals[signal] : 0));
}
