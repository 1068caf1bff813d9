"""A directory of cgroup v2 that we may write: limits, membership, freezer, killing.

Source: kernel Documentation/admin-guide/cgroup-v2.rst; cgroups(7)
"""

from __future__ import annotations

import errno
import posix
import time

from rootless.errors import KernelError, NotSupported
from rootless.kernel.fds import Fd, open_fd, read_file
from rootless.kernel.process import pidfd_open, pidfd_send_signal
from rootless.run.cgroups.find import ROOT, access, may_join
from rootless.run.cgroups.find import own_path as own_path
from rootless.run.state import CgroupRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.resources import CgroupWrite

_REMOVE_TRIES, _REMOVE_PAUSE_S = 100, 0.01
_FREEZE_TRIES, _FREEZE_PAUSE_S = 1000, 0.002


def make_v2(container: str, wanted: str | None) -> V2Cgroup:
    """Make the directory *wanted* (from the root, or below our own cgroup), or one named after the container.

    Raises: NotSupported when it is not ours to make; KernelError(mkdir) - EACCES: *wanted* was asked for by name;
            EEXIST with processes or frozen
    """
    own = own_path()
    if wanted and wanted.startswith("/"):
        path = wanted.rstrip("/")
    else:
        if not own:
            raise NotSupported("cgroup", ("our own cgroup is outside of what is mounted at /sys/fs/cgroup",))
        base = f"{own.rstrip('/')}/{wanted.strip('/') if wanted else container}"
        path = base
        number = 0
        while not wanted and V2Cgroup(CgroupRef("v2", ROOT + path)).pids():
            # Another root's container of the same name; nobody asked for this one by name.
            number += 1
            path = f"{base}-{number}"
    if ".." in path.split("/"):
        raise NotSupported("cgroup", (f"{path} leads out of its parent",))
    full = ROOT + path
    made: list[str] = []
    try:
        _make_directories(full, made)
        if not may_join(ROOT + path):
            raise NotSupported("cgroup", (f"cgroup.procs between {own or '/'} and {path} is not ours to write",))
    except (KernelError, NotSupported) as error:
        for directory in reversed(made):
            _rmdir(directory)
        if isinstance(error, KernelError) and not wanted:
            raise NotSupported("cgroup", (error.message,)) from None
        if isinstance(error, NotSupported) and wanted:
            raise KernelError(
                "unable to apply cgroup configuration: open", errno.EACCES, f"{full}/cgroup.procs"
            ) from None
        raise
    cgroup = V2Cgroup(CgroupRef("v2", full))
    if full not in made:
        _check_found(cgroup, full)
    cgroup.open()
    enable_controllers(full)
    return cgroup


def _make_directories(full: str, made: list[str]) -> None:
    path = ROOT
    for part in full[len(ROOT) :].strip("/").split("/"):
        path = f"{path}/{part}"
        try:
            posix.mkdir(path, 0o755)
            made.append(path)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EROFS) and posix.access(path, posix.F_OK):
                continue
            raise KernelError("unable to apply cgroup configuration: mkdir", error.errno or 0, path) from None


def _check_found(cgroup: V2Cgroup, full: str) -> None:
    """Refuse a directory in which somebody else's processes live or which is frozen: ours would never run."""
    if cgroup.pids():
        raise KernelError("unable to apply cgroup configuration: container's cgroup is not empty:", errno.EBUSY, full)
    if cgroup.frozen():
        raise KernelError("unable to apply cgroup configuration: container's cgroup unexpectedly frozen:",
                          errno.EBUSY, full)  # fmt: skip


def enable_controllers(full: str) -> None:
    """Hand the controllers down from parent to child as far as we may.

    Not where processes live beside the children: controllers of domains are refused there (EBUSY), and the others would
    make a threaded domain of it, in whose children nothing can run (EOPNOTSUPP). The root of the hierarchy is exempt.

    Source: cgroup-v2.rst "No Internal Process Constraint", "Threads"
    """
    path = ROOT
    for part in full[len(ROOT) :].strip("/").split("/"):
        if access(f"{path}/cgroup.subtree_control", posix.W_OK) and not _inhabited(path):
            have = read_file(f"{path}/cgroup.controllers").split()
            for controller in have:
                try:
                    _write(f"{path}/cgroup.subtree_control", f"+{controller.decode()}")
                except KernelError:
                    continue
        path = f"{path}/{part}"


def _inhabited(path: str) -> bool:
    try:
        return access(f"{path}/cgroup.type", posix.F_OK) and bool(read_file(f"{path}/cgroup.procs").strip())
    except (KernelError, OSError):
        return True


def _write(path: str, value: str) -> None:
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, value.encode())
        finally:
            posix.close(fd)
    except OSError as error:
        raise KernelError("write", error.errno or 0, f"{value} to {path}") from None


def _rmdir(path: str) -> bool:
    try:
        posix.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


class V2Cgroup:
    """One directory of the hierarchy; `fd` is what clone3(CLONE_INTO_CGROUP) takes."""

    def __init__(self, ref: CgroupRef) -> None:
        self.ref = ref
        self.fd: Fd | None = None

    def open(self) -> None:
        """Open the directory for CLONE_INTO_CGROUP. Raises: KernelError(open)"""
        self.fd = open_fd(self.ref.path, posix.O_RDONLY | posix.O_DIRECTORY)

    def apply(self, writes: tuple[CgroupWrite, ...]) -> tuple[str, ...]:
        """Write the limits; return in words those whose controller we do not have.

        Raises: KernelError(write) when the kernel refuses a value
        """
        missing: list[str] = []
        for write in writes:
            path = f"{self.ref.path}/{write.file}"
            if write.file == "io.weight" and not access(path, posix.F_OK):
                # bfq's own file takes the weight without "default".
                path = f"{self.ref.path}/io.bfq.weight"
            try:
                _write(path, write.value)
            except KernelError as error:
                if error.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
                missing.append(write.what)
        return tuple(dict.fromkeys(missing))

    def adopt(self, pid: int) -> None:
        """Move *pid* into the cgroup. Raises: KernelError(write)"""
        _write(f"{self.ref.path}/cgroup.procs", str(pid))

    def pids(self) -> list[int]:
        """Return the processes of the cgroup and of those below it."""
        found: list[int] = []
        for directory in self._tree():
            try:
                found += [int(word) for word in read_file(f"{directory}/cgroup.procs").split()]
            except KernelError:
                continue
        return sorted([pid for pid in found if pid])

    def _tree(self) -> list[str]:
        found = [self.ref.path]
        for directory in found:
            try:
                with posix.scandir(directory) as entries:
                    found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
        return found

    def kill(self, signal: int) -> bool:
        """Send *signal* to all processes; False if there is no such cgroup."""
        if not access(self.ref.path, posix.F_OK):
            return False
        if signal == 9:
            try:
                _write(f"{self.ref.path}/cgroup.kill", "1")  # 5.14; atomic, a fork bomb cannot outrun it
                return True
            except KernelError:
                pass
        for pid in self.pids():
            try:
                with pidfd_open(pid) as pidfd:
                    pidfd_send_signal(pidfd, signal)
            except KernelError:
                continue
        return True

    def freeze(self, frozen: bool) -> None:
        """Stop or continue everything in the cgroup. Blocks: until it has happened

        Raises: NotSupported, KernelError(write)
        """
        _write(f"{self.ref.path}/cgroup.freeze", "1" if frozen else "0")
        for _ in range(_FREEZE_TRIES):
            if f"frozen {int(frozen)}" in self.read("cgroup.events"):
                return
            time.sleep(_FREEZE_PAUSE_S)
        raise KernelError("freeze", errno.ETIMEDOUT, self.ref.path)

    def frozen(self) -> bool:
        """Say whether the freezer is on."""
        return self.read("cgroup.freeze").strip() == "1"

    def read(self, name: str) -> str:
        """Return a file of the cgroup, empty where it is missing."""
        try:
            return read_file(f"{self.ref.path}/{name}").decode("utf-8", "replace")
        except (KernelError, OSError):
            return ""

    def remove(self) -> None:
        """Remove the directory and what the container made below it; dying processes get a moment.

        Blocks: up to a second
        """
        for _ in range(_REMOVE_TRIES):
            left = [directory for directory in reversed(self._tree()) if not _rmdir(directory)]
            if not left:
                return
            time.sleep(_REMOVE_PAUSE_S)

    def close(self) -> None:
        if self.fd is not None:
            self.fd.close()
            self.fd = None
