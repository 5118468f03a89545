/** The stories of docs/recovery.md, told by its own commands: for containers and for hosts with systemd alike. */

import { expect, test } from 'bun:test';
import { eventually } from './processes.ts';
import { type Done, type Kind, type Side, type Step, stepsOf, take } from './recovery-page.ts';

/** Two hosts. */
export interface Hosts {
  kind: Kind;
  /** Runs commands in a shell of a host. */
  run: (side: Side, code: string) => Done;
  /** Runs commands in the tree of a host, with all rights; returns what they print. @throws where they fail */
  inTree: (side: Side, script: string) => string;
  /** Puts another, empty disk in the place of the source's. */
  replaceDisk: () => void;
  /** Puts a new machine in the place of the source, with nothing of the old one. */
  replaceSource: () => void;
  /** Starts the service of a side for the first time; that of the backup has published its host keys at the end. */
  start: (side: Side) => Promise<void>;
}

/** The time that stands for all times on the page. */
const TIME = '2025-10-09 12:00:00';
const NEW_HOST = 'The host is new as well';

/** What a tree holds, with owners, modes and the times of files. */
const LIST = `find . -path ./.history -prune -o -type d -printf '%p %m %U:%G\\n' -o -printf '%p %m %U:%G %T@\\n' | sort
  find . -path ./.history -prune -o -type f -print0 | sort -z | xargs -0 md5sum`;

const FILL = `mkdir -p web/img; for n in 1 2 3; do echo "page $n" >web/$n.html; done; echo logo >web/img/logo; echo note >notes.txt
  chown -R 1000:1001 web; chmod 2750 web; chmod 640 web/1.html; touch -d '2001-02-03 04:05:06.123456789' web/3.html`;

const ENCRYPT = 'cd web; for n in 1 2 3; do echo x >$n.html; mv $n.html $n.html.locked; done; echo pay >READ.ME';

/** Does the steps in order, each on its host. @param values what is written in the place of what the page has */
export async function play(hosts: Hosts, steps: readonly Step[], values: Record<string, string> = {}): Promise<void> {
  for (const step of steps)
    await take(step, (code) =>
      hosts.run(
        step.on,
        Object.entries(values).reduce((text, [from, to]) => text.replaceAll(from, to), code),
      ),
    );
}

/** Divides steps before the first one that has a command. @throws where none has it */
function divide(steps: readonly Step[], command: string): [Step[], Step[]] {
  const n = steps.findIndex(({ code }) => code.includes(command));
  if (n < 0) throw new Error(`no step has ${command}`);
  return [steps.slice(0, n), steps.slice(n)];
}

/** Lets a second pass, and says what time it is then: what came before is older, what comes after it returns is younger. */
async function moment(): Promise<string> {
  await Bun.sleep(1100);
  const now = new Date().toISOString().replace('T', ' ').slice(0, 19);
  await Bun.sleep(1100);
  return now;
}

/** Has both hosts run, with a tree that is mirrored. */
export async function begin(hosts: Hosts): Promise<void> {
  await hosts.start('backup');
  await play(hosts, stepsOf(NEW_HOST, hosts.kind));
  await hosts.start('source');
  hosts.inTree('source', FILL);
  await isMirrored(hosts);
}

const list = (hosts: Hosts, side: Side) => hosts.inTree(side, LIST);

function expectBoth(hosts: Hosts, listing: string): void {
  expect(list(hosts, 'source')).toBe(listing);
  expect(list(hosts, 'backup')).toBe(listing);
}

const isMirrored = (hosts: Hosts) =>
  eventually(() => list(hosts, 'backup') === list(hosts, 'source'), 60_000).catch((error) => {
    throw new Error(`${error}\n${list(hosts, 'source')}\n${list(hosts, 'backup')}`);
  });

/** What happens in each story, which the page is then to put right. */
const STORIES: Record<string, (hosts: Hosts, stepsBelow: (heading: string) => Step[]) => Promise<void>> = {
  'the source’s disk is gone': async (hosts, stepsBelow) => {
    const before = list(hosts, 'source');
    const [first, rest] = divide(stepsBelow("The source's disk is gone"), '--allow-restore');
    await play(hosts, first);
    hosts.replaceDisk();
    await play(hosts, rest);
    expectBoth(hosts, before);
  },

  'somebody deleted a directory': async (hosts, stepsBelow) => {
    const before = list(hosts, 'source');
    const time = await moment();
    hosts.inTree('source', 'rm -r web');
    await isMirrored(hosts);
    await play(hosts, stepsBelow('Somebody deleted a directory'), { [TIME]: time });
    expectBoth(hosts, before);
  },

  ransomware: async (hosts, stepsBelow) => {
    const before = list(hosts, 'source');
    const time = await moment();
    hosts.inTree('source', ENCRYPT);
    await isMirrored(hosts);
    const [frozen, rest] = divide(stepsBelow('Ransomware'), '--demote');
    await play(hosts, frozen, { [TIME]: time });
    hosts.inTree('source', 'echo worse >web/img/logo'); // it goes on, and nothing of it comes
    hosts.replaceSource();
    await play(hosts, [...stepsBelow(NEW_HOST), ...rest]);
    expectBoth(hosts, before);
  },

  'the backup has to serve': async (hosts, stepsBelow) => {
    const before = list(hosts, 'backup');
    await play(hosts, stepsBelow('The backup has to serve'));
    hosts.inTree('source', 'echo late >late.txt');
    expect(list(hosts, 'backup')).toBe(before);
    hosts.inTree('backup', 'echo new >new.txt; chown 1002:1003 new.txt; echo changed >web/2.html; rm notes.txt');
  },

  'and back again': async (hosts, stepsBelow) => {
    const [toSource, rest] = divide(stepsBelow('And back again'), '--status');
    await play(hosts, toSource);
    const [whileServing, swap] = divide(rest, '--verify');
    await play(hosts, whileServing);
    hosts.inTree('backup', 'echo later >later.txt; chown 1004:1005 later.txt');
    await isMirrored(hosts);
    const served = list(hosts, 'backup');
    expect(served).toContain('./new.txt 644 1002:1003 ');
    await play(hosts, swap);
    expectBoth(hosts, served);
    hosts.inTree('source', 'echo again >again.txt');
    await isMirrored(hosts);
  },
};

/** Declares a test for each story, in the order of the page: each begins where the one before has ended. */
export function tellStories(hosts: Hosts): void {
  const stepsBelow = (heading: string) => stepsOf(heading, hosts.kind);
  for (const [name, tell] of Object.entries(STORIES)) test(name, () => tell(hosts, stepsBelow));
}
