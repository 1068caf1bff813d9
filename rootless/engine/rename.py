"""Give a container another name: its record, and the claim in names/; one of both names finds it at every moment.

Source: podman-rename(1) of podman 4.3
"""

from __future__ import annotations

from rootless.engine.listing import Listed
from rootless.errors import StoreError, UsageError
from rootless.store import containers, events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.store.layout import Roots

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_REST = _FIRST | frozenset("_.-")


def check_name(name: str) -> None:
    """Raises: UsageError in podman's words for what cannot be a name"""
    if not name or name[0] not in _FIRST or not _REST.issuperset(name):
        raise UsageError("names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument")


def rename(roots: Roots, one: Listed, name: str) -> None:
    """Rename the container, running or not; its host name stays.

    Raises: StoreError - somebody has the name; NotFound
    """
    check_name(name)
    if name == one.name:
        return
    if containers.rename(roots, one.id, name) != one.id:
        raise StoreError(
            f"renaming container {one.id}: name {name} already in use, cannot rename container {one.id}: container "
            "already exists"
        )
    events.emit(roots, "container", "rename", id=one.id, name=name, image=one.image)
