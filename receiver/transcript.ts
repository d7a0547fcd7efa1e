/** DeployEvent -> the lines that the pusher sees. Pure. No ANSI, no carriage returns, at most 72 columns. */
import type { DeployEvent, KraftwerkError } from '../node-agent/protocol.ts';
import { escapeForTerminal } from './print-table.ts';

export const COLUMNS = 72;
const INDENT = '       ';
const DETAIL_COLUMNS = 42;

/** `-----> Packages    unchanged since v41, reused               0.0s` */
export function stepLine(name: string, detail: string, ms: number | null): string[] {
  const head = `-----> ${name.padEnd(11)} `;
  const time = ms === null ? '' : `${(ms / 1000).toFixed(1)}s`.padStart(5);
  const words = wrap(escapeForTerminal(detail), DETAIL_COLUMNS + (ms === null ? 5 : 0));
  const [first = '', ...rest] = words;
  const line = ms === null ? head + first : head + first.padEnd(DETAIL_COLUMNS - 1) + time;
  return [line.trimEnd(), ...rest.map((text) => ' '.repeat(head.length) + text)];
}

/** `-----> blog/live   3f2c1ab "Add checkout"` */
export function headline(target: string, commit: string, subject: string): string[] {
  const head = `-----> ${target.padEnd(11)} ${commit.slice(0, 7)} `;
  const text = escapeForTerminal(subject);
  const room = COLUMNS - head.length - 2;
  return [`${head}"${text.length > room ? `${text.slice(0, room - 1)}…` : text}"`];
}

/** A labelled message, folded; only its first line carries the label, which git colours. */
export function labelled(label: 'error' | 'hint' | 'warning' | 'success', text: string): string[] {
  const [first = '', ...rest] = wrap(escapeForTerminal(text), COLUMNS - label.length - 2);
  return [`${label}: ${first}`, ...rest.map((line) => `${' '.repeat(label.length + 2)}${line}`)];
}

/** Text of a program, set off from our own. */
export function quoted(text: string): string[] {
  return wrap(escapeForTerminal(text.replaceAll('\t', '    ')), COLUMNS - INDENT.length, true).map((line) =>
    `${INDENT}${line}`.trimEnd(),
  );
}

export function formatEvent(event: DeployEvent): string[] {
  switch (event.event) {
    case 'step':
      return event.quiet ? [] : stepLine(event.step, event.detail, event.ms);
    case 'progress':
      return quoted(`still ${event.what} … ${Math.round(event.ms / 1000)}s`);
    case 'output':
      return quoted(event.line);
    case 'warning':
      return [...labelled('warning', event.message), ...(event.hint === undefined ? [] : labelled('hint', event.hint))];
  }
}

/** What is wrong, what the program said, what to do next; what still serves is the caller's to add. */
export function formatError(error: KraftwerkError): string[] {
  // Problems of a file are errors each; what a program printed is quoted, and comes before the error, which is to be read last.
  if (error.exit === 'config')
    return [
      ...[error.message, ...error.lines].flatMap((line) => labelled('error', line)),
      ...error.hints.flatMap((hint) => labelled('hint', hint)),
    ];
  return [
    ...error.lines.flatMap(quoted),
    ...labelled('error', error.message),
    ...error.hints.flatMap((hint) => labelled('hint', hint)),
  ];
}

/** Folds at spaces where it can. `hard`: spaces are kept, as in a traceback. */
function wrap(text: string, width: number, hard = false): string[] {
  const lines: string[] = [];
  let rest = text;
  while (rest.length > width) {
    const space = rest.lastIndexOf(' ', width);
    const at = space > width / 3 ? space : width;
    lines.push(rest.slice(0, at));
    rest = hard && space <= width / 3 ? rest.slice(at) : rest.slice(at).trimStart();
  }
  return [...lines, rest];
}
