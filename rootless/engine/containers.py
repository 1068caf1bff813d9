"""Containers on disk: stop them, remove them, put away what dead supervisors left. Listing them: engine/listing.py.

Source: podman-rm(1) of podman 4.3
"""

from __future__ import annotations

import os

from rootless.engine.filters import filter_of
from rootless.engine.life import find, needs_of, stop
from rootless.engine.listing import ALIVE, Listed, list_all
from rootless.errors import ContainerStateError, StoreError
from rootless.kernel.fds import is_locked
from rootless.store import atomic, containers, events, layout
from rootless.store.containers import Container
from rootless.store.layout import Roots
from rootless.supervise.orphans import clean_orphans, kill_orphans, put_away_lost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rootless.errors import RootlessError

__all__ = (
    "Listed",
    "check_removable",
    "filter_of",
    "find",
    "in_order",
    "list_all",
    "remove",
    "settle",
    "state_of",
    "stop",
)


def state_of(roots: Roots, container: Container) -> str:
    """Return `store.containers.status`, and `starting` for one that is being made right now."""
    status = containers.status(roots, container)
    return "starting" if status == "created" and containers.is_alive(roots, container.id) else status


def remove(roots: Roots, container: Container, *, volumes: bool, environ: Mapping[str, str] | None = None) -> bool:
    """Delete a container that does not run, with *volumes* its anonymous ones too; say whether we are inside now.

    Its files may have owners of our user namespace. Where *environ* is given we are outside, and most often that will
    do: a namespace takes longer to make than a few files of the caller's own to delete.

    Raises: StoreError
    """
    held = layout.lock_shared(roots)
    inside = environ is None
    try:
        if environ is not None and (volumes or container.auto_remove):
            inside = _enter(roots, environ)
        # The supervisor of one that was started with --rm may have been faster: nothing here needs it to be there.
        if volumes or container.auto_remove:
            from rootless.mount.volumes import remove_all
            from rootless.store.volumes import anonymous_of

            remove_all(roots, anonymous_of(roots, container.id))
        try:
            containers.discard(roots, container.id)
        except StoreError:
            if inside or environ is None:
                raise
            inside = _enter(roots, environ)
            containers.sweep(roots, containers.leftovers(roots))
        if os.path.isdir(containers.run_dir(roots, container.id)):
            containers.discard_run_dir(roots, container.id)
        events.emit(roots, "container", "remove", id=container.id, name=container.name,
                    image=str(container.data.get("image") or ""), attributes=container.data.get("labels"))  # fmt: skip
    finally:
        held.close()
    return inside


def _enter(roots: Roots, environ: Mapping[str, str]) -> bool:
    from rootless.kernel.enter import enter
    from rootless.plan.userns import parse_mode

    enter(roots.run, parse_mode(""), environ)
    return True


def check_removable(roots: Roots, container: Container) -> None:
    """Raises: ContainerStateError in podman's words for one that runs"""
    state = state_of(roots, container)
    if state in (*ALIVE, "remote"):
        raise ContainerStateError(
            f"cannot remove container {container.id} as it is {'running' if state != 'starting' else state} - running "
            "or paused containers cannot be removed without force: container state improper",
            hint=f"rootless rm -f {container.name}",
            code=2,
        )


def in_order(
    roots: Roots, chosen: Sequence[tuple[str, Container]], *, depend: bool = False
) -> tuple[list[tuple[str, Container]], list[RootlessError]]:
    """Return *chosen* in an order in which they can be removed: first those that need others.

    Those that a container needs which is not chosen are left out, each with an error; with *depend* such a container
    is chosen too.
    """
    given = {container.id: (word, container) for word, container in chosen}
    out: dict[str, tuple[str, Container]] = {}
    errors: list[RootlessError] = []

    def visit(word: str, container: Container) -> bool:
        if container.id in out:
            return True
        others = _dependents(roots, container)
        held = [other.id for other in others if other.id not in given]
        if held and not depend:
            errors.append(ContainerStateError(
                f"container {container.id} has dependent containers which must be removed before it: "
                f"{', '.join(held)}: container already exists",
                hint="--depend removes them too",
            ))  # fmt: skip
            return False
        for other in others:
            visit(*given.get(other.id, (other.id, other)))
        out[container.id] = (word, container)
        return True

    for word, container in chosen:
        visit(word, container)
    return list(out.values()), errors


def _dependents(roots: Roots, container: Container) -> list[Container]:
    """Return the containers that need *container*."""
    found = []
    mark = container.id.encode()
    for cid in containers.ids_of(roots):
        # Its own record apart, the id stands in few: most are not worth a decoder.
        text = atomic.read_file(f"{containers.data_dir(roots, cid)}/record.json") if cid != container.id else None
        other = containers.read(roots, cid) if text and mark in text else None
        if other is not None and container.id in needs_of(other):
            found.append(other)
    return found


def _leftovers(roots: Roots) -> bool:
    """Say whether something half made or half deleted waits to be put away by whoever has entered."""
    found = containers.leftovers(roots)
    for _, lock in found:
        lock.close()
    if found:
        return True
    staging = f"{roots.data}/{layout.STAGING}"
    try:
        return any([name.endswith(".lock") and not is_locked(f"{staging}/{name}") for name in os.listdir(staging)])
    except OSError:
        return False  # it is not there, or its maker has just finished


def settle(roots: Roots, environ: Mapping[str, str], *, lost: Sequence[str] = ()) -> bool:
    """End what the death of a supervisor left, as every command does that shows or changes containers.

    Shape:   *lost* are containers whose record says that they run while nothing else is left of them (listing.py)
    Returns: whether there was any; this process is in our user namespace then
    Raises:  RootlessError
    """
    orphans = kill_orphans(roots)
    if not orphans and not lost and not _leftovers(roots):
        return False
    _enter(roots, environ)
    clean_orphans(roots, orphans)
    put_away_lost(roots, lost)
    return True
