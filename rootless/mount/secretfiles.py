"""Files with secrets: on a tmpfs of their own, which no path of the host leads to and no disk holds.

Source: podman-run(1) "--secret"; fsopen(2), open_tree(2)
"""

from __future__ import annotations

import os

from rootless.kernel.fds import Fd, open_fd, write_all
from rootless.kernel.mounts import (
    MNT_DETACH,
    fsconfig_create,
    fsconfig_string,
    fsmount,
    fsopen,
    move_mount,
    open_tree,
    umount2,
)  # fmt: skip
from rootless.plan import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.plan.secrets import SecretFile


def open_secrets(
    files: tuple[SecretFile, ...], place: str, outer: Callable[[int, int], tuple[int, int]]
) -> tuple[tuple[str, Fd], ...]:
    """Return detached mounts for the files, by the destinations that plan.secrets.places names.

    Shape:  *place* is a directory of ours where a mount can be made for a moment; *outer* translates ids of the
            container to ours
    Raises: KernelError
    Owner:  the caller closes the descriptors
    """
    with fsopen("tmpfs") as fs:
        for key, value in (("source", "secrets"), ("mode", "755"), ("size", "64m")):
            fsconfig_string(fs, key, value)
        fsconfig_create(fs)
        tree = fsmount(fs)
    found: list[tuple[str, Fd]] = []
    with tree:
        # A subtree of a mount can be cloned only while the mount is attached (open_tree(2) EINVAL).
        move_mount(tree, None, place)
        try:
            inside = f"{defaults.SECRETS}/"
            os.mkdir(f"{place}/run", 0o755)
            os.chown(f"{place}/run", *outer(0, 0))
            os.chmod(f"{place}/run", 0o755)
            for at, file in enumerate(files):
                if file.target.startswith(inside):
                    _write(f"{place}/run", file.target[len(inside) :], file, outer)
                else:
                    _write(place, str(at), file, outer)
                    found.append((file.target, open_tree(f"{place}/{at}")))
            if any([file.target.startswith(inside) for file in files]):
                found.append((defaults.SECRETS, open_tree(f"{place}/run")))
        except BaseException:
            for _, fd in found:
                fd.close()
            raise
        finally:
            umount2(place, MNT_DETACH)
    return tuple(found)


def _write(directory: str, name: str, file: SecretFile, outer: Callable[[int, int], tuple[int, int]]) -> None:
    parts = [part for part in name.split("/") if part not in ("", ".", "..")]
    path = directory
    for part in parts[:-1]:
        path += f"/{part}"
        if not os.path.isdir(path):
            os.mkdir(path, 0o755)
            os.chmod(path, 0o755)
            os.chown(path, *outer(0, 0))
    with open_fd(f"{path}/{parts[-1]}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600) as out:
        write_all(out, file.content)
        os.fchown(out.fileno(), *outer(file.uid, file.gid))
        os.fchmod(out.fileno(), file.mode & 0o7777)
