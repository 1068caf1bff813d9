"""The seam of storage: layers in, a mounted root file system out, as a detached mount.

A driver says with a reason why it cannot serve a request, before anything is touched (`supports`) or
when the kernel refuses (`open` raises); `open_root` takes the first that works when it is used.

Shape:   a `RootfsMount` is a descriptor and nothing else: the stage attaches it where the container's
         root belongs, and it is gone when its last descriptor and namespace are gone
"""

from __future__ import annotations

import os

from rootless.errors import KernelError, NotSupported, PeerGone, RootlessError, UsageError
from rootless.kernel.fds import Fd, open_fd
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from rootless.spec.idmap import IdMap

    class MountDriver(Protocol):
        """One way to mount layers."""

        name: str

        def supports(self, request: RootfsRequest) -> Unsupported | None:
            """Return why this driver cannot serve *request*; None if it may. Cheap, changes nothing."""

        def open(self, request: RootfsRequest) -> RootfsMount:
            """Mount. Raises: RootlessError; nothing is left then."""


ORDER = ("overlay", "fuse", "copy")
ALIASES = {"vfs": "copy", "overlay2": "overlay", "fuse-overlayfs": "fuse"}


@record
class Unsupported:
    """Why a driver is not available here."""

    reason: str
    hint: str = ""


@record
class RootfsRequest:
    """What is to be mounted.

    Shape: *store* is the data root, *links* names below <store>/l, base first; *scratch* is a directory of this
           container for the writable layer (diff, work, merged are made in it); *readonly* mounts no upper.
           *uid_map* and *gid_map*, where given, are the container's ids in terms of ours; *volatile*: nobody
           will want the writable layer after a crash; *squashed*: some layer
           has owners that were recorded instead of set; *forms*: how the layers say "not there" (store/layers.py)
    """

    store: str
    links: tuple[str, ...]
    scratch: str
    run_dir: str
    readonly: bool = False
    uid_map: IdMap | None = None
    gid_map: IdMap | None = None
    squashed: bool = False
    volatile: bool = False
    forms: tuple[str, ...] = ()

    @property
    def layer_paths(self) -> tuple[str, ...]:
        return tuple([f"{self.store}/l/{link}" for link in self.links])

    @property
    def diff(self) -> str:
        return f"{self.scratch}/diff"

    @property
    def work(self) -> str:
        return f"{self.scratch}/work"


class RootfsMount:
    """A mounted root.

    Owner: `close` ends it: the server is told by its exit descriptor, the mount goes with its last descriptor
    """

    def __init__(
        self, fd: Fd, driver: str, *, server: Fd | None = None, server_pid: int = 0, exit_fd: Fd | None = None,
        ready: Fd | None = None, log: Fd | None = None,
    ) -> None:  # fmt: skip
        self.fd = fd
        self.driver = driver
        self.reason = ""
        self.server = server
        self.server_pid = server_pid
        self.exit_fd = exit_fd
        self.ready = ready
        self.log = log

    def wait_ready(self) -> None:
        """Return when the file system answers. The kernel queues requests until then, so few need to wait.

        Raises: PeerGone: the server ended before; the error has its last lines
        """
        if self.ready is None:
            return
        with self.ready as ready:
            self.ready = None
            if os.read(ready.fileno(), 1):
                return
        said = b""
        if self.log is not None:
            os.set_blocking(self.log.fileno(), False)
            try:
                said = os.read(self.log.fileno(), 4096)
            except OSError:
                pass
        raise PeerGone("the FUSE server", said.decode("utf-8", "replace"))

    def close(self) -> None:
        for fd in (self.fd, self.exit_fd, self.ready, self.server, self.log):
            if fd is not None:
                fd.close()


def driver_named(name: str) -> MountDriver:
    """Return one driver. Raises: UsageError for a name that is none"""
    name = ALIASES.get(name, name)
    if name == "overlay":
        from rootless.mount.overlayfs import OverlayDriver

        return OverlayDriver()
    if name == "fuse":
        from rootless.mount.fuse import FuseDriver

        return FuseDriver()
    if name == "copy":
        from rootless.mount.copy import CopyDriver

        return CopyDriver()
    raise UsageError(f"unknown storage driver {name!r}", hint="one of auto, overlay, fuse, copy")


def open_root(wanted: str, request: RootfsRequest, *, refused: dict[str, str] | None = None) -> RootfsMount:
    """Mount with the driver *wanted*, or for `auto` with the first that works.

    Shape:   *refused* has reasons that were found earlier (a probe), by driver
    Raises:  NotSupported with every driver's reason; UsageError
    """
    wanted = ALIASES.get(wanted, wanted) or "auto"
    reasons: list[str] = []
    known = refused or {}
    for name in ORDER if wanted == "auto" else (wanted,):
        driver = driver_named(name)
        if wanted == "auto" and known.get(name):
            reasons.append(f"{name}: {known[name]}")
            continue
        unsupported = driver.supports(request)
        if unsupported is not None:
            if wanted != "auto":
                raise NotSupported(f"storage driver {name}", (unsupported.reason,), hint=unsupported.hint or None)
            reasons.append(f"{name}: {unsupported.reason}")
            continue
        try:
            mounted = driver.open(request)
        except (KernelError, NotSupported) as error:
            if wanted != "auto":
                raise
            reasons.append(f"{name}: {error}")
            continue
        mounted.reason = "; ".join(reasons) or ("asked for" if wanted != "auto" else "the first that works")
        return mounted
    raise NotSupported("no storage driver works", tuple(reasons), hint="`rootless doctor` says what is missing")


def prepare_scratch(request: RootfsRequest) -> None:
    """Make the writable layer's directories; its top gets owner, mode and times of the top layer's.

    The merged root has the attributes of the upper directory (overlayfs.rst), so an upper made with our
    own mode would change "/" of the image.

    Raises: RootlessError
    """
    try:
        for path in (request.diff, request.work):
            try:
                os.mkdir(path, 0o755)
            except FileExistsError:
                continue
            os.chmod(path, 0o755)
        if request.links:
            top = os.stat(request.layer_paths[-1])
            os.chown(request.diff, top.st_uid, top.st_gid)
            os.chmod(request.diff, top.st_mode & 0o7777)
    except OSError as error:
        raise RootlessError(
            f"make the container's layer in {request.scratch}: {os.strerror(error.errno or 0).lower()}"
        ) from error


def detached_directory(path: str) -> Fd:
    """Return the directory *path* as a detached mount of its own (for --rootfs and for the copy driver)."""
    from rootless.kernel.mounts import open_tree

    with open_fd(path, os.O_PATH | os.O_DIRECTORY) as directory:
        return open_tree("", directory=directory, recursive=True)
