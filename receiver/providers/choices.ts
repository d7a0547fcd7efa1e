// Size, image and location of a server to be: checked with the provider; what is missing or wrong is answered with the choices.
import { KraftwerkError } from '../../node-agent/protocol.ts';
import { type Column, printTable } from '../print-table.ts';
import { suggest } from '../suggest.ts';
import { joinChoices } from '../yaml-validate.ts';
import { formatAmount, formatHourly, type Image, type Location, type Plan, type Provider } from './provider.ts';

const MAX_ROWS = 40;

export interface Wanted {
  location: string | null;
  plan: string | null;
  image: string | null;
}

export interface Choice {
  location: Location;
  plan: Plan;
  image: Image;
}

interface Problem {
  option: string;
  /** Null: nothing was named. */
  wanted: string | null;
  noun: string;
  ids: readonly string[];
  table: string;
  listOption: string;
  /** For the command that could be meant. */
  example: string;
}

/** @throws KraftwerkError `provider.choice` with the choices of everything that is missing or unknown */
export async function chooseServer(provider: Provider, wanted: Wanted, name: string): Promise<Choice> {
  const problems: Problem[] = [];
  const locations = await provider.locations();
  const locationId = wanted.location ?? provider.defaultLocation;
  const location = locations.find(({ id }) => id === locationId) ?? null;
  if (location === null) {
    problems.push({
      option: '--location-id',
      wanted: locationId,
      noun: 'location',
      ids: locations.map(({ id }) => id),
      table: printLocations(locations),
      listOption: '--list-locations',
      example: locations[0]?.id ?? 'LOCATION',
    });
    if (provider.isRegional) throw refuse(provider, problems, wanted, name);
  }
  const place = location?.id ?? null;
  const plan = await findOrList(wanted.plan, (id) => provider.plans(place, id));
  if (Array.isArray(plan)) {
    problems.push({
      option: '--size-id',
      wanted: wanted.plan,
      noun: place === null ? 'size' : `size in ${place}`,
      ids: plan.map(({ id }) => id),
      table: printPlans(plan),
      listOption: '--list-plans',
      example: plan[0]?.id ?? 'SIZE',
    });
  }
  const image = await findOrList(wanted.image, (id) => provider.images(place, id));
  if (Array.isArray(image)) {
    problems.push({
      option: '--image-id',
      wanted: wanted.image,
      noun: 'image',
      ids: image.map(({ id }) => id),
      table: printImages(image),
      listOption: '--list-images',
      example: chooseExample(image, Array.isArray(plan) ? plan[0] : plan)?.id ?? 'IMAGE',
    });
  }
  if (location === null || Array.isArray(plan) || Array.isArray(image)) throw refuse(provider, problems, wanted, name);
  return { location, plan, image };
}

/** For a hint: the latest Debian, else anything, that the size can run. */
function chooseExample(images: readonly Image[], plan: Plan | undefined): Image | undefined {
  const fitting = images.filter(({ description }) => plan?.cpu == null || description.includes(plan.cpu));
  return fitting.findLast(({ description }) => /debian/i.test(description)) ?? fitting[0] ?? images[0];
}

/** The one of that id, or all there are. */
async function findOrList<T extends { id: string }>(
  id: string | null,
  list: (wanted: string | null) => Promise<T[]>,
): Promise<T | T[]> {
  if (id === null) return await list(null);
  const some = await list(id);
  return some.find((one) => one.id === id) ?? (await list(null));
}

function refuse(provider: Provider, problems: readonly Problem[], wanted: Wanted, name: string): KraftwerkError {
  const missing = problems.filter((problem) => problem.wanted === null).map(({ option }) => option);
  const messages = [
    ...(missing.length === 0 ? [] : [`${provider.title} needs ${joinAnd(missing)}`]),
    ...problems.filter((problem) => problem.wanted !== null).map((problem) => describeUnknown(provider, problem)),
  ];
  const lines = problems.flatMap(({ table, listOption, ids }) => {
    const rows = table.trimEnd().split('\n');
    const more = ids.length - MAX_ROWS;
    const shown = rows.slice(0, MAX_ROWS + 1);
    return more <= 0
      ? [...shown, '']
      : [...shown, `… ${more} more: kraftwerk create-node --provider ${provider.name} ${listOption}`, ''];
  });
  const optionOf = (option: string, id: string | null): string => {
    const problem = problems.find((one) => one.option === option);
    return `${option} ${problem?.example ?? id}`;
  };
  const example = [
    `kraftwerk create-node ${name} --provider ${provider.name}`,
    optionOf('--location-id', wanted.location ?? provider.defaultLocation),
    ...(provider.isRegional && problems.length === 1 && problems[0]?.noun === 'location'
      ? []
      : [optionOf('--size-id', wanted.plan), optionOf('--image-id', wanted.image)]),
  ].join(' ');
  return new KraftwerkError('provider.choice', messages.join('; '), {
    lines,
    hint: [example, 'or in the configuration: location_id, size_id, image_id'],
    exit: 'usage',
  });
}

function describeUnknown({ title }: Provider, { noun, wanted, ids }: Problem): string {
  const meant = suggest(wanted ?? '', ids);
  const shown = JSON.stringify((wanted ?? '').slice(0, 80));
  return `${title} has no ${noun} ${shown}${meant === null ? '' : `, did you mean "${meant}"?`}`;
}

function joinAnd(words: readonly string[]): string {
  return joinChoices(words).replace(/ or (?=[^ ]+$)/, ' and ');
}

export function printPlans(plans: readonly Plan[]): string {
  const currency = plans.find(({ price }) => price !== null)?.price?.currency ?? '';
  const hasCpu = plans.some(({ cpu }) => cpu !== null);
  const columns: Column[] = [
    { title: 'SIZE-ID' },
    ...(hasCpu ? [{ title: 'CPU' }] : []),
    { title: 'CORES', align: 'right' },
    { title: 'MEMORY', align: 'right' },
    { title: 'DISK', align: 'right' },
    { title: `${currency}/MONTH`, align: 'right' },
    { title: `${currency}/HOUR`, align: 'right' },
  ];
  const rows = plans.map(({ id, cpu, cores, memoryGb, diskGb, price }) => [
    id,
    ...(hasCpu ? [cpu ?? '-'] : []),
    String(cores),
    `${round(memoryGb)} GB`,
    diskGb === null ? '-' : `${diskGb} GB`,
    price === null ? '-' : formatAmount(price.monthly),
    price === null ? '-' : formatHourly(price.hourly),
  ]);
  return printTable(columns, rows);
}

export function printImages(images: readonly Image[]): string {
  return printTable(
    [{ title: 'IMAGE-ID' }, { title: 'WHAT' }],
    images.map(({ id, description }) => [id, description]),
  );
}

export function printLocations(locations: readonly Location[]): string {
  return printTable(
    [{ title: 'LOCATION-ID' }, { title: 'WHERE' }],
    locations.map(({ id, description }) => [id, description]),
  );
}

/** `2 cores (arm), 4 GB memory, 40 GB disk` */
export function describePlan({ cpu, cores, memoryGb, diskGb }: Plan): string {
  const disk = diskGb === null ? '' : `, ${diskGb} GB disk`;
  return `${cores} ${cores === 1 ? 'core' : 'cores'}${cpu === null ? '' : ` (${cpu})`}, ${round(memoryGb)} GB memory${disk}`;
}

function round(amount: number): string {
  return String(Math.round(amount * 100) / 100);
}
