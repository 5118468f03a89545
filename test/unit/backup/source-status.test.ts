import { expect, test } from 'bun:test';
import { Reports } from '../../../src/backup/reports.ts';
import { latestOf, restoreOf, sourcesOf } from '../../../src/backup/source-status.ts';
import { keepLog } from '../mirror/stand-ins.ts';

/** What a service with these sources tells of them. */
function told(names: string[], { shell = false, reports = new Reports() } = {}) {
  const owned = new Map([11, 12, 13, 14].map((pid, n) => [pid, n < 2 ? 'key of web1' : 'key of nobody']));
  return sourcesOf({
    ...{ reports, config: { ALLOW_SHELL: shell } },
    doors: { list: () => names.map((name) => ({ name, directory: `/data/backup/${name}` })) },
    keys: { report: (name) => (name === 'web2' ? null : `key of ${name}`), fingerprintOf: (name) => `key of ${name}` },
    sshd: {
      owned: () => owned,
      countSessions: () => 5,
      receivedOf: (name) => (name === 'web1' ? new Date('2026-11-29T09:00:00.000Z') : undefined),
    },
    history: { of: () => ({ report: () => null }) },
    promotion: { report: () => null },
  });
}

test('connections are those of the key of a source, where that can be told, and of one without a name all that there are', () => {
  const sessionsOf = (names: string[], shell = false) => told(names, { shell }).map(({ sessions }) => sessions);
  expect(sessionsOf(['web1', 'web2'])).toEqual([2, 0]);
  expect(sessionsOf(['web1', 'web2'], true)).toEqual([null, null]);
  expect(sessionsOf([''], true)).toEqual([5]);
});

test('what was refused, may be read and was received is told of the source that it was', () => {
  using _ = keepLog();
  const reports = new Reports();
  reports.of('web2').complain('refused', 'a command');
  reports.of('web2').leave.give(60_000);
  const sources = told(['web1', 'web2'], { reports });
  expect(sources.map(({ refused }) => refused)).toEqual([0, 1]);
  expect(sources.map(({ restore }) => restore?.reading)).toEqual([undefined, 0]);
  expect(sources.map(({ key }) => key)).toEqual(['key of web1', null]);
  expect(latestOf(sources.map(({ received }) => received))).toBe('2026-11-29T09:00:00.000Z');
  expect(restoreOf(sources)).toEqual({ until: reports.of('web2').leave.report()?.until ?? '', reading: 0 });
  reports.of('web2').leave.give(0);
  expect(restoreOf(told(['web1', 'web2'], { reports }))).toBeNull();
});
