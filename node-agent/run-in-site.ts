/** A command in a site's environment, as its user: with a terminal or without. It waits for no deploy, and no deploy for it. */
import { limitWords } from './accounts.ts';
import { KraftwerkError } from './protocol.ts';
import type { Frame, RunRequest, RunResult } from './protocol-data.ts';
import { RUN_WINDOW_BYTES } from './protocol-data.ts';
import { readCurrent } from './releases.ts';
import { RUN_HELPER } from './run-helper.ts';
import { readRunIdentity } from './run-identity.ts';
import { holdRelease } from './run-notes.ts';
import { readWritten } from './service-variables.ts';
import { DEFAULT_PATH, type PipedProgram } from './system.ts';
import type { Work } from './work.ts';

const PYTHON = '/usr/bin/python3';
const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;
const KILLED = 'SIGKILL';

/** What the helper says, see `run-helper.ts`. */
type Answer = { pid: number } | { code: number } | { failed: 'start' | 'chdir' | 'exec'; errno: number };

/** @throws KraftwerkError `run.release`, `run.user`, `run.root`, `run.rootless`, `run.start`, `run.timeout`, `run.lost` */
export async function runInSite(request: RunRequest, work: Work): Promise<RunResult> {
  const { system, site } = work;
  if (request.argv.length === 0) throw new KraftwerkError('protocol.invalid', 'run.argv: expected a command');
  const user = readRunIdentity(system, site, request.user);
  const release = request.release ?? readCurrent(system, site)?.release ?? null;
  const letGo = release === null ? null : await holdRelease(system, site, release);
  if (release === null || letGo === null) {
    throw new KraftwerkError(
      'run.release',
      release === null ? `${site.instance}: no release on this node` : `v${release} is not on the node any more`,
      { hint: 'ssh kraftwerk@HOST releases TARGET', exit: 'denied' },
    );
  }
  try {
    const tree = site.release(release);
    const helper = `${site.node.runtime}/.run-in-site.py`;
    if (system.readText(helper) !== RUN_HELPER) system.writeVolatile(helper, RUN_HELPER, 0o600);
    // A clean environment: the site's own may name libraries that root would load.
    const words = site.owner === null ? [] : limitWords(system, request.limits);
    const program = await system.startPiped([...words, PYTHON, '-I', '-S', helper], {
      cwd: '/',
      env: { PATH: DEFAULT_PATH, LANG: 'C.UTF-8' },
    });
    const { terminal } = request;
    const order = {
      argv: request.argv,
      cwd: tree,
      environment: {
        ...request.environment,
        ...readWritten(system, site, request.written),
        VIRTUAL_ENV: `${tree}/venv`,
        PATH: `${tree}/venv/bin:${DEFAULT_PATH}`,
        ...(terminal !== null && { TERM: terminal.name }),
      },
      user,
      terminal: terminal === null ? null : [terminal.columns, terminal.rows],
    };
    program.control.write(`${JSON.stringify(order)}\n`);
    return await accompany(program, request, work);
  } finally {
    letGo();
  }
}

/** Bytes both ways until the command has ended, or nobody is there any more. */
async function accompany(program: PipedProgram, request: RunRequest, work: Work): Promise<RunResult> {
  // The end of its control is what tells the helper to end the command.
  const hangUp = (): void => void program.control.end();
  let timedOut = false;
  let failed: unknown = null;
  const timer = setTimeout(() => {
    timedOut = true;
    hangUp();
  }, request.timeoutMs);
  work.signal.addEventListener('abort', hangUp, { once: true });
  if (work.signal.aborted) hangUp();
  const answers: Answer[] = [];
  const heard = readAnswers(program, answers);
  // What it waits for when the command has ended comes never, and is nobody's.
  void takeInput(program, work).catch((error: unknown) => {
    failed = error;
    hangUp();
  });
  try {
    await Promise.all([passOn(program.stdout, 'out', work), passOn(program.stderr, 'err', work), heard, program.ended]);
  } finally {
    clearTimeout(timer);
    work.signal.removeEventListener('abort', hangUp);
  }
  if (failed !== null) throw failed;
  if (timedOut) {
    throw new KraftwerkError('run.timeout', `the command was ended after ${Math.round(request.timeoutMs / 1000)} s`);
  }
  return result(answers, request, work);
}

async function result(answers: readonly Answer[], request: RunRequest, work: Work): Promise<RunResult> {
  for (const answer of answers) {
    if ('code' in answer) return { code: answer.code };
    if ('failed' in answer) return await startFailed(answer, request, work);
  }
  const started = answers[0];
  // Without its helper nobody else ends it.
  if (started !== undefined && 'pid' in started) work.system.signal(-started.pid, KILLED);
  throw new KraftwerkError('run.lost', 'what runs the command was ended from outside, perhaps for lack of memory', {
    hint: 'dmesg, on the node',
  });
}

/** A program that is not there is the command's own failure, and told as a shell would. */
async function startFailed(
  { errno, failed }: Extract<Answer, { failed: string }>,
  { argv: [name = ''], terminal }: RunRequest,
  work: Work,
): Promise<RunResult> {
  const ENOENT = 2;
  if (failed !== 'exec') {
    throw new KraftwerkError('run.start', `cannot start the command: ${failed} ended with errno ${errno}`);
  }
  const why = errno === ENOENT ? 'there is no such program' : 'cannot be executed';
  const shown = JSON.stringify(name.slice(0, 200));
  await work.sendData('err', Buffer.from(`error: ${shown}: ${why}${terminal === null ? '\n' : '\r\n'}`));
  return { code: errno === ENOENT ? NOT_FOUND : NOT_EXECUTABLE };
}

function readAnswers({ control }: PipedProgram, answers: Answer[]): Promise<void> {
  let text = '';
  control.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  return new Promise((resolve) => {
    control.once('close', () => {
      for (const line of text.split('\n')) if (line !== '') answers.push(JSON.parse(line) as Answer);
      resolve();
    });
  });
}

async function passOn(source: AsyncIterable<Uint8Array>, stream: 'out' | 'err', work: Work): Promise<void> {
  for await (const chunk of source) await work.sendData(stream, chunk);
}

/** Frames are read at once, whether the command reads or not: a signal does not wait behind its input. */
async function takeInput(program: PipedProgram, work: Work): Promise<void> {
  const { control, stdin } = program;
  let waiting = 0;
  for (;;) {
    const frame: Frame | null = await work.readFrame();
    if (frame === null) return void control.end();
    if ('data' in frame && frame.data !== '') {
      const bytes = Buffer.from(frame.data, 'base64');
      waiting += bytes.length;
      if (waiting > RUN_WINDOW_BYTES) throw new KraftwerkError('protocol.invalid', 'frame: more than was asked for');
      stdin.write(bytes, (error) => {
        // A command that takes no more leaves its sender waiting, as a pipe would.
        if (error) return;
        waiting -= bytes.length;
        work.taken(bytes.length);
      });
    } else if ('data' in frame || 'end' in frame) {
      stdin.end();
      if ('end' in frame) return;
    } else if (control.writable) {
      control.write(
        `${JSON.stringify('resize' in frame ? { resize: [frame.resize.columns, frame.resize.rows] } : frame)}\n`,
      );
    }
  }
}
