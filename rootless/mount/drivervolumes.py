"""Volumes whose driver options ask for a mount: tmpfs, ramfs, overlay, or a directory elsewhere.

A tmpfs volume is one file system for all containers that use it at one time: who comes later takes it from the
mount namespace of a container that has it already. It is gone with the last of them, as it is with podman.

Source: podman-volume-create(1) "--opt"; open_tree(2), setns(2)
"""

from __future__ import annotations

import os

from rootless.errors import KernelError, RootlessError, UsageError
from rootless.kernel.fds import Fd, open_fd
from rootless.kernel.mounts import (
    fsconfig_create,
    fsconfig_flag,
    fsconfig_string,
    fsmount,
    fsopen,
    mount_setattr,
    open_tree,
)  # fmt: skip
from rootless.kernel.namespaces import CLONE_NEWNS, assert_single_threaded, setns
from rootless.plan import volumeoptions
from rootless.store import containers, volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.store.layout import Roots

EXIT_MOUNT = 126


def needs_mount(record: dict[str, Any]) -> bool:
    """Say whether the volume with this record is more than its directory."""
    options = record.get("options") or {}
    return bool(volumeoptions.parse(options).type)


def open_volume(roots: Roots, name: str) -> tuple[Fd, bool] | None:
    """Return the volume's file system as a detached mount, and whether it is a new, empty one; None for a plain one.

    Blocks: no
    Raises: RootlessError (126), with the volume's name
    Owner:  the caller closes the descriptor
    """
    record = volumes.read_volume(roots, name)
    if not needs_mount(record):
        return None
    options = volumeoptions.parse(record["options"])
    attrs, words = volumeoptions.mount_words(options)
    try:
        if options.type == "bind":
            tree = open_tree(options.device, recursive="bind" not in options.words)
            mount_setattr(tree, attr_set=attrs)
            return tree, False
        shared = _shared(roots, name) if options.type != "overlay" else None
        if shared is not None:
            return shared, False
        with fsopen(options.type) as fs:
            fsconfig_string(fs, "source", options.device or options.type)
            for word in (*words, *(("userxattr",) if options.type == "overlay" else ())):
                key, equals, value = word.partition("=")
                if equals:
                    fsconfig_string(fs, key, value)
                else:
                    fsconfig_flag(fs, key)
            fsconfig_create(fs)
            return fsmount(fs, attrs), options.type != "overlay"
    except (KernelError, UsageError) as error:
        raise RootlessError(f"mounting volume {name}: {error.message}", hint=error.hint, code=EXIT_MOUNT) from error


def _shared(roots: Roots, name: str) -> Fd | None:
    """Return the file system of a volume from a container that has it mounted."""
    for container in containers.list_containers(roots):
        for entry in container.data.get("mounts") or ():
            if entry[0] == name and containers.is_alive(roots, container.id):
                pid = containers.noted_process(f"{containers.run_dir(roots, container.id)}/child")
                found = cloned_from(pid, entry[2]) if pid else None
                if found is not None:
                    return found
    return None


def cloned_from(pid: int, path: str) -> Fd | None:
    """Return a detached copy of the mount at *path* in the mount namespace of *pid*; None where it has none.

    A mount can be cloned only by who is in its mount namespace (open_tree(2) EINVAL): we go there and come back.
    """
    assert_single_threaded()
    try:
        with (
            open_fd("/proc/self/ns/mnt", os.O_RDONLY) as ours,
            open_fd("/proc/self/cwd", os.O_PATH | os.O_DIRECTORY) as here,
            open_fd(f"/proc/{pid}/ns/mnt", os.O_RDONLY) as theirs,
        ):
            setns(theirs, CLONE_NEWNS)
            try:
                return open_tree(path)
            finally:
                setns(ours, CLONE_NEWNS)
                os.fchdir(here.fileno())
    except KernelError:
        return None
