/**
 * A pattern of a filter rule as rsync reads it (rsync(1), "PATTERN MATCHING RULES"). Patterns and paths are bytes in latin1 strings.
 *
 *   const matches = compilePattern('*.log');
 *   matches?.('web/access.log', false); // true
 */

/** Whether a path matches, as a directory or as anything else. */
export type Pattern = (path: string, isDirectory: boolean) => boolean;

/** How many runs of stars a pattern may hold, so that to match it takes no time worth mentioning. */
const MAX_STARS = 6;

/** What the names of classes stand for in the C locale, in which rsync looks at bytes. */
const CLASSES: Record<string, string> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  blank: ' \\t',
  cntrl: '\\0-\\x1f\\x7f',
  digit: '0-9',
  graph: '!-~',
  lower: 'a-z',
  print: ' -~',
  punct: '!-\\/:-@[-`{-~',
  space: ' \\t-\\r',
  upper: 'A-Z',
  xdigit: '0-9A-Fa-f',
};

/** Matches nothing: what rsync gives up at, such as a bracket that is not closed. */
const NEVER = '(?!)';

const literal = (text: string) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
/** A character of a class, which is not taken for anything else there. */
const inClass = (character: string) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;

/** Reads what stands in brackets, from behind the opening one; a class never matches a slash. */
function readClass(pattern: string, start: number): { source: string; end: number } {
  const broken = { source: NEVER, end: pattern.length };
  const isNegated = /[!^]/.test(pattern[start] ?? '');
  let items = '';
  let former = ''; // what may begin a range
  let n = start + Number(isNegated);
  do {
    let character = pattern[n];
    if (character === undefined) return broken;
    const named = /^\[:([^\]]*):\]/.exec(pattern.slice(n));
    if (character === '-' && former && pattern[n + 1] !== undefined && pattern[n + 1] !== ']') {
      n += pattern[n + 1] === '\\' ? 2 : 1;
      const last = pattern[n];
      if (last === undefined) return broken;
      if (former <= last) items += `${inClass(former)}-${inClass(last)}`;
      former = '';
    } else if (named && character === '[') {
      const [text, name = ''] = named;
      const bytes = Object.hasOwn(CLASSES, name) ? CLASSES[name] : undefined;
      if (bytes === undefined) return broken;
      items += bytes;
      n += text.length - 1;
      former = '';
    } else {
      if (character === '\\') character = pattern[++n];
      if (character === undefined) return broken;
      items += inClass(character);
      former = character;
    }
    n++;
  } while (pattern[n] !== ']');
  return { source: `(?!/)[${isNegated ? '^' : ''}${items}]`, end: n + 1 };
}

/** Writes a pattern with wildcards as a regular expression; nothing where that might take long to match. */
function translate(pattern: string): string | undefined {
  let [source, stars] = ['', 0];
  for (let n = 0; n < pattern.length; ) {
    const character = pattern[n] as string;
    const [run = ''] = /^\**/.exec(pattern.slice(n)) ?? [];
    if (run) {
      source += run.length > 1 ? '.*' : '[^/]*';
      stars++;
      n += run.length;
    } else if (character === '[') {
      const { source: found, end } = readClass(pattern, n + 1);
      source += found;
      n = end;
    } else {
      const [isEscape, next] = [character === '\\', pattern[n + 1]];
      if (character === '?') source += '[^/]';
      else if (isEscape) source += next === undefined ? NEVER : literal(next);
      else source += literal(character);
      n += isEscape ? 2 : 1;
    }
  }
  return stars > MAX_STARS ? undefined : source;
}

/** What stands before a path that a pattern may match the end of, and how many names that end has. */
function lastNames(path: string, count: number): string | undefined {
  const names = path.split('/');
  return names.length < count ? undefined : names.slice(-count).join('/');
}

/** Compiles a pattern; nothing where it would take long to match. */
export function compilePattern(text: string): Pattern | undefined {
  const isForDirectories = text.length > 1 && text.endsWith('/');
  const whole = isForDirectories ? text.slice(0, -1) : text;
  const slashes = whole.split('/').length - 1;
  const isAnchored = whole.startsWith('/');
  const pattern = isAnchored ? whole.slice(1) : whole;
  const ofKind = (matches: Pattern): Pattern =>
    isForDirectories ? (path, isDirectory) => isDirectory && matches(path, isDirectory) : matches;
  if (!/[*?[]/.test(whole)) {
    return ofKind((path) => path === pattern || (!isAnchored && path.endsWith(`/${pattern}`)));
  }
  const source = translate(pattern);
  if (source === undefined) return undefined;
  if (!whole.includes('**')) {
    const expression = new RegExp(`^${source}$`, 's');
    return ofKind((path) => {
      const tried = isAnchored ? path : lastNames(path, slashes + 1);
      return tried !== undefined && expression.test(tried);
    });
  }
  const startsWithStars = whole.startsWith('**');
  const expression = new RegExp(`${isAnchored || startsWithStars ? '^' : '(?:^|/)'}${source}$`, 's');
  const endsWithThree = whole.endsWith('***'); // which has `dir/***` match the directory, too
  return ofKind((path, isDirectory) =>
    expression.test(`${startsWithStars ? '/' : ''}${path}${endsWithThree && isDirectory ? '/' : ''}`),
  );
}
