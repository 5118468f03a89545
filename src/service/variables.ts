/**
 * What a program is told by its environment and its flags: validators, how mistakes are told, and the table of --help.
 *
 *   const variables = { SYNC_INTERVAL: seconds({ default: 5, desc: '同步间隔（秒）' }) };
 *   const { config, mistakes } = readVariables(variables, process.env);
 */
import { existsSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type CleanedEnv, cleanEnv, makeExactValidator, str, type ValidatorSpec } from 'envalid';
import { SECRETS } from './processes.ts';
import { escapeText, Failure, reasonOf, t, wordsOf } from './text.ts';

export type Specs = Record<string, ValidatorSpec<unknown>>;

/** Something that is wrong with a variable, as a line for people. */
export interface Mistake {
  name: string;
  message: string;
}

/** Takes a text as it is once `check` has not thrown. */
export const checked = (check: (value: string) => unknown) =>
  makeExactValidator<string>((value) => {
    check(value);
    return value;
  });

/** Takes a value of a certain form: what is said of any other, and what becomes of its text. */
export const matching = <T>(form: RegExp, expected: string, read: (text: string) => T) =>
  makeExactValidator<T>((value) => {
    if (!form.test(value)) throw new Error(expected);
    return read(value);
  });

export const flag = matching(/^(true|false)$/, t`应为 true 或 false`, (text) => text === 'true');
const language = matching(/^(zh|en)$/, t`应为 zh 或 en (must be zh or en)`, String);
const logFormat = matching(/^(text|json)$/, t`应为 text 或 json`, String);
const logSize = matching(/^[1-9]\d{0,5}[KMG]$/, t`应为整数加单位 K、M 或 G，例如 10M`, String);

/** Takes a number of seconds. The upper bound keeps the delay within what a timer can hold (2³¹ ms). */
export const seconds = makeExactValidator<number>((value) => {
  if (!/^\d+(\.\d+)?$/.test(value) || Number(value) > 2_000_000) {
    throw new Error(t`应为 0 到 2000000 之间的秒数，可带小数，例如 5 或 0.5`);
  }
  return Number(value);
});

export const countUpTo = (most: number) =>
  makeExactValidator<number>((value) => {
    const number = /^\d+$/.test(value) ? Number(value) : 0;
    if (number < 1 || number > most) throw new Error(t`应为 1 到 ${most} 之间的整数`);
    return number;
  });

export const port = checked((value) => {
  if (value && !(/^[1-9]\d{0,4}$/.test(value) && Number(value) <= 65535))
    throw new Error(t`应为 1 到 65535 之间的端口`);
});

export const address = checked((value) => {
  if (value && !isIP(value)) throw new Error(t`应为 IP 地址，例如 127.0.0.1、0.0.0.0 或 ::1`);
});

/** Takes names of hosts, in small letters and without the dot that may end one. */
const hostNames = makeExactValidator<string[]>((value) => {
  const label = '[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?';
  const form = new RegExp(`^(?=.{1,253}$)${label}(\\.${label})*$`);
  const names = wordsOf(value).map((word) => word.toLowerCase().replace(/\.$/, ''));
  if (names.every((name) => form.test(name))) return names;
  throw new Error(t`应为主机名，以空格或逗号分隔，不带协议、端口和通配符，例如 status.example.org；IP 地址总会应答`);
});

/** Takes the path of a file that is there or can be: '' for none. */
export const file = makeExactValidator<string>((value) => {
  if (/^~|\/$|\0/.test(value)) throw new Error(t`应为文件的完整路径；~ 不会展开`);
  const path = value && resolve(value);
  if (path && existsSync(path) && !statSync(path).isFile()) throw new Error(t`应为普通文件，不能是目录或设备`);
  return path;
});

/** Gives the variables of the log. */
export const logVariables = (example: string) => ({
  LOG_LANG: language({ default: 'zh', desc: t`日志、--help 和各命令的语言：zh 中文，或 en 英文 (English)` }),
  LOG_FORMAT: logFormat({ default: 'text', desc: t`日志格式：text，或 json（每行一个对象）` }),
  LOG_FILE: file({ default: '', desc: t`日志同时写入此文件，不带颜色，例如 ${example}` }),
  LOG_MAX_SIZE: logSize({ default: '10M', desc: t`LOG_FILE 达到此大小后轮转，单位 K、M 或 G` }),
  LOG_MAX_FILES: countUpTo(999)({ default: 5, desc: t`保留多少个轮转后的 LOG_FILE` }),
});

/** Gives the variables of what is served on METRICS_PORT. @param pages what that is, for people */
export const webVariables = (pages: string) => ({
  METRICS_PORT: port({ default: '', desc: t`在此端口提供${pages}` }),
  METRICS_LISTEN: address({
    default: '127.0.0.1',
    desc: t`METRICS_PORT 监听的 IP 地址，0.0.0.0 = 所有地址（compose 中的默认值）`,
  }),
  METRICS_HOSTS: hostNames({
    default: [],
    desc: t`METRICS_PORT 还应答的主机名，以空格或逗号分隔；IP 地址、localhost 和本机的主机名总会应答`,
  }),
});

export const colourVariable = { NO_COLOR: str({ default: '', desc: t`设置为任意值 = 日志不带颜色` }) };

/** Whether a value may have a password in the URL of an rsync daemon, wherever else that is wrong. */
export const showsPassword = (value: string) => /rsync:\/*[^\s/@[]*:(?!\d*(?:[/\s,]|$))/i.test(value);

/** Says what is wrong with the value of a variable. */
export const mistake = (name: string, value: string, advice: string): Mistake => ({
  name,
  message:
    SECRETS.includes(name) || showsPassword(value)
      ? t`配置错误: ${name}=***：${advice}`
      : t`配置错误: ${name}="${escapeText(value)}"：${advice}`,
});

/**
 * Reads and checks the variables; an empty one counts as not set, as `${NAME:-default}` does in a shell.
 * Those with a mistake are not in `config`.
 */
export function readVariables<S extends Specs>(
  specs: S,
  env: NodeJS.ProcessEnv,
): { config: CleanedEnv<S>; mistakes: Mistake[] } {
  const given = Object.entries(specs).map(([name, { default: value }]) => [name, env[name] || String(value)]);
  const values: Record<string, string> = Object.fromEntries(given);
  const mistakes: Mistake[] = [];
  const config = cleanEnv(values, specs, {
    reporter: ({ errors }) => {
      for (const [name, error] of Object.entries(errors))
        mistakes.push(mistake(name, values[name] ?? '', error?.message ?? ''));
    },
  });
  return { config, mistakes };
}

/**
 * Refuses to start where something is wrong or missing.
 * @throws {Failure} a line for each mistake (status 2), in the order of the variables, and for what is missing (by itself, status 1)
 */
export function refuseMistakes(specs: Specs, mistakes: Mistake[], missing: string[] = []): void {
  const names = Object.keys(specs);
  const sorted = [...mistakes].sort((a, b) => names.indexOf(a.name) - names.indexOf(b.name));
  const lines = [...sorted.map(({ message }) => message), ...missing];
  if (lines.length > 0) throw new Failure(lines.join('\n'), mistakes.length > 0 ? 2 : 1);
}

/** Says which programs are missing and in which packages they come. */
export function missingPrograms(programs: Record<string, string>, find: (program: string) => string | null): string[] {
  return Object.entries(programs)
    .filter(([program]) => !find(program))
    .map(([program, name]) => t`缺少程序 ${program}：请安装软件包 ${name}（例如 apt-get install ${name}）`);
}

/** Writes the table of the variables in --help: name, default, meaning. */
export function describeVariables(specs: Specs, width: number, defaultWidth: number): string {
  const rows = Object.entries(specs).map(([name, { default: value, desc }]) => {
    const shown = name === 'SSH_DIR' ? '$HOME/.ssh' : String(value) || '–';
    return `  ${name.padEnd(width)} ${shown.padEnd(defaultWidth)}  ${desc}`;
  });
  return rows.join('\n');
}

/**
 * Reads the flags that a program was started with.
 * @throws {Failure} where one is unknown (status 2)
 */
export function parseFlags<N extends string>(program: string, names: readonly N[]): Partial<Record<N, boolean>> {
  const options = Object.fromEntries(names.map((name) => [name, { type: 'boolean' }])) as Record<
    N,
    { type: 'boolean' }
  >;
  try {
    return parseArgs({ options }).values as Partial<Record<N, boolean>>;
  } catch (cause) {
    throw new Failure(t`用法错误: ${reasonOf(cause)}。请参阅 ${program} --help`, 2);
  }
}
