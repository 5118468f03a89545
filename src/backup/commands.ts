/**
 * Answers what start-sshd is asked for by more than a flag, or to be done by the running service: --history and --recover by what is in
 * DEST_DIR, --promote and --demote also where no service runs, --allow-restore by the service alone; --notify-test.
 *
 *   await answerCommand(['--allow-restore', '10m']); // { text: '源端现在可以读取 DEST_DIR，到 …', status: 0 }
 */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { answerOf, ask, socketOf } from '../service/control.ts';
import { parseDuration } from '../service/duration.ts';
import type { Answer } from '../service/lifecycle.ts';
import { answerTest } from '../service/reporting.ts';
import { Failure, reasonOf, t } from '../service/text.ts';
import { parseFlags } from '../service/variables.ts';
import { originOf, PROGRAM, variables } from './config.ts';
import { answerHistory } from './history-answers.ts';
import { answerPromotion } from './promotion-answers.ts';

/** For how long the source may read where nobody says. */
const USUAL_LEAVE = '1h';

/** Answers a command; nothing where something else is asked for. @throws {Failure} */
export async function answerCommand(args: string[]): Promise<Answer | undefined> {
  if (args.includes('--notify-test')) return testReports();
  if (!args.includes('--allow-restore')) return answerHistory(args) ?? answerPromotion(args);
  const { ms, source } = readLeave(args);
  const statusFile = resolve(process.env.STATUS_FILE || String(variables.STATUS_FILE.default));
  return answerOf(await ask(socketOf(statusFile), { command: 'allow-restore', ms, source }));
}

/** Answers --notify-test: no other variable has to be right for it. @throws {Failure} */
function testReports(): Promise<Answer> {
  parseFlags(PROGRAM, ['notify-test']);
  return answerTest(variables, originOf({ DEST_DIR: process.env.DEST_DIR || String(variables.DEST_DIR.default) }));
}

/** Takes the duration, ms, and the source from the arguments. @throws {Failure} */
function readLeave(args: string[]): { ms: number; source: string | undefined } {
  const options = { 'allow-restore': { type: 'boolean' }, source: { type: 'string' } } as const;
  try {
    const { positionals, values } = parseArgs({ args, options, allowPositionals: true });
    if (positionals.length > 1) throw new Error(t`--allow-restore 之后应只有一个时长`);
    return { ms: parseDuration(positionals[0] ?? USUAL_LEAVE), source: values.source };
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    throw new Failure(t`用法错误: ${reasonOf(cause)}。请参阅 ${PROGRAM} --help`, 2);
  }
}
