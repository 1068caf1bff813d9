"""tmpfs mounts that begin with what the image has at their place (option tmpcopyup, podman's --tmpfs).

The file system is made detached and filled before the container exists: its root is only a descriptor
to us, and everything in it is looked up below that.

Source: podman-run(1) "--tmpfs", "tmpcopyup"; fsopen(2)
"""

from __future__ import annotations

import errno
import os

from rootless.errors import KernelError
from rootless.kernel.fds import Fd
from rootless.kernel.mounts import fsconfig_create, fsconfig_flag, fsconfig_string, fsmount, fsopen
from rootless.kernel.paths import open_in_root
from rootless.spec import mountopts
from rootless.store import copytree, merged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.runtime import Spec


def prepared_tmpfs(spec: Spec, root: Fd) -> tuple[tuple[str, Fd], ...]:
    """Return detached mounts for those tmpfs of *spec* whose place in *root* holds something, by destination.

    Owner:  the caller closes the descriptors
    Raises: KernelError; nothing is left then
    """
    made: list[tuple[str, Fd]] = []
    try:
        for mount in spec.mounts:
            if mount.type != "tmpfs" or "tmpcopyup" not in mount.options:
                continue
            try:
                source = open_in_root(root, mount.destination.encode("utf-8", "surrogateescape"),
                                      os.O_RDONLY | os.O_DIRECTORY)  # fmt: skip
            except KernelError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue
                raise
            if not os.listdir(source.fileno()):
                source.close()
                continue
            made.append((mount.destination, _filled(mountopts.parse(mount.options).data, source)))
    except BaseException:
        for _, fd in made:
            fd.close()
        raise
    return tuple(made)


def _filled(words: tuple[str, ...], source: Fd) -> Fd:
    with fsopen("tmpfs") as fs:
        fsconfig_string(fs, "source", "tmpfs")
        for word in words:
            key, equals, value = word.partition("=")
            if equals:
                fsconfig_string(fs, key, value)
            else:
                fsconfig_flag(fs, key)
        fsconfig_create(fs)
        tree = fsmount(fs)
    with merged.Merged((source,)) as image, open_in_root(tree, b".", os.O_RDONLY | os.O_DIRECTORY) as content:
        copytree.copy_tree(image, content)
    return tree
