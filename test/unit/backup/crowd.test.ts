import { expect, test } from 'bun:test';
import { Crowd, MAX_CONNECTIONS } from '../../../src/backup/crowd.ts';
import { LOGIN_SECONDS, MAX_STRANGERS } from '../../../src/backup/sshd-options.ts';
import { count } from '../../processes.ts';
import { keepLog } from '../mirror/stand-ins.ts';

/** Connections by number, the oldest first, and those over which something runs. */
class Connections {
  list: number[] = [];
  busy: number[] = [];
  ended: number[] = [];
  owners = new Map<number, string>();
  owned = () => this.owners;
  connections = () => this.list;
  commandsOf = (pid: number) => (this.busy.includes(pid) ? [pid + 10_000] : []);
  end = (pids: number[]) => {
    this.ended.push(...pids);
    this.list = this.list.filter((pid) => !pids.includes(pid));
    return pids.length;
  };
}

const LATER = (LOGIN_SECONDS + 6) * 1000;
const upTo = (most: number) => Array.from({ length: most }, (_, n) => n + 1);

test('as many connections stay as a source may need, however long', () => {
  const sshd = new Connections();
  const crowd = new Crowd(sshd);
  sshd.list = upTo(MAX_CONNECTIONS);
  for (const now of [0, LATER, 1e9]) crowd.inspect(now);
  expect(sshd.ended).toEqual([]);
});

test('strangers take no place from them', () => {
  const sshd = new Connections();
  const crowd = new Crowd(sshd);
  sshd.list = upTo(MAX_CONNECTIONS);
  crowd.inspect(0);
  for (let n = 1; n < 10; n++) {
    const strangers = upTo(MAX_STRANGERS).map((each) => n * 1000 + each);
    sshd.list = [...upTo(MAX_CONNECTIONS), ...strangers]; // which sshd ends after LOGIN_SECONDS
    crowd.inspect(n * LATER);
  }
  expect(sshd.ended).toEqual([]);
});

test('beyond, those end over which nothing runs, the youngest first, then the youngest', () => {
  const sshd = new Connections();
  const crowd = new Crowd(sshd);
  sshd.list = upTo(MAX_CONNECTIONS + 3);
  sshd.busy = upTo(MAX_CONNECTIONS + 3).filter((pid) => pid !== 5 && pid !== 1);
  crowd.inspect(0);
  expect(sshd.ended).toEqual([]);
  crowd.inspect(LATER);
  expect(sshd.ended).toEqual([5, 1, MAX_CONNECTIONS + 3]);
  crowd.inspect(2 * LATER);
  expect(sshd.ended).toHaveLength(3);
});

test('more than keys and strangers may have end at once', () => {
  const sshd = new Connections();
  const most = MAX_CONNECTIONS + MAX_STRANGERS;
  sshd.list = upTo(most + 2);
  new Crowd(sshd).inspect(0);
  expect(sshd.ended).toEqual([most + 2, most + 1]);
});

test('of several sources each may have as many, and one that has more takes none from the others', () => {
  const sshd = new Connections();
  const crowd = new Crowd(sshd, () => new Map([...sshd.owners.values()].map((key) => [key, key])));
  const keyOf = (pid: number) => (pid <= 40 ? 'SHA256:thief' : `SHA256:${pid % 50}`);
  sshd.list = upTo(340);
  sshd.busy = sshd.list;
  sshd.owners = new Map(sshd.list.map((pid) => [pid, keyOf(pid)]));
  for (const now of [0, LATER]) crowd.inspect(now);
  expect(sshd.ended.sort((a, b) => a - b)).toEqual([33, 34, 35, 36, 37, 38, 39, 40]);
});

test('it is told of one however often it was of another one', () => {
  const sshd = new Connections();
  const crowd = new Crowd(sshd, () => new Map([...sshd.owners.values()].map((key) => [key, key])));
  using log = keepLog();
  const told = (name: string) => count(log.text, `源端 ${name}：连接多达`);
  const crowdOf = (name: string) => {
    sshd.list = upTo(MAX_CONNECTIONS + 1);
    sshd.owners = new Map(sshd.list.map((pid) => [pid, name]));
    crowd.inspect(0);
  };
  for (let n = 0; n < 20; n++) crowdOf('flooding');
  crowdOf('quiet');
  expect([told('flooding'), told('quiet')]).toEqual([10, 1]);
  expect(sshd.ended).toHaveLength(21);
});

test('those of whom nothing is known because they run nothing are bounded beside the sources', () => {
  const sshd = new Connections();
  const crowd = new Crowd(sshd, () => new Map(upTo(60).map((n) => [`SHA256:${n}`, `web${n}`])));
  sshd.list = upTo(100);
  sshd.owners = new Map(upTo(60).map((pid) => [pid, `SHA256:${pid}`]));
  crowd.inspect(0);
  expect(sshd.ended).toEqual([]);
  crowd.inspect(LATER);
  expect(sshd.ended).toHaveLength(40 - MAX_CONNECTIONS);
  expect(Math.min(...sshd.ended)).toBeGreaterThan(60);
});
