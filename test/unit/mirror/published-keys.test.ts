import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { mkdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readPublishedKeys } from '../../../src/mirror/published-keys.ts';
import { parsePublicKey } from '../../../src/service/keys.ts';
import { withKeys } from '../service/key-files.ts';

/** Calls with a directory for published keys, and keys that are good. */
const withPublished = (check: (published: string, keys: string[]) => void) =>
  withKeys((directory, keys) => {
    const published = join(directory, 'host_keys');
    mkdirSync(published);
    check(published, keys);
  });

describe('of what is in the directory of published host keys', () => {
  test('only whole plain keys are taken, and what is no file is neither followed nor waited for', () => {
    withPublished((published, [rsa = '', ecdsa = '', ed25519 = '']) => {
      const at = (name: string) => join(published, name);
      const [key] = [ed25519.trim()];
      const texts = {
        bom: `\ufeff${key}`,
        crlf: `${ed25519.split(' ').slice(0, 2).join(' ')}\r\n`,
        lines: `${key}\n${rsa}`,
        nul: `${key}\0`,
        empty: '',
        authority: `@cert-authority * ${key}`,
        revoked: `@revoked * ${key}`,
        option: `cert-authority ${key}`,
        wildcard: `* ${key}`,
        hashed: `|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ${key}`,
        certificate: key.replace('ssh-ed25519', 'ssh-ed25519-cert-v01@openssh.com'),
      };
      for (const [name, text] of Object.entries(texts)) writeFileSync(at(`${name}.pub`), text);
      writeFileSync(at('a.pub'), ecdsa);
      writeFileSync(join(published, '..', 'elsewhere.pub'), rsa);
      symlinkSync('../elsewhere.pub', at('link.pub'));
      symlinkSync('/dev/zero', at('device.pub'));
      spawnSync('mkfifo', [at('pipe.pub')]);
      spawnSync('truncate', ['-s', '10G', at('huge.pub')]);
      mkdirSync(at('directory.pub'));
      writeFileSync(at('name\n\u001b[2J\u202e.pub'), 'x');
      const { keys, faults, isEmpty } = readPublishedKeys(published);
      expect(keys).toEqual([parsePublicKey(ecdsa).key]);
      expect(isEmpty).toBe(false);
      const wrong = [...Object.keys(texts), 'link', 'device', 'pipe', 'huge', 'directory'];
      for (const name of wrong) expect(faults.filter((line) => line.includes(` ${name}.pub：`))).toHaveLength(1);
      expect(faults).toHaveLength(wrong.length + 1);
      expect(faults.join('')).not.toMatch(/[\p{Cc}\u202e]/u);
    });
  });

  test('the newest are taken where there are very many, and not all of the others are named', () => {
    withPublished((published, [rsa = '', ecdsa = '']) => {
      for (let n = 0; n < 1500; n++) writeFileSync(join(published, `${n}.pub`), 'x');
      writeFileSync(join(published, 'new.pub'), rsa);
      writeFileSync(join(published, 'old.pub'), ecdsa);
      for (const [name, time] of [['new', 2 ** 32] as const, ['old', 1] as const])
        utimesSync(join(published, `${name}.pub`), time, time);
      const { keys, faults } = readPublishedKeys(published);
      expect(keys).toEqual([parsePublicKey(rsa).key]);
      expect(faults[0]).toStartWith('公布的主机密钥有 1502 个，只采用了最新的 1000 个。请删除');
      expect(faults.at(-1)).toBe('另外忽略了 979 个公布的主机密钥');
      expect(faults).toHaveLength(22);
    });
  });

  test('nothing is read where the directory is a link, or is none', () => {
    withPublished((published, [rsa = '']) => {
      writeFileSync(join(published, 'rsa.pub'), rsa);
      renameSync(published, `${published}-elsewhere`);
      expect(readPublishedKeys(published)).toEqual({ keys: [], faults: [], isEmpty: true });
      symlinkSync(`${published}-elsewhere`, published);
      const refusal = `无法读取公布的主机密钥 ${published}：应为目录，不能是链接`;
      expect(() => readPublishedKeys(published)).toThrow(refusal);
      rmSync(published);
      writeFileSync(published, '');
      expect(() => readPublishedKeys(published)).toThrow(refusal);
    });
  });
});
