/**
 * Answers --promote and --demote: the running service does it, and where none runs, the mark is made or removed for the next start.
 *
 *   await answerPromotion(['--promote']); // { text: '备份端已接管 …', status: 0 }
 */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { answerOf, ask, NoService, type Reply, socketOf } from '../service/control.ts';
import type { Answer } from '../service/lifecycle.ts';
import { endGroups } from '../service/processes.ts';
import { escapeText, Failure, reasonOf, t } from '../service/text.ts';
import { SOURCE_VARIABLE } from './admission.ts';
import { formerNames, SharedKey } from './authorized-keys.ts';
import { CleanMark } from './clean-mark.ts';
import { type Config, PROGRAM, readConfig, variables } from './config.ts';
import { Doors } from './doors.ts';
import { describeUnfinished } from './promotion.ts';
import { PromotionMarks, type Scope } from './promotion-marks.ts';
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
  const { promote, demote, source } = read(args);
  if (promote && demote)
    throw new Failure(t`用法错误: --promote 和 --demote 不能同时使用。请参阅 ${PROGRAM} --help`, 2);
  const command = promote ? 'promote' : 'demote';
  const statusFile = resolve(process.env.STATUS_FILE || String(variables.STATUS_FILE.default));
  const reply = await ask(socketOf(statusFile), { command, source }, ASK_MS).catch((cause) => {
    if (cause instanceof NoService) return withoutService(command, source, readConfig(process.env));
    throw cause;
  });
  return answerOf(reply);
}

function read(args: string[]) {
  const options = { promote: { type: 'boolean' }, demote: { type: 'boolean' }, source: { type: 'string' } } as const;
  try {
    return parseArgs({ args, options }).values;
  } catch (cause) {
    throw new Failure(t`用法错误: ${reasonOf(cause)}。请参阅 ${PROGRAM} --help`, 2);
  }
}

/**
 * Makes or removes the mark by itself.
 * @param source whose it is; nothing for all of DEST_DIR @throws {Failure} where no service would go by it
 */
async function withoutService(
  command: 'promote' | 'demote',
  source: string | undefined,
  config: Config,
): Promise<Reply> {
  checkThatItIsRead(config);
  const marks = new PromotionMarks(config, new Doors(config));
  const scope = marks.find(source);
  if (command === 'demote' && !marks.isMarked(scope)) return { isDone: true, text: marks.describeNoMark(scope) };
  if (command === 'promote') marks.of(scope).put();
  else marks.remove(scope);
  if (config.ALLOW_SHELL)
    // whom another sshd may let in, too
    for (const name of formerNames(config)) new SharedKey(config, name).restrictFormer();
  const rest = t`服务没有运行，或 STATUS_FILE 不同；${escapeText(marks.of(scope).file)} 从下次启动起生效`;
  if (command === 'demote') return { isDone: true, text: `${marks.describeDemoted(scope)}\n${rest}` };
  const isDone = await endCommandsOf(config, scope);
  const done = marks.describePromoted(scope, marks.sinceOf(scope) ?? new Date());
  return { isDone, text: isDone ? `${done}\n${rest}` : describeUnfinished(scope.name) };
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
async function endCommandsOf({ DEST_DIR }: Config, { name }: Scope): Promise<boolean> {
  const wanted = [`DEST_DIR=${DEST_DIR}`, ...(name ? [`${SOURCE_VARIABLE}=${name}`] : [])];
  const groups = straysOf((_, pid) => {
    const found = variablesOf(pid);
    return wanted.every((it) => found.includes(it));
  });
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
