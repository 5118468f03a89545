/** packaging/mirrors.sh, by which rsync_inotify.dockerfile uses mirrors of Debian and npm. */

import { afterAll, describe, expect, test } from 'bun:test';
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { answerOf } from '../processes.ts';
import { ROOT } from '../project.ts';
import { Registries } from '../registries.ts';

const directory = mkdtempSync(join(tmpdir(), 'rsync-inotify-mirrors-'));
afterAll(() => rmSync(directory, { recursive: true }));

const MIRROR = 'http://mirrors.example.org';

/** The sources of apt in images of these, as they come, but for comments. */
const SOURCES: [system: string, file: string, text: string, rewritten: string][] = [
  [
    'Debian 10',
    'sources.list',
    `deb http://deb.debian.org/debian buster main
deb http://security.debian.org/debian-security buster/updates main
deb http://security.debian.org buster/updates contrib
`,
    `deb ${MIRROR}/debian buster main
deb ${MIRROR}/debian-security buster/updates main
deb ${MIRROR}/debian-security buster/updates contrib
`,
  ],
  [
    'Debian 11',
    'sources.list',
    `# deb http://snapshot.debian.org/archive/debian/20240612T000000Z bullseye main
deb http://deb.debian.org/debian bullseye main
deb [arch=amd64] http://deb.debian.org/debian-security bullseye-security main
deb-src https://security.debian.org/ bullseye-security main
`,
    `# deb http://snapshot.debian.org/archive/debian/20240612T000000Z bullseye main
deb ${MIRROR}/debian bullseye main
deb [arch=amd64] ${MIRROR}/debian-security bullseye-security main
deb-src ${MIRROR}/debian-security bullseye-security main
`,
  ],
  [
    'Debian 12 and 13',
    'sources.list.d/debian.sources',
    `Types: deb
# http://snapshot.debian.org/archive/debian/20250520T000000Z
URIs: http://deb.debian.org/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`,
    `Types: deb
# http://snapshot.debian.org/archive/debian/20250520T000000Z
URIs: ${MIRROR}/debian
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: ${MIRROR}/debian-security
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`,
  ],
  [
    'Ubuntu 22.04',
    'sources.list',
    `deb http://archive.ubuntu.com/ubuntu/ jammy main restricted
deb http://de.archive.ubuntu.com/ubuntu/ jammy-updates main restricted
deb http://security.ubuntu.com/ubuntu/ jammy-security main restricted
deb https://packages.example.com/apt stable main
`,
    `deb ${MIRROR}/ubuntu/ jammy main restricted
deb ${MIRROR}/ubuntu/ jammy-updates main restricted
deb ${MIRROR}/ubuntu/ jammy-security main restricted
deb https://packages.example.com/apt stable main
`,
  ],
  [
    'Ubuntu 24.04 on arm64',
    'sources.list.d/ubuntu.sources',
    'Types: deb\nURIs: http://ports.ubuntu.com/ubuntu-ports/\nSuites: noble noble-updates\n',
    `Types: deb\nURIs: ${MIRROR}/ubuntu-ports/\nSuites: noble noble-updates\n`,
  ],
];

/** Runs the script. @returns its exit status and what it printed */
async function mirrors(args: string[], env: Record<string, string>, cwd = directory) {
  const PATH = `${dirname(process.execPath)}:${process.env.PATH}`;
  const script = join(ROOT, 'packaging', 'mirrors.sh');
  const { status, stdout, stderr } = await answerOf(
    spawn('sh', [script, ...args], { cwd, env: { ...process.env, ...env, PATH } }),
  );
  return { status, output: `${stdout}${stderr}` };
}

/** A directory like /etc/apt with one file. */
function etcApt(file: string, text: string): string {
  const apt = mkdtempSync(join(directory, 'apt-'));
  mkdirSync(join(apt, 'sources.list.d'));
  writeFileSync(join(apt, file), text);
  return apt;
}

describe.each(SOURCES)('the sources of %s', (_system, file, text, rewritten) => {
  test.each([MIRROR, `${MIRROR}/`, `${MIRROR}/debian`, `${MIRROR}/ubuntu/`])(
    'all lead to %s, but for those of others',
    async (APT_MIRROR) => {
      const apt = etcApt(file, text);
      expect(await mirrors(['apt', apt], { APT_MIRROR })).toEqual({ status: 0, output: '' });
      expect(readFileSync(join(apt, file), 'utf8')).toBe(rewritten);
    },
  );

  test('stay as they are without a mirror', async () => {
    const apt = etcApt(file, text);
    for (const env of [{}, { APT_MIRROR: '' }])
      expect(await mirrors(['apt', apt], env as Record<string, string>)).toEqual({ status: 0, output: '' });
    expect(readFileSync(join(apt, file), 'utf8')).toBe(text);
  });
});

test('a mirror that no source would use is told of', async () => {
  const apt = etcApt('sources.list', 'deb https://packages.example.com/apt stable main\n');
  const { status, output } = await mirrors(['apt', apt], { APT_MIRROR: MIRROR });
  expect([status, output]).toEqual([
    1,
    `APT_MIRROR: nothing in ${apt} of BASE_IMAGE names a server of Debian or Ubuntu\n`,
  ]);
});

describe.each([
  ['APT_MIRROR', 'apt'],
  ['NPM_REGISTRY', 'npm'],
])('%s', (variable, command) => {
  const touched = join(directory, 'touched');
  test.each([
    ['mirrors.example.org', 'does not begin with http:// or https:// and the name of a host'],
    ['ftp://mirrors.example.org', 'does not begin with http:// or https:// and the name of a host'],
    ['http://', 'does not begin with http:// or https:// and the name of a host'],
    ['http:///debian', 'does not begin with http:// or https:// and the name of a host'],
    ['http://mirrors.example.org /x', 'has a character other than'],
    ['"http://mirrors.example.org"', 'has a character other than'],
    ["http://mirrors.example.org/'", 'has a character other than'],
    [`http://mirrors.example.org/$(touch ${touched})`, 'has a character other than'],
    [`http://mirrors.example.org/;touch ${touched}`, 'has a character other than'],
    ['http://mirrors.example.org/#g;e', 'has a character other than'],
    ['http://mirrors.example.org/&', 'has a character other than'],
    ['http://mirrors.example.org\ndeb http://evil.example', 'has a character other than'],
  ])('is refused as %j', async (value, reason) => {
    const apt = etcApt('sources.list', 'deb http://deb.debian.org/debian trixie main\n');
    const { status, output } = await mirrors([command, apt], { [variable]: value }, apt);
    expect(status).toBe(1);
    expect(output).toStartWith(`${variable}: `);
    expect(output).toContain(value);
    expect(output).toContain(reason);
    expect(existsSync(touched)).toBe(false);
    expect(readFileSync(join(apt, 'sources.list'), 'utf8')).toBe('deb http://deb.debian.org/debian trixie main\n');
  });

  test('is refused with a password, which is not repeated', async () => {
    const { status, output } = await mirrors([command, directory], { [variable]: 'https://me:s3cret@example.org' });
    expect(status).toBe(1);
    expect(output).toBe(
      `${variable}: a user name or password would be in the history of the image: only an address without\n`,
    );
  });
});

test('the packages of bun.lockb come from NPM_REGISTRY and nowhere else, as they are in bun.lockb', async () => {
  using registries = new Registries();
  for (const name of ['package.json', 'bun.lockb', 'bunfig.toml']) cpSync(join(ROOT, name), join(directory, name));
  const cache = join(directory, 'cache');
  const env = { ...registries.noOther, BUN_INSTALL_CACHE_DIR: cache };
  const elsewhere = await mirrors(['npm'], env);
  expect(elsewhere.status, elsewhere.output).not.toBe(0); // what is not asked for at the stand-in comes to nothing
  const { status, output } = await mirrors(['npm'], { ...env, NPM_REGISTRY: `${registries.url}/` });
  expect(status, output).toBe(0);
  const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  for (const [name, version] of Object.entries(dependencies)) {
    const installed = JSON.parse(readFileSync(join(directory, 'node_modules', name, 'package.json'), 'utf8'));
    expect(installed.version).toBe(version);
    expect(registries.asked).toContain(`/${name}/-/${name}-${version}.tgz`);
  }
  expect(readFileSync(join(directory, 'bun.lock'), 'utf8')).toContain('sha512-'); // by which what came was checked
});
