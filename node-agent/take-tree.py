# Takes back a tree that a build or pip has had, for kraftwerk's agent. Afterwards all of it is the agent's user's alone to change:
# every folder is taken from its owner and closed before it is looked into, by its descriptor; a file that somebody still has
# open for writing becomes a copy. The builder's processes have ended by now, but they may have passed descriptors on.
#
#   take-tree.py FOLDER BUILDER GROUP MAX_DEPTH MAX_PATH_BYTES MAX_ENTRIES BYTE_CODE
#
# BUILDER and GROUP are numbers, or - where there is one user only. BYTE_CODE: keep, or drop all __pycache__.
# Prints one line of JSON: {"copied": N}, or {"refused": "hostile"|"limit", "path": ..., "what": ...}.
import errno
import fcntl
import itertools
import json
import os
import stat
import sys

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# What a copy is called until it has its name: nobody could know it before.
COPY = f".{os.urandom(16).hex()}"
MAX_REMOVED_DEPTH = 200
ACL = ("system.posix_acl_access", "system.posix_acl_default")


class Refused(Exception):
    def __init__(self, kind, path, what):
        super().__init__(what)
        # The agent reads lines of 4,000 letters, and a letter may become six.
        shown = path if len(path) <= 200 else f"{path[:100]}…{path[-80:]}"
        self.answer = {"refused": kind, "path": shown, "what": what}


class Take:
    def __init__(self, builder, group, max_depth, max_path, max_entries, byte_code):
        self.builder = None if builder == "-" else int(builder)
        self.group = None if group == "-" else int(group)
        self.max_depth, self.max_path, self.left = max_depth, max_path, max_entries
        self.drop = byte_code == "drop"
        self.copied = 0
        # Of files with several names: where the one copy of all of them is.
        self.copies = {}
        self.top = None

    def own(self, handle, mode):
        if self.builder is None:
            if stat.S_IMODE(os.fstat(handle).st_mode) & 0o700 != mode & 0o700:
                os.fchmod(handle, mode & 0o755)
            return
        os.fchown(handle, 0, self.group)
        os.fchmod(handle, mode)
        for name in ACL:
            try:
                os.removexattr(handle, name)
            except OSError as error:
                if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
                    raise

    def check(self, was, path):
        # What was lent is the builder's, all of it: of root there is nothing.
        if self.builder is not None and was.st_uid != self.builder:
            raise Refused("hostile", path, "belongs to another user")
        self.left -= 1
        if self.left < 0:
            raise Refused("limit", path, "there are too many files")
        if path.count("/") >= self.max_depth:
            raise Refused("limit", path, f"folders are nested deeper than {self.max_depth}")
        try:
            name = os.fsencode(path)
            name.decode()
        except UnicodeDecodeError:
            raise Refused("hostile", path, "the name is not UTF-8") from None
        if len(name) > self.max_path:
            raise Refused("limit", path, f"the path is longer than {self.max_path} bytes")

    def folder(self, handle, path, device):
        self.own(handle, 0o2750)
        # All of them, since copies are made beside what is listed; no more than may be in the whole tree.
        for name in list(itertools.islice(names_in(handle), self.left + 1)):
            inner = f"{path}/{name}" if path else name
            was = os.stat(name, dir_fd=handle, follow_symlinks=False)
            if self.drop and name == "__pycache__":
                remove(handle, name, was, device)
                continue
            self.check(was, inner)
            if stat.S_ISDIR(was.st_mode):
                # Of a file the number says nothing where one file system lies over another.
                if was.st_dev != device:
                    raise Refused("hostile", inner, "is another file system")
                opened = os.open(name, self.reachable(handle, name, FOLDER), dir_fd=handle)
                try:
                    self.folder(opened, inner, device)
                finally:
                    os.close(opened)
            elif stat.S_ISREG(was.st_mode):
                self.file(handle, name, was, inner)
            elif stat.S_ISLNK(was.st_mode):
                if self.builder is not None:
                    os.chown(name, 0, self.group, dir_fd=handle, follow_symlinks=False)
            else:
                # A socket or a fifo: its readers would wait for ever.
                os.unlink(name, dir_fd=handle)

    def reachable(self, folder, name, flags):
        """Without root's rights a folder or file of mode 0 is opened up first."""
        if self.builder is None:
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if mode & 0o400 == 0 or (stat.S_ISDIR(mode) and mode & 0o700 != 0o700):
                os.chmod(name, stat.S_IMODE(mode) | (0o700 if stat.S_ISDIR(mode) else 0o600), dir_fd=folder)
        return flags

    def file(self, folder, name, was, path):
        handle = os.open(name, self.reachable(folder, name, FILE), dir_fd=folder)
        try:
            mode = 0o750 if was.st_mode & 0o100 else 0o640
            # By another name it may stand anywhere, and is to go with its owner.
            shared = self.builder is not None and was.st_nlink > 1
            if not shared:
                self.own(handle, mode)
            if shared and was.st_ino in self.copies:
                # Its folder is ours by now.
                os.unlink(name, dir_fd=folder)
                os.link(self.copies[was.st_ino], name, src_dir_fd=self.top, dst_dir_fd=folder, follow_symlinks=False)
            elif shared or (self.builder is not None and is_written(handle)):
                self.copy(folder, name, handle, mode)
                self.copies[was.st_ino] = path
        finally:
            os.close(handle)

    def copy(self, folder, name, source, mode):
        target = os.open(COPY, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            was = os.fstat(source)
            copy_data(source, target, was.st_size)
            self.own(target, mode)
            os.utime(target, ns=(was.st_atime_ns, was.st_mtime_ns))
        except BaseException:
            os.unlink(COPY, dir_fd=folder)
            raise
        finally:
            os.close(target)
        os.rename(COPY, name, src_dir_fd=folder, dst_dir_fd=folder)
        self.copied += 1


def is_written(handle):
    """Whether a descriptor or a mapping somewhere can still write to the file. Nobody can open it for that any more."""
    try:
        # Granted only while the file is open for writing nowhere; see fcntl(2), Leases.
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    except OSError:
        # EAGAIN: it is. Anything else: this file system cannot say.
        return True


def copy_data(source, target, size):
    """Holes stay holes: a file may claim to be larger than the disk."""
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        end = os.lseek(source, at, os.SEEK_HOLE)
        os.lseek(target, at, os.SEEK_SET)
        while at < end:
            sent = os.sendfile(target, source, at, min(end - at, 1 << 24))
            if sent == 0:
                break
            at += sent
        at = max(at, end)
    os.ftruncate(target, size)


def names_in(handle):
    """A few at a time: a folder may have more than memory holds."""
    with os.scandir(handle) as entries:
        for entry in entries:
            yield entry.name


def remove(folder, name, was, device, depth=0):
    """What is below a folder goes by descriptors; nothing is followed."""
    if not stat.S_ISDIR(was.st_mode):
        os.unlink(name, dir_fd=folder)
        return
    if was.st_dev != device:
        raise Refused("hostile", name, "is another file system")
    os.chmod(name, 0o700, dir_fd=folder)
    handle = os.open(name, FOLDER, dir_fd=folder)
    try:
        if os.geteuid() == 0:
            os.fchown(handle, 0, 0)
        os.fchmod(handle, 0o700)
        if depth > MAX_REMOVED_DEPTH:
            raise Refused("limit", name, "folders are nested too deep")
        for inner in names_in(handle):
            remove(handle, inner, os.stat(inner, dir_fd=handle, follow_symlinks=False), device, depth + 1)
    finally:
        os.close(handle)
    os.rmdir(name, dir_fd=folder)


def main(folder, builder, group, max_depth, max_path, max_entries, byte_code):
    take = Take(builder, group, int(max_depth), int(max_path), int(max_entries), byte_code)
    handle = os.open(folder, FOLDER)
    try:
        take.top = handle
        take.folder(handle, "", os.fstat(handle).st_dev)
        answer = {"copied": take.copied}
    except Refused as refused:
        answer = refused.answer
    # A name may be no text.
    print(json.dumps(answer))


main(*sys.argv[1:])
