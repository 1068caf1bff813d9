"""The API socket of slirp4netns: publish ports of a running stack by one JSON request a connection.

Shape:  {"execute": "add_hostfwd", "arguments": {"proto": "tcp", "host_addr": "0.0.0.0", "host_port": 8080,
         "guest_addr": "10.0.2.100", "guest_port": 80}} -> {"return": {"id": 1}}; list_hostfwd; remove_hostfwd by id.
        The client ends its request by shutting down its side; errors are {"error": {"desc": "bad request: ..."}}
Source: slirp4netns(1) "API SOCKET"
"""

from __future__ import annotations

import _socket
import posix

from netns.addressing import format_ip, parse_ip, parse_ipv4
from netns.config import PortForward
from rootless.errors import RootlessError
from rootless.kernel.fds import Fd
from rootless.spec import jsontext
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from netns.slirp import Stack

REQUEST_MAX = 4095
CLIENTS_MAX = 4  # the loop watches eight descriptors in all


@record
class Entry:
    """One port that was published through the socket; *guest* is an address in network order."""

    id: int
    port: PortForward
    guest: bytes


class BadRequest(Exception):
    """A request in the wrong form; the text is the answer."""


class ApiSocket:
    """Listens at *path* and answers from within the loop: *watched* gains and loses its descriptors."""

    def __init__(self, path: str, stack: Stack, guest: bytes, watched: dict[Fd, Callable[[], bool]]) -> None:
        self._stack, self._guest, self._watched = stack, guest, watched
        self._entries: dict[int, Entry] = {}
        self._last_id = 0
        self._clients: dict[Fd, bytes] = {}
        kind = _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
        self._sock = _socket.socket(_socket.AF_UNIX, kind)
        try:
            self._sock.bind(path)
            self._sock.listen(128)
        except OSError as error:
            raise RootlessError(f"cannot listen at {path}: {(error.strerror or '').lower()}") from None
        self._listener = Fd(posix.dup(self._sock.fileno()))
        watched[self._listener] = self._accept

    def _accept(self) -> bool:
        if len(self._clients) >= CLIENTS_MAX:
            self._forget(next(iter(self._clients)))  # the one that waits longest
        try:
            number, _ = self._sock._accept()  # type: ignore[attr-defined]
        except OSError:
            return True
        client = Fd(number)
        posix.set_blocking(number, False)
        self._clients[client] = b""
        self._watched[client] = lambda: self._read(client)
        return True

    def _read(self, client: Fd) -> bool:
        try:
            data = posix.read(client.fileno(), REQUEST_MAX + 1)
        except OSError:
            self._forget(client)
            return True
        self._clients[client] += data
        request = self._clients[client]
        if len(request) > REQUEST_MAX:
            self._answer(client, _error("bad request: too large message"))
        elif not data:
            self._answer(client, self.respond(request))
        return True

    def _answer(self, client: Fd, value: dict[str, Any]) -> None:
        try:
            posix.write(client.fileno(), jsontext.dumps(value).encode())
        except OSError:
            pass  # it did not wait for the answer
        self._forget(client)

    def _forget(self, client: Fd) -> None:
        del self._clients[client], self._watched[client]
        client.close()

    def respond(self, request: bytes) -> dict[str, Any]:
        """Obey one *request* and return the answer."""
        try:
            message = jsontext.loads(request)
        except ValueError:
            return _error("bad request: cannot parse JSON")
        if not isinstance(message, dict) or not isinstance(message.get("execute"), str):
            return _error("bad request: no execute found")
        verb, arguments = message["execute"], message.get("arguments") or {}
        try:
            if verb == "add_hostfwd":
                return {"return": {"id": self._add(arguments)}}
            if verb == "list_hostfwd":
                # slirp4netns's manual page says the one, the program does the other.
                entries = [_describe(entry) for entry in self._entries.values()]
                return {"return": {"entries": entries}, "entries": entries}
            if verb == "remove_hostfwd":
                return {"return": self._remove(arguments)}
        except BadRequest as error:
            return _error(f"bad request: {verb}: {error}")
        except RootlessError as error:
            return _error(f"bad request: {verb}: {error}")
        return _error("bad request: unknown execute")

    def _add(self, arguments: dict[str, Any]) -> int:
        protocol = arguments.get("proto")
        if protocol not in ("tcp", "udp"):
            raise BadRequest("bad arguments.proto")
        # podman sends "guest_addr": "" for the default
        host = arguments.get("host_addr") or "0.0.0.0"
        if not isinstance(host, str) or parse_ip(host) is None:
            raise BadRequest("bad arguments.host_addr")
        ports = [arguments.get("host_port"), arguments.get("guest_port")]
        for name, number in zip(("host_port", "guest_port"), ports):
            if not isinstance(number, int) or not 1 <= number <= 65535:
                raise BadRequest(f"bad arguments.{name}")
        guest = self._guest
        if arguments.get("guest_addr"):
            parsed = parse_ipv4(str(arguments["guest_addr"]))
            if parsed is None:
                raise BadRequest("bad arguments.guest_addr")
            guest = parsed
        bound = self._stack.forward(PortForward(host, int(ports[0] or 0), int(ports[1] or 0), protocol), guest)
        self._last_id += 1
        self._entries[self._last_id] = Entry(self._last_id, bound, guest)
        return self._last_id

    def _remove(self, arguments: dict[str, Any]) -> dict[str, Any]:
        entry = self._entries.get(arguments.get("id") or 0)
        if entry is None:
            raise BadRequest("bad arguments.id")
        self._stack.unforward(entry.port)
        del self._entries[entry.id]
        return {}


def _describe(entry: Entry) -> dict[str, Any]:
    port = entry.port
    return {
        "id": entry.id,
        "proto": port.protocol,
        "host_addr": port.host_ip,
        "host_port": port.host_port,
        "guest_addr": format_ip(entry.guest),
        "guest_port": port.container_port,
    }


def _error(text: str) -> dict[str, Any]:
    return {"error": {"desc": text}}
