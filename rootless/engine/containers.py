"""Containers on disk: stop them, remove them, put away what dead supervisors left. Listing them: engine/listing.py.

Source: podman-rm(1) of podman 4.3
"""

from __future__ import annotations

import os
import select
import time

from rootless.engine.filters import filter_of, no_container
from rootless.engine.listing import ALIVE, Listed, list_all
from rootless.errors import ContainerStateError, KernelError, NotFound
from rootless.kernel.enter import enter
from rootless.kernel.process import pidfd_open, pidfd_send_signal
from rootless.plan.userns import parse_mode
from rootless.spec import signals
from rootless.store import containers, events, layout
from rootless.store.containers import Container
from rootless.store.layout import Roots
from rootless.supervise.orphans import clean_orphans, kill_orphans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Listed", "check_removable", "filter_of", "find", "list_all", "remove", "settle", "state_of", "stop")

STOP_SECONDS = 10
_GONE_SECONDS = 10.0
_SHORT_TRIES = 200


def state_of(roots: Roots, container: Container) -> str:
    """Return `store.containers.status`, and `starting` for one that is being made right now."""
    status = containers.status(roots, container)
    return "starting" if status == "created" and containers.is_alive(roots, container.id) else status


def find(roots: Roots, text: str) -> Container:
    """Return the container *text*. Raises: NotFound in podman's words; StoreError when it is ambiguous"""
    try:
        return containers.find(roots, text)
    except NotFound:
        raise no_container(text) from None


def stop(roots: Roots, container: Container, seconds: int | None) -> str:
    """End the container as its stop signal does, after *seconds* (None: its own time) by SIGKILL.

    Call it before our user namespace is entered: from outside every signal is allowed.

    Blocks:  until its supervisor has ended too
    Returns: a warning when it took SIGKILL, else nothing
    Raises:  ContainerStateError
    """
    if containers.status(roots, container) == "remote":
        raise ContainerStateError(
            f"container {container.id} runs on another machine", hint="remove it from the machine that runs it"
        )
    run_dir = containers.run_dir(roots, container.id)
    warning = ""
    pid = _child(roots, container, run_dir)
    if pid:
        asked = int(container.data.get("stop_timeout", STOP_SECONDS) if seconds is None else seconds)
        number = int(container.data.get("stop_signal") or 15)
        warning = _end(pid, f"{run_dir}/child", number, asked, container.name)
    supervisor = containers.noted_process(f"{run_dir}/pid")
    if supervisor and not _end_within(supervisor, 0, _GONE_SECONDS):
        _end_within(supervisor, 9, _GONE_SECONDS)
    return warning


def _child(roots: Roots, container: Container, run_dir: str) -> int:
    """Return the container's first process; one that is just starting is waited for."""
    for _ in range(_SHORT_TRIES):
        pid = containers.noted_process(f"{run_dir}/child")
        if pid or not containers.is_alive(roots, container.id):
            return pid
        time.sleep(0.01)
    return 0


def _end(pid: int, note: str, number: int, seconds: int, name: str) -> str:
    if seconds > 0 and containers.noted_process(note) == pid and _end_within(pid, number, seconds):
        return ""
    if containers.noted_process(note) == pid:
        _end_within(pid, 9, _GONE_SECONDS)
    if seconds <= 0:
        return ""
    return (
        f"StopSignal {signals.name(number)} failed to stop container {name} in {seconds} seconds, resorting to SIGKILL"
    )


def _end_within(pid: int, number: int, seconds: float) -> bool:
    """Send a signal (0: none) and say whether the process ended in time."""
    try:
        with pidfd_open(pid) as process:
            if number:
                pidfd_send_signal(process, number)
            return bool(select.select([process.fileno()], [], [], seconds)[0])
    except KernelError:
        return True  # it is gone


def remove(roots: Roots, container: Container, *, volumes: bool) -> None:
    """Delete a container that does not run, with *volumes* its anonymous ones too. Call it inside our user namespace.

    Raises: StoreError
    """
    held = layout.lock_shared(roots)
    try:
        # The supervisor of one that was started with --rm may have been faster: nothing here needs it to be there.
        if volumes or container.auto_remove:
            from rootless.mount.volumes import remove_all
            from rootless.store.volumes import anonymous_of

            remove_all(roots, anonymous_of(roots, container.id))
        containers.discard(roots, container.id)
        if os.path.isdir(containers.run_dir(roots, container.id)):
            containers.discard_run_dir(roots, container.id)
        events.emit(roots, "container", "remove", id=container.id, name=container.name,
                    image=str(container.data.get("image") or ""), attributes=container.data.get("labels"))  # fmt: skip
    finally:
        held.close()


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


def _leftovers(roots: Roots) -> bool:
    """Say whether something half made or half deleted waits to be put away by whoever has entered."""
    found = containers.leftovers(roots)
    for _, lock in found:
        lock.close()
    return bool(found)


def settle(roots: Roots, environ: Mapping[str, str]) -> bool:
    """End what the death of a supervisor left, as every command does that shows or changes containers.

    Returns: whether there was any; this process is in our user namespace then
    Raises:  RootlessError
    """
    orphans = kill_orphans(roots)
    if not orphans and not _leftovers(roots):
        return False
    enter(roots.run, parse_mode(""), environ)
    clean_orphans(roots, orphans)
    return True
