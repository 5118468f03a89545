/**
 * Answers --promote and --demote: the running service does it, and where none runs, the mark is made or removed for the next start.
 *
 *   await answerPromotion(['--promote']); // { text: '备份端已接管 …', status: 0 }
 */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { ask, NoService, type Reply, socketOf } from '../service/control.ts';
import type { Answer } from '../service/lifecycle.ts';
import { endGroups } from '../service/processes.ts';
import { escapeText, Failure, t } from '../service/text.ts';
import { parseFlags } from '../service/variables.ts';
import { SharedKey } from './authorized-keys.ts';
import { CleanMark } from './clean-mark.ts';
import { type Config, PROGRAM, readConfig, variables } from './config.ts';
import { describeDemoted, describeNoMark, describePromoted, UNFINISHED } from './promotion.ts';
import { PromotionMark } from './promotion-mark.ts';
import { haveMembers, straysOf } from './strays.ts';

/** How long the service may take, ms: it ends all that runs for the source. */
const ASK_MS = 15_000;

/**
 * Answers what is asked for, nothing where something else is.
 * @throws {Failure}
 */
export async function answerPromotion(args: string[]): Promise<Answer | undefined> {
  const flag = args.find((it) => it === '--promote' || it === '--demote');
  if (!flag) return undefined;
  const { promote, demote } = parseFlags(PROGRAM, ['promote', 'demote']);
  if (promote && demote)
    throw new Failure(t`用法错误: --promote 和 --demote 不能同时使用。请参阅 ${PROGRAM} --help`, 2);
  const command = promote ? 'promote' : 'demote';
  const statusFile = resolve(process.env.STATUS_FILE || String(variables.STATUS_FILE.default));
  const { isDone, text } = await ask(socketOf(statusFile), { command }, ASK_MS).catch((cause) => {
    if (cause instanceof NoService) return withoutService(command, readConfig(process.env));
    throw cause;
  });
  return { text: `${text}\n`, status: isDone ? 0 : 1 };
}

/** Makes or removes the mark by itself. @throws {Failure} where no service would go by it */
async function withoutService(command: 'promote' | 'demote', config: Config): Promise<Reply> {
  const mark = new PromotionMark(config);
  checkThatItIsRead(config);
  if (command === 'demote' && !mark.since) return { isDone: true, text: describeNoMark(config.DEST_DIR) };
  if (command === 'promote') mark.put();
  else mark.remove();
  if (config.ALLOW_SHELL) new SharedKey(config).restrictFormer(); // whom another sshd may let in, too
  const rest = t`服务没有运行，或 STATUS_FILE 不同；${escapeText(mark.file)} 从下次启动起生效`;
  if (command === 'demote') return { isDone: true, text: `${describeDemoted(config.DEST_DIR)}\n${rest}` };
  const isDone = await endCommandsInto(config.DEST_DIR);
  const done = describePromoted(config.DEST_DIR, mark.since ?? new Date());
  return { isDone, text: isDone ? `${done}\n${rest}` : UNFINISHED };
}

/** Makes sure that these are the variables of a service: a mark elsewhere would keep nobody from anything. @throws {Failure} */
function checkThatItIsRead(config: Config): void {
  const { DEST_DIR, HOST_KEY_DIR } = config;
  const root = existsSync(DEST_DIR) && Buffer.from(realpathSync(DEST_DIR)).toString('latin1');
  if (root && existsSync(new CleanMark(config, root).file)) return;
  const what = t`没有 start-sshd 曾以 HOST_KEY_DIR=${escapeText(HOST_KEY_DIR)} 和 DEST_DIR=${escapeText(DEST_DIR)} 运行，标记不会起作用`;
  throw new Failure(t`服务没有运行，且${what}。请带上服务的环境变量执行，或在服务运行时执行`);
}

/** Ends what a service that cannot be asked, or was killed, has let in; resolves with whether nothing of it is left. */
async function endCommandsInto(directory: string): Promise<boolean> {
  const groups = straysOf((_, pid) => variablesOf(pid).includes(`DEST_DIR=${directory}`));
  await endGroups(groups);
  return !haveMembers(groups);
}

function variablesOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  } catch {
    return []; // it has ended, or is not ours
  }
}
