"""Stay with a container until it ends: pass signals on, show its terminal, return its exit status.

Source: runc's signals.go in purpose; signal(7), tty_ioctl(4)
"""

from __future__ import annotations

import _signal
import posix
import select

from rootless.errors import KernelError
from rootless.kernel.fds import pipe
from rootless.kernel.process import pidfd_send_signal, wait_pid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.fds import Fd
    from rootless.run.console import Copier
    from rootless.run.create import Created

_KEPT = frozenset({9, 19, 17, 23, 13, 11, 7, 8, 4, 5, 6, 31, 20, 21, 22, 18})
"""Not passed on: KILL and STOP, CHLD, URG and PIPE (ours), faults, and job control, which is our terminal's."""
_WINCH = 28


class Waiter:
    """Catches signals from the moment it is made, so that none is lost while the container starts."""

    def __init__(self) -> None:
        self._read, self._write = pipe()
        posix.set_blocking(self._write.fileno(), False)
        posix.set_blocking(self._read.fileno(), False)
        for number in range(1, 65):
            if number not in _KEPT and number not in (32, 33):
                _signal.signal(number, _ignore)
        _signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)

    def wait(self, created: Created, notify: Fd | None = None, notify_socket: str = "") -> int:
        """Wait for the end; return the exit code, 128+n for a signal. Blocks: yes

        *notify* is the container's sd_notify socket, *notify_socket* the path of our own.
        """
        master = created.console
        poller = select.poll()
        poller.register(created.pidfd.fileno(), select.POLLIN)
        poller.register(self._read.fileno(), select.POLLIN)
        if notify is not None:
            poller.register(notify.fileno(), select.POLLIN)
        if master is None:
            self._loop(created, poller, None, notify, notify_socket)
            return wait_pid(created.pid)
        from rootless.run.console import Copier, RawTerminal, set_size, terminal_size

        with RawTerminal(0):
            copier = Copier(master, poller)
            set_size(master, terminal_size(0))
            self._loop(created, poller, copier, notify, notify_socket)
            copier.drain()
        return wait_pid(created.pid)

    def _loop(
        self, created: Created, poller: select.poll, copier: Copier | None, notify: Fd | None, notify_socket: str
    ) -> None:
        ended = False
        while not ended:
            for fd, _event in poller.poll():
                if fd == created.pidfd.fileno():
                    ended = True
                elif fd == self._read.fileno():
                    self._forward(created)
                elif notify is not None and fd == notify.fileno():
                    from rootless.run.notify import pass_on

                    pass_on(notify, notify_socket, created.pid)
                elif copier is not None:
                    copier.ready(fd)

    def _forward(self, created: Created) -> None:
        for number in posix.read(self._read.fileno(), 256):
            if number == _WINCH and created.console is not None:
                from rootless.run.console import set_size, terminal_size

                set_size(created.console, terminal_size(0))
                continue
            try:
                pidfd_send_signal(created.pidfd, number)
            except KernelError:
                continue


def _ignore(_number: int, _frame: object) -> None:
    """Only the wake-up descriptor counts."""
