/**
 * Reads the variables of rsync-inotify, and finds what is wrong with them, also where one alone does not show it.
 *
 *   const config = readConfig({ SOURCE_DIR: '/srv/web/', DEST_HOST: 'me@backup' });
 */
import { dirname, resolve } from 'node:path';
import { isWithin, realPath } from '../service/files.ts';
import { escapeText, t } from '../service/text.ts';
import { type Mistake, mistake, readVariables, refuseMistakes } from '../service/variables.ts';
import { type Config, isDaemon, placesOf, variables } from './config.ts';
import { mistakesInSettings } from './daemon-settings.ts';
import { parseWords } from './options.ts';
import { complaintsAboutOwners, readOwnOptions } from './own-options.ts';
import { complaintsAbout, complaintsAboutSource } from './rsync-options.ts';

/**
 * Reads the variables. What only rsync and ssh can say of their options is asked by `checkConfig`.
 * @throws {Failure} a line for every variable that is wrong (status 2)
 */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  const { config, mistakes } = readEnvironment(env);
  refuseMistakes(variables, mistakes);
  return config;
}

/** Reads the variables, those of them that are right, and what is wrong with the others and with files of ours. */
export function readEnvironment(env: NodeJS.ProcessEnv) {
  const { config, mistakes } = readVariables(variables, env);
  const isRight = (name: string) => mistakes.every((other) => other.name !== name);
  return {
    config,
    isRight,
    mistakes: [
      ...mistakes,
      ...mistakesInFiles(config, isRight),
      ...(FOR_OPTIONS.every(isRight)
        ? [
            ...mistakesInOwnOptions(config),
            ...mistakesInSource(env, config),
            ...mistakesForDaemons(env, config, isRight),
          ]
        : []),
    ],
  };
}

/** The variables that say with which options the source is mirrored to each target. */
const FOR_OPTIONS = ['SOURCE_DIR', 'DEST_HOST', 'DEST_HOSTS', 'RSYNC_OPTS', 'DEST_RSYNC_OPTS'];

/** Finds what is wrong with the options of single targets, behind those for all, which are right. */
function mistakesInOwnOptions(config: Config): Mistake[] {
  const { DEST_RSYNC_OPTS } = config;
  const places = placesOf(config);
  const wrong = places.flatMap(({ given, own, options }) => {
    const complaints = own ? complaintsAbout(parseWords(options)) : [];
    return complaints.map((complaint) => `${escapeText(given)} ${complaint}`);
  });
  const complaints = [...complaintsAboutOwners(readOwnOptions(DEST_RSYNC_OPTS), places), ...wrong];
  return complaints.map((complaint) => mistake('DEST_RSYNC_OPTS', DEST_RSYNC_OPTS, complaint));
}

/** Finds what is wrong with a source under the options. */
function mistakesInSource(env: NodeJS.ProcessEnv, config: Config): Mistake[] {
  const given = env.SOURCE_DIR || config.SOURCE_DIR;
  const complaints = placesOf(config).flatMap(({ options }) => complaintsAboutSource(parseWords(options), given));
  return [...new Set(complaints)].map((complaint) => mistake('SOURCE_DIR', given, complaint));
}

/** Finds what is wrong with what targets need that are rsync daemons. */
function mistakesForDaemons(env: NodeJS.ProcessEnv, config: Config, isRight: (name: string) => boolean): Mistake[] {
  const daemons = placesOf(config).filter(isDaemon);
  const path = isRight('RSYNC_PASSWORD_FILE') ? config.RSYNC_PASSWORD_FILE : '';
  return daemons.length === 0 ? [] : mistakesInSettings(env, path, config.RSYNC_OPTS, daemons);
}

/** Finds what is wrong with files of ours: one that is watched would cause a sync, which would have it written again. */
function mistakesInFiles(config: Config, isRight: (name: string) => boolean): Mistake[] {
  if (!isRight('SOURCE_DIR') || !isRight('WATCH_EXCLUDE')) return [];
  const names = (['STATUS_FILE', 'LOG_FILE', 'METRICS_FILE'] as const).filter((name) => isRight(name) && config[name]);
  const watched = names.filter((name) => isWatched(config, config[name]));
  const shared = names.filter((name) => names.some((other) => other < name && config[other] === config[name]));
  const tell = (advice: string) => (name: (typeof names)[number]) => mistake(name, config[name], advice);
  return [
    ...watched.map(tell(t`不能位于 SOURCE_DIR 之内，否则每次写入都会触发同步；或将其目录加入 WATCH_EXCLUDE`)),
    ...shared.map(tell(t`已用于另一个变量，请使用不同的文件`)),
  ];
}

/** Whether writing a file would be seen as a change. */
export function isWatched({ SOURCE_DIR, WATCH_EXCLUDE }: Config, path: string): boolean {
  try {
    const place = realPath(dirname(path));
    const lies = (root: string) => isWithin(place, realPath(root));
    return lies(SOURCE_DIR) && !WATCH_EXCLUDE.some((name) => lies(resolve(SOURCE_DIR, name)));
  } catch {
    return false; // a link that leads nowhere: nothing can be written there
  }
}
