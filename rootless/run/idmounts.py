"""Mounts whose owners are mapped (`uidMappings` of a mount, the options idmap and ridmap), made before the container.

The kernel lets only those map owners who have CAP_SYS_ADMIN over the file system: the machine's root, or for what was
mounted in our user namespace, its root. It is tried, and what the kernel says goes into the error.

Source: runtime-spec config.md "Mounts"; mount_setattr(2) "ID-mapped mounts"
"""

from __future__ import annotations

from rootless.errors import KernelError, SpecError
from rootless.kernel.enter import nested_namespace
from rootless.kernel.fds import Fd
from rootless.kernel.mounts import MOUNT_ATTR_IDMAP, mount_setattr, open_tree
from rootless.run.bundle import is_mapped
from rootless.spec import mountopts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.linux import IdMapping
    from rootless.spec.runtime import Spec

SLOT = "mount:"


def open_mapped(spec: Spec, bundle: str) -> list[tuple[str, Fd]]:
    """Return the mapped mounts of *spec*, detached, as slots by destination; a mount without maps has the container's.

    Owner:  the caller closes the descriptors
    Raises: SpecError with the pointer of the mount; none is open then
    """
    made: list[tuple[str, Fd]] = []
    try:
        for at, mount in enumerate(spec.mounts):
            if not is_mapped(mount):
                continue
            options = mountopts.parse(mount.options)
            pointer = f"/mounts/{at}"
            linux = spec.linux
            uids = mount.uid_mappings or (linux.uid_mappings if linux else ())
            gids = mount.gid_mappings or (linux.gid_mappings if linux else ())
            source = mount.source or ""
            try:
                made.append((SLOT + mount.destination, _mapped(
                    source if source.startswith("/") else f"{bundle}/{source}", options, uids, gids)))  # fmt: skip
            except KernelError as error:
                raise SpecError(
                    f"id-mapped mount of {source}: {error.message}: the kernel maps owners only for who mounted the "
                    "file system", pointer=pointer,
                ) from None  # fmt: skip
    except BaseException:
        for _, fd in made:
            fd.close()
        raise
    return made


def _mapped(
    source: str, options: mountopts.MountOptions, uids: tuple[IdMapping, ...], gids: tuple[IdMapping, ...]
) -> Fd:
    tree = open_tree(source, recursive=options.recursive)
    try:
        with nested_namespace(_line(uids), _line(gids)) as userns:
            mount_setattr(tree, attr_set=MOUNT_ATTR_IDMAP, userns=userns, recursive=options.idmap_recursive)
    except BaseException:
        tree.close()
        raise
    return tree


def _line(mappings: tuple[IdMapping, ...]) -> str:
    return " ".join([f"{m.container_id} {m.host_id} {m.size}" for m in mappings])
