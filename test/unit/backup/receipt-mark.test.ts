import { expect, test } from 'bun:test';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ReceiptMark, receivedAt } from '../../../src/backup/receipt-mark.ts';

test('what was received last is told to the moment, and is nothing before; without a service nobody asks', () => {
  const directory = mkdtempSync(join(tmpdir(), 'receipt-'));
  try {
    expect(receivedAt(directory)).toBeUndefined();
    const mark = new ReceiptMark(join(directory, 'admission'));
    const before = Date.now();
    mark.put();
    expect(Math.abs((receivedAt(directory)?.getTime() ?? 0) - before)).toBeLessThan(1000);
    expect(receivedAt(directory, 'web1')).toBeUndefined();
    new ReceiptMark(join(directory, 'admission'), 'web1').put();
    expect(receivedAt(directory, 'web1')).toBeDefined();
    expect(receivedAt(directory, 'web2')).toBeUndefined();
    new ReceiptMark('').put();
    new ReceiptMark(join(directory, 'gone', 'admission')).put();
  } finally {
    rmSync(directory, { recursive: true });
  }
});
