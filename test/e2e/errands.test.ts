/**
 * What is deleted in the source is deleted in the backup by name, by a helper that waits there. The source's key must not get it to do
 * anything outside of the backup, nor what it was not told.
 */
import { expect, setDefaultTimeout, test } from 'bun:test';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, lstatSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Pair } from '../pair.ts';
import { content, eventually } from '../processes.ts';
import { ROOT } from '../project.ts';
import { Thief } from '../thief.ts';
import { bytes, namesIn } from '../tree.ts';

setDefaultTimeout(120_000);

/** A helper that waits at the backup, as the key can have it, and what it has said so far. */
class Helper {
  said = '';
  private readonly ssh: ChildProcess;
  readonly ended: Promise<unknown>;

  constructor(thief: Thief, directory: string) {
    this.ssh = spawn('ssh', [...thief.sshOptions, thief.host, '--', `start-sshd --errands '${directory}'`]);
    for (const stream of [this.ssh.stdout, this.ssh.stderr])
      stream?.on('data', (chunk) => {
        this.said += chunk;
      });
    this.ended = once(this.ssh, 'close');
  }

  /** Waits for what it says next, one line. */
  async hear(): Promise<string> {
    await eventually(() => this.said.includes('\n'));
    const [line = '', ...rest] = this.said.split('\n');
    this.said = rest.join('\n');
    return line;
  }

  tell(fields: string[]): void {
    this.ssh.stdin?.write(bytes(fields.map((field) => `${field}\0`).join('')));
  }

  ask(orders: string[], most = 1000): Promise<string> {
    this.tell([`${most}`, ...orders, '']);
    return this.hear();
  }

  end(): Promise<unknown> {
    this.ssh.stdin?.end();
    return this.ended;
  }
}

async function thiefAt(name: string, env: Record<string, string> = {}, wrapper: string[] = []) {
  const pair = await Pair.withKeys(name);
  const thief = new Thief(pair);
  mkdirSync(pair.path('backup'));
  const backup = pair.start('start-sshd', env, wrapper);
  await backup.shows('SSH 服务器就绪');
  return { pair, thief, backup, [Symbol.asyncDispose]: () => pair[Symbol.asyncDispose]() };
}

const WITHOUT_LANDLOCK = [process.execPath, '--no-env-file', join(ROOT, 'test', 'without-landlock.ts')];

test.each([
  ['with Landlock', []],
  ['without', WITHOUT_LANDLOCK],
])(
  'the helper deletes what it is told below the backup, and follows no link and no way out: %s',
  async (_, wrapper) => {
    await using bed = await thiefAt('errands', {}, wrapper);
    const { pair, thief } = bed;
    const at = (...names: string[]) => pair.path('backup', ...names);
    const helper = new Helper(thief, at());
    expect(await helper.hear()).toBe('ready');
    for (const name of ['a', 'b', 'new\nline', 'kept']) writeFileSync(at(name), name);
    writeFileSync(bytes(`${at()}/\xff\xfe`), '');
    mkdirSync(at('d', 'e', 'f'), { recursive: true });
    writeFileSync(at('d', 'e', 'g'), '');
    for (const [name, target] of Object.entries({ out: '../outside', chain: 'out', far: pair.path('outside') }))
      symlinkSync(target, at(name));
    symlinkSync('../../outside', at('d', 'out'));
    const before = thief.outside;
    expect(await helper.ask(['fa', 'fnew\nline', 'f\xff\xfe', 'fno', 'rb', 'n/b'])).toBe('1 3 - 3');
    const ways = [
      'out/secret',
      'chain/secret',
      'far/secret',
      'd/out/secret',
      '../outside/secret',
      'd/../../outside/secret',
    ];
    const odd = ['', '.', '..', '/', '../', 'd/', './kept', 'd/.', pair.path('outside', 'secret'), 'kept/x', 'd//e'];
    const asked = [...ways, ...odd, 'out/deep', '../outside', '../outside/deep'].flatMap((path) => [
      `f${path}`,
      `d${path}`,
    ]);
    expect(await helper.ask(asked)).toMatch(/^0 0 [\d,]+ -$/);
    expect(await helper.ask(['fd', 'dkept', 'dout'])).toBe('0 0 0,1,2 -'); // they are something else
    expect(await helper.ask(['dd'], 3)).toBe('0 3 0 -');
    expect(await helper.ask(['dd', 'fchain'])).toMatch(/^0 [23] - -$/);
    expect(await helper.ask(['ffar', 'fout'])).toBe('0 2 - -');
    expect(namesIn(at())).toEqual(['kept', 'n']);
    expect(thief.outside).toEqual(before);
    await helper.end();
  },
);

test('a helper that waits looks again who may use it and where the backup is, and what it does not understand ends it', async () => {
  await using bed = await thiefAt('errands-again');
  const { pair, thief, backup } = bed;
  const at = (...names: string[]) => pair.path('backup', ...names);
  writeFileSync(at('a'), '');
  for (const orders of [['xa'], ['a'], [`f${'x'.repeat(5000)}`]]) {
    const helper = new Helper(thief, at());
    expect(await helper.hear()).toBe('ready');
    helper.tell(['1000', ...orders, '']);
    await helper.ended;
    expect(helper.said).toContain('拒绝执行');
  }
  const waiting = new Helper(thief, at());
  expect(await waiting.hear()).toBe('ready');
  renameSync(at(), pair.path('aside'));
  mkdirSync(at());
  writeFileSync(at('a'), 'of another directory');
  waiting.tell(['1000', 'fa', '']);
  await waiting.ended;
  expect(existsSync(at('a'))).toBe(true);
  expect(existsSync(pair.path('aside', 'a'))).toBe(true);
  await backup.shows('start-sshd --errands');
});

test('where REFUSE_OPTIONS forbids to delete, the helper renames only', async () => {
  await using bed = await thiefAt('errands-refused', { REFUSE_OPTIONS: 'delete*' });
  const { pair, thief } = bed;
  const helper = new Helper(thief, pair.path('backup'));
  expect(await helper.hear()).toBe('ready');
  writeFileSync(pair.path('backup', 'a'), '');
  expect(await helper.ask(['ra', 'b'])).toBe('1 0 - -');
  expect(await helper.ask(['fb', 'fno'])).toBe('0 0 0 1');
  await helper.end();
  expect(existsSync(pair.path('backup', 'b'))).toBe(true);
});

test('what is deleted is deleted by name, with what lies beside it not looked at', async () => {
  await using pair = await Pair.withKeys('errands-mirror');
  const at = (...names: string[]) => pair.path('source', ...names);
  const there = (...names: string[]) => pair.path('backup', ...names);
  mkdirSync(at('d'));
  mkdirSync(at('e', 'f'), { recursive: true });
  for (const name of ['a', 'b', '中文 ✓', 'd/a', 'd/b', 'e/f/g']) writeFileSync(at(name), name);
  const { source } = await pair.run({ SYNC_INTERVAL: '0', RSYNC_OPTS: '-ai --delete --exclude=/x/' });
  await pair.isMirrored();
  await pair.deletesByName('d');
  for (const name of ['beside', 'd/beside']) writeFileSync(there(name), ''); // a comparison of the directory would delete it
  rmSync(at('d', 'a'));
  await eventually(() => !existsSync(there('d', 'a')));
  await source.shows(/\*deleting {3}d\/a\n/);
  writeFileSync(at('d', 'tmp'), 'saved');
  renameSync(at('d', 'tmp'), at('d', 'b'));
  await eventually(() => content(there('d', 'b')) === 'saved');
  for (const name of ['a', '中文 ✓']) rmSync(at(name));
  rmSync(at('e'), { recursive: true });
  await eventually(() => ['a', 'e', '中文 ✓'].every((name) => !existsSync(there(name))));
  const timesOf = (root: string) => ['', 'd'].map((name) => lstatSync(pair.path(root, name)).mtimeMs).join();
  await eventually(() => timesOf('source') === timesOf('backup'));
  expect([existsSync(there('beside')), existsSync(there('d', 'beside'))]).toEqual([true, true]);
});
