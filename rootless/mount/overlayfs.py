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

PAGE = 4096
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
        """
        if not request.links:
            prepare_scratch(request)
            return RootfsMount(open_tree(request.diff), self.name)
        if not request.readonly:
            prepare_scratch(request)
        here = Fd(os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        target = f"{request.run_dir}/root"
        try:
            os.mkdir(target, 0o700)
        except FileExistsError:
            pass
        try:
            os.chdir(f"{request.store}/l")
            mount("overlay", target, "overlay", MS_NODEV | (MS_RDONLY if request.readonly else 0), options(request))
        finally:
            os.fchdir(here.fileno())
            here.close()
        try:
            fd = open_tree(target)
        finally:
            umount2(target, MNT_DETACH)
        return RootfsMount(fd, self.name)


def options(request: RootfsRequest) -> bytes:
    """Return the option text; the working directory must be <store>/l.

    Raises: NotSupported when it is longer than a page
    """
    lower = ":".join(reversed(request.links))
    words = [f"lowerdir={lower}"]
    if not request.readonly:
        words += [f"upperdir={_name(request.diff, request.store)}", f"workdir={_name(request.work, request.store)}"]
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
