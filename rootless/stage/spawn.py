"""Start the stage from a sealed copy of its program.

The container's root is the user, and a program that runs in a container can be reached as
/proc/PID/exe (CVE-2019-5736). So what is executed is never a file that the user could overwrite, but
a memfd sealed against every change.

Source: memfd_create(2), fcntl(2) F_ADD_SEALS
"""

from __future__ import annotations

import _socket
import fcntl
import posix

from rootless.errors import KernelError
from rootless.kernel.fds import Fd, memfd, memfd_sealed, open_fd, seal, socketpair
from rootless.kernel.process import spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

STAGE = __file__[: -len("spawn.py")] + "stage.bin"
TITLE = "rootless:[init]"


_kept: list[Fd] = []


def keep_program() -> None:
    """Hold the program open for the rest of our life: an upgrade of the package must not mix versions.

    Raises: KernelError(open)
    """
    if not _kept:
        _kept.append(open_fd(STAGE, posix.O_RDONLY))


def sealed_program(path: str = STAGE) -> Fd:
    """Return a sealed memfd with the program; the caller closes it.

    Raises: KernelError(open) when the native parts were not built
    """
    with _kept[0].dup() if _kept and path == STAGE else open_fd(path, posix.O_RDONLY) as source:
        copy = memfd("rootless-stage", executable=True)
        size, done = posix.fstat(source.fileno()).st_size, 0
        while done < size:
            done += posix.sendfile(copy.fileno(), source.fileno(), done, size - done)
    seal(copy)
    return copy


def spawn_stage(
    plan: bytes,
    *,
    slots: Sequence[Fd] = (),
    stdio: tuple[Fd, Fd, Fd] | None = None,
    preserve_fds: int = 0,
    preserved: Sequence[Fd] = (),
) -> tuple[int, Fd]:
    """Start the stage on *plan*; return its pid and our end of the sync socket.

    Shape:   in the stage: stdio, the caller's descriptors 3..3+preserve_fds (or *preserved* in their place), sync,
             plan, then *slots*
    Blocks:  until the exec of the stage
    Raises:  KernelError(posix_spawn, memfd_create)
    Owner:   *slots* and *stdio* stay ours; the caller closes the socket and waits for the pid
    """
    ours, theirs = socketpair(_socket.SOCK_SEQPACKET)
    first = 3 + preserve_fds
    fds: dict[int, Fd] = {first: theirs}
    if stdio is not None:
        fds.update(enumerate(stdio))
    kept = [Fd(number) for number in range(3, 3 + preserve_fds) if not preserved and _given(number)]
    fds.update(enumerate(preserved, 3))
    try:
        with sealed_program() as program, memfd_sealed("rootless-plan", plan) as document:
            fds[first + 1] = document
            for at, slot in enumerate(slots):
                fds[first + 2 + at] = slot
            for fd in kept:
                fds[fd.fileno()] = fd
            pid = spawn([TITLE, str(first)], executable=program, fds=fds, env={})
    except KernelError:
        ours.close()
        raise
    finally:
        theirs.close()
        for fd in kept:
            fd.detach()
    return pid, ours


def _given(number: int) -> bool:
    """Say whether our caller left descriptor *number* open for the container: all of our own are close-on-exec."""
    try:
        return not fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    except OSError:
        return False
