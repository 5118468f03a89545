import { describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import fc from 'fast-check';
import { fingerprint, parsePublicKey } from '../../../src/service/keys.ts';
import { KEY_TYPES, withKeys } from './key-files.ts';

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
});
