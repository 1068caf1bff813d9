"""What a container gets from the host beside files: device nodes and the time zone. Reads only.

Source: podman-run(1) "--device", "--tz", "--privileged"; observed: podman 4.3's words
"""

from __future__ import annotations

import posix
import stat

from rootless.errors import RootlessError, UsageError
from rootless.plan.options import DeviceRequest

ZONES = "/usr/share/zoneinfo"
CDI_DIRECTORIES = ("/etc/cdi", "/run/cdi", "/var/run/cdi")
_OWN_DIRECTORIES = ("pts", "shm", "mqueue", "fd", "hugepages", ".udev", ".lxc", ".lxd-mounts")


def expand_devices(requests: tuple[DeviceRequest, ...]) -> tuple[DeviceRequest, ...]:
    """Return one request for each node; a directory stands for the nodes in it.

    Raises: RootlessError - there is no such device
    """
    found: list[DeviceRequest] = []
    for request in requests:
        if not request.target:
            found.append(request)  # a CDI name, which the translation looks up
            continue
        try:
            mode = posix.stat(request.source).st_mode
        except OSError as error:
            raise RootlessError(f"stat {request.source}: {posix.strerror(error.errno or 0).lower()}") from None
        if stat.S_ISDIR(mode):
            nodes = device_nodes(request.source)
            if not nodes:
                raise UsageError(f"no devices found in {request.source}: invalid argument")
            skip = len(request.source.rstrip("/"))
            target = request.target.rstrip("/")
            found += [DeviceRequest(node, target + node[skip:], request.permissions) for node in nodes]
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            found.append(request)
        else:
            raise UsageError(f"{request.source} is not a valid device: not a device node")
    return tuple(found)


def device_number(path: str, flag: str) -> tuple[int, int]:
    """Return (major, minor) of a device that a limit names. Raises: UsageError in podman's words"""
    try:
        number = posix.stat(path).st_rdev
    except OSError as error:
        reason = posix.strerror(error.errno or 0).lower()
        raise UsageError(f"failed to inspect '{path}' in --{flag}: {reason}") from None
    return posix.major(number), posix.minor(number)


def device_nodes(directory: str = "/dev", *, usable: bool = False) -> tuple[str, ...]:
    """Return the paths of the nodes below *directory*; with *usable* only those that the caller may open."""
    nodes: list[str] = []
    stack = [directory.rstrip("/")]
    while stack:
        here = stack.pop()
        try:
            with posix.scandir(here) as entries:
                for entry in entries:
                    if entry.is_symlink():
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name not in _OWN_DIRECTORIES:
                            stack.append(entry.path)
                        continue
                    mode = entry.stat(follow_symlinks=False).st_mode
                    is_node = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
                    if is_node and (not usable or _may_open(entry.path)):
                        nodes.append(entry.path)
        except OSError:
            continue  # a directory that is not ours to read has nothing for the container
    return tuple(sorted(nodes))


def _may_open(path: str) -> bool:
    return posix.access(path, posix.R_OK) or posix.access(path, posix.W_OK)


def read_zone(name: str) -> bytes | None:
    """Return the zone file of --tz (`local` is the host's own), None when no zone was asked for.

    Raises: UsageError - there is no such zone
    """
    if not name:
        return None
    path = "/etc/localtime" if name == "local" else f"{ZONES}/{name}"
    if ".." in name.split("/"):
        raise UsageError(f"running container create option: {name} is not a time zone")
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        reason = posix.strerror(error.errno or 0).lower()
        raise UsageError(f"running container create option: stat {path}: {reason}") from None


def cdi_specs() -> tuple[tuple[str, str], ...]:
    """Return (path, text) of the CDI specifications of this machine; later directories win.

    Source: Container Device Interface specification "CDI Specification Directories"
    """
    found: dict[str, str] = {}
    seen: list[tuple[int, int]] = []
    for directory in CDI_DIRECTORIES:
        try:
            status = posix.stat(directory)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.append((status.st_dev, status.st_ino))
            for name in sorted(posix.listdir(directory)):
                if name.endswith((".json", ".yaml", ".yml")):
                    with open(f"{directory}/{name}", encoding="utf-8") as file:
                        found[f"{directory}/{name}"] = file.read()
        except (OSError, ValueError):
            continue  # what is not ours to read describes nothing for us
    return tuple(found.items())
