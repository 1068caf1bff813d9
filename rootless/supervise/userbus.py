"""Ask the user's service manager over its bus, without a library: see proto/dbus.py.

The bus authenticates the caller's uid on the host: a process that is uid 0 in a user namespace says the uid that the
socket's owner sees.

Source: D-Bus Specification "Authentication Protocol"; org.freedesktop.systemd1(5)
"""

from __future__ import annotations

import _socket

from rootless.errors import NotSupported
from rootless.proto import dbus
from rootless.run.cgroups.systemd import bus_address, host_uid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TIMEOUT_SECONDS = 10.0
MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")


def socket_path(address: str) -> str:
    """Return the path of the first unix socket of a D-Bus address, "" for none; abstract names begin with NUL."""
    for one in address.split(";"):
        kind, _, rest = one.partition(":")
        if kind == "unix":
            values = dict([word.partition("=")[::2] for word in rest.split(",")])
            if "path" in values:
                return values["path"]
            if "abstract" in values:
                return "\0" + values["abstract"]
    return ""


class UserBus:
    """One connection; `with` closes it. Raises: NotSupported - nobody answers, or not us"""

    def __init__(self) -> None:
        path = socket_path(bus_address())
        if not path:
            raise NotSupported("scope", ("no user bus answers (loginctl enable-linger starts one)",))
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        self._socket.settimeout(TIMEOUT_SECONDS)
        self._serial = 0
        try:
            self._socket.connect(path)
            self._authenticate()
            self.call(_BUS, "Hello")
        except OSError as error:
            self._socket.close()
            raise NotSupported("scope", (f"user bus: {(error.strerror or str(error)).lower()}",)) from None
        except NotSupported:
            self._socket.close()
            raise

    def _authenticate(self) -> None:
        self._socket.sendall(b"\0AUTH EXTERNAL " + str(host_uid()).encode().hex().encode() + b"\r\n")
        answer = b""
        while not answer.endswith(b"\r\n"):
            part = self._socket.recv(256)
            if not part:
                break
            answer += part
        if not answer.startswith(b"OK "):
            raise NotSupported("scope", (f"the user bus refuses uid {host_uid()}",))
        self._socket.sendall(b"BEGIN\r\n")

    def call(self, where: tuple[str, str, str], method: str, signature: str = "", body: tuple[Any, ...] = ()) -> None:
        """Call a method and wait for its answer.

        Blocks: at most 10 s between two messages
        Raises: NotSupported with the other side's words; OSError
        """
        self._serial += 1
        self._socket.sendall(dbus.call(self._serial, *where, method, signature, body))
        while True:
            head = self._receive(dbus.FIXED_BYTES)
            reply = dbus.parse(head + self._receive(dbus.size_of(head) - len(head)))
            if reply.serial != self._serial:
                continue  # a signal
            if reply.kind == dbus.ERROR:
                raise NotSupported("scope", (f"systemd: {reply.text or reply.error}",))
            if reply.kind == dbus.METHOD_RETURN:
                return

    def _receive(self, size_bytes: int) -> bytes:
        found = b""
        while len(found) < size_bytes:
            part = self._socket.recv(size_bytes - len(found))
            if not part:
                raise NotSupported("scope", ("the user bus went away",))
            found += part
        return found

    def __enter__(self) -> UserBus:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
