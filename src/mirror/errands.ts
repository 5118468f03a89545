/**
 * Has the backup do things by name, a whole batch in one answer: a `start-sshd --errands` that was started ahead waits there for them.
 *
 *   errands.arm();
 *   const answer = await errands.ask(['dgone', 'fold.txt'], 1000);
 */
import type { ChildProcess } from 'node:child_process';
import { quote } from 'shlex';
import { lifecycle } from '../service/lifecycle.ts';
import { signalGroup, start } from '../service/processes.ts';
import { type Host, loginOf } from './config.ts';
import type { Connection } from './connection.ts';
import { sshArgs } from './ssh.ts';
import { ENDED_MS, Standstill } from './standstill.ts';
import type { TargetState } from './target-state.ts';

/** How long an answer may be, bytes: it names by number what could not be done. */
const MAX_ANSWER = 200_000;
/** How much may be asked for at a time. */
export const MAX_ORDERS = 10_000;
/** One that dies sooner than this after its start is not replaced at once, ms. */
const SHORT_LIFE_MS = 5000;

/** What was done: how often something was renamed, how many entries were deleted, and of orders by their numbers what became. */
export interface Answer {
  renamed: number;
  removed: number;
  /** Those that could not be done. */
  left: ReadonlySet<number>;
  /** Those to delete what was not there. */
  absent: ReadonlySet<number>;
}

interface Parts {
  host: Host;
  state: Pick<TargetState, 'log' | 'warn' | 'stalledSince'>;
  connection: Pick<Connection, 'findRoute' | 'socket'>;
}

/** Reads an answer: `1 2 - 0,3`, where a dash stands for no numbers. */
export function parseAnswer(line: string): Answer | undefined {
  const [, renamed, removed, left = '', absent = ''] = /^(\d{1,9}) (\d{1,9}) (-|[\d,]+) (-|[\d,]+)$/.exec(line) ?? [];
  if (renamed === undefined) return undefined;
  const numbersOf = (list: string) => new Set(list === '-' ? [] : list.split(',').map(Number));
  return { renamed: Number(renamed), removed: Number(removed), left: numbersOf(left), absent: numbersOf(absent) };
}

export class Errands {
  private helper: ChildProcess | undefined;
  /** Whether it has said that it waits. */
  isReady = false;
  /** Whether the backup has such a helper, as far as it has been asked. */
  private isKnown = true;
  /** Takes the answer that is awaited. */
  private told: ((line: string | undefined) => void) | undefined;

  constructor(private readonly parts: Parts) {}

  /** Has one started again: the backup may be another one. */
  reset(): void {
    this.disarm();
    this.isKnown = true;
  }

  /** Starts one, unless one waits. */
  arm(): void {
    const { host, connection } = this.parts;
    if (lifecycle.stopping || this.helper || !connection.socket || !this.isKnown) return;
    if (!host.plan.mayRemove && !host.plan.mayRename) return;
    const command = `start-sshd --errands ${quote(host.directory)}`;
    const args = [...sshArgs(host, connection.findRoute()), loginOf(host), command];
    const helper = start('ssh', args, { stdio: ['pipe', 'pipe', 'ignore'] });
    this.helper = helper;
    const began = performance.now();
    readLines(helper, (line) => this.hear(helper, line));
    for (const event of ['exit', 'error'])
      helper.once(event, () => this.notice(helper, performance.now() - began < SHORT_LIFE_MS));
  }

  private hear(helper: ChildProcess, line: string | undefined): void {
    if (this.helper !== helper) return;
    if (!this.isReady && line === 'ready') this.isReady = true;
    else if (!this.isReady) signalGroup(helper, 'SIGKILL');
    else if (this.told) this.answer(line);
    else this.disown(); // one that talks unasked could do so for ever
  }

  private answer(line: string | undefined): void {
    const { told } = this;
    this.told = undefined;
    told?.(line);
  }

  /** Ends what is no such helper. */
  private disown(): void {
    this.disarm();
    this.isKnown = false;
  }

  /** Takes in that one has ended: where that was before it was ready, the backup has none. */
  private notice(helper: ChildProcess, isEarly: boolean): void {
    if (this.helper !== helper) return;
    this.isKnown &&= this.isReady;
    this.forget();
    if (this.isKnown) lifecycle.background(lifecycle.pause(isEarly ? SHORT_LIFE_MS : 0).then(() => this.arm()));
  }

  private forget(): void {
    this.helper = undefined;
    this.isReady = false;
    this.answer(undefined);
  }

  /** Ends the one that waits. */
  disarm(): void {
    const { helper } = this;
    this.forget();
    if (helper) signalGroup(helper, 'SIGKILL');
  }

  /**
   * Asks for a batch: `r` and from where, then to where something is renamed; `f` or `d` and the path of a file or a directory that is
   * to be deleted. Paths are bytes in latin1 strings.
   * @param most how many entries may be deleted
   * @returns nothing where nobody waits, or no answer has come: it is not known then what was done
   */
  async ask(orders: readonly string[], most: number): Promise<Answer | undefined> {
    const { helper } = this;
    if (!helper || !this.isReady) return undefined;
    const limit = Math.min(most, 1e12);
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    this.told = resolve;
    const fields = [`${limit}`, ...orders, ''].map((field) => `${field}\0`);
    helper.stdin?.write(Buffer.from(fields.join(''), 'latin1')); // given an encoding, Bun's write takes UTF-8 all the same
    using _ = new Standstill(helper, { state: this.parts.state, isPrompt: true });
    const timer = setTimeout(() => resolve(undefined), ENDED_MS);
    const line = await promise;
    clearTimeout(timer);
    this.told = undefined;
    const said = line === undefined ? undefined : parseAnswer(line);
    const answer = said && said.removed <= limit ? said : undefined;
    if (!answer && this.helper === helper) this.disown();
    return answer;
  }
}

/** Reads what a program says line by line; nothing stands for a line that is too long. */
function readLines(program: ChildProcess, hear: (line: string | undefined) => void): void {
  let rest = '';
  program.stdout?.setEncoding('latin1').on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    lines.forEach(hear);
    if (rest.length > MAX_ANSWER) hear(undefined);
    rest = rest.slice(-MAX_ANSWER);
  });
}
