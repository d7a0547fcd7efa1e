// What may stand in a `server_name`: host names, strictly; and which of them no project may have. Pure.

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

/** A client takes the whole for an IPv4 address when it ends so, however it is written: 127.1, 0x7f.1, 2130706433. @see https://url.spec.whatwg.org/#ends-in-a-number-checker */
const NUMBER = /^(?:[0-9]+|0x[0-9a-f]*)$/;
/** What /etc/hosts of one system or another, and the proxies in front of it, name the machine itself, or all machines around it. */
const THIS_MACHINE = new Set([
  ...['localhost', 'localhost.localdomain', 'localhost4', 'localhost4.localdomain4', 'localhost6'],
  ...['localhost6.localdomain6', 'localdomain', 'local', 'localnet', 'loopback', 'broadcasthost', 'ip6-localhost'],
  ...['ip6-loopback', 'ip6-localnet', 'ip6-mcastprefix', 'ip6-allnodes', 'ip6-allrouters', 'ip6-allhosts'],
  ...['ipv6-localhost', 'ipv6-loopback', 'ipv6-localnet', 'ipv6-mcastprefix', 'ipv6-allnodes', 'ipv6-allrouters'],
]);

/**
 * What is wrong with `name` as a project's domain, in words, or null. A site of such a name would get requests that are meant for
 * the machine: its health checks, those of a router or a monitor, and of whoever types an address.
 */
export function findDomainProblem(name: string): string | null {
  const problem = findHostnameProblem(name);
  if (problem !== null) return problem;
  const lower = name.toLowerCase();
  const got = JSON.stringify(lower.slice(0, 80));
  if (NUMBER.test(lower.slice(lower.lastIndexOf('.') + 1)))
    return `expected a domain name and not what browsers take for an address, got ${got}`;
  if (THIS_MACHINE.has(lower)) return `expected a domain name and not what every machine calls itself, got ${got}`;
  return null;
}

/** A domain pattern's domain for one project: `{project}` has `_` as `-`. */
export function expandDomainPattern(pattern: string, project: string): string {
  return pattern.replaceAll('{project}', project.replaceAll('_', '-')).toLowerCase();
}
