"""Which paths of /proc and /sys a container does not see or cannot write: the defaults, mask=, unmask=, --privileged.

Source: podman-run(1) "--security-opt"; observed: podman 4.3's config.json
"""

from __future__ import annotations

from rootless.plan import defaults
from rootless.plan.options import RunOptions


def masked_paths(options: RunOptions, network: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return masked and read-only paths after --privileged, mask= and unmask=."""
    if options.privileged:
        return options.security.mask, ()
    masked: tuple[str, ...] = defaults.MASKED_PATHS
    readonly: tuple[str, ...] = defaults.READONLY_PATHS
    if network == "host":
        masked = defaults.MASKED_PATHS_HOST_NETWORK + masked
    patterns = options.security.unmask
    if "ALL" in patterns:
        masked, readonly = (), ()
    elif patterns:
        masked = tuple([path for path in masked if not matches(path, patterns)])
        readonly = tuple([path for path in readonly if not matches(path, patterns)])
    return masked + options.security.mask, readonly


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Say whether a pattern names *path*; `*` stands for anything but a slash."""
    return any(_glob(path.split("/"), pattern.rstrip("/").split("/")) for pattern in patterns)


def _glob(names: list[str], patterns: list[str]) -> bool:
    return len(names) == len(patterns) and all(_like(n, p) for n, p in zip(names, patterns))


def _like(name: str, pattern: str) -> bool:
    pieces = pattern.split("*")
    if len(pieces) == 1:
        return name == pattern
    if not name.startswith(pieces[0]) or not name.endswith(pieces[-1]):
        return False
    at, end = len(pieces[0]), len(name) - len(pieces[-1])
    for piece in pieces[1:-1]:
        found = name.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return at <= end


def writable_cgroups(options: RunOptions) -> bool:
    """Say whether /sys/fs/cgroup shall be writable: --privileged, unmask=ALL or the path itself."""
    return options.privileged or any([
        pattern == "ALL" or pattern.rstrip("/") == "/sys/fs/cgroup" for pattern in options.security.unmask
    ])  # fmt: skip
