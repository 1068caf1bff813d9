"""The namespaces of other containers, for `--pid container:NAME` and its like.

Called inside our user namespace: the processes of all our containers are its own or its children's.

Source: podman-run(1); namespaces(7), proc_pid_ns(5)
"""

from __future__ import annotations

import posix

from rootless.errors import ContainerStateError, NotFound, UsageError
from rootless.plan import saved
from rootless.spec.record import replace
from rootless.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.plan.options import RunOptions
    from rootless.store.layout import Roots

_FILES = {"user": "user", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "cgroup": "cgroup"}


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
