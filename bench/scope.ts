/** Work that must come to an end: when its time is over, what it has started is ended, and it gets no further. */
import { AsyncLocalStorage } from 'node:async_hooks';

const forever = new Promise<never>(() => {});
/** How long what was started may take to end, ms. */
const ENDING_MS = 60_000;

/** Work was not done within its time. */
export class TimeOver extends Error {
  constructor(readonly ms: number) {
    super(`not within ${ms / 1000} s`);
  }
}

/** Fails where the work takes longer, which then goes on by itself. */
async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new TimeOver(ms)), ms);
  work.catch(() => {}); // it may fail later, when nobody listens any more
  return Promise.race([work, promise]).finally(() => clearTimeout(timer));
}

class Scope {
  private readonly started = new Set<AsyncDisposable>();
  private isClosed = false;

  constructor(private readonly outer: Scope | undefined) {}

  get isOver(): boolean {
    return this.isClosed || (this.outer?.isOver ?? false);
  }

  add(what: AsyncDisposable): void {
    this.started.add(what);
    this.outer?.add(what);
  }

  async close(): Promise<void> {
    this.isClosed = true;
    for (const each of this.started)
      await within(ENDING_MS, Promise.resolve(each[Symbol.asyncDispose]())).catch(console.error);
  }
}

const scopes = new AsyncLocalStorage<Scope>();

/** Does work within a time, ms. @throws what the work throws, or that the time is over; all that it has started has ended then */
export async function limited<T>(ms: number, work: () => Promise<T>): Promise<T> {
  const scope = new Scope(scopes.getStore());
  try {
    return await within(ms, scopes.run(scope, work));
  } catch (error) {
    await scope.close();
    throw error;
  }
}

/** Takes note of what the present work has started. */
export function started<T extends AsyncDisposable>(what: T): T {
  scopes.getStore()?.add(what);
  return what;
}

/** Lets signals be heard in the midst of long work, which goes no further once its time is over. */
export const goOn = (): Promise<void> => (scopes.getStore()?.isOver ? forever : Bun.sleep(0));
