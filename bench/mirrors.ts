/** What is compared: this program, lsyncd, a plain shell loop, and a bare rsync as the floor of all. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Program } from '../test/processes.ts';
import type { Run } from './bed.ts';

/** `floor` is what the work itself costs: nobody who uses rsync over ssh can be faster, unless by starting it before. */
type Role = 'ours' | 'peer' | 'floor';

export interface Mirror {
  name: string;
  role: Role;
  /** For start-sshd. */
  backupEnv: Record<string, string>;
  /** Starts what it has at the backup in the place of sshd. */
  open?(run: Run): Promise<Program>;
  /** Starts it and resolves when it follows changes. */
  launch(run: Run): Promise<void>;
  /** How often it looks for changes, where nothing tells it of them, ms. */
  pollMs?: number;
  /** Mirrors what has changed, where nothing watches. */
  push?(run: Run): Program;
}

/** How long the first full sync may take, ms. */
export const START_MS = 180_000;

/** Peers run more over ssh than one rsync into one directory. */
export const ALLOW_SHELL = { ALLOW_SHELL: 'true' };

export const ours = (setting: string, env: Record<string, string>): Mirror => oursIn(setting, () => env);

/** This program with variables that depend on where it runs. */
export function oursIn(setting: string, envOf: (run: Run) => Record<string, string>): Mirror {
  return {
    name: `rsync-inotify, ${setting}`,
    role: 'ours',
    backupEnv: {},
    async launch(run) {
      const program = run.keep(
        run.bed.pair.start('rsync-inotify', { SSH_OPTS: `-p ${run.bed.port}`, ...envOf(run), ...run.env }),
      );
      await program.shows('✓ 服务运行中', 0, START_MS);
    },
  };
}

/** This program with options for rsync; its log tells how long a sync took. */
export const oursWith = (options: string): Mirror =>
  ours(options, { RSYNC_OPTS: `${options} --delete`, SYNC_INTERVAL: '0', LOG_FORMAT: 'json' });

export const oursDefault = ours('default', {});
export const oursAtOnce = ours('SYNC_INTERVAL=0', { SYNC_INTERVAL: '0' });
export const oursWithoutRenames = ours('RENAME_ON_TARGET=false', { SYNC_INTERVAL: '0', RENAME_ON_TARGET: 'false' });

/** As rsync takes a command. */
const quoted = (words: string[]) => words.map((word) => `'${word}'`).join(' ');

/** Connections stay open between changes; otherwise each would cost a login. */
export const controlledSsh = ({ bed }: Run) => [
  ...bed.ssh,
  ...['-o', 'ControlMaster=auto', '-o', `ControlPath=${bed.control}`, '-o', 'ControlPersist=600'],
];

/** Lua reads these strings as JSON has them. */
const lua = (text: string) => JSON.stringify(text);

/** The part of a `sync` that says where to: `rsyncssh` sends moves and deletions over ssh, `rsync` all by rsync. */
const FORMS = {
  rsync: ({ bed }: Run) => `default.rsync, target = ${lua(bed.target)}`,
  rsyncssh: (
    run: Run,
  ) => `default.rsyncssh, host = ${lua(run.bed.host)}, targetdir = ${lua(`${run.bed.path('backup')}/`)},
  ssh = { _extra = { ${controlledSsh(run).slice(1).map(lua).join(', ')} } }`,
};

const lsyncdConfig = (run: Run, form: keyof typeof FORMS, delay: number) => `settings { nodaemon = true }
sync {
  ${FORMS[form](run)},
  source = ${lua(run.bed.source)}, delay = ${delay},
  rsync = { archive = true, compress = true, rsh = ${lua(quoted(controlledSsh(run)))} },
}
`;

function lsyncd(form: keyof typeof FORMS, delay: number): Mirror {
  return {
    name: `lsyncd ${form}, delay ${delay}`,
    role: 'peer',
    backupEnv: ALLOW_SHELL,
    async launch(run) {
      const config = run.bed.path('lsyncd.lua');
      writeFileSync(config, lsyncdConfig(run, form, delay));
      const program = run.keep(new Program('lsyncd', [config], { env: run.peerEnv }));
      await program.shows(/Startup of .* finished/, 0, START_MS);
    },
  };
}

/** Whether it is installed decides whether it takes part. */
const hasLsyncd = Bun.which('lsyncd') !== null;
const lsyncdForms = (...mirrors: Mirror[]) => (hasLsyncd ? mirrors : []);

export const lsyncdAtOnce = lsyncdForms(lsyncd('rsyncssh', 0));
export const lsyncdAll = lsyncdForms(...lsyncdAtOnce, lsyncd('rsyncssh', 1), lsyncd('rsync', 0));

function plainLoop(interval: number): Mirror {
  return {
    name: `plain loop, interval ${interval}`,
    role: 'peer',
    backupEnv: ALLOW_SHELL,
    async launch(run) {
      const { source, target, ssh } = run.bed;
      const script = join(import.meta.dir, 'plain-loop.sh');
      const program = run.keep(
        new Program('sh', [script, source, target, quoted(ssh), String(interval)], { env: run.peerEnv }),
      );
      await program.shows('Watches established', 0, START_MS);
    },
  };
}

export const plainAtOnce = plainLoop(0);
export const plainThrottled = plainLoop(5);

/** Mirrors once. @param name what it is called, which begins with `bare rsync`; @param sshOf how it reaches the backup */
const bare = (name: string, words: string[], sshOf = ({ bed }: Run) => bed.ssh): Mirror => ({
  name,
  role: 'floor',
  backupEnv: ALLOW_SHELL,
  async launch(run) {
    await this.push?.(run)?.exited;
  },
  push: (run) => {
    const args = [...words, '-e', quoted(sshOf(run)), run.bed.source, run.bed.target];
    return run.keep(new Program('rsync', args, { env: run.peerEnv }));
  },
});

export const bareRsync = bare('bare rsync', ['-az', '--delete']);

/** Mirrors once. Goes over a connection that is there before, as ours does: what is measured is the sync alone. */
export const bareWith = (options: string): Mirror => ({
  ...bare(`bare rsync ${options}`, [options, '--delete'], controlledSsh),
  async open(run) {
    const sshd = run.serve();
    await sshd.shows('SSH 服务器就绪');
    const [ssh = '', ...args] = controlledSsh(run);
    spawnSync(ssh, [...args, run.bed.host, 'true'], { env: run.peerEnv, stdio: 'ignore', timeout: 30_000 });
    return sshd;
  },
});
