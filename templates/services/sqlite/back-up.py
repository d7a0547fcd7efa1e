# Every SQLite database below FROM, by SQLite's own backup, to the same path below TO. Prints paths, each ended by NUL:
# those of the databases, and of the journals that belong to them.
import os
import sqlite3
import sys
from urllib.parse import quote

source, target = sys.argv[1:]


def is_database(path):
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def back_up(path, copy):
    os.makedirs(os.path.dirname(copy), mode=0o700, exist_ok=True)
    live = sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=60)
    made = sqlite3.connect(copy)
    try:
        live.backup(made)
        problem = made.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            sys.exit(f"error: {path} is damaged: {problem}")
    finally:
        made.close()
        live.close()
    was = os.stat(path)
    os.chmod(copy, was.st_mode & 0o777)
    os.utime(copy, ns=(was.st_atime_ns, was.st_mtime_ns))


for folder, _, names in os.walk(source, onerror=lambda error: sys.exit(f"error: {error}")):
    for name in names:
        path = os.path.join(folder, name)
        if not is_database(path):
            continue
        inner = os.path.relpath(path, source)
        back_up(path, os.path.join(target, inner))
        for end in ("", "-wal", "-shm", "-journal"):
            sys.stdout.buffer.write(os.fsencode(inner + end) + b"\0")
