/**
 * The variables of start-sshd, and what --help says of them.
 *
 *   const config = readConfig({ SSHD_PORT: '2222', DEST_DIR: '/backup/web/' });
 */
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { version } from '../../package.json';
import { reportVariables } from '../service/receivers.ts';
import type { Origin } from '../service/report-words.ts';
import { escapeText, t } from '../service/text.ts';
import { homeDirectory, missingUser } from '../service/user.ts';
import {
  address,
  checked,
  colourVariable,
  countUpTo,
  describeVariables,
  file,
  flag,
  logVariables,
  matching,
  missingPrograms,
  mistake,
  readVariables,
  refuseMistakes,
  webVariables,
} from '../service/variables.ts';
import { findProgram, PROGRAMS } from './programs.ts';
import { refusedBy } from './receiver-options.ts';

export { version };
export const PROGRAM = 'start-sshd';

/** Takes a directory. sshd reads its path from a quoted option, where a quote cannot be escaped. */
const directoryBelow = (base: string) =>
  matching(/^(?!~)[^"\p{Cc}]*$/u, t`应为目录的完整路径；~ 不会展开，不能包含双引号和控制字符`, (text) =>
    resolve(base, text),
  );
const directory = directoryBelow('.');
/** A relative path means to rsync one below the home directory. */
const destination = directoryBelow(homeDirectory());

/** Takes a number of days. */
const days = matching(/^\d{1,4}$/, t`应为 0 到 9999 之间的天数`, Number);

/** Takes names of rsync's options. */
const refusals = checked(refusedBy);

export const variables = {
  SHARED_KEYS_DIR: directory({ default: '/shared-keys', desc: t`用来交换公钥的共享卷` }),
  SSH_DIR: directory({
    default: join(homeDirectory(), '.ssh'),
    desc: t`authorized_keys 所在目录；其他人的公钥保留不变`,
  }),
  HOST_KEY_DIR: directory({
    default: '/etc/ssh',
    desc: t`主机密钥所在目录；缺少的会生成。其中的 destination.json 记着 DEST_DIR 所在的挂载点，destination-….json 记着独占磁盘的源端所在的挂载点，shutdown-….json 记着它是否正常停止，promoted-….json 是 --promote 的标记`,
  }),
  SSHD_PORT: countUpTo(65535)({ default: 22, desc: t`sshd 监听的端口` }),
  SSHD_LISTEN: address({ default: '', desc: t`sshd 监听的 IP 地址，默认为所有地址` }),
  DEST_DIR: destination({
    default: '/data/backup/',
    desc: t`接收镜像的目录，启动时若不存在则创建，除非它原来所在的磁盘没有挂载`,
  }),
  KEY_RETRIES: countUpTo(1_000_000)({ default: 30, desc: t`等待源端公钥的次数，每次 2 秒` }),
  ALLOW_SHELL: flag({ default: false, desc: t`true = 源端密钥可以执行任意命令，而不只是镜像到 DEST_DIR` }),
  REFUSE_OPTIONS: refusals({
    default: '',
    desc: t`拒绝源端使用的 rsync 选项，写法同 rsyncd.conf(5) 的 refuse options，例如 inplace；no-whole-file = 总是传输整个文件`,
  }),
  HISTORY_DAYS: days({
    default: 0,
    desc: t`旧版本和已删除的文件在 DEST_DIR/.history 中保留多少天；0 = 不保留`,
  }),
  STATUS_FILE: file({
    default: '/run/start-sshd/status.json',
    desc: t`状态文件，供 --status 和 --healthcheck 使用，整体替换`,
  }),
  ...reportVariables(t`备份端`),
  ...logVariables('/var/log/rsync/sshd.log'),
  ...webVariables(t` /metrics 和 /healthz`),
  ...colourVariable,
};

/** Why no versions can be kept of what a shell of the source writes. */
const SHELL = t`ALLOW_SHELL=true 时无法保留旧版本：源端可以随意改写它们；请去掉其中一个`;

const TAKEN = t`已用于 SSHD_PORT，请使用不同的端口`;

/**
 * Reads and checks the variables.
 * @param missing what else is wrong, one line each, to be reported together
 * @throws {Failure} one line for every variable that is wrong (status 2) and for what is missing (by itself, status 1)
 */
export function readConfig(env: NodeJS.ProcessEnv, missing: string[] = []) {
  const { config, mistakes } = readVariables(variables, env);
  const areKnown = (...names: string[]) => !mistakes.some(({ name }) => names.includes(name));
  if (areKnown('HISTORY_DAYS', 'ALLOW_SHELL') && config.HISTORY_DAYS > 0 && config.ALLOW_SHELL)
    mistakes.push(mistake('HISTORY_DAYS', env.HISTORY_DAYS ?? '', SHELL));
  if (areKnown('METRICS_PORT', 'SSHD_PORT') && config.METRICS_PORT === String(config.SSHD_PORT))
    mistakes.push(mistake('METRICS_PORT', config.METRICS_PORT, TAKEN));
  refuseMistakes(variables, mistakes, missing);
  return config;
}

export type Config = ReturnType<typeof readConfig>;

/** Says who reports. */
export const originOf = ({ DEST_DIR }: Pick<Config, 'DEST_DIR'>): Origin => ({
  ...{ program: PROGRAM, version, host: hostname(), directory: DEST_DIR },
  place: t`目标目录: ${escapeText(DEST_DIR)}`,
});

/**
 * Reads the variables for a start, which needs all programs as well.
 * @throws {Failure}
 */
export const readStartConfig = (): Config =>
  readConfig(process.env, [...missingPrograms(PROGRAMS, findProgram), ...missingUser()]);

/** Writes the text of --help. */
export const help = () => t`${PROGRAM} ${version}：运行 sshd，接收 rsync-inotify 的镜像

用法: start-sshd [--help | --version | --check | --status | --healthcheck]
      start-sshd --history [路径] [--source 名称]
      start-sshd --recover [路径…] --at 时间 --to 空目录 [--source 名称]
      start-sshd --allow-restore [时长] [--source 名称]
      start-sshd --promote | --demote [--source 名称]
      start-sshd --notify-test
  --check         检查配置和所需程序后退出
  --status        显示正在运行的服务的状态
  --healthcheck   用一行说明备份端能否接收镜像；退出状态 0 能，1 不能
  --history       列出旧版本（HISTORY_DAYS）：何时被替换或删除、大小、路径
  --recover       把 DEST_DIR 或其中的路径恢复成某一时刻的样子，放入一个空目录；
                  时间为本地时间或 ISO 8601，例如 "2025-10-09 12:00:00"

  --allow-restore 允许源端在这段时间内读取 DEST_DIR，以便 rsync-inotify --restore 取回数据；
                  默认 1h，例如 90s、10m、2h、1d，最长 7d，0s 立即结束；服务停止时也随之结束
  --promote       备份端接管：从现在起不接收镜像，重启后也不，直到 --demote；服务没有运行时同样可用
  --demote        重新接收镜像：源端随即比较全部内容，并以源端的内容为准
  --source        多个源端（SOURCE_NAME）中的一个：其旧版本、读取和接管都只涉及 DEST_DIR/名称；
                  --promote 和 --demote 不带 --source 时涉及全部源端
  --notify-test   向 NOTIFY_URL 的每个 URL 发送一份测试报告，并说明收到的应答；退出状态 0 都已接受，1 没有

环境变量（名称、默认值、说明）:
${describeVariables(variables, 16, 28)}

退出状态: 0 收到 SIGTERM/SIGINT/SIGHUP 后停止；1 启动步骤失败、缺少程序或 sshd 退出；2 配置或用法错误
`;
