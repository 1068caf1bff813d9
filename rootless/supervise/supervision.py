"""One running container as the loops see it: streams to move, signals to forward, processes to watch.

Everything here is a plain function of descriptors, so that the poll loop of the first moment
(first.py) and the trio loop of a long life (main.py) do the same things.
"""

from __future__ import annotations

import _struct as struct  # what `struct` itself wraps
import posix
import time

from rootless.errors import KernelError, PeerGone, RootlessError
from rootless.kernel.fds import Fd
from rootless.kernel.process import pidfd_send_signal
from rootless.supervise.signals import SIGWINCH, SignalInbox
from rootless.supervise.streams import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from rootless.supervise.detach import Link
    from rootless.supervise.notify import Notifier

    class Viewer(Protocol):
        """Somebody who sees the output (control.py)."""

        @property
        def queued_bytes(self) -> int: ...

        def push(self, number: int, data: bytes) -> None: ...

    class Log(Protocol):
        """Where output is kept (logs.py)."""

        def write(self, stream: int, data: bytes) -> None: ...

        def close(self) -> None: ...


SIGKILL = 9
EXIT_TIMEOUT = 255  # podman's, for --timeout
DRAIN_SECONDS = 2.0
QUEUE_BYTES = 1 << 20


class Supervision:
    """A container that runs, and the duty to see it through.

    Shape: *output* streams carry what the container writes and are drained after its end, *input* those to it;
           *servers* are (name, pidfd, last words) of processes whose death ends the container; *link* leads to the
           command line where that is another process; *feed* is the container's stdin while nobody writes to it;
           *viewers* are attached clients
    """

    def __init__(
        self,
        pid: int,
        pidfd: Fd,
        inbox: SignalInbox,
        *,
        console: Fd | None = None,
        servers: tuple[tuple[str, Fd, Callable[[], str]], ...] = (),
        deadline: float | None = None,
        own_pids: bool = True,
        link: Link | None = None,
        log: Log | None = None,
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.inbox = inbox
        self.output: list[Stream] = []
        self.input: list[Stream] = []
        self.feed: Fd | None = None
        self.console = console
        self.servers = servers
        self.deadline = deadline
        self.own_pids = own_pids
        self.link = link
        self.log = log
        self.viewers: list[Viewer] = []
        self.notifier: Notifier | None = None
        self.fault: RootlessError | None = None
        self.exit_status: int | None = None
        self.ending = False
        self.timed_out = False

    @property
    def streams(self) -> list[Stream]:
        return [s for s in (*self.output, *self.input) if not s.ended]

    @property
    def congested(self) -> bool:
        """Say whether somebody who is attached is so far behind that the container has to wait."""
        return any([viewer.queued_bytes > QUEUE_BYTES for viewer in self.viewers])

    def on_output(self, number: int, data: bytes) -> None:
        """Show to the log and to those who are attached what the container wrote on stdout (1) or stderr (2)."""
        if self.log is not None:
            self.log.write(number, data)
        for viewer in self.viewers:
            viewer.push(number, data)

    def on_signal(self) -> None:
        """Pass on what has come."""
        for number in self.inbox.take():
            if number == SIGWINCH:
                self.resize()
            else:
                self.kill(number)

    def on_link(self) -> None:
        """Do what the command line asks for; when it has gone its stdio has gone with it."""
        if self.link is None:
            return
        message = self.link.hear()
        if "resize" in message:
            self.set_size(message["resize"])
        if "signal" in message:
            self.kill(int(message["signal"]))

    def resize(self) -> None:
        """Give the container's terminal the size of ours."""
        if self.console is not None and not self.console.closed:
            from rootless.run.console import set_size, terminal_size

            set_size(self.console, terminal_size(0))

    def set_size(self, rows_columns: list[int]) -> None:
        """Give the container's terminal a size."""
        if self.console is not None and not self.console.closed and len(rows_columns) == 2:
            from rootless.run.console import set_size

            rows, columns = rows_columns
            set_size(self.console, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))

    def kill(self, number: int) -> None:
        """Send a signal to the container's first process; nothing when it has ended."""
        try:
            pidfd_send_signal(self.pidfd, number)
        except KernelError:
            pass

    def on_server_death(self, name: str, words: Callable[[], str]) -> None:
        """A server that the container lives on has died: the container cannot go on."""
        if self.fault is None:
            self.fault = PeerGone(name, words())
        self.kill(SIGKILL)

    def on_deadline(self) -> None:
        """--timeout is over, or what a health check gave the container to end."""
        self.deadline = None
        self.timed_out = not self.ending
        self.kill(SIGKILL)

    @property
    def notify_fd(self) -> int:
        """Return the socket on which the program speaks to its service manager, -1 for none."""
        fd = self.notifier.fd if self.notifier is not None else None
        return fd.fileno() if fd is not None and not fd.closed else -1

    def reap(self) -> int:
        """Collect the exit status of the container, which has ended."""
        if self.exit_status is None:
            _, status = posix.waitpid(self.pid, 0)
            self.exit_status = 128 + posix.WTERMSIG(status) if posix.WIFSIGNALED(status) else posix.WEXITSTATUS(status)
            if self.timed_out:
                self.exit_status = EXIT_TIMEOUT
            for stream in self.input:
                if not stream.ended:
                    stream.close()
        return self.exit_status

    def drain_deadline(self) -> float:
        """Return until when output is waited for after the end.

        With a pid namespace of its own nothing of the container is left and the end of file is certain; with the
        host's, something may hold the pipe open for ever.
        """
        return time.monotonic() + (DRAIN_SECONDS if self.own_pids else 0.0)

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        if self.feed is not None:
            self.feed.close()
        if self.log is not None:
            self.log.close()
        self.inbox.close()
        self.pidfd.close()
