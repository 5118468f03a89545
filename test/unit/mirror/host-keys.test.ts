import { expect, test } from 'bun:test';
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readConfig } from '../../../src/mirror/config.ts';
import { HostKeys } from '../../../src/mirror/host-keys.ts';
import { parsePublicKey } from '../../../src/service/keys.ts';
import { withKeys } from '../service/key-files.ts';

const SOURCE_DIR = '/tmp/';

test('the published host keys are kept in one file in the order of their names, which is written where it changes', () => {
  withKeys((directory, [rsa = '', ecdsa = '']) => {
    const hostKeys = new HostKeys(readConfig({ SOURCE_DIR, SSH_DIR: directory, SHARED_KEYS_DIR: `${directory}/a/b` }));
    expect(hostKeys.refresh()).toBeUndefined();
    const published = join(directory, 'a', 'b', 'host_keys');
    mkdirSync(published, { recursive: true });
    expect(hostKeys.refresh()).toBeUndefined();
    writeFileSync(join(published, 'z.rsa.pub'), rsa);
    writeFileSync(join(published, 'a.ecdsa.pub'), ecdsa);
    writeFileSync(join(published, 'same.pub'), rsa);
    const file = hostKeys.refresh() ?? '';
    expect(file).toBe(join(directory, `known_hosts${directory.replaceAll('/', '-')}-a-b`));
    const lines = [ecdsa, rsa].map((key) => `* ${parsePublicKey(key).key}\n`);
    expect(readFileSync(file, 'utf8')).toBe(lines.join(''));
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const { ino } = statSync(file);
    hostKeys.refresh();
    expect(statSync(file).ino).toBe(ino);
    rmSync(join(published, 'a.ecdsa.pub'));
    hostKeys.refresh();
    expect(readFileSync(file, 'utf8')).toBe(lines[1] ?? '');
  });
});
