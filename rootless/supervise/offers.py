"""What the supervisor of one container offers on its control socket, put together when trio takes over."""

from __future__ import annotations

import os
import posix
import time

from rootless.errors import ContainerStateError, UsageError
from rootless.kernel.fds import Fd
from rootless.kernel.paths import read_in_root
from rootless.plan.secrets import with_variables
from rootless.plan.translate import translate
from rootless.run.create import Created
from rootless.spec.record import replace
from rootless.store import containers, events
from rootless.supervise import health
from rootless.supervise.checks import Checks
from rootless.supervise.control import Service
from rootless.supervise.guard import keep_run_dir
from rootless.supervise.health import rules_of
from rootless.supervise.session import UNWANTED
from rootless.supervise.tenant import Tenancy, spawn_tenant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.spec.runtime import Process
    from rootless.supervise.control import Client
    from rootless.supervise.health import Rules
    from rootless.supervise.launch import Launched
    from rootless.supervise.prepare import Prepared
    from rootless.supervise.session import Life
    from rootless.supervise.supervision import Supervision


def service_for(life: Life, p: Prepared, launched: Launched) -> Service:
    """Return the service of a container that runs."""
    basis, supervision = life.basis, launched.supervision
    plan = basis.identity.plan
    inner_uids = plan.inner_uids
    gids = plan.inner_gids or plan.outer_gids
    tenancy = Tenancy(supervision.pid, supervision.pidfd, life.seccomp, plan.setgroups, gids.lookup(5) is not None,
                      life.cgroup.fd if life.cgroup is not None else None, p.translation.keep_groups)  # fmt: skip

    def process_for(body: dict[str, Any]) -> Process:
        return exec_process(basis.options, basis.image.config if basis.image else {}, p, supervision.pid, body)

    def spawn(process: Process, stdio: tuple[Fd, Fd, Fd], preserved: tuple[Fd, ...]) -> Created:
        return spawn_tenant(tenancy, process, stdio, preserved)

    def owner(process: Process) -> int:
        uid = process.user.uid
        return (inner_uids.lookup(uid) if inner_uids else uid) or 0

    service = Service(life.control, process_for, spawn, owner)
    service.tell = life.event
    if launched.begin is not None:
        begin = launched.begin

        def started() -> None:
            begin()
            note_started(life)

        service.begin = started
    service.tasks.append(lambda s: keep_run_dir(life, service, s))
    rules = rules_of(life.health)
    if rules is not None:
        _offer_checks(service, life, rules, supervision, lambda args: process_for({"args": args}), spawn)
    else:

        async def none_defined(client: Client, message: dict[str, Any], fds: list[Fd]) -> None:
            raise health.none_defined(basis.cid)

        service.verbs["health"] = none_defined
    return service


class _World:
    """What health checks (checks.py) do to the container."""

    def __init__(
        self,
        life: Life,
        supervision: Supervision,
        process: Callable[[tuple[str, ...]], Process],
        spawn: Callable[[Process, tuple[Fd, Fd, Fd], tuple[Fd, ...]], Created],
    ) -> None:
        self._life = life
        self._supervision = supervision
        self._process = process
        self._spawn = spawn
        self._directory = containers.run_dir(life.roots, life.basis.cid)

    def spawn(self, args: tuple[str, ...], stdio: tuple[Fd, Fd, Fd]) -> Created:
        return self._spawn(self._process(args), stdio, ())

    def ready(self) -> bool:
        marks = (containers.PAUSED, containers.STOPPING)
        return not any([os.path.exists(f"{self._directory}/{mark}") for mark in marks])

    def write(self, document: dict[str, Any]) -> None:
        health.write(self._life.roots, self._life.basis.cid, document)

    def event(self, status: str) -> None:
        life = self._life
        events.emit(life.roots, "container", "health_status", id=life.basis.cid, name=str(life.data.get("name", "")),
                    image=str(life.data.get("image", "")), health=status)  # fmt: skip
        if status == health.HEALTHY and life.notifier is not None:
            life.notifier.healthy()

    def act(self, action: str) -> None:
        """Kill, or end by the stop signal; what does not end by it is killed when its time is over."""
        life, supervision = self._life, self._supervision
        if action == "restart":
            life.again = True
        else:
            # Somebody has decided that it shall end: no policy begins it again.
            open(f"{self._directory}/{UNWANTED}", "w").close()
        if action == "kill":
            supervision.kill(9)
            return
        supervision.kill(int(life.data.get("stop_signal") or 15))
        until = time.monotonic() + float(life.data.get("stop_timeout") or 0)
        if supervision.deadline is None or supervision.deadline > until:
            supervision.deadline, supervision.ending = until, True


def _offer_checks(
    service: Service,
    life: Life,
    rules: Rules,
    supervision: Supervision,
    process: Callable[[tuple[str, ...]], Process],
    spawn: Callable[[Process, tuple[Fd, Fd, Fd], tuple[Fd, ...]], Created],
) -> None:
    """Run the checks of *rules* beside the container, and answer to `healthcheck run`."""
    found: list[Checks] = []

    async def check(_: Supervision) -> None:
        if service.begin is not None:
            await service.began.wait()
        checks = Checks(rules, _World(life, supervision, process, spawn),
                        before=health.read(life.roots, life.basis.cid))  # fmt: skip
        found.append(checks)
        await checks.run()

    async def once(client: Client, message: dict[str, Any], fds: list[Fd]) -> None:
        if not found:
            raise ContainerStateError(f"container {life.basis.cid} is not running")
        client.send({"ok": health.answer(await found[0].once())})

    service.checks = True
    service.tasks.append(check)
    service.verbs["health"] = once


def note_started(life: Life) -> None:
    """Write down that a container which `init` made runs now."""

    def change(data: dict[str, Any]) -> None:
        data["state"] = {**data["state"], "status": "running", "started": containers.now()}

    changed = containers.update(life.roots, life.basis.cid, change)
    if changed is not None:
        life.data = changed.data
    life.hold = False
    life.event("start")


def exec_process(options: Any, image: dict[str, Any], p: Prepared, pid: int, body: dict[str, Any]) -> Process:
    """Return the process that the body of `exec` asks for: the container's own with what the flags change.

    Raises: UsageError, RootlessError as `run` says them of a user or directory that is not there
    """
    root = Fd(_root_of(pid))
    with root:
        # The namespaces are joined as the container has them, whatever became of those that it shares them with.
        around = replace(p.around, read_file=lambda path: read_in_root(root, path.encode()),
                         namespace_path=lambda kind, mode: "")  # fmt: skip
        asked = replace(
            options,
            entrypoint=("",),
            command=tuple(body.get("args") or ()),
            tty=bool(body.get("tty")),
            user=str(body.get("user") or options.user),
            workdir=str(body.get("workdir") or options.workdir),
            env=(*options.env, *[(str(name), str(value)) for name, value in body.get("env") or ()]),
            privileged=bool(options.privileged or body.get("privileged")),
            secrets=(),
            warnings=(),
        )
        # Secrets as the container has them, whether or not they are still in the store.
        process = with_variables(translate(asked, image, around).spec, p.translation.secret_env).process
    if process is None or not process.args:
        raise UsageError("must provide a non-empty command to start an exec session: invalid argument")
    return process


def _root_of(pid: int) -> int:
    return posix.open(f"/proc/{pid}/root", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
