"""One more process in a running container, started by its supervisor: `exec`, health checks.

The namespaces are opened while a pidfd proves that the first process still lives, and joined by the stage, as
`rootless-oci exec` does it (run/exec.py).

Source: setns(2), pidfd_open(2); podman-exec(1)
"""

from __future__ import annotations

import errno
import posix
import select

from rootless.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, ContainerStateError, WorkdirError
from rootless.kernel.fds import Fd, open_fd
from rootless.plan.launch import LaunchContext, plan_exec
from rootless.run.create import Created, create, hard_limits
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.runtime import Process

_FILES = {"user": "user", "mount": "mnt", "pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts",
          "cgroup": "cgroup"}  # fmt: skip


@record
class Tenancy:
    """What is needed to start a process in a container.

    Shape: *seccomp* is the compiled filter, empty for none; *setgroups* whether the map allows setgroups(2); *cgroup*
           the container's, None for ours
    """

    pid: int
    pidfd: Fd
    seccomp: bytes
    setgroups: bool
    tty_gid: bool
    cgroup: Fd | None = None
    keep_groups: bool = False


def spawn_tenant(where: Tenancy, process: Process, stdio: tuple[Fd, Fd, Fd], preserved: tuple[Fd, ...] = ()) -> Created:
    """Start *process* in the container; return it running. *preserved* become its descriptors from 3 on.

    Blocks: until execve has happened, or failed
    Raises: ContainerStateError, ExecNotFound, ExecNotExecutable, LaunchError
    Owner:  the caller waits for the pid (it is our child) and closes what is returned; *stdio* stays the caller's
    """
    slots: list[tuple[str, Fd]] = []
    try:
        for kind, name in _FILES.items():
            fd = open_fd(f"/proc/{where.pid}/ns/{name}", posix.O_RDONLY)
            if posix.fstat(fd.fileno()).st_ino == posix.stat(f"/proc/self/ns/{name}").st_ino:
                fd.close()  # joining one's own user namespace is EINVAL (setns(2)), the others are needless
                continue
            slots.append((f"ns:{kind}", fd))
        if select.select([where.pidfd.fileno()], [], [], 0)[0]:
            raise ContainerStateError("the container has just ended: container state improper")
        kinds = tuple([name[3:] for name, _ in slots])
        if where.cgroup is not None:
            slots.append(("cgroup", where.cgroup.dup()))
        plan = plan_exec(process, kinds, LaunchContext(
            bundle="/", root_path="/", first_slot=5 + len(preserved), slots=tuple([name for name, _ in slots]),
            seccomp=where.seccomp, parent_death=False, preserve_fds=len(preserved),
            hard_limits=hard_limits() if process.rlimits else (), setgroups=where.setgroups,
            groups_kept=where.keep_groups or (not where.setgroups and not process.user.additional_gids),
            tty_gid=where.tty_gid,
        ))  # fmt: skip
        created = create(plan, slots=[fd for _, fd in slots], stdio=stdio, preserve_fds=len(preserved),
                         preserved=preserved)  # fmt: skip
    except WorkdirError as error:
        error.code = EXIT_NOT_FOUND if error.errno == errno.ENOENT else EXIT_NOT_EXECUTABLE
        raise
    finally:
        for _, fd in slots:
            fd.close()
    try:
        created.start()
    except BaseException:
        created.kill()
        created.close()
        raise
    return created
