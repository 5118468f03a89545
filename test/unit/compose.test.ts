/** The compose files, as far as one sees without an engine what they are. */

import { describe, expect, test } from 'bun:test';
import { readdirSync } from 'node:fs';
import { read } from '../pages.ts';
import { ROOT } from '../project.ts';

const FILES = readdirSync(ROOT).filter((name) => /^compose\..*yml$/.test(name));

interface Service {
  image?: string;
  build?: object;
  extends?: { file?: string; service: string };
}
interface ComposeFile {
  services: Record<string, Service>;
}

const parse = (name: string) => Bun.YAML.parse(read(name)) as ComposeFile;

/** What a service of Docker Compose 2.9.0 may say, by compose-spec.json of the compose-go 1.4.0 that is in it. */
const KNOWN = new Set(
  `deploy build blkio_config cap_add cap_drop cgroup_parent command configs container_name cpu_count cpu_percent cpu_shares
  cpu_quota cpu_period cpu_rt_period cpu_rt_runtime cpus cpuset credential_spec depends_on device_cgroup_rules devices dns
  dns_opt dns_search domainname entrypoint env_file environment expose extends external_links extra_hosts group_add
  healthcheck hostname image init ipc isolation labels links logging mac_address mem_limit mem_reservation mem_swappiness
  memswap_limit network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform ports privileged profiles
  pull_policy read_only restart runtime scale security_opt shm_size secrets sysctls stdin_open stop_grace_period
  stop_signal storage_opt tmpfs tty ulimits user userns_mode volumes volumes_from working_dir`.split(/\s+/),
);
const KNOWN_OF_BUILD = new Set('context dockerfile args target network labels extra_hosts platforms'.split(' '));

describe.each(FILES)('%s', (name) => {
  const { services, ...rest } = parse(name);

  test('says nothing that Docker Compose 2.9, which many a NAS has, does not know', () => {
    expect(read(name)).not.toMatch(/: !\w/); // !reset and !override are of 2.24
    const sections = Object.keys(rest).filter((key) => !key.startsWith('x-'));
    expect(sections.filter((key) => !['networks', 'volumes'].includes(key))).toEqual([]);
    for (const service of Object.values(services)) {
      expect(Object.keys(service).filter((key) => !KNOWN.has(key))).toEqual([]);
      expect(Object.keys(service.build ?? {}).filter((key) => !KNOWN_OF_BUILD.has(key))).toEqual([]);
    }
  });
});

/** Whether a service builds the image, by itself or by what it extends. */
function builds(name: string, service: Service): boolean {
  if (service.build) return true;
  const { file = name, service: from = '' } = service.extends ?? {};
  const base = parse(file).services[from];
  return base !== undefined && builds(file, base);
}

const TOGETHER = ['yml multi.yml', 'yml sources.yml', 'source.yml', 'backup.yml', 'reversed-backup.yml'];

test.each(TOGETHER)(
  'of the services of compose.%s, one builds the image: two would do so at once, under one name',
  (list) => {
    const names = list.split(' ').map((name) => `compose.${name}`);
    const all = names.flatMap((name) => Object.values(parse(name).services).map((service) => builds(name, service)));
    expect(all.filter(Boolean)).toHaveLength(1);
  },
);

test('the image has one name, which can be set, as can whether it is pulled', () => {
  const text = read('compose.base.yml').replace(/^ *#.*/gm, '');
  expect(text.match(/^ +(image|pull_policy): .*/gm)).toEqual([
    expect.stringContaining('IMAGE:-rsync-inotify:latest}'),
    expect.stringContaining('PULL_POLICY:-never}'),
  ]);
  for (const [, variable, value] of text.matchAll(/\$\{(\w+):-([^}]*)\}/g))
    expect(read('.env.example')).toContain(`#${variable}=${value}\n`);
});

test('docs/filtered-network.md sets what there is to set', () => {
  const set = [...read('docs', 'filtered-network.md').matchAll(/^([A-Z_]+)=/gm)].map(([, name]) => name);
  expect(set.length).toBeGreaterThan(7);
  for (const name of set) expect(read('.env.example')).toContain(`#${name}=`);
});
