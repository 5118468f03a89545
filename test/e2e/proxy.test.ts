/** A proxy in the environment of both programs: reports go through it, and nothing else does. */

import { expect, setDefaultTimeout, test } from 'bun:test';
import { writeFileSync } from 'node:fs';
import { ForwardProxy } from '../forward-proxy.ts';
import { Pair } from '../pair.ts';
import { eventually } from '../processes.ts';
import { Services } from '../services.ts';

setDefaultTimeout(120_000);

const HOST = 'receiver.example.org';

/** All variables by which some program or other is told of a proxy. */
const byAllNames = (url: string) => ({
  ...{ HTTP_PROXY: url, HTTPS_PROXY: url, ALL_PROXY: url, http_proxy: url, https_proxy: url, all_proxy: url },
  RSYNC_PROXY: new URL(url).host,
});

test('reports and heartbeats go through a proxy, and what is mirrored does not', async () => {
  await using pair = await Pair.withKeys('proxy-reports');
  await using services = new Services();
  await using proxy = await ForwardProxy.start({ [HOST]: new URL(services.origin).host });
  const env = {
    ...byAllNames(proxy.url),
    NOTIFY_URL: `http://${HOST}/json/one https://${HOST}:8443/json/two`,
    NOTIFY_AFTER: '0',
  };
  const source = pair.start('rsync-inotify', { ...env, HEARTBEAT_URL: `http://${HOST}/heartbeat/source` });
  await services.takes('json'); // that it has not begun to mirror
  pair.start('start-sshd', { ...env, HEARTBEAT_URL: `http://${HOST}/heartbeat/backup` });
  await source.shows('服务运行中');
  writeFileSync(pair.path('source', 'file'), 'mirrored past the proxy');
  await pair.isMirrored();
  await eventually(() => services.asked.heartbeat === 2);
  expect(new Set(proxy.asked)).toEqual(
    new Set([
      `POST http://${HOST}/json/one`,
      `CONNECT ${HOST}:8443`,
      ...['source', 'backup'].map((name) => `GET http://${HOST}/heartbeat/${name}`),
    ]),
  );
});

test('a receiver that NO_PROXY names is reached without the proxy', async () => {
  await using pair = await Pair.withKeys('no-proxy');
  await using services = new Services();
  await using proxy = await ForwardProxy.start();
  const NOTIFY_URL = services.urls.json ?? '';
  const source = pair.start('rsync-inotify', {
    ...{ ...byAllNames(proxy.url), NO_PROXY: 'localhost,127.0.0.1', NOTIFY_URL, NOTIFY_AFTER: '0' },
  });
  await services.takes('json');
  expect(proxy.asked).toEqual([]);
  expect(source.running).toBe(true);
});
