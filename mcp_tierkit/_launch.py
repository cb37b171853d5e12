"""Start one command, confined where asked, and end together with everything it started.

The server compiles it once and hands it over as bytecode, with the order, so that a start costs no compilation. It
stands alone on the standard library and gets two descriptors, LIFE and STATUS: a pipe whose writer is the server (`t`
asks for a gentle end, end of file means that the server is gone), and a pipe for one marshalled answer.
"""

from __future__ import annotations

import ctypes
import errno
import marshal
import os
import select
import signal
import stat
import sys
import time
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # Importing these would cost more than all the rest.
    from collections.abc import Callable
    from typing import Any, NoReturn

GRACE_S = 2.0
FILE_BYTES = 5_000_000
ALL_BYTES = 50_000_000
ALL_ENTRIES = 50_000

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4
AT_FDCWD, AT_RECURSIVE, OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = -100, 0x8000, 1, 4
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
STAGE = "/dev"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def prctl(option: int, value: int, pointer: Any = 0) -> None:
    third = pointer if pointer else ctypes.c_ulong(0)
    check(libc.prctl(option, ctypes.c_ulong(value), third, ctypes.c_ulong(0), ctypes.c_ulong(0)), f"prctl {option}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    fields = [os.fsencode(f) if f is not None else None for f in (source, target, kind)]
    check(libc.mount(*fields, ctypes.c_ulong(flags), os.fsencode(options)), f"mount on {target}")


def clone_tree(path: str) -> int:
    flags = ctypes.c_uint(OPEN_TREE_CLONE | AT_RECURSIVE | os.O_CLOEXEC)
    return check(libc.syscall(SYS_OPEN_TREE, AT_FDCWD, os.fsencode(path), flags), f"open_tree {path}")


def attach(tree: int, path: str) -> None:
    flags = ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH)
    check(libc.syscall(SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, os.fsencode(path), flags), f"move_mount {path}")
    os.close(tree)


def restrict(path: str, attributes: int) -> None:
    wanted = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    arguments = (ctypes.c_uint(AT_RECURSIVE), wanted, ctypes.c_size_t(32))
    check(libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, os.fsencode(path), *arguments), f"mount_setattr {path}")


def write_once(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def own_ids(kind: str) -> str:
    """Every id this process knows, mapped to itself."""
    with open(f"/proc/self/{kind}_map") as lines:
        extents = [line.split() for line in lines]
    return "".join(f"{inside} {inside} {count}\n" for inside, _, count in extents)


def map_from_outside(pid: int, ready: int) -> NoReturn:
    """Only a process that stayed outside may map more than its own id."""
    try:
        os.read(ready, 1)
        for kind in ("uid", "gid"):
            write_once(f"/proc/{pid}/{kind}_map", own_ids(kind))
        os._exit(0)
    except OSError:
        os._exit(1)


def unshare_users(flags: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    mapper, ready, go = 0, -1, -1
    if uid == 0:
        ready, go = os.pipe()
        parent = os.getpid()
        mapper = os.fork()
        if mapper == 0:
            os.close(go)
            map_from_outside(parent, ready)
        os.close(ready)
    check(libc.unshare(ctypes.c_int(flags)), "unshare")
    if mapper:
        os.close(go)
        if os.waitpid(mapper, 0)[1] == 0:
            return
    write_once("/proc/self/setgroups", "deny")
    write_once("/proc/self/uid_map", f"{uid} {uid} 1")
    write_once("/proc/self/gid_map", f"{gid} {gid} 1")


def raise_loopback() -> None:
    import fcntl
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = b"lo".ljust(16, b"\0") + (1).to_bytes(2, sys.byteorder)
        fcntl.ioctl(any_socket, 0x8914, request.ljust(40, b"\0"))  # SIOCSIFFLAGS, IFF_UP


def build_view(box: dict[str, Any]) -> tuple[int, int]:
    """The confined file tree, in place; answers the layer's upper folder and the real project, -1 for none.

    Everything that masks will cover is opened before they are laid. Nothing is unmounted: in a namespace of less
    privilege the kernel holds what is underneath.
    """
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    project = os.open(box["project"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    devices = [(name, clone_tree(f"/dev/{name}")) for name in DEVICES if os.path.exists(f"/dev/{name}")]
    shown = [(path, writes, os.path.isdir(path), clone_tree(path)) for path, writes in box["shows"]]
    restrict("/", ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)
    mount("tmpfs", STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=50%")
    build_devices(devices)
    for index, path in enumerate(box["masks"]):
        mask_folder(path, f"{STAGE}/mask{index}")
    for path in box["folders"]:
        make_folders(path)
    for link, target in box["links"]:
        make_link(link, target)
    upper = -1
    for path, writes, is_folder, tree in sorted([*shown, (box["project"], False, True, -1)], key=by_depth):
        make_place(path, is_folder)
        if tree < 0:
            upper = show_project(box, project)
            continue
        attach(tree, path)
        restrict(path, ATTR_NOSUID | ATTR_NODEV | (0 if writes else ATTR_RDONLY))
    for path in box["hidden"]:
        hide(path)
    replace_proc(box["processes"])
    mount(f"{STAGE}/dev", STAGE, None, MS_BIND | MS_REC)
    return upper, project


def by_depth(shown: tuple[str, bool, bool, int]) -> tuple[int, str]:
    return shown[0].count("/"), shown[0]


def build_devices(devices: list[tuple[str, int]]) -> None:
    for folder in ("dev", "dev/pts", "dev/shm", "empty", "upper", "work"):
        os.mkdir(f"{STAGE}/{folder}")
    os.chmod(f"{STAGE}/dev/shm", 0o1777)
    os.chmod(f"{STAGE}/empty", 0o555)
    os.close(os.open(f"{STAGE}/nothing", os.O_CREAT | os.O_WRONLY, 0o444))
    for name, tree in devices:
        make_place(f"{STAGE}/dev/{name}", False)
        attach(tree, f"{STAGE}/dev/{name}")
    mount("devpts", f"{STAGE}/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    links = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
    for name, target in links.items():
        os.symlink(target, f"{STAGE}/dev/{name}")


def mask_folder(path: str, private: str) -> None:
    """An empty private folder in its place, writable and gone with the run."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError:
        return
    os.mkdir(private)
    os.chmod(private, mode)
    mount(private, path, None, MS_BIND)


def make_folders(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as problem:
        if not os.path.isdir(path):
            raise OSError(problem.errno, f"no place for {path}: {problem.strerror}") from None


def make_place(path: str, is_folder: bool) -> None:
    if is_folder:
        return make_folders(path)
    if not os.path.lexists(path):
        make_folders(os.path.dirname(path))
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    return None


def make_link(link: str, target: str) -> None:
    if not os.path.lexists(link):
        make_folders(os.path.dirname(link))
        os.symlink(target, link)


def hide(path: str) -> None:
    path = os.path.realpath(path)
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return
    with suppress(FileNotFoundError):  # Sockets come and go while we look.
        mount(f"{STAGE}/{'empty' if is_folder else 'nothing'}", path, None, MS_BIND)
        restrict(path, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)


def replace_proc(processes: int | None) -> None:
    """A `/proc` of our own processes; read-only, since root's own files under /proc/sys steer the host."""
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    # With no user namespaces to be had, dropped capabilities stay dropped.
    write_once("/proc/sys/user/max_user_namespaces", "0")
    if processes is not None:
        with suppress(OSError):  # RLIMIT_NPROC does not bind root; a namespace's pid_max does, from Linux 6.14.
            write_once("/proc/sys/kernel/pid_max", str(max(301, processes)))
    restrict("/proc", ATTR_RDONLY)


def show_project(box: dict[str, Any], project: int) -> int:
    path, changes = box["project"], box["changes"]
    if box["writable"] or (changes and box["overlay"]):
        fill_upper(changes, project)
        try:
            layers = f"lowerdir=/proc/self/fd/{project},upperdir={STAGE}/upper,workdir={STAGE}/work,userxattr"
            mount("overlay", path, "overlay", MS_NOSUID | MS_NODEV, layers)
        except OSError:
            if box["writable"]:
                raise
        else:
            if not box["writable"]:
                restrict(path, ATTR_RDONLY)
            return os.open(f"{STAGE}/upper", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    attach(clone_tree(f"/proc/self/fd/{project}"), path)
    restrict(path, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)
    if changes:
        bind_changes(path, changes)
    return -1


def fill_upper(changes: list[tuple[str, bytes | None, int | None]], project: int) -> None:
    """Changes are put in before mounting: the lower folder is only asked for modes."""
    os.chmod(f"{STAGE}/upper", stat.S_IMODE(os.stat(project).st_mode))
    for path, content, mode in changes:
        parts = path.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise OSError(errno.EINVAL, f"not a project-relative path: {path}")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if not os.path.lexists(f"{STAGE}/upper/{parent}"):
                os.mkdir(f"{STAGE}/upper/{parent}")
                os.chmod(f"{STAGE}/upper/{parent}", lower_mode(project, parent, stat.S_ISDIR) or 0o755)
        target = f"{STAGE}/upper/{path}"
        if content is not None:
            write_new(target, content, mode or lower_mode(project, path, stat.S_ISREG) or 0o644)
        elif lower_mode(project, path) is not None:
            os.mknod(target, stat.S_IFCHR, 0)


def lower_mode(project: int, path: str, kind: Callable[[int], bool] | None = None) -> int | None:
    try:
        mode = os.stat(path, dir_fd=project, follow_symlinks=False).st_mode
    except OSError:
        return None
    return stat.S_IMODE(mode) if kind is None or kind(mode) else None


def write_new(path: str, content: bytes, mode: int) -> None:
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as out:
        out.write(content)
        os.fchmod(fd, mode)


def bind_changes(root: str, changes: list[tuple[str, bytes | None, int | None]]) -> None:
    """Without a layer: a folder that gains or loses a name becomes a private one that holds the rest of its names."""
    plain = {path for path, _, _ in changes if stat.S_ISREG(mode_or_zero(f"{root}/{path}"))}
    gone: dict[str, set[str]] = {}
    for path, content, _ in changes:
        if content is None or path not in plain:
            folder, name = nearest_folder(root, path)
            gone.setdefault(folder, set()).add(name)
    for folder in sorted(gone, key=lambda folder: folder.count("/")):
        rebuild_folder(folder, gone[folder])
    for number, (path, content, mode) in enumerate(changes):
        target, copy = f"{root}/{path}", f"{STAGE}/file{number}"
        if content is not None and path in plain:
            write_new(copy, content, mode or stat.S_IMODE(mode_or_zero(target)))
            mount(copy, target, None, MS_BIND)
        elif content is not None:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            write_new(target, content, mode or 0o644)
    restrict(root, ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV)


def mode_or_zero(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return 0


def nearest_folder(root: str, path: str) -> tuple[str, str]:
    """The deepest real folder on the way to a path, and the name in it that the path needs."""
    parts = path.split("/")
    depth = 0
    while depth < len(parts) - 1 and stat.S_ISDIR(mode_or_zero("/".join([root, *parts[: depth + 1]]))):
        depth += 1
    return "/".join([root, *parts[:depth]]), parts[depth]


def rebuild_folder(folder: str, without: set[str]) -> None:
    private = f"{STAGE}/folder{len(os.listdir(STAGE))}"
    os.mkdir(private)
    os.chmod(private, stat.S_IMODE(os.stat(folder).st_mode))
    for entry in os.scandir(folder):
        if entry.name in without:
            continue
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), f"{private}/{entry.name}")
            continue
        make_place(f"{private}/{entry.name}", entry.is_dir())
        attach(clone_tree(entry.path), f"{private}/{entry.name}")
    mount(private, folder, None, MS_BIND | MS_REC)


class Collector:
    """Reads a layer once its processes are gone: files beneath it, never through a link."""

    def __init__(self, upper: int, lower: int, given: list[tuple[str, bytes | None, int | None]]) -> None:
        self.upper, self.lower = upper, lower
        self.given = {path: (content, mode) for path, content, mode in given}
        self.changes: list[tuple[str, bytes | None, int | None]] = []
        self.refused: list[str] = []
        self.bytes_left, self.entries_left = ALL_BYTES, ALL_ENTRIES

    def collect(self) -> None:
        self.walk()
        seen = {path for path, _, _ in self.changes}
        for path, (content, _) in self.given.items():
            # A given file that the host lacks vanishes from the upper folder without a trace.
            if content is not None and path not in seen and lower_mode(self.upper, path) is None:
                self.changes.append((path, None, None))

    def walk(self, folder: str = "", *, is_new: bool = False) -> None:
        fd = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.upper)
        try:
            names = sorted(os.listdir(fd))
            # Below a folder that was removed and made again the layer marks nothing: all in it is new.
            is_new = is_new or (folder != "" and is_opaque(fd))
            if is_new:
                self.drop_missing(folder, set(names))
            for name in names:
                self.entry(fd, name, f"{folder}/{name}" if folder else name, is_new=is_new)
        finally:
            os.close(fd)

    def entry(self, parent: int, name: str, path: str, *, is_new: bool) -> None:
        self.entries_left -= 1
        if self.entries_left < 0:
            if self.entries_left == -1:
                self.refused.append(f"{path}: one of more than {ALL_ENTRIES} changed files")
            return
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            if not self.is_lower(path, stat.S_ISDIR):
                self.drop(path)
            self.walk(path, is_new=is_new)
        elif stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            self.drop(path)
        elif stat.S_ISREG(found.st_mode):
            if self.is_lower(path, stat.S_ISDIR):
                self.drop(path)
            self.file(parent, name, path, found)
        elif not self.is_same_link(parent, name, path, found):
            kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "not a regular file"
            self.refused.append(f"{path}: {kind}")

    def file(self, parent: int, name: str, path: str, found: os.stat_result) -> None:
        if found.st_size > FILE_BYTES or found.st_size > self.bytes_left:
            limit = FILE_BYTES if found.st_size > FILE_BYTES else ALL_BYTES
            self.refused.append(f"{path}: larger than the limit of {limit} bytes")
            return
        content, mode = read_beneath(parent, name, FILE_BYTES), found.st_mode & 0o777
        before, mode_before = self.before(path)
        if content == before and mode == mode_before:
            return
        self.bytes_left -= len(content)
        self.changes.append((path, content, None if mode == mode_before else mode))

    def before(self, path: str) -> tuple[bytes | None, int | None]:
        """Content and mode that the command found there; None for nothing, or nothing comparable."""
        lower = lower_mode(self.lower, path, stat.S_ISREG)
        if path in self.given:
            content, mode = self.given[path]
            return content, (mode or lower or 0o644) & 0o777 if content is not None else None
        if lower is None:
            return None, None
        size = os.stat(path, dir_fd=self.lower, follow_symlinks=False).st_size
        return (read_beneath(self.lower, path, FILE_BYTES) if size <= FILE_BYTES else None), lower & 0o777

    def drop(self, path: str) -> None:
        """A name that is no longer there: one file, or every file of a folder."""
        if self.is_lower(path, stat.S_ISDIR):
            self.drop_missing(path, set())
        elif path in self.given and self.given[path][0] is None:
            return
        elif lower_mode(self.lower, path) is not None or path in self.given:
            self.changes.append((path, None, None))

    def drop_missing(self, folder: str, still: set[str]) -> None:
        if not self.is_lower(folder, stat.S_ISDIR):
            return
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.lower)
        try:
            names = sorted(set(os.listdir(fd)) - still)
        finally:
            os.close(fd)
        for name in names:
            self.entries_left -= 1
            if self.entries_left > 0:
                self.drop(f"{folder}/{name}")

    def is_lower(self, path: str, kind: Callable[[int], bool]) -> bool:
        return lower_mode(self.lower, path, kind) is not None

    def is_same_link(self, parent: int, name: str, path: str, found: os.stat_result) -> bool:
        if not (stat.S_ISLNK(found.st_mode) and self.is_lower(path, stat.S_ISLNK)):
            return False
        return os.readlink(name, dir_fd=parent) == os.readlink(path, dir_fd=self.lower)


def is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, "user.overlay.opaque") == b"y"
    except OSError:
        return False


def read_beneath(parent: int, name: str, limit: int) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    with open(fd, "rb") as source:
        return source.read(limit + 1)


def give_up_privileges() -> None:
    for capability in range(64):
        if libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), *[ctypes.c_ulong(0)] * 3) < 0:
            break
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    check(libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")
    filter_calls()


def filter_calls() -> None:
    """No sockets but local, internet and netlink ones, no keyrings: those are not held by a namespace.

    io_uring would make sockets unseen, and a foreign calling convention would go around the numbers.
    """
    machines = {"x86_64": (0xC000003E, 41, (248, 249, 250)), "aarch64": (0xC00000B7, 198, (217, 218, 219))}
    machine = os.uname().machine
    if machine not in machines or sys.maxsize < 2**32:
        return
    arch, socket_call, keys = machines[machine]
    missing, foreign, allowed = 0x50000 | errno.ENOSYS, 0x50000 | errno.EAFNOSUPPORT, 0x7FFF0000
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    steps = [(load, 0, 0, 4), (equal, 1, 0, arch), (answer, 0, 0, missing), (load, 0, 0, 0)]
    steps += [(at_least, 0, 1, 0x40000000), (answer, 0, 0, missing)]
    for call in (*keys, 425):
        steps += [(equal, 0, 1, call), (answer, 0, 0, missing)]
    steps += [(equal, 1, 0, socket_call), (answer, 0, 0, allowed), (load, 0, 0, 16)]
    for family in (1, 2, 10, 16):
        steps += [(equal, 0, 1, family), (answer, 0, 0, allowed)]
    steps += [(answer, 0, 0, foreign)]
    code = b"".join(
        op.to_bytes(2, sys.byteorder) + bytes((yes, no)) + value.to_bytes(4, sys.byteorder)
        for op, yes, no, value in steps
    )

    class Program(ctypes.Structure):
        _fields_ = [("count", ctypes.c_ushort), ("steps", ctypes.c_char_p)]

    prctl(PR_SET_SECCOMP, 2, ctypes.byref(Program(len(steps), code)))


def limit_resources(limits: dict[str, int]) -> None:
    import resource

    for name, value in {"RLIMIT_CORE": 0, **limits}.items():
        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (bound, bound))


def become_command(order: dict[str, Any], failed: int) -> NoReturn:
    """In the child: never returns. What keeps the command from starting goes through the pipe."""
    try:
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.umask(0o022)
        os.chdir(order["cwd"])
        limit_resources(order["limits"])
        if order["box"]:
            give_up_privileges()
        os.execvpe(order["argv"][0], order["argv"], order["env"])
    except BaseException as problem:
        kind = "not_found" if isinstance(problem, (FileNotFoundError, NotADirectoryError, PermissionError)) else "other"
        os.write(failed, f"{kind}:{problem}".encode(errors="replace"))
    os._exit(127)


def start(order: dict[str, Any], life: int) -> tuple[int, str]:
    """The command's process, and what kept it from starting: empty if nothing did, or if the server wants an end."""
    said, failed = os.pipe()
    pid = os.fork()
    if pid == 0:
        become_command(order, failed)
    os.close(failed)
    with open(said, "rb") as words:
        # A start can take long, on a slow disk or a crowded machine: whoever waits for it alone hears of no end.
        if words.fileno() not in select.select([words.fileno(), life], [], [])[0]:
            return pid, ""
        return pid, words.read().decode(errors="replace")


def everyone_inside(number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(-1, number)


def every_descendant(number: int) -> None:
    """Orphans too: this process is their subreaper, so they hang below it whatever session they made."""
    for pid in descendants():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as status:
                    parent = int(status.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            children.setdefault(parent, []).append(int(name))
    found = children.get(os.getpid(), [])
    for pid in found:
        found.extend(children.get(pid, []))
    return found


class Watch:
    """Waits for the command, its end and the server's word; leaves nobody alive."""

    def __init__(self, life: int, signal_all: Callable[[int], None]) -> None:
        self.life, self.signal_all = life, signal_all
        self.woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        self.status: int | None = None
        self.deadline: float | None = None

    def until_done(self, pid: int) -> int | None:
        poller = select.poll()
        poller.register(self.life, select.POLLIN)
        poller.register(self.woken, select.POLLIN)
        while self.has_children(pid):
            left = None if self.deadline is None else (self.deadline - time.monotonic()) * 1000
            if (self.status is not None and left is None) or (left is not None and left <= 0):
                break
            ready = [fd for fd, _ in poller.poll(left)]
            if (self.woken in ready and self.was_told_to_die()) or (self.life in ready and self.server_is_gone()):
                break
        self.sweep(pid)
        return self.status

    def was_told_to_die(self) -> bool:
        return signal.SIGTERM in os.read(self.woken, 4096)

    def server_is_gone(self) -> bool:
        if os.read(self.life, 1) != b"t":
            return True
        if self.deadline is None:
            self.deadline = time.monotonic() + GRACE_S
            self.signal_all(signal.SIGTERM)
        return False

    def has_children(self, pid: int) -> bool:
        while True:
            try:
                gone, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if gone == 0:
                return True
            if gone == pid:
                self.status = status

    def sweep(self, pid: int) -> None:
        give_up_at = time.monotonic() + GRACE_S
        while self.has_children(pid) and time.monotonic() < give_up_at:
            self.signal_all(signal.SIGKILL)
            select.select([self.woken], [], [], 0.02)


def watch_over(order: dict[str, Any], life: int, signal_all: Callable[[int], None]) -> dict[str, Any]:
    watch = Watch(life, signal_all)
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    pid, problem = start(order, life)
    let_go_of_streams(nothing)
    if problem:
        kind, _, why = problem.partition(":")
        return {"failed": kind, "why": why}
    status = watch.until_done(pid)
    return {"code": None if status is None else os.waitstatus_to_exitcode(status)}


def let_go_of_streams(nothing: int) -> None:
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)


def say(status: int, answer: dict[str, Any]) -> None:
    with open(status, "wb") as out:
        out.write(marshal.dumps(answer))


def run_free(order: dict[str, Any], life: int, status: int) -> None:
    signal_all = every_descendant
    if sys.platform == "linux":
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    say(status, watch_over(order, life, signal_all))


def run_boxed(order: dict[str, Any], life: int, status: int) -> None:
    network = order["box"]["network"]
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)  # Now: the child is about to rebuild /dev under our feet.
    flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS
    try:
        unshare_users(flags | (0 if network == "full" else CLONE_NEWNET))
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # After the new user namespace, which clears it.
        pid = os.fork()
    except OSError as problem:
        return say(status, {"failed": "sandbox", "why": str(problem)})
    if pid == 0:
        try:
            run_inside(order, life, status)
        finally:
            os._exit(0)
    os.close(status)
    let_go_of_streams(nothing)
    os.waitpid(pid, 0)
    return None


def run_inside(order: dict[str, Any], life: int, status: int) -> None:
    """As the first process of its namespace: when it ends, the kernel ends all others."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    box = order["box"]
    try:
        prctl(PR_SET_DUMPABLE, 0)
        if box["network"] == "loopback":
            raise_loopback()
        upper, lower = build_view(box)
    except OSError as problem:
        return say(status, {"failed": "sandbox", "why": str(problem)})
    answer = watch_over(order, life, everyone_inside)
    if box["collect"] and upper >= 0 and "code" in answer:
        collector = Collector(upper, lower, box["changes"])
        collector.collect()
        answer |= {"changes": collector.changes, "refused": collector.refused}
    return say(status, answer)


def main(order: dict[str, Any]) -> None:
    life, status = (int(number) for number in sys.argv[1:3])
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for fd in (life, status):
        os.set_inheritable(fd, False)
    (run_boxed if order["box"] else run_free)(order, life, status)
    os._exit(0)  # Taking the interpreter down in order costs milliseconds and frees nothing that stays.
