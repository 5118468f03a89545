import { describe, expect, test } from 'bun:test';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { basename, dirname, join } from 'node:path';
import { answerOf, ask, type Command, serve, serveAlone, socketOf } from '../../../src/service/control.ts';
import { complaints, onShow } from '../../../src/service/status.ts';
import { Failure } from '../../../src/service/text.ts';
import { isRoot } from '../../pair.ts';
import { eventually } from '../../processes.ts';
import { scratch } from './scratch.ts';

const echo: Command = async ({ command, ...fields }) => ({ isDone: true, text: JSON.stringify(fields) });

/** What a server on a socket answers to bytes as they are. */
async function rawAnswer(path: string, bytes: string): Promise<string> {
  const socket = connect(path).setEncoding('utf8');
  let answer = '';
  socket.on('data', (chunk: string) => {
    answer += chunk;
  });
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write(bytes);
  await once(socket, 'end');
  socket.destroy();
  return answer;
}

describe('a command for a running service', () => {
  test('gets what it asks with, and gives back what was done', async () => {
    using directory = scratch();
    const path = socketOf(join(directory.path, 'status.json'));
    expect(basename(path)).toBe('status.json.sock');
    const close = await serve(path, { echo });
    const text = '{"for":"10m","name":"换行\\n"}';
    expect(await ask(path, { command: 'echo', for: '10m', name: '换行\n' })).toMatchObject({ isDone: true, text });
    await close();
    expect(readdirSync(directory.path)).toEqual([]);
  });

  test('is answered when whoever looks sees what it has done', async () => {
    using directory = scratch();
    const path = join(directory.path, 's');
    const [state, seen] = [{ isPaused: false }, { isPaused: false }];
    const end = onShow(async () => {
      await Bun.sleep(20); // a disk is not that fast
      Object.assign(seen, state);
    });
    const pause: Command = async () => ({ isDone: Boolean(Object.assign(state, { isPaused: true })), text: '' });
    const close = await serve(path, { pause });
    expect(await ask(path, { command: 'pause' })).toMatchObject({ isDone: true, text: '' });
    expect(seen.isPaused).toBe(true);
    end();
    await close();
  });

  test('is refused where the service does not know it, or it fails, with the reason', async () => {
    using directory = scratch();
    const path = join(directory.path, 's');
    const fail: Command = () => Promise.reject(new Error('no\nroom'));
    const err: Command = () => Promise.reject(new Failure('no such name', 2));
    const close = await serve(path, { fail, err });
    const failure = await ask(path, { command: 'fail' });
    expect(failure).toMatchObject({ isDone: false, text: 'no\\nroom' });
    expect(answerOf(failure)).toEqual({ text: 'no\\nroom\n', status: 1 });
    expect(answerOf(await ask(path, { command: 'err' }))).toEqual({ text: 'no such name\n', status: 2 });
    for (const command of ['other', 'constructor', 'toString'])
      expect(await ask(path, { command })).toMatchObject({
        isDone: false,
        text: `正在运行的服务不支持命令 ${command}`,
      });
    await close();
  });

  test('is one line of 64 KiB at most, and so is the reply', async () => {
    using directory = scratch();
    const path = join(directory.path, 's');
    const close = await serve(path, { echo, long: async () => ({ isDone: true, text: '长'.repeat(100_000) }) });
    expect(JSON.parse(await rawAnswer(path, `{"command":"echo","a":"${'x'.repeat(70_000)}`))).toMatchObject({
      isDone: false,
      text: '超过 65536 字节',
    });
    for (const wrong of ['nonsense\n', '[]\n', 'null\n', '7\n', '\n'])
      expect(JSON.parse(await rawAnswer(path, wrong)).isDone).toBe(false);
    expect((await ask(path, { command: 'long' })).text.length).toBe(10_000);
    await close();
  });

  test('learns that nobody waits for it any more', async () => {
    using directory = scratch();
    const path = join(directory.path, 's');
    const { promise, resolve } = Promise.withResolvers<void>();
    const wait: Command = async (_, gone) => {
      gone.addEventListener('abort', () => resolve());
      await promise;
      return { isDone: true, text: '' };
    };
    const close = await serve(path, { wait });
    expect(ask(path, { command: 'wait' }, 200)).rejects.toThrow('服务没有应答');
    await promise;
    await close();
  });
});

describe('the socket', () => {
  test('may be entered by its user alone, and nothing else is left beside it', async () => {
    using directory = scratch();
    const path = join(directory.path, 'new', 's');
    const before = process.umask(0);
    const close = await serve(path, { echo }).finally(() => process.umask(before));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(directory.path, 'new'))).toEqual(['s']);
    await close();
  });

  test('may have a longer path than an address has room for', async () => {
    using directory = scratch();
    const path = join(directory.path, 'd'.repeat(150), 'e'.repeat(150), 'status.json.sock');
    const close = await serve(path, { echo });
    expect((await ask(path, { command: 'echo' })).isDone).toBe(true);
    await close();
  });

  test('takes the place of one that was left behind, and of nothing else', async () => {
    using directory = scratch();
    const path = join(directory.path, 's');
    const stale = createServer().listen(path);
    await once(stale, 'listening');
    const close = await serve(path, { echo });
    expect((await ask(path, { command: 'echo' })).isDone).toBe(true);
    await close();
    stale.close();
    const other = join(directory.path, 'file');
    writeFileSync(other, 'words');
    expect(serve(other, { echo })).rejects.toThrow('不是套接字');
    mkdirSync(join(directory.path, 'directory'));
    expect(serve(join(directory.path, 'directory'), { echo })).rejects.toThrow('不是套接字');
    symlinkSync('file', join(directory.path, 'link'));
    expect(serve(join(directory.path, 'link'), { echo })).rejects.toThrow('不是套接字');
  });

  test('of a service that another one has replaced stays when that ends', async () => {
    using directory = scratch();
    const path = join(directory.path, 's');
    const closeFirst = await serve(path, { echo });
    const closeSecond = await serve(path, { echo });
    await closeFirst();
    expect((await ask(path, { command: 'echo' })).isDone).toBe(true);
    await closeSecond();
    expect(readdirSync(directory.path)).toEqual([]);
  });

  test('that is not there, or that nobody listens on, says that no service runs', async () => {
    using directory = scratch();
    const path = join(directory.path, 's');
    const words = '服务没有运行，或 STATUS_FILE 不同';
    expect(ask(path, { command: 'echo' })).rejects.toThrow(words);
    expect(ask(join(directory.path, 'no', 's'), { command: 'echo' })).rejects.toThrow(words);
    const child = Bun.spawn([
      'bun',
      '-e',
      `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`,
    ]);
    await child.exited;
    expect(statSync(path).isSocket()).toBe(true);
    expect(ask(path, { command: 'echo' })).rejects.toThrow(words);
  });

  test('of something else that sends nothing, or too much, is not waited for', async () => {
    using directory = scratch();
    for (const [name, reply] of [
      ['silent', ''],
      ['loud', 'x'.repeat(100_000)],
    ] as const) {
      const path = join(directory.path, name);
      const server = createServer((socket) => {
        socket.on('error', () => {}).write(reply);
      }).listen(path);
      await once(server, 'listening');
      const answer = ask(path, { command: 'echo' }, 200);
      expect(answer).rejects.toThrow(/^服务没有应答 \(.*：(超时|超过 65536 字节)\)$/);
      await answer.catch(() => {});
      server.close();
    }
  });
});

describe('the one service that has a STATUS_FILE', () => {
  /** Listens on a socket and is killed: the socket stays. */
  async function leaveSocket(path: string): Promise<void> {
    const code = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    await Bun.spawn(['bun', '-e', code]).exited;
    expect(statSync(path).isSocket()).toBe(true);
  }

  test('takes the place of one that was killed at once', async () => {
    using directory = scratch();
    const file = join(directory.path, 'status.json');
    await leaveSocket(socketOf(file));
    const close = await serveAlone(file, { echo }, 0);
    expect((await ask(socketOf(file), { command: 'echo' })).isDone).toBe(true);
    await close();
  });

  test('waits for one that is ending', async () => {
    using directory = scratch();
    const file = join(directory.path, 'status.json');
    const closeFirst = await serve(socketOf(file), { echo });
    const second = serveAlone(file, { echo }, 60_000);
    await eventually(() => complaints.some(({ message }) => message.includes(`STATUS_FILE=${file}，等待它结束`)));
    await closeFirst();
    await (await second)();
    expect(readdirSync(directory.path)).toEqual([]);
  });

  test('does not begin beside another one, which goes on', async () => {
    using directory = scratch();
    const file = join(directory.path, 'status.json');
    const close = await serveAlone(file, { echo });
    await expect(serveAlone(file, { echo }, 0)).rejects.toThrow(`同一个 STATUS_FILE=${file}。请先停止它`);
    expect((await ask(socketOf(file), { command: 'echo' })).isDone).toBe(true);
    await close();
  });
});

describe.if(isRoot)('a socket that somebody else has put there', () => {
  /** Has somebody else listen on the socket of a service, in a directory of that owner and mode. */
  async function squat(path: string, owner: number, mode: number) {
    chmodSync(dirname(path), mode);
    chownSync(dirname(path), owner, owner);
    const server = createServer((socket) => socket.end('{"isDone":true,"text":"forged"}\n')).listen(path);
    await once(server, 'listening');
    chownSync(path, 1234, 1234);
    return server;
  }

  test('keeps no service from starting, which takes its place', async () => {
    using directory = scratch();
    const status = join(directory.path, 'status.json');
    const server = await squat(socketOf(status), 1234, 0o755);
    const close = await serveAlone(status, { echo }, 0);
    expect((await ask(socketOf(status), { command: 'echo' })).text).toBe('{}');
    await close();
    server.close();
  });

  test('answers nobody where everybody may write, and whoever asks where the directory is theirs', async () => {
    using directory = scratch();
    const path = join(directory.path, 's');
    const server = await squat(path, 0, 0o1777);
    await expect(ask(path, { command: 'echo' })).rejects.toThrow('套接字属于用户 1234，不是服务的');
    chownSync(directory.path, 1234, 1234);
    expect((await ask(path, { command: 'echo' })).text).toBe('forged'); // their service, asked by root
    server.close();
  });
});
