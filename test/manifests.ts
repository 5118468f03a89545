/** What deploy/kubernetes.yml holds, for the tests of it. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { IDeployment } from 'kubernetes-models/apps/v1/Deployment';
import type { IStatefulSet } from 'kubernetes-models/apps/v1/StatefulSet';
import type { IService } from 'kubernetes-models/v1/Service';
import { ROOT } from './project.ts';

const FILE = join(ROOT, 'deploy', 'kubernetes.yml');
const read = () => readFileSync(FILE, 'utf8');

/** Its documents, new at every call. */
export const manifests = () => Bun.YAML.parse(read()) as { kind: string; metadata: { name: string } }[];

const ofKind = (kind: string) => manifests().find((one) => one.kind === kind);
export const service = ofKind('Service') as IService;
export const backup = ofKind('StatefulSet') as IStatefulSet;
export const source = ofKind('Deployment') as IDeployment;

/** The commands in its first comment, that is, what stands further in than the text around. */
export const COMMANDS = [...read().matchAll(/^# {3}(.*)$/gm)].map(([, command = '']) => command);

/** The pod of a workload with its one container, and the values of that one's variables. */
export function podOf({ spec }: IDeployment | IStatefulSet) {
  const pod = spec?.template.spec;
  const [container, ...others] = pod?.containers ?? [];
  if (!pod || !container || others.length > 0) throw new Error('not a pod with one container');
  const env = Object.fromEntries((container.env ?? []).map(({ name, value }) => [name, value ?? '']));
  return { pod, container, env };
}
