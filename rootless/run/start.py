"""Start a container that another process created.

What is needed is in plan.json; config.json is only decoded where it has something to do now (poststart
hooks, a seccomp listener), because engines wait for this verb.

Source: runtime-spec runtime.md#start, #lifecycle
"""

from __future__ import annotations

import errno
import posix

from rootless.errors import KernelError, LaunchError, RootlessError
from rootless.kernel.fds import Fd, read_file, recv_fds, send_fds
from rootless.plan.wire import MESSAGE_BYTES, Message, decode_message, encode_message
from rootless.run import state
from rootless.run.state import NOTIFY_DIRECTORY, ContainerState
from rootless.spec import state as life
from rootless.spec.jsontext import loads
from rootless.spec.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.spec.runtime import Hooks, Spec


def summary(root: str, container: str) -> dict[str, Any]:
    """Return what create noted about the plan; empty where it is missing."""
    try:
        value = loads(read_file(f"{state.directory(root, container)}/plan.json"))
    except (RootlessError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def saved_spec(root: str, container: str) -> Spec | None:
    """Return the configuration as it was at create, None where create did not get that far."""
    from rootless.run.bundle import parse_spec

    try:
        return parse_spec(read_file(f"{state.directory(root, container)}/config.json"))
    except RootlessError:
        return None


def poststart(of: Hooks | None, now: ContainerState) -> None:
    """Run the poststart hooks. Raises: LaunchError"""
    if of is not None and of.poststart:
        from rootless.run import hooks

        hooks.run_hooks("poststart", of.poststart, now.document(life.RUNNING))


def start_container(root: str, now: ContainerState, notify_socket: str = "") -> ContainerState:
    """Start the container; return its state.

    Blocks: until execve has happened, or failed; with *notify_socket* until the program says that it is ready
    Raises: ContainerStateError, ExecNotFound, ExecNotExecutable, LaunchError
    """
    path = state.directory(root, now.id)
    if now.status != life.CREATED or state.open_process(now) is None:
        life.advance(state.observe(root, now), life.VERB_START)
    plan = summary(root, now.id)
    spec = saved_spec(root, now.id) if plan.get("notifies", True) or "poststart" in plan.get("hooks", ()) else None
    try:
        sync = state.connect_start(path)
    except KernelError as error:
        if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
            raise LaunchError("cannot start a container that has been started", code=1) from None
        raise
    notify: Fd | None = None
    if notify_socket and posix.access(f"{path}/{NOTIFY_DIRECTORY}", posix.F_OK):
        from rootless.run.notify import open_notify

        notify = open_notify(path)
    with sync:
        send_fds(sync, encode_message(Message("START")))
        _until_exec(sync, plan, lambda fd: _hand_over(fd, spec, root, now))
    now = replace(now, status=life.RUNNING)
    state.save(root, now)
    try:
        poststart(spec.hooks if spec is not None else None, now)
    except RootlessError:
        from rootless.run.delete import delete

        delete(root, now.id, force=True)
        raise
    pidfd = state.open_process(now) if notify is not None else None
    if notify is not None and pidfd is not None:
        from rootless.run.notify import wait_ready

        with notify, pidfd:
            wait_ready(notify, notify_socket, pidfd, now.pid)
    return now


def _hand_over(notify: Fd, spec: Spec | None, root: str, now: ContainerState) -> None:
    from rootless.run.filters import seccomp_program
    from rootless.run.listener import send_listener

    linux = spec.linux if spec is not None else None
    send_listener(notify, seccomp_program(linux.seccomp if linux is not None else None, root), now)


def _until_exec(sync: Fd, plan: dict[str, Any], on_seccomp: Callable[[Fd], None]) -> None:
    while True:
        data, fds = recv_fds(sync, MESSAGE_BYTES, 1)
        if not data:
            return
        message = decode_message(data)
        if message.kind == "SECCOMP_FD" and fds:
            with fds.pop() as fd:
                on_seccomp(fd)
            send_fds(sync, encode_message(Message("ACK")))
        elif message.kind == "ERROR":
            raise _start_error(plan, message)
        for fd in fds:
            fd.close()


def _start_error(plan: dict[str, Any], message: Message) -> RootlessError:
    from rootless.run.handshake import execve_error, hook_error

    reason = posix.strerror(message.a).lower()
    try:
        kind, why = plan["ops"][message.op]
    except (LookupError, TypeError, ValueError):
        kind, why = "", f"step {message.op}"
    if kind == "EXEC":
        return execve_error(why, message.a, reason)
    if kind == "HOOK":
        return hook_error(why, message.a, reason)
    return LaunchError(f"{why}: {reason}", code=1)
