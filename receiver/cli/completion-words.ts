// What can be typed behind `kraftwerk`, read from the commands' own tables. Pure.
import type { Command } from '../commands/command.ts';
import type { CliCommand } from './command.ts';

export interface OptionWords {
  /** `--follow`, `-f` */
  names: readonly string[];
  /** What comes behind it: nothing, one of these words, a file, the name of a git remote, or what nobody can guess. */
  value: 'none' | 'file' | 'remote' | 'any' | readonly string[];
}

export interface CommandWords {
  name: string;
  summary: string;
  options: readonly OptionWords[];
  /** What its first word may be. */
  first: 'none' | 'target' | 'file' | readonly string[];
}

/** `remote` commands that this machine has, too, only add their options. */
export function listCompletions(local: readonly CliCommand[], remote: readonly Command[]): CommandWords[] {
  const names = [...new Set([...local, ...remote].map(({ name }) => name))];
  return names.map((name): CommandWords => {
    const here = local.find((command) => command.name === name);
    const there = remote.find((command) => command.name === name);
    const options = mergeOptions([
      ...(here === undefined ? [] : [...readOptions(here.usage), ...readDescribedOptions(here.details)]),
      ...(there === undefined ? [] : remoteOptions(there)),
      { names: ['--help'], value: 'none' },
    ]);
    const summary = here?.summary ?? there?.summary ?? '';
    return { name, summary, options, first: firstWord(name, names, here, there) };
  });
}

function firstWord(
  name: string,
  names: readonly string[],
  here: CliCommand | undefined,
  there: Command | undefined,
): CommandWords['first'] {
  if (name === 'help') return names;
  if (here === undefined) return there?.target === 'none' ? 'none' : 'target';
  return here.words ?? (/\b(?:DIR|FILE|PATH)\b/.test(here.usage.replace(/--\S+ \S+/g, '')) ? 'file' : 'none');
}

function remoteOptions({ file, options, usage }: Command): OptionWords[] {
  const described = readOptions(usage);
  return [
    ...Object.entries(options).map(([name, { short, type }]): OptionWords => {
      const names = [`--${name}`, ...(short === undefined ? [] : [`-${short}`])];
      const known = described.find((option) => option.names.some((one) => names.includes(one)));
      if (name === file?.option) return { names, value: 'file' };
      return { names, value: type === 'boolean' ? 'none' : (known?.value ?? 'any') };
    }),
    { names: ['--json'], value: 'none' },
    { names: ['--remote', '-r'], value: 'remote' },
  ];
}

/** The options that a usage line shows: `[--role admin|deploy|read] [--config PATH] [--json]`. */
export function readOptions(usage: string): OptionWords[] {
  return [
    ...usage.matchAll(/(?<![\w-])(?<name>--?[a-z][a-z-]*)(?: (?<value>[^\s[\]|<-][^\s[\]|]*(?:\|[^\s[\]|]+)*))?/g),
  ].map(({ groups }) => ({ names: [groups?.name ?? ''], value: describeValue(groups?.value) }));
}

/** The same of lines of prose, `--pubkey FILE|LINE: the key; --yes, --json: …`, where a value is in capitals. */
export function readDescribedOptions(details: readonly string[]): OptionWords[] {
  return details.flatMap((line) =>
    [...line.matchAll(/(?<![\w-])(?<name>--[a-z][a-z-]*)(?: (?<value>[A-Z][A-Z0-9]*(?:\|[A-Z]+)*))?/g)].map(
      ({ groups }) => ({ names: [groups?.name ?? ''], value: describeValue(groups?.value) }),
    ),
  );
}

function describeValue(written: string | undefined): OptionWords['value'] {
  if (written === undefined) return 'none';
  if (/^[a-z]+(?:\|[a-z]+)+$/.test(written)) return written.split('|');
  return /^(?:PATH|DIR|FILE)\b/.test(written) ? 'file' : written === 'REMOTE' ? 'remote' : 'any';
}

function mergeOptions(options: readonly OptionWords[]): OptionWords[] {
  return options.filter(
    ({ names }, at) => !options.slice(0, at).some((earlier) => names.some((name) => earlier.names.includes(name))),
  );
}
