"""Where a container's output is kept: the drivers of `--log-driver`, written by the container's supervisor.

    sink = open_log("k8s-file", path, tag="", max_size_bytes=0, cid=cid, name=name)
    if sink is not None:
        sink.write(1, b"a chunk of its stdout")     # never raises, never waits for a reader
        sink.close()

A log that cannot be written (a full disk, a journal that is gone) never stops the container: the output is dropped,
`lost_bytes` counts it, and the file keeps whole lines only, because what was written of a piece is cut off again.

A file that would grow beyond its bound is replaced by a new one under the same name (rename(2)); the older output is
given up. Who reads the old file goes on reading it to its end, and then opens the new one.

Source: conmon(8) of podman 4.3 (formats, fields of the journal, what a bound does); the native protocol of the
        systemd journal (systemd.io/JOURNAL_NATIVE_PROTOCOL)
"""

from __future__ import annotations

import os
import time

from rootless.errors import NotSupported, StoreError, UsageError
from rootless.proto import logline

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Protocol

    class LogSink(Protocol):
        """What takes a container's output."""

        lost_bytes: int

        def write(self, stream: int, data: bytes) -> None:
            """Keep *data*, a piece of the container's stdout (1) or stderr (2)."""

        def close(self) -> None:
            """Give the file or socket back."""


DRIVERS = ("k8s-file", "json-file", "journald", "none", "passthrough")
JOURNAL_MS = 500
JOURNAL_SOCKET = "/run/systemd/journal/socket"
_PRIORITY = {logline.STDOUT: 6, logline.STDERR: 3}  # info and err, as conmon has them


def open_log(driver: str, path: str, *, tag: str, max_size_bytes: int, cid: str, name: str) -> LogSink | None:
    """Open the log of a container, None where nothing is kept (`none`, `passthrough`).

    Units: *max_size_bytes* 0 is no bound
    Raises: StoreError - the file cannot be opened; NotSupported - no journal answers; UsageError - no such driver
    """
    if driver in ("", "k8s-file"):
        return FileSink(path, logline.encode_k8s, max_size_bytes)
    if driver == "json-file":
        return FileSink(path, logline.encode_json, max_size_bytes, utc=True)
    if driver == "journald":
        return JournalSink(cid, name, tag)
    if driver not in DRIVERS:
        raise UsageError(f'logging driver "{driver}" is not supported', hint=f"use one of {', '.join(DRIVERS)}")
    return None


class FileSink:
    """A log file.

    Owner: the file is opened here and closed by `close`
    """

    def __init__(
        self, path: str, encode: Callable[[str, int, bytes], bytes], max_size_bytes: int, *, utc: bool = False
    ) -> None:
        self.lost_bytes = 0
        self._path = path
        self._encode = encode
        self._bound = max_size_bytes
        self._clock = _Clock(utc)
        try:
            self._fd = _open(path, 0)
            self._size = os.fstat(self._fd).st_size
            if self._size:
                self._end_line()
        except OSError as error:
            raise StoreError(f"cannot open the log {path}: {os.strerror(error.errno or 0).lower()}") from error

    def write(self, stream: int, data: bytes) -> None:
        """Keep *data*."""
        if self._fd < 0 or not data:
            return
        block = self._encode(self._clock.now(), stream, data)
        if not self._bound or self._size + len(block) <= self._bound:
            self._append(block)
        else:
            self._append_bounded(block)

    def close(self) -> None:
        """Close the file; what is written afterwards is dropped."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _end_line(self) -> None:
        """Let the log go on in a line of its own: a supervisor that was killed may have left half a line."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return  # a log that we may only write
        try:
            if os.pread(fd, 1, self._size - 1) not in (b"\n", b""):
                self._append(b"\n")
        finally:
            os.close(fd)

    def _append_bounded(self, block: bytes) -> None:
        """Write whole lines up to the bound, then go on in a new file; a line beyond the bound stands alone."""
        while block:
            room = self._bound - self._size
            cut = len(block) if len(block) <= room else block.rfind(b"\n", 0, max(room, 0)) + 1
            if not cut:
                if self._size:
                    self._begin_again()
                    continue
                cut = block.index(b"\n") + 1
            self._append(block[:cut])
            block = block[cut:]

    def _append(self, block: bytes) -> None:
        done = 0
        try:
            while done < len(block):
                done += os.write(self._fd, block[done:] if done else block)
        except OSError:
            self.lost_bytes += len(block)
            if done:
                self._cut_off(self._size)
            return
        self._size += done

    def _cut_off(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError:
            pass  # not a regular file: whoever reads it sees half a line

    def _begin_again(self) -> None:
        """Replace the file by an empty one, or empty it where there is no space for a second."""
        temporary = f"{self._path}.tmp"
        self._size = 0
        try:
            fd = _open(temporary, os.O_TRUNC)
        except OSError:
            self._cut_off(0)
            return
        try:
            os.rename(temporary, self._path)
        except OSError:
            os.close(fd)
            self._cut_off(0)
            return
        os.close(self._fd)
        self._fd = fd


def _open(path: str, flags: int) -> int:
    # O_NONBLOCK: a FIFO given with path= must neither hold the start up until it is read, nor a full one the container.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | flags, 0o600)


class JournalSink:
    """The systemd journal of this machine.

    Owner: the socket is opened here and closed by `close`
    """

    def __init__(self, cid: str, name: str, tag: str) -> None:
        from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, socket

        self.lost_bytes = 0
        self._waits = True
        fields = [f"CONTAINER_ID={cid[:12]}", f"CONTAINER_ID_FULL={cid}", f"CONTAINER_NAME={name}"]
        if tag:
            fields.append(f"CONTAINER_TAG={tag}")
        fields.append(f"SYSLOG_IDENTIFIER={tag or name}")
        # A line feed would begin another field.
        self._fields = "".join([field.replace("\n", " ") + "\n" for field in fields]).encode("utf-8", "surrogateescape")
        self._socket: _socket.socket | None = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
        try:
            self._socket.connect(JOURNAL_SOCKET)
        except OSError as error:
            self.close()
            raise NotSupported(
                "--log-driver journald",
                (f"no journal answers at {JOURNAL_SOCKET}: {os.strerror(error.errno or 0).lower()}",),
                hint="use --log-driver k8s-file",
            ) from error

    def write(self, stream: int, data: bytes) -> None:
        """Send an entry for each line of *data*; what the journal does not take in half a second is dropped."""
        if self._socket is None or not data:
            return
        lines = data.split(b"\n")
        rest = lines.pop()
        head = b"PRIORITY=%d\n%s" % (_PRIORITY[stream], self._fields)
        for line in lines:
            self._send(head, line)
        if rest:
            self._send(b"CONTAINER_PARTIAL_MESSAGE=true\n" + head, rest)

    def _send(self, head: bytes, line: bytes) -> None:
        if self._socket is None:
            return
        entry = b"%sMESSAGE=%s\n" % (head, line)
        for _ in range(2):
            try:
                self._socket.send(entry)
                self._waits = True
                return
            except BlockingIOError:
                # Its queue holds a dozen entries. A journal that does not take one in time is not waited for again
                # until it does: the container must not run at the speed of these waits.
                if not self._waits:
                    break
                self._waits = self._is_ready()
            except OSError:
                break
        self.lost_bytes += len(line)

    def _is_ready(self) -> bool:
        """Wait a while for the journal to take an entry."""
        import select

        waiter = select.poll()
        waiter.register(self._socket.fileno() if self._socket is not None else -1, select.POLLOUT)
        return bool(waiter.poll(JOURNAL_MS))

    def close(self) -> None:
        """Close the socket; what is written afterwards is dropped."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Clock:
    """The time as text, local or UTC; all but its fraction is made once a second."""

    def __init__(self, utc: bool) -> None:
        self._utc = utc
        self._second = -1
        self._text = ("", "")

    def now(self) -> str:
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            local = time.gmtime(second) if self._utc else time.localtime(second)
            text = logline.stamp(local[:6], 0, local.tm_gmtoff)
            self._second, self._text = second, (text[:20], "Z" if self._utc else text[29:])
        return f"{self._text[0]}{nanoseconds:09}{self._text[1]}"
