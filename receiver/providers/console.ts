// What create-node and destroy-node say and ask: data on stdout, the rest on stderr, questions only in a terminal.
import { createInterface } from 'node:readline/promises';
import type { Readable, Writable } from 'node:stream';
import { escapeForTerminal } from '../print-table.ts';

export interface Console {
  /** Somebody can be asked. */
  isTerminal: boolean;
  /** Text for stdout, escaped by the caller where others wrote it. */
  print(text: string): void;
  say(line: string): void;
  /** One line, without blanks around it; '' at the end of the input. */
  ask(question: string): Promise<string>;
}

export interface ConsoleStreams {
  stdin: Readable & { isTTY?: boolean };
  stdout: Writable;
  stderr: Writable & { isTTY?: boolean };
}

export function createConsole({ stdin, stdout, stderr }: ConsoleStreams, signal: AbortSignal): Console {
  const say = (line: string): void => void stderr.write(`${escapeForTerminal(line)}\n`);
  return {
    isTerminal: stdin.isTTY === true && stderr.isTTY === true,
    print: (text) => void stdout.write(text),
    say,
    async ask(question) {
      // Not `terminal`: the terminal keeps its own editing, and its Ctrl-C.
      const lines = createInterface({ input: stdin, output: stderr, terminal: false });
      try {
        const ended = new Promise<string>((resolve) => lines.once('close', () => resolve('')));
        const answer = await Promise.race([lines.question(`${escapeForTerminal(question)} `, { signal }), ended]);
        return answer.trim();
      } catch (error) {
        signal.throwIfAborted();
        throw error;
      } finally {
        lines.close();
      }
    },
  };
}

/** Only y and yes count. */
export async function askYesNo(console: Console, question: string): Promise<boolean> {
  return /^y(?:es)?$/i.test(await console.ask(`${question} [y/N]`));
}
