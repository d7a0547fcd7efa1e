/** What a client sends beside its input: its terminal and the size of its window, signals. */
import type { Session } from 'ssh2';

export interface Pty {
  /** `xterm-256color`: what TERM says. */
  name: string;
  /** As they are now: they change with the client's window. */
  columns: number;
  rows: number;
}

export type SignalName = 'INT' | 'TERM' | 'HUP' | 'QUIT';

export interface ClientListener {
  onResize(size: { columns: number; rows: number }): void;
  onSignal(name: SignalName): void;
}

export interface ClientEvents {
  /** Null: the client has no terminal. */
  pty: Pty | null;
  listener: ClientListener | null;
}

const TERMINAL_NAME = /^[A-Za-z0-9][A-Za-z0-9+._-]{0,63}$/;
const MAX_SIZE = 10_000;

/** From now on, for as long as the session lasts. */
export function listenToClient(session: Session): ClientEvents {
  const events: ClientEvents = { pty: null, listener: null };
  session.on('pty', (accept, _reject, info) => {
    // Its types leave out what ssh2 reads first.
    const { term = '' } = info as { term?: string };
    events.pty = {
      name: TERMINAL_NAME.test(term) ? term : 'dumb',
      columns: readSize(info.cols, 80),
      rows: readSize(info.rows, 24),
    };
    accept?.();
  });
  session.on('window-change', (accept, _reject, info) => {
    accept?.();
    const { listener, pty } = events;
    if (pty === null) return;
    pty.columns = readSize(info.cols, pty.columns);
    pty.rows = readSize(info.rows, pty.rows);
    listener?.onResize({ columns: pty.columns, rows: pty.rows });
  });
  session.on('signal', (accept, _reject, info) => {
    accept?.();
    const name = String(info.name);
    if (isSignalName(name)) events.listener?.onSignal(name);
  });
  return events;
}

function readSize(value: number, fallback: number): number {
  return value > 0 && value <= MAX_SIZE ? value : fallback;
}

function isSignalName(name: string): name is SignalName {
  return ['INT', 'TERM', 'HUP', 'QUIT'].includes(name);
}
