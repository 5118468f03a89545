import { expect, test } from 'bun:test';
import { WatcherWords } from '../../../src/mirror/watcher-words.ts';

/** What is made of what an inotifywait says. */
function hear(...lines: string[]) {
  const words = new WatcherWords();
  const meanings = lines.map((line) => words.hear(line));
  return { complaints: lines.filter((_, n) => meanings[n] === 'complaint'), meanings, words };
}

const SETTING_UP = 'Setting up watches.  Beware: since -r was given, this may take a while!';

test('what each version says as a matter of course is no complaint', () => {
  const { meanings } = hear(
    SETTING_UP,
    'Watches established.',
    'Watching new directory /data/source/new/', // 4.25
    "Couldn't watch new directory /data/source/new/: Permission denied",
    "Couldn't watch new directory /data/source/new/: File name too long",
    "Couldn't watch new directory /data/source/gone/: No such file or directory",
    'Error removing watch on /data/source/gone/: Invalid argument',
    'Failed to remove watch: Invalid argument',
  );
  expect(meanings).toEqual(['nothing', 'established', ...Array(6).fill('nothing')]);
});

test('a directory whose name holds line ends says nothing with them', () => {
  const { meanings } = hear(
    'Watching new directory /data/source/a',
    'Watches established.',
    'b/',
    "Couldn't watch new directory /data/source/a",
    'b/: Permission denied',
    'a complaint',
  );
  expect(meanings).toEqual([...Array(5).fill('nothing'), 'complaint']);
});

test('what it gives up with is told once it has ended, and safely', () => {
  const { complaints, words } = hear(SETTING_UP, "Couldn't watch /data/\u001b[31m/: File name too long");
  expect(complaints).toEqual([]);
  expect(words.last).toBe("Couldn't watch /data/\\x1b[31m/: File name too long");
  expect(words.advice).toBeUndefined();
});

test.each([
  [
    'sysctl fs.inotify.max_user_instances=1024',
    [
      "Couldn't initialize inotify: Too many open files",
      'Try increasing the value of /proc/sys/fs/inotify/max_user_instances',
    ],
  ],
  ['sysctl fs.inotify.max_user_instances=1024', ["Couldn't initialize inotify: Too many open files"]],
  ['sysctl fs.file-max=1048576', ["Couldn't initialize inotify: Too many open files in system"]],
  [
    'sysctl fs.inotify.max_user_watches=1048576',
    [
      'Failed to watch /data/source/; upper limit on inotify watches reached!',
      "Please increase the amount of inotify watches allowed per user via `/proc/sys/fs/inotify/max_user_watches'.",
    ],
  ],
  ['ulimit -n', ["Couldn't watch /data/source/: Too many open files"]],
])('%s is the advice where a limit is reached', (advice, lines) => {
  expect(hear(SETTING_UP, ...lines).words.advice).toContain(advice);
});

test('no limit is raised for what is none', () => {
  expect(hear(SETTING_UP, "Couldn't watch /data/source/: Input/output error").words.advice).toBeUndefined();
});
