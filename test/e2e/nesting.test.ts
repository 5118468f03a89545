/** A target on the machine of the source itself: within the source it would grow without end, around it the source would be deleted. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';

import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { mayHaveNamespace, Namespace } from '../namespace.ts';
import { Pair, userName } from '../pair.ts';
import { eventually, freePort } from '../processes.ts';

setDefaultTimeout(120_000);

/** A pair whose source holds a file, and whose target is a directory below that of the pair. */
async function nested(directory: string, env: Record<string, string> = {}) {
  const pair = await Pair.withKeys('nested');
  mkdirSync(pair.path('source', 'deep'));
  writeFileSync(pair.path('source', 'deep', 'file'), 'content');
  const DEST_DIR = `${pair.path(directory)}/`;
  return { pair, DEST_DIR, env: { DEST_DIR, SYNC_INTERVAL: '0', ...env } };
}

const holdsAll = (pair: Pair) => existsSync(pair.path('source', 'deep', 'file'));

describe('is refused at the start', () => {
  test.each([
    ['within the source', 'source/backup', '-a', '/', /位于源目录 .* 之内/],
    ['within the source, where filters leave out something else', 'source/backup', '-a --exclude=/back', '/', /之内/],
    ['that is the source itself, which has no slash', '.', '-a', '', /位于源目录 .* 之内/],
    ['around the source', '.', '-a --delete', '/', /源目录 .* 位于其中，同步时的删除会删掉源目录本身/],
  ])('%s', async (_, directory, RSYNC_OPTS, end, expected) => {
    const { pair: made, DEST_DIR, env } = await nested(directory, { RSYNC_OPTS });
    await using pair = made;
    pair.start('start-sshd', { DEST_DIR });
    const source = pair.start('rsync-inotify', { ...env, SOURCE_DIR: `${pair.path('source')}${end}` });
    expect(await source.exited).toBe(2);
    expect(source.output).toMatch(/\[ERROR .*\] 配置错误: .* 就在本机上/);
    expect(source.output).toMatch(expected);
    expect(holdsAll(pair)).toBe(true);
    expect(existsSync(pair.path('source', 'backup', 'deep'))).toBe(false);
  });

  test('behind an sshd of any other kind, by a path that is not there yet', async () => {
    const { pair: made, env } = await nested('source/backup/web');
    await using pair = made;
    await pair.startPlainSshd();
    const source = pair.start('rsync-inotify', env);
    expect(await source.exited).toBe(2);
    expect(source.output).toMatch(/位于源目录 .* 之内/);
    expect(existsSync(pair.path('source', 'backup'))).toBe(false);
  });

  test('beside others', async () => {
    const { pair: made, DEST_DIR, env } = await nested('.');
    await using pair = made;
    pair.start('start-sshd', { DEST_DIR });
    const host = `${userName()}@127.0.0.1`;
    const DEST_HOSTS = `${host}:${pair.path('backup')}/ ${host}:${pair.path('source', 'backup')}/`;
    const source = pair.start('rsync-inotify', { ...env, DEST_HOSTS });
    expect(await source.exited).toBe(2);
    expect(source.output).toMatch(/位于源目录 .* 之内/);
    expect(existsSync(pair.path('source', 'backup', 'deep'))).toBe(false);
  });
});

test('is refused when it comes late, too', async () => {
  const { pair: made, env } = await nested('backup');
  await using pair = made;
  const port = await freePort();
  const entry = (name: string, its: number) => `Host ${name}\nHostName 127.0.0.1\nPort ${its}\n`;
  writeFileSync(pair.path('config'), entry('early', pair.port) + entry('late', port));
  pair.start('start-sshd');
  const source = pair.start('rsync-inotify', {
    ...env,
    DEST_HOSTS: `early:${pair.path('backup')}/ late:${pair.path('source', 'copy')}/`,
    SSH_OPTS: `-F ${pair.path('config')}`,
    MAX_RETRIES: '1',
  });
  await source.shows(/SSH 服务未就绪.*late:.*此目标恢复后自动加入/);
  await pair.startPlainSshd(port);
  expect(await source.exited).toBe(2);
  expect(source.output).toMatch(/配置错误: .*late:.* 就在本机上，位于源目录 .* 之内/);
});

describe('is mirrored to', () => {
  test.each([
    ['around the source, where nothing is deleted', '.', '-a', 'deep'],
    [
      'within the source, where it is left out',
      'source/backup',
      '-a --delete --exclude=/backup/',
      'source/backup/deep',
    ],
  ])('%s', async (_, directory, RSYNC_OPTS, copy) => {
    const { pair: made, DEST_DIR, env } = await nested(directory, { RSYNC_OPTS });
    await using pair = made;
    pair.start('start-sshd', { DEST_DIR });
    await pair.start('rsync-inotify', env).shows('✓ 服务运行中');
    await eventually(() => existsSync(pair.path(copy, 'file')));
    expect(existsSync(pair.path('source', 'backup', 'backup'))).toBe(false);
    expect(holdsAll(pair)).toBe(true);
  });

  test.skipIf(!mayHaveNamespace())('by a path that is another directory there, as in a container', async () => {
    const { pair: made, DEST_DIR, env } = await nested('source/backup');
    await using pair = made;
    await using namespace = await Namespace.make();
    mkdirSync(DEST_DIR);
    namespace.run('mount -t tmpfs tmpfs "$1"', DEST_DIR);
    pair.keep(pair.start('start-sshd', { DEST_DIR }, namespace.wrapper));
    await pair.start('rsync-inotify', env).shows('✓ 服务运行中');
    expect(namespace.run('find "$1" -type f', DEST_DIR)).toBe(`${DEST_DIR}deep/file\n`);
  });
});
