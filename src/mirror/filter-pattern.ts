/**
 * A pattern of a filter rule as rsync reads it (rsync(1), "PATTERN MATCHING RULES"). Patterns and paths are bytes in latin1 strings.
 *
 *   const matches = compilePattern('*.log');
 *   matches('web/access.log', false); // true
 */

/** Whether a path matches, as a directory or as anything else. */
export type Pattern = (path: string, isDirectory: boolean) => boolean;

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

/** A run of stars: one goes up to the next slash, more go beyond it. */
type Stars = '*' | '**';
/** What a pattern asks for, step by step: a character of some kind, or a run of stars. */
type Step = Stars | ((character: string) => boolean);

/** What rsync gives up at, such as a bracket that is not closed. */
const isNothing = () => false;
const isNoSlash = (character: string) => character !== '/';

/** A character of a class, which is not taken for anything else there. */
const inClass = (character: string) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`;

/** Reads what stands in brackets, from behind the opening one; a class never matches a slash. */
function readClass(pattern: string, start: number): { step: Step; end: number } {
  const broken = { step: isNothing, end: pattern.length };
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
  const expression = new RegExp(`(?!/)[${isNegated ? '^' : ''}${items}]`);
  return { step: (character) => expression.test(character), end: n + 1 };
}

/** Reads a pattern with wildcards. */
function stepsOf(pattern: string): Step[] {
  const steps: Step[] = [];
  for (let n = 0; n < pattern.length; n++) {
    const character = pattern[n] as string;
    const wanted = character === '\\' ? pattern[++n] : character;
    if (character === '*') {
      if (typeof steps.at(-1) === 'string') steps[steps.length - 1] = '**';
      else steps.push('*');
    } else if (character === '[') {
      const { step, end } = readClass(pattern, n + 1);
      steps.push(step);
      n = end - 1;
    } else {
      steps.push(character === '?' ? isNoSlash : (it) => it === wanted);
    }
  }
  return steps;
}

/**
 * Whether steps match a text, or why no other place is to be tried: the text has ended, or a star has met a slash, which only one
 * of several stars before it goes beyond. As in rsync (lib/wildmatch.c), and as there it keeps hard patterns from taking for ever.
 */
type Answer = 'yes' | 'no' | 'ended' | 'slash';

/** Matches the steps from one on with the text from a place on, to the end of both. */
function match(steps: readonly Step[], first: number, text: string, start: number): Answer {
  let at = start;
  for (let n = first; n < steps.length; n++) {
    const step = steps[n] as Step;
    if (typeof step === 'string') return matchStars(step, steps, n + 1, text, at);
    const character = text[at++];
    if (character === undefined) return 'ended';
    if (!step(character)) return 'no';
  }
  return at === text.length ? 'yes' : 'no';
}

/** Matches the steps behind a run of stars at every place that the stars can reach. */
function matchStars(stars: Stars, steps: readonly Step[], next: number, text: string, start: number): Answer {
  if (next === steps.length) return stars === '**' || !text.includes('/', start) ? 'yes' : 'no';
  for (let at = start; at < text.length; at++) {
    const answer = match(steps, next, text, at);
    if (answer === 'yes' || answer === 'ended') return answer;
    if (stars === '*' && (answer === 'slash' || text[at] === '/')) return 'slash';
  }
  return 'ended';
}

/** Matches a pattern with the whole text, or with what stands behind any slash in it as well. */
function matchAnywhere(steps: readonly Step[], text: string): boolean {
  let answer = match(steps, 0, text, 0);
  for (let at = text.indexOf('/'); at >= 0 && (answer === 'no' || answer === 'slash'); at = text.indexOf('/', at + 1))
    answer = match(steps, 0, text, at + 1);
  return answer === 'yes';
}

/** The last names of a path, nothing where it has fewer. */
function lastNames(path: string, count: number): string | undefined {
  const names = path.split('/');
  return names.length < count ? undefined : names.slice(-count).join('/');
}

/** Compiles a pattern. */
export function compilePattern(text: string): Pattern {
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
  const steps = stepsOf(pattern);
  const matchesAll = (tried: string) => match(steps, 0, tried, 0) === 'yes';
  if (!whole.includes('**')) {
    return ofKind((path) => {
      const tried = isAnchored ? path : lastNames(path, slashes + 1);
      return tried !== undefined && matchesAll(tried);
    });
  }
  const startsWithStars = whole.startsWith('**');
  const endsWithThree = whole.endsWith('***'); // which has `dir/***` match the directory, too
  return ofKind((path, isDirectory) => {
    const tried = `${startsWithStars ? '/' : ''}${path}${endsWithThree && isDirectory ? '/' : ''}`;
    return isAnchored || startsWithStars ? matchesAll(tried) : matchAnywhere(steps, tried);
  });
}
