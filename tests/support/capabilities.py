"""What this machine can do, found by doing it; `require` skips a test, or fails it where CI demands the capability.

ROOTLESS_TEST_REQUIRE, a list separated by commas, names what must be there.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

DEMAND = "ROOTLESS_TEST_REQUIRE"


def require(*names: str) -> None:
    """Skip the running test with a reason if one of the capabilities *names* is missing; fail it if it is demanded."""
    for name in names:
        reason = missing(name)
        if reason is None:
            continue
        if name in demanded():
            pytest.fail(f"{name} is demanded by {DEMAND} and missing: {reason}", pytrace=False)
        pytest.skip(f"no {name}: {reason}")


def demanded() -> frozenset[str]:
    """Return what ROOTLESS_TEST_REQUIRE lists."""
    names = frozenset(word.strip() for word in os.environ.get(DEMAND, "").split(",") if word.strip())
    unknown = names - PROBES.keys()
    if unknown:
        pytest.fail(f"{DEMAND} lists what there is no probe for: {', '.join(sorted(unknown))}", pytrace=False)
    return names


@functools.cache
def missing(name: str) -> str | None:
    """Return why the capability *name* is missing, None where it works."""
    try:
        return PROBES[name]()
    except OSError as error:
        return str(error)


def subordinate(kind: str) -> tuple[int, int] | None:
    """Return the first (start, size) range of the caller in /etc/sub*kind*, `kind` being uid or gid."""
    try:
        text = Path(f"/etc/sub{kind}").read_text()
    except FileNotFoundError:
        return None
    try:
        owners = {str(os.getuid()), pwd.getpwuid(os.getuid()).pw_name}
    except KeyError:
        owners = {str(os.getuid())}
    for line in text.splitlines():
        owner, _, rest = line.partition(":")
        if owner in owners:
            start, _, size = rest.partition(":")
            return int(start), int(size)
    return None


def _in_namespace(body: Callable[[], None], ids: str) -> str | None:
    from tests.support.userns import in_userns

    try:
        in_userns(body, ids=ids)
    except Exception as error:
        return str(error).strip().splitlines()[-1]
    return None


def _nothing() -> None:
    pass


def _userns() -> str | None:
    return _in_namespace(_nothing, "single")


def _subuid() -> str | None:
    for kind in ("uid", "gid"):
        if subordinate(kind) is None:
            return f"no range in /etc/sub{kind}"
        if shutil.which(f"new{kind}map") is None:
            return f"no new{kind}map (package uidmap)"
    return _in_namespace(_nothing, "subid")


def _overlay() -> str | None:
    """Mount an overlay below the directory that tests work in, and use it."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("ROOTLESS_TEST_WORK")) as place:

        def body() -> None:
            from rootless.kernel import mounts

            for name in ("lower/d", "upper", "work", "merged"):
                os.makedirs(f"{place}/{name}")
            data = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work,userxattr"
            mounts.mount("overlay", f"{place}/merged", "overlay", 0, data)
            os.rmdir(f"{place}/merged/d")
            shutil.rmtree(f"{place}/work", ignore_errors=True)

        return _in_namespace(body, "single")


def _device(path: str) -> Callable[[], str | None]:
    def probe() -> str | None:
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return f"{path}: {error.strerror}"
        return None

    return probe


def _fuse() -> str | None:
    try:
        import pyfuse3  # noqa: F401
    except ImportError as error:
        return str(error)
    return _device("/dev/fuse")()


def _tun() -> str | None:
    try:
        import netns._slirp  # noqa: F401
    except ImportError as error:
        return str(error)
    return _device("/dev/net/tun")()


def _program(name: str) -> Callable[[], str | None]:
    return lambda: None if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") else f"no {name}"


def _cgroup() -> str | None:
    """Look for a cgroup v2 directory of ours in which a child can be made and joined."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, _, path = line.split(":", 2)
        if number != "0":
            continue
        directory = Path("/sys/fs/cgroup") / path.lstrip("/")
        if not (directory / "cgroup.controllers").exists():
            return "cgroup v2 is not mounted on /sys/fs/cgroup"
        if not os.access(directory / "cgroup.procs", os.W_OK):
            return f"{directory} is not delegated"
        return None
    return "this process is in no cgroup of v2"


def _scope() -> str | None:
    """Look for the user's systemd and a pure cgroup v2."""
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return "cgroup v2 is not mounted on /sys/fs/cgroup"
    bus = f"/run/user/{os.getuid()}/bus"
    return None if os.access(bus, os.W_OK) else f"no user bus at {bus}"


PROBES: dict[str, Callable[[], str | None]] = {
    "userns": _userns,
    "subuid": _subuid,
    "overlay": _overlay,
    "fuse": _fuse,
    "tun": _tun,
    "cgroup": _cgroup,
    "scope": _scope,
    "registry": _program("docker-registry"),
    "podman": _program("podman"),
    "runc": _program("runc"),
    "crun": _program("crun"),
    "umoci": _program("umoci"),
    "busybox": _program("busybox"),
}
