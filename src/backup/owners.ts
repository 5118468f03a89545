/**
 * By which key each connection has logged in: sshd tells nobody, but what runs over a connection knows it.
 *
 *   const owners = new Owners((connection) => sshd.commandsOf(connection));
 *   owners.look(sshd.connections()); // Map { 4711 => 'SHA256:…' }
 */
import { keyOf } from './strays.ts';

export class Owners {
  private known = new Map<number, string>();

  /** @param commandsOf lists the processes that lead what runs over a connection @param ask finds the key that one runs for */
  constructor(
    private readonly commandsOf: (connection: number) => number[],
    private readonly ask = keyOf,
  ) {}

  /** Finds the fingerprint of the key of each connection, as far as something has run over it. */
  look(connections: readonly number[]): ReadonlyMap<number, string> {
    const found = connections.map((pid) => [pid, this.known.get(pid) ?? this.find(pid)] as const);
    this.known = new Map(found.flatMap(([pid, key]) => (key ? [[pid, key] as const] : [])));
    return this.known;
  }

  private find(connection: number): string | undefined {
    for (const command of this.commandsOf(connection)) {
      const key = this.ask(command);
      if (key) return key;
    }
    return undefined;
  }
}
