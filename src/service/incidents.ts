/**
 * What is wrong, since when, and who has been told: something that comes and goes is one incident as long as it does not stay away.
 *
 *   incidents.observe([{ problem: 'target_down', target: 'root@backup:/data/', text: '无法连接目标' }], { now, passed: 500 });
 *   const { begun, ended } = incidents.newsFor(receiver.id);
 */

/** Something that is wrong now. */
export interface Sighting {
  /** Its name, in English. */
  problem: string;
  /** What it is about, if not all of the program. */
  target?: string | undefined;
  /** The name of the source that it is about, where there are several; the text names it, too. */
  source?: string | undefined;
  /** Tells it from others of the same name; it is not shown, for it may be the name of a file. */
  part?: string | undefined;
  /** What it is, for people, without names of files. */
  text: string;
}

/** Something that has been wrong. Times are ms since 1970. */
export interface Incident {
  problem: string;
  target?: string | undefined;
  source?: string | undefined;
  text: string;
  since: number;
  /** When it was gone, unless it is there. */
  gone?: number | undefined;
  /** How long it has been there in all, and how long it has been gone by now, ms. */
  wrong: number;
  calm: number;
  /** Who knows of it. */
  told: string[];
}

/** An incident that is over, and who has still to be told. */
interface Closed {
  incident: Incident;
  awaiting: string[];
}

/** What is remembered over restarts. */
export interface Incidents {
  open: Record<string, Incident>;
  closed: Closed[];
}

/** It has to be gone for as long as it had to be there before it was told, but at least and at most so long, until it is over, ms. */
const [LEAST_CALM_MS, MOST_CALM_MS] = [10_000, 120_000];
/** How many incidents are kept at most that nobody takes, and how many that are there: more are not told apart. */
const MAX_CLOSED = 100;
const MAX_OPEN = 200;

/** How much may be forgotten of how long something has lasted, ms. */
const STEP_MS = 10_000;

export interface Moment {
  /** ms since 1970. */
  now: number;
  /** How long ago the last look was, ms; 0 for the first one. */
  passed: number;
  /** Whether what is not seen may be there nevertheless: the program has just started, say. */
  isPartial?: boolean;
}

const keyOf = ({ problem, target = '', source = '', part = source }: Sighting) => [problem, target, part].join('\n');

export class IncidentLog {
  private readonly calm: number;
  /** What the last look has seen: of what is only remembered nobody is told that it is wrong now. */
  private seen = new Set<string>();

  /**
   * @param after how long something has to be wrong before it is told, ms
   * @param receivers by their ids
   * @param data what is remembered
   */
  constructor(
    private readonly after: number,
    private readonly receivers: readonly string[],
    readonly data: Incidents = { open: {}, closed: [] },
  ) {
    this.calm = Math.min(Math.max(after, LEAST_CALM_MS), MOST_CALM_MS);
    const isKnown = (id: string) => receivers.includes(id);
    for (const incident of Object.values(data.open)) incident.told = incident.told.filter(isKnown);
    for (const closed of data.closed) closed.awaiting = closed.awaiting.filter(isKnown);
    this.forget();
  }

  /** Takes down what is wrong now. */
  observe(sightings: readonly Sighting[], { now, passed, isPartial = false }: Moment): void {
    const seen = new Map(sightings.map((sighting) => [keyOf(sighting), sighting]));
    this.seen = new Set(seen.keys());
    for (const [key, incident] of Object.entries(this.data.open)) {
      const sighting = seen.get(key);
      seen.delete(key);
      if (!sighting && isPartial) continue;
      if (incident.gone === undefined) incident.wrong += passed;
      else if (!sighting) incident.calm += passed;
      if (sighting) Object.assign(incident, { text: sighting.text, gone: undefined, calm: 0 });
      else this.settle(key, incident, now);
    }
    for (const [key, { problem, target, source, text }] of seen) {
      if (Object.keys(this.data.open).length >= MAX_OPEN) break;
      this.data.open[key] = { problem, target, source, text, since: now, wrong: 0, calm: 0, told: [] };
    }
  }

  /** Takes down that something is gone; once it has stayed away, it is over, and told if it was worth it. */
  private settle(key: string, incident: Incident, now: number): void {
    incident.gone ??= now;
    if (incident.calm < this.calm) return;
    delete this.data.open[key];
    if (this.isWorthTelling(incident)) this.data.closed.push({ incident, awaiting: [...this.receivers] });
    this.forget();
  }

  private isWorthTelling({ wrong, told }: Incident): boolean {
    return wrong >= this.after || told.length > 0;
  }

  private forget(): void {
    const { closed } = this.data;
    this.data.closed = closed.filter(({ awaiting }) => awaiting.length > 0).slice(-MAX_CLOSED);
  }

  /** Lists what a receiver does not know yet. */
  newsFor(receiver: string): { begun: Incident[]; ended: Incident[] } {
    const there = Object.entries(this.data.open).filter(([key]) => this.seen.has(key));
    const worth = there.map(([, incident]) => incident).filter((incident) => this.isWorthTelling(incident));
    return {
      begun: worth.filter(({ told }) => !told.includes(receiver)),
      ended: this.data.closed.filter(({ awaiting }) => awaiting.includes(receiver)).map(({ incident }) => incident),
    };
  }

  /** Takes down that a receiver knows them now. */
  confirm(receiver: string, { begun, ended }: { begun: Incident[]; ended: Incident[] }): void {
    for (const incident of begun) incident.told.push(receiver);
    for (const closed of this.data.closed)
      if (ended.includes(closed.incident)) closed.awaiting = closed.awaiting.filter((id) => id !== receiver);
    this.forget();
  }

  /** Says what would be missed if it were not written down; how long something has lasted is part of it, in steps, until it is told. */
  get shape(): string {
    const { open, closed } = this.data;
    const stepOf = (wrong: number) => Math.floor(Math.min(wrong, this.after) / STEP_MS);
    const states = Object.entries(open).map(([key, { gone, wrong, told }]) => [key, gone, stepOf(wrong), told.length]);
    return JSON.stringify([states, closed.map(({ awaiting }) => awaiting.length)]);
  }

  /** Says after how long there is news even if nothing else happens, ms; nothing where there is none to come. */
  get due(): number | undefined {
    const rests = Object.values(this.data.open).map(({ gone, calm, wrong }) =>
      gone === undefined ? this.after - wrong : this.calm - calm,
    );
    return rests.filter((rest) => rest > 0).sort((a, b) => a - b)[0];
  }
}
