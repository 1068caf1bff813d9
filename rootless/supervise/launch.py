"""Bring one container to RUNNING: storage, process, network, each undone in reverse when a later one fails.

Blocking and without trio. What takes an interpreter to start (network, FUSE) is spawned as early as its
inputs are known and awaited only where the launch needs it.
"""

from __future__ import annotations

import fcntl
import os
import posix
import time

from rootless.errors import KernelError, PeerGone, RootlessError
from rootless.kernel.fds import Fd, open_fd, pipe
from rootless.kernel.mounts import open_tree
from rootless.kernel.undo import Undo
from rootless.plan.launch import LaunchContext, plan_launch
from rootless.run.create import Created, create, hard_limits
from rootless.spec import mountopts
from rootless.spec.record import record
from rootless.spec.runtime import User
from rootless.store import containers
from rootless.supervise.signals import SignalInbox
from rootless.supervise.streams import Stream
from rootless.supervise.supervision import Supervision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netns.driver import Attachment, Pending
    from rootless.mount.driver import RootfsMount
    from rootless.spec.runtime import Spec
    from rootless.supervise.detach import Link
    from rootless.supervise.supervision import Log

NETWORK_MS = 10_000


@record
class LaunchRequest:
    """All that one launch needs to know.

    Shape: *run_dir* holds the generated files and the directory `root`; *prepared* are mounts made outside, by
           destination; *owner* is the container user's uid in our ids, to whom the pipes of stdio are given;
           *attached* are those of stdin, stdout, stderr that are our own; *hold*: START is left to `Launched.begin`;
           *keep_groups*: the process keeps our supplementary groups; *cgroup* is what it is cloned into;
           *passthrough*: our own stdio is the container's, and nobody sees what goes over it; *meanwhile* is done
           while the container mounts: it has a process then, which waits for START
    """

    cid: str
    spec: Spec
    run_dir: str
    seccomp: bytes
    interactive: bool
    tty: bool
    sig_proxy: bool
    reaper: bool
    cwd_make: bool
    setgroups: bool
    tty_gid: bool
    nested: bool
    owner: int | None = None
    timeout_seconds: int = 0
    preserve_fds: int = 0
    sysctls: tuple[str, ...] = ()
    prepared: tuple[tuple[str, Fd], ...] = ()
    attached: tuple[str, ...] = ("stdin", "stdout", "stderr")
    link: Link | None = None
    log: Log | None = None
    hold: bool = False
    keep_groups: bool = False
    cgroup: Fd | None = None
    passthrough: bool = False
    meanwhile: Callable[[], None] | None = None


class Launched:
    """A running container; what serves it is on the undo stack, in the order that nothing outlives what it stands on.

    Shape: *begin* sends START, for a container that waits for it (`init`); None for one that runs
    """

    def __init__(self, supervision: Supervision, network: Attachment, warnings: list[str]) -> None:
        self.supervision = supervision
        self.network = network
        self.warnings = warnings
        self.begin: Callable[[], None] | None = None


def launch(request: LaunchRequest, rootfs: RootfsMount, pending: Pending, undo: Undo) -> Launched:
    """Launch and start the container.

    Blocks:  until execve has happened
    Raises:  LaunchError, ExecNotFound, ExecNotExecutable, PeerGone, KernelError; all is undone then
    Owner:   what was made is pushed on *undo*, which has rootfs and network already
    """
    with Undo() as inner:
        stdio, ends = _stdio(request)
        for fd in (*stdio, *ends):
            inner.push(fd.close)
        slots, names = [rootfs.fd], ["root"]
        # Of two for one destination the later counts: what was made on purpose.
        prepared = (
            _opened_binds(request.spec, [name for name, _ in request.prepared]) if request.nested else ()
        ) + request.prepared
        for destination, fd in prepared:
            inner.push(fd.close)
            slots.append(fd)
            names.append(f"mount:{destination}")
        for kind, fd in _opened_namespaces(request.spec):
            inner.push(fd.close)
            slots.append(fd)
            names.append(f"ns:{kind}")
        if request.cgroup is not None:
            slots.append(request.cgroup)
            names.append("cgroup")
        user = request.spec.process.user if request.spec.process else User()
        context = LaunchContext(
            bundle=request.run_dir,
            root_path="",
            first_slot=5 + request.preserve_fds,
            slots=tuple(names),
            seccomp=request.seccomp,
            reaper=request.reaper,
            hard_limits=hard_limits(),
            setgroups=request.setgroups,
            tty_gid=request.tty_gid,
            new_keyring=request.cid,
            preserve_fds=request.preserve_fds,
            cwd_make=request.cwd_make,
            cwd_owner=(user.uid, user.gid),
            sysctls_required=request.sysctls,
            groups_kept=request.keep_groups,
        )
        plan = plan_launch(request.spec, context)

        def write_maps(pid: int) -> None:
            _write_maps(pid, request.spec)

        def on_pid(pid: int, pidfd: Fd) -> None:
            if not request.nested:
                # The network is made while the container mounts; its namespace is there since the clone.
                _attach(pending, pid)
            containers.note_process(f"{request.run_dir}/child", pid)
            if request.meanwhile is not None:
                request.meanwhile()

        try:
            made = create(plan, slots=slots, stdio=_three(stdio), preserve_fds=request.preserve_fds,
                          write_maps=write_maps if request.nested else None, on_pid=on_pid)  # fmt: skip
        except RootlessError:
            blame_server(rootfs)
            raise
        inner.push(made.close)
        inner.push(made.kill)
        # Our copies of the container's ends, or nobody would ever see the end of its output.
        for fd in stdio:
            fd.close()
        # Of the root we keep ours: the mount goes with the container's namespace, which ends before its pidfd tells
        # us, and a FUSE server whose last mount went away would look like one that crashed.
        for _, fd in prepared:
            fd.close()
        if request.nested:
            _attach(pending, made.pid)
        attachment = pending.wait_ready(NETWORK_MS)
        inner.push(attachment.close)
        inbox = SignalInbox(forward=request.sig_proxy)
        inner.push(inbox.close)
        if not request.hold:
            made.start()
        supervision = _supervision(request, made, inbox, ends, rootfs, attachment)
        inner.push(supervision.close)
        kept = inner.keep()
    undo.push(kept.run)
    launched = Launched(supervision, attachment, made.warnings)
    if request.hold:
        launched.begin = made.start
    return launched


def _attach(pending: Pending, pid: int) -> None:
    with open_fd(f"/proc/{pid}/ns/net", posix.O_RDONLY) as netns:
        pending.attach(netns)


def _stdio(request: LaunchRequest) -> tuple[list[Fd], list[Fd]]:
    """Return the container's stdin, stdout, stderr and our ends of them; with a terminal it makes its own."""
    if request.tty:
        return [open_fd("/dev/null", posix.O_RDWR) for _ in range(3)], []
    if request.passthrough:
        return [Fd(fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)) for number in range(3)], []
    if request.interactive:
        stdin, feed = pipe()
        ends = [feed]
    else:
        stdin = open_fd("/dev/null", posix.O_RDONLY)
        ends = []
    out_r, out_w = pipe()
    err_r, err_w = pipe()
    if request.owner is not None:
        # /dev/stdout is opened again by its path, which asks for the owner of the pipe.
        for fd in (out_w, err_w, *([stdin] if request.interactive else [])):
            os.fchown(fd.fileno(), request.owner, -1)
    return [stdin, out_w, err_w], [*ends, out_r, err_r]


def _three(fds: list[Fd]) -> tuple[Fd, Fd, Fd]:
    stdin, stdout, stderr = fds
    return stdin, stdout, stderr


def _supervision(
    request: LaunchRequest, made: Created, inbox: SignalInbox, ends: list[Fd], rootfs: RootfsMount, network: Attachment
) -> Supervision:
    servers = []
    if rootfs.server is not None:
        servers.append(("the FUSE server", rootfs.server, _log_reader(rootfs.log)))
    if network.pidfd is not None:
        servers.append(("the network process", network.pidfd, network.last_words))
    own_pids = any([n.type == "pid" for n in (request.spec.linux.namespaces if request.spec.linux else ())])
    deadline = time.monotonic() + request.timeout_seconds if request.timeout_seconds else None
    s = Supervision(made.pid, made.pidfd, inbox, console=made.console, servers=tuple(servers), deadline=deadline,
                    own_pids=own_pids, link=request.link, log=request.log)  # fmt: skip
    # A command line that may leave is not to end the container by leaving.
    stays = request.link is not None
    out = 1 if "stdout" in request.attached else None
    err = 2 if "stderr" in request.attached else None
    feed: Fd | None = None
    if made.console is not None:
        master = made.console
        # Two directions, two descriptors: each stream closes its own.
        posix.set_blocking(master.fileno(), False)
        s.output = [Stream(master, out, tap=lambda data: s.on_output(1, data), stays=stays)]
        feed = master.dup()
    elif ends:
        *feeds, out_r, err_r = ends
        s.output = [Stream(out_r, out, tap=lambda data: s.on_output(1, data), stays=stays),
                    Stream(err_r, err, tap=lambda data: s.on_output(2, data), stays=stays)]  # fmt: skip
        feed = feeds[0] if feeds else None
    if feed is not None and request.interactive and "stdin" in request.attached and not stays:
        s.input = [Stream(0, feed, end_text=b"\x04" if request.tty else b"")]
    else:
        s.feed = feed
        if feed is not None and request.interactive and "stdin" in request.attached:
            # On a terminal the end of our stdin is ^D; a pipe's end is the end, as it is for any filter.
            s.input = [Stream(0, feed, keep_target=request.tty)]
    return s


def _log_reader(log: Fd | None) -> Callable[[], str]:
    def read() -> str:
        if log is None or log.closed:
            return ""
        posix.set_blocking(log.fileno(), False)
        try:
            return posix.read(log.fileno(), 4096).decode("utf-8", "replace")
        except OSError:
            return ""

    return read


def _opened_binds(spec: Spec, done: list[str]) -> tuple[tuple[str, Fd], ...]:
    """Open the sources of all bind mounts here, for a container in a user namespace of its own.

    There our run and data directories belong to nobody it may act for, so it could not even search them.
    """
    found: list[tuple[str, Fd]] = []
    for mount in spec.mounts:
        options = mountopts.parse(mount.options)
        if (
            mount.destination not in done
            and (options.bind or mount.type == "bind")
            and (mount.source or "").startswith("/")
        ):
            try:
                found.append((mount.destination, open_tree(mount.source or "", recursive=options.recursive)))
            except KernelError:
                for _, fd in found:
                    fd.close()
                raise
    return tuple(found)


def _opened_namespaces(spec: Spec) -> list[tuple[str, Fd]]:
    """Open the namespaces that the container joins by path."""
    wanted = [n for n in (spec.linux.namespaces if spec.linux else ()) if n.path]
    return [(n.type, open_fd(n.path or "", posix.O_RDONLY)) for n in wanted]


def blame_server(rootfs: RootfsMount) -> None:
    """If the FUSE server is dead, say that instead of the ENOTCONN that followed from it."""
    import select

    if rootfs.server is not None and select.select([rootfs.server.fileno()], [], [], 0)[0]:
        raise PeerGone("the FUSE server", _log_reader(rootfs.log)())


def _write_maps(pid: int, spec: Spec) -> None:
    """Write the maps of a container's own user namespace; we are root of the one outside it."""
    linux = spec.linux
    assert linux is not None
    for name, mappings in (("uid_map", linux.uid_mappings), ("gid_map", linux.gid_mappings)):
        text = "".join([f"{m.container_id} {m.host_id} {m.size}\n" for m in mappings])
        with open_fd(f"/proc/{pid}/{name}", posix.O_WRONLY) as fd:
            try:
                posix.write(fd.fileno(), text.encode())
            except OSError as error:
                raise RootlessError(
                    f"write {name} of the container: {os.strerror(error.errno or 0).lower()}"
                ) from error
