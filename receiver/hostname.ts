// What may stand in a `server_name`: host names, strictly. Pure.

const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** What is wrong with `name` as a domain, in words, or null. */
export function findHostnameProblem(name: string): string | null {
  const expected = 'expected a domain name';
  if (name === '') return `${expected}, got nothing`;
  const got = JSON.stringify(name.slice(0, 80));
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(name))
    return `${expected} without "${name.slice(0, name.indexOf('://') + 3)}", got ${got}`;
  if (/[^\p{ASCII}]/u.test(name)) return `${expected} in its ASCII form (xn--…), got ${got}`;
  if (name.includes('*')) return `${expected} without a wildcard, got ${got}`;
  if (/:[0-9]*$/.test(name)) return `${expected} without a port, got ${got}`;
  if (name.includes('/')) return `${expected} without a path, got ${got}`;
  if (name.endsWith('.')) return `${expected} without a dot at its end, got ${got}`;
  if (name.includes('_')) return `${expected} (a-z 0-9 - and dots; no _), got ${got}`;
  const labels = name.toLowerCase().split('.');
  if (name.length > 253 || !labels.every((label) => LABEL.test(label)))
    return `${expected} (a-z 0-9 - and dots), got ${got}`;
  return null;
}

/** A domain pattern's domain for one project: `{project}` has `_` as `-`. */
export function expandDomainPattern(pattern: string, project: string): string {
  return pattern.replaceAll('{project}', project.replaceAll('_', '-')).toLowerCase();
}
