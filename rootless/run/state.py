"""What is on disk about an OCI container, and whether it is true.

Shape:    <root>/<id>/            0700, made by mkdir(2): the claim of the id
              state.json          one ContainerState, replaced by rename
              config.json         the configuration as it was at create: exec and hooks read this one
              lock                flock(2): held by create until the container waits, and by delete
              start.sock          the container listens here until it is started
              notify/             its sd_notify socket, where the caller has one (run/notify.py)
The file is never believed about life: a pid counts only while a pidfd of it can be had, it started
when the file says and the machine has not been booted since; "created" counts only while start.sock
answers; "creating" only while somebody holds the lock.

Source: runtime-spec runtime.md#state; pidfd_open(2), proc(5) /proc/PID/stat field 22
"""

from __future__ import annotations

import errno
import fcntl
import posix
import time

from rootless.errors import Corrupt, KernelError, NotFound, RootlessError, UsageError
from rootless.kernel.fds import Fd, open_fd, read_file, write_all
from rootless.kernel.process import pidfd_open
from rootless.spec import state as life
from rootless.spec.jsontext import dumps, loads
from rootless.spec.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

FORMAT = 1
START_SOCKET = "start.sock"
NOTIFY_DIRECTORY = "notify"
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


@record
class CgroupRef:
    """Where the container's cgroup is: the driver ("none", "v2", "systemd"), the directory, the unit."""

    driver: str = "none"
    path: str = ""
    unit: str = ""


@record
class ContainerState:
    """One container as its state file has it. pid 0: no process yet, or none any more.

    Shape: *start_time* in clock ticks since boot (proc(5)); *created* RFC 3339 in UTC
    """

    id: str
    bundle: str
    rootfs: str = ""
    status: str = life.CREATING
    pid: int = 0
    start_time: int = 0
    boot_id: str = ""
    created: str = ""
    owner: int = 0
    annotations: tuple[tuple[str, str], ...] = ()
    cgroup: CgroupRef = CgroupRef()

    def document(self, status: str | None = None) -> life.StateDocument:
        """Return the State document of the runtime-spec; a stopped container has no pid."""
        now = status or self.status
        pid = 0 if now == life.STOPPED else self.pid
        return life.StateDocument(self.id, now, pid, self.bundle, self.annotations)


def check_id(container: str) -> str:
    """Return *container* if it can be a directory's name.

    Raises: UsageError
    """
    if not container:
        raise UsageError("container id cannot be empty", code=1)
    if container in (".", "..") or len(container) > 1024 or not _ID_CHARACTERS.issuperset(container):
        wrong = "".join(sorted(set(container) - _ID_CHARACTERS)) or container
        raise UsageError(f"invalid container ID format: invalid character in container ID: {wrong[:16]!r}", code=1)
    return container


def directory(root: str, container: str) -> str:
    """Return the state directory of *container*. Raises: UsageError"""
    return f"{root}/{check_id(container)}"


def claim(root: str, container: str) -> Fd:
    """Make the state directory and return its lock, held.

    Raises:  UsageError - the id is taken; KernelError(mkdir)
    Owner:   the caller closes the lock (which frees it) when the state is CREATED, or calls `remove`
    """
    path = directory(root, container)
    _make_root(root)
    found = False
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        found = True
    except OSError as error:
        raise KernelError("mkdir", error.errno or 0, path) from None
    lock = open_fd(f"{path}/lock", posix.O_RDWR | posix.O_CREAT, 0o600)
    try:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A free lock and no state: the create that made the directory died before it got anywhere.
        taken = found and _exists(f"{path}/state.json")
    except BlockingIOError:
        taken = True
    if taken:
        lock.close()
        raise UsageError(f"container with given ID already exists: {container}", code=1)
    return lock


def _make_root(root: str) -> None:
    missing = []
    path = root.rstrip("/") or "/"
    while path and not _exists(path):
        missing.append(path)
        path = path.rpartition("/")[0]
    for one in reversed(missing):
        try:
            posix.mkdir(one, 0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise KernelError("mkdir", error.errno or 0, one) from None


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def hold(root: str, container: str) -> Fd:
    """Take the lock of an existing container: verbs that change it come one by one. Blocks: for the holder

    Raises: NotFound
    """
    path = directory(root, container)
    try:
        lock = open_fd(f"{path}/lock", posix.O_RDWR | posix.O_CREAT, 0o600)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NotFound("container", container) from None
        raise
    fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
    return lock


def save(root: str, state: ContainerState) -> None:
    """Write the state file in one step. Raises: KernelError(open, rename)"""
    path = f"{directory(root, state.id)}/state.json"
    temporary = f"{path}.{posix.getpid()}"
    value: dict[str, Any] = {
        "format": FORMAT, "id": state.id, "status": state.status, "pid": state.pid, "startTime": state.start_time,
        "bootId": state.boot_id, "bundle": state.bundle, "rootfs": state.rootfs, "created": state.created,
        "owner": state.owner, "annotations": dict(state.annotations),
        "cgroup": {"driver": state.cgroup.driver, "path": state.cgroup.path, "unit": state.cgroup.unit},
    }  # fmt: skip
    with open_fd(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_NOFOLLOW, 0o600) as out:
        write_all(out, dumps(value).encode())
    try:
        posix.rename(temporary, path)
    except OSError as error:
        raise KernelError("rename", error.errno or 0, path) from None


def load(root: str, container: str) -> ContainerState:
    """Read the state file.

    Raises: NotFound, Corrupt
    """
    path = f"{directory(root, container)}/state.json"
    try:
        text = read_file(path, limit_bytes=1 << 22)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise NotFound("container", container) from None
        raise
    try:
        value = loads(text)
        if value["format"] != FORMAT:
            raise Corrupt(path, f"has format {value['format']}, this version writes {FORMAT}")
        group = value["cgroup"]
        return ContainerState(
            id=value["id"], status=value["status"], pid=value["pid"], start_time=value["startTime"],
            boot_id=value["bootId"], bundle=value["bundle"], rootfs=value["rootfs"], created=value["created"],
            owner=value["owner"], annotations=tuple([(k, v) for k, v in value["annotations"].items()]),
            cgroup=CgroupRef(group["driver"], group["path"], group["unit"]),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Corrupt(path, f"is not a state file: {error}") from None


def container_ids(root: str) -> list[str]:
    """Return the ids below *root* in order. Raises: KernelError(open)"""
    try:
        names = posix.listdir(root)
    except OSError as error:
        raise KernelError("open", error.errno or 0, root) from None
    return sorted([name for name in names if _exists(f"{root}/{name}/state.json")])


def every(root: str) -> Iterator[ContainerState]:
    """Yield the state of each container below *root*; one that vanishes meanwhile is left out."""
    for name in container_ids(root):
        try:
            yield load(root, name)
        except NotFound:
            continue


def remove(root: str, container: str) -> None:
    """Delete the state directory. Raises: KernelError(unlink)"""
    path = directory(root, container)
    try:
        for name in posix.listdir(path):
            if name != NOTIFY_DIRECTORY:
                posix.unlink(f"{path}/{name}")
                continue
            for inner in posix.listdir(f"{path}/{name}"):
                posix.unlink(f"{path}/{name}/{inner}")
            posix.rmdir(f"{path}/{name}")
        posix.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise KernelError("unlink", error.errno or 0, path) from None


def boot_id() -> str:
    """Return the id of this boot of the machine."""
    return read_file("/proc/sys/kernel/random/boot_id", limit_bytes=64).decode("ascii", "replace").strip()


def now_text() -> str:
    """Return the time as RFC 3339 in UTC with nanoseconds."""
    ns = time.time_ns()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(ns // 10**9))}.{ns % 10**9:09d}Z"


def process_status(pid: int) -> tuple[str, int] | None:
    """Return the state letter and the start time of *pid*, None if there is no such process."""
    try:
        text = read_file(f"/proc/{pid}/stat", limit_bytes=4096)
    except (RootlessError, OSError):
        return None
    fields = text.rpartition(b") ")[2].split()
    return (fields[0].decode(), int(fields[19])) if len(fields) > 19 else None


def with_process(state: ContainerState, pid: int) -> ContainerState:
    """Return *state* for the process *pid*, with what identifies it later."""
    found = process_status(pid)
    return replace(state, pid=pid, start_time=found[1] if found else 0, boot_id=boot_id())


def open_process(state: ContainerState) -> Fd | None:
    """Return a pidfd of the container's first process, None if it has ended.

    A zombie has ended: nobody but its parent can tell the difference.
    """
    if not state.pid or state.boot_id != boot_id():
        return None
    try:
        pidfd = pidfd_open(state.pid)
    except KernelError:
        return None
    # The pidfd first, then the look at /proc: what is read belongs to the process that it holds.
    found = process_status(state.pid)
    if found is None or found[0] in ("Z", "X") or found[1] != state.start_time:
        pidfd.close()
        return None
    return pidfd


def observe(root: str, state: ContainerState) -> str:
    """Return the status that is true now, paused excepted: the cgroup knows that."""
    if state.status == life.CREATING:
        if _locked(f"{root}/{state.id}/lock"):
            return life.CREATING
        now = load(root, state.id)  # it may have come to its end between our two looks
        return life.STOPPED if now.status == life.CREATING else observe(root, now)
    if state.status == life.STOPPED:
        return life.STOPPED
    pidfd = open_process(state)
    if pidfd is None:
        return life.STOPPED
    pidfd.close()
    if state.status == life.CREATED and not _answers(f"{root}/{state.id}"):
        return life.RUNNING  # it was started, and whoever did that died before it could say so
    return state.status


def _locked(path: str) -> bool:
    try:
        with open_fd(path, posix.O_RDONLY) as fd:
            fcntl.flock(fd.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except KernelError:
        return False
    return False


def connect_start(path: str) -> Fd:
    """Connect to the container that waits in *path*/start.sock.

    Blocks:  never for long: the container accepts, or the socket is closed
    Raises:  KernelError(connect) - ECONNREFUSED, ENOENT: it does not wait any more
    """
    import _socket

    with open_fd(path, posix.O_PATH | posix.O_DIRECTORY) as here:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{here.fileno()}/{START_SOCKET}")
        except OSError as error:
            sock.close()
            raise KernelError("connect", error.errno or 0, f"{path}/{START_SOCKET}") from None
    return Fd(sock.detach())


def _answers(path: str) -> bool:
    try:
        connect_start(path).close()
    except KernelError as error:
        return error.errno == errno.EAGAIN  # the queue is full: somebody listens
    return True
