/**
 * Which source a person means: by --source, which nobody needs who has one source alone.
 *
 *   doorFor(doors.list(), 'web1'); // { name: 'web1', directory: '/data/backup/web1' }
 */
import { escapeText, Failure, t } from '../service/text.ts';
import { PROGRAM } from './config.ts';
import type { Door } from './doors.ts';

/** How many names are told. */
const MAX_TOLD = 20;

const namesOf = (doors: readonly Door[]) => {
  const names = doors.map(({ name }) => name).sort();
  const more = names.length > MAX_TOLD ? t` 等 ${names.length} 个` : '';
  return `${names.slice(0, MAX_TOLD).join(t`、`)}${more}`;
};

/**
 * Finds the door that is meant.
 * @param name what --source says; nothing where it was not given
 * @throws {Failure} where none has that name, or where there are several and none is named
 */
export function doorFor(doors: readonly Door[], name: string | undefined): Door {
  const [first, ...others] = doors;
  if (name === undefined && first && others.length === 0) return first;
  if (name === undefined)
    throw new Failure(
      t`用法错误: 本备份端有多个源端，请用 --source 指明一个：${namesOf(doors)}。请参阅 ${PROGRAM} --help`,
      2,
    );
  const found = doors.find((door) => door.name === name);
  if (found) return found;
  const known = first?.name ? t`已知的源端：${namesOf(doors)}` : t`本备份端没有带名称（SOURCE_NAME）的源端`;
  throw new Failure(t`用法错误: 没有名为 ${escapeText(name)} 的源端。${known}`, 2);
}
