/** The pages for users, README among them, in both languages, and what a test takes from them. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './project.ts';

export const LANGUAGES = ['en', 'zh-CN'] as const;
export type Language = (typeof LANGUAGES)[number];

const SUFFIXES: Record<Language, string> = { en: '.md', 'zh-CN': '.zh-CN.md' };

/** The file of a page, e.g. `docs/recovery.zh-CN.md` for `docs/recovery`. */
export const fileOf = (page: string, language: Language): string => page + SUFFIXES[language];
export const read = (...path: string[]): string => readFileSync(join(ROOT, ...path), 'utf8');

/** The pages of docs/ that there are in a language, without their endings. */
export const pagesIn = (language: Language): string[] =>
  readdirSync(join(ROOT, 'docs'))
    .filter((name) => name.endsWith('.md') && name.endsWith('.zh-CN.md') === (language === 'zh-CN'))
    .map((name) => join('docs', name.slice(0, -SUFFIXES[language].length)))
    .sort();

/** All pages, without their endings. */
export const PAGES = ['README', 'SECURITY', ...pagesIn('en')];

/** A heading and what is below it, up to the next one of any level. */
interface Section {
  level: number;
  title: string;
  text: string;
}

/** Divides a document at its headings; what looks like one in a block of code is none. */
function sectionsOf(document: string): Section[] {
  const text = read(document);
  const headings = [...text.matchAll(/^```[\s\S]*?^```|^(#+) (.+)$/gm)].filter(([, marks]) => marks);
  return headings.map(({ 0: line, 1: marks = '', 2: title = '', index }, n) => {
    const end = headings[n + 1]?.index ?? text.length;
    return { level: marks.length, title, text: text.slice(index + line.length + 1, end) };
  });
}

/** The headings with their levels and the anchors that GitHub gives them. */
export function headingsOf(document: string): { level: number; anchor: string }[] {
  const seen = new Map<string, number>();
  return sectionsOf(document).map(({ level, title }) => {
    const slug = title
      .toLowerCase()
      .replace(/[^\p{L}\p{M}\p{N}_ -]/gu, '')
      .replaceAll(' ', '-');
    const times = seen.get(slug) ?? 0;
    seen.set(slug, times + 1);
    return { level, anchor: times > 0 ? `${slug}-${times}` : slug };
  });
}

/**
 * What is below a heading, on whichever page that is.
 * @throws unless exactly one page has such a heading
 */
export function below(title: string, language: Language = 'en'): string {
  const sections = PAGES.flatMap((page) => sectionsOf(fileOf(page, language)));
  const [section, another] = sections.filter((each) => each.title === title);
  if (!section || another) throw new Error(`${another ? 'several headings are' : 'no heading is'} “${title}”`);
  return section.text;
}

const BLOCK = /^```\w+\n([\s\S]*?)^```/m;

/**
 * The first block of code below a heading, on whichever page that is: commands, or a file.
 * @throws where there is none
 */
export function blockBelow(title: string): string {
  const [, block] = BLOCK.exec(below(title)) ?? [];
  if (block === undefined) throw new Error(`no block of code is below “${title}”`);
  return block;
}

/**
 * The first block of code after some words of a page.
 * @throws where there is none
 */
export function blockAfter(words: string, page: string): string {
  const text = read(fileOf(page, 'en'));
  const [, block] = BLOCK.exec(text.slice(text.indexOf(words))) ?? [];
  if (block === undefined || !text.includes(words)) throw new Error(`${page} has no block of code after “${words}”`);
  return block;
}
