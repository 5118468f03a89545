import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { fingerprint, generateKeyPair, holdsKey, parsePublicKey } from '../../../src/service/keys.ts';
import { KEY_TYPES, makeKeyFile, withKeys } from './key-files.ts';
import { scratch } from './scratch.ts';

describe('public keys', () => {
  test('are one whole line of a known type each, and told by their fingerprints', () => {
    withKeys((directory, keys) => {
      for (const [n, type] of KEY_TYPES.entries()) {
        const key = keys[n] ?? '';
        expect(parsePublicKey(key).key).toBe(key.split(' ').slice(0, 2).join(' '));
        const { stdout } = spawnSync('ssh-keygen', ['-l', '-f', join(directory, type)], { encoding: 'utf8' });
        expect(stdout.split(' ')[1]).toBe(fingerprint(parsePublicKey(key).key));
        for (let length = 0; length < key.indexOf(' 备份'); length += 7) {
          expect(() => parsePublicKey(key.slice(0, length))).toThrow('公钥文件应为完整的一行');
        }
      }
    });
  });

  test('let nothing else into what ssh reads', () => {
    withKeys((_, [key = '', other = '']) => {
      const piece = fc.constantFrom(...key.split(' '), other, '* ', '\n', '\r', '\0', '@revoked ', ' ', '\t', '#', '=');
      fc.assert(
        fc.property(
          fc.oneof(
            fc.string({ unit: 'binary' }),
            fc.array(piece).map((pieces) => pieces.join('')),
          ),
          (text) => {
            try {
              expect([key, other].some((known) => known.startsWith(`${parsePublicKey(text).key} `))).toBe(true);
            } catch (error) {
              expect(`${error}`).toContain('公钥文件应为完整的一行');
            }
          },
        ),
      );
    });
  });

  test.each([1024, 2048, 3072])('say how long they are, as ssh-keygen does: %d bits', (size) => {
    using directory = scratch();
    const file = join(directory.path, 'key');
    const line = makeKeyFile(file, '-t', 'rsa', '-b', `${size}`);
    const { stdout } = spawnSync('ssh-keygen', ['-l', '-f', file], { encoding: 'utf8' });
    expect(stdout).toStartWith(`${size} SHA256:`);
    expect(parsePublicKey(line).bits).toBe(size);
  });

  test('of other types have a length that goes without saying', () => {
    withKeys((_, [, ecdsa = '', ed25519 = '']) => {
      expect(parsePublicKey(ecdsa).bits).toBeUndefined();
      expect(parsePublicKey(ed25519).bits).toBeUndefined();
    });
  });

  test('are one line, with a line end or without one, with a comment or without one', () => {
    withKeys((_, [rsa = '']) => {
      const line = rsa.trimEnd();
      const key = line.split(' ').slice(0, 2).join(' ');
      for (const content of [rsa, line]) expect(parsePublicKey(content)).toEqual({ line, key, bits: 3072 });
      expect(parsePublicKey(key)).toEqual({ line: key, key, bits: 3072 });
      for (const wrong of [`${line}\n\n`, `${line}\n${line}`, ` ${line}`, `${key}=`, `${key} a\tb`, `restrict ${line}`])
        expect(() => parsePublicKey(wrong)).toThrow('公钥文件应为完整的一行: 类型 BASE64 [注释]');
    });
  });
});

test('a file holds a key whatever its comment, but not through a link, and not among others', () => {
  withKeys((directory, [rsa = '', ecdsa = '']) => {
    const path = (name: string) => join(directory, name);
    expect(holdsKey(path('rsa.pub'), rsa)).toBe(true);
    expect(holdsKey(path('rsa.pub'), rsa.replace('备份', 'other'))).toBe(true);
    expect(holdsKey(path('rsa.pub'), ecdsa)).toBe(false);
    symlinkSync('rsa.pub', path('link.pub'));
    writeFileSync(path('both.pub'), `${rsa}${ecdsa}`);
    for (const name of ['link.pub', 'both.pub', 'missing.pub', '.']) expect(holdsKey(path(name), rsa)).toBe(false);
    expect(holdsKey(path('rsa.pub'), 'rubbish')).toBe(false);
  });
});

describe('a key pair that is made', () => {
  test.each(KEY_TYPES)('is whole, private, and leaves no workshop behind: %s', async (type) => {
    using directory = scratch();
    const [key, workshop] = [join(directory.path, 'id'), join(directory.path, 'workshop')];
    mkdirSync(join(workshop, 'of a start that was cut short'), { recursive: true });
    await generateKeyPair(key, type, 'tester', workshop);
    expect(readdirSync(directory.path).sort()).toEqual(['id', 'id.pub']);
    expect(statSync(key).mode & 0o777).toBe(0o600);
    const { line, key: half, bits } = parsePublicKey(readFileSync(`${key}.pub`, 'utf8'));
    const derived = spawnSync('ssh-keygen', ['-y', '-P', '', '-f', key], { encoding: 'utf8' }).stdout;
    expect(parsePublicKey(derived).key).toBe(half);
    expect(line).toContain(' tester@');
    expect(bits).toBe(type === 'rsa' ? 3072 : undefined);
  });

  test('cannot be made where its directory is missing, and then nothing is there', async () => {
    using directory = scratch();
    const workshop = join(directory.path, 'workshop');
    const made = generateKeyPair(join(directory.path, 'missing', 'id'), 'ed25519', 'tester', workshop);
    expect(await made.then(String, (cause) => `failed: ${cause}`)).toContain('ENOENT');
    expect(existsSync(workshop)).toBe(false);
    expect(readdirSync(directory.path)).toEqual([]);
  });
});
