import { expect, test } from 'bun:test';
import { basename } from 'node:path';
import { fileOf, headingsOf, LANGUAGES, type Language, PAGES, read } from '../pages.ts';

/** Where the README had its sections when it was one page with everything: others may still link there. */
const FORMER_ANCHORS = {
  en:
    'rsync-inotify quick-start with-docker without-docker tests variables rsync-inotify-1 start-sshd recipes directories-of-the-host ' +
    'several-trees several-targets log-files reports prometheus more-rights-for-a-container two-hosts-without-a-shared-volume kubernetes ' +
    'without-containers-systemd releases operating is-it-healthy when-too-much-would-be-deleted older-versions restore taking-over ' +
    'unmounting-a-disk is-the-backup-what-it-should-be sync-and-pause the-status-page alerts the-log security ' +
    'migrating-from-the-shell-scripts troubleshooting benchmark how-it-works limits',
  'zh-CN':
    'rsync-inotify 快速开始 使用-docker 不使用-docker 测试 变量 rsync-inotify-1 start-sshd 配方 宿主机目录 多个目录树 多个目标 日志文件 报告 prometheus ' +
    '给容器更多权限 两台主机没有共享卷 kubernetes 不用容器systemd 发布 运行与监控 是否正常 要删除的过多时 旧版本 恢复 接管 卸载磁盘 备份是否一致 ' +
    '立即同步与暂停 状态页 告警 日志 安全 从-shell-脚本迁移 故障排查 性能 工作原理 局限',
};

test.each(LANGUAGES)(
  'links from elsewhere to sections that the README had in %s lead to what it says of them now',
  (language) => {
    const document = fileOf('README', language);
    const kept = [...read(document).matchAll(/<a id="([^"]+)"><\/a>/g)].map(([, anchor = '']) => anchor);
    const headings = headingsOf(document).map(({ anchor }) => anchor);
    const anchors = [...headings, ...kept];
    expect(FORMER_ANCHORS[language].split(' ').filter((anchor) => !anchors.includes(anchor))).toEqual([]);
    expect(anchors.filter((anchor, n) => anchors.indexOf(anchor) < n)).toEqual([]);
  },
);

test.each(LANGUAGES)('the README in %s is read standing, and leads to all pages', (language) => {
  const text = read(fileOf('README', language));
  expect(text.split('\n').length).toBeLessThanOrEqual(250);
  expect(PAGES.filter((page) => page !== 'README' && !text.includes(`](${fileOf(page, language)})`))).toEqual([]);
});

test.each(PAGES.filter((page) => page.startsWith('docs/')))(
  '%s begins with ways to its other language and back, and says for whom it is',
  (page) => {
    const file = (language: Language) => basename(fileOf(page, language));
    expect(read(fileOf(page, 'en'))).toContain(`\n[中文](${file('zh-CN')}) · [README](../README.md)\n\nFor whoever `);
    expect(read(fileOf(page, 'zh-CN'))).toContain(`\n[English](${file('en')}) · [README](../README.zh-CN.md)\n\n写给`);
  },
);
