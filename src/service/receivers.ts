/**
 * Where reports go: services that take messages by POST, each in a form of its own, by which it also says whether it has taken one.
 *
 *   const [receiver] = parseReceivers('https://oapi.dingtalk.com/robot/send?access_token=…&secret=SEC…');
 *   const reply = await send(requestFor(receiver, report, Date.now()));
 *   refusalOf(receiver, reply); // undefined, or why it was not taken
 */
import { describeReply, type Reply, type Request } from './requests.ts';
import { decode, parseSecretUrl, withoutLogin } from './secret-urls.ts';
import { t } from './text.ts';
import { checked, seconds } from './variables.ts';

/** A report as people and as programs are to have it. */
export interface Report {
  title: string;
  text: string;
  /** Whether anything in it is wrong, rather than well again. */
  isAlarm: boolean;
  /** All of it, for programs. */
  data: object;
}

/** What becomes of a report: the query is added to that of the URL. */
interface Message {
  body: object;
  query?: Record<string, string>;
}

interface Context {
  /** Where it goes, without a login. */
  url: URL;
  /** The key for signatures, '' for none. */
  secret: string;
  /** The time of signatures, ms since 1970. */
  now: number;
}

interface Form {
  /** The hosts by which the service is known. */
  hosts: readonly string[];
  /** What its URL has to have: at the service itself, for a proxy in between may add it, or everywhere. */
  needs?: { check: (url: URL) => boolean; expected: string; isEverywhere?: boolean };
  /** Whether `secret=` in the URL is a key for signatures, which stays here. */
  isSigned?: boolean;
  write: (report: Report, context: Context) => Message;
  /** Where a message goes whose URL names something else. */
  place?: (url: URL) => URL;
  /** Whether an answer of status 200 says that the message was taken. */
  accepts: (body: string, json: Answer) => boolean;
}

type Answer = Record<string, unknown>;

/** Services take so much text, WeCom 2,048 bytes, ntfy 4,096, others more; nobody reads more on a telephone. */
const MAX_TEXT = 2000;
/** How many receivers there may be. */
const MAX_RECEIVERS = 10;

/** Cuts a text off that is longer than so many bytes in UTF-8, between two characters. */
export function clip(text: string, most = MAX_TEXT): string {
  if (Buffer.byteLength(text) <= most) return text;
  const end = new TextDecoder().decode(Buffer.from(text).subarray(0, most - 3), { stream: true });
  return `${end}…`;
}

/** Takes from a text what services would call people for: a peer has a say in some names, and nobody is to be called by them. */
const unmentioned = (text: string) =>
  text.replace(/<(?=\/?at\b|[@!#])/gi, '\uff1c').replace(/@(?=(all|channel|everyone|here)\b)/gi, '@\u200b');
const plain = ({ title, text }: Report) => clip(unmentioned(`${title}\n${text}`));
const hmac = (key: string, text: string) => new Bun.CryptoHasher('sha256', key).update(text).digest('base64');
const token = (name: string) => ({
  check: ({ searchParams }: URL) => Boolean(searchParams.get(name)),
  expected: t`应含有 ${name}=…`,
});

/**
 * The forms by name, by what the services document: DingTalk's custom robots, Feishu's and Lark's custom bots, WeCom's group robots,
 * ntfy's publishing as JSON, Slack's incoming webhooks, which Mattermost, Rocket.Chat and Discord (`…/slack`) take as well.
 */
const FORMS = {
  dingtalk: {
    hosts: ['oapi.dingtalk.com'],
    needs: token('access_token'),
    isSigned: true,
    write: (report, { secret, now }) => ({
      body: { msgtype: 'text', text: { content: plain(report) } },
      ...(secret && { query: { timestamp: String(now), sign: hmac(secret, `${now}\n${secret}`) } }),
    }),
    accepts: (_, { errcode }) => errcode === 0,
  },
  feishu: {
    hosts: ['open.feishu.cn', 'open.larksuite.com'],
    needs: { check: ({ pathname }) => /\/hook\/[^/]+$/.test(pathname), expected: t`应以 /hook/ 和令牌结尾` },
    isSigned: true,
    write: (report, { secret, now }) => {
      const timestamp = String(Math.floor(now / 1000));
      const signature = secret && { timestamp, sign: hmac(`${timestamp}\n${secret}`, '') };
      return { body: { ...(signature || {}), msg_type: 'text', content: { text: plain(report) } } };
    },
    accepts: (_, { code, StatusCode }) => (code ?? StatusCode) === 0,
  },
  wecom: {
    hosts: ['qyapi.weixin.qq.com'],
    needs: token('key'),
    write: (report) => ({ body: { msgtype: 'text', text: { content: plain(report) } } }),
    accepts: (_, { errcode }) => errcode === 0,
  },
  ntfy: {
    hosts: ['ntfy.sh'],
    needs: { check: ({ pathname }) => topicIn(pathname) !== '', expected: t`应以主题名结尾`, isEverywhere: true },
    write: ({ title, text, isAlarm }, { url }) => {
      const [priority, tag] = isAlarm ? [4, 'warning'] : [3, 'white_check_mark'];
      return { body: { topic: decode(topicIn(url.pathname)), title, message: clip(text), priority, tags: [tag] } };
    },
    place: (url) => Object.assign(new URL(url), { pathname: url.pathname.replace(/[^/]+\/*$/, '') }),
    accepts: (_, { id }) => typeof id === 'string',
  },
  slack: {
    hosts: ['hooks.slack.com', 'hooks.slack-gov.com'],
    needs: { check: ({ pathname }) => pathname.length > 1, expected: t`应含有完整的路径` },
    write: (report) => ({ body: { text: escapeForSlack(plain(report)), mrkdwn: false } }),
    accepts: (body, { ok, success }) => body.trim() === 'ok' || ok === true || success === true,
  },
  json: {
    hosts: [],
    write: ({ data }) => ({ body: data }),
    accepts: (_, { errcode = 0, ok, success }) => errcode === 0 && ok !== false && success !== false,
  },
} satisfies Record<string, Form>;

type FormName = keyof typeof FORMS;

const topicIn = (path: string) => /([^/]+)\/*$/.exec(path)?.[1] ?? '';
const escapeForSlack = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** A place that takes reports. */
export interface Receiver {
  form: FormName;
  /** What was given, without its form. */
  given: URL;
  /** The key for signatures, '' for none. */
  secret: string;
  /** Its number among all, its form and its host, for people: all that may be seen of it. */
  name: string;
  /** By this it is known over restarts, without being told what it is. */
  id: string;
}

/** Reads URLs that are separated by spaces. @throws on others; what is said of one does not tell it */
export function parseReceivers(value: string): Receiver[] {
  const words = value.split(/\s+/).filter(Boolean);
  if (words.length > MAX_RECEIVERS) throw new Error(t`最多 ${MAX_RECEIVERS} 个 URL`);
  return words.map((word, n) => {
    try {
      return parseReceiver(word, n + 1);
    } catch (cause) {
      throw new Error(t`第 ${n + 1} 个 URL ${(cause as Error).message}`);
    }
  });
}

function parseReceiver(word: string, number: number): Receiver {
  const [, prefix, rest = ''] = /^(?:([a-z]+)\+)?(.*)$/is.exec(word) ?? [];
  if (prefix && !Object.hasOwn(FORMS, prefix))
    throw new Error(t`的格式前缀应为 ${Object.keys(FORMS).join(t`、`)} 之一`);
  const given = parseSecretUrl(rest);
  const names = Object.keys(FORMS) as FormName[];
  const known = names.find((name) => (FORMS[name] as Form).hosts.includes(given.hostname));
  const form = (prefix as FormName | undefined) ?? known ?? 'json';
  const { needs, isSigned }: Form = FORMS[form];
  if (needs && (known === form || needs.isEverywhere) && !needs.check(given)) throw new Error(needs.expected);
  const secret = (isSigned && given.searchParams.get('secret')) || '';
  const id = new Bun.CryptoHasher('sha256').update(word).digest('hex').slice(0, 16);
  return { form, given, secret, name: t`NOTIFY_URL 的第 ${number} 个 (${form} ${given.host})`, id };
}

/** Makes the request that sends a report. @param now ms since 1970, for signatures */
export function requestFor({ form, given, secret }: Receiver, report: Report, now: number): Request {
  const { write, place }: Form = FORMS[form];
  const { url: bare, headers } = withoutLogin(given);
  const { body, query = {} } = write(report, { url: bare, secret, now });
  const url = place?.(bare) ?? bare;
  if (secret) url.searchParams.delete('secret');
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
  return {
    url,
    method: 'POST',
    headers: { ...headers, 'Content-Type': 'application/json; charset=utf-8' },
    body: JSON.stringify(body),
  };
}

/** Says why a report was not taken, nothing where it was. A status of 200 alone says nothing. */
export function refusalOf({ form, given }: Receiver, reply: Reply): string | undefined {
  const { status, body } = reply;
  const { accepts }: Form = FORMS[form];
  if (status >= 200 && status < 300 && accepts(body, jsonIn(body))) return undefined;
  return describeReply(given, reply);
}

function jsonIn(body: string): Answer {
  try {
    return Object(JSON.parse(body));
  } catch {
    return {};
  }
}

const receivers = checked(parseReceivers);
const heartbeat = checked((value) => value && parseSecretUrl(value));

/** Gives the variables of reports. @param of for what a heartbeat is sent, for people */
export const reportVariables = (of: string) => ({
  NOTIFY_URL: receivers({
    default: '',
    desc: t`出现故障和恢复时，向这些 URL 发送报告，以空格分隔；钉钉、飞书、企业微信、ntfy 和 Slack 按主机名识别，其他为 JSON`,
  }),
  NOTIFY_AFTER: seconds({ default: 120, desc: t`故障持续这么久（秒）才报告` }),
  HEARTBEAT_URL: heartbeat({ default: '', desc: t`${of}正常时，每分钟请求（GET）一次此 URL` }),
});
