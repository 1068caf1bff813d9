"""A transient scope of the user's systemd, asked for over D-Bus with jeepney's blocking connection.

The bus authenticates the caller's uid on the host: a process that is uid 0 in a user namespace has to
say the uid that the socket's owner sees (EXTERNAL), not its own.

Source: org.freedesktop.systemd1(5) StartTransientUnit; systemd.scope(5); D-Bus specification "EXTERNAL"
"""

from __future__ import annotations

import errno
import time

from rootless.errors import KernelError, NotSupported, UsageError
from rootless.kernel.fds import Fd, pipe, read_file
from rootless.kernel.process import pidfd_open, pidfd_send_signal, spawn, wait_pid
from rootless.plan.resources import unit_properties
from rootless.run.cgroups.bus import bus_address, host_uid
from rootless.run.cgroups.find import ROOT, may_join
from rootless.run.cgroups.v2 import V2Cgroup, enable_controllers
from rootless.run.state import CgroupRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.run.cgroups.driver import CgroupRequest
    from rootless.spec.linux import Resources

_TIMEOUT_S = 10.0
_ANNOTATION = "org.systemd.property."


class Bus:
    """One connection to the user's service manager; `with` closes it."""

    def __init__(self) -> None:
        import socket

        from jeepney import DBusAddress
        from jeepney.io.blocking import DBusConnection

        address = bus_address()
        if not address:
            raise NotSupported(
                "systemd cgroup manager",
                ("no user bus: neither DBUS_SESSION_BUS_ADDRESS nor a socket",),
                hint="log in through systemd (loginctl enable-linger), or use the manager cgroupfs",
            )
        self._manager = DBusAddress(
            "/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager"
        )
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.settimeout(_TIMEOUT_S)
        try:
            sock.connect(_socket_path(address))
            _authenticate(sock, host_uid())
            sock.settimeout(None)
            self._connection: Any = DBusConnection(sock)
        except OSError as error:
            sock.close()
            raise NotSupported("systemd cgroup manager", (f"{address}: {error}",)) from None

    def call(self, method: str, signature: str, body: tuple[Any, ...]) -> tuple[Any, ...]:
        """Call a method of the manager. Blocks: at most 10 s. Raises: NotSupported with systemd's words"""
        from jeepney import MessageType, new_method_call

        message = new_method_call(self._manager, method, signature, body)
        reply = self._connection.send_and_get_reply(message, timeout=_TIMEOUT_S)
        if reply.header.message_type is MessageType.error:
            raise NotSupported(f"systemd {method}", (str(reply.body[0]) if reply.body else "refused",))
        result: tuple[Any, ...] = reply.body
        return result

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _socket_path(address: str) -> str:
    """Return the path of the first unix socket in a D-Bus address; abstract names begin with NUL."""
    for one in address.split(";"):
        kind, _, rest = one.partition(":")
        values = dict([word.partition("=")[::2] for word in rest.split(",")])
        if kind == "unix" and "path" in values:
            return values["path"]
        if kind == "unix" and "abstract" in values:
            return "\0" + values["abstract"]
    raise NotSupported("systemd cgroup manager", (f"{address} is not a unix socket",))


def _authenticate(sock: Any, uid: int) -> None:
    """Say who we are; jeepney's own says our uid in the user namespace, which the bus does not know."""
    sock.sendall(b"\0AUTH EXTERNAL " + str(uid).encode().hex().encode() + b"\r\n")
    answer = b""
    while not answer.endswith(b"\r\n"):
        part = sock.recv(256)
        if not part:
            break
        answer += part
    if not answer.startswith(b"OK "):
        raise NotSupported("systemd cgroup manager", (f"the user bus refuses uid {uid}",))
    sock.sendall(b"BEGIN\r\n")


def unit_name(request: CgroupRequest) -> tuple[str, str]:
    """Return (slice, scope) of a cgroupsPath `slice:prefix:name`.

    Raises: UsageError for another form
    """
    path = request.path or ""
    if not path:
        return "user.slice", f"rootless-{request.container}.scope"
    parts = path.split(":")
    if len(parts) != 3:
        raise UsageError(
            f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got {path!r} instead',
            code=1,
        )
    parent, prefix, name = parts
    if name.endswith(".slice"):
        return parent or "user.slice", name
    return parent or "user.slice", f"{prefix}-{name}.scope" if prefix else f"{name}.scope"


def make_scope(request: CgroupRequest) -> SystemdCgroup:
    """Start a transient scope for the container and return its directory.

    systemd makes a scope around processes that exist: a helper that only waits holds it until the
    container's process has been cloned into it.

    Blocks: until the job is done, at most 10 s
    Raises: NotSupported without a bus, or with systemd's words; UsageError for a cgroupsPath of another form
    """
    parent, unit = unit_name(request)
    holder = spawn(["/bin/sh", "-c", "read -r _"], fds={0: _never_ends()}, env={"PATH": "/usr/bin:/bin"})
    try:
        properties: list[tuple[str, tuple[str, Any]]] = [
            ("Description", ("s", f"rootless container {request.container}")),
            ("Slice", ("s", parent)),
            ("Delegate", ("b", True)),
            ("DefaultDependencies", ("b", False)),
            ("CollectMode", ("s", "inactive-or-failed")),
            ("PIDs", ("au", [holder])),
        ]
        properties += [(p.name, (p.signature, p.value)) for p in unit_properties(request.resources)]
        properties += _from_annotations(request.annotations)
        with Bus() as bus:
            bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "fail", properties, []))
            path = _wait_for_scope(holder, unit)
    except BaseException:
        _end(holder)
        raise
    cgroup = SystemdCgroup(CgroupRef("systemd", path, unit), holder)
    if may_join(path):
        cgroup.open()
    enable_controllers(path)
    return cgroup


def set_properties(unit: str, resources: Resources) -> None:
    """Tell systemd new limits, or it would write its own over ours. Raises: NotSupported"""
    properties = [(p.name, (p.signature, p.value)) for p in unit_properties(resources)]
    if properties:
        with Bus() as bus:
            bus.call("SetUnitProperties", "sba(sv)", (unit, True, properties))


def _never_ends() -> Fd:
    reading, writing = pipe()
    # The write end stays open in this process: the holder ends with us at the latest.
    _HELD.append(writing)
    return reading


_HELD: list[Fd] = []


def _end(pid: int) -> None:
    with pidfd_open(pid) as pidfd:
        pidfd_send_signal(pidfd, 9)
    wait_pid(pid)


def _wait_for_scope(pid: int, unit: str) -> str:
    """Return the directory of the scope once systemd has moved *pid* there (the job runs after the reply)."""
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        for line in read_file(f"/proc/{pid}/cgroup").decode("utf-8", "surrogateescape").splitlines():
            if line.startswith("0::") and line.endswith(f"/{unit}"):
                return ROOT + line[3:]
        time.sleep(0.002)
    raise KernelError("StartTransientUnit", errno.ETIMEDOUT, unit)


def _from_annotations(annotations: tuple[tuple[str, str], ...]) -> list[tuple[str, tuple[str, Any]]]:
    """Return the unit properties in annotations org.systemd.property.NAME (GVariant text)."""
    made: list[tuple[str, tuple[str, Any]]] = []
    for key, text in annotations:
        if not key.startswith(_ANNOTATION):
            continue
        name = key[len(_ANNOTATION) :]
        if name.endswith("Sec") and text.lstrip("uint64 ").isdigit():
            made.append((name[:-3] + "USec", ("t", int(text.lstrip("uint64 ")) * 1000000)))
        elif text in ("true", "false"):
            made.append((name, ("b", text == "true")))
        elif text.startswith("uint64 "):
            made.append((name, ("t", int(text[7:]))))
        elif text.lstrip("-").isdigit():
            made.append((name, ("i", int(text))))
        elif text[:1] == text[-1:] == "'":
            made.append((name, ("s", text[1:-1])))
        else:
            raise UsageError(f"annotation {key}={text}: not a boolean, number or quoted string", code=1)
    return made


class SystemdCgroup(V2Cgroup):
    """The directory of a scope; systemd removes it when it is empty."""

    def __init__(self, ref: CgroupRef, holder: int = 0) -> None:
        super().__init__(ref)
        self._holder = holder

    def adopt(self, pid: int) -> None:
        """Move *pid* into the scope; from another session's cgroup only systemd may do that.

        Raises: KernelError(write); NotSupported with systemd's words
        """
        try:
            super().adopt(pid)
        except KernelError as error:
            if error.errno not in (errno.EACCES, errno.EPERM):
                raise
            below = self.ref.path.partition(f"/{self.ref.unit}")[2]
            with Bus() as bus:
                bus.call("AttachProcessesToUnit", "ssau", (self.ref.unit, below, [pid]))

    def close(self) -> None:
        """End the helper that held the scope: the container lives in it now."""
        super().close()
        if self._holder:
            holder, self._holder = self._holder, 0
            _end(holder)

    def remove(self) -> None:
        """Stop the unit, then remove what is left of the directory."""
        if self._holder:
            self.close()
        try:
            with Bus() as bus:
                bus.call("StopUnit", "ss", (self.ref.unit, "replace"))
                bus.call("ResetFailedUnit", "s", (self.ref.unit,))
        except NotSupported:
            pass  # the unit is gone with its last process
        super().remove()
