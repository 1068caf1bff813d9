"""The namespaces of other containers, for `--pid container:NAME` and its like.

Called inside our user namespace: the processes of all our containers are its own or its children's.

Source: podman-run(1); namespaces(7), proc_pid_ns(5)
"""

from __future__ import annotations

import posix

from rootless.errors import ContainerStateError, NotFound, UsageError
from rootless.kernel.fds import Fd, open_fd
from rootless.kernel.mounts import open_tree
from rootless.kernel.namespaces import CLONE_NEWNS, setns
from rootless.plan import saved
from rootless.plan.namespaces import modes_of
from rootless.spec.record import replace
from rootless.store import atomic, containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.plan.options import RunOptions
    from rootless.plan.translate import Surroundings
    from rootless.spec.runtime import Spec
    from rootless.store.layout import Roots

_FILES = {"user": "user", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}

_FIELDS = {"user": "userns", "pid": "pid", "ipc": "ipc", "uts": "uts", "cgroup": "cgroupns"}


def resolver(roots: Roots) -> Callable[[str, str], str]:
    """Return what finds the path of a namespace (type, `container:NAME` or `ns:PATH`); "" where it is ours already."""

    def resolve(kind: str, mode: str) -> str:
        if mode.startswith("ns:"):
            path = mode[3:]
            try:
                posix.stat(path)
            except OSError as error:
                shown = kind.upper() if kind in ("pid", "ipc", "uts") else kind
                reason = posix.strerror(error.errno or 0).lower()
                raise UsageError(f"cannot find specified {shown} namespace path: stat {path}: {reason}") from None
            return path
        pid = process_of(roots, kind, mode.partition(":")[2])
        path = f"/proc/{pid}/ns/{_FILES[kind]}"
        if posix.stat(path).st_ino == posix.stat(f"/proc/self/ns/{_FILES[kind]}").st_ino:
            return ""  # joining one's own user namespace is EINVAL (setns(2)), the others are needless
        return path

    return resolve


def check_others(options: RunOptions, roots: Roots) -> None:
    """Raises: UsageError in podman's words - a container that *options* name is not there"""
    for name in options.requires:
        try:
            containers.find(roots, name)
        except NotFound:
            raise UsageError(
                f'"{name}" is not a valid container, cannot be used as a dependency: no container with name or ID '
                f'"{name}" found: no such container'
            ) from None
    for kind, mode in modes_of(options):
        if mode.startswith("container:"):
            find_shared(roots, kind, mode.partition(":")[2])


def by_id(options: RunOptions, roots: Roots) -> RunOptions:
    """Return *options* with the ids of the containers that they name: names may change. Raises: UsageError"""
    check_others(options, roots)
    changes: dict[str, Any] = {}
    for kind, mode in modes_of(options):
        if mode.startswith("container:"):
            settled = f"container:{find_shared(roots, kind, mode.partition(':')[2]).id}"
            if kind == "network":
                changes["network"] = replace(options.network, mode=settled)
            else:
                changes[_FIELDS[kind]] = settled
    if options.requires:
        changes["requires"] = tuple([containers.find(roots, name).id for name in options.requires])
    return replace(options, **changes) if changes else options


def find_shared(roots: Roots, kind: str, name: str) -> containers.Container:
    """Return the container *name* whose namespace is wanted. Raises: UsageError in podman's words"""
    try:
        return containers.find(roots, name)
    except NotFound:
        raise UsageError(
            f"looking up container to share {_FILES[kind]} namespace with: no container with name or ID "
            f'"{name}" found: no such container'
        ) from None


def process_of(roots: Roots, kind: str, name: str) -> int:
    """Return the first process of the container *name*. Raises: UsageError, ContainerStateError"""
    found = find_shared(roots, kind, name)
    pid = containers.noted_process(f"{containers.run_dir(roots, found.id)}/child")
    if not pid:
        raise ContainerStateError(
            f"cannot join the {_FILES[kind]} namespace of container {found.name}: it is not running: "
            "container state improper",
            hint=f"rootless start {found.name}",
        )
    return pid


def with_shared_ids(options: RunOptions, roots: Roots) -> RunOptions:
    """Return *options* with the id map of the container whose user namespace they join.

    Raises: UsageError in podman's words
    """
    if not options.userns.startswith("container:"):
        return options
    found = find_shared(roots, "user", options.userns.partition(":")[2])
    other = with_shared_ids(saved.decode(dict(found.data.get("options") or {})), roots)
    return replace(options, userns=other.userns, uid_map=other.uid_map, gid_map=other.gid_map,
                   subuid_name=other.subuid_name, subgid_name=other.subgid_name)  # fmt: skip


def like_the_others(options: RunOptions, roots: Roots, around: Surroundings) -> Surroundings:
    """Return *around* with what the containers whose namespaces are joined have said: paths, host name, hosts file."""
    around = replace(around, namespace_path=resolver(roots))
    if options.uts.startswith("container:"):
        name = find_shared(roots, "uts", options.uts.partition(":")[2]).data.get("hostname")
        around = replace(around, joined_name=str(name or ""))
    if options.network.mode.startswith("container:"):
        other = find_shared(roots, "network", options.network.mode.partition(":")[2])
        directory = containers.run_dir(roots, other.id)
        hosts, servers = [atomic.read_file(f"{directory}/{name}") for name in ("hosts", "resolv.conf")]
        around = replace(
            around,
            hosts=None if hosts is None else hosts.decode("utf-8", "surrogateescape"),
            resolv_conf=None if servers is None else servers.decode("utf-8", "surrogateescape"),
        )
    return around


def shared_memory(spec: Spec) -> tuple[tuple[str, Fd], ...]:
    """Return /dev/shm of the container whose IPC namespace *spec* joins, to be mounted: (destination, tree).

    Raises: KernelError
    """
    found: list[tuple[str, Fd]] = []
    for mount in spec.mounts:
        process, mark, path = (mount.source or "").partition("/root/")
        if mark and mount.destination == "/dev/shm" and process.startswith("/proc/"):
            found.append((mount.destination, _tree_of(int(process[6:]), f"/{path}")))
    return tuple(found)


def _tree_of(pid: int, path: str) -> Fd:
    """Return a copy of the mount at *path* of the process *pid*.

    Only a process in its mount namespace may copy it (open_tree(2) EINVAL): we go there and come back, which needs no
    second thread to share our root and working directory.
    """
    flags = posix.O_RDONLY | posix.O_DIRECTORY
    with (
        open_fd("/proc/self/ns/mnt", posix.O_RDONLY) as ours,
        open_fd(f"/proc/{pid}/ns/mnt", posix.O_RDONLY) as theirs,
        open_fd(".", flags) as here,
    ):
        setns(theirs, CLONE_NEWNS)
        try:
            return open_tree(path)
        finally:
            setns(ours, CLONE_NEWNS)
            posix.fchdir(here.fileno())
