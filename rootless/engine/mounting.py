"""`mount` and `unmount`: the root of a container in the mount namespace of `rootless unshare`.

Shape:  DATA/containers/ID/root is where it is mounted; nobody outside that namespace sees it
Source: podman-mount(1), podman-unmount(1) of podman 4.3
"""

from __future__ import annotations

import errno
import os

from rootless.engine.copying import container_maps
from rootless.errors import ContainerStateError, KernelError, RootlessError, UsageError
from rootless.kernel.enter import is_unshared
from rootless.kernel.mounts import MNT_DETACH, move_mount, umount2
from rootless.mount import drivervolumes, view
from rootless.store import atomic, containers, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.store.containers import Container
    from rootless.store.layout import Roots


def check_unshared(verb: str, environ: Mapping[str, str]) -> None:
    """Raises: UsageError in podman's words outside `rootless unshare`"""
    if not is_unshared(environ):
        raise UsageError(
            f'cannot run command "rootless {verb}" in rootless mode, must execute `rootless unshare` first'
        )


def mount_point(roots: Roots, cid: str) -> str:
    """Return where the root of a container is mounted."""
    return f"{containers.data_dir(roots, cid)}/root"


def mounted(roots: Roots) -> dict[str, str]:
    """Return the mount points that there are in this mount namespace, by container id."""
    text = atomic.read_file("/proc/self/mountinfo") or b""
    before, after = os.fsencode(f"{os.path.realpath(roots.data)}/{containers.CONTAINERS}/"), b"/root"
    found = {}
    for line in text.splitlines():
        point = _unescaped(line.split(b" ")[4])
        if point.startswith(before) and point.endswith(after):
            cid = os.fsdecode(point[len(before) : -len(after)])
            if len(cid) == 64:
                found[cid] = mount_point(roots, cid)
    return found


def _unescaped(path: bytes) -> bytes:
    """Undo the octal escapes of mountinfo: blanks, tabs, newlines, backslashes (proc_pid_mountinfo(5))."""
    parts = path.split(b"\\")
    return parts[0] + b"".join([bytes([int(part[:3], 8)]) + part[3:] for part in parts[1:]])


def mount(roots: Roots, container: Container, environ: Mapping[str, str], driver: str) -> str:
    """Mount the root of a container; return where. One that is mounted already stays so.

    Raises: RootlessError
    """
    point = mount_point(roots, container.id)
    if container.id in mounted(roots):
        return point
    if not os.path.isdir(point):
        layout.make_directory(point)
    pid = containers.noted_process(f"{containers.run_dir(roots, container.id)}/child")
    if pid:
        tree = drivervolumes.cloned_from(pid, "/")
        if tree is None:
            raise ContainerStateError(
                f"container {container.name} runs in another user namespace than this shell",
                hint="leave it and run `rootless unshare` again",
            )
        with tree:
            move_mount(tree, None, point)
        return point
    maps = container_maps(container, environ)
    if containers.status(roots, container) == "remote":
        raise ContainerStateError(f"container {container.id} runs on another machine")
    try:
        lock = containers.make_run_dir(roots, container.id)
    except OSError as error:
        raise ContainerStateError(f"container {container.name} is being started or stopped") from error
    try:
        root = view.mount_root(roots, container, driver, maps, containers.run_dir(roots, container.id))
        try:
            if root.server is not None:
                raise RootlessError(
                    f"container {container.name} is mounted by a FUSE server, which would end with this command",
                    hint="use `rootless cp`",
                )
            move_mount(root.fd, None, point)
        finally:
            root.close()
    finally:
        containers.discard_run_dir(roots, container.id)
        lock.close()
    return point


def unmount(roots: Roots, container: Container, *, force: bool) -> None:
    """Take the mount away; none is none. Raises: RootlessError"""
    if container.id not in mounted(roots):
        return
    point = mount_point(roots, container.id)
    try:
        umount2(point, MNT_DETACH if force else 0)
    except KernelError as error:
        hint = "somebody works in it; --force takes it away" if error.errno == errno.EBUSY else None
        raise RootlessError(
            f"unmounting container {container.id}: {(error.strerror or '').lower()}", hint=hint
        ) from error
    try:
        os.rmdir(point)
    except OSError:
        pass
