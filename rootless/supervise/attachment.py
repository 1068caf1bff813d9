"""A command line that shows a container which another process supervises: `attach`, `exec`, `start -a`, `run -it`.

One poll(2) loop between our stdio and descriptors that lead to the container; the terminal, its size, the signals and
the detach keys are ours.

Source: podman-attach(1) "--detach-keys", "--sig-proxy"
"""

from __future__ import annotations

import _struct as struct  # what `struct` itself wraps
import fcntl
import os
import posix
import select
import termios

from rootless.errors import RootlessError, UsageError
from rootless.kernel.fds import Fd
from rootless.supervise.signals import SIGWINCH, SignalInbox
from rootless.supervise.streams import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

READ_BYTES = 65536
DETACHED = -1


class DetachKeys:
    """Finds the sequence that leaves a container in what a person types.

    Bytes that begin the sequence are held back until it is clear that they are not it.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what is for the container, and whether the sequence is complete."""
        if not self._keys:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(out), True
                continue
            out += self._keys[: self._matched]
            self._matched = 1 if byte == self._keys[0] else 0
            if not self._matched:
                out.append(byte)
        return bytes(out), False


def parse_keys(text: str) -> bytes:
    """Return the bytes that *text* ("ctrl-p,ctrl-q", "a,b") stands for.

    Raises: UsageError
    """
    out = bytearray()
    for word in text.split(",") if text else []:
        low = word.lower()
        if low.startswith("ctrl-") and len(low) == 6 and ("a" <= low[5] <= "z" or low[5] in "@[\\]^_"):
            out.append(ord(low[5].upper()) & 0x1F)
        elif len(word) == 1 and ord(word) < 128:
            out.append(ord(word))
        else:
            raise UsageError(f"invalid detach keys: Unknown character: '{word}'")
    return bytes(out)


class Attachment:
    """Our side of the stdio of something that runs elsewhere.

    Shape: *feed* takes our stdin (None: it is not passed on), *outputs* are (descriptor to read, our number); *say*
           sends {"resize": ...} or {"signal": N}; *sock* has {"exit": N} at the end, or closes
    Owner: closes *feed* and *outputs*; *sock* stays the caller's
    """

    def __init__(
        self,
        sock: Fd,
        hear: Callable[[], dict[str, Any] | None],
        say: Callable[[dict[str, Any]], None],
        *,
        feed: Fd | None,
        outputs: list[tuple[Fd, int]],
        keys: bytes = b"",
        tty: bool = False,
        forward: bool = False,
        master: Fd | None = None,
    ) -> None:
        self._sock = sock
        self._hear = hear
        self._say = say
        self._feed = feed
        self._pending = b""
        self._keys = DetachKeys(keys)
        self._outputs = [Stream(fd, number) for fd, number in outputs]
        self._tty = tty
        self._master = master
        self._inbox = SignalInbox(forward=forward)
        self._source_open = feed is not None
        self.exit: int | None = None
        self.gone = False

    def run(self) -> int:
        """Serve until the other side has ended and its output is through; return its status, or DETACHED.

        Blocks: that long
        """
        from rootless.run.console import RawTerminal

        self._resize()
        try:
            if self._tty and os.isatty(0):
                with RawTerminal(0):
                    pass_output(0)
                    return self._loop()
            return self._loop()
        finally:
            self._inbox.close()
            for stream in self._outputs:
                if not stream.ended:
                    stream.close()
            if self._feed is not None:
                self._feed.close()

    def _loop(self) -> int:
        while True:
            if self.exit is not None or self.gone:
                # With a terminal the end is EIO or a master that somebody else holds open: what is there is all.
                idle = all([stream.ended or not stream.waiting_for[1] for stream in self._outputs])
                if all([stream.ended for stream in self._outputs]):
                    break
                if not self._turn(0 if self._tty and idle else 2000) and idle:
                    break
            elif self._turn(None) and self._detached:
                return DETACHED
        return self.exit if self.exit is not None else 125

    _detached = False

    def _turn(self, milliseconds: int | None) -> bool:
        poller = select.poll()
        over = self.exit is not None or self.gone
        if not over:
            poller.register(self._sock.fileno(), select.POLLIN)
        poller.register(self._inbox.fileno(), select.POLLIN)
        if self._feed is not None and not over:
            if self._pending:
                poller.register(self._feed.fileno(), select.POLLOUT)
            elif self._source_open:
                poller.register(0, select.POLLIN)
        by_number: dict[int, list[tuple[Stream, bool]]] = {}
        for stream in self._outputs:
            if not stream.ended:
                number, writing = stream.waiting_for
                by_number.setdefault(number, []).append((stream, writing))
        for number, waiting in by_number.items():
            mask = 0
            for _, writing in waiting:
                mask |= select.POLLOUT if writing else select.POLLIN
            if number == 0 and self._source_open and not over:
                mask |= select.POLLIN
            poller.register(number, mask)
        ready = dict(poller.poll(milliseconds))
        for number, waiting in by_number.items():
            state = ready.get(number, 0)
            for stream, writing in waiting:
                bit = select.POLLOUT if writing else select.POLLIN
                if state & (bit | select.POLLHUP | select.POLLERR | select.POLLNVAL):
                    stream.step()
        if self._inbox.fileno() in ready:
            self._signals()
        if not over:
            if self._feed is not None and self._pending and self._feed.fileno() in ready:
                self._write()
            elif self._feed is not None and not self._pending and self._source_open and ready.get(0):
                self._read()
            if self._sock.fileno() in ready:
                self._message()
        return bool(ready)

    def _read(self) -> None:
        try:
            data = posix.read(0, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._source_open = False
            if self._master is not None or self._tty:
                self._pending = b"\x04"
            elif self._feed is not None:
                self._feed.close()
                self._feed = None
            return
        self._pending, self._detached = self._keys.feed(data)

    def _write(self) -> None:
        assert self._feed is not None
        try:
            done = posix.write(self._feed.fileno(), self._pending[:4096])
        except BlockingIOError:
            return
        except OSError:
            self._source_open, self._pending = False, b""
            return
        self._pending = self._pending[done:]

    def _message(self) -> None:
        try:
            message = self._hear()
        except RootlessError:
            message = None
        if message is None:
            self.gone = True
        elif "exit" in message:
            self.exit = int(message["exit"])

    def _signals(self) -> None:
        for number in self._inbox.take():
            if number == SIGWINCH:
                self._resize()
            else:
                self._send({"signal": number})

    def _resize(self) -> None:
        if not self._tty:
            return
        try:
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8)
        except OSError:
            return
        if self._master is not None:
            fcntl.ioctl(self._master.fileno(), termios.TIOCSWINSZ, size)
            return
        rows, columns = struct.unpack("HHHH", size)[:2]
        if rows or columns:
            self._send({"resize": [rows, columns]})

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self._say(message)
        except RootlessError:
            pass


def pass_output(terminal: int) -> None:
    """Let the container's terminal alone process output, or every line would get a second carriage return."""
    attributes: list[Any] = termios.tcgetattr(terminal)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
