"""Plain HTTP over sockets that block: a registry on this machine has answered before an event loop is imported.

A client for the one case in which importing is what takes time: no TLS, no proxy, answers whose length is told.
Whatever is otherwise is `NotPlain`, and the client of pull/http.py begins again from the start. The requests and the
meaning of the answers are proto.registry's for both.

The body of a layer is not read here: `Answer.take` gives the connection away, with the body as the next bytes on it.

Source: RFC 9112 (message format, 6.3 length of a body, 9.3 persistence); socket(7) SO_RCVTIMEO, SO_SNDTIMEO
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

from rootless import __version__
from rootless.kernel.fds import Fd
from rootless.proto.messages import Response, TransportFailure
from rootless.proto.registry import MAX_ERROR_BYTES
from rootless.spec.reference import is_loopback, split_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.proto.messages import Request

CONNECT_S = 15
SILENCE_S = 60
MAX_HEAD_BYTES = 64 << 10
_END = b"\r\n\r\n"


class NotPlain(Exception):
    """This needs the client that can do everything."""


class Broken(Exception):
    """There was no answer, or it broke off."""

    def __init__(self, failure: TransportFailure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def failure_of(number: int) -> TransportFailure:
    """Say what errno *number* of a read means; 0 is the end of the connection."""
    if number == 0:
        return TransportFailure("broken", "the connection was closed before the answer was complete")
    if number in (errno.EAGAIN, errno.ETIMEDOUT):
        return TransportFailure("timeout", f"no data for {SILENCE_S} s")
    return TransportFailure("broken", os.strerror(number).lower())


class Answer:
    """An answer; the body of a layer is still on its way.

    Owner: `take` gives the connection to the caller, `close` ends it
    """

    def __init__(self, connection: _Connection, response: Response, length_bytes: int) -> None:
        self.response = response
        self.length_bytes = length_bytes
        self._connection = connection

    def take(self) -> Fd:
        return Fd(self._connection.socket.detach())

    def close(self) -> None:
        self._connection.socket.close()


class PlainClient:
    """Sends requests, over the connection of the last one where that is possible.

    Owner: `close` ends the connection that is kept
    """

    def __init__(self) -> None:
        self._kept: _Connection | None = None

    def close(self) -> None:
        if self._kept is not None:
            self._kept.socket.close()
            self._kept = None

    def send(self, request: Request) -> Answer:
        """Send *request*; a body that is not to be streamed has been read when this returns.

        Blocks:  at most for CONNECT_S, and SILENCE_S between two pieces
        Raises:  Broken, NotPlain
        """
        netloc, text = _encode(request)
        connection, self._kept = self._kept, None
        if connection is not None and connection.netloc == netloc:
            try:
                return self._ask(connection, request, text)
            except Broken:  # it was kept too long for the server
                connection.socket.close()
        elif connection is not None:
            connection.socket.close()
        connection = _Connection(netloc)
        try:
            return self._ask(connection, request, text)
        except BaseException:
            connection.socket.close()
            raise

    def _ask(self, connection: _Connection, request: Request, text: bytes) -> Answer:
        connection.send(text)
        status, headers = _parse(connection.head())
        fields = dict(headers)
        length = fields.get("content-length", "")
        if "transfer-encoding" in fields or not length.isdecimal() or status < 200 or status in (204, 304):
            raise NotPlain
        size = int(length)
        response = Response(status, headers)
        if status in (200, 206) and request.limit_bytes is None:
            return Answer(connection, response, size)
        limit = MAX_ERROR_BYTES
        if status in (200, 206) and request.limit_bytes is not None:
            limit = request.limit_bytes
            if size > limit:
                raise NotPlain
        response = Response(status, headers, connection.body(min(size, limit)))
        if size <= limit and fields.get("connection", "").lower() != "close":
            self._kept = connection
        else:
            connection.socket.close()
        return Answer(connection, response, size)


class _Connection:
    """A socket that blocks, with deadlines that the kernel keeps: whoever gets it has them too."""

    def __init__(self, netloc: str) -> None:
        self.netloc = netloc
        host, port = split_port(netloc)
        try:
            # As bytes: the codec for names in other scripts, which a str goes through, takes 8 ms to load.
            found = _socket.getaddrinfo(host.strip("[]").encode("ascii"), port or 80, 0, _socket.SOCK_STREAM)
        except OSError as error:
            text = (error.strerror or str(error)).lower()
            raise Broken(TransportFailure("name", f"no address for its name: {text}")) from None
        last: OSError | None = None
        for family, kind, protocol, _, address in found:
            self.socket = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, protocol)
            try:
                self.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, _seconds(CONNECT_S))
                self.socket.connect(address)
                self.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDTIMEO, _seconds(SILENCE_S))
                self.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, _seconds(SILENCE_S))
                self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
                return
            except OSError as error:
                last = error
                self.socket.close()
        number = last.errno if last is not None and last.errno else errno.EIO
        if number == errno.ECONNREFUSED:
            raise Broken(TransportFailure("refused", "connection refused"))
        if number in (errno.EINPROGRESS, errno.EAGAIN, errno.ETIMEDOUT):
            raise Broken(TransportFailure("timeout", f"no connection within {CONNECT_S} s"))
        raise Broken(failure_of(number))

    def send(self, text: bytes) -> None:
        try:
            self.socket.sendall(text)
        except OSError as error:
            raise Broken(failure_of(error.errno or errno.EIO)) from None

    def head(self) -> bytes:
        """Return the head of the answer; what follows it stays in the socket."""
        head = b""
        while True:
            seen = self._receive(MAX_HEAD_BYTES, _socket.MSG_PEEK)
            end = (head + seen).find(_END)
            if end >= 0:
                return head + self._receive(end + len(_END) - len(head))
            head += self._receive(len(seen))
            if len(head) > MAX_HEAD_BYTES:
                raise NotPlain

    def body(self, size_bytes: int) -> bytes:
        found = b""
        while len(found) < size_bytes:
            found += self._receive(size_bytes - len(found))
        return found

    def _receive(self, size_bytes: int, flags: int = 0) -> bytes:
        try:
            data: bytes = self.socket.recv(size_bytes, flags)
        except OSError as error:
            raise Broken(failure_of(error.errno or errno.EIO)) from None
        if not data:
            raise Broken(failure_of(0))
        return data


def _seconds(value: int) -> bytes:
    return struct.pack("ll", value, 0)  # struct timeval


def _encode(request: Request) -> tuple[str, bytes]:
    """Return where *request* goes, and its bytes."""
    scheme, _, rest = request.url.partition("://")
    netloc, _, path = rest.partition("/")
    path = path.partition("#")[0]
    if scheme != "http" or request.body or "@" in netloc or "?" in netloc or not is_loopback(netloc):
        raise NotPlain
    lines = [f"{request.method} /{path} HTTP/1.1", f"Host: {netloc}", f"User-Agent: rootless/{__version__}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    if " " in path or not all(line.isascii() and line.isprintable() for line in lines):
        raise NotPlain
    return netloc, "\r\n".join([*lines, "", ""]).encode("ascii")


def _parse(head: bytes) -> tuple[int, tuple[tuple[str, str], ...]]:
    """Return status and headers, their names in lower case; what is not to the letter is NotPlain."""
    first, *lines = head[: -len(_END)].decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    status = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or len(status) != 3 or not status.isdecimal():
        raise NotPlain
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise NotPlain
        headers.append((name.lower(), value.strip()))
    if version == "HTTP/1.0":
        headers.append(("connection", "close"))
    if len([name for name, _ in headers if name == "content-length"]) > 1:
        raise NotPlain
    return int(status), tuple(headers)
