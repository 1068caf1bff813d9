"""The kernel's overlay file system, mounted in our user namespace.

Options of mount(2) have one page, and a real image's lowerdir does not fit into fsconfig's 256 bytes
(`lowerdir+` exists from 6.7 only). So the mount is made by mount(2) with names relative to the store
("l/XXXXXXXX"), which also keeps `,` and `:` of a home directory out of the options.

Source: Documentation/filesystems/overlayfs.rst ("userxattr", "Multiple lower layers"); mount(2)
"""

from __future__ import annotations

import os

from rootless.errors import NotSupported
from rootless.kernel.fds import Fd
from rootless.kernel.mounts import MNT_DETACH, MS_NODEV, MS_RDONLY, mount, open_tree, umount2
from rootless.mount.driver import RootfsMount, RootfsRequest, Unsupported, prepare_scratch
from rootless.store.trees import remove_tree

PAGE = 4096
FORM_XATTR = "xattr"  # store/layers.py, which the start-up path does not need
MAX_LAYERS = 500  # fs/overlayfs/params.h OVL_MAX_STACK


class OverlayDriver:
    """Driver `overlay`."""

    name = "overlay"

    def supports(self, request: RootfsRequest) -> Unsupported | None:
        if request.uid_map is not None or request.gid_map is not None:
            return Unsupported("it cannot map ids")
        if len(request.links) > MAX_LAYERS:
            return Unsupported(f"{len(request.links)} layers are more than the kernel's {MAX_LAYERS}")
        return None

    def open(self, request: RootfsRequest) -> RootfsMount:
        """Mount the layers under a fresh upper directory.

        Raises: KernelError(mount) - EINVAL: the upper's file system cannot hold one (overlay, some network file
                systems); EPERM: no overlayfs in user namespaces (before 5.11); ENODEV: no overlayfs
                NotSupported - the layers have whiteouts that this kernel does not read
        """
        if FORM_XATTR in request.forms and not reads_xattr_whiteouts(request.scratch, request.run_dir):
            raise NotSupported("overlay", ("this kernel does not read whiteouts in attributes, which the image has",))
        if not request.links:
            prepare_scratch(request)
            return RootfsMount(open_tree(request.diff), self.name)
        if not request.readonly:
            prepare_scratch(request)
        target = f"{request.run_dir}/root"
        try:
            os.mkdir(target, 0o700)
        except FileExistsError:
            pass
        with WorkingDirectory(f"{request.store}/l"):
            mount("overlay", target, "overlay", MS_NODEV | (MS_RDONLY if request.readonly else 0), options(request))
        try:
            fd = open_tree(target)
        finally:
            umount2(target, MNT_DETACH)
        return RootfsMount(fd, self.name)


def reads_xattr_whiteouts(scratch: str, run_dir: str) -> bool:
    """Say whether overlayfs takes `user.overlay.whiteout` for a whiteout (from 6.7), by mounting one.

    *scratch* is on the store's file system, which has user attributes: it holds such whiteouts.
    """
    top, target = f"{scratch}/.probe", f"{run_dir}/probe"
    try:
        for path in (top, f"{top}/upper", f"{top}/upper/d", f"{top}/lower", f"{top}/lower/d", target):
            os.mkdir(path, 0o700)
        for path in (f"{top}/upper/d/f", f"{top}/lower/d/f"):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.setxattr(f"{top}/upper/d", "user.overlay.opaque", b"x")
        os.setxattr(f"{top}/upper/d/f", "user.overlay.whiteout", b"")
        with WorkingDirectory(top):
            mount("overlay", target, "overlay", MS_RDONLY, b"lowerdir=upper:lower,userxattr")
        try:
            return not os.path.exists(f"{target}/d/f")
        finally:
            umount2(target, MNT_DETACH)
    except OSError:
        return False
    finally:
        remove_tree(top)
        remove_tree(target)


class WorkingDirectory:
    """Work in *path* for the length of a block, and come back whatever the way back is called by then."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._before = Fd(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        os.chdir(self._path)

    def __exit__(self, *_: object) -> None:
        os.fchdir(self._before.fileno())
        self._before.close()


def options(request: RootfsRequest) -> bytes:
    """Return the option text; the working directory must be <store>/l.

    Raises: NotSupported when it is longer than a page
    """
    lower = ":".join(reversed(request.links))
    words = [f"lowerdir={lower}"]
    if not request.readonly:
        words += [f"upperdir={_name(request.diff, request.store)}", f"workdir={_name(request.work, request.store)}"]
        if request.volatile:
            # An unmount writes the upper layer to disk, and somebody waits for it; --rm deletes it anyway. Since 5.10.
            words.append("volatile")
    words.append("userxattr")
    text = os.fsencode(",".join(words))
    if len(text) >= PAGE:
        raise NotSupported("overlay", (f"the options of {len(request.links)} layers need more than one page",))
    return text


def _name(path: str, store: str) -> str:
    if path.startswith(store + "/"):
        return ".." + path[len(store) :]
    # Elsewhere (a node-local disk): escape what the option parser splits at.
    return path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")
