import { expect, test } from 'bun:test';
import { Crowd, MAX_CONNECTIONS } from '../../../src/backup/crowd.ts';
import { LOGIN_SECONDS, MAX_STRANGERS } from '../../../src/backup/sshd-options.ts';

/** Connections by number, the oldest first, and those over which something runs. */
class Connections {
  list: number[] = [];
  busy: number[] = [];
  ended: number[] = [];
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
  sshd.list = upTo(MAX_CONNECTIONS + MAX_STRANGERS + 2);
  new Crowd(sshd).inspect(0);
  expect(sshd.ended).toEqual([74, 73]);
});
