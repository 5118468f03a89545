import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { mayHaveNamespace, Namespace } from '../namespace.ts';
import { Pair, userName } from '../pair.ts';
import { cleanEnv, eventually, freePort } from '../processes.ts';
import { binary } from '../project.ts';

setDefaultTimeout(120_000);

const CHROMIUM = '/usr/bin/chromium';
const isMissing = !existsSync(CHROMIUM);
if (isMissing) console.warn(`skipped: the status page in a browser needs ${CHROMIUM} (apt-get install chromium)`);

const hasMounts = mayHaveNamespace();

/** The parts of the status that are compared with what the page shows. */
interface Status {
  host: string;
  version: string;
  source: string;
  watch: { directories: number; events: number };
  problems: { problem: string }[];
  targets: { target: string; state: string; syncs: Record<'full' | 'incremental', { success: number }> }[];
  changes: { path: string }[];
}

async function statusOf(url: string): Promise<Status> {
  const { body } = await fetch(`${url}events`);
  let text = '';
  for await (const chunk of body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += chunk;
    if (text.includes('\n\n')) break;
  }
  return JSON.parse(text.slice(text.indexOf('{'), text.indexOf('\n\n')));
}

async function served(pair: Pair, env: Record<string, string> = {}) {
  const port = await freePort();
  const programs = await pair.run({ METRICS_PORT: String(port), SYNC_INTERVAL: '0', ...env });
  return { ...programs, url: `http://127.0.0.1:${port}/` };
}

const shown = async (page: Page, field: string) =>
  (await page.locator(`[data-field="${field}"]`).first().textContent()) ?? '';

const digits = (text: string) => Number(text.replace(/\D/g, ''));

describe.skipIf(isMissing)(`the status page${isMissing ? ' (skipped: chromium is not installed)' : ''}`, () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] });
  });
  afterAll(() => browser?.close());

  /** Opens the page and keeps what went wrong in it: errors, violations of its policy, dialogs. */
  async function opened(url: string, options: BrowserContextOptions = { locale: 'en-US' }) {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    const wrong: string[] = [];
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') wrong.push(message.text());
    });
    page.on('pageerror', (error) => wrong.push(error.message));
    page.on('dialog', (dialog) => {
      wrong.push(`dialog: ${dialog.message()}`);
      return dialog.dismiss();
    });
    await page.goto(url);
    await page.locator('#page').waitFor();
    return { page, wrong, [Symbol.asyncDispose]: () => context.close() };
  }

  test('shows what the status says', async () => {
    await using pair = await Pair.withKeys('page');
    mkdirSync(pair.path('source', 'directory'));
    writeFileSync(pair.path('source', 'before'), 'x');
    const { url } = await served(pair);
    writeFileSync(pair.path('source', 'since'), 'x');
    await pair.isMirrored();
    await using tab = await opened(url);

    const { page } = tab;
    const status = await eventually(async () => {
      const now = await statusOf(url);
      return now.targets[0]?.state === 'idle' && now.targets[0].syncs.incremental.success > 0 ? now : undefined;
    });
    const target = status.targets[0];
    await eventually(async () => digits(await shown(page, 'watch.events')) === status.watch.events);
    expect(await shown(page, 'verdict')).toBe('Healthy');
    expect(await page.title()).toBe(`Healthy · ${status.host} · rsync-inotify`);
    expect(await shown(page, 'host')).toBe(status.host);
    expect(await shown(page, 'version')).toBe(status.version);
    expect(await shown(page, 'source')).toBe(`${pair.path('source')}/`);
    await eventually(async () => digits(await shown(page, 'watch.directories')) === 2);
    expect(await shown(page, 'target')).toBe(target?.target ?? '');
    expect(await shown(page, 'state')).toBe('idle');
    expect(await shown(page, 'lag')).toBe('0s');
    expect(await shown(page, 'last_success')).toMatch(/^\d+s ago$/);
    expect(digits(await shown(page, 'syncs.full.success'))).toBe(target?.syncs.full.success ?? 0);
    expect(digits(await shown(page, 'syncs.incremental.success'))).toBe(target?.syncs.incremental.success ?? 0);
    expect(await page.locator('[data-field=path]').allTextContents()).toEqual(status.changes.map(({ path }) => path));
    expect(await page.locator('[data-chart=syncs] .bar:not([height="0"])').count()).toBeGreaterThan(0);
    expect(tab.wrong).toEqual([]);
  });

  test('follows a change within two seconds, in the same nodes, and keeps what is selected', async () => {
    await using pair = await Pair.withKeys('page-live');
    const { url } = await served(pair);
    await using tab = await opened(url);

    const { page } = tab;
    await page.evaluate(`
      marked = document.querySelector('[data-list=targets] article');
      getSelection().selectAllChildren(marked.querySelector('[data-field=target]'));`);
    const before = digits(await shown(page, 'watch.events'));
    writeFileSync(pair.path('source', 'live'), 'x');
    await page.getByText(pair.path('source', 'live'), { exact: true }).first().waitFor({ timeout: 2000 });
    await eventually(async () => digits(await shown(page, 'watch.events')) > before, 2000);
    expect(await page.evaluate(`marked === document.querySelector('[data-list=targets] article')`)).toBe(true);
    expect(await page.evaluate('getSelection().toString()')).toBe(await shown(page, 'target'));
    expect(tab.wrong).toEqual([]);
  });

  test('shows a file name of HTML as text', async () => {
    await using pair = await Pair.withKeys('page-html');
    const { url } = await served(pair);
    await using tab = await opened(url);

    const path = pair.path('source', '<img src=x onerror=alert(1)>.txt');
    writeFileSync(path, 'x');
    await tab.page.getByText(path, { exact: true }).first().waitFor();
    expect(await tab.page.locator('img').count()).toBe(0);
    expect(tab.wrong).toEqual([]);
  });

  test('is Chinese for who reads Chinese, and English for all others', async () => {
    await using pair = await Pair.withKeys('page-language');
    const { url } = await served(pair);
    for (const [locale, language, verdict, heading] of [
      ['zh-CN', 'zh-CN', '运行正常', '备份目标'],
      ['en-US', 'en', 'Healthy', 'Targets'],
      ['de-DE', 'en', 'Healthy', 'Targets'],
    ] as const) {
      await using tab = await opened(url, { locale });
      expect(await tab.page.locator('html').getAttribute('lang')).toBe(language);
      await eventually(async () => (await shown(tab.page, 'verdict')) === verdict);
      expect(await tab.page.getByRole('heading', { name: heading, exact: true }).count()).toBe(1);
      expect(tab.wrong).toEqual([]);
    }
  });

  test.skipIf(!hasMounts)(
    `shows what asks for a look, and what may be done about it${hasMounts ? '' : ' (skipped: no mount namespace)'}`,
    async () => {
      await using pair = await Pair.withKeys('page-notes');
      await using namespace = await Namespace.make();
      const source = (...names: string[]) => pair.path('source', ...names);
      mkdirSync(source('disk'));
      namespace.run('mount -t tmpfs tmpfs "$1"; echo x >"$1/x"', source('disk'));
      for (const name of ['photos', 'letters']) {
        mkdirSync(source(name));
        for (let n = 0; n < 150; n++) writeFileSync(source(name, `${n}`), name);
      }
      await pair.start('start-sshd', { HISTORY_DAYS: '30' });
      const port = String(await freePort());
      const user = userName();
      const away = [2, 3, 4].map((n) => `${user}@127.0.0.${n}`);
      const DEST_HOSTS = [`${user}@127.0.0.1`, ...away].join(' ');
      const env = { DEST_HOSTS, METRICS_PORT: port, RSYNC_OPTS: '-aL --delete', MAX_DELETE: '100', SYNC_INTERVAL: '0' };
      const service = pair.start('rsync-inotify', env, namespace.wrapper);
      await service.shows('✓ 服务运行中');
      const url = `http://127.0.0.1:${port}/`;
      await using english = await opened(url, { locale: 'en-US' });
      await using chinese = await opened(url, { locale: 'zh-CN', viewport: { width: 360, height: 800 } });
      const showBoth = async (...texts: [string | RegExp, string | RegExp][]) => {
        for (const [mine, theirs] of texts) {
          await english.page.getByText(mine).first().waitFor();
          await chinese.page.getByText(theirs).first().waitFor();
        }
      };

      await showBoth(
        ['Older versions are kept for 30 days', '旧版本保留 30天'],
        [
          'Each change costs a full sync, because RSYNC_OPTS have -L',
          '每次变化都进行全量同步，因为 RSYNC_OPTS 中有 -L',
        ],
        [`${away.map((host) => `${host}:${pair.path('backup')}/`).join(', ')} cannot be reached`, '无法连接'],
      );
      const rows = english.page.getByRole('navigation', { name: 'Overview of the targets' }).getByRole('link');
      expect(await rows.count()).toBe(4);
      await rows.nth(3).press('Enter');
      expect(await english.page.locator(':target').textContent()).toBe(`${away[2]}:${pair.path('backup')}/`);

      tell(pair, 'rsync-inotify', '--pause', '10m');
      await showBoth(
        [
          /^As requested, nothing is sent until \d+:\d+:\d+; changes accumulate\.$/,
          /^已按要求暂停同步，到 \d+:\d+:\d+ 为止/,
        ],
        ['To resume at once: rsync-inotify --resume', '立即继续： rsync-inotify --resume'],
      );
      tell(pair, 'rsync-inotify', '--resume');
      await english.page.getByText('Nothing is sent').first().waitFor({ state: 'detached' });

      namespace.run('umount -l "$1"', source('disk'));
      renameSync(source('photos'), pair.path('photos-elsewhere')); // in one batch, however busy the machine is
      await showBoth(
        ['Deletions held back', '被暂缓的删除'],
        [/^15[01] files/, /^15[01] 个文件/],
        ['To let them through: rsync-inotify --accept-deletions', '确认后放行： rsync-inotify --accept-deletions'],
        ['File systems below the source are gone', '源目录下的文件系统不见了'],
        ['What is mounted at disk below the source is gone', '源目录下挂载于 disk 的文件系统不见了'],
      );
      for (const [level, name] of [
        [3, 'File systems below the source are gone'],
        [4, 'Deletions held back'],
      ] as const)
        await english.page.getByRole('heading', { level, name }).waitFor();

      tell(pair, 'start-sshd', '--promote');
      await showBoth(['The backup has taken over', '备份端已接管'], ['start-sshd --demote', 'start-sshd --demote']);
      const { stdout } = tell(pair, 'rsync-inotify', '--status');
      expect(stdout).toContain('RSYNC_OPTS 中的选项 -L 不能逐个文件执行，每次变化都进行全量同步');
      expect(stdout).toContain('备份端保留 30 天内的旧版本 (HISTORY_DAYS)');
      for (const { page, wrong } of [english, chinese]) {
        expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBe(0);
        expect(wrong).toEqual([]);
      }
      await expectContrast(chinese.page);

      const { targets, ...rest } = (await statusOf(url)) as Status & { targets: object[] };
      const since = new Date().toISOString();
      const paths = ['a', 'b'].map((path) => ({ path, reason: 'Permission denied' }));
      const failing = { failed: { count: 102, since, paths }, stalled: since };
      const rare = { ...failing, unsettable: ['owner'], rivals: ['web2'], rsync_options: '--no-A --bwlimit=9' };
      const showToBoth = async (omitted: Record<string, number>) => {
        const body = `data: ${JSON.stringify({ ...rest, omitted, targets: [{ ...targets[0], ...rare }] })}\n\n`;
        for (const { page } of [english, chinese]) {
          await page.unrouteAll();
          await page.route('**/events', (route) => route.fulfill({ contentType: 'text/event-stream', body }));
          await page.reload();
        }
      };
      await showToBoth({ changes: 0, syncs: 0, lines: 1100, tries: 0 });
      await showBoth(['1,100 rsync lines', '1,100 行 rsync 输出']);
      expect(await english.page.getByText('0 changes').count()).toBe(0);
      await showToBoth({ changes: 1234, syncs: 1, lines: 0, tries: 2 });
      await showBoth(
        ['1,234 changes', '1,234 处变化'],
        ['1 sync, 2 attempts', '1 次同步、2 次重试'],
        [
          'Options of its own (DEST_RSYNC_OPTS): --no-A --bwlimit=9',
          '另加的选项 (DEST_RSYNC_OPTS)：--no-A --bwlimit=9',
        ],
        ['102 paths since', '102 个路径，始于'],
        ['and 100 more', '另有 100 项'],
        ['The backup has all contents, but not all of: owner.', '备份端有全部内容，但缺少部分属性：属主。'],
        ['Another rsync-inotify mirrors here as well', '另一个 rsync-inotify 也在镜像到这里'],
        [/The disk of the backup may hang/, /备份端的磁盘可能没有应答/],
      );
    },
  );

  test('fits a telephone and a desk, by day and by night', async () => {
    await using pair = await Pair.withKeys('page-width');
    const { url } = await served(pair);
    writeFileSync(pair.path('source', 'a-name-without-a-space-'.repeat(10)), 'x');
    const backgrounds = new Set<string>();
    for (const width of [360, 1280]) {
      for (const colorScheme of ['light', 'dark'] as const) {
        await using tab = await opened(url, { viewport: { width, height: 800 }, colorScheme, locale: 'zh-CN' });
        await tab.page.getByText('a-name-without').first().waitFor();
        expect(await tab.page.evaluate('document.documentElement.scrollWidth')).toBe(width);
        backgrounds.add(await tab.page.evaluate('getComputedStyle(document.body).backgroundColor'));
        expect(tab.wrong).toEqual([]);
      }
    }
    expect(backgrounds.size).toBe(2);
  });

  test('tells when the backup goes away, and when it is back', async () => {
    await using pair = await Pair.withKeys('page-down');
    const { url, backup } = await served(pair);
    await using tab = await opened(url);

    await eventually(async () => (await shown(tab.page, 'verdict')) === 'Healthy');
    await backup.stop();
    await eventually(async () => (await shown(tab.page, 'verdict')) === 'Not healthy');
    expect(await shown(tab.page, 'state')).toBe('down');
    expect(await shown(tab.page, 'sentence')).toContain('cannot be reached');
    pair.start('start-sshd');
    await eventually(async () => (await shown(tab.page, 'verdict')) === 'Healthy');
    expect(await shown(tab.page, 'state')).not.toBe('down');
    expect(tab.wrong).toEqual([]);
  });

  test('tells when there is no connection to the program, and takes it up again', async () => {
    await using pair = await Pair.withKeys('page-cut');
    const port = await freePort();
    const env = { METRICS_PORT: String(port), SYNC_INTERVAL: '0' };
    const { source } = await pair.run(env);
    await using tab = await opened(`http://127.0.0.1:${port}/`);

    expect(await tab.page.locator('#notice').isVisible()).toBe(false);
    await source.stop();
    await tab.page.getByText(/No connection to rsync-inotify. What you see is \d+s old/).waitFor();
    expect(await shown(tab.page, 'verdict')).toStartWith('No connection; last known: ');
    pair.start('rsync-inotify', env);
    await tab.page.locator('#notice').waitFor({ state: 'hidden', timeout: 30_000 });
    await eventually(async () => (await shown(tab.page, 'verdict')) === 'Healthy');
  });

  test('comes under a policy that allows nothing else, answers to GET alone, and cannot be framed', async () => {
    await using pair = await Pair.withKeys('page-policy');
    const { url } = await served(pair);
    const { headers } = await fetch(url);
    expect(
      headers
        .get('Content-Security-Policy')
        ?.replaceAll(/'sha256-.{44}'/g, 'HASH')
        .split('; ')
        .sort(),
    ).toEqual([
      "base-uri 'none'",
      "connect-src 'self'",
      "default-src 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
      'img-src data:',
      'script-src HASH',
      'style-src HASH',
    ]);
    expect(headers.get('X-Frame-Options')).toBe('DENY');
    expect(headers.get('X-Content-Type-Options')).toBe('nosniff');
    expect(headers.get('Referrer-Policy')).toBe('no-referrer');
    expect(headers.get('Cache-Control')).toBe('no-store');
    expect((await fetch(url, { method: 'POST' })).status).toBe(405);
    expect((await fetch(`${url}unknown`)).status).toBe(404);

    using other = await framing(url);
    await using context = await browser.newContext();
    const page = await context.newPage();
    const refused = page.waitForEvent('console', (message) => /frame/i.test(message.text()));
    await page.goto(other.url);
    expect((await refused).text()).toContain('frame-ancestors');
    expect(await page.frames()[1]?.locator('#page').count()).toBe(0);
  });

  test('is not to be had by a web site whose name leads here, and is by the names that are set', async () => {
    await using pair = await Pair.withKeys('page-rebound');
    const { url, source } = await served(pair, { METRICS_HOSTS: 'Status.Example.org., other.example' });
    const rules = '--host-resolver-rules=MAP * 127.0.0.1';
    const misled = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', rules] });
    await using _ = { [Symbol.asyncDispose]: () => misled.close() };
    const page = await misled.newPage();
    for (const path of ['', 'metrics', 'events', 'healthz', 'unknown']) {
      const answer = await page.goto(`${url.replace('127.0.0.1', 'evil.example')}${path}`);
      expect(answer?.status()).toBe(421);
      expect(await answer?.text()).toContain('"evil.example" 应答');
    }
    expect(source.output.split('"evil.example" 应答')).toHaveLength(2);
    for (const name of ['status.example.org', 'other.example', 'localhost']) {
      await page.goto(url.replace('127.0.0.1', name));
      await page.locator('#page').waitFor();
      await eventually(async () => (await shown(page, 'verdict')) === 'Healthy');
    }
    const fromElsewhere = `fetch('${url}metrics', { mode: 'no-cors' }).then(() => 'read', () => 'refused')`;
    expect(await page.evaluate(`fetch('metrics').then(({ status }) => status)`)).toBe(200);
    await page.goto('data:text/html,elsewhere');
    expect(await page.evaluate(fromElsewhere)).toBe('refused');
  });
});

/** Asks a program beside the service of a pair. */
function tell(pair: Pair, name: 'rsync-inotify' | 'start-sshd', ...flags: string[]) {
  const env = { ...cleanEnv(), ...(name === 'start-sshd' ? pair.backupEnv : pair.sourceEnv), NO_COLOR: '1' };
  return spawnSync(binary(name), flags, { env, encoding: 'utf8' });
}

/** All text can be read by day and by night: WCAG 2.2, 1.4.3, asks for a contrast of 4.5 to what is behind it. */
async function expectContrast(page: Page): Promise<void> {
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme });
    expect(
      await page.evaluate(`(() => {
      const canvas = document.createElement('canvas').getContext('2d');
      const rgb = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
      };
      const light = ([r, g, b]) => [r, g, b]
        .map((part) => (part <= 10 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4))
        .reduce((sum, part, n) => sum + part * [0.2126, 0.7152, 0.0722][n], 0);
      const behind = (node) => {
        const color = rgb(getComputedStyle(node).backgroundColor);
        return color[3] > 0 || !node.parentElement ? color : behind(node.parentElement);
      };
      const faint = [];
      const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
      let seen = 0;
      while (texts.nextNode()) {
        const { parentElement: node, data } = texts.currentNode;
        if (!data.trim() || !node.checkVisibility()) continue;
        seen++;
        const [one, two] = [light(rgb(getComputedStyle(node).color)), light(behind(node))].sort((a, b) => a - b);
        if ((two + 0.05) / (one + 0.05) < 4.5) faint.push(data.trim());
      }
      return seen > 50 ? faint : ['nothing was seen'];
    })()`),
    ).toEqual([]);
  }
}

/** A page of another origin that has this one in a frame. */
async function framing(url: string) {
  const port = await freePort();
  const server = createServer((_, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end(`<iframe src="${url}"></iframe>`);
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${port}/`, [Symbol.dispose]: () => server.close() };
}
