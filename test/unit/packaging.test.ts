import { afterAll, describe, expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { binary, bundle, modules, ROOT } from '../project.ts';

const read = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8');
const manifest = JSON.parse(read('package.json'));
const PROGRAMS = ['rsync-inotify', 'start-sshd'] as const;
const PLATFORMS = ['linux-x64', 'linux-arm64', 'linux-x64-musl', 'linux-arm64-musl'];

/** A copy of what the packaging works on, for it to change. */
const copy = mkdtempSync(join(tmpdir(), 'packaging-'));
const parts = ['package.json', 'CHANGELOG.md', 'LICENSE', 'THIRD_PARTY_NOTICES.txt', 'packaging'];
for (const part of parts) cpSync(join(ROOT, part), join(copy, part), { recursive: true });
const inCopy = (...path: string[]) => readFileSync(join(copy, ...path), 'utf8');
const runInCopy = (script: string, args: string[] = [], env = {}) =>
  spawnSync('sh', [join(copy, 'packaging', script), ...args], { encoding: 'utf8', env: { ...process.env, ...env } });
afterAll(() => rmSync(copy, { recursive: true }));

describe('the version', () => {
  const newestOf = (changelog: string) => /^## \[(\d.*)\] - \d{4}-\d\d-\d\d$/m.exec(changelog)?.[1];

  test('of package.json is that of both programs and the newest of the changelog', () => {
    const versionOf = (...command: string[]) =>
      Bun.spawnSync([...command, '--version'])
        .stdout.toString()
        .trim();
    for (const name of PROGRAMS) {
      expect(versionOf(binary(name))).toBe(`${name} ${manifest.version}`);
      expect(versionOf(process.execPath, 'run', '--no-env-file', bundle(name))).toBe(`${name} ${manifest.version}`);
    }
    expect(newestOf(read('CHANGELOG.md'))).toBe(manifest.version);
  });

  test('stands in package.json alone: a second one would be forgotten', () => {
    const packaging = readdirSync(join(ROOT, 'packaging'), { withFileTypes: true }).filter((file) => file.isFile());
    const others = ['setup.sh', 'rsync_inotify.dockerfile', 'compose.yml', 'deploy/kubernetes.yml'];
    const files = [...modules(), ...packaging.map(({ name }) => `packaging/${name}`), ...others];
    const constant = new RegExp(`(['"\`])v?${RegExp.escape(manifest.version)}\\1`);
    expect(files.filter((file) => constant.test(read(file)))).toEqual([]);
  });

  test('is taken to the changelog by `npm version`, once', () => {
    writeFileSync(join(copy, 'package.json'), JSON.stringify({ ...manifest, version: '9.8.7' }));
    for (let n = 0; n < 2; n++) expect(runInCopy('set-version.sh')).toMatchObject({ status: 0, stderr: '' });
    expect(newestOf(inCopy('CHANGELOG.md'))).toBe('9.8.7');
    expect(
      inCopy('CHANGELOG.md')
        .match(/^## .*/gm)
        ?.slice(0, 3),
    ).toEqual([
      '## [Unreleased]',
      `## [9.8.7] - ${new Date().toISOString().slice(0, 10)}`,
      expect.stringContaining(`## [${manifest.version}] - `),
    ]);
    expect(manifest.scripts.version).toStartWith('sh packaging/set-version.sh ');
  });
});

describe('build:all', () => {
  /** A Bun that builds, in place of a program, a file that says for what it was built. */
  const fake = `#!/bin/sh
[ "$*" = 'run --silent build' ] || exit 9
mkdir -p "$DIR"
for name in ${PROGRAMS.join(' ')}; do echo "$name $TARGET" >"$DIR/$name$SUFFIX"; echo "$name" >"$DIR/$name.js"; done
`;
  mkdirSync(join(copy, 'bin'));
  writeFileSync(join(copy, 'bin', 'bun'), fake, { mode: 0o755 });
  const build = (...platforms: string[]) =>
    runInCopy('build-all.sh', platforms, { PATH: `${copy}/bin:${process.env.PATH}` });
  const release = join(copy, 'dist', 'release');
  const check = () => spawnSync('sha256sum', ['--check', '--quiet', 'SHA256SUMS'], { cwd: release }).status;

  test('makes both programs for each platform and once for any Bun, with the sums of all files', () => {
    mkdirSync(release, { recursive: true });
    writeFileSync(join(release, 'rsync-inotify-of-old'), '');
    expect(build()).toMatchObject({ status: 0, stderr: '' });
    const built = PROGRAMS.flatMap((name) => PLATFORMS.map((platform) => `${name}-${platform}`));
    const units = [...PROGRAMS, 'rsync-inotify-tree'].flatMap((name) => [`${name}.env`, `${name}.service`]);
    const besides = [...PROGRAMS.map((name) => `${name}.js`), ...units];
    const files = [...built, ...besides, 'LICENSE', 'THIRD_PARTY_NOTICES.txt'].sort();
    expect(readdirSync(release).sort()).toEqual([...files, 'SHA256SUMS'].sort());
    expect([...inCopy('dist/release/SHA256SUMS').matchAll(/\S+$/gm)].map(String).sort()).toEqual(files);
    expect(inCopy('dist/release/start-sshd-linux-arm64-musl')).toBe('start-sshd --target=bun-linux-arm64-musl\n');
    expect(inCopy('dist/release/rsync-inotify-tree.service')).toBe(read('packaging/rsync-inotify@.service'));
    for (const file of files) expect(file).toMatch(/^[\w.-]+$/); // all else GitHub replaces
    expect(check()).toBe(0);
    writeFileSync(join(release, 'start-sshd-linux-x64'), 'another');
    expect(check()).toBe(1);
  });

  test('builds with the flags of `build`, which are nowhere else', () => {
    expect(manifest.scripts.build).toContain('--compile');
    // biome-ignore lint/suspicious/noTemplateCurlyInString: of the shell
    for (const part of ['$TARGET', '--outfile ${DIR:-dist}/$name$SUFFIX', '--outfile ${DIR:-dist}/$name.js'])
      expect(manifest.scripts.build).toContain(part);
    for (const file of ['packaging/build-all.sh', 'rsync_inotify.dockerfile'])
      expect(read(file)).not.toContain('--compile');
  });

  test('fails where a platform fails', () => {
    writeFileSync(join(copy, 'bin', 'bun'), '#!/bin/sh\necho no such target >&2; exit 1\n', { mode: 0o755 });
    expect(build('linux-x64').status).not.toBe(0);
    expect(readdirSync(join(copy, 'dist'))).toEqual([]);
  });
});
