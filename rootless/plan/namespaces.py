"""The namespaces of a container: its own, the host's, another container's or one with a path; and their sysctls.

Source: podman-run(1) "--pid", "--ipc", "--uts", "--network", "--cgroupns", "--sysctl"; runtime-spec
        config-linux.md#namespaces
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.plan import defaults
from rootless.plan.options import RunOptions
from rootless.spec.linux import Namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from rootless.spec.idmap import IdMap

    Resolver = Callable[[str, str], str]


def is_joined(mode: str) -> bool:
    """Say whether *mode* names a namespace that exists: `container:NAME` or `ns:PATH`."""
    return mode.startswith(("container:", "ns:"))


def no_resolver(kind: str, mode: str) -> str:
    """Raises: UsageError - nobody here can look into other containers"""
    raise UsageError(f"the {kind} namespace of {mode} cannot be joined here")


def modes_of(options: RunOptions) -> tuple[tuple[str, str], ...]:
    """Return (namespace type, mode) in the order in which they are made."""
    return (("user", options.userns), ("pid", options.pid), ("ipc", options.ipc), ("uts", options.uts),
            ("network", options.network.mode), ("cgroup", options.cgroupns))  # fmt: skip


def needs(requires: Sequence[str], modes: Sequence[str]) -> list[str]:
    """Return the containers that one cannot be without: those of --requires, and those whose namespaces it joins."""
    joined = [mode.partition(":")[2] for mode in modes if mode.startswith("container:")]
    return list(dict.fromkeys([*requires, *joined]))


def recorded_needs(asked: dict[str, Any]) -> list[str]:
    """Return `needs` of the options that a container's record keeps."""
    network: dict[str, Any] = asked.get("network") or {}
    modes = [str(asked.get(key) or "") for key in ("userns", "pid", "ipc", "uts", "cgroupns")]
    return needs(asked.get("requires") or (), [*modes, str(network.get("mode") or "")])


def namespaces(options: RunOptions, own_user: bool, resolve: Resolver) -> tuple[Namespace, ...]:
    """Return the namespaces to make and to join; *own_user*: the container has a user namespace of its own.

    Shape:  *resolve* returns the path of the namespace of (type, `container:NAME` or `ns:PATH`), "" for one that
            is shared anyway
    Raises: what *resolve* raises
    """
    found: list[Namespace] = []
    for kind, mode in modes_of(options):
        if is_joined(mode):
            path = resolve(kind, mode)
            if path:
                found.append(Namespace(kind, path))
        elif own_user if kind == "user" else mode != "host":
            found.append(Namespace(kind))
    return (*found, Namespace("mount"))


def sysctls(options: RunOptions, gid_map: IdMap | None) -> tuple[tuple[str, str], ...]:
    """Return the kernel parameters to set: the defaults of a network of its own, and --sysctl.

    Raises: UsageError in podman's words for one of a namespace that is not the container's
    """
    network = options.network.mode
    values: dict[str, str] = {}
    if network != "host" and not is_joined(network) and (gid_map is None or gid_map.lookup(0) is not None):
        values.update(defaults.NETWORK_SYSCTLS if options.default_sysctls is None else options.default_sysctls)
    for key, value in options.sysctls:
        mode, where = (network, "network") if key.startswith("net.") else (options.ipc, "IPC")
        if mode == "host" or is_joined(mode):
            shown = "host" if mode == "host" else mode.partition(":")[0].replace("ns", "path")
            raise UsageError(
                f"sysctl {key}={value} can't be set since {where} Namespace set to {shown}: invalid argument"
            )
        values[key] = value
    return tuple(values.items())
