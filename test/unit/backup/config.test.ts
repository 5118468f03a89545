import { expect, test } from 'bun:test';
import { readConfig } from '../../../src/backup/config.ts';

/** Tells the variables that are said to be wrong, in the order in which that is said. */
function mistakesOf(env: Record<string, string>): string[] {
  try {
    readConfig(env);
  } catch (cause) {
    return [...String(cause).matchAll(/配置错误: (\w+)=/g)].map(([, name = '']) => name);
  }
  return [];
}

test.each([
  [{ METRICS_PORT: '99999' }, ['METRICS_PORT']],
  [{ METRICS_PORT: '9873', SSHD_PORT: 'ssh' }, ['SSHD_PORT']],
  [{ METRICS_PORT: 'web', SSHD_PORT: '0', KEY_RETRIES: 'many' }, ['SSHD_PORT', 'KEY_RETRIES', 'METRICS_PORT']],
  [{ HISTORY_DAYS: 'all', ALLOW_SHELL: 'true' }, ['HISTORY_DAYS']],
  [{ METRICS_PORT: '2222', SSHD_PORT: '2222' }, ['METRICS_PORT']],
  [{ METRICS_PORT: '2222', SSHD_PORT: '22' }, []],
])('variables that are wrong are told, with no other one that is compared with them: %j', (env, wrong) => {
  expect(mistakesOf(env)).toEqual(wrong);
});
