/**
 * Asks the backup whether another rsync-inotify mirrors into the same directory: a copied machine, or a container that was forgotten.
 *
 *   new Rivals({ host, state, connection });
 */
import { randomUUID } from 'node:crypto';
import type { EventEmitter } from 'node:events';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import { quote } from 'shlex';
import { lifecycle } from '../service/lifecycle.ts';
import { escapeText, onOneLine, t } from '../service/text.ts';
import { askRemote } from './backup-guard.ts';
import type { Host } from './config.ts';
import type { Connection } from './connection.ts';
import type { TargetState } from './target-state.ts';

/** How often the backup is asked, and how long after a connection was made for the first time, ms: what is to be sent goes before. */
const [ASK_MS, FIRST_MS] = [120_000, 1000];
/** How many others are believed, and how long their names may be, characters. */
const [MAX_RIVALS, MAX_NAME] = [3, 200];

/** Tells this start from all others, wherever they are. */
const INSTANCE = randomUUID();

interface Parts {
  host: Host;
  state: TargetState;
  connection: EventEmitter & Pick<Connection, 'findRoute'>;
}

export class Rivals {
  private timer: NodeJS.Timeout | undefined;
  private first: NodeJS.Timeout | undefined;
  private hasAnswered = false;

  /** @param ask says who we are and asks for the names of others; a stand-in serves tests */
  constructor(
    private readonly parts: Parts,
    private readonly ask = announce,
  ) {
    if (!parts.host.plan.deletes) return; // several may well be collected in one directory
    parts.connection.on('connected', () => this.begin());
    parts.connection.on('lost', () => this.end());
  }

  private begin(): void {
    this.end();
    this.hasAnswered = false;
    const examine = () => lifecycle.background(this.examine());
    this.timer = setInterval(examine, ASK_MS).unref();
    this.first = setTimeout(examine, FIRST_MS).unref();
  }

  private end(): void {
    clearInterval(this.timer);
    clearTimeout(this.first);
  }

  private async examine(): Promise<void> {
    const { host, state, connection } = this.parts;
    if (state.isPromoted) return;
    const names = await this.ask(host, connection);
    if (!names && !this.hasAnswered) clearInterval(this.timer); // this backup does not know how to
    if (!names) return;
    this.hasAnswered = true;
    const former = state.rivals;
    state.rivals = names;
    if (state.rivals.length > 0 && former.length === 0) {
      const who = t`另一个 rsync-inotify 也在镜像到此目标: ${state.rivals.map(escapeText).join(t`、`)}`;
      state.warn('mirror.doubled', t`${who}。它们会互相覆盖和删除，请只保留一个`, { sources: state.rivals });
    }
    if (state.rivals.length === 0 && former.length > 0)
      state.log('mirror.single', t`没有其他 rsync-inotify 镜像到此目标了 ✓`);
  }
}

/** Says where on the target the source comes to lie: with -R, below all directories of its path. */
export function placeOf({ config: { SOURCE_DIR }, directory, plan }: Host): string {
  if (plan.isRelative) return join(directory, SOURCE_DIR).replace(/(?!^)\/$/, '');
  return SOURCE_DIR.endsWith('/') ? directory : join(directory, basename(SOURCE_DIR));
}

/** Tells start-sshd on the backup who mirrors where; nothing where something else is there, or it does not answer in time. */
async function announce(host: Host, connection: Pick<Connection, 'findRoute'>): Promise<string[] | undefined> {
  const place = placeOf(host);
  const name = hostname()
    .replaceAll(/[^\w.-]/g, '-')
    .slice(0, 64);
  return parseRivals(await askRemote(host, connection, `start-sshd --announce ${quote(place)} ${INSTANCE}@${name}`));
}

/** Takes the answer of a backup, which need not be ours, for what it is: a short list of names, made safe to look at. */
export function parseRivals(answer: string | undefined): string[] | undefined {
  try {
    const names: unknown = JSON.parse(answer ?? '');
    if (!Array.isArray(names)) return undefined;
    return names.slice(0, MAX_RIVALS).map((name) => onOneLine(String(name).slice(0, MAX_NAME)));
  } catch {
    return undefined;
  }
}
