import { describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { validate as deployment } from 'kubernetes-models/_schemas/IoK8sApiAppsV1Deployment';
import { validate as statefulSet } from 'kubernetes-models/_schemas/IoK8sApiAppsV1StatefulSet';
import { validate as claim } from 'kubernetes-models/_schemas/IoK8sApiCoreV1PersistentVolumeClaim';
import { validate as headlessService } from 'kubernetes-models/_schemas/IoK8sApiCoreV1Service';
import { readConfig as readBackupConfig } from '../../src/backup/config.ts';
import { readConfig as readSourceConfig } from '../../src/mirror/environment.ts';
import { isOwnHost } from '../../src/service/web.ts';
import { backup, COMMANDS, manifests, podOf, service, source } from '../manifests.ts';
import { mistakesFoundBy } from '../processes.ts';
import { binary, ROOT } from '../project.ts';

/** The validators that are generated from Kubernetes' own schemas. */
const SCHEMAS: Record<string, (document: unknown) => boolean> = {
  Deployment: deployment,
  StatefulSet: statefulSet,
  PersistentVolumeClaim: claim,
  Service: headlessService,
};

/** Every field of a value, as a path. */
function pathsOf(value: unknown, path = ''): string[] {
  if (typeof value !== 'object' || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([name, inner]) => pathsOf(inner, `${path}/${name}`))];
}

/** A value that tells which of its fields are read. */
function watched(value: unknown, read: Set<string>, path = ''): unknown {
  read.add(path);
  if (typeof value !== 'object' || value === null) return value;
  return new Proxy(value, {
    get: (object, name) => watched(Reflect.get(object, name), read, `${path}/${String(name)}`),
  });
}

/**
 * What is wrong with a document. Kubernetes' schemas let unknown fields pass, which kubectl refuses: those are the ones
 * that the validator has not looked at.
 */
function mistakesIn(document: { kind: string }): string[] {
  const validate = SCHEMAS[document.kind];
  if (!validate) return [`unknown kind ${document.kind}`];
  const read = new Set<string>();
  const isValid = validate(watched(document, read));
  const errors = 'errors' in validate ? (validate.errors as object[] | null) : [];
  const unknown = pathsOf(document).filter((path) => !read.has(path));
  return [...(isValid ? [] : [JSON.stringify(errors)]), ...unknown.map((path) => `unknown: ${path}`)];
}

describe.each(manifests())('$kind $metadata.name', (document) => {
  const text = JSON.stringify(document);
  const spoilt = (from: string | RegExp, to: string) => {
    expect(text).toMatch(from);
    return mistakesIn(JSON.parse(text.replace(from, to)));
  };

  test('is what Kubernetes’ schemas allow', () => {
    expect(mistakesIn(document)).toEqual([]);
  });

  test('would not be with any field misspelt or of another type', () => {
    const fields = new Set([...text.matchAll(/"(\w+)":/g)].map(([, field = '']) => field));
    for (const free of ['cpu', 'memory', 'storage']) fields.delete(free); // names of whatever there is
    for (const field of fields) expect(spoilt(`"${field}":`, `"${field}s":`)).not.toEqual([]);
    expect(spoilt(/"name":"[^"]*"/, '"name":{}')).not.toEqual([]);
    expect(spoilt('"spec":{', '"spec":{"spec":{},')).not.toEqual([]);
  });
});

const compose = Bun.YAML.parse(readFileSync(join(ROOT, 'compose.base.yml'), 'utf8')) as {
  services: Record<string, { image: string; hostname: string; cap_add: string[]; cap_drop: string[] }>;
};

const PAIR = [
  { name: 'rsync-source', program: 'rsync-inotify', workload: source, data: ['SOURCE_DIR', '/data/source'] },
  { name: 'rsync-backup', program: 'start-sshd', workload: backup, data: ['DEST_DIR', '/data/backup'] },
] as const;

describe.each(PAIR)('the pod of $name', ({ name, program, workload, data: [variable, directory] }) => {
  const { pod, container, env } = podOf(workload);
  const help = Bun.spawnSync([binary(program), '--help']).stdout.toString();

  test('runs the image and the program of the compose file, with variables and flags that it has', () => {
    expect(compose.services[name]?.image).toBe(`\${IMAGE:-${container.image}}`);
    expect(container.command?.join(' ').split(' ').at(-1)).toBe(program);
    for (const known of Object.keys(env)) expect(help).toMatch(new RegExp(`^  ${known} `, 'm'));
    expect(container.readinessProbe?.exec?.command).toEqual([program, '--healthcheck']);
    expect(help).toContain('  --healthcheck ');
    for (const probe of ['livenessProbe', 'startupProbe']) expect(container).not.toHaveProperty(probe); // they restart
  });

  test('may do no more than in the compose file', () => {
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: compose.services[name]?.cap_drop ?? [], add: compose.services[name]?.cap_add ?? [] },
    });
    expect(pod).toMatchObject({
      automountServiceAccountToken: false,
      securityContext: { seccompProfile: { type: 'RuntimeDefault' } },
    });
    const other = ['hostNetwork', 'hostPID', 'hostIPC', 'hostUsers', 'serviceAccountName'];
    for (const right of other) expect(pod).not.toHaveProperty(right);
  });

  test('has each of its volumes mounted, once, and the tree where the program looks for it', () => {
    const claims = 'volumeClaimTemplates' in (workload.spec ?? {}) ? backup.spec?.volumeClaimTemplates : [];
    const volumes = [...(pod.volumes ?? []), ...(claims ?? []).map(({ metadata }) => metadata ?? {})];
    expect((container.volumeMounts ?? []).map((mount) => mount.name).sort()).toEqual(
      volumes.map((volume) => volume.name ?? '').sort(),
    );
    const places = (container.volumeMounts ?? []).map(({ mountPath }) => mountPath);
    for (const path of [directory, '/shared-keys', '/root/.ssh', '/run', '/tmp']) expect(places).toContain(path);
    expect(help).toMatch(new RegExp(`^  ${variable} +${directory}/ `, 'm'));
    expect(env.SHARED_KEYS_DIR).toBe('/shared-keys/public');
    if (env.HOST_KEY_DIR) expect(places).toContain(env.HOST_KEY_DIR);
  });

  test('is chosen by its workload', () => {
    const labels = workload.spec?.template.metadata?.labels;
    expect(workload.spec?.selector.matchLabels).toEqual(labels ?? {});
    expect(new Set(PAIR.map((one) => JSON.stringify(one.workload.spec?.selector))).size).toBe(2);
  });

  test('mounts no secret or config map but what the commands make, with the files that they put into it', () => {
    for (const { secret, configMap } of pod.volumes ?? []) {
      const [kind, made] = secret ? ['secret generic', secret.secretName] : ['configmap', configMap?.name];
      if (!made) continue;
      const command = COMMANDS.find((line) => line.startsWith(`kubectl create ${kind} ${made} `));
      const files = [...(command ?? '').matchAll(/--from-file=(\S+)/g)].map(([, file]) => file);
      expect(files.length).toBeGreaterThan(0);
      for (const { key } of configMap?.items ?? []) expect(files).toContain(key);
      if (secret) expect(secret.defaultMode).toBe(0o400);
    }
  });
});

test('the source finds the backup: name, port and host keys are the same on both sides', () => {
  const [sending, receiving] = [podOf(source), podOf(backup)];
  const port = receiving.env.SSHD_PORT;
  expect(sending.env.DEST_HOST).toBe(service.metadata?.name);
  expect(backup.spec?.serviceName).toBe(service.metadata?.name ?? '');
  expect(service.spec?.selector).toEqual(backup.spec?.selector.matchLabels);
  expect(service.spec?.clusterIP).toBe('None'); // so that the port is the container's
  expect(service.spec?.ports?.map((one) => String(one.port))).toEqual([port ?? '']);
  const { ports = [] } = receiving.container;
  expect(ports.map(({ name, containerPort }) => [name, String(containerPort)])[0]).toEqual(['ssh', port ?? '']);
  expect(sending.env.SSH_OPTS).toBe(`-p ${port} -o StrictHostKeyChecking=yes`);

  const published = ({ pod }: typeof sending) => pod.volumes?.find(({ configMap }) => configMap);
  expect(published(sending)).toEqual(published(receiving));
  expect(published(sending)?.configMap?.items?.map(({ path }) => path)).toEqual([
    'public/id_rsa.pub',
    ...['rsa', 'ecdsa', 'ed25519'].map((type) => `public/host_keys/${backup.metadata?.name}-0.${type}.pub`),
  ]);
});

test.each([
  ['source', source, []],
  ['backup', backup, ['2222']],
] as const)('Prometheus is told where the metrics of the %s are', (_, document, others) => {
  const { container, env } = podOf(document);
  expect(document.spec?.template.metadata?.annotations).toEqual({
    'prometheus.io/scrape': 'true',
    'prometheus.io/port': env.METRICS_PORT ?? '',
    'prometheus.io/path': '/metrics',
  });
  const ports = container.ports?.map(({ containerPort }) => String(containerPort));
  expect(ports).toEqual([...others, env.METRICS_PORT ?? '']);
  expect(env.METRICS_LISTEN).toBe('0.0.0.0');
});

test('Prometheus scrapes a name under which the container answers', () => {
  const { scrape_configs } = Bun.YAML.parse(readFileSync(join(ROOT, 'monitoring/prometheus.yml'), 'utf8')) as {
    scrape_configs: { static_configs: { targets: string[] }[] }[];
  };
  const targets = scrape_configs.flatMap(({ static_configs }) => static_configs.flatMap((config) => config.targets));
  const hosts = ['rsync-source', 'rsync-backup'].map((name) => compose.services[name]?.hostname ?? '');
  expect(targets).toHaveLength(hosts.length);
  for (const [index, host] of hosts.entries()) expect(isOwnHost(targets[index] ?? '', [], host)).toBe(true);
});

test('both programs take their variables', () => {
  const sourceEnv = { ...podOf(source).env, SOURCE_DIR: tmpdir() };
  expect(mistakesFoundBy(binary('rsync-inotify'), sourceEnv)).toBe('');
  expect(mistakesFoundBy(binary('start-sshd'), podOf(backup).env)).toBe('');
  expect(readSourceConfig(sourceEnv).DEST_HOST).toBe('rsync-backup');
  expect(readBackupConfig(podOf(backup).env).SSHD_PORT).toBe(2222);
});

test('the source may be a sidecar, as the comment says', () => {
  const { pod, container } = podOf(source);
  const application = { name: 'application', image: 'application:1' };
  const { readinessProbe: _, ...rest } = container;
  const sidecar = { ...rest, restartPolicy: 'Always' };
  const document = structuredClone({ ...source, kind: 'Deployment' as const });
  if (!document.spec?.template.spec) throw new Error('no pod');
  document.spec.template.spec = { ...pod, initContainers: [sidecar], containers: [application] };
  expect(mistakesIn(document)).toEqual([]);
});
