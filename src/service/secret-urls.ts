/**
 * URLs that hold tokens: whoever has one may write where it leads, so that nothing but its host may be seen of it.
 *
 *   const url = parseSecretUrl('https://hooks.slack.com/services/T0/B0/XXXX');
 *   veil('no such hook: XXXX', [url]); // 'no such hook: ***'
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

/** Lists what must not be seen of a URL, each also as it is written in there. */
function secretsIn(url: URL): string[] {
  const raw = [
    ...[url.username, url.password, loginIn(url)],
    ...url.pathname.split('/'),
    ...[...url.searchParams.values()].flatMap((value) => [value, encodeURIComponent(value)]),
  ];
  const all = raw.flatMap((part) => [part, decode(part)]);
  return all.filter((part) => part.length >= LEAST_SECRET && !PUBLIC.test(part));
}

/** Takes what must not be seen of URLs out of a text, which is then safe to be shown on a line. */
export function veil(text: string, urls: readonly URL[]): string {
  const secrets = urls.flatMap(secretsIn).sort((a, b) => b.length - a.length);
  const veiled = secrets.reduce((rest, secret) => rest.replaceAll(secret, '***'), text);
  return onOneLine(veiled.replace(/\s+/g, ' ').trim()).slice(0, MAX_SHOWN);
}
