// A node's line in the receiver's configuration: written, and put into a file without touching anything else. Pure.

export interface NodeLine {
  name: string;
  host: string;
  user: string;
  port: number;
  /** `SHA256:…` */
  hostKey: string;
}

/** `web1.example.com: {user: root, port: 22, host_key: "SHA256:…"}` */
export function formatNodeLine({ name, host, user, port, hostKey }: NodeLine): string {
  // What YAML would take for a number, or for true.
  const key =
    /^[a-z]/.test(name) && !/^(?:true|false|null|yes|no|on|off|y|n)$/.test(name) ? name : JSON.stringify(name);
  const where = host === name ? '' : `host: ${JSON.stringify(host)}, `;
  return `${key}: {${where}user: ${user}, port: ${port}, host_key: ${JSON.stringify(hostKey)}}`;
}

/**
 * The text with one more line below `nodes:`, indented as its first one is; null when `nodes:` is not a block of lines.
 * What comes out is to be parsed before it is believed.
 */
export function insertNodeLine(text: string, line: string): string | null {
  const rows = text.split('\n');
  const head = rows.findIndex((row) => /^nodes:\s*(?:#.*)?$/.test(row));
  if (head < 0) return null;
  let indent: string | null = null;
  let last = head;
  for (const [index, row] of rows.entries()) {
    if (index <= head || /^\s*(?:#.*)?$/.test(row)) continue;
    const lead = /^ */.exec(row)?.[0] ?? '';
    if (lead === '') break;
    indent ??= lead;
    last = index;
  }
  if (indent === null) return null;
  const end = (rows[last] ?? '').endsWith('\r') ? '\r' : '';
  return rows.toSpliced(last + 1, 0, `${indent}${line}${end}`).join('\n');
}
