"""Run one more process in a container: a joining stage enters its namespaces, then the usual launch path.

Everything that names the container is a descriptor, opened while a pidfd proves that the first process
still lives: a pid that was used again cannot lead us astray.

Source: setns(2), pidfd_open(2); runc's exec
"""

from __future__ import annotations

import posix

from rootless.errors import ContainerStateError, KernelError, LaunchError, UsageError
from rootless.kernel.fds import Fd, open_fd, read_file, send_fds
from rootless.plan.launch import LaunchContext, personality_of, plan_exec
from rootless.run import console, state
from rootless.run.cgroups.find import may_join, open_cgroup
from rootless.run.container import NS_SLOT, write_pid_file
from rootless.run.create import Created, create, hard_limits
from rootless.run.filters import seccomp_program
from rootless.run.home import process_with_home
from rootless.run.listener import send_listener
from rootless.run.pause import observe
from rootless.run.state import ContainerState
from rootless.spec import caps
from rootless.spec import state as life
from rootless.spec.idmap import parse_map
from rootless.spec.jsontext import loads
from rootless.spec.record import record, replace
from rootless.spec.runtime import CapSets, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.runtime import Spec

_FILES = {"user": "user", "mount": "mnt", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts",
          "cgroup": "cgroup", "time": "time"}  # fmt: skip


@record
class ExecRequest:
    """What `exec` was asked for; *process* is complete (see `process_for`)."""

    root: str
    id: str
    process: Process
    console_socket: str = ""
    pidfd_socket: str = ""
    pid_file: str = ""
    preserve_fds: int = 0
    detach: bool = False
    ignore_paused: bool = False
    cgroup: str = ""


def process_for(
    base: Process,
    args: tuple[str, ...],
    *,
    tty: bool = False,
    user: str = "",
    cwd: str = "",
    env: tuple[str, ...] = (),
    extra_caps: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
    no_new_privs: bool | None = None,
    apparmor: str = "",
) -> Process:
    """Return the container's own process with other words and what the flags change.

    Raises: UsageError
    """
    process = replace(base, args=args, terminal=tty, console_size=None)
    if user:
        uid, colon, gid = user.partition(":")
        if not uid.isdigit() or (colon and not gid.isdigit()):
            raise UsageError(f"parsing {user!r} as int for uid[:gid] failed", code=1)
        process = replace(
            process, user=replace(process.user, uid=int(uid), gid=int(gid) if colon else process.user.gid)
        )
    if groups:
        if not all(g.isdigit() for g in groups):
            raise UsageError(f"additional gids must be numbers: {' '.join(groups)}", code=1)
        process = replace(
            process, user=replace(process.user, additional_gids=(*process.user.additional_gids, *map(int, groups)))
        )
    if cwd:
        process = replace(process, cwd=cwd)
    if env:
        names = {word.partition("=")[0] for word in env}
        kept = tuple([word for word in process.env if word.partition("=")[0] not in names])
        process = replace(process, env=kept + env)
    if extra_caps:
        process = replace(process, capabilities=_with_caps(process.capabilities, extra_caps))
    if no_new_privs is not None:
        process = replace(process, no_new_privileges=no_new_privs)
    if apparmor:
        process = replace(process, apparmor_profile=apparmor)
    return process


def _with_caps(sets: CapSets | None, extra: tuple[str, ...]) -> CapSets:
    """Add *extra* to the sets that a program keeps; ambient only where inheritable has them (capabilities(7))."""
    sets = sets or CapSets()
    unknown = caps.mask(extra)[1]
    if unknown:
        raise UsageError(f"unknown capability {unknown[0]}", code=1)
    names = tuple([caps.normal(name) for name in extra])

    def more(have: tuple[str, ...]) -> tuple[str, ...]:
        return have + tuple([name for name in names if name not in have])

    ambient = sets.ambient
    if ambient:
        ambient = ambient + tuple([n for n in names if n not in ambient and n in sets.inheritable])
    return CapSets(more(sets.bounding), more(sets.effective), sets.inheritable, more(sets.permitted), ambient)


def exec_process(request: ExecRequest, spec: Spec) -> Created:
    """Run the process in the container; return it running.

    Blocks: until execve has happened, or failed
    Raises: NotFound, ContainerStateError, ExecNotFound, ExecNotExecutable, LaunchError
    Owner:  the caller waits for the pid (it is our child) and closes what is returned
    """
    now = state.load(request.root, request.id)
    status = observe(request.root, now)
    if status == life.PAUSED and request.ignore_paused:
        status = life.RUNNING
    if status == life.STOPPED:
        raise ContainerStateError("cannot exec in a stopped container", code=1)
    if status == life.PAUSED:
        raise ContainerStateError("cannot exec in a paused container (use --ignore-paused to override)", code=1)
    life.advance(status, life.VERB_EXEC)
    process = request.process
    if process.apparmor_profile or process.selinux_label:
        from rootless.run.labels import checked_labels

        process = checked_labels(process)
    if process.exec_cpu_affinity is not None:
        from rootless.run.affinity import check_affinity, set_affinity

        check_affinity(process.exec_cpu_affinity, "")
        failed = set_affinity(0, process.exec_cpu_affinity.initial)
        if failed:
            raise LaunchError(failed, code=1)
    if process.terminal and request.detach and not request.console_socket:
        raise UsageError("cannot allocate tty if runc will detach without setting console socket", code=1)
    program = seccomp_program(spec.linux.seccomp if spec.linux else None, request.root)
    slots = _namespaces(now, request.root)
    cgroup = open_cgroup(now.cgroup)
    try:
        adopt = now.cgroup.driver == "systemd" and not request.cgroup and not may_join(now.cgroup.path)
        if now.cgroup.path and not adopt:
            slots.append(("cgroup", _cgroup_fd(now, request.cgroup)))
        with open_fd(f"/proc/{now.pid}/root", posix.O_PATH | posix.O_DIRECTORY) as root:
            process = process_with_home(process, root)
        names = [name for name, _ in slots]
        console_fd = console.connect_console(request.console_socket) if request.console_socket else None
        pidfd_sock = console.connect_socket(request.pidfd_socket, "pidfd socket") if request.pidfd_socket else None
        kinds = tuple([name[len(NS_SLOT) :] for name in names if name.startswith(NS_SLOT)])
        setgroups = _may_setgroups(now.pid)
        plan = plan_exec(
            process,
            kinds,
            LaunchContext(
                bundle=now.bundle, root_path="/", first_slot=5 + request.preserve_fds,
                slots=tuple(names), seccomp=program.program if program else b"",
                seccomp_flags=program.flags & ~8 if program else 0,
                seccomp_listener=program.notifies if program else False,
                parent_death=False, preserve_fds=request.preserve_fds,
                hard_limits=hard_limits() if process.rlimits else (), setgroups=setgroups,
                groups_kept=not setgroups and not process.user.additional_gids,
                personality=personality_of(spec.linux) if spec.linux else None,
                memory_policy=spec.linux.memory_policy if spec.linux else None, cgroup_adopt=adopt,
            ),
        )  # fmt: skip
        created = create(
            plan, slots=[fd for _, fd in slots], preserve_fds=request.preserve_fds, join_cgroup=cgroup.adopt
        )
    finally:
        cgroup.close()
        for _, fd in slots:
            fd.close()
    try:
        if console_fd is not None:
            with console_fd:
                if created.console is None:
                    raise UsageError("cannot use console socket if runc will not detach or allocate tty", code=1)
                console.send_console(console_fd, created.console)
        if process.exec_cpu_affinity is not None:
            failed = set_affinity(created.pid, process.exec_cpu_affinity.final)
            if failed:
                raise LaunchError(failed, code=1)
        if pidfd_sock is not None:
            with pidfd_sock:
                send_fds(pidfd_sock, b"setns", (created.pidfd,))
        if request.pid_file:
            write_pid_file(request.pid_file, created.pid)
        created.start(on_seccomp=lambda fd: send_listener(fd, program, now, created.pid))
    except BaseException:
        created.kill()
        created.close()
        raise
    return created


def _namespaces(now: ContainerState, root: str) -> list[tuple[str, Fd]]:
    """Open the namespaces that the container does not share with us.

    Raises: LaunchError when it has just ended
    """
    pidfd = state.open_process(now)
    if pidfd is None:
        raise LaunchError("cannot exec in a stopped container", code=1)
    try:
        own = loads(read_file(f"{state.directory(root, now.id)}/plan.json"))["namespaces"]
    except (KernelError, ValueError, LookupError, TypeError):
        own = list(_FILES)
    slots: list[tuple[str, Fd]] = []
    with pidfd:
        for kind in own:
            name = _FILES[kind]
            fd = open_fd(f"/proc/{now.pid}/ns/{name}", posix.O_RDONLY)
            if posix.fstat(fd.fileno()).st_ino == posix.stat(f"/proc/self/ns/{name}").st_ino:
                fd.close()  # joining one's own user namespace is EINVAL (setns(2)), the others are needless
                continue
            slots.append((NS_SLOT + kind, fd))
    if state.open_process(now) is None:
        for _, fd in slots:
            fd.close()
        raise LaunchError("cannot exec in a stopped container", code=1)
    return slots


def _cgroup_fd(now: ContainerState, below: str) -> Fd:
    """Open the cgroup of the container, or the one *below* it that was asked for. Raises: UsageError, KernelError"""
    path = now.cgroup.path
    if below:
        if ".." in below.split("/"):
            raise UsageError(f"{below} is not a sub cgroup path", code=1)
        path = f"{path}/{below.strip('/')}".rstrip("/")
    return open_fd(path, posix.O_RDONLY | posix.O_DIRECTORY)


def _may_setgroups(pid: int) -> bool:
    try:
        deny = read_file(f"/proc/{pid}/setgroups", limit_bytes=16).strip() == b"deny"
        return not deny and bool(parse_map(read_file(f"/proc/{pid}/gid_map").decode()))
    except KernelError:
        return False
