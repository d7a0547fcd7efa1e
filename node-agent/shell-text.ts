/** Text of shell scripts, from values that may hold anything. */

export function quoteForShell(value: string): string {
  return `'${value.replaceAll("'", `'\\''`)}'`;
}

/** @param variables by names that have been parsed */
export function exportLines(variables: Readonly<Record<string, string>>): string {
  return Object.entries(variables)
    .map(([name, value]) => `export ${name}=${quoteForShell(value)}`)
    .join('\n');
}
