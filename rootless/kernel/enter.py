"""Become root of our user namespace: join the one that a live container holds, or make it.

One outer namespace per user is shared by all live containers (docs/decisions, "no pause process"):
whoever comes joins the namespace of a live supervisor (0.1 ms) and only the first makes one (3 ms).
Each process then has a mount namespace of its own.

Source: user_namespaces(7), setns(2), ioctl_ns(2)
"""

from __future__ import annotations

import _struct as struct  # what `struct` itself wraps
import fcntl
import posix

from rootless.errors import KernelError, NotSupported, RootlessError
from rootless.kernel import idmaps
from rootless.kernel.fds import Fd, is_locked, memfd, open_fd, read_file, recv_fds, socketpair
from rootless.kernel.mounts import MS_REC, MS_SLAVE, mount
from rootless.kernel.namespaces import CLONE_NEWNS, CLONE_NEWUSER, assert_single_threaded, setns, unshare
from rootless.kernel.process import set_dumpable, spawn, wait_pid
from rootless.plan.userns import IdMapPlan, UsernsMode, plan_single, plan_userns
from rootless.spec.idmap import parse_map
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ENTER = __file__[: -len("kernel/enter.py")] + "stage/enter"
UNSHARED = "_ROOTLESS_UNSHARED"  # in the environment of `rootless unshare`: the inode of its user namespace
_NS_GET_OWNER_UID = 0xB704  # _IO(0xb7, 4), <linux/nsfs.h>


@record
class Identity:
    """Who we are after `enter`.

    Shape: *uid*, *gid* are the caller's on the host; *plan* is what was mapped; *joined* says whether the namespace
           was there already
    """

    uid: int
    gid: int
    plan: IdMapPlan
    joined: bool
    warnings: tuple[str, ...] = ()


class Entering:
    """A user namespace on its way: found or being made by `enter` while this process does other things.

    Owner: `finish` or `abandon` consumes it; what is left of neither goes with this process
    """

    def __init__(self, run_root: str, mode: UsernsMode, environ: Mapping[str, str]) -> None:
        self.run_root = run_root
        self.mode = mode
        self._facts = idmaps.read_facts(environ)
        self._plan = plan_userns(mode, self._facts)
        self._inside = self._plan.shared and is_unshared(environ)
        look = self._plan.shared and not self._inside
        self._namespace = _find_live(run_root, self._plan) if look else None
        self._making = _Making(self._plan) if self._namespace is None and not self._inside else None

    def abandon(self) -> None:
        """Give it up: it is not the one that is wanted."""
        if self._namespace is not None:
            self._namespace.close()
        if self._making is not None:
            self._making.abandon()

    def finish(self) -> Identity:
        """Move this process into the namespace, as its root, with its own mounts.

        Falls back to a map of one id, with a warning, where the tools fail.

        Blocks:  until newuidmap is through, unless a namespace was found
        Raises:  as `enter`
        Source:  setns(2): EINVAL with more than one thread, so this comes before anything that starts one
        """
        assert_single_threaded()
        if self._inside:
            unshare(CLONE_NEWNS)
            mount("none", "/", flags=MS_REC | MS_SLAVE)
            return Identity(self._facts.uid, self._facts.gid, self._plan, True, self._plan.warnings)
        plan, namespace, joined = self._plan, self._namespace, self._namespace is not None
        if self._making is not None:
            try:
                namespace = self._making.result()
            except NotSupported as error:
                plan = plan_single(plan, self.mode, self._facts, reason=error.message)
                namespace = _Making(plan).result()
        assert namespace is not None
        with namespace:
            setns(namespace, CLONE_NEWUSER)
        posix.setresgid(0, 0, 0)
        posix.setresuid(0, 0, 0)
        # A change of credentials may clear it; our /proc/PID/ns/user is what later commands join.
        set_dumpable(True)
        unshare(CLONE_NEWNS)
        # Mounts of the host still reach us, ours never reach the host.
        mount("none", "/", flags=MS_REC | MS_SLAVE)
        return Identity(self._facts.uid, self._facts.gid, plan, joined, plan.warnings)


def enter(run_root: str, mode: UsernsMode, environ: Mapping[str, str]) -> Identity:
    """Move this process into the user namespace that *mode* asks for, as its root, with its own mounts.

    Blocks:  for newuidmap and newgidmap (3 ms) unless a namespace can be joined
    Raises:  KernelError(unshare) - EPERM: an LSM, sysctl or seccomp filter forbids user namespaces; ENOSPC:
             user.max_user_namespaces; UsageError, NotSupported for the mode
    """
    return Entering(run_root, mode, environ).finish()


def nested_namespace(uids: str, gids: str) -> Fd:
    """Return a user namespace below ours with these maps ("inside outside size" triples in one line); nobody is in it.

    Raises: KernelError
    """
    sock, theirs = socketpair()
    with sock:
        with theirs:
            pid = spawn([ENTER, "3", "direct", uids, gids], fds={3: theirs})
        data, fds = recv_fds(sock, 256, 1)
        wait_pid(pid)
    if data == b"ok" and fds:
        return fds[0]
    step, _, number = data.decode("ascii", "replace").partition(" ")
    raise KernelError(step or "enter", int(number) if number.isdigit() else 0)


def is_unshared(environ: Mapping[str, str]) -> bool:
    """Say whether this process is in the user namespace of `rootless unshare`, which all containers share."""
    said = environ.get(UNSHARED)
    return bool(said) and posix.geteuid() == 0 and said == str(posix.stat("/proc/self/ns/user").st_ino)


def _find_live(run_root: str, plan: IdMapPlan) -> Fd | None:
    """Return the user namespace of a live supervisor of ours with the same map."""
    try:
        names = posix.listdir(f"{run_root}/containers")
    except OSError:
        return None
    for name in names:
        directory = f"{run_root}/containers/{name}"
        try:
            pid = int(read_file(f"{directory}/pid", limit_bytes=64).split()[0])
            if not is_locked(f"{directory}/lock"):
                continue
            namespace = open_fd(f"/proc/{pid}/ns/user", posix.O_RDONLY)
        except (RootlessError, ValueError, IndexError):
            continue
        if _is_ours(namespace, pid, plan) and is_locked(f"{directory}/lock"):
            return namespace
        namespace.close()
    return None


def _is_ours(namespace: Fd, pid: int, plan: IdMapPlan) -> bool:
    try:
        owner = bytearray(4)
        fcntl.ioctl(namespace.fileno(), _NS_GET_OWNER_UID, owner)
        if struct.unpack("=I", owner)[0] != posix.geteuid():
            return False
        uids = parse_map(read_file(f"/proc/{pid}/uid_map").decode())
        gids = parse_map(read_file(f"/proc/{pid}/gid_map").decode())
    except (OSError, ValueError):
        return False
    return uids.same_ids(plan.outer_uids) and gids.same_ids(plan.outer_gids)


class _Making:
    """The program `enter` at work on the maps of *plan*."""

    def __init__(self, plan: IdMapPlan) -> None:
        how, allow, uids, gids, newuidmap, newgidmap = plan.enter_args()
        self._socket, theirs = socketpair()
        argv = [ENTER, "3", "tools" if how == "tools" else "direct" if allow == "allow" else "deny",
                " ".join(uids.split()), " ".join(gids.split())]  # fmt: skip
        if how == "tools":
            argv += [newuidmap, newgidmap]
        self._said = memfd("enter-stderr")
        with theirs:
            self._pid = spawn(argv, fds={3: theirs, 2: self._said}, elsewhere=True)

    def abandon(self) -> None:
        """End the program and let the namespace go with it."""
        self._socket.close()
        self._said.close()
        posix.kill(self._pid, 9)
        wait_pid(self._pid)

    def result(self) -> Fd:
        """Return the new namespace.

        Raises: NotSupported when the mapping tools fail, KernelError otherwise
        """
        with self._socket, self._said:
            data, fds = recv_fds(self._socket, 256, 1)
            status = wait_pid(self._pid)
            if data == b"ok" and fds:
                return fds[0]
            posix.lseek(self._said.fileno(), 0, 0)
            words = posix.read(self._said.fileno(), 4096).decode("utf-8", "replace").strip()
        step, _, number = data.decode("ascii", "replace").partition(" ")
        if step in ("newuidmap", "newgidmap"):
            raise NotSupported(words.splitlines()[0] if words else f"{step}: {posix.strerror(int(number)).lower()}")
        if not step:
            raise KernelError("enter", 0, f"ended with status {status} {words}")
        raise KernelError(step, int(number) if number.isdigit() else 0)
