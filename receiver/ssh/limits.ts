/** How much strangers and friends may take of the SSH server: time, tries and connections. */

export interface Limits {
  /** From the connection to the verified signature. */
  loginGraceMs: number;
  /** Failed attempts to log in, per connection. */
  tries: number;
  /** Requests to log in of any kind, good probes included, per connection. */
  loginRequests: number;
  connections: number;
  connectionsPerAddress: number;
  /** Connections that have not logged in yet, in all. */
  strangers: number;
  strangersPerAddress: number;
  /** Open at the same time, per connection. */
  sessions: number;
}

export const DEFAULT_LIMITS: Limits = {
  loginGraceMs: 20_000,
  tries: 6,
  loginRequests: 40,
  connections: 300,
  connectionsPerAddress: 60,
  strangers: 150,
  strangersPerAddress: 20,
  sessions: 20,
};

export type LimitName = 'connections' | 'connectionsPerAddress' | 'strangers' | 'strangersPerAddress';

/** One connection's place; `promote` once it has logged in, `release` when it is closed. */
export interface Place {
  promote(): void;
  release(): void;
}

/** Whoever has one IPv6 address has its /64: that is what counts as an address. */
export function addressGroup(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!address.includes(':')) return address;
  const [head = '', tail] = (address.split('%')[0] ?? '').split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length);
  const groups = [...left, ...Array.from({ length: zeros }, () => '0'), ...right];
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`;
}

export class ConnectionCounter {
  readonly #limits: Limits;
  readonly #all = new Map<string, number>();
  readonly #strangers = new Map<string, number>();
  #total = 0;
  #strangersTotal = 0;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  /** A place for one more connection from `address`, or the limit that it would pass. */
  enter(address: string): Place | LimitName {
    const group = addressGroup(address);
    const limits = this.#limits;
    if (this.#total >= limits.connections) return 'connections';
    if ((this.#all.get(group) ?? 0) >= limits.connectionsPerAddress) return 'connectionsPerAddress';
    if (this.#strangersTotal >= limits.strangers) return 'strangers';
    if ((this.#strangers.get(group) ?? 0) >= limits.strangersPerAddress) return 'strangersPerAddress';
    this.#total += 1;
    this.#strangersTotal += 1;
    add(this.#all, group, 1);
    add(this.#strangers, group, 1);
    return this.#place(group);
  }

  #place(group: string): Place {
    let state: 'stranger' | 'friend' | 'gone' = 'stranger';
    const forgetStranger = (): void => {
      if (state !== 'stranger') return;
      this.#strangersTotal -= 1;
      add(this.#strangers, group, -1);
    };
    return {
      promote: () => {
        forgetStranger();
        if (state === 'stranger') state = 'friend';
      },
      release: () => {
        if (state === 'gone') return;
        forgetStranger();
        state = 'gone';
        this.#total -= 1;
        add(this.#all, group, -1);
      },
    };
  }
}

function add(counts: Map<string, number>, key: string, by: number): void {
  const count = (counts.get(key) ?? 0) + by;
  if (count > 0) counts.set(key, count);
  else counts.delete(key);
}
