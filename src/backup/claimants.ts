/**
 * Tells of hosts that want the name of a source that another one has: those were refused it by themselves, and have left their keys.
 *
 *   const claimants = new Claimants();
 *   claimants.tell(new Map([['web1', 'ssh-rsa AAAA…']]), (name) => 'SHA256:…'); // each claim once
 */
import { fingerprint, parsePublicKey } from '../service/keys.ts';
import { warn } from '../service/log.ts';
import { CLAIM_END } from '../service/source-names.ts';
import { escapeText, t } from '../service/text.ts';
import { Ceiling, LAST } from './ceiling.ts';
import { about, fieldsOf } from './doors.ts';

/** How many are told an hour: whoever may write the volume could claim all the time. */
const MAX_TOLD = 20;

export class Claimants {
  /** What was told last, by the names that are claimed. */
  private told = new Map<string, string>();
  private readonly ceiling = new Ceiling(t`要用已有名称的主机`, MAX_TOLD);

  /** @param claims what they have left, by the names that they want @param fingerprintOf tells of the key in force, '' where there is none */
  tell(claims: ReadonlyMap<string, string>, fingerprintOf: (name: string) => string): void {
    const told = new Map<string, string>();
    for (const [name, content] of claims) {
      const own = fingerprintOf(name);
      if (!own) continue;
      if (this.told.get(name) !== content) this.tellOne(name, content, own);
      told.set(name, content);
    }
    this.told = told;
  }

  private tellOne(name: string, content: string, own: string): void {
    const claimant = identify(content);
    if (!claimant || claimant.key === own) return;
    const turn = this.ceiling.count();
    if (turn === 'omitted') return;
    const who = t`另一台主机也要用这个名称，它的公钥 ${claimant.key}（${claimant.comment}）没有生效，生效的仍是 ${own}`;
    const advice = t`请给它另一个 SOURCE_NAME；若它已不再需要这个名称，请删除共享卷中的 sources/${name}${CLAIM_END}`;
    const what = about(name, `${who}${t`。`}${advice}${turn === 'last' ? LAST : ''}`);
    warn('key.claimed', what, { claimant: claimant.key, ...fieldsOf(name) });
  }
}

/** Finds whose key a text holds, nothing where it holds none. */
function identify(content: string): { key: string; comment: string } | undefined {
  try {
    const { key, line } = parsePublicKey(content);
    return { key: fingerprint(key), comment: escapeText(line.slice(key.length).trim() || '–') };
  } catch {
    return undefined;
  }
}
