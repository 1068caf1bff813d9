"""Containers on disk: list them, stop them, remove them.

Source: podman-ps(1), podman-rm(1) of podman 4.3
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rootless.errors import ContainerStateError, KernelError, NotFound, UsageError
from rootless.kernel.enter import enter
from rootless.kernel.process import pidfd_open, pidfd_send_signal
from rootless.mount.volumes import remove_all
from rootless.plan.userns import parse_mode
from rootless.spec import signals
from rootless.store import containers, images, layout
from rootless.store.containers import Container
from rootless.store.layout import Roots
from rootless.store.volumes import anonymous_of
from rootless.supervise.orphans import clean_orphans, kill_orphans

STATES = ("created", "running", "exited", "remote")
ALIVE = ("running", "starting")
STOP_SECONDS = 10
_GONE_SECONDS = 10.0
_SHORT_TRIES = 200


@dataclass(frozen=True, slots=True)
class Listed:
    """A container, what it does now, and the words that were given to its image."""

    container: Container
    status: str
    command: tuple[str, ...]


def command_of(data: dict[str, Any], image: images.ImageRecord | None) -> tuple[str, ...]:
    """Return a container's words without the entrypoint that its image put before them."""
    words = tuple([str(word) for word in data.get("args") or ()])
    config = image.config.get("config") if image is not None else None
    entry = tuple((config.get("Entrypoint") or ()) if isinstance(config, dict) else ())
    return words[len(entry) :] if words[: len(entry)] == entry else words


def state_of(roots: Roots, container: Container) -> str:
    """Return `store.containers.status`, and `starting` for one that is being made right now."""
    status = containers.status(roots, container)
    return "starting" if status == "created" and containers.is_alive(roots, container.id) else status


def list_all(roots: Roots) -> list[Listed]:
    """Return all containers, oldest first."""
    known: dict[str, images.ImageRecord | None] = {}
    found = []
    for container in containers.list_containers(roots):
        image_id = str(container.data.get("image_id") or "")
        if image_id not in known:
            known[image_id] = images.get(roots, image_id) if image_id else None
        found.append(Listed(container, state_of(roots, container), command_of(container.data, known[image_id])))
    return found


def find(roots: Roots, text: str) -> Container:
    """Return the container *text*. Raises: NotFound in podman's words; StoreError when it is ambiguous"""
    try:
        return containers.find(roots, text)
    except NotFound:
        error = NotFound("container", text)
        error.args = (f'no container with name or ID "{text}" found: no such container',)
        error.message = error.args[0]
        raise error from None


def filter_of(texts: Iterable[str]) -> Callable[[Listed], bool]:
    """Return what --filter lets through: one of the values of each key.

    Raises: UsageError
    """
    wanted: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if key not in _FILTERS:
            raise UsageError(f"{key} is an invalid filter", hint=f"use {', '.join(sorted(_FILTERS))}")
        if not equals:
            raise UsageError(f'invalid argument "{text}" for "--filter": must be in the format "filter=value"')
        if key == "status" and value not in STATES:
            raise UsageError(f"{value} is not a valid container state")
        wanted.setdefault(key, []).append(value)
    return lambda one: all(any(_FILTERS[key](one, value) for value in values) for key, values in wanted.items())


def _has_label(one: Listed, text: str) -> bool:
    name, equals, value = text.partition("=")
    labels = one.container.data.get("labels") or {}
    return name in labels and (not equals or labels[name] == value)


_FILTERS: dict[str, Callable[[Listed, str], bool]] = {
    "id": lambda one, value: one.container.id.startswith(value),
    "name": lambda one, value: value in one.container.name,
    "status": lambda one, value: one.status == value or (one.status, value) == ("starting", "created"),
    "exited": lambda one, value: one.status == "exited" and str(exit_code(one.container)) == value,
    "ancestor": lambda one, value: (
        value in (str(one.container.data.get("image_id")), str(one.container.data.get("image")))
        or str(one.container.data.get("image_id") or "-").startswith(value)
        or str(one.container.data.get("image") or "").endswith(f"/{value}")
        or str(one.container.data.get("image") or "").endswith(f"/{value}:latest")
    ),
    "label": _has_label,
}


def exit_code(container: Container) -> int:
    """Return how the container ended; 0 while it has not."""
    return int((container.data.get("state") or {}).get("exit_code") or 0)


def moment(text: object) -> datetime | None:
    """Return the time that a record holds."""
    head, _, rest = str(text or "").rstrip("Z").partition(".")
    try:
        found = datetime.fromisoformat(head).replace(tzinfo=UTC)
    except ValueError:
        return None
    return found.replace(microsecond=int(rest[:6].ljust(6, "0"))) if rest.isdigit() else found


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
            remove_all(roots, anonymous_of(roots, container.id))
        containers.discard(roots, container.id)
        if os.path.isdir(containers.run_dir(roots, container.id)):
            containers.discard_run_dir(roots, container.id)
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


def settle(roots: Roots, environ: Mapping[str, str]) -> bool:
    """End what the death of a supervisor left, as every command does that shows or changes containers.

    Returns: whether there was any; this process is in our user namespace then
    Raises:  RootlessError
    """
    orphans = kill_orphans(roots)
    if not orphans:
        return False
    enter(roots.run, parse_mode(""), environ)
    clean_orphans(roots, orphans)
    return True
