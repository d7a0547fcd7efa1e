/** Actor: somebody at a real terminal. A program runs in a pseudo-terminal of its own, which a few lines of Python make. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';

const PTY = String.raw`
import fcntl, json, os, pty, select, struct, sys, termios
argv, columns, rows = json.loads(sys.argv[1])
pid, master = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.execvp(argv[0], argv)
control = b""
while True:
    ready, _, _ = select.select([0, 3, master], [], [])
    if master in ready:
        try:
            data = os.read(master, 65536)
        except OSError:
            data = b""
        if not data:
            break
        os.write(1, data)
    if 0 in ready:
        data = os.read(0, 65536)
        while data:
            data = data[os.write(master, data):]
    if 3 in ready:
        control += os.read(3, 100)
        *lines, control = control.split(b"\n")
        for line in lines:
            columns, rows = json.loads(line)
            fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) % 256)
`;

export type Terminal = ReturnType<typeof openTerminal>;

export function openTerminal(
  argv: readonly string[],
  { columns = 80, rows = 24, env = {} as Record<string, string>, cwd = '/' } = {},
) {
  const child: ChildProcess = spawn('/usr/bin/python3', ['-c', PTY, JSON.stringify([argv, columns, rows])], {
    cwd,
    env: { PATH: process.env.PATH ?? '/usr/bin:/bin', TERM: 'xterm-256color', LANG: 'C.UTF-8', ...env },
    stdio: ['pipe', 'pipe', 'inherit', 'pipe'],
  });
  const chunks: Buffer[] = [];
  let looked = 0;
  let look = (): void => undefined;
  const seen = (): string => Buffer.concat(chunks).toString('latin1');
  (child.stdout as Readable).on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    look();
  });
  let over = false;
  const ended = once(child, 'close').then(([code]) => {
    over = true;
    look();
    return code as number | null;
  });
  return {
    pid: child.pid ?? 0,
    /** Bytes, as latin1. */
    seen,
    /** What a key sends: `\x03` for Ctrl-C. */
    type: (text: string | Buffer): boolean => (child.stdin as Writable).write(text),
    /** The window gets another size. */
    resize: (width: number, height: number): boolean =>
      (child.stdio[3] as Writable).write(`${JSON.stringify([width, height])}\n`),
    /** Waits for it behind what was waited for before. @returns all between */
    async shows(what: RegExp, limitMs = 20_000): Promise<string> {
      const end = performance.now() + limitMs;
      for (;;) {
        const rest = seen().slice(looked);
        const match = what.exec(rest);
        if (match !== null) {
          looked += match.index + match[0].length;
          return rest.slice(0, match.index + match[0].length);
        }
        if (over || performance.now() > end) throw new Error(`no ${what} in the terminal: ${JSON.stringify(rest)}`);
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, Math.max(0, end - performance.now()));
          look = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
    },
    kill: (): boolean => child.kill('SIGKILL'),
    /** The exit code. */
    ended,
  };
}
