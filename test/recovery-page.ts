/** The commands of docs/recovery.md with what they print, for the tests that run them. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from './processes.ts';
import { ROOT } from './project.ts';

export type Side = 'source' | 'backup';
/** For containers, and for hosts with systemd, whose commands are folded away. */
export type Kind = 'docker' | 'systemd';

export interface Step {
  on: Side;
  code: string;
  prints: string[];
}

const PAGE = readFileSync(join(ROOT, 'docs', 'recovery.md'), 'utf8');
/** How long it may take until a command that only looks shows what it should, ms. */
const PATIENCE_MS = 60_000;

/** Lists what is to be done below a heading, up to the next one. @throws where there is nothing */
export function stepsOf(heading: string, kind: Kind): Step[] {
  const [section = ''] = PAGE.split(/^#{2,3} /m).filter((text) => text.startsWith(`${heading}\n`));
  const steps: Step[] = [];
  let part: Kind = 'docker';
  for (const [token, language, text = ''] of section.matchAll(/<\/?details>|^```(bash|text)\n([\s\S]*?)^```$/gm)) {
    if (!language) part = token === '<details>' ? 'systemd' : 'docker';
    else if (part !== kind) continue;
    else if (language === 'bash') steps.push(stepIn(text));
    else steps.at(-1)?.prints.push(...text.trimEnd().split('\n'));
  }
  if (steps.length === 0) throw new Error(`docs/recovery.md has no commands for ${kind} below ${heading}`);
  return steps;
}

function stepIn(text: string): Step {
  const [, side] = /^# on the (?:new )?(source|backup)\n/.exec(text) ?? [];
  if (side !== 'source' && side !== 'backup') throw new Error(`it is not said where this is to be done:\n${text}`);
  return { on: side, code: text, prints: [] };
}

/** What a shell has done. */
export interface Done {
  status: number | null;
  output: string;
}

/** What the commands of a step do at most once, and what can be done again until it shows what it should. */
const isLook = ({ code }: Step) =>
  code
    .split('\n')
    .filter((line) => line && !line.startsWith('#'))
    .every((line) => /--(status|verify|healthcheck|history)( \w+)?( \| .*)?$|^cat /.test(line));

/**
 * Does a step, and expects that it prints what the page says.
 * @param run does it in a shell of its host
 * @throws with all that was printed
 */
export async function take(step: Step, run: (code: string) => Done): Promise<void> {
  const attempt = () => {
    const { status, output } = run(step.code);
    const missing = missingIn(output, step.prints);
    if (missing === undefined && (status === 0 || isLook(step))) return true;
    throw new Error(`${step.code}(status ${status})\n${output}${missing ? `\nThe page says: ${missing}` : ''}`);
  };
  if (isLook(step)) await eventually(attempt, PATIENCE_MS);
  else attempt();
}

/** Makes lines comparable: without colour, and with no number in them. */
const linesOf = (text: string) =>
  Bun.stripANSI(text)
    .split('\n')
    .map((line) => line.replace(/\d+/g, 'N').replace(/\s+/g, ' ').trim());

/** Finds the first line that should have been printed after the ones before and was not. */
function missingIn(output: string, prints: readonly string[]): string | undefined {
  const lines = linesOf(output);
  let from = 0;
  return prints.find((line) => {
    const [wanted = ''] = linesOf(line);
    const found = lines.findIndex((it, n) => n >= from && it.includes(wanted));
    from = found + 1;
    return found < 0;
  });
}
