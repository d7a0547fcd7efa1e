# Copies a tree, or links its files, without ever following a link of whoever may change it meanwhile: what is inside a
# folder is named by that folder's descriptor, and looked at again when it is ours. Run as root, or as the files' user.
#
#   take UID FROM TO link|copy [SKIP]       FROM, where UID writes, to TO/tree; again for more. TO/copied lists, each
#                                           ended by NUL, what was copied where links were asked for
#   put UID FROM TO link|copy GROUP         FROM/tree to TO; all of it belongs to UID and GROUP
import ctypes
import errno
import fcntl
import grp
import os
import pwd
import stat
import struct
import sys

MAX_DEPTH = 100
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
FICLONE = 0x40049409
STATX = getattr(ctypes.CDLL(None), "statx", None)
BUFFER = ctypes.create_string_buffer(256)


class Refused(Exception):
    pass


def written_again(folder, name):
    """Whether a file was written to more than a minute after it was made: then it may well be again, in place."""
    # AT_SYMLINK_NOFOLLOW, STATX_BTIME and STATX_MTIME; see statx(2) for where the fields are.
    if STATX is None or STATX(folder, os.fsencode(name), 0x100, 0x840, BUFFER) != 0:
        return True
    if not struct.unpack_from("I", BUFFER)[0] & 0x800:
        return True
    born, written = struct.unpack_from("q", BUFFER, 80)[0], struct.unpack_from("q", BUFFER, 112)[0]
    return written > born + 60


def copy_file(source, folder, name, owner, mode, need_room):
    """The file of the descriptor `source`, with its time; a reflink where the file system knows them, else room is needed."""
    was = os.fstat(source)
    target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | FILE, 0o600, dir_fd=folder)
    try:
        try:
            fcntl.ioctl(target, FICLONE, source)
        except OSError:
            need_room()
            copy_data(source, target, was.st_size)
        os.fchown(target, *owner)
        os.fchmod(target, mode)
        os.utime(target, ns=(was.st_atime_ns, was.st_mtime_ns))
    finally:
        os.close(target)


def copy_data(source, target, end):
    """Holes stay holes: a file of a few bytes may claim to be as large as the disk."""
    at = 0
    while at < end:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        hole = os.lseek(source, at, os.SEEK_HOLE)
        os.lseek(target, at, os.SEEK_SET)
        while at < hole:
            sent = os.sendfile(target, source, at, min(hole - at, 1 << 24))
            if sent == 0:
                # It has become shorter meanwhile.
                break
            at += sent
        at = max(at, hole)
    os.ftruncate(target, end)


class Copy:
    def __init__(self, uid, mode):
        self.uid = uid
        self.links = mode == "link"
        self.left_out = 0

    def walk(self, source, target, path):
        if path.count("/") > MAX_DEPTH:
            raise Refused(f"{path}: deeper than {MAX_DEPTH} folders")
        for name in os.listdir(source):
            inner = f"{path}/{name}" if path else name
            try:
                self.entry(source, target, name, inner)
            except FileNotFoundError:
                # It was removed, or replaced, while we looked.
                if os.access(name, os.F_OK, dir_fd=source, follow_symlinks=False):
                    raise

    def entry(self, source, target, name, path):
        if self.skips(path):
            return
        was = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(was.st_mode):
            self.folder(source, target, name, path)
        elif stat.S_ISREG(was.st_mode):
            self.file(source, target, name, path)
        elif stat.S_ISLNK(was.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, *self.owner(was), dir_fd=target, follow_symlinks=False)
        else:
            self.left_out += 1

    def folder(self, source, target, name, path):
        inner = os.open(name, FOLDER, dir_fd=source)
        try:
            was = os.fstat(inner)
            self.check(was, path)
            new = True
            try:
                os.mkdir(name, 0o700, dir_fd=target)
            except FileExistsError:
                new = False
            made = os.open(name, FOLDER, dir_fd=target)
            try:
                self.walk(inner, made, path)
                if new:
                    self.finish(made, was)
            finally:
                os.close(made)
        finally:
            os.close(inner)

    def link(self, source, target, name):
        try:
            os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            return True
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                return False
            raise

    def skips(self, _path):
        return False

    def check(self, was, path):
        pass


class Take(Copy):
    """To a dump: folders are root's, so that it can be read by root later; files and their modes stay as they are."""

    def __init__(self, uid, mode, target, skip):
        super().__init__(uid, mode)
        self.skipped = skip
        disk = os.statvfs(target)
        self.disk = disk.f_blocks * disk.f_frsize
        self.copied = open(f"{target}/copied", "ab")

    def skips(self, path):
        return os.fsencode(path) in self.skipped

    def owner(self, was):
        return was.st_uid, was.st_gid

    def finish(self, made, was):
        os.fchmod(made, was.st_mode & 0o7777)
        os.utime(made, ns=(was.st_atime_ns, was.st_mtime_ns))

    def check(self, was, path):
        if not stat.S_ISREG(was.st_mode) and not stat.S_ISDIR(was.st_mode):
            raise Refused(f"{path}: was replaced while it was being copied")
        # Checksums and archives read the holes, too.
        if stat.S_ISREG(was.st_mode) and was.st_size > self.disk:
            raise Refused(f"{path}: claims to be {size(was.st_size)}, more than the disk holds")
        # What the site could not read itself, it must not get out of a dump either.
        needed = stat.S_IROTH | stat.S_IXOTH if stat.S_ISDIR(was.st_mode) else stat.S_IROTH
        if was.st_uid != self.uid and was.st_mode & needed != needed:
            raise Refused(f"{path}: belongs to another user, and the site may not read it")

    def file(self, source, target, name, path):
        if self.links and self.link(source, target, name):
            try:
                self.check(os.stat(name, dir_fd=target, follow_symlinks=False), path)
            except Refused:
                os.unlink(name, dir_fd=target)
                raise
            if not written_again(target, name):
                return
            opened = os.open(name, os.O_RDONLY | FILE, dir_fd=target)
            os.unlink(name, dir_fd=target)
        else:
            opened = os.open(name, os.O_RDONLY | FILE, dir_fd=source)
        try:
            was = os.fstat(opened)
            self.check(was, path)
            copy_file(opened, target, name, self.owner(was), was.st_mode & 0o777, lambda: None)
        finally:
            os.close(opened)
        if self.links:
            self.copied.write(os.fsencode(path) + b"\0")


class Put(Copy):
    """From a dump to the site: all of it is the site's. What is another's, or is written in place, is not linked."""

    def __init__(self, uid, mode, group, copied, source, target):
        super().__init__(uid, mode)
        self.places = source, target
        self.gid = grp.getgrnam(group).gr_gid if group else -1
        # What is made in a folder of another group is of that group, too.
        self.bits = stat.S_ISGID if group and self.gid != pwd.getpwuid(uid).pw_gid else 0
        self.copied = copied

    def owner(self, _was):
        return self.uid, self.gid

    def finish(self, made, was):
        os.fchown(made, *self.owner(was))
        os.fchmod(made, was.st_mode & 0o7777 | self.bits)
        os.utime(made, ns=(was.st_atime_ns, was.st_mtime_ns))

    def file(self, source, target, name, path):
        was = os.stat(name, dir_fd=source, follow_symlinks=False)
        if self.is_own(was, path) and self.link(source, target, name):
            return
        opened = os.open(name, os.O_RDONLY | FILE, dir_fd=source)
        try:
            copy_file(opened, target, name, self.owner(was), os.fstat(opened).st_mode & 0o777, self.need_room)
        finally:
            os.close(opened)

    def is_own(self, was, path):
        return self.links and was.st_uid == self.uid and os.fsencode(path) not in self.copied

    def need_room(self):
        """Before the first that is copied: whether the disk has room for all of them."""
        if self.places is None:
            return
        (source, target), self.places = self.places, None
        needed = 0
        for folder, _, names in os.walk(source):
            for name in names:
                path = os.path.join(folder, name)
                was = os.lstat(path)
                if stat.S_ISREG(was.st_mode) and not self.is_own(was, os.path.relpath(path, source)):
                    needed += was.st_size
        disk = os.statvfs(target)
        free = disk.f_bavail * disk.f_frsize
        if needed > free:
            raise Refused(
                f"no room: {size(needed)} are needed on the disk of {target}, {size(free)} are free"
                "\nhint: make room on the node, then try again"
            )


def size(count):
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024:
            break
        count, unit = count / 1024, "TB"
    return f"{count:.0f}{unit}" if count >= 10 or unit == "B" else f"{count:.1f}{unit}"


def names_in(path):
    """The lines of a list, each ended by NUL."""
    try:
        with open(path, "rb") as file:
            return set(file.read().split(b"\0"))
    except FileNotFoundError:
        return set()


def take(uid, source, target, mode, skip=None):
    new = not os.path.exists(target)
    os.makedirs(f"{target}/tree", 0o700, exist_ok=True)
    copy = Take(uid, mode, target, names_in(skip) if skip else set())
    run(copy, source, f"{target}/tree", new)
    copy.copied.close()


def put(uid, source, target, mode, group):
    os.mkdir(target, 0o700)
    tree = f"{source}/tree"
    run(Put(uid, mode, group, names_in(f"{source}/copied"), tree, target), tree, target, True)


def run(copy, source, target, new):
    from_folder, to_folder = os.open(source, FOLDER), os.open(target, FOLDER)
    copy.walk(from_folder, to_folder, "")
    if copy.left_out:
        print(f"{copy.left_out} sockets, pipes or devices in {source} are left out")
    # Last: from now on whoever a tree belongs to can look into it.
    if new:
        copy.finish(to_folder, os.fstat(from_folder))


uid, command, *words = sys.argv[1:]
try:
    {"take": take, "put": put}[command](int(uid), *words)
except (Refused, OSError) as error:
    what = error if isinstance(error, Refused) else f"{error.filename or words[1]}: {error.strerror}"
    print(f"error: {what}", file=sys.stderr)
    sys.exit(1)
