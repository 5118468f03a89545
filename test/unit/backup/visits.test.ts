import { describe, expect, test } from 'bun:test';
import { REST_MS, VISITS_AT_ONCE, Visits } from '../../../src/backup/visits.ts';

const login = (port: number, from = '10.0.5.10', key = 'SHA256:abc') =>
  `Accepted publickey for root from ${from} port ${port} ssh2: RSA ${key}`;
const ROOT_LOGIN = 'Root login accepted for forced command.';

/** What sshd says of a session from its login to its end. */
const session = (port: number, from?: string, key?: string) => [
  ROOT_LOGIN,
  login(port, from, key),
  `${ROOT_LOGIN} [preauth]`,
  `Received disconnect from ${from ?? '10.0.5.10'} port ${port}:11: disconnected by user`,
  `Disconnected from user root ${from ?? '10.0.5.10'} port ${port}`,
];

/** Has a peer come and go so often, at these intervals; returns the verdicts on its logins. */
const visit = (visits: Visits, times: number, every: number, from?: string, start = 0) =>
  Array.from({ length: times }, (_, n) => {
    const verdicts = session(4000 + n, from).map((words) => visits.judge(words, start + n * every));
    return verdicts[1] as string;
  });

const count = (verdicts: string[], verdict: string) => verdicts.filter((it) => it === verdict).length;

describe('of sessions that come and go', () => {
  test.each([
    ['all are told of a peer that comes once a minute', 500, 60_000, 500],
    ['so many in a row are', VISITS_AT_ONCE, 1, VISITS_AT_ONCE],
    ['the first are told of a peer that comes for each batch', 3600, 1000, VISITS_AT_ONCE + 1],
  ])('%s', (_, times, every, told) => {
    const visits = new Visits();
    expect(count(visit(visits, times, every), 'told')).toBe(told);
    expect(visits.total).toBe(times - told);
  });

  test('all lines are told or counted together', () => {
    const visits = new Visits();
    const verdicts = (port: number) => session(port).map((words) => visits.judge(words, 0));
    expect(verdicts(1)).toEqual(['foreign', 'told', 'foreign', 'told', 'told']);
    visit(visits, VISITS_AT_ONCE, 0);
    expect(verdicts(2)).toEqual(Array(5).fill('counted'));
  });

  test('another peer, and another key, are told', () => {
    const visits = new Visits();
    visit(visits, 100, 0);
    expect(visits.judge(login(1, '10.0.5.11'), 0)).toBe('told');
    expect(visits.judge(login(2, '10.0.5.10', 'SHA256:other'), 0)).toBe('told');
  });

  test('those that stay are no visits', () => {
    const visits = new Visits();
    const logins = Array.from({ length: 100 }, (_, n) => visits.judge(login(n), 0));
    expect(count(logins, 'told')).toBe(100);
  });

  test('those whose end nobody tells, for their client was killed, end with the next ones, and those that stay do not', () => {
    const visits = new Visits();
    visits.judge(login(1), 0, 1);
    const verdicts = Array.from({ length: 100 }, (_, n) => visits.judge(login(10 + n), 5000 * n, 1));
    expect(count(verdicts, 'told')).toBeWithin(VISITS_AT_ONCE, VISITS_AT_ONCE + 12); // with one a minute more
    const others = new Visits();
    for (let n = 0; n < 60; n++) expect(others.judge(login(n), n, n + 1)).toBe('told');
    for (let n = 0; n < 60; n++)
      expect(others.judge(`Disconnected from user root 10.0.5.10 port ${n}`, n)).not.toBe('foreign');
  });

  test('they are told again once there was a rest', () => {
    const visits = new Visits();
    visit(visits, VISITS_AT_ONCE + 1, 0);
    expect(visits.judge(login(1), REST_MS - 1)).toBe('counted');
    expect(visits.judge(login(2), 2 * REST_MS)).toBe('told');
  });

  test('how many were not told is handed out once, by peer', () => {
    const visits = new Visits();
    visit(visits, VISITS_AT_ONCE + 30, 0);
    visit(visits, VISITS_AT_ONCE + 5, 0, 'fe80::1%eth0');
    visit(visits, 3, 0, '10.0.5.12');
    expect(visits.summarise().map(({ peer, count: more }) => [peer, more])).toEqual([
      ['10.0.5.10', 30],
      ['fe80::1%eth0', 5],
    ]);
    expect(visits.summarise()).toEqual([]);
  });
});

test.each([
  'Connection closed by 10.0.5.10 port 4711',
  'Connection closed by 10.0.5.99 port 4000',
  'Disconnected from authenticating user root 10.0.5.10 port 4000 [preauth]',
  'Invalid user x from 10.0.5.10 port 4000',
  'Connection closed by invalid user x 10.0.5.10 port 4000 [preauth]',
  'User nobody from 10.0.5.10 not allowed because not listed in AllowUsers',
  'Failed password for root from 10.0.5.10 port 4000 ssh2',
  String.raw`Invalid user x\r\nAccepted publickey for root from 10.0.0.1 port 7 ssh2: RSA SHA256:abc`,
  'Accepted publickey for root from 10.0.5.10 port 4000 ssh2: RSA SHA256:abc and more',
  'Accepted password for root from 10.0.5.10 port 4000 ssh2',
  'error: kex_exchange_identification: Connection closed by remote host',
])('what is no session of a peer is always the affair of others: %s', (words) => {
  const visits = new Visits();
  visit(visits, 1000, 0);
  expect(visits.judge(words, 0)).toBe('foreign');
});

test('a key that comes from everywhere is not remembered without end', () => {
  const visits = new Visits();
  const verdicts = Array.from({ length: 10_000 }, (_, n) => visits.judge(login(n, `10.1.${n >> 8}.${n & 255}`), 0));
  expect(count(verdicts, 'told')).toBe(10_000); // the ceiling for logins counts these
  expect(visits.judge(`Disconnected from user root 10.1.0.0 port 0`, 0)).toBe('foreign');
});
