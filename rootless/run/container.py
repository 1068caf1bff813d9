"""Create and start one container from a bundle: what is prepared, in which order, and what a failure undoes.

    claim the id ── cgroup ── namespaces by path, seccomp program, start socket ── run/create.py
         │             │                 │                                            │ maps, hooks of the runtime
         └─────────────┴─────── undone in reverse when anything fails ───────────────┴── state CREATED

Source: runtime-spec runtime.md#lifecycle
"""

from __future__ import annotations

import posix

from rootless.errors import KernelError, SpecError, UsageError
from rootless.kernel.fds import Fd, open_fd, send_fds, write_all
from rootless.kernel.paths import real_path
from rootless.kernel.undo import Undo
from rootless.plan.launch import LaunchContext, LaunchPlan, plan_launch
from rootless.plan.wire import Op
from rootless.run import identity, state
from rootless.run.bundle import Bundle, is_mapped
from rootless.run.cgroups.driver import CgroupRequest, make_cgroup
from rootless.run.create import Created, create, hard_limits, listening_socket
from rootless.run.home import with_home
from rootless.run.start import poststart
from rootless.run.state import ContainerState
from rootless.spec import state as life
from rootless.spec.jsontext import dumps
from rootless.spec.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.seccomp import SeccompProgram
    from rootless.spec.runtime import Spec

NS_SLOT = "ns:"


@record
class CreateRequest:
    """What `create` and `run` were asked for.

    Shape: *waits* says how the container is started: by another process that connects (create), or by us
    """

    root: str
    id: str
    bundle: Bundle
    console_socket: str = ""
    pidfd_socket: str = ""
    pid_file: str = ""
    preserve_fds: int = 0
    no_pivot: bool = False
    no_new_keyring: bool = False
    cgroup_manager: str = "cgroupfs"
    notify_socket: str = ""
    waits: bool = True


class Container:
    """A created container in the hands of the process that made it.

    Owner: `close` closes descriptors and frees the lock; the container goes on
    """

    def __init__(self, root: str, now: ContainerState, spec: Spec, created: Created, plan: LaunchPlan,
                 listener: SeccompProgram | None) -> None:  # fmt: skip
        self.root = root
        self.state = now
        self.spec = spec
        self.created = created
        self.plan = plan
        self.listener = listener
        self.notify: Fd | None = None

    def start(self) -> None:
        """Run the program and the poststart hooks; whatever fails stops the container.

        Raises: ExecNotFound, ExecNotExecutable, LaunchError
        """
        try:
            self.created.start(on_seccomp=self._hand_over)
            self.state = replace(self.state, status=life.RUNNING)
            state.save(self.root, self.state)
            poststart(self.spec.hooks, self.state)
        except BaseException:
            self.created.kill()
            raise

    def _hand_over(self, notify: Fd) -> None:
        from rootless.run.listener import send_listener

        send_listener(notify, self.listener, self.state)

    def close(self) -> None:
        self.created.close()
        if self.notify is not None:
            self.notify.close()


def create_container(request: CreateRequest) -> Container:
    """Bring the container of *request* to CREATED.

    Blocks: until its process waits for start
    Raises: UsageError, SpecError, LaunchError, ExecNotFound, ExecNotExecutable, KernelError; nothing is left then
    """
    spec, maps, warnings = identity.with_identity(request.bundle.spec)
    spec = with_home(_with_real_sources(spec, request.bundle.path), request.bundle.rootfs)
    linux = spec.linux
    assert linux is not None
    _check_console(spec, request)
    said = list(warnings)
    if spec.process is not None and (spec.process.apparmor_profile or spec.process.selinux_label or linux.mount_label):
        from rootless.run.labels import checked_labels, mount_label_warnings

        spec = replace(spec, process=checked_labels(spec.process))
        said += mount_label_warnings(linux)
    with Undo() as undo:
        lock = state.claim(request.root, request.id)
        undo.push(lambda: state.remove(request.root, request.id))
        now = ContainerState(
            id=request.id, bundle=request.bundle.path, rootfs=request.bundle.rootfs, created=state.now_text(),
            owner=posix.geteuid(), annotations=spec.annotations,
        )  # fmt: skip
        notify = None
        if request.notify_socket:
            from rootless.run.notify import open_notify, with_notify

            notify = open_notify(state.directory(request.root, request.id))
            spec = with_notify(spec, state.directory(request.root, request.id), request.notify_socket)
        program: SeccompProgram | None = None
        if linux.seccomp is not None:
            from rootless.run.filters import seccomp_program

            program = seccomp_program(linux.seccomp, request.root, spec.annotations)
        console_fd: Fd | None = None
        if request.console_socket:
            from rootless.run.console import connect_console

            console_fd = connect_console(request.console_socket)
        pidfd_sock: Fd | None = None
        if request.pidfd_socket:
            from rootless.run.console import connect_socket

            pidfd_sock = connect_socket(request.pidfd_socket, "pidfd socket")
        cgroup, notes = make_cgroup(
            CgroupRequest(request.id, linux.cgroups_path, request.cgroup_manager, linux.resources,
                          spec.annotations)
        )  # fmt: skip
        undo.push(cgroup.remove)
        said += notes
        now = replace(now, cgroup=cgroup.ref)
        slots = open_slots(spec, cgroup.fd)
        if any([is_mapped(mount) for mount in spec.mounts]):
            from rootless.run.idmounts import open_mapped

            slots += open_mapped(spec, request.bundle.path)
        if request.waits:
            socket_path = f"{state.directory(request.root, request.id)}/{state.START_SOCKET}"
            slots.append(("start", listening_socket(socket_path)))
        made: list[ContainerState] = [now]
        context = _context(spec, request, slots, program, maps, now)
        plan = plan_launch(spec, replace(context, cgroup_adopt=bool(cgroup.ref.path) and cgroup.fd is None))

        def on_pid(pid: int, _pidfd: Fd) -> None:
            made[0] = state.with_process(made[0], pid)
            if spec.hooks is not None:
                # Hooks may ask for the state; without any, nobody sees a container before it is created.
                state.save(request.root, made[0])

        def run_hooks(pid: int) -> None:
            if linux.net_devices:
                from rootless.run.netdevices import move_devices

                move_devices(linux.net_devices, pid)
            if spec.hooks is not None:
                from rootless.run import hooks

                document = made[0].document(life.CREATING)
                hooks.run_hooks("prestart", spec.hooks.prestart, document)
                hooks.run_hooks("createRuntime", spec.hooks.create_runtime, document)

        def meanwhile() -> None:
            save_config(request, spec, plan, program is not None and program.notifies)
            if not request.waits:
                # What `run` needs at the container's end, loaded while nobody waits for us.
                import rootless.run.delete  # noqa: F401

        created = create(
            plan, slots=[fd for _, fd in slots], preserve_fds=request.preserve_fds, run_hooks=run_hooks, on_pid=on_pid,
            write_maps=None if maps is None else lambda pid: identity.write_maps(maps, pid), meanwhile=meanwhile,
            join_cgroup=cgroup.adopt,
        )  # fmt: skip
        undo.push(created.kill)
        for _, fd in slots:
            if fd is not cgroup.fd:
                fd.close()
        cgroup.close()
        _hand_over_console(created, console_fd)
        if pidfd_sock is not None:
            with pidfd_sock:
                send_fds(pidfd_sock, b"standard", (created.pidfd,))
        now = replace(made[0], status=life.CREATED)
        state.save(request.root, now)
        if request.waits:
            created.leave()
        lock.close()
        if request.pid_file:
            write_pid_file(request.pid_file, created.pid)
        created.warnings[:0] = said
        undo.keep()
    container = Container(request.root, now, spec, created, plan, program)
    container.notify = notify
    return container


def _with_real_sources(spec: Spec, bundle: str) -> Spec:
    """Resolve the links of bind sources, unless the link itself is asked for.

    When the stage binds, the container's root is already mounted over the host's: a link with `..` that climbs to
    the host's root would go on in the container's.
    """
    changed = False
    mounts = []
    for mount in spec.mounts:
        words = mount.options
        is_bind = mount.type == "bind" or "bind" in words or "rbind" in words
        if is_bind and mount.source and "copy-symlink" not in words and "src-nofollow" not in words:
            real = real_path(mount.source if mount.source.startswith("/") else f"{bundle}/{mount.source}")
            if real != mount.source:
                changed, mount = True, replace(mount, source=real)
        mounts.append(mount)
    return replace(spec, mounts=tuple(mounts)) if changed else spec


def _check_console(spec: Spec, request: CreateRequest) -> None:
    assert spec.process is not None
    if spec.process.terminal and request.waits and not request.console_socket:
        raise UsageError("cannot allocate tty if runc will detach without setting console socket", code=1)
    if not spec.process.terminal and request.console_socket:
        raise UsageError("cannot use console socket if runc will not detach or allocate tty", code=1)


def _hand_over_console(created: Created, sock: Fd | None) -> None:
    if sock is None:
        return
    from rootless.run.console import send_console

    with sock:
        if created.console is not None:
            send_console(sock, created.console)
            created.console.close()
            created.console = None


def open_slots(spec: Spec, cgroup: Fd | None) -> list[tuple[str, Fd]]:
    """Open what the stage gets as descriptors: the cgroup, and namespaces that are joined by path.

    Raises: SpecError with the pointer of a namespace that cannot be opened
    """
    slots: list[tuple[str, Fd]] = []
    if cgroup is not None:
        slots.append(("cgroup", cgroup))
    assert spec.linux is not None
    for at, namespace in enumerate(spec.linux.namespaces):
        if namespace.path:
            try:
                slots.append((NS_SLOT + namespace.type, open_fd(namespace.path, posix.O_RDONLY)))
            except KernelError as error:
                raise SpecError(error.message, pointer=f"/linux/namespaces/{at}/path") from None
    return slots


def _context(
    spec: Spec,
    request: CreateRequest,
    slots: list[tuple[str, Fd]],
    program: SeccompProgram | None,
    maps: identity.Maps | None,
    now: ContainerState,
) -> LaunchContext:
    of = spec.hooks
    document = now.document(life.CREATING)
    inside: tuple[Op, ...] = ()
    starting: tuple[Op, ...] = ()
    if of is not None:
        from rootless.run import hooks

        # Without an environment of their own the first see the runtime's, the second the program's.
        inside = hooks.stage_ops("createContainer", of.create_container, document, hooks.own_environment())
        env = spec.process.env if spec.process is not None else ()
        starting = hooks.stage_ops("startContainer", of.start_container, now.document(life.CREATED), env)
    setgroups = maps.setgroups if maps else identity.may_setgroups(spec.linux)
    wants_groups = bool(spec.process and spec.process.user.additional_gids)
    return LaunchContext(
        bundle=request.bundle.path,
        root_path=request.bundle.rootfs,
        first_slot=5 + request.preserve_fds,
        slots=tuple([name for name, _ in slots]),
        seccomp=program.program if program else b"",
        seccomp_flags=program.flags & ~8 if program else 0,
        seccomp_listener=program.notifies if program else False,
        parent_death=False,
        no_pivot=request.no_pivot,
        new_keyring="" if request.no_new_keyring else f"_ses.{request.id}",
        preserve_fds=request.preserve_fds,
        hard_limits=hard_limits() if spec.process and spec.process.rlimits else (),
        setgroups=setgroups,
        groups_kept=not setgroups and not wants_groups,
        tty_gid=identity.has_gid(maps, 5),
        hooks_outside=bool(spec.linux and spec.linux.net_devices)
        or bool(of and (of.prestart or of.create_runtime or inside or starting)),
        hooks_inside=inside,
        hooks_start=starting,
        memory_policy=spec.linux.memory_policy if spec.linux else None,
        cgroup_path=now.cgroup.path or "/sys/fs/cgroup",
    )


def save_config(request: CreateRequest, spec: Spec, plan: LaunchPlan, notifies: bool) -> None:
    """Keep what later verbs need: the configuration as given, and the steps that `start` may have to name."""
    path = state.directory(request.root, request.id)
    steps = [[op.kind, op.why] for op in plan.ops]
    namespaces = [n.type for n in spec.linux.namespaces] if spec.linux else []
    hooks_given = [stage for stage in ("poststart", "poststop") if spec.hooks and getattr(spec.hooks, stage)]
    summary = {"ops": steps, "namespaces": namespaces, "hooks": hooks_given, "notifies": notifies}
    for name, data in (
        ("config.json", request.bundle.text),
        ("plan.json", dumps(summary).encode()),
    ):
        with open_fd(f"{path}/{name}", posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_NOFOLLOW, 0o600) as out:
            write_all(out, data)


def write_pid_file(path: str, pid: int) -> None:
    """Write *pid* without a newline, in one step: conmon may be waiting for the file. Raises: KernelError"""
    directory, slash, name = path.rpartition("/")
    temporary = f"{directory}{slash}.{name}"
    with open_fd(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC, 0o666) as out:
        write_all(out, str(pid).encode())
    try:
        posix.rename(temporary, path)
    except OSError as error:
        raise KernelError("rename", error.errno or 0, path) from None
