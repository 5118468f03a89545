import { describe, expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../project.ts';

const read = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8');

describe('the workflows', () => {
  type Step = { uses?: string };
  type Job = { uses?: string; steps?: Step[]; permissions?: object; 'timeout-minutes'?: number };
  type Workflow = { permissions: object; jobs: Record<string, Job> };
  const workflow = (name: string) => Bun.YAML.parse(read('.github/workflows', name)) as Workflow;
  const [check, release] = [workflow('check.yml'), workflow('release.yml')];
  const jobs = [...Object.values(check.jobs), ...Object.values(release.jobs)];

  test('may write what they publish and nothing else', () => {
    expect(check.permissions).toEqual({ contents: 'read' });
    expect(release.permissions).toEqual({});
    const writing = Object.entries(release.jobs).filter(([, job]) => JSON.stringify(job.permissions).includes('write'));
    expect(writing.map(([name, { permissions }]) => [name, permissions])).toEqual([
      ['image', { contents: 'read', packages: 'write' }],
      ['publish', { contents: 'write' }],
    ]);
  });

  test('end in time, and run no action of strangers', () => {
    for (const job of jobs) {
      if (!job.uses) expect(job['timeout-minutes']).toBeLessThanOrEqual(40);
      for (const { uses } of job.steps ?? []) expect(uses ?? 'actions/x@v1').toMatch(/^(actions|docker)\/[\w-]+@v\d+$/);
    }
  });

  test('publish nothing that was not checked', () => {
    expect(release.jobs.check?.uses).toBe('./.github/workflows/check.yml');
    expect(JSON.stringify(check.jobs)).toContain('.ci/run');
    const needs = Object.fromEntries(
      Object.entries(release.jobs).map(([name, job]) => [name, 'needs' in job ? job.needs : []]),
    );
    expect(needs).toEqual({ check: [], binaries: 'check', image: 'binaries', publish: ['binaries', 'image'] });
  });
});
