"""The root file system of a container as a descriptor to look and write below, whether the container runs or not.

A running one shows it through /proc/PID/root, volumes and all. One that does not run is mounted in our own mount
namespace, with its volumes and binds; its lock is held meanwhile, so that nobody starts it on the same upper layer.

Source: proc_pid_root(5); podman-cp(1), podman-mount(1)
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.errors import ContainerStateError, KernelError, RootlessError
from rootless.kernel.fds import Fd, open_fd, read_file
from rootless.kernel.mounts import MNT_DETACH, move_mount, open_tree, umount2
from rootless.kernel.paths import open_in_root, settle_in_root
from rootless.kernel.undo import Undo
from rootless.mount.driver import RootfsMount, RootfsRequest, detached_directory, open_root
from rootless.mount.volumes import fill
from rootless.plan.containermounts import VolumeUse
from rootless.spec.idmap import parse_map
from rootless.store import containers, images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.spec.idmap import IdMap
    from rootless.store.containers import Container
    from rootless.store.layout import Roots


class View:
    """A container's root.

    Shape: *fd* is its directory; *uids* and *gids* map the container's ids to ours, None where they are the same
    Owner: `close` takes the mounts away and lets the container go
    """

    def __init__(self, fd: Fd, undo: Undo, uids: IdMap | None, gids: IdMap | None) -> None:
        self.fd = fd
        self.undo = undo
        self.uids = uids
        self.gids = gids

    def close(self) -> None:
        self.undo.run()

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def outer(self, uid: int, gid: int) -> tuple[int, int]:
        """Return our ids of ids of the container; what is not mapped becomes its root's."""
        return _mapped(self.uids, uid), _mapped(self.gids, gid)

    def inner(self, uid: int, gid: int) -> tuple[int, int]:
        """Return the container's ids of ours."""
        return _unmapped(self.uids, uid), _unmapped(self.gids, gid)


def _mapped(table: IdMap | None, number: int) -> int:
    if table is None:
        return number
    found = table.lookup(number)
    return (table.lookup(0) or 0) if found is None else found


def _unmapped(table: IdMap | None, number: int) -> int:
    if table is None:
        return number
    found = table.lookup_host(number)
    return 65534 if found is None else found


def open_running(roots: Roots, container: Container) -> View | None:
    """Return the root of a container that runs; None when it does not.

    Call it inside our user namespace.
    """
    pid = containers.noted_process(f"{containers.run_dir(roots, container.id)}/child")
    if not pid:
        return None
    undo = Undo()
    try:
        fd = open_fd(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY)
        undo.push(fd.close)
        same = os.stat(f"/proc/{pid}/ns/user").st_ino == os.stat("/proc/self/ns/user").st_ino
        maps = [None if same else parse_map(read_file(f"/proc/{pid}/{kind}_map").decode()) for kind in ("uid", "gid")]
    except (KernelError, OSError) as error:
        undo.run()
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return None  # it has just ended
        if error.errno == errno.EACCES:
            # It hides until its program runs; or it was started in a namespace of its own after we made ours.
            raise ContainerStateError(f"container {container.name} has just been started", hint="try again") from error
        raise
    return View(fd, undo, *maps)


def open_stopped(
    roots: Roots, container: Container, driver: str, maps: tuple[IdMap | None, IdMap | None], *, volumes: bool = True
) -> View:
    """Mount the root of a container that does not run.

    Shape:  *maps* are those of a user namespace of its own; *volumes*: mount its volumes and binds too
    Blocks: for the disk
    Raises: RootlessError; ContainerStateError where it is being started
    """
    if containers.status(roots, container) == "remote":
        raise ContainerStateError(f"container {container.id} runs on another machine")
    with Undo() as undo:
        try:
            lock = containers.make_run_dir(roots, container.id)
        except OSError as error:
            raise ContainerStateError(f"container {container.name} is being started or stopped") from error
        run_dir = containers.run_dir(roots, container.id)
        undo.push(lock.close)
        undo.push(lambda: containers.discard_run_dir(roots, container.id))
        place = f"{run_dir}/root"
        os.mkdir(place, 0o700)
        # Should we be killed: it was not the container's supervisor that died (supervise/orphans.py).
        os.close(os.open(f"{run_dir}/{containers.LOOKED_INTO}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        mounted = mount_root(roots, container, driver, maps, run_dir)
        undo.push(mounted.close)
        move_mount(mounted.fd, None, place)
        undo.push(lambda: umount2(place, MNT_DETACH))
        fd = open_fd(place, os.O_PATH | os.O_DIRECTORY)
        undo.push(fd.close)
        view = View(fd, undo, *maps)
        if volumes:
            for mount in container.data.get("mounted") or ():
                if mount.get("Type") in ("volume", "bind"):
                    _prepare(roots, mount, view)
                    _attach(fd, str(mount["Source"]), str(mount["Destination"]))
        view.undo = undo.keep()
        return view


def _prepare(roots: Roots, mount: dict[str, Any], view: View) -> None:
    """Fill a fresh volume before anything is copied into it, which would keep the image's content out."""
    if mount.get("Type") != "volume" or not os.path.isdir(str(mount["Source"])):
        return
    use = VolumeUse(str(mount["Name"]), str(mount["Source"]), str(mount["Destination"]))
    fill(roots, use, view.fd, view.outer(0, 0))


def mount_root(
    roots: Roots, container: Container, driver: str, maps: tuple[IdMap | None, IdMap | None], run_dir: str
) -> RootfsMount:
    """Return the root of a container that does not run as a detached mount. Raises: RootlessError"""
    data = container.data
    image_id = str(data.get("image_id") or "")
    if not image_id:
        return RootfsMount(detached_directory(os.path.realpath(str(data.get("image") or ""))), "rootfs")
    image = images.get(roots, image_id)
    if image is None:
        raise RootlessError(f"the image {image_id[:12]} of container {container.name} is gone")
    links = image.links
    if maps[0] is not None and maps[1] is not None:
        from rootless.store.shifted import shifted_layers

        links = shifted_layers(roots, links, maps[0], maps[1])
    request = RootfsRequest(store=roots.data, links=links, scratch=containers.data_dir(roots, container.id),
                            run_dir=run_dir, forms=image.forms)  # fmt: skip
    return open_root(str(data.get("driver") or "") or driver or "auto", request)


def _attach(root: Fd, source: str, target: str) -> None:
    """Bind a volume's directory or a path of the host where the container has it; one that is gone is left out."""
    try:
        is_directory = stat.S_ISDIR(os.stat(source).st_mode)
    except OSError:
        return
    path = os.fsencode(target)
    try:
        place = open_in_root(root, path, os.O_PATH)
    except KernelError as error:
        if error.errno != errno.ENOENT:
            return
        place = _made(root, settle_in_root(root, path), is_directory)
    with place, open_tree(source, recursive=True) as tree:
        move_mount(tree, place)


def _made(root: Fd, path: bytes, is_directory: bool) -> Fd:
    """Make what a mount needs at *path*, as a start of the container would."""
    here = root.dup()
    parts = [part for part in path.split(b"/") if part]
    for at, part in enumerate(parts):
        last = at == len(parts) - 1
        with here:
            if last and not is_directory:
                os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644, dir_fd=here.fileno()))
            else:
                try:
                    os.mkdir(part, 0o755, dir_fd=here.fileno())
                except FileExistsError:
                    pass
        here = open_in_root(root, b"/".join(parts[: at + 1]), os.O_PATH)
    return here
