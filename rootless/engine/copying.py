"""Copy files between containers and the host, or as tar streams.

Shape:  a path in a container is looked up in its root by openat2(2): no link of it leads out. What is copied is found
        by descriptors from there on.
Source: podman-cp(1) of podman 4.3; its rules for directories and names, observed
"""

from __future__ import annotations

import errno
import os
import stat
import time

from rootless.engine.containers import find, settle
from rootless.errors import ContainerStateError, KernelError, NotFound, RootlessError, UsageError
from rootless.kernel import idmaps
from rootless.kernel.enter import enter
from rootless.kernel.fds import Fd, open_fd
from rootless.kernel.paths import open_in_root, settle_in_root
from rootless.mount import view as views
from rootless.plan import saved
from rootless.plan.userns import parse_mode, plan_userns
from rootless.spec.record import record
from rootless.store import images
from rootless.store.copyinto import Merger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.mount.view import View
    from rootless.plan.userns import IdMapPlan
    from rootless.spec.idmap import IdMap
    from rootless.store.containers import Container
    from rootless.store.copytree import Shift
    from rootless.store.layout import Roots

    Maps = tuple[IdMap | None, IdMap | None]

NO_FILE = "no such file or directory"
_TRIES, _TRY_SECONDS = 40, 0.05
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY


@record
class Place:
    """One argument of cp: a path of the host (*container* ""), or of a container."""

    container: str
    path: str


def parse(source: str, destination: str) -> tuple[Place, Place]:
    """Read the arguments of cp. Raises: UsageError in podman's words"""
    places = _place(source), _place(destination)
    if not places[0].path or not places[1].path:
        raise UsageError(f'invalid arguments "{source}", "{destination}": you must specify paths')
    if not places[0].container and not places[1].container:
        raise UsageError("name or ID cannot be empty", hint="one of the two paths must be CONTAINER:PATH")
    return places


def _place(text: str) -> Place:
    # A path with a colon is written with ./ before it.
    if text[:1] in ("", ".", "/") or ":" not in text:
        return Place("", text)
    container, _, path = text.partition(":")
    return Place(container, path)


def copy(
    roots: Roots,
    source: Place,
    destination: Place,
    environ: Mapping[str, str],
    *,
    driver: str = "",
    archive: bool = True,
    overwrite: bool = False,
) -> None:
    """Copy what *source* names to *destination*; "-" of the host is a tar stream.

    Shape:  *archive*: files get the primary user of the container that they come to
    Blocks: for the disk, and for stdin or stdout
    Raises: RootlessError in podman's words
    """
    entered = settle(roots, environ)
    found = [_container(roots, place.container) for place in (source, destination)]
    plans = [_id_plan(container, environ) if container is not None else None for container in found]
    maps: list[Maps] = [(plan.inner_uids, plan.inner_gids) if plan is not None else (None, None) for plan in plans]
    if not entered:
        enter(roots.run, parse_mode(""), environ)
    opened: list[View | None] = []
    try:
        for container, own in zip(found, maps):
            opened.append(_view(roots, container, driver, own, opened, found))
        copying = _Copying(source, destination, opened[0], opened[1], archive, overwrite)
        owner = None
        if archive and opened[1] is not None:
            owner = _user(roots, found[1], opened[1], plans[1].user if plans[1] is not None else None)
        copying.run(owner)
    except OSError as error:
        if isinstance(error, RootlessError):
            raise
        hint = "free some space" if error.errno == errno.ENOSPC else None
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
        reason = (error.strerror or "").lower()
        raise RootlessError(f"copying{f' {name}' if name else ''}: {reason}", hint=hint) from error
    finally:
        for one in dict.fromkeys(opened):
            if one is not None:
                one.close()


def _container(roots: Roots, name: str) -> Container | None:
    if not name:
        return None
    try:
        return find(roots, name)
    except NotFound:
        raise RootlessError(f'container "{name}" does not exist') from None


def container_maps(container: Container | None, environ: Mapping[str, str]) -> Maps:
    """Return the maps of a user namespace of the container's own; read before ours is entered."""
    plan = _id_plan(container, environ) if container is not None else None
    return (plan.inner_uids, plan.inner_gids) if plan is not None else (None, None)


def _id_plan(container: Container, environ: Mapping[str, str]) -> IdMapPlan:
    from rootless.supervise.early import userns_mode

    options = saved.decode(dict(container.data.get("options") or {}))
    return plan_userns(userns_mode(options), idmaps.read_facts(environ))


def _view(
    roots: Roots,
    container: Container | None,
    driver: str,
    maps: Maps,
    opened: list[View | None],
    found: list[Container | None],
) -> View | None:
    if container is None:
        return None
    first = found[0]
    if opened and first is not None and first.id == container.id:
        return opened[0]
    for attempt in range(_TRIES):
        try:
            running = views.open_running(roots, container)
            return running if running is not None else views.open_stopped(roots, container, driver, maps)
        except ContainerStateError:
            if attempt == _TRIES - 1:
                raise
            time.sleep(_TRY_SECONDS)  # somebody starts it, or it is ending
    return None


def _user(roots: Roots, container: Container | None, view: View, kept: tuple[int, int] | None) -> tuple[int, int]:
    """Return the ids, in ours, of the container's user; *kept* is who keep-id makes it."""
    from rootless.kernel.paths import read_in_root
    from rootless.plan.user import resolve

    text = ""
    if container is not None:
        text = str(container.data.get("user") or "")
        if not text and kept is not None:
            return view.outer(*kept)
        text = text or _image_user(roots, container)
    if not text:
        return view.outer(0, 0)
    user = resolve(text, (), read_in_root(view.fd, b"/etc/passwd"), read_in_root(view.fd, b"/etc/group"))
    return view.outer(user.uid, user.gid)


def _image_user(roots: Roots, container: Container) -> str:
    image_id = str(container.data.get("image_id") or "")
    image = images.get(roots, image_id) if image_id else None
    config = image.config.get("config") if image is not None else None
    return str(config.get("User") or "") if isinstance(config, dict) else ""


class _Copying:
    """One cp."""

    def __init__(
        self, source: Place, destination: Place, src: View | None, dst: View | None, archive: bool, overwrite: bool
    ) -> None:
        self.source = source
        self.destination = destination
        self.src = src
        self.dst = dst
        self.archive = archive
        self.overwrite = overwrite

    def run(self, owner: tuple[int, int] | None) -> None:
        if self.src is None and self.source.path == "-":
            self._from_stdin(owner)
            return
        with self._opened_source() as path_fd:
            info = os.fstat(path_fd.fileno())
            is_directory = stat.S_ISDIR(info.st_mode)
            if not is_directory and not stat.S_ISREG(info.st_mode):
                raise RootlessError(f'"{self.source.path}" is neither a regular file nor a directory')
            name = _base_of(path_fd)
            contents = is_directory and (_ends_in_dot(self.source.path) or not name)
            with open_fd(path_fd.proc_path(), _READ | (os.O_DIRECTORY if is_directory else 0)) as readable:
                if self.dst is None and self.destination.path == "-":
                    self._to_stdout(readable, b"" if contents else name)
                    return
                self._copy(readable, name, contents, is_directory, owner)

    def _copy(
        self, readable: Fd, name: bytes, contents: bool, is_directory: bool, owner: tuple[int, int] | None
    ) -> None:
        parent, target, exists, into_directory = self._target()
        merger = Merger(self._shift(owner), overwrite=self.overwrite)
        try:
            with parent:
                if not is_directory:
                    merger.file(readable, parent, name if into_directory else target)
                    return
                if exists and not into_directory:
                    raise UsageError("destination must be a directory when copying a directory")
                if not exists:
                    merger.directory(readable, parent, target)
                elif contents:
                    merger.contents(readable, parent)
                else:
                    merger.directory(readable, parent, name)
        finally:
            merger.close()

    def _shift(self, owner: tuple[int, int] | None) -> Shift:
        """Return what owners become: the container's user, the caller on the host, or the same ids over there."""
        src, dst = self.src, self.dst

        def shift(uid: int, gid: int) -> tuple[int, int]:
            if owner is not None:
                return owner
            if dst is None:
                return 0, 0
            return dst.outer(*src.inner(uid, gid)) if src is not None else dst.outer(0, 0)

        return shift

    def _opened_source(self) -> Fd:
        path = self.source.path
        if self.src is None:
            try:
                return open_fd(path, os.O_PATH)
            except KernelError as error:
                raise _missing(path, "the host", error) from None
        try:
            return open_in_root(self.src.fd, os.fsencode(path.rstrip("/") or "/"), os.O_PATH)
        except KernelError as error:
            raise _missing(path, f"container {self.source.container}", error) from None

    def _target(self) -> tuple[Fd, bytes, bool, bool]:
        """Return (directory, name in it, whether the destination is there, whether it is a directory).

        Where the destination is a directory, it is the one that is returned, and the name means nothing.
        """
        path = self.destination.path
        if self.dst is None:
            return _target_on_host(path)
        root = self.dst.fd
        text = os.fsencode(path)
        where = f"container {self.destination.container}"
        try:
            with open_in_root(root, text.rstrip(b"/") or b"/", os.O_PATH) as found:
                if stat.S_ISDIR(os.fstat(found.fileno()).st_mode):
                    return open_in_root(root, text, os.O_RDONLY | os.O_DIRECTORY), b"", True, True
                if path.endswith("/"):
                    raise RootlessError(f"copying to container: {path.rstrip('/')}: exists but is not a directory")
                inside = _path_in(found, root)
            return _parent(root, inside), inside.rpartition(b"/")[2], True, False
        except KernelError as error:
            if error.errno != errno.ENOENT or path.endswith("/"):
                raise _missing(path, where, error) from None
        try:
            settled = settle_in_root(root, text)
            return _parent(root, settled), settled.rpartition(b"/")[2], False, False
        except KernelError as error:
            raise _missing(path, where, error) from None

    def _from_stdin(self, owner: tuple[int, int] | None) -> None:
        from rootless.engine import tarstreams

        assert self.dst is not None
        try:
            directory = open_in_root(self.dst.fd, os.fsencode(self.destination.path), os.O_RDONLY | os.O_DIRECTORY)
        except KernelError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise
            raise UsageError("destination must be a directory when copying from stdin") from None
        with directory:
            tarstreams.extract(0, directory, self.dst, owner, overwrite=self.overwrite)

    def _to_stdout(self, readable: Fd, name: bytes) -> None:
        from rootless.engine import tarstreams

        tarstreams.write(1, readable, name, self.src)


def _target_on_host(path: str) -> tuple[Fd, bytes, bool, bool]:
    try:
        info = os.stat(path)
    except OSError as error:
        if path.endswith("/"):
            raise _missing(path, "the host", error) from None
        directory, _, name = path.rpartition("/")
        parent = directory or ("/" if path.startswith("/") else ".")
        # A link to nowhere: what is copied takes the place that it names, as cp(1) does.
        if os.path.islink(path):
            parent, _, name = os.path.realpath(path).rpartition("/")
        try:
            return open_fd(parent or "/", os.O_RDONLY | os.O_DIRECTORY), os.fsencode(name), False, False
        except KernelError as failed:
            raise _missing(path, "the host", failed) from None
    if stat.S_ISDIR(info.st_mode):
        return open_fd(path, os.O_RDONLY | os.O_DIRECTORY), b"", True, True
    if not stat.S_ISREG(info.st_mode):
        raise RootlessError(f'invalid destination: "{path}" must be a directory or a regular file')
    parent, _, name = os.path.realpath(path).rpartition("/")
    return open_fd(parent or "/", os.O_RDONLY | os.O_DIRECTORY), os.fsencode(name), True, False


def _missing(path: str, where: str, error: OSError) -> RootlessError:
    reason = NO_FILE if error.errno in (errno.ENOENT, errno.ENOTDIR) else (error.strerror or "").lower()
    return RootlessError(f'"{path}" could not be found on {where}: {reason}')


def _parent(root: Fd, path: bytes) -> Fd:
    return open_in_root(root, path.rpartition(b"/")[0] or b"/", os.O_RDONLY | os.O_DIRECTORY)


def _ends_in_dot(path: str) -> bool:
    return path == "." or path.endswith("/.")


def _base_of(fd: Fd) -> bytes:
    """Return the last name of what *fd* is, once all links are followed; empty for a root."""
    path = os.readlink(os.fsencode(fd.proc_path()))
    return path.rpartition(b"/")[2].removesuffix(b" (deleted)")


def _path_in(fd: Fd, root: Fd) -> bytes:
    """Return the path of *fd* below *root*, once all links are followed.

    The kernel gives paths of other mount namespaces from the root of theirs, which is the container's.
    """
    path = os.readlink(os.fsencode(fd.proc_path()))
    top = os.readlink(os.fsencode(root.proc_path()))
    if top != b"/" and path.startswith(top + b"/"):
        return path[len(top) :]
    return path
