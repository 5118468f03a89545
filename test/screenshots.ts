/**
 * Takes the pictures of the status page, of real programs in a world of their own: its own host names, paths, network and processes.
 *
 *   sh setup.sh bun run build && sh setup.sh bun test/screenshots.ts       # docs/status-page*.png, after half an hour of work
 *   MINUTES=1 sh setup.sh bun test/screenshots.ts dist/pictures            # all that can be wrong, to be looked at before a change lands
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Browser, chromium } from 'playwright-core';
import { cleanEnv, Program } from './processes.ts';
import { binary, ROOT } from './project.ts';

/** The variable that says that this world is the one of its own. */
const INSIDE = 'RSYNC_INOTIFY_PICTURES';
const URL = 'http://127.0.0.1:9873/';
/** Where nobody answers at the addresses of the last ones. */
const HOSTS = [
  'rsync-backup',
  'rsync-backup2',
  'nas-0123456789.storage.frankfurt.eu-central.cloud.example.com',
  'rsync-backup4',
  ...Array.from({ length: 6 }, (_, n) => `branch-office-${n + 1}`),
];
const LONG = 'production/customers/2026/mirror-of-the-file-server-in-the-main-office';
const SHARED = '/mnt/shared';

/** Starts this script once more where nothing is of this machine but its programs. */
function enterWorld(): number {
  const world = '--mount --propagation private --uts --net --pid --fork --kill-child --mount-proc'.split(' ');
  const command = [...world, process.execPath, import.meta.path, ...process.argv.slice(2)];
  const isThere = existsSync('/data');
  mkdirSync('/data', { recursive: true }); // something has to be there for a file system to be mounted on
  const { status } = spawnSync('unshare', command, { stdio: 'inherit', env: { ...process.env, [INSIDE]: '1' } });
  if (!isThere) rmdirSync('/data');
  return status ?? 1;
}

function run(script: string, ...args: string[]): void {
  const { status, stderr } = spawnSync('sh', ['-ec', script, 'sh', ...args], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${script}: ${stderr}`);
}

/** Gives the world its directories, its network and its names. */
function furnish(): void {
  run('for at in /mnt /run /data; do mount -t tmpfs -o mode=755 tmpfs $at; done; mkdir /run/sshd');
  run('hostname rsync-source; ip link set lo up');
  const names = HOSTS.map((name, n) => `127.0.1.${n + 1} ${name}\n`);
  writeFileSync('/mnt/hosts', `127.0.0.1 localhost rsync-source\n${names.join('')}`);
  run('mount --bind /mnt/hosts /etc/hosts; mkdir -p /data/source /data/backup');
}

const started: Program[] = [];
const keep = (program: Program) => started[started.push(program) - 1] as Program;

/** Runs a program of the backup of that number, on a host of that name, where DEST_DIR is a disk of its own. */
function onBackup(n: number, command: string[], env: Record<string, string> = {}): Program {
  const script = 'hostname "$1"; mount --bind "$2/disk" /data/backup; shift 2; exec "$@"';
  const home = `/mnt/backup-${n}`;
  const args = ['--mount', '--uts', 'sh', '-ec', script, 'sh', HOSTS[n] ?? '', home, ...command];
  const own = {
    SHARED_KEYS_DIR: SHARED,
    SSH_DIR: `${home}/ssh`,
    HOST_KEY_DIR: `${home}/keys`,
    STATUS_FILE: `${home}/status.json`,
  };
  return keep(
    new Program('unshare', args, {
      env: { ...cleanEnv(), HOME: home, SSHD_LISTEN: `127.0.1.${n + 1}`, ...own, ...env },
    }),
  );
}

function startBackup(n: number, size = '500M', env: Record<string, string> = {}): Program {
  const disk = `/mnt/backup-${n}/disk`;
  run('mkdir -p "$1"; mount -t tmpfs -o mode=755,size="$2" tmpfs "$1"', disk, size);
  return onBackup(n, [binary('start-sshd')], env);
}

function startSource(env: Record<string, string>): Program {
  const own = {
    SHARED_KEYS_DIR: SHARED,
    SSH_DIR: '/mnt/source-ssh',
    STATUS_FILE: '/mnt/source-status.json',
    METRICS_PORT: '9873',
  };
  const caps = '-dac_override,-dac_read_search';
  const poor = [`--bounding-set=${caps}`, `--inh-caps=${caps}`, binary('rsync-inotify')]; // root that may not read everything
  return keep(new Program('setpriv', poor, { env: { ...cleanEnv(), HOME: '/mnt', ...own, ...env } }));
}

/** Makes directories of so many small files. */
function fill(directories: Record<string, number>): void {
  for (const [name, files] of Object.entries(directories)) {
    mkdirSync(`/data/source/${name}`, { recursive: true });
    for (let n = 0; n < files; n++)
      writeFileSync(`/data/source/${name}/${String(n).padStart(4, '0')}.jpg`, `${name} ${n}`);
  }
}

/** Changes files as people do, now more and now less. */
async function work(duration: number): Promise<void> {
  const end = performance.now() + 1000 * duration;
  for (let n = 0; performance.now() < end; n++) {
    writeFileSync(
      `/data/source/letters/${n % 40}.txt`,
      Buffer.alloc(200 * (1 + ((n * 7919) % 60) ** 2), `${n} ${Math.random()}`),
    );
    await sleep(1000 * (1 + ((n * 31) % 9)));
  }
}

interface View {
  locale: string;
  colorScheme?: 'light' | 'dark';
  width?: number;
  /** What the picture ends with, the page where that is not said. */
  last?: string;
}

/** Takes a picture, small where pngquant is installed. */
async function picture(browser: Browser, path: string, { locale, colorScheme, width = 1160, last = 'footer' }: View) {
  const viewport = { width, height: 900 };
  await using context = await browser.newContext({ locale, colorScheme: colorScheme ?? 'light', viewport });
  const page = await context.newPage();
  await page.goto(URL);
  await page.locator('#page').waitFor();
  await sleep(500);
  const box = await page.locator(last).last().boundingBox();
  const height = Math.ceil((box?.y ?? 0) + (box?.height ?? 0)) + 14;
  mkdirSync(join(path, '..'), { recursive: true });
  await page.screenshot({ path, fullPage: true, clip: { x: 0, y: 0, width, height } });
  spawnSync('pngquant', ['--force', '--skip-if-larger', '--speed=1', '--nofs', '--output', path, '64', path]);
}

/** Takes a picture for each kind of reader. */
async function pictures(browser: Browser, directory: string, name: string): Promise<void> {
  for (const locale of ['en-US', 'zh-CN'])
    for (const colorScheme of ['light', 'dark'] as const)
      for (const width of [1280, 390]) {
        const path = join(directory, `${name}-${locale}-${width}-${colorScheme}.png`);
        await picture(browser, path, { locale, colorScheme, width });
      }
}

const seconds = 60 * Number(process.env.MINUTES ?? 25);
const target = (n: number, directory = '') => `root@${HOSTS[n]}${directory && `:${directory}`}`;

/** Two targets, of which one cannot be reached. */
async function forReadme(browser: Browser): Promise<void> {
  fill({ letters: 0, ...Object.fromEntries(Array.from({ length: 188 }, (_, n) => [`photos/${n}`, 3])) });
  startBackup(0, undefined, { HISTORY_DAYS: '30' });
  const second = startBackup(1);
  const source = startSource({ DEST_HOSTS: `${target(0)} ${target(1)}` });
  await source.shows('✓ 服务运行中');
  await work(seconds - 150);
  await second.stop();
  await work(150);
  for (const [locale, name] of [
    ['en-US', ''],
    ['zh-CN', '.zh-CN'],
  ] as const)
    await picture(browser, join(ROOT, `docs/status-page${name}.png`), { locale, last: 'article' });
}

/** What is under way, a pause, and then all that can be wrong at once, on ten targets with long names among them. */
async function forReview(browser: Browser, directory: string): Promise<void> {
  fill({ letters: 3, 'photos/2024': 260, [`photos/${'a long name '.repeat(9)}/第三层目录`]: 80, disk: 0 });
  run('mount -t tmpfs tmpfs /data/source/disk; echo x >/data/source/disk/x');
  startBackup(0, undefined, { HISTORY_DAYS: '30' });
  const second = startBackup(1);
  startBackup(2, '3M');
  run('mkdir -p "/mnt/backup-2/disk/$1"', LONG);
  startBackup(3);
  const targets = HOSTS.map((_, n) => target(n, n === 2 ? `/data/backup/${LONG}/` : ''));
  const env = { RSYNC_OPTS: '-avzL --delete --exclude=/closed/*/', MAX_DELETE: '100', SYNC_INTERVAL: '1' };
  const first = startSource({ DEST_HOSTS: targets.slice(0, 3).join(' '), ...env });
  await first.shows('✓ 服务运行中');
  await work(seconds);
  await pictures(browser, directory, 'first');
  await tellSource('--pause', '10m');
  await pictures(browser, directory, 'paused');
  await tellSource('--resume');
  await first.stop();
  const all = startSource({ DEST_HOSTS: targets.join(' '), ...env });
  await all.shows('✓ 服务运行中');
  await breakAll(second);
  await pictures(browser, directory, 'bad');
  writeFileSync(join(directory, 'log'), started.map(({ output }) => output).join('\n-----\n'));
}

const tellSource = (...flags: string[]) =>
  keep(new Program(binary('rsync-inotify'), flags, { env: { ...cleanEnv(), STATUS_FILE: '/mnt/source-status.json' } }))
    .exited;

/** Has deletions held, a disk be full, one gone, a directory closed, a backup down and another one take over. */
async function breakAll(backup: Program): Promise<void> {
  for (let n = 0; n < 40; n++)
    writeFileSync(`/data/source/letters/too-large-for-one-of-the-disks-${n}.bin`, randomBytes(400_000));
  mkdirSync('/data/source/closed/nobody-may-enter-this-directory', { mode: 0, recursive: true });
  run('umount -l /data/source/disk');
  rmSync('/data/source/photos/2024', { recursive: true });
  await sleep(10_000);
  await backup.stop();
  onBackup(3, [binary('start-sshd'), '--promote']);
  await sleep(60_000);
}

async function main(): Promise<void> {
  if (process.env[INSIDE] !== '1') process.exit(enterWorld());
  furnish();
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  const [directory] = process.argv.slice(2);
  await (directory ? forReview(browser, directory) : forReadme(browser));
  await browser.close();
  for (const program of started.reverse()) await program.stop();
}

void main().catch((cause) => {
  console.error(cause, started.map(({ output }) => output).join('\n---\n'));
  process.exit(1);
});
