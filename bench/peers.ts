/** Other programs that mirror trees: Unison, told to let the source win, and Syncthing, told to send from the source alone. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { eventually, freePort, Program } from '../test/processes.ts';
import type { Bed, Run } from './bed.ts';
import { ALLOW_SHELL, controlledSsh, type Mirror, START_MS } from './mirrors.ts';

/** Without its helper, which Debian does not have, Unison looks for changes once a second. */
const repeat = Bun.which('unison-fsmonitor') ? 'watch' : '1';

function unisonArgs(run: Run): string[] {
  const { bed } = run;
  const roots = [bed.path('source'), `ssh://${bed.host}/${bed.path('backup')}`];
  const oneWay = ['-force', bed.path('source'), '-batch', '-auto', '-confirmbigdel=false', '-repeat', repeat];
  const kept = ['-times', '-owner', '-group', '-perms', '-1'];
  const quiet = '-xferbycopying=false'; // it would tell of each file that is like another one
  const ssh = ['-sshargs', controlledSsh(run).slice(1).join(' ')];
  const server = `env UNISON=${bed.path('unison-backup')} unison`;
  return [...roots, ...oneWay, quiet, ...kept, ...ssh, '-servercmd', server];
}

const unisonWith = (...words: string[]): Mirror => ({
  name: `Unison, repeat ${repeat}`,
  role: 'peer',
  backupEnv: ALLOW_SHELL,
  ...(repeat === 'watch' ? {} : { pollMs: 1000 }),
  async launch(run) {
    const env = { ...run.peerEnv, UNISON: run.bed.path('unison') };
    const program = run.keep(new Program('unison', [...unisonArgs(run), '-ui', 'text', '-dumbtty', ...words], { env }));
    await program.shows(/Nothing to do|Synchronization complete/, 0, START_MS);
  },
});

/** Of a Syncthing: where its files are, who it is, and where it is asked for what it does. */
interface Instance {
  home: string;
  id: string;
  port: number;
}

const KEY = 'bench';

function xmlOf(bed: Bed, own: Instance, ids: string[], isSource: boolean): string {
  const folder = `path="${bed.path(isSource ? 'source' : 'backup')}" type="${isSource ? 'sendonly' : 'receiveonly'}"`;
  const [source = '', backup = ''] = ids;
  const off = 'globalAnnounceEnabled localAnnounceEnabled relaysEnabled natEnabled startBrowser crashReportingEnabled';
  return `<configuration version="36">
  <folder id="bench" ${folder} rescanIntervalS="3600" fsWatcherEnabled="true" fsWatcherDelayS="1">
    ${ids.map((id) => `<device id="${id}"/>`).join('')}<minDiskFree unit="%">0</minDiskFree><markerName>.</markerName>
  </folder>
  <device id="${source}"><address>dynamic</address></device>
  <device id="${backup}"><address>${isSource ? `tcp://127.0.0.1:${bed.port}` : 'dynamic'}</address></device>
  <gui enabled="true"><address>127.0.0.1:${own.port}</address><apikey>${KEY}</apikey></gui>
  <options>
    <listenAddress>tcp://127.0.0.1:${isSource ? 0 : bed.pair.port}</listenAddress>
    ${off
      .split(' ')
      .map((name) => `<${name}>false</${name}>`)
      .join('')}
    <urAccepted>-1</urAccepted><autoUpgradeIntervalH>0</autoUpgradeIntervalH><stunKeepaliveStartS>0</stunKeepaliveStartS>
    <setLowPriority>false</setLowPriority><reconnectionIntervalS>1</reconnectionIntervalS>
  </options>
</configuration>
`;
}

const syncthing = (home: string, ...args: string[]) =>
  spawnSync('syncthing', [...args, `--home=${home}`], { encoding: 'utf8', timeout: 30_000 }).stdout.trim();

async function makeInstance(home: string): Promise<Instance> {
  mkdirSync(home);
  syncthing(home, 'generate', '--no-default-folder');
  return { home, id: syncthing(home, 'serve', '--device-id'), port: await freePort() };
}

const instances = new WeakMap<Bed, Instance[]>();

/** Source and backup of a bed, which keep their names and ports. */
async function instancesOf(bed: Bed): Promise<Instance[]> {
  const known = instances.get(bed);
  if (known) return known;
  const made = [await makeInstance(bed.path('syncthing')), await makeInstance(bed.path('syncthing-backup'))];
  const ids = made.map(({ id }) => id);
  for (const [n, own] of made.entries()) writeFileSync(`${own.home}/config.xml`, xmlOf(bed, own, ids, n === 0));
  instances.set(bed, made);
  return made;
}

function startInstance({ home }: Instance, env: NodeJS.ProcessEnv): Program {
  const quiet = ['--no-browser', '--no-restart', '--no-upgrade', '--no-default-folder'];
  return new Program('syncthing', ['serve', `--home=${home}`, ...quiet], { env: { ...env, HOME: home } });
}

async function ask<T>({ port }: Instance, path: string): Promise<T> {
  const answer = await fetch(`http://127.0.0.1:${port}/rest/${path}`, {
    headers: { 'X-API-Key': KEY },
    signal: AbortSignal.timeout(5000),
  });
  return answer.json() as Promise<T>;
}

/** What a Syncthing says of itself, as far as it matters here. */
interface Connections {
  connections: Record<string, { connected: boolean }>;
}
interface FolderStatus {
  state: string;
  localTotalItems: number;
  globalTotalItems: number;
  needTotalItems: number;
}

/** Whether both know of each other and the backup lacks nothing. */
async function isInSync(source: Instance, backup: Instance): Promise<boolean> {
  const { connections } = await ask<Connections>(source, 'system/connections');
  const statusOf = (instance: Instance) => ask<FolderStatus>(instance, 'db/status?folder=bench');
  const [sent, received] = [await statusOf(source), await statusOf(backup)];
  const areIdle = sent.state === 'idle' && received.state === 'idle';
  const isSame = sent.localTotalItems === received.globalTotalItems && received.needTotalItems === 0;
  return connections[backup.id]?.connected === true && areIdle && isSame;
}

const syncthingPair: Mirror = {
  name: 'Syncthing, delay 1',
  role: 'peer',
  backupEnv: {},
  async open(run) {
    const [, backup] = await instancesOf(run.bed);
    return startInstance(backup as Instance, run.peerBackupEnv);
  },
  async launch(run) {
    const [source, backup] = (await instancesOf(run.bed)) as [Instance, Instance];
    run.keep(startInstance(source, run.peerEnv));
    await eventually(() => isInSync(source, backup), START_MS);
  },
};

const installed = (unison: Mirror): Mirror[] => [
  ...(Bun.which('unison') ? [unison] : []),
  ...(Bun.which('syncthing') ? [syncthingPair] : []),
];

/** Which of them take part: those that are installed. */
export const others = installed(unisonWith());
/** The same for what is much to tell: ssh makes Unison's standard error one that cannot wait, and Unison ends of it. Of equal trees it says nothing then. */
export const tersely = installed(unisonWith('-terse'));

const PEERS = ['lsyncd', 'unison', 'syncthing'];
/** The peers that are not installed. */
export const missingPeers = () => PEERS.filter((name) => !Bun.which(name));
