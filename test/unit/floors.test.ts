import { expect, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { modules, ROOT } from '../project.ts';

/** The rooms of src/, each in the order in which its modules stand on each other: one imports only what is named before it. */
const SERVICE =
  'english language text foreign-lines lines files foreign patience glance log user libc landlock locks keys intake processes orphans mounts lifecycle variables secret-urls requests receivers incidents incident-memory report-words reporter heartbeat status source-names reporting metrics web duration control'.split(
    ' ',
  );
const MIRROR = [
  'rsync-options filter-pattern rule-lines filter-rules options destinations own-options daemon-settings config environment option-warnings memory held allowance daemon-words ssh check login-words claims keys events changes dating moves departures estimate renames scopes hollows source near-rules parts',
  'watchable places foothold mount-states mounts source-guard excerpt spell announcer doubts',
  'unwatched terrain directories watcher-words vigil inotifywait inotifywaits coverage',
  'progress differences told-paths faults size-limit rsync report unread unmirrored absence voice last-hour unsent later target-state markers watch published-keys host-keys link connection daemon-link backup-guard nesting restoring pause rivals standstill errands remote-renames hangup',
  'tally rule-files census ledger forecast losses brake brakes transfers untold removals pruning whole-tree large-files beside own-line by-content waiting peer sender division flaws failures retries recovery target backups barrier commands status metrics monitor comparison readability horizon verify restore-wish fetching restore',
].flatMap((line) => line.split(' '));
const BACKUP = [
  'programs receiver-options config doors door-choice promotion-mark promotion-marks confinement sender-options admission history-names held-tree history-copy history-moves history-door identification receipt-mark renames removals errands session-reports room destination mount-memory door-mounts home ceiling sources leave door-reports reports letter-case seclusion slots seccomp-filter seccomp history-guard',
  'sender-session forced-command authorized-keys sshd-options records remnants strays owners visits sshd crowd stalls links inner-mounts clean-mark aftermath unmounts entrance guard key-sessions published-sources claimants door-rooms source-keys promotion history-clock history-sessions history-tender history histories history-lookup history-archive history-recover history-listing history-answers promotion-answers commands source-status status monitor',
].flatMap((line) => line.split(' '));

const room = (name: string, floors: string[]) => floors.map((floor) => `src/${name}/${floor}.ts`);
/** A program stands on its own room, and that on the common one; nothing leads from one program to the other. */
const TOWERS = [
  [...room('service', SERVICE), ...room('mirror', MIRROR), 'scripts/rsync-inotify.ts'],
  [...room('service', SERVICE), ...room('backup', BACKUP), 'scripts/start-sshd.ts', 'src/start-sshd.ts'],
];
/** What is no code may be imported from anywhere. */
const DATA = ['package.json', 'src/mirror/status.html'];

const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
/** Where the imports of a module lead within the project, those of types and those at run time among them. */
const importsOf = (path: string) =>
  [...read(path).matchAll(/\b(?:from|import|require)\b\s*\(?\s*'(\.{1,2}\/[^']+)'/g)].map(([, to = '']) =>
    join(dirname(path), to),
  );
const standsOn = (upper: string, lower: string) =>
  TOWERS.some((tower) => tower.includes(lower) && tower.indexOf(lower) < tower.indexOf(upper));

test('every module has its floor, and scripts/ holds the two programs alone', () => {
  expect([...new Set(TOWERS.flat())].sort()).toEqual(modules());
});

test('CONTRIBUTING.md lists them in this order', () => {
  const listed = [...read('CONTRIBUTING.md').matchAll(/^ {2}([\w-]+)\.ts +\S/gm)].map(([, name = '']) => name);
  expect(listed).toEqual([...SERVICE, ...MIRROR, ...BACKUP]);
});

test.each(modules())('%s imports only what it stands on', (path) => {
  expect(importsOf(path).filter((to) => !DATA.includes(to) && !standsOn(path, to))).toEqual([]);
});

/** Nobody reads the catalogue from top to bottom, and each text in it stands by itself. */
const CATALOGUE = 'src/service/english.ts';

test.each(modules().filter((path) => path !== CATALOGUE))('%s is short enough to be read at once', (path) => {
  const limit = path === 'scripts/start-sshd.ts' ? 250 : 350;
  expect(read(path).trimEnd().split('\n').length).toBeLessThanOrEqual(limit);
});
