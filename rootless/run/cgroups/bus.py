"""Whether there may be a cgroup to be had, and where the bus of the user's systemd is, which is asked for a scope.

Apart from what makes cgroups, because most launches only want to know.

Source: systemd(1) --user, pam_systemd(8) XDG_RUNTIME_DIR; dbus-daemon(1) DBUS_SESSION_BUS_ADDRESS
"""

from __future__ import annotations

import os
import posix

from rootless.errors import KernelError
from rootless.kernel.fds import read_file


def host_uid() -> int:
    """Return our uid as the host's namespace has it (the bus is outside of ours)."""
    uid = posix.geteuid()
    try:
        lines = read_file("/proc/self/uid_map").decode().splitlines()
    except KernelError:
        return uid
    for line in lines:
        inside, outside, count = [int(word) for word in line.split()]
        if inside <= uid < inside + count:
            return outside + uid - inside
    return uid


def bus_address() -> str:
    """Return the address of the user bus, empty if none is known."""
    address = posix.environ.get(b"DBUS_SESSION_BUS_ADDRESS", b"").decode("utf-8", "surrogateescape")
    if address:
        return address
    runtime = posix.environ.get(b"XDG_RUNTIME_DIR", b"").decode("utf-8", "surrogateescape")
    directory = runtime or f"/run/user/{host_uid()}"
    path = f"{directory}/bus"
    return f"unix:path={path}" if posix.access(path, posix.W_OK) else ""


def is_reachable(root: str, *, stays: bool) -> bool:
    """Say whether a cgroup may be had below *root* for a container without limits; cheap, for most have none.

    Shape: *stays*: the container is to outlive the session, for which systemd is asked where it answers
    """
    if stays and bus_address():
        return True
    try:
        with open("/proc/self/cgroup") as file:
            own = [line[3:].rstrip("\n") for line in file if line.startswith("0::")]
    except OSError:
        return False
    return bool(own) and os.access(f"{root}{own[0]}/cgroup.procs", os.W_OK, effective_ids=True)
