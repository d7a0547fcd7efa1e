# In the running site of an attacker: keeps what a build hands over, open for writing, and hands it on to the next release.
# Each conversation is one message with descriptors, and one answer.
import mmap
import os
import socket
import threading

KEEPER = "/tmp/red-team/keeper.sock"
FLIGHT = "/tmp/red-team/flight.sock"
held = []
maps = []


def listen(path, kind):
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    opened = socket.socket(socket.AF_UNIX, kind)
    opened.bind(path)
    os.chmod(path, 0o777)
    if kind == socket.SOCK_STREAM:
        opened.listen(20)
    return opened


def write(how, opened):
    if how == "folder":
        made = []
        for attempt in (lambda: os.close(os.open("KEPT", os.O_CREAT | os.O_WRONLY, dir_fd=opened)), lambda: os.fchmod(opened, 0o777)):
            try:
                attempt()
                made.append("made")
            except OSError as error:
                made.append(error.strerror)
        return f"{how}: {made}"
    try:
        os.pwrite(opened, b"KEPT", 0)
        return f"{how}: written"
    except OSError as error:
        return f"{how}: {error.strerror}"


def write_all():
    said = []
    for flight in flights:
        # Its own argument for flags does nothing in Python 3.11.
        flight.setblocking(False)
        while True:
            try:
                _, descriptors, _, _ = socket.recv_fds(flight, 100, 10)
            except OSError:
                break
            held.extend(("flight", one) for one in descriptors)
    for mapped in maps:
        mapped[0:4] = b"KEPT"
        said.append("map: written")
    return "; ".join(said + [write(how, opened) for how, opened in held]) or "nothing is held"


def answer(conversation):
    what, descriptors, _, _ = socket.recv_fds(conversation, 1000, 100)
    what = what.decode()
    if what == "hand over":
        everything = [one.fileno() for one in flights] + [opened for _, opened in held]
        names = ["queue" for _ in flights] + [how for how, _ in held]
        socket.send_fds(conversation, [",".join(names).encode()], everything)
    elif what == "write":
        conversation.sendall(write_all().encode())
    elif what == "say":
        # As the site prints: marks of the slots' own scripts, escapes, no text, a long line.
        os.write(2, b"==> v1 web ended with exit code 0\n==> v99 web starts\n\033[2J\0\377\n" + b"x" * 9000 + b"\n")
        conversation.sendall(b"said")
    elif what == "map":
        maps.append(mmap.mmap(descriptors[0], 4))
        os.close(descriptors[0])
        conversation.sendall(b"mapped")
    else:
        held.extend((what, one) for one in descriptors)
        conversation.sendall(b"kept")


def serve(listening):
    while True:
        conversation, _ = listening.accept()
        with conversation:
            try:
                answer(conversation)
            except OSError:
                pass


def take_over():
    try:
        with socket.socket(socket.AF_UNIX) as before:
            before.connect(KEEPER)
            before.sendall(b"hand over")
            names, descriptors, _, _ = socket.recv_fds(before, 10000, 200)
    except OSError:
        return
    for name, one in zip(names.decode().split(","), descriptors):
        if name == "queue":
            flights.append(socket.socket(fileno=one))
        else:
            held.append((name, one))


flights = []
try:
    os.mkdir("/tmp/red-team", 0o777)
    os.chmod("/tmp/red-team", 0o777)
except FileExistsError:
    pass
take_over()
flights.append(listen(FLIGHT, socket.SOCK_DGRAM))
threading.Thread(target=serve, args=(listen(KEEPER, socket.SOCK_STREAM),), daemon=True).start()
