/** A log line as people and as programs get it. Pure. */
import type { LogLine } from '../../node-agent/protocol.ts';
import { escapeForTerminal } from '../print-table.ts';

/** `2026-11-22T10:20:30.123Z web v42 text`; with `node`: `… web@NODE v42 text`. */
export function formatLine(node: string | null, { at, process, release, text }: LogLine): string {
  const time = at.replace(/(\.\d{3})\d*Z$/, '$1Z');
  const who = node === null ? process : `${process}@${node}`;
  return `${time} ${who} ${release === null ? '-' : `v${release}`} ${escapeForTerminal(text.replaceAll('\t', '    '))}\n`;
}

/** One object per line. What could steer a terminal is escaped as JSON allows. */
export function formatJsonLine(node: string, { at, process, release, text }: LogLine): string {
  const line = JSON.stringify({ at, node, process, release, text });
  return `${line.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, escapeUnits)}\n`;
}

function escapeUnits(char: string): string {
  return char.replace(/[\s\S]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
