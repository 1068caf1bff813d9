"""What the supervisor of one container offers on its control socket, put together when trio takes over."""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.kernel.fds import Fd
from rootless.kernel.paths import read_in_root
from rootless.plan.translate import translate
from rootless.run.create import Created
from rootless.spec.record import replace
from rootless.store import containers
from rootless.supervise.control import Service
from rootless.supervise.tenant import Tenancy, spawn_tenant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.spec.runtime import Process
    from rootless.supervise.launch import Launched
    from rootless.supervise.prepare import Prepared
    from rootless.supervise.session import Life


def service_for(life: Life, p: Prepared, launched: Launched) -> Service:
    """Return the service of a container that runs."""
    basis, supervision = life.basis, launched.supervision
    plan = basis.identity.plan
    inner_uids = plan.inner_uids
    gids = plan.inner_gids or plan.outer_gids
    tenancy = Tenancy(supervision.pid, supervision.pidfd, life.seccomp, plan.setgroups, gids.lookup(5) is not None)

    def process_for(body: dict[str, Any]) -> Process:
        return exec_process(basis.options, basis.image.config if basis.image else {}, p, supervision.pid, body)

    def spawn(process: Process, stdio: tuple[Fd, Fd, Fd], preserved: tuple[Fd, ...]) -> Created:
        return spawn_tenant(tenancy, process, stdio, preserved)

    def owner(process: Process) -> int:
        uid = process.user.uid
        return (inner_uids.lookup(uid) if inner_uids else uid) or 0

    service = Service(life.control, process_for, spawn, owner)
    if launched.begin is not None:
        begin = launched.begin

        def started() -> None:
            begin()
            note_started(life)

        service.begin = started
    return service


def note_started(life: Life) -> None:
    """Write down that a container which `init` made runs now."""

    def change(data: dict[str, Any]) -> None:
        data["state"] = {**data["state"], "status": "running", "started": containers.now()}

    changed = containers.update(life.roots, life.basis.cid, change)
    if changed is not None:
        life.data = changed.data
    life.event("start")


def exec_process(options: Any, image: dict[str, Any], p: Prepared, pid: int, body: dict[str, Any]) -> Process:
    """Return the process that the body of `exec` asks for: the container's own with what the flags change.

    Raises: UsageError, RootlessError as `run` says them of a user or directory that is not there
    """
    root = Fd(_root_of(pid))
    with root:
        around = replace(p.around, read_file=lambda path: read_in_root(root, path.encode()))
        asked = replace(
            options,
            entrypoint=("",),
            command=tuple(body.get("args") or ()),
            tty=bool(body.get("tty")),
            user=str(body.get("user") or options.user),
            workdir=str(body.get("workdir") or options.workdir),
            env=(*options.env, *[(str(name), str(value)) for name, value in body.get("env") or ()]),
            privileged=bool(options.privileged or body.get("privileged")),
            warnings=(),
        )
        process = translate(asked, image, around).spec.process
    if process is None or not process.args:
        raise UsageError("must provide a non-empty command to start an exec session: invalid argument")
    return process


def _root_of(pid: int) -> int:
    import posix

    return posix.open(f"/proc/{pid}/root", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
