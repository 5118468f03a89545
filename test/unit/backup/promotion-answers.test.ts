import { expect, test } from 'bun:test';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { KEY_VARIABLE, SOURCE_VARIABLE } from '../../../src/backup/admission.ts';
import { CleanMark } from '../../../src/backup/clean-mark.ts';
import { Doors } from '../../../src/backup/doors.ts';
import { answerPromotion } from '../../../src/backup/promotion-answers.ts';
import { eventually } from '../../processes.ts';
import { scratch } from '../service/scratch.ts';

test('where no service runs, what one that was killed has let in is ended, of the source that is meant', async () => {
  using place = scratch();
  const directory = place.path;
  const { env } = process;
  const config = { HOST_KEY_DIR: directory, DEST_DIR: directory };
  const doors = new Doors(config);
  const commands = ['web1', 'web2'].map((name) => {
    doors.add(name);
    const own = {
      DEST_DIR: directory,
      [SOURCE_VARIABLE]: name,
      [KEY_VARIABLE]: 'SHA256:x',
      START_SSHD_ADMISSION: '/nowhere',
    };
    return spawn('sleep', ['60'], { detached: true, env: { ...env, ...own }, stdio: 'ignore' });
  });
  const ends = commands.map((command) => once(command, 'exit'));
  await new CleanMark(config, Buffer.from(realpathSync(directory)).toString('latin1')).open();
  try {
    process.env = { ...env, ...config, STATUS_FILE: join(directory, 'status.json') };
    const answer = await answerPromotion(['--promote', '--source', 'web1']);
    expect(answer).toMatchObject({ status: 0, text: expect.stringContaining('--demote --source web1') });
    await eventually(() => commands[0]?.signalCode === 'SIGTERM');
    expect(commands[1]?.signalCode).toBeNull();
  } finally {
    process.env = env;
    for (const command of commands) command.kill('SIGKILL');
    await Promise.all(ends);
  }
});
