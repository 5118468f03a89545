import { afterEach, beforeEach, expect, spyOn, test } from 'bun:test';
import { summariseAll } from '../../../src/backup/ceiling.ts';
import { Claimants } from '../../../src/backup/claimants.ts';

const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAYGE0lfYmAuzuREskpaFaIAk+d4trqBgd/TPs7aRZN';
const [ONE, OTHER] = [`${KEY}/ root@one`, `${KEY}+ root@\u202eother`];

let said: string[] = [];
let spy: { mockRestore: () => void };
beforeEach(() => {
  said = [];
  spy = spyOn(process.stdout, 'write').mockImplementation((text) => Boolean(said.push(String(text))));
});
afterEach(() => {
  summariseAll();
  spy.mockRestore();
});

test('a claim is told once, with both keys and the file, and again when it is another one', () => {
  const claimants = new Claimants();
  for (const content of [ONE, ONE, OTHER, OTHER]) claimants.tell(new Map([['web1', content]]), () => 'SHA256:in-force');
  expect(said).toHaveLength(2);
  expect(said[0]).toMatch(
    /WARN.*源端 web1：另一台主机也要用这个名称，它的公钥 SHA256:\S+（root@one）没有生效，生效的仍是 SHA256:in-force。.*sources\/web1\.claim/,
  );
  expect(said[1]).not.toContain('\u202e');
});

test.each<[string, string, (name: string) => string]>([
  ['is no key', 'rubbish', () => 'SHA256:in-force'],
  ['is empty', '', () => 'SHA256:in-force'],
  ['is of a name without a key in force', ONE, () => ''],
])('one that %s is not told', (_, content, fingerprintOf) => {
  new Claimants().tell(new Map([['web1', content]]), fingerprintOf);
  expect(said).toEqual([]);
});

test('of very many, the first are told', () => {
  const claimants = new Claimants();
  for (let n = 0; n < 100; n++) claimants.tell(new Map([['web1', `${ONE} ${n}`]]), () => 'SHA256:in-force');
  expect(said).toHaveLength(20);
  expect(said.at(-1)).toContain('只计数');
});
