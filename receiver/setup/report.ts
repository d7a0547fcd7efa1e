/** What the admin sees of a set-up: steps with their times, what changed, what programs say, and a word when it takes long. */
import { labelled, quoted, stepLine } from '../transcript.ts';

const HEARTBEAT_MS = 10_000;
/** What apt says about each package three times; all of it is in the server's log. */
const NOISE =
  /^(?:Selecting previously |Preparing to unpack |Unpacking |Get:[0-9]+ |Hit:[0-9]+ |\(Reading database |Reading |Building dependency|Processing triggers |update-alternatives: |Created symlink |Extracting templates|Fetched |\s*$)/;
const TAIL_LINES = 25;

/** Why a script ended, in its own words. */
export interface ScriptFailure {
  message: string;
  hints: string[];
}

export type SetupReport = ReturnType<typeof createReport>;

export interface ReportOptions {
  write(line: string): void;
  /** Milliseconds of a clock that never goes back. */
  now(): number;
}

export function createReport({ write, now }: ReportOptions) {
  let changes = 0;
  let step: { name: string; startedMs: number; changes: string[] } | null = null;
  let failure: ScriptFailure | null = null;
  let lastMs = now();
  const tail: string[] = [];
  const print = (lines: readonly string[]): void => {
    lastMs = now();
    for (const line of lines) write(line);
  };

  const heartbeat = setInterval(() => {
    if (step === null || now() - lastMs < HEARTBEAT_MS) return;
    const seconds = Math.round((now() - step.startedMs) / 1000);
    print(quoted(`still on ${step.name} … ${seconds}s`));
  }, 1000);
  heartbeat.unref();

  /** @param detail null: what changed in it */
  function endStep(detail: string | null = null): void {
    if (step === null) return;
    const { name, startedMs, changes: made } = step;
    step = null;
    const said = made.length === 0 ? 'nothing to change' : made.length === 1 ? '1 change' : `${made.length} changes`;
    print(stepLine(name, detail ?? said, now() - startedMs));
  }

  function onScriptLine(line: string): void {
    const [, word = '', rest = ''] = /^@(step|changed|note|error|hint) (.*)$/.exec(line) ?? [];
    switch (word) {
      case 'step':
        endStep();
        step = { name: rest, startedMs: now(), changes: [] };
        break;
      case 'changed':
        changes += 1;
        step?.changes.push(rest);
        print(quoted(`changed: ${rest}`));
        break;
      case 'note':
        print(quoted(rest));
        break;
      case 'error':
        failure = { message: rest, hints: [] };
        break;
      case 'hint':
        failure?.hints.push(rest);
        break;
      default:
        tail.push(line);
        if (tail.length > TAIL_LINES) tail.shift();
        if (!NOISE.test(line)) print(quoted(line));
    }
  }

  return {
    /** A line of a script: `@step`, `@changed`, `@note`, `@error`, `@hint`, or what a program printed. */
    onScriptLine,
    begin(name: string): void {
      endStep();
      step = { name, startedMs: now(), changes: [] };
    },
    endStep,
    changed(what: string): void {
      changes += 1;
      step?.changes.push(what);
      print(quoted(`changed: ${what}`));
    },
    say: (text: string): void => print(quoted(text)),
    warn: (text: string): void => print(labelled('warning', text)),
    hint: (text: string): void => print(labelled('hint', text)),
    success: (text: string): void => print(labelled('success', text)),
    /** How much was not as it should be. */
    changes: (): number => changes,
    stepName: (): string => step?.name ?? '',
    failure: (): ScriptFailure | null => failure,
    /** The last lines that programs printed. */
    tail: (): readonly string[] => tail,
    close: (): void => clearInterval(heartbeat),
  };
}
