"""Signals of the command line on their way to the container.

Handlers only take note: Python runs them between instructions. A signal that comes between the last
instruction and the poll would wait for the poll's end, were it not for the byte that the interpreter
itself writes to the wake-up pipe.

Source: podman-run(1) "--sig-proxy"; signal(7)
"""

from __future__ import annotations

import _signal
import posix

from rootless.kernel.fds import pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

SIGWINCH, SIGCHLD, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGURG = 28, 17, 13, 20, 21, 22, 18, 23
# Not forwarded: what the kernel keeps, what tells about us (a child, a closed pipe, job control), and the
# synchronous ones, which are our own faults.
_OURS = frozenset(
    (9, 19, SIGCHLD, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGURG, SIGWINCH, 4, 5, 6, 7, 8, 11, 31, 32, 33)
)


class SignalInbox:
    """Collects signals; `fileno` is readable when one has come."""

    def __init__(self, *, forward: bool) -> None:
        self._pending: list[int] = []
        self._reader, self._writer = pipe()
        for end in (self._reader, self._writer):
            posix.set_blocking(end.fileno(), False)
        self._before: dict[int, object] = {}
        _signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        wanted = [n for n in range(1, 65) if n not in _OURS] if forward else []
        for number in [*wanted, SIGWINCH]:
            try:
                if forward and _signal.getsignal(number) == _signal.SIG_IGN:
                    continue  # nohup and & of a shell without job control stay in force
                self._before[number] = _signal.signal(number, self._note)
            except (OSError, ValueError):
                continue

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._pending.append(number)
        try:
            posix.write(self._writer.fileno(), b"!")
        except BlockingIOError:
            pass  # it is readable already

    def hand_over(self) -> None:
        """Leave the interpreter's wake-up descriptor to an event loop that brings its own (trio)."""
        _signal.set_wakeup_fd(-1)

    def fileno(self) -> int:
        return self._reader.fileno()

    def take(self) -> list[int]:
        """Return the signals since the last call, in order."""
        try:
            posix.read(self._reader.fileno(), 4096)
        except BlockingIOError:
            pass
        taken, self._pending = self._pending, []
        return taken

    def close(self) -> None:
        """Give the signals back."""
        _signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            _signal.signal(number, handler)  # type: ignore[arg-type]
        self._reader.close()
        self._writer.close()
