"""The life of one container, from its options to its end: launch, supervise, write down, begin again.

The command that a person typed becomes the container's supervisor, or forks it (detach.py): there is no daemon to
hand it to. A restart policy goes through the same launch again, in the same process, which has been in the user
namespace since.

Source: architecture.md, "The life of `rootless run`"
"""

from __future__ import annotations

import os
import select
import time

from rootless.errors import ContainerStateError, StoreError, UsageError, WorkdirError
from rootless.kernel.fds import Fd
from rootless.kernel.seccomp import program_for
from rootless.kernel.undo import Undo
from rootless.plan import saved
from rootless.store import atomic, containers, events, images, layout
from rootless.supervise import creation, packets
from rootless.supervise.client import SOCKET
from rootless.supervise.detach import let_go
from rootless.supervise.early import network
from rootless.supervise.first import FIRST_SECONDS, run_first, run_while_loading
from rootless.supervise.launch import Launched, LaunchRequest, launch
from rootless.supervise.orphans import clean_orphans, kill_orphans
from rootless.supervise.prepare import (
    Basis,
    Caller,
    Prepared,
    prepare,
    prepared_mounts,
    prepared_volumes,
    remove_volumes,
    workdir_missing,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from netns.config import NetConfig
    from netns.driver import Pending
    from rootless.plan.options import HealthRequest, RunOptions
    from rootless.spec.runtime import Spec
    from rootless.store.layout import Roots
    from rootless.supervise.detach import Link
    from rootless.supervise.early import Early
    from rootless.supervise.limits import Applied
    from rootless.supervise.notify import Notifier
    from rootless.supervise.supervision import Log, Supervision

__all__ = ["Caller", "run", "start"]

EVERYTHING = ("stdin", "stdout", "stderr")
UNIFIED = "/sys/fs/cgroup/cgroup.controllers"
UNWANTED = containers.UNWANTED
_DELAY_STEP_SECONDS = 0.05


class Life:
    """A container and its supervisor: what one launch after the other needs.

    Shape: *data* is the record, {} until there is one; *link* leads to the command line that forked us; *attached*
           are the streams that are our own stdio; *hold*: stop before the program starts (`init`); *again*: a health
           check wants a new life, whatever the restart policy says
    """

    def __init__(self, basis: Basis, lock: Fd, control: Fd, *, link: Link | None, attached: tuple[str, ...]) -> None:
        self.basis = basis
        self.lock = lock
        self.control = control
        self.link = link
        self.attached = attached
        self.hold = False
        self.data: dict[str, Any] = {}
        self.stays = False
        self.seccomp = b""
        self.finished = False
        self.began = 0.0
        self.cgroup: Applied | None = None
        self.notifier: Notifier | None = None
        self.again = False
        self.health: HealthRequest | None = None

    @property
    def roots(self) -> Roots:
        return self.basis.roots

    @property
    def options(self) -> RunOptions:
        return self.basis.options

    def event(self, status: str, *, exit_code: int | None = None) -> None:
        data = self.data
        events.emit(self.roots, "container", status, id=self.basis.cid, name=str(data.get("name", self.basis.name)),
                    image=str(data.get("image", "")), attributes=data.get("labels"), exit_code=exit_code)  # fmt: skip


def run(options: RunOptions, roots: Roots, driver: str, caller: Caller, early: Early, link: Link | None = None) -> int:
    """Run a new container; return its exit status.

    Blocks:  until it has ended
    Raises:  RootlessError; nothing of the container is left then, except what a record without --rm tells
    """
    orphans = kill_orphans(roots)
    creation.check_files(options)
    data_lock = layout.lock_shared(roots)
    image = None
    if not options.rootfs:
        image = creation.find_image(options, roots, caller.pull, caller.warn)
    else:
        creation.check_rootfs(options)
    caller.trace("image")
    identity = early.entering.finish()
    for text in (*identity.warnings, *early.warnings):
        caller.warn(text)
    caller.trace("identity")
    layout.prepare_data(roots)
    clean_orphans(roots, orphans)
    with Undo() as undo:
        undo.push(data_lock.close)
        cid = containers.new_id()
        options, notes = creation.settled(options, roots)
        for text in notes:
            caller.warn(text)
        name = options.name or creation.free_name(roots)
        basis = Basis(cid, name, options, image, roots, driver, identity, caller, {})
        return _live(_begin(basis, link, undo), early)


def start(
    container: containers.Container, roots: Roots, driver: str, caller: Caller, early: Early, *, link: Link | None,
    attached: tuple[str, ...] = (), hold: bool = False,
) -> int:  # fmt: skip
    """Start a container that exists; return its exit status.

    Blocks: until it has ended
    Raises: RootlessError; the container stays as it was
    """
    orphans = kill_orphans(roots)
    data_lock = layout.lock_shared(roots)
    options = saved.decode(dict(container.data.get("options") or {}))
    image_id = str(container.data.get("image_id") or "")
    image = images.get(roots, image_id) if image_id else None
    if image_id and image is None:
        raise ContainerStateError(f"the image {image_id[:12]} of container {container.name} is gone")
    identity = early.entering.finish()
    for text in (*identity.warnings, *early.warnings):
        caller.warn(text)
    layout.prepare_data(roots)
    clean_orphans(roots, orphans)
    with Undo() as undo:
        undo.push(data_lock.close)
        basis = Basis(container.id, container.name, options, image, roots,
                      str(container.data.get("driver") or "") or driver, identity, caller,
                      dict(container.data.get("anonymous") or {}))  # fmt: skip
        life = _begin(basis, link, undo, attached=attached)
        life.data, life.hold = {**container.data, "restart_count": 0}, hold
        return _live(life, early)


def _begin(basis: Basis, link: Link | None, undo: Undo, *, attached: tuple[str, ...] | None = None) -> Life:
    """Make the run directory, whose lock says that we live, and the socket that clients come to."""
    options = basis.options
    if attached is None:
        attached = () if options.detach else options.attach if options.attach is not None else EVERYTHING
    lock = containers.make_run_dir(basis.roots, basis.cid)
    undo.push(lock.close)
    run_dir = containers.run_dir(basis.roots, basis.cid)
    undo.push(lambda: containers.discard_run_dir(basis.roots, basis.cid))
    control = packets.listen(run_dir, SOCKET)
    undo.push(control.close)
    return Life(basis, lock, control, link=link, attached=attached)


def _live(life: Life, early: Early) -> int:
    """Launch, see through and, where the restart policy wants it, begin again. Returns the last exit status."""
    net, pending = early.net, early.pending
    while True:
        with Undo() as undo:
            if pending is not None:
                undo.push(pending.close)
            life.finished = False
            status = _one_life(life, net, pending, undo)
        if not _wanted_again(life, status):
            return status
        net, warnings = network(life.options, life.options.publish)
        for text in warnings:
            life.basis.caller.warn(text)
        pending = None  # begun by `prepare`: there is nothing to be imported meanwhile


def _wanted_again(life: Life, status: int) -> bool:
    """Ask the restart policy, and wait as long as it says; what ends a wait is somebody who wants the end."""
    options = life.options
    if life.again and not _unwanted(life):
        life.again = False
        return _counted(life)
    if options.remove:
        return False
    found = containers.read(life.roots, life.basis.cid)
    if found is None:
        return False
    said = found.data.get("options") or {}  # `update --restart` may have changed it
    policy, tries = str(said.get("restart") or "no"), int(said.get("restart_tries") or 0)
    if policy == "no":
        return False
    from rootless.supervise.restart import decide

    count = int(life.data.get("restart_count") or 0)
    lived = time.monotonic() - life.began
    decision = decide(policy, tries, count, status, _unwanted(life), lived_seconds=lived)
    if not decision.restart:
        return False
    until = time.monotonic() + decision.delay_seconds
    while time.monotonic() < until:
        if _unwanted(life):
            return False
        time.sleep(_DELAY_STEP_SECONDS)
    return _counted(life)


def _counted(life: Life) -> bool:
    """Count one more start; say whether the container is still there to be started."""
    count = int(life.data.get("restart_count") or 0)

    def counted(data: dict[str, Any]) -> None:
        data["restart_count"] = count + 1

    changed = containers.update(life.roots, life.basis.cid, counted)
    if changed is None:
        return False
    life.data = changed.data
    life.event("restart")
    return True


def _unwanted(life: Life) -> bool:
    directory = containers.run_dir(life.roots, life.basis.cid)
    return os.path.exists(f"{directory}/{containers.STOPPING}") or os.path.exists(f"{directory}/{UNWANTED}")


def _one_life(life: Life, net: NetConfig, pending: Pending | None, undo: Undo) -> int:
    basis = life.basis
    if not life.data:
        # What a failed launch leaves of a new container goes again; that of one with a record stays.
        undo.push(lambda: containers.discard(basis.roots, basis.cid) if not life.data else None)
    prepared, warnings = prepare(basis, net, pending, undo)
    for text in warnings:
        basis.caller.warn(text)
    launched = _start(life, prepared, undo)
    return _see_through(life, prepared, launched)


def _start(life: Life, p: Prepared, undo: Undo) -> Launched:
    basis, options, t = life.basis, life.options, p.translation
    plan = basis.identity.plan
    inner_uids, inner_gids = plan.inner_uids, plan.inner_gids
    owner = (
        inner_uids.lookup(t.user.uid) if inner_uids else t.user.uid,
        inner_gids.lookup(t.user.gid) if inner_gids else t.user.gid,
    )
    new_volumes = prepared_volumes(basis, p, (owner[0] or 0, owner[1] or 0), undo)
    with Undo() as first:
        first.push(lambda: remove_volumes(basis.roots, new_volumes))
        write_down = _record(life, p, new_volumes, first)
        bounding = t.spec.process.capabilities.bounding if t.spec.process and t.spec.process.capabilities else ()
        life.health = t.health
        life.seccomp = program_for(t.seccomp or "default", frozenset(bounding), basis.roots.run)
        gids = inner_gids or plan.outer_gids
        spec = _notified(life, t.launch_spec, undo)
        request = LaunchRequest(
            cid=basis.cid, spec=spec, run_dir=containers.run_dir(basis.roots, basis.cid), seccomp=life.seccomp,
            interactive=options.interactive, tty=options.tty,
            sig_proxy=options.sig_proxy and "stdout" in life.attached, reaper=t.reaper,
            cwd_make=t.cwd_make, setgroups=plan.setgroups, tty_gid=gids.lookup(5) is not None,
            nested=inner_uids is not None, owner=owner[0], timeout_seconds=options.timeout,
            sysctls=tuple([key for key, _ in options.sysctls]),
            prepared=prepared_mounts(basis, p, (owner[0] or 0, owner[1] or 0), undo), preserve_fds=options.preserve_fds,
            attached=life.attached, link=life.link, hold=life.hold, log=_open_log(life),
            passthrough=_passes_through(life),
            keep_groups=t.keep_groups, cgroup=_cgroup(life, t.spec, undo), meanwhile=write_down,
        )  # fmt: skip
        basis.caller.trace("prepare")
        try:
            launched = launch(request, p.rootfs, p.pending, undo)
        except WorkdirError as error:
            raise workdir_missing(t, basis.cid, error.errno) from error
        first.keep()
    for text in launched.network.warnings:
        basis.caller.warn(text)
    if launched.warnings:
        # What the kernel refused and what took its place, in one line.
        basis.caller.warn("; ".join(launched.warnings))
    return launched


def _cgroup(life: Life, spec: Spec, undo: Undo) -> Fd | None:
    """Make the container's cgroup, where there is one to be had, and write its limits."""
    life.cgroup = None
    options = life.options
    if spec.linux is None or spec.linux.resources is None:
        if not os.access(UNIFIED, os.R_OK, effective_ids=True):
            return None  # nobody asked, and there is nothing to be had
        if options.cgroups == "enabled" and options.cgroup_manager != "systemd":
            from rootless.run.cgroups.bus import is_reachable

            if not is_reachable(UNIFIED.rpartition("/")[0], stays=options.detach or options.restart != "no"):
                return None
    from rootless.supervise import limits

    life.cgroup = made = limits.apply(spec, life.options, life.basis.cid, life.roots, life.basis.caller.environ)
    undo.push(made.remove)
    for text in made.warnings:
        life.basis.caller.warn(text)
    return made.fd


def _notified(life: Life, spec: Spec, undo: Undo) -> Spec:
    """Return *spec* with a way to the caller's service manager, where there is one and the options want it."""
    socket = life.basis.caller.environ.get("NOTIFY_SOCKET", "")
    if not socket:
        return spec
    from rootless.supervise.notify import Notifier

    life.notifier = Notifier(life.options.sdnotify, socket, containers.run_dir(life.roots, life.basis.cid))
    undo.push(life.notifier.close)
    return life.notifier.applied(spec)


def _record(life: Life, p: Prepared, new_volumes: tuple[str, ...], first: Undo) -> Callable[[], None]:
    """Note what is known now that the root is mounted, for a new record or the one that there is.

    Returns: what writes it down, for the moment in which the container mounts and nobody waits for us
    """
    basis = life.basis
    known = _known(life, p, new_volumes)
    if life.data:
        known["restart_count"] = int(life.data.get("restart_count") or 0)
        life.data = {**life.data, **known}

        def change() -> None:
            changed = containers.update(basis.roots, basis.cid, lambda data: data.update(known))
            if changed is None:
                raise ContainerStateError(f"container {basis.name} was removed meanwhile")
            life.data = changed.data

        return change
    data = creation.new_record(basis.cid, basis.name, life.options, basis.image, basis.roots, basis.driver)
    data.update(known)
    life.data = data

    def forget() -> None:
        life.data = {}

    first.push(forget)

    def create() -> None:
        containers.create(basis.roots, containers.Container(basis.cid, basis.name, data))
        life.event("create")

    return create


def _known(life: Life, p: Prepared, new_volumes: tuple[str, ...]) -> dict[str, Any]:
    t = p.translation
    process = t.spec.process
    return {
        "boot": containers.boot_id(),
        "anonymous": life.basis.volumes,
        "anonymous_volumes": [v.name for v in t.volumes if v.anonymous],
        "mounted": creation.planned_mounts(life.options, life.basis.image, life.roots, life.basis.volumes)[1],
        "driver": p.rootfs.driver,
        "driver_reason": p.rootfs.reason,
        "args": list(process.args) if process else [],
        "env": list(process.env) if process else [],
        "cwd": process.cwd if process else "/",
        "hostname": t.hostname,
        "labels": dict(t.labels),
        "stop_signal": t.stop_signal,
        "mounts": [[v.name, v.path, v.target] for v in t.volumes] + [["", b.source, b.target] for b in t.binds],
    }


def _passes_through(life: Life) -> bool:
    """Say whether the container gets our own stdio. Raises: UsageError - it has a terminal of its own"""
    if (life.data.get("log") or {}).get("driver") != "passthrough":
        return False
    if life.options.tty:
        raise UsageError("the passthrough log-driver cannot be used with a terminal (--tty)")
    return True


def _open_log(life: Life) -> Log | None:
    log = life.data.get("log") or {}
    if log.get("driver") in ("none", "passthrough"):
        return None
    from rootless.supervise.logs import open_log

    return open_log(
        log.get("driver", ""), log.get("path", ""), tag=log.get("tag", ""),
        max_size_bytes=int(log.get("max_size_bytes") or 0), cid=life.basis.cid, name=life.basis.name,
    )  # fmt: skip


def _see_through(life: Life, p: Prepared, launched: Launched) -> int:
    """Serve the running container to its end, and put away what it leaves."""
    basis, supervision = life.basis, launched.supervision
    basis.caller.trace("start")
    try:
        _note_start(life, launched)
        _announce(life, supervision)
        _serve(life, p, launched)
    except BaseException:
        supervision.kill(9)
        supervision.reap()
        raise
    finally:
        finish(life, supervision)
    status = supervision.exit_status if supervision.exit_status is not None else 125
    basis.caller.trace("run")
    if supervision.fault is not None:
        raise supervision.fault
    if life.link is not None:
        life.link.say({"exit": status})
        if life.options.restart not in ("", "no"):
            life.link.close()  # the command line goes; who else would wait for the end of all lives?
    return status


def _note_start(life: Life, launched: Launched) -> None:
    basis, options, network = life.basis, life.options, launched.network
    life.began = time.monotonic()
    # of the life before, which may have ended while it was paused
    atomic.remove_file(f"{containers.run_dir(basis.roots, basis.cid)}/{containers.PAUSED}")
    begun: dict[str, Any] = {
        "cgroup": life.cgroup.recorded() if life.cgroup is not None else {},
        "state": {"status": "initialized" if life.hold else "running", "pid": launched.supervision.pid,
                  "pid_start": containers.start_time(launched.supervision.pid), "started": containers.now(),
                  **_last_end(life)},
        "network": {"mode": network.mode, "address": network.address, "gateway": network.gateway,
                    "address6": network.address6},
        "ports": [[f.host_ip, f.host_port, f.container_port, f.protocol] for f in network.ports],
    }  # fmt: skip
    life.data = {**life.data, **begun}
    containers.write(basis.roots, containers.Container(basis.cid, basis.name, life.data))
    if life.health is not None:
        from rootless.supervise import health

        if health.rules_of(life.health) is not None:  # trio, which checks, comes later than who looks
            health.write(life.roots, basis.cid, health.starting(health.read(life.roots, basis.cid)))
    life.event("init")
    if not life.hold:
        life.event("start")
    supervisor = str(os.getpid())
    if life.notifier is not None:
        life.notifier.started(os.getpid())
    for path, text in (
        (options.cidfile, basis.cid),
        (options.pidfile, str(launched.supervision.pid)),
        (options.supervisor_pidfile, supervisor),
    ):
        if path:
            with open(path, "w") as file:
                file.write(text)


def _last_end(life: Life) -> dict[str, Any]:
    """Return when the life before ended, if there was one."""
    finished = (life.data.get("state") or {}).get("finished")
    return {"finished": finished} if finished else {}


def _announce(life: Life, supervision: Supervision) -> None:
    """Tell the command line that forked us, and leave its terminal when it is not attached."""
    link = life.link
    if link is None or life.stays:
        return
    life.stays = True
    link.say({"ready": life.basis.cid, "pid": supervision.pid})
    if not life.attached:
        link.close()
        let_go()


def finish(life: Life, supervision: Supervision) -> None:
    """Write down how the container ended, or delete it where --rm promised that. Once for each life."""
    if life.finished:
        return
    life.finished = True
    basis = life.basis
    status = supervision.exit_status if supervision.exit_status is not None else 125
    error = supervision.fault.message if supervision.fault else ""
    found = containers.read(basis.roots, basis.cid)
    if found is None:
        return  # somebody removed it by force
    life.event("died", exit_code=status)
    if found.auto_remove:
        containers.note_exit(basis.roots, basis.cid, status)
        remove_volumes(basis.roots, tuple(found.data.get("anonymous_volumes", ())))
        containers.discard(basis.roots, basis.cid)
        life.event("remove")
        if life.options.remove_image and basis.image is not None:
            _remove_image(basis)
    else:
        oom = life.cgroup is not None and life.cgroup.oom_killed()
        try:
            containers.finish(basis.roots, found, status, error=error, oom_killed=oom)
        except StoreError:
            # The disk is full, and the run root most often is no disk: who puts the record right finds it there.
            containers.note_exit(basis.roots, basis.cid, status)
            raise


def _remove_image(basis: Basis) -> None:
    """Remove the image of a container that had --rmi, unless another container was made from it."""
    assert basis.image is not None
    if any([c.data.get("image_id") == basis.image.id for c in containers.list_containers(basis.roots)]):
        basis.caller.warn(f"image {basis.image.id[:12]} is in use by another container: it stays")
        return
    from rootless.store.gc import collect

    images.remove(basis.roots, basis.image.id)
    collect(basis.roots)


def _serve(life: Life, p: Prepared, launched: Launched) -> None:
    """Serve until the end: a short life by the poll loop alone, a longer one under trio."""
    supervision = launched.supervision
    if life.options.tty and life.link is None and os.isatty(0) and "stdin" in life.attached:
        from rootless.run.console import RawTerminal
        from rootless.supervise.attachment import pass_output

        supervision.resize()
        with RawTerminal(0):
            pass_output(0)
            _serve_streams(life, p, launched)
    else:
        _serve_streams(life, p, launched)


def _load() -> None:
    """Import what a long life needs: an upgrade of the package must not mix versions later."""
    from rootless.stage.spawn import keep_program

    keep_program()


def _serve_streams(life: Life, p: Prepared, launched: Launched) -> None:
    supervision = launched.supervision
    supervision.notifier = life.notifier
    seconds = 0.0 if life.health is not None else FIRST_SECONDS
    if run_first(supervision, life.control.fileno(), seconds):
        return
    asked = bool(select.select([life.control.fileno()], [], [], 0)[0])
    if run_while_loading(supervision, _load, urgent=asked or life.health is not None):
        return
    from rootless.supervise.main import run_main
    from rootless.supervise.offers import service_for

    service = service_for(life, p, launched)
    run_main(supervision, life.basis.cid, service, lambda: finish(life, supervision))
