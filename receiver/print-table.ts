/** The one printer of tables, and the one escaper of text that others wrote. Pure. */

const NAMED: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** Control, formatting and bidirectional characters become visible: a log line or a name cannot steer a terminal. */
export function escapeForTerminal(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu, (char) => {
    const code = char.codePointAt(0) ?? 0;
    return NAMED[char] ?? (code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`);
  });
}

export interface Column {
  title: string;
  align?: 'left' | 'right';
}

/** Columns two spaces apart, a line of titles, no trailing spaces; '' for no rows. Cells are escaped here. */
export function printTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return '';
  const lines = [
    columns.map(({ title }) => title),
    ...rows.map((row) => columns.map((_, at) => escapeForTerminal(row[at] ?? ''))),
  ];
  const widths = columns.map((_, at) => Math.max(...lines.map((line) => width(line[at] ?? ''))));
  return lines
    .map((line) => {
      const cells = line.map((cell, at) => {
        const padding = ' '.repeat((widths[at] ?? 0) - width(cell));
        return columns[at]?.align === 'right' ? padding + cell : cell + padding;
      });
      return `${cells.join('  ').trimEnd()}\n`;
    })
    .join('');
}

/** `name   value` lines, one per pair, for a single thing. */
export function printPairs(pairs: readonly (readonly [name: string, value: string])[]): string {
  const longest = Math.max(0, ...pairs.map(([name]) => width(name)));
  return pairs
    .map(([name, value]) => `${`${name}${' '.repeat(longest - width(name))}  ${escapeForTerminal(value)}`.trimEnd()}\n`)
    .join('');
}

function width(text: string): number {
  return [...text].length;
}
