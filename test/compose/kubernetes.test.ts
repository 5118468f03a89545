import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import type { IVolume } from 'kubernetes-models/v1/Volume';
import { buildImage, docker, dockerObstacle } from '../docker.ts';
import { backup, COMMANDS, podOf, service, source } from '../manifests.ts';
import { eventually } from '../processes.ts';
import { ROOT } from '../project.ts';

setDefaultTimeout(120_000);

const reason = dockerObstacle();
if (reason) console.warn(`SKIPPED: the pods of deploy/kubernetes.yml: ${reason}`);

const NAME = `rsync-inotify-test-pods-${process.pid}`;
const IMAGE = `${NAME}:latest`;
const containers = { source: `${NAME}-source`, backup: `${NAME}-backup`, application: `${NAME}-application` };
let directory = '';

/** The commands of the manifest's comment, or others, with a kubectl that keeps what it is told to create as directories. */
function makeKeys(commands = COMMANDS): void {
  const kubectl = `kubectl() {
    [ "$2" = configmap ] || shift
    object=$3; mkdir -p "../$object"; shift 3
    for option; do file=\${option#--from-file=}; cp "\${file#*=}" "../$object/\${file%%=*}"; done
  }`;
  rmSync(join(directory, 'work'), { recursive: true, force: true });
  mkdirSync(join(directory, 'work'));
  const input = ['set -e', kubectl, ...commands].join('\n');
  const { status, stderr } = spawnSync('sh', { input, cwd: join(directory, 'work'), encoding: 'utf8' });
  expect(status, stderr).toBe(0);
}

/**
 * Lays the files of a secret or a config map out, or anew, as the kubelet does: what the volume itself names are links
 * into a hidden directory, of which there is a new one for each version.
 */
function project({ name, secret, configMap }: IVolume, pod: string, isFlat = false): string {
  const object = join(directory, secret?.secretName ?? configMap?.name ?? '');
  const volume = join(directory, pod, name);
  const items = (secret ?? configMap)?.items ?? readdirSync(object).map((key) => ({ key, path: key }));
  mkdirSync(volume, { recursive: true });
  const version = `..version-${readdirSync(volume).length}`;
  for (const { key, path } of items) {
    const file = join(volume, version, isFlat ? basename(path) : path);
    mkdirSync(dirname(file), { recursive: true });
    copyFileSync(join(object, key), file);
    chmodSync(file, (secret ?? configMap)?.defaultMode ?? 0o644);
  }
  symlinkSync(version, join(volume, '..data_tmp'));
  renameSync(join(volume, '..data_tmp'), join(volume, '..data'));
  for (const entry of readdirSync(join(volume, version))) {
    if (!existsSync(join(volume, entry))) symlinkSync(`..data/${entry}`, join(volume, entry));
  }
  return volume;
}

/** In memory, and everybody may write there; docker's own --tmpfs would have the mode of what it covers. */
const EMPTY_DIR = ['type=tmpfs', 'device=tmpfs', 'o=mode=0777'].reduce(
  (all, option) => `${all},volume-opt=${option}`,
  'volume-nocopy',
);

type Workload = typeof backup | typeof source;

/** What the kubelet and the runtime make of a pod's volumes. */
function mountsOf(workload: Workload, name: string, isFlat: boolean): string[] {
  const { pod, container } = podOf(workload);
  return (container.volumeMounts ?? []).flatMap(({ name: volumeName, mountPath, readOnly }) => {
    const volume = pod.volumes?.find((one) => one.name === volumeName);
    if (volume?.emptyDir) return ['--mount', `type=volume,dst=${mountPath},${EMPTY_DIR}`];
    const isFile = volume?.secret || volume?.configMap;
    const claim = volume?.persistentVolumeClaim?.claimName ?? volumeName;
    const from = isFile ? project(volume, name, isFlat) : `${NAME}-${claim}`;
    return ['-v', `${from}:${mountPath}${readOnly ? ':ro' : ''}`];
  });
}

/** Starts the container of a pod with what its manifest says. */
function run(workload: Workload, name: string, hostname: string, isFlat = false): void {
  const { container, env } = podOf(workload);
  const { readOnlyRootFilesystem, allowPrivilegeEscalation, capabilities } = container.securityContext ?? {};
  const [program = '', ...args] = container.command ?? [];
  const aliases = [hostname, ...(workload.kind === backup.kind ? [service.metadata?.name ?? ''] : [])];
  const variables = { ...env, NO_COLOR: '1', ...(isFlat ? { SHARED_KEYS_DIR: '/shared-keys' } : {}) };
  docker([
    ...['run', '-d', '--name', name, '--hostname', hostname, '--network', NAME],
    ...aliases.map((alias) => `--network-alias=${alias}`),
    ...(readOnlyRootFilesystem ? ['--read-only'] : []),
    ...(allowPrivilegeEscalation === false ? ['--security-opt', 'no-new-privileges'] : []),
    ...(capabilities?.drop ?? []).map((capability) => `--cap-drop=${capability}`),
    ...(capabilities?.add ?? []).map((capability) => `--cap-add=${capability}`),
    ...Object.entries(variables).flatMap(([variable, value]) => ['-e', `${variable}=${value}`]),
    ...mountsOf(workload, name, isFlat),
    ...['--entrypoint', program, IMAGE, ...args],
  ]);
}

/** What docs/several-sources.md has for several sources: commands, and what stands in config maps in the place of id_rsa.pub. */
const PAGE = readFileSync(join(ROOT, 'docs', 'several-sources.md'), 'utf8').replace(/[\s\S]*^## On Kubernetes$/m, '');
const blockOf = (language: string) => new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``).exec(PAGE)?.[1] ?? '';
const COMMANDS_FOR_NAMES = blockOf('bash');

/** A workload where there are several sources: that of the one with the name, as the page says. */
function named<W extends Workload>(workload: W, name = ''): W {
  const copy = structuredClone(workload);
  const { pod, container } = podOf(copy);
  for (const { configMap } of pod.volumes ?? [])
    configMap?.items?.splice(0, 1, ...(Bun.YAML.parse(blockOf('yaml')) as { key: string; path: string }[]));
  for (const { secret, persistentVolumeClaim: claim } of name ? (pod.volumes ?? []) : []) {
    if (secret) secret.secretName = `rsync-source-${name}`;
    if (claim) claim.claimName = `data-of-${name}`;
  }
  if (name) container.env?.push({ name: 'SOURCE_NAME', value: name });
  return copy;
}

const logsOf = (container: string) => docker(['logs', container]);
const shell = (container: string, command: string) => docker(['exec', container, 'sh', '-c', command]);

async function isMirrored(name: string): Promise<void> {
  shell(containers.application, `echo content of ${name} >/data/${name}`);
  const copy = () => shell(containers.backup, `cat /data/backup/${name}`);
  await eventually(() => copy() === `content of ${name}\n`).catch(withLogs);
}

function withLogs(error: unknown): never {
  throw new Error(`${error}\n${logsOf(containers.backup)}\n${logsOf(containers.source)}`);
}

describe.skipIf(reason !== '')('the pods of deploy/kubernetes.yml', () => {
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'rsync-inotify-pods-'));
    buildImage(IMAGE);
    docker(['network', 'create', NAME]);
    makeKeys();
  });

  afterAll(() => {
    const names = docker(['ps', '-aq', '--filter', `name=${NAME}`])
      .split('\n')
      .filter(Boolean);
    if (names.length > 0) docker(['rm', '-fv', ...names]);
    for (const volume of docker(['volume', 'ls', '-q', '--filter', `name=${NAME}`]).split('\n'))
      spawnSync('docker', ['volume', 'rm', volume]);
    docker(['network', 'rm', NAME]);
    docker(['image', 'rm', IMAGE]);
    rmSync(directory, { recursive: true });
  });

  test('mirror what an application writes, with the keys that the commands make, mounted as the kubelet does', async () => {
    const application = ['--name', containers.application, '-v', `${NAME}-source-data:/data`, IMAGE];
    docker(['run', '-d', '--init', '--network', NAME, ...application, 'sleep', '600']);
    shell(containers.application, 'echo before >/data/first');
    run(source, containers.source, 'rsync-source-0');
    run(backup, containers.backup, 'rsync-backup-0');
    for (const [workload, name] of [[source, containers.source] as const, [backup, containers.backup] as const]) {
      const probe = podOf(workload).container.readinessProbe?.exec?.command ?? [];
      const isReady = () => spawnSync('docker', ['exec', name, ...probe]).status === 0;
      await eventually(isReady).catch(withLogs);
    }
    expect(shell(containers.backup, 'cat /data/backup/first')).toBe('before\n');
    await isMirrored('second');
    const metrics = `exec 3<>/dev/tcp/rsync-source-0/9873; printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3; cat <&3`;
    expect(docker(['exec', containers.application, 'bash', '-c', metrics])).toMatch(/^rsync_target_up\{.*\} 1$/m);
    expect(logsOf(containers.source) + logsOf(containers.backup)).not.toMatch(/WARN|ERROR/);
  });

  test('take new keys when their volumes have followed the secrets', async () => {
    const keyOf = () => shell(containers.backup, 'start-sshd --status').match(/SHA256:\S+/)?.[0];
    const before = keyOf();
    makeKeys();
    for (const [workload, name] of [[backup, containers.backup] as const, [source, containers.source] as const]) {
      for (const volume of podOf(workload).pod.volumes ?? []) {
        if (volume.secret || volume.configMap) project(volume, name);
      }
    }
    await eventually(() => keyOf() !== before).catch(withLogs); // without a restart
    // Its connection has ended with the old key, and until the restart the backup has other host keys than the volume says.
    const { length } = logsOf(containers.source);
    docker(['restart', containers.backup, containers.source]);
    await isMirrored('third');
    expect(logsOf(containers.source).slice(length)).not.toContain('可能有人在冒充备份主机');
  });

  test('end with status 0', () => {
    docker(['stop', '-t', `${podOf(source).pod.terminationGracePeriodSeconds}`, containers.source, containers.backup]);
    const status = ['inspect', '--format', '{{.State.ExitCode}}', containers.source, containers.backup];
    expect(docker(status)).toBe('0\n0\n');
  });

  test('would not trust the links at the top of such a volume', async () => {
    const name = `${containers.backup}-flat`;
    run(backup, name, 'rsync-backup-1', true);
    const refusal = '源端公钥未生效: /shared-keys/id_rsa.pub：应为不超过 16384 字节的普通文件';
    await eventually(() => logsOf(name).includes(refusal)).catch(withLogs);
    docker(['rm', '-fv', name]);
  });

  test('of several sources with names, as the page says, are mirrored each into the directory of its name', async () => {
    docker(['rm', '-fv', containers.backup, containers.source]);
    docker(['volume', 'rm', `${NAME}-backup`]);
    makeKeys([...COMMANDS, COMMANDS_FOR_NAMES]);
    const names = ['web1', 'web2'];
    run(named(backup), containers.backup, 'rsync-backup-0');
    for (const name of names) {
      run(named(source, name), `${containers.source}-${name}`, `rsync-source-${name}-0`);
      // The claim is that of an application, which alone may write to it.
      docker(['run', '--rm', '-v', `${NAME}-data-of-${name}:/data`, IMAGE, 'sh', '-c', `echo ${name} >/data/page`]);
    }
    for (const name of names)
      await eventually(() => shell(containers.backup, `cat /data/backup/${name}/page`) === `${name}\n`).catch(
        (error) => {
          throw new Error([error, logsOf(containers.backup), logsOf(`${containers.source}-${name}`)].join('\n'));
        },
      );
    expect(shell(containers.backup, 'ls -A /data/backup')).toBe('web1\nweb2\n');
    for (const name of [containers.backup, ...names.map((it) => `${containers.source}-${it}`)])
      expect(logsOf(name)).not.toMatch(/WARN|ERROR/);
  });
});
