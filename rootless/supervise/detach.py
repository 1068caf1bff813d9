"""Two processes where there was one: the supervisor, which stays, and the command line, which may leave.

`run -d`, `start` and everything on a terminal (which a person may want to leave by the detach keys) fork once,
before trio and before any thread. The child leads a session of its own and becomes the supervisor; a `Link` between
the two carries what is to be told:

    child -> parent    {"ready": ID, "pid": N}      the program runs
                       {"exit": N}                  it has ended, its output is through
    parent -> child    {"resize": [ROWS, COLUMNS]}, {"signal": N}

Errors of the child go to its stderr, which is the command line's, and into its exit status, which the parent takes
over when the link ends without a word.

Source: architecture.md, "Process model"; credentials(7), setsid(2)
"""

from __future__ import annotations

import os
import posix

from rootless.errors import RootlessError
from rootless.kernel.fds import Fd, pipe, socketpair
from rootless.supervise import packets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Link:
    """The supervisor's end. Nothing happens when the other side has gone: it was free to."""

    def __init__(self, sock: Fd) -> None:
        self.sock = sock

    @property
    def open(self) -> bool:
        return not self.sock.closed

    def fileno(self) -> int:
        return self.sock.fileno()

    def say(self, message: dict[str, Any]) -> None:
        if not self.open:
            return
        try:
            packets.send(self.sock, message)
        except RootlessError:
            self.sock.close()

    def hear(self) -> dict[str, Any]:
        """Return what has come; closes the link at its end and returns nothing then."""
        try:
            message, fds = packets.receive(self.sock)
        except RootlessError:
            message, fds = None, []
        for fd in fds:
            fd.close()
        if message is None:
            self.sock.close()
        return message or {}

    def close(self) -> None:
        self.sock.close()


class Forked:
    """The command line's side: the link, the supervisor's pid, and our ends of its stdio where it is attached.

    Owner: `close` closes the descriptors; the child is not ours to end
    """

    def __init__(self, link: Fd, pid: int, ends: tuple[Fd, Fd, Fd] | None) -> None:
        self.link = link
        self.pid = pid
        self.ends = ends

    def status(self) -> int:
        """Return the exit status of the child, which has closed the link. Blocks: until it has ended"""
        _, status = posix.waitpid(self.pid, 0)
        return 128 + posix.WTERMSIG(status) if posix.WIFSIGNALED(status) else posix.WEXITSTATUS(status)

    def close(self) -> None:
        self.link.close()
        for fd in self.ends or ():
            fd.close()


def fork_supervisor(*, attached: bool) -> Forked | Link:
    """Fork; return a `Forked` to the command line and a `Link` to the supervisor, which leads a new session.

    With *attached* the supervisor's stdio are pipes to the command line; without, its stdin is /dev/null, and
    `let_go` closes the others once nothing more is to be said.

    Raises: KernelError; call it while this process has one thread only
    """
    ours, theirs = socketpair()
    inside: list[Fd] = []
    outside: list[Fd] = []
    if attached:
        in_r, in_w = pipe()
        out_r, out_w = pipe()
        err_r, err_w = pipe()
        inside, outside = [in_r, out_w, err_w], [in_w, out_r, err_r]
    pid = os.fork()
    if pid:
        theirs.close()
        for fd in inside:
            fd.close()
        return Forked(ours, pid, (outside[0], outside[1], outside[2]) if attached else None)
    ours.close()
    posix.setsid()
    if attached:
        for number, fd in enumerate(inside):
            posix.dup2(fd.fileno(), number)
        for fd in (*inside, *outside):
            fd.close()
    else:
        _to_null(0)
    return Link(theirs)


def let_go() -> None:
    """Leave the caller's stdio and directory: a pipe of its must not stay open for as long as the container lives."""
    for number in (0, 1, 2):
        _to_null(number)
    posix.chdir("/")


def _to_null(number: int) -> None:
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    posix.dup2(null, number)
    if null != number:
        posix.close(null)


def wait_ready(forked: Forked) -> tuple[dict[str, Any] | None, int]:
    """Return the supervisor's message `ready`, or None and the status with which it ended instead.

    Blocks: until one of both
    """
    message, fds = packets.receive(forked.link)
    for fd in fds:
        fd.close()
    if message is not None and "ready" in message:
        return message, 0
    return None, forked.status()
