# Whether every SQLite database below a folder is whole.
import os
import sqlite3
import sys
from urllib.parse import quote

for folder, _, names in os.walk(sys.argv[1], onerror=lambda error: sys.exit(f"error: {error}")):
    for name in names:
        path = os.path.join(folder, name)
        if os.path.islink(path) or not os.path.isfile(path):
            continue
        with open(path, "rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                continue
        database = sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True)
        try:
            problem = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            problem = error
        database.close()
        if problem != "ok":
            sys.exit(f"error: {os.path.relpath(path, sys.argv[1])} is damaged: {problem}")
