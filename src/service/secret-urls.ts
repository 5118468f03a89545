/**
 * URLs that hold tokens: whoever has one may write where it leads, so that nothing but its host may be seen of it.
 *
 *   const url = parseSecretUrl('https://hooks.slack.com/services/T0/B0/token');
 *   veil('no such hook: token', [url]); // 'no such hook: ***'
 */
import { onOneLine, t } from './text.ts';

/** Words of paths that are the same for everybody; what is shorter than this is no secret, characters. */
const PUBLIC = /^(api|bot|cgi-bin|hooks?|open-apis|ping|push|robot|send|services|v\d|webhooks?|ok|up)$/i;
const LEAST_SECRET = 3;
/** How much is shown of what somebody has answered, characters. */
const MAX_SHOWN = 200;

/** Reads a URL. @throws where it is none; what is said of it tells nothing of the value */
export function parseSecretUrl(text: string): URL {
  if (/^https?:\/\/\S+$/i.test(text) && URL.canParse(text)) return new URL(text);
  throw new Error(t`应为以 http:// 或 https:// 开头的完整 URL`);
}

/** Takes the name and the password out of a URL: they go into a header. */
export function withoutLogin(url: URL): { url: URL; headers: Record<string, string> } {
  const bare = new URL(url);
  [bare.username, bare.password] = ['', ''];
  const login = loginIn(url);
  return { url: bare, headers: login ? { Authorization: `Basic ${login}` } : {} };
}

/** Writes name and password as HTTP has them, '' where there are none. */
function loginIn({ username, password }: URL): string {
  if (!username && !password) return '';
  return Buffer.from(`${decode(username)}:${decode(password)}`).toString('base64');
}

/** Decodes what is escaped in a URL, as far as it is. */
export function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a lone percent sign
  }
}

/** Takes the values out of a query as they stand there; what has no value may be one itself. */
function valuesIn({ search }: URL): string[] {
  return search
    .slice(1)
    .split('&')
    .map((pair) => /^[^=]*=(.+)$/s.exec(pair)?.[1] ?? pair.replace(/=$/, ''));
}

/** Writes what stands in a URL in all the ways in which somebody may say it: as it is there, decoded, encoded by either rule, and in JSON. */
function spellingsOf(part: string): string[] {
  const meant = [part, decode(part), decode(part.replaceAll('+', ' '))];
  const encoded = meant.flatMap((it) => [encodeURIComponent(it), new URLSearchParams({ '': it }).toString().slice(1)]);
  const inSmall = [part, ...encoded].map((it) => it.replace(/%[\dA-F]{2}/g, (code) => code.toLowerCase()));
  const all = [...meant, ...encoded, ...inSmall];
  return [...all, ...all.map((it) => it.replaceAll('/', '\\/'))];
}

/** Lists what must not be seen of a URL. */
function secretsIn(url: URL): string[] {
  const parts = [url.username, url.password, loginIn(url), ...url.pathname.split('/'), ...valuesIn(url)];
  const all = new Set(parts.filter((part) => !PUBLIC.test(part)).flatMap(spellingsOf));
  return [...all].filter((it) => it.length >= LEAST_SECRET);
}

/** Takes what must not be seen of URLs out of a text, which is then safe to be shown on a line. */
export function veil(text: string, urls: readonly URL[]): string {
  const secrets = urls.flatMap(secretsIn).sort((a, b) => b.length - a.length);
  const veiled = secrets.reduce((rest, secret) => rest.replaceAll(secret, '***'), text);
  return onOneLine(veiled.replace(/\s+/g, ' ').trim()).slice(0, MAX_SHOWN);
}
