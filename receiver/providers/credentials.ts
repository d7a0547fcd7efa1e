// Tokens: read from the environment and nowhere else, and never repeated in a message. Pure.
import { ProviderError } from './provider.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** How to get a variable in without leaving it in the shell's history. */
export function exportHint(variable: string): string {
  return `read -rs ${variable} && export ${variable}`;
}

/** @throws ProviderError `provider.token` when it is missing, or cannot be a token */
export function readToken(env: Environment, variable: string, title: string, hint: readonly string[]): string {
  const value = env[variable]?.trim() ?? '';
  if (value === '') {
    throw new ProviderError('provider.token', `${title}: the environment variable ${variable} is not set`, {
      hint,
      exit: 'usage',
    });
  }
  // fetch would repeat a header that it does not like.
  if (!/^[\x21-\x7e]{1,4096}$/.test(value)) {
    throw new ProviderError('provider.token', `${title}: ${variable} contains blanks or other characters of no token`, {
      hint,
      exit: 'usage',
    });
  }
  return value;
}
