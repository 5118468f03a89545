/**
 * The language of what people read, by LOG_LANG. Texts are written in Chinese where they are used; their English is in the catalogue.
 *
 *   t`等待 ${host} 的 SSH`; // 'waiting for SSH of web1', with LOG_LANG=en
 */
const isEnglish = process.env.LOG_LANG === 'en';
/** Its code, as pages have it. */
export const language = isEnglish ? 'en' : 'zh';
let english: Record<string, string> | undefined;
/** The catalogue, which is read with the first text that is English: each session of the backup would pay for it. */
const catalogue = (): Record<string, string> => (english ??= require('./english.ts').english as Record<string, string>);

/** What the catalogue calls a text: the values are `{0}`, `{1}` and so on. */
const keyOf = (parts: readonly string[]) => parts.reduce((text, part, n) => `${text}{${n - 1}}${part}`);

/** Writes a text for people in their language. */
export function t(parts: TemplateStringsArray, ...values: unknown[]): string {
  const translated = isEnglish ? catalogue()[keyOf(parts)] : undefined;
  if (translated === undefined) return String.raw({ raw: parts }, ...values);
  return translated.replace(/\{(\d+)\}/g, (_, n) => String(values[Number(n)]));
}
