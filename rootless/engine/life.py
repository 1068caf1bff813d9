"""What one does to containers that are there: choose them, signal, stop, wait for, start them.

Everything here reads the truth from disk and from the kernel. The processes of a container are the user's own, so
signals go to them directly, from outside the user namespace; the supervisor is only asked for what it alone can do.

Source: podman-stop(1), podman-kill(1), podman-wait(1) of podman 4.3
"""

from __future__ import annotations

import os
import select
import time

from rootless.engine.filters import no_container
from rootless.errors import ContainerStateError, KernelError, NotFound, RootlessError, UsageError
from rootless.kernel.process import pidfd_open, pidfd_send_signal
from rootless.spec import signals
from rootless.store import containers, events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rootless.store.containers import Container
    from rootless.store.layout import Roots

STOP_SECONDS = 10
GONE_SECONDS = 10.0
STUCK_SECONDS = 2.0
FUSE_NAME = "rootless:[fuse]"
ALIVE = ("running", "paused", "stopping")
_TICK_SECONDS = 0.005
_BIRTH_SECONDS = 5.0
UNWANTED = containers.UNWANTED


def find(roots: Roots, text: str) -> Container:
    """Return the container *text*. Raises: NotFound in podman's words; StoreError when it is ambiguous"""
    try:
        return containers.find(roots, text)
    except NotFound:
        raise no_container(text) from None


def latest(roots: Roots) -> Container:
    """Return the container that was made last. Raises: NotFound"""
    every = containers.list_containers(roots)
    if not every:
        raise RootlessError("no such container")
    return every[-1]


def chosen(
    roots: Roots, names: Sequence[str], *, latest_one: bool, every: bool, ignore: bool = False,
    only: Callable[[Container], bool] | None = None,
) -> list[tuple[str, Container]]:  # fmt: skip
    """Return the containers that a command line names, each with the word that is printed for it.

    Raises: UsageError for none or contradicting choices; NotFound
    """
    check_choice(names, latest_one=latest_one, every=every)
    if latest_one:
        one = latest(roots)
        return [(one.id, one)]
    if every:
        return [(c.id, c) for c in containers.list_containers(roots) if only is None or only(c)]
    found: list[tuple[str, Container]] = []
    for name in names:
        try:
            found.append((name, find(roots, name)))
        except NotFound:
            if not ignore:
                raise
    return found


def check_choice(
    names: Sequence[str], *, latest_one: bool, every: bool, filtered: bool = False, by_file: bool = False
) -> None:
    """Raises: UsageError, in podman's words - nothing is chosen, or choices contradict each other"""
    if filtered:
        if names:
            raise UsageError("--filter takes no arguments")
        return
    if by_file and (every or latest_one):
        raise UsageError("--all, --latest, and --cidfile cannot be used together")
    if latest_one and every:
        raise UsageError("--all and --latest cannot be used together")
    if names and every:
        raise UsageError("no arguments are needed with --all")
    if names and latest_one:
        raise UsageError("--latest and containers cannot be used together")
    if not (names or latest_one or every or by_file):
        raise UsageError("you must provide at least one name or id")


def needs_of(container: Container) -> list[str]:
    """Return the ids of the containers that *container* cannot be without."""
    from rootless.plan.namespaces import recorded_needs

    return recorded_needs(container.data.get("options") or {})


def check_here(container: Container, status: str) -> None:
    """Raises: ContainerStateError - it runs on another machine that shares the data root"""
    if status == "remote":
        raise ContainerStateError(
            f"container {container.id} runs on another machine", hint="act on it from the machine that runs it"
        )


def stop(roots: Roots, container: Container, seconds: int | None) -> str:
    """End the container by its stop signal, after *seconds* (None: its own time) by SIGKILL; no policy restarts it.

    Call it before our user namespace is entered: from outside every signal is allowed.

    Blocks:  until its supervisor has ended too
    Returns: a warning when it took SIGKILL, else nothing
    Raises:  ContainerStateError
    """
    status = containers.status(roots, container)
    check_here(container, status)
    if not containers.is_alive(roots, container.id):
        return ""
    run_dir = containers.run_dir(roots, container.id)
    _mark(run_dir, containers.STOPPING)
    warning = ""
    pid = child_of(roots, container)
    if pid:
        asked = int(container.data.get("stop_timeout", STOP_SECONDS) if seconds is None else seconds)
        number = int(container.data.get("stop_signal") or 15)
        if status == "initialized":
            number = 9  # its process waits for START, not for signals
        warning = _end(pid, f"{run_dir}/child", number, asked, container.name)
    supervisor = containers.noted_process(f"{run_dir}/pid")
    if supervisor and not end_within(supervisor, 0, STUCK_SECONDS):
        _kill_servers(supervisor)
        if not end_within(supervisor, 0, GONE_SECONDS):
            end_within(supervisor, 9, GONE_SECONDS)
    events.emit(roots, "container", "stop", id=container.id, name=container.name,
                image=str(container.data.get("image", "")), attributes=container.data.get("labels"))  # fmt: skip
    return warning


def child_of(roots: Roots, container: Container) -> int:
    """Return the container's first process, 0 when it has none; one that is just being made is waited for."""
    until = time.monotonic() + _BIRTH_SECONDS
    note = f"{containers.run_dir(roots, container.id)}/child"
    while True:
        pid = containers.noted_process(note)
        if pid or not containers.is_alive(roots, container.id) or time.monotonic() > until:
            return pid
        found = containers.read(roots, container.id)
        if found is None or found.data.get("state", {}).get("status") == "exited":
            return 0  # between two lives
        time.sleep(_TICK_SECONDS)


def _mark(run_dir: str, name: str) -> None:
    try:
        os.close(os.open(f"{run_dir}/{name}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except FileNotFoundError:
        pass  # it has just ended


def _end(pid: int, note: str, number: int, seconds: int, name: str) -> str:
    if seconds > 0 and containers.noted_process(note) == pid and end_within(pid, number, seconds):
        return ""
    if containers.noted_process(note) == pid and not end_within(pid, 9, STUCK_SECONDS):
        # It waits for a file server that does not answer, and cannot even die before that has gone (fuse(4)).
        _kill_servers(containers.noted_process(note[: -len("child")] + "pid"))
        end_within(pid, 0, GONE_SECONDS)
    if seconds <= 0 or number == 9:
        return ""
    return (
        f"StopSignal {signals.name(number)} failed to stop container {name} in {seconds} seconds, resorting to SIGKILL"
    )


def _kill_servers(supervisor: int) -> None:
    """Kill the FUSE server of a container; its supervisor sees that, and puts everything away."""
    try:
        with open(f"/proc/{supervisor}/task/{supervisor}/children") as file:
            pids = [int(word) for word in file.read().split()]
    except OSError:
        return
    for pid in pids:
        try:
            with open(f"/proc/{pid}/comm") as file:
                if file.read() == f"{FUSE_NAME}\n":
                    os.kill(pid, 9)
        except OSError:
            continue


def end_within(pid: int, number: int, seconds: float) -> bool:
    """Send a signal (0: none) and say whether the process ended in time. Blocks: until then"""
    try:
        with pidfd_open(pid) as process:
            if number:
                pidfd_send_signal(process, number)
            return bool(select.select([process.fileno()], [], [], seconds)[0])
    except KernelError:
        return True  # it is gone


def kill(roots: Roots, container: Container, number: int) -> None:
    """Send a signal to the container's first process; no policy restarts what ends by it.

    Raises: ContainerStateError in podman's words for one that does not run
    """
    status = containers.status(roots, container)
    check_here(container, status)
    if status not in ALIVE:
        raise ContainerStateError(
            f"can only kill running containers. {container.id} is in state {status}: container state improper"
        )
    run_dir = containers.run_dir(roots, container.id)
    _mark(run_dir, UNWANTED)
    pid = containers.noted_process(f"{run_dir}/child")
    if pid:
        try:
            with pidfd_open(pid) as process:
                if containers.noted_process(f"{run_dir}/child") == pid:
                    pidfd_send_signal(process, number)
        except KernelError:
            pass  # it is gone
    events.emit(roots, "container", "kill", id=container.id, name=container.name,
                image=str(container.data.get("image", "")), attributes=container.data.get("labels"))  # fmt: skip


def wait(roots: Roots, container: Container, conditions: Sequence[str], interval_seconds: float) -> int:
    """Return how the container ended, once it is in one of *conditions* (its exit code, -1 where it runs).

    Blocks: until then; a change is seen within *interval_seconds*, an end at once
    Raises: NotFound - it was removed and nobody knows how it ended
    """
    cid = container.id
    while True:
        found = containers.read(roots, cid)
        if found is None:
            code = containers.noted_exit(roots, cid)
            if code is None:
                raise NotFound("container", cid)
            return code
        status = containers.status(roots, found)
        if status == "created" and "stopped" in conditions and not containers.is_alive(roots, cid):
            return 0  # one that was never started is not waited for
        if status in conditions or (status == "exited" and "stopped" in conditions):
            ended = status == "exited"
            return int(found.data["state"].get("exit_code") or 0) if ended else -1
        pid = containers.noted_process(f"{containers.run_dir(roots, cid)}/child")
        if not pid or not end_within(pid, 0, interval_seconds):
            if not pid:
                time.sleep(min(interval_seconds, 0.05))
            continue
        _settled(roots, cid, str(found.data["state"].get("started")))


def _settled(roots: Roots, cid: str, started: str) -> None:
    """Wait until the supervisor has written down the end of the life that began at *started*."""
    until = time.monotonic() + GONE_SECONDS
    while time.monotonic() < until:
        found = containers.read(roots, cid)
        if found is None:
            return
        state = found.data.get("state", {})
        if state.get("started") != started or state.get("status") == "exited":
            return
        if not containers.is_alive(roots, cid):
            return
        time.sleep(_TICK_SECONDS)


def known(roots: Roots, name: str) -> Container | int:
    """Return the container *name* to wait for, or how it ended: one that is gone may still be known by its full id.

    Raises: NotFound
    """
    try:
        return find(roots, name)
    except NotFound:
        code = containers.noted_exit(roots, name) if "/" not in name else None
        if code is None:
            raise
        return code
