// What create-node and destroy-node know of a provider of servers, and the errors that one may end with. Pure.
import { KraftwerkError, type KraftwerkErrorOptions } from '../../node-agent/protocol.ts';

export const PROVIDER_NAMES = ['hetzner', 'digitalocean', 'linode', 'vultr', 'ec2'] as const;
export type ProviderName = (typeof PROVIDER_NAMES)[number];

/** The label (tag) of every server that kraftwerk has made. */
export const LABEL = 'kraftwerk';

export interface Price {
  /** Per month of 730 hours, or the provider's own cap for a month. */
  monthly: number;
  hourly: number;
  /** `EUR` */
  currency: string;
}

/** What a server can be: a size, at its price in one location. */
export interface Plan {
  id: string;
  /** Its architecture in the provider's word, as images have it: `x86`, `arm64`; null: there is only one. */
  cpu: string | null;
  cores: number;
  memoryGb: number;
  /** Null: not part of the plan. */
  diskGb: number | null;
  /** Null: the provider does not tell. */
  price: Price | null;
}

export interface Image {
  id: string;
  description: string;
}

export interface Location {
  id: string;
  description: string;
}

export interface Server {
  id: string;
  name: string;
  /** In the provider's word: `initializing`, `active`. */
  state: string;
  isRunning: boolean;
  /** Deleted, or about to be: costs nothing any more. */
  isGone: boolean;
  /** IPv4, public; null: none yet. */
  address: string | null;
  plan: string;
  location: string;
  /** Has the label, so kraftwerk has made it. */
  isOurs: boolean;
}

export interface ServerOrder {
  name: string;
  plan: string;
  image: string;
  location: string;
  /** One line of a .pub file. */
  publicKey: string;
  /** cloud-init's, not encoded. */
  userData: string;
  /** What `prepare` gave. */
  prepared: string;
}

export interface Provider {
  name: ProviderName;
  /** For people: `Hetzner Cloud`. */
  title: string;
  /** What the price leaves out or holds: `with VAT`. */
  priceNote: string;
  /** Taken when no location is named; null: one has to be named. */
  defaultLocation: string | null;
  /** Nothing can be listed, found or made without a location. */
  isRegional: boolean;
  /** A second server of the same name is refused, so that an order whose answer was lost may be given again. */
  refusesTwins: boolean;
  locations(): Promise<Location[]>;
  /** By price. `wanted`: only this one is of interest, all may be given. @param location null: anywhere, at its lowest price */
  plans(location: string | null, wanted: string | null): Promise<Plan[]>;
  /** The official ones; with `wanted` also that one, if the account may use it. */
  images(location: string | null, wanted: string | null): Promise<Image[]>;
  /** Every server of that very name that is not gone, with our label or without. */
  find(name: string): Promise<Server[]>;
  /** Null: there is none. */
  get(id: string): Promise<Server | null>;
  /** Brings about what an order refers to, once for all servers: the key, a firewall's group. @returns its id */
  prepare(publicKey: string): Promise<string>;
  /** One request. @throws ProviderError whose `outcome` says whether there may be a server nevertheless */
  create(order: ServerOrder): Promise<Server>;
  /** Ends well when it is gone already. */
  destroy(id: string): Promise<void>;
}

export interface ProviderErrorOptions extends KraftwerkErrorOptions {
  /** `unknown`: no answer, so it may have been done all the same. */
  outcome?: 'refused' | 'unknown';
  /** HTTP's; null: there was no answer. */
  status?: number | null;
  /** The provider's own word: `uniqueness_error`. */
  providerCode?: string | null;
}

/** Codes: `provider.token`, `provider.forbidden`, `provider.refused`, `provider.missing`, `provider.busy`, `provider.down`, `provider.answer`. */
export class ProviderError extends KraftwerkError {
  readonly outcome: 'refused' | 'unknown';
  readonly status: number | null;
  readonly providerCode: string | null;

  constructor(code: string, message: string, options: ProviderErrorOptions = {}) {
    super(code, message, options);
    this.outcome = options.outcome ?? 'refused';
    this.status = options.status ?? null;
    this.providerCode = options.providerCode ?? null;
  }
}

export function isMissing(error: unknown): boolean {
  return error instanceof ProviderError && error.status === 404;
}

/** `4.51 EUR a month (0.0072 an hour)` */
export function formatPrice(price: Price | null): string {
  if (price === null) return 'not known';
  return `${formatAmount(price.monthly)} ${price.currency} a month (${formatHourly(price.hourly)} an hour)`;
}

export function formatAmount(amount: number): string {
  return roundUp(amount, 2);
}

export function formatHourly(amount: number): string {
  return roundUp(amount, 4);
}

/** A price is never shown as less than it is. */
function roundUp(amount: number, digits: number): string {
  const unit = 10 ** digits;
  return (Math.ceil(amount * unit - 1e-6) / unit).toFixed(digits);
}

/** Cheapest first; those without a price last. */
export function sortPlans(plans: readonly Plan[]): Plan[] {
  const cost = ({ price }: Plan): number => price?.monthly ?? Number.MAX_VALUE;
  return [...plans].sort((a, b) => cost(a) - cost(b) || (a.id < b.id ? -1 : 1));
}
