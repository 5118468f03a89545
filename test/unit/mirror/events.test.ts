import { expect, test } from 'bun:test';
import { KINDS, parseEvent, WATCHED_EVENTS } from '../../../src/mirror/events.ts';

test('parseEvent takes the first bars, so that a name may hold others', () => {
  expect(parseEvent('0|CLOSE_WRITE,CLOSE|/data/a|b\nc')).toEqual({
    cookie: '0',
    kind: 'close_write',
    isDirectory: false,
    names: 'CLOSE_WRITE,CLOSE',
    path: '/data/a|b\nc',
  });
});

test('parseEvent knows every event that is asked for, of directories too', () => {
  const told = WATCHED_EVENTS.map((name) => parseEvent(`7|${name},ISDIR|/data/d`));
  expect(told).toEqual(
    KINDS.map((kind) => {
      const names = `${kind.toUpperCase()},ISDIR`;
      return { kind, isDirectory: true, path: '/data/d', cookie: '7', names };
    }),
  );
  expect(told[0]).toMatchObject({ kind: 'create', names: 'CREATE,ISDIR' });
});

test('parseEvent passes over events that were not asked for, and what is no record', () => {
  for (const other of ['', 'rubbish', '0|IGNORED|/data/', '0|OPEN|/data/a', '0|CREATED|/data/a', '0|create|/data/a'])
    expect(parseEvent(other)).toBeUndefined();
  expect(parseEvent('0|Q_OVERFLOW|')).toMatchObject({ kind: 'q_overflow', path: '' });
});

test('parseEvent says of a record that may have been cut off that its path is not whole', () => {
  const record = (length: number) => '0|CREATE|/'.padEnd(length, 'd');
  expect(parseEvent(record(4093))).not.toHaveProperty('isCut');
  expect(parseEvent(record(4094))).toMatchObject({ kind: 'create', isCut: true });
});
