# Looks at a node as root, for the red team's test: `remember` notes what is outside of the attacked site, `problems SITE` tells as
# a list in JSON what has changed there, what is wrong with the site's releases, and what is stuck.
import fcntl
import hashlib
import json
import marshal
import os
import pwd
import re
import stat
import subprocess
import sys
import time

NOTES = "/run/red-team.json"
STARTED = "/run/red-team.started"
WATCHED = ["/etc", "/root", "/web/beta", "/var/lib", "/usr/local"]
# Made anew by nobody: whatever changes there is told by its time.
QUIET = ["/usr", "/var/lib/dpkg", "/boot", "/opt", "/srv", "/home"]
# What systemd, apt and deploys of the attacked site write.
OWN = re.compile(
    r"^/etc/(?:sv|service|runit/runsvdir/[a-z]+)/alpha\.|^/etc/nginx/sites-enabled/alpha$|^/etc/(?:\.pwd\.lock|(?:passwd|group|shadow|gshadow|subuid|subgid)-)$"
    r"|^/var/lib/(?:dpkg|systemd|apt|private|nginx|logrotate|NetworkManager|dhcp)(?:/|$)|/supervise(?:/|$)|^/etc/mtab$"
    r"|^/web/beta/log/|^/etc/nginx/\.check\."
)
ACCOUNTS = {"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"}
OF_SITES = re.compile(rb"^(?:web|ngx|bld)-|^kraftwerk-|^web:|^www-data:")


def sum_of(path):
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
        data = file.read()
    if path in ACCOUNTS:
        data = b"\n".join(line for line in data.split(b"\n") if not OF_SITES.match(line))
    return hashlib.sha256(data).hexdigest()


def look(path, known):
    """@returns what must not change of it"""
    was = os.lstat(path)
    account = path in ACCOUNTS
    fact = [oct(was.st_mode), was.st_uid, was.st_gid]
    if stat.S_ISLNK(was.st_mode):
        return fact + [os.fsencode(os.readlink(path)).hex()]
    if stat.S_ISREG(was.st_mode):
        # The change time cannot be set: where it is as it was, so is the content.
        mark = [was.st_ino, was.st_ctime_ns, was.st_size]
        old = known.get(path)
        content = old[-2] if old and old[-1] == mark else sum_of(path)
        return fact + [None if account else was.st_size, content, mark]
    return fact


def snapshot(known):
    facts = {}
    for top in WATCHED:
        todo = [top]
        while todo:
            path = todo.pop()
            if OWN.search(path):
                continue
            name = os.fsencode(path).decode(errors="backslashreplace")
            try:
                facts[name] = look(path, known)
                if stat.S_ISDIR(os.lstat(path).st_mode):
                    todo += [f"{path}/{one}" for one in os.listdir(path)]
            except FileNotFoundError:
                pass
    return facts


def without_mark(fact):
    return None if fact is None else fact[:5]


def outside():
    with open(NOTES) as file:
        known = json.load(file)
    now = snapshot(known)
    for path in sorted(known.keys() | now.keys()):
        before, after = without_mark(known.get(path)), without_mark(now.get(path))
        if before != after:
            yield f"{path}: was {before}, is {after}"
    changed = subprocess.run(["find", *QUIET, "-xdev", "-cnewer", STARTED], capture_output=True, text=True, errors="replace").stdout
    for path in changed.splitlines():
        yield f"{path} has changed"


def entries(top):
    """Everything below, by descriptors: paths may be too long to be named."""
    def walk(folder, path):
        for name in sorted(os.listdir(folder)):
            was = os.stat(name, dir_fd=folder, follow_symlinks=False)
            inner = f"{path}/{name}"
            yield inner, was, folder, name
            if stat.S_ISDIR(was.st_mode) and inner.count("/") < 400:
                opened = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                try:
                    yield from walk(opened, inner)
                finally:
                    os.close(opened)

    opened = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield from walk(opened, top)
    finally:
        os.close(opened)


def shown(path):
    text = os.fsencode(path).decode(errors="backslashreplace")
    return text if len(text) < 200 else f"{text[:90]}…{text[-90:]}"


def same_code(a, b):
    return (
        a.co_code == b.co_code
        and a.co_names == b.co_names
        and len(a.co_consts) == len(b.co_consts)
        and all(
            same_code(x, y) if hasattr(x, "co_code") and hasattr(y, "co_code") else repr(x) == repr(y)
            for x, y in zip(a.co_consts, b.co_consts)
        )
    )


def byte_code(path):
    """What is wrong with a file of byte code, as far as its source is there to tell."""
    source = re.sub(r"/__pycache__/([^/]+?)\.cpython-[^/]*$", r"/\1.py", path)
    try:
        with open(path, "rb") as file:
            data = file.read()
        with open(source, "rb") as file:
            text = file.read()
        if not same_code(marshal.loads(data[16:]), compile(text, source, "exec", dont_inherit=True)):
            return f"{shown(path)}: is not what {shown(source)} says"
    except FileNotFoundError:
        return f"{shown(path)}: byte code without a source"
    except (SyntaxError, ValueError, EOFError, TypeError) as error:
        return f"{shown(path)}: {error!r}"
    return None


def wrong_entry(path, was, top, site, serving):
    """What is wrong with one entry of a release or a virtualenv."""
    rest = path[len(top) + 1 :]
    link = stat.S_ISLNK(was.st_mode)
    if was.st_uid != 0:
        yield f"{shown(path)}: belongs to {was.st_uid}"
    if not link and was.st_mode & 0o6022 & ~(0o2000 if stat.S_ISDIR(was.st_mode) else 0):
        yield f"{shown(path)}: has mode {oct(was.st_mode & 0o7777)}"
    if not (link or stat.S_ISREG(was.st_mode) or stat.S_ISDIR(was.st_mode)):
        yield f"{shown(path)}: is neither file nor folder"
    if link and os.path.basename(path) == "__pycache__":
        yield f"{shown(path)}: is a link"
    if link and rest not in ("venv", ".run"):
        real = os.path.realpath(path)
        if not (real == top or real.startswith(f"{top}/") or re.match(r"^/usr/(?:local/)?bin/python3[.0-9]*$", real)):
            yield f"{shown(path)}: leads to {shown(real)}"
    if rest == "venv" and not (link and re.match(rf"^\.\./\.\./venvs/[0-9a-f]+$", os.readlink(path))):
        yield f"{shown(path)}: is not our link"
    if rest == ".run" and not (link and re.match(rf"^(?:\.\./)+run/kraftwerk/{site}/[ab]\.[0-9]+$", os.readlink(path))):
        yield f"{shown(path)}: is not our link"
    if stat.S_ISREG(was.st_mode) and path.endswith(".pyc") and re.search(r"/releases/.*/__pycache__/", path):
        problem = byte_code(path)
        if problem:
            yield problem


def writable(site, user):
    """What a user may write of what is ours, by asking the kernel as that user."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        who = pwd.getpwnam(user)
        os.initgroups(user, who.pw_gid)
        os.setresgid(who.pw_gid, who.pw_gid, who.pw_gid)
        os.setresuid(who.pw_uid, who.pw_uid, who.pw_uid)
        found = []
        for top in ["", "/releases", "/venvs", "/bytecode", "/.kraftwerk", "/log", "/.ssh"]:
            path = f"/web/{site}{top}"
            if os.access(path, os.W_OK):
                found.append(path)
            for folder, folders, names in os.walk(path) if top else ():
                for name in folders + names:
                    inner = f"{folder}/{name}"
                    if not os.path.islink(inner) and os.access(inner, os.W_OK):
                        found.append(shown(inner))
        os.write(tell, "\n".join(found)[:60000].encode())
        os._exit(0)
    os.close(tell)
    text = b""
    while piece := os.read(told, 65536):
        text += piece
    os.close(told)
    os.waitpid(child, 0)
    return [f"{path}: {user} may write" for path in text.decode().splitlines()]


def users_of(site):
    found = []
    for user in (f"web-{site}", f"bld-{site}"):
        try:
            found.append(pwd.getpwnam(user).pw_name)
        except KeyError:
            pass
    return found


def releases(site):
    base = f"/web/{site}"
    serving = os.path.realpath(f"{base}/current")
    for kind in ("releases", "venvs"):
        for name in sorted(os.listdir(f"{base}/{kind}")):
            top = f"{base}/{kind}/{name}"
            if name.startswith("."):
                yield f"{top}: is left"
                continue
            if os.stat(top).st_uid != 0 or not os.path.isdir(top) or os.path.islink(top):
                yield f"{top}: is not ours"
            for path, was, _, _ in entries(top):
                yield from wrong_entry(path, was, top, site, serving)
    for user in users_of(site):
        yield from writable(site, user)


def processes(uid):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/status") as file:
                status = file.read()
            with open(f"/proc/{pid}/cmdline") as file:
                words = file.read().replace("\0", " ")
        except OSError:
            continue
        if re.search(r"^State:\s+[ZX]", status, re.M):
            continue
        if str(uid) in re.search(r"^Uid:\s+(.*)$", status, re.M)[1].split():
            found.append(f"{pid} {words[:80]}")
    return found


def settled(check, seconds=3):
    """What is wrong still when a while has passed: an agent that has answered needs a moment to end."""
    end = time.time() + seconds
    while (found := list(check())) and time.time() < end:
        time.sleep(0.02)
    return found


def lock(site):
    with open(f"/run/kraftwerk/{site}.lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield "the site's lock is held"


def builders(site):
    try:
        uid = pwd.getpwnam(f"bld-{site}").pw_uid
    except KeyError:
        return
    for process in processes(uid):
        yield f"a process of the build is left: {process}"


def strays(site):
    for process in processes(pwd.getpwnam(f"web-{site}").pw_uid):
        if re.match(r"^\d+ red-", process):
            yield f"a stray process is left: {process}"


def destroyed(uids, gids):
    """What is left under the numbers of a site that has been destroyed."""
    for uid in uids:
        for process in processes(uid):
            yield f"a process is left: {process}"
    whose = [word for uid in uids for word in ("-o", "-uid", uid)] + [word for gid in gids for word in ("-o", "-gid", gid)]
    places = [place for place in ("/", "/tmp", "/dev/shm", "/run", "/web", "/dev/mqueue") if os.path.isdir(place)]
    found = subprocess.run(
        ["find", *places, "-xdev", "(", "-path", "/proc", "-o", "-path", "/web/.destroyed", ")", "-prune", "-o", "(", *whose[1:], ")", "-print0"],
        capture_output=True,
    ).stdout
    for path in sorted(set(found.split(b"\0")) - {b""}):
        yield f"{shown(os.fsdecode(path))}: is left"


def main(command, *words):
    if command == "remember":
        with open(NOTES, "w") as file:
            json.dump(snapshot({}), file)
        open(STARTED, "w").close()
        found = []
    elif command == "destroyed":
        uids, gids = (word.split(",") for word in words)
        found = list(outside()) + list(destroyed(uids, gids))
    else:
        site = words[0]
        checks = [lambda: lock(site), lambda: builders(site)]
        if "strays" in words[1:]:
            checks.append(lambda: strays(site))
        found = [problem for check in checks for problem in settled(check)]
        found += list(releases(site)) + list(outside())
    json.dump(found, sys.stdout)


main(*sys.argv[1:])
