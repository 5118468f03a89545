import { expect, test } from 'bun:test';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../project.ts';

const { packageManager } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
const version = packageManager.split('@')[1];

/**
 * A machine that has only Node.js: package managers that note what they are asked for, and then have it.
 * @param lacking a package that its release does not have
 */
function freshMachine(directory: string, packageManagerName: 'apt-get' | 'apk', lacking = '-') {
  const bin = join(directory, 'bin');
  const project = join(directory, 'project');
  mkdirSync(bin);
  mkdirSync(project);
  for (const file of ['setup.sh', 'package.json', 'bun.lockb']) copyFileSync(join(ROOT, file), join(project, file));
  for (const name of [
    'sh',
    'dirname',
    'sort',
    'tr',
    'cmp',
    'cp',
    'env',
    'mkdir',
    'cat',
    'node',
    'grep',
    'rm',
    'chmod',
  ]) {
    symlinkSync(Bun.which(name) ?? '', join(bin, name));
  }
  const stub = (name: string, script: string) =>
    writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const log = (name: string) => `echo ${name} "$@" >> "${directory}/log"`;
  const provide = (...names: string[]) => names.map((name) => `cp "${bin}/true" "${bin}/${name}"`).join('; ');
  stub('true', 'exit 0');
  stub('id', 'echo 0');
  stub('systemctl', log('systemctl'));
  stub('apt-cache', `[ "$2" != ${lacking} ]`);
  stub('invoke-rc.d', 'exit 0');
  stub('font-list', 'echo a Chinese font');
  const policy = join(directory, 'policy-rc.d');
  const programs = provide('rsync', 'inotifywait', 'ssh', 'ssh-keygen', 'sshd');
  const works = provide('git', 'logrotate', 'mkfs.ext4', 'patch', 'sudo', 'unzip', 'zip', 'vim', 'vim.tiny');
  const disks = `${provide('mount.exfat-fuse', 'mkfs.exfat', 'prometheus-alertmanager')}; cp "${bin}/true" "${directory}/fusepy.py"`;
  const testTools = `${provide('prometheus', 'chromium')}; ${works}; ${disks}; cp "${bin}/font-list" "${bin}/fc-list"`;
  stub(
    packageManagerName,
    `${log(packageManagerName)}; [ -e "${policy}" ] && sh "${policy}" || echo policy $? >> "${directory}/log"
    case "$*" in *rsync*) ${programs} ;; esac; case "$*" in *chromium*) ${testTools} ;; esac`,
  );
  stub('bun-stub', `${log('bun')}; [ "$1" = --version ] && echo ${version} || mkdir -p node_modules`);
  stub('npm', `${log('npm')}; cp "${bin}/bun-stub" "${bin}/bun"`);
  // setup.sh adds the machine's sbin directories to PATH; sshd is made to miss there too, and what it looks for elsewhere
  writeFileSync(
    join(project, 'setup.sh'),
    readFileSync(join(project, 'setup.sh'), 'utf8')
      .replace(':/usr/local/sbin:/usr/sbin:/sbin', '')
      .replace('/usr/lib/python3/dist-packages', directory)
      .replace('/usr/sbin/policy-rc.d', policy),
  );
  const setup = (...command: string[]) => {
    rmSync(join(directory, 'log'), { force: true });
    const { stdout, stderr, status } = spawnSync(join(bin, 'sh'), [join(project, 'setup.sh'), ...command], {
      env: { PATH: bin },
      encoding: 'utf8',
    });
    const asked = existsSync(join(directory, 'log')) ? readFileSync(join(directory, 'log'), 'utf8') : '';
    return { said: stdout + stderr, status, asked };
  };
  return setup;
}

test.each(['apt-get', 'apk'] as const)(
  'setup.sh installs with %s what is missing, says so, and does it once',
  (name) => {
    const directory = mkdtempSync(join(tmpdir(), 'setup-'));
    try {
      const setup = freshMachine(directory, name);
      const first = setup();
      expect(first.status).toBe(0);
      expect(first.said).toContain(
        'setup: installing the system packages inotify-tools openssh-client openssh-server rsync',
      );
      expect(first.said).toContain(`setup: installing Bun ${version}`);
      expect(first.said).toContain('setup: installing the packages of bun.lockb');
      expect(first.asked).toMatch(new RegExp(`^${name} .*inotify-tools openssh-client openssh-server rsync`, 'm'));
      expect(first.asked).toMatch(new RegExp(`^npm install .*bun@${version}$`, 'm'));
      expect(first.asked).toContain('bun install --frozen-lockfile');

      const second = setup('sh', '-c', 'echo ran');
      expect(second.said).toBe('ran\n');
      expect(second.asked.trim()).toBe('bun --version');
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
);

test.each([
  ['apt-get', 'fonts-wqy-microhei', 'vim-tiny exfat-fuse exfatprogs prometheus-alertmanager python3-fusepy'],
  ['apk', 'font-wqy-zenhei', 'vim'],
] as const)('with --with-test-tools it installs with %s also what some tests need', (name, font, others) => {
  const directory = mkdtempSync(join(tmpdir(), 'setup-'));
  try {
    const setup = freshMachine(directory, name);
    expect(setup().asked).not.toMatch(/chromium|prometheus|font/);
    const works = `git logrotate patch sudo unzip ${others} zip`;
    const packages = `chromium e2fsprogs ${font} fontconfig prometheus ${works}`.split(' ').sort().join(' ');
    const first = setup('--with-test-tools', 'sh', '-c', 'echo ran');
    expect(first.said).toContain(`setup: installing the system packages ${packages}`);
    expect(first.said).toEndWith('ran\n');
    expect(first.asked).toMatch(new RegExp(`^${name} .*${packages}`, 'm'));
    const second = setup('--with-test-tools', 'sh', '-c', 'echo ran');
    expect([second.said, second.asked.trim()]).toEqual(['ran\n', 'bun --version']);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('what a release does not have is left out, and told', () => {
  const directory = mkdtempSync(join(tmpdir(), 'setup-'));
  try {
    const { said, asked, status } = freshMachine(directory, 'apt-get', 'python3-fusepy')('--with-test-tools');
    expect(said).toContain('setup: this release has no python3-fusepy; what needs it is left out\n');
    expect(asked).toMatch(/^apt-get install .*prometheus-alertmanager rsync /m);
    expect(status).toBe(0);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('no service of a Debian package is started or enabled, and a policy of the machine stays', () => {
  const directory = mkdtempSync(join(tmpdir(), 'setup-'));
  const policy = join(directory, 'policy-rc.d');
  try {
    const setup = freshMachine(directory, 'apt-get');
    const ssh = setup();
    expect(ssh.asked).toContain('policy 101\n'); // invoke-rc.d starts nothing then
    expect(ssh.asked).toContain('systemctl disable --quiet --now ssh.service\n');
    expect(ssh.asked).not.toContain('prometheus');
    expect(ssh.said).toContain('to have them: systemctl enable --now ssh.socket ssh.service\n');
    expect(existsSync(policy)).toBe(false);
    writeFileSync(policy, 'exit 104');
    const prometheus = setup('--with-test-tools');
    expect(prometheus.asked).toContain('policy 104\n');
    expect(prometheus.asked).toContain('systemctl disable --quiet --now prometheus.service\n');
    expect(prometheus.asked).toContain('systemctl disable --quiet --now prometheus-alertmanager.service\n');
    expect(prometheus.asked).toContain('systemctl disable --quiet --now logrotate.timer\n');
    expect(readFileSync(policy, 'utf8')).toBe('exit 104');
  } finally {
    rmSync(directory, { recursive: true });
  }
});
