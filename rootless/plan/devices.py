"""Devices of the host in the container: bind mounts, because a user namespace has no mknod(2).

Source: mknod(2) EPERM; observed: podman 4.3's config.json for --device
"""

from __future__ import annotations

from rootless.plan.options import DeviceRequest
from rootless.spec.runtime import Mount

STANDARD = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")


def device_mounts(devices: tuple[DeviceRequest, ...]) -> tuple[Mount, ...]:
    """Return the mount of each device. Its node's own permissions decide; `w` missing makes the mount read-only."""
    return tuple([_mount(device) for device in devices])


def _mount(device: DeviceRequest) -> Mount:
    mode = "rw" if "w" in device.permissions else "ro"
    return Mount(device.target, device.source, "bind", ("bind", "nosuid", "noexec", mode, "slave"))


def privileged(nodes: tuple[str, ...]) -> tuple[DeviceRequest, ...]:
    """Return the devices of --privileged: all *nodes* of the host that the container does not make itself."""
    own = ("/dev/console", "/dev/ptmx", "/dev/tty", *STANDARD)
    return tuple([DeviceRequest(node, node) for node in nodes if node not in own and not node.startswith("/dev/pts/")])
