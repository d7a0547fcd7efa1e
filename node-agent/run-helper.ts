/** The program between the agent and a command: what Node cannot do by itself. It runs as root on a system node, in Python's isolated mode. */
// Long because: it is one program in one piece.

/**
 * On its descriptor 3 it gets one line of JSON with the order, then `{"resize": [COLUMNS, ROWS]}` and `{"signal": "INT"}`; it
 * answers `{"pid": N}`, then `{"code": N}`, or `{"failed": "exec", "errno": N}`. Descriptors 0 to 2 are the command's. The end of
 * descriptor 3 means that nobody is there any more.
 *
 * Why not Node: it has no pseudo-terminals, its pipes are sockets (`/dev/stdin` cannot be opened), it cannot take in orphans.
 */
export const RUN_HELPER = String.raw`# Runs one command for kraftwerk's agent; see node-agent/run-helper.ts.
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import struct
import termios
import time

CONTROL = 3
BLOCK = 65536
# Between SIGHUP and SIGKILL when nobody is there any more.
GRACE_S = 5.0
# What a command leaves behind when it ends has this long to end by itself, counted from the last that it wrote.
LINGER_S = 1.0
KILL_AGAIN_S = 0.02
GIVE_UP_S = 10.0
END_AGAIN_S = 0.5
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
libc = ctypes.CDLL(None, use_errno=True)


def write_text(path, text):
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError:
        pass


def close(fd):
    try:
        os.close(fd)
    except OSError:
        pass


def set_size(fd, columns, rows):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Pump:
    """Bytes from one descriptor to another, never more than a block of them in memory."""

    def __init__(self, source, target, on_end):
        self.source, self.target, self.on_end = source, target, on_end
        self.waiting = b""
        self.reading = self.open = True
        os.set_blocking(source, False)
        os.set_blocking(target, False)

    def wants(self):
        if self.waiting:
            return self.target, select.POLLOUT
        return (self.source, select.POLLIN) if self.reading else None

    def turn(self):
        try:
            if self.waiting:
                self.waiting = self.waiting[os.write(self.target, self.waiting):]
            elif self.reading:
                self.waiting = os.read(self.source, BLOCK)
                self.reading = bool(self.waiting)
        except BlockingIOError:
            return
        except OSError:
            # EIO, of a terminal: nobody has it open any more.
            self.reading = False
            self.waiting = b""
        if not self.reading and not self.waiting and self.open:
            self.open = False
            self.on_end(self)


class Run:
    def __init__(self, order):
        self.order = order
        self.pid = None
        self.code = None
        self.master = None
        self.ended_at = self.hung_up_at = self.killing_since = None
        self.wrote_at = 0.0
        self.pumps = []
        self.outputs = []
        self.control = b""
        self.last_typed = b"\n"
        self.end_again_at = None

    # ------------------------------------------------------------ start

    def start(self):
        terminal = self.order["terminal"]
        if terminal:
            self.master, slave = os.openpty()
            set_size(slave, *terminal)
            modes = termios.tcgetattr(slave)
            modes[0] |= 0x4000  # IUTF8
            termios.tcsetattr(slave, termios.TCSANOW, modes)
            if self.order["user"]:
                os.fchown(slave, self.order["user"]["uid"], -1)
                os.fchmod(slave, 0o600)
            theirs, ours = (slave, slave, slave), ()
        else:
            pipes = [os.pipe() for _ in range(3)]
            theirs = (pipes[0][0], pipes[1][1], pipes[2][1])
            ours = (pipes[0][1], pipes[1][0], pipes[2][0])
        told, tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self.become(theirs, tell)
        for fd in {*theirs, tell}:
            os.close(fd)
        failed = os.read(told, 100).decode()
        os.close(told)
        if failed:
            os.waitpid(self.pid, 0)
            what, number = failed.split()
            self.say({"failed": what, "errno": int(number)})
            return False
        self.say({"pid": self.pid})
        if terminal:
            # Of two numbers for the master, each side can close its own.
            copy = os.dup(self.master)
            self.pumps = [Pump(0, self.master, self.end_typing), Pump(copy, 1, self.end_output)]
            self.outputs = self.pumps[1:]
        else:
            self.pumps = [
                Pump(0, ours[0], self.end_input),
                Pump(ours[1], 1, self.end_output),
                Pump(ours[2], 2, self.end_output),
            ]
            self.outputs = self.pumps[1:]
        return True

    def become(self, theirs, tell):
        """In the child: the site's user, in a session of its own."""
        what = "start"
        try:
            os.setsid()
            if self.order["terminal"]:
                fcntl.ioctl(theirs[0], termios.TIOCSCTTY, 0)
            for fd in range(3):
                os.dup2(theirs[fd], fd)
            for name in os.listdir("/proc/self/fd"):
                if int(name) > 2 and int(name) != tell:
                    close(int(name))
            write_text("/proc/self/oom_score_adj", "0")
            if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "prctl")
            user = self.order["user"]
            if user:
                os.setgroups(user["groups"])
                os.setresgid(user["gid"], user["gid"], user["gid"])
                os.setresuid(user["uid"], user["uid"], user["uid"])
                if os.getuid() == 0 or os.geteuid() == 0:
                    raise OSError(errno.EPERM, "root")
            # Python ignores these; whoever comes after it expects them as they are.
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.umask(0o027)
            what = "chdir"
            os.chdir(self.order["cwd"])
            what = "exec"
            argv = self.order["argv"]
            os.execvpe(argv[0], argv, self.order["environment"])
        except OSError as error:
            os.write(tell, ("%s %d" % (what, error.errno or 0)).encode())
        finally:
            os._exit(127)

    # ------------------------------------------------------------ streams

    def end_input(self, pump):
        close(pump.source)
        close(pump.target)

    def end_typing(self, pump):
        """A terminal has no end: Ctrl-D is typed, twice where a line is begun."""
        close(pump.source)
        self.type_end(1 if self.last_typed in b"\r\n" else 2)

    def type_end(self, times=1):
        """Again and again: one that comes while a program changes the terminal's mode is lost."""
        self.end_again_at = None if self.master is None else time.monotonic() + END_AGAIN_S
        if self.master is not None:
            try:
                os.write(self.master, b"\x04" * times)
            except OSError:
                self.end_again_at = None

    def end_output(self, pump):
        close(pump.source)
        close(pump.target)

    def drop_streams(self):
        for pump in self.pumps:
            if pump.open:
                pump.open = pump.reading = False
                pump.waiting = b""
                close(pump.source)
                if pump.target != self.master:
                    close(pump.target)
        if self.master is not None:
            close(self.master)
            self.master = None

    # ------------------------------------------------------------ control

    def say(self, value):
        try:
            os.write(CONTROL, json.dumps(value).encode() + b"\n")
        except OSError:
            pass

    def hear(self):
        try:
            data = os.read(CONTROL, BLOCK)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        self.control += data
        *lines, self.control = self.control.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "resize" in message and self.master is not None:
                set_size(self.master, *message["resize"])
            if "signal" in message:
                self.signal_group(getattr(signal, "SIG" + message["signal"]))
        return bool(data)

    def signal_group(self, number):
        group = self.pid
        if self.master is not None:
            try:
                group = os.tcgetpgrp(self.master) or self.pid
            except OSError:
                pass
        try:
            os.killpg(group, number)
        except OSError:
            pass

    # ------------------------------------------------------------ the end

    def hang_up(self):
        self.drop_streams()
        if self.hung_up_at is None:
            self.hung_up_at = time.monotonic()
            self.signal_all(signal.SIGHUP, signal.SIGCONT)

    def signal_all(self, *numbers):
        """To all that have come of the command, whatever groups and sessions they have made: orphans are ours."""
        children = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open("/proc/%s/stat" % name, "rb") as file:
                        stat = file.read()
                except OSError:
                    continue
                parent = int(stat[stat.rindex(b")") + 2:].split()[1])
                children.setdefault(parent, []).append(int(name))
        todo = [os.getpid()]
        while todo:
            for pid in children.get(todo.pop(), []):
                todo.append(pid)
                for number in numbers:
                    try:
                        os.kill(pid, number)
                    except OSError:
                        pass

    def reap(self):
        """Whether anything of the command is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                self.ended_at = self.wrote_at = time.monotonic()

    def deadline(self):
        """When something is to be done that nobody wakes us for; None: never."""
        if self.killing_since is not None:
            return time.monotonic() + KILL_AGAIN_S
        if self.hung_up_at is not None:
            return self.hung_up_at + GRACE_S
        if self.ended_at is not None and not any(pump.waiting for pump in self.outputs):
            return self.wrote_at + LINGER_S
        return None

    def on_deadline(self):
        if self.hung_up_at is None:
            # The streams stay: what is on its way still has a reader.
            self.hung_up_at = time.monotonic()
            self.signal_all(signal.SIGHUP, signal.SIGTERM, signal.SIGCONT)
        else:
            self.killing_since = self.killing_since or time.monotonic()
            self.signal_all(signal.SIGKILL)

    def serve(self):
        wake, wakened = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(wakened, False)
        os.set_blocking(CONTROL, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakened, warn_on_full_buffer=False)
        heard = True
        while True:
            alive = self.reap()
            if not alive and not any(pump.open for pump in self.outputs):
                return
            poll = select.poll()
            poll.register(wake, select.POLLIN)
            if heard:
                poll.register(CONTROL, select.POLLIN)
            waiting = {}
            for pump in self.pumps:
                wanted = pump.wants() if pump.open else None
                if wanted:
                    waiting[wanted[0]] = pump
                    poll.register(*wanted)
            until = self.deadline() if alive else None
            if self.end_again_at is not None and alive:
                until = min(until or self.end_again_at, self.end_again_at)
            ready = poll.poll(None if until is None else max(0, int((until - time.monotonic()) * 1000) + 1))
            for fd, _ in ready:
                if fd == wake:
                    os.read(wake, BLOCK)
                elif fd == CONTROL:
                    heard = self.hear()
                    if not heard:
                        self.hang_up()
                elif fd in waiting and waiting[fd].open:
                    pump = waiting[fd]
                    pump.turn()
                    if pump in self.outputs:
                        self.wrote_at = time.monotonic()
                    elif pump.waiting:
                        self.last_typed = pump.waiting[-1:]
            if self.end_again_at is not None and time.monotonic() >= self.end_again_at:
                self.type_end()
            until = self.deadline() if alive else None
            if until is not None and time.monotonic() >= until and self.reap():
                self.on_deadline()
            elif alive and self.killing_since is not None:
                # What hangs in the kernel is not waited for.
                if time.monotonic() > self.killing_since + GIVE_UP_S:
                    return
                self.on_deadline()


def read_order():
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(CONTROL, BLOCK)
        if not data:
            os._exit(0)
        line += data
    return json.loads(line)


def main():
    os.set_inheritable(CONTROL, False)
    if os.getuid() == 0:
        # Where memory runs out, the command goes, and not who is to tell of it.
        write_text("/proc/self/oom_score_adj", "-900")
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    run = Run(read_order())
    if run.start():
        run.serve()
        run.say({"code": run.code})


main()
`;
