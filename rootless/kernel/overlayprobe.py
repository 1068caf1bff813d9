"""Does the kernel's overlay really work in this store? Tried once, remembered in the run root.

A mount that succeeds proves little: on tmpfs before 6.6 removing a directory of a lower layer gives EIO, on some
file systems a whiteout cannot be made. So the mount is used: files are made, hidden, renamed, a lower directory is
removed and made again. It takes 2 ms; the answer is kept by boot, version, ids and device of the store, and a use
that fails later drops it.

Source: Documentation/filesystems/overlayfs.rst "User xattr", "whiteouts and opaque directories"
"""

from __future__ import annotations

import os

from rootless import __version__
from rootless.errors import KernelError
from rootless.kernel.fds import read_file
from rootless.kernel.mounts import MNT_DETACH, MS_NODEV, mount, umount2
from rootless.spec.facts import OVERLAY, Finding, finding_from_json, finding_to_json
from rootless.spec.jsontext import dumps, loads

CACHE = "facts.json"


def cache_key(place: str, single: bool) -> str:
    """Return what an answer for the directory *place* depends on; *single*: only one id is mapped."""
    try:
        boot = read_file("/proc/sys/kernel/random/boot_id", limit_bytes=64).decode().strip()
    except KernelError:
        boot = ""
    maps = "single" if single else "full"
    return f"{boot} {__version__} {os.stat(place).st_dev} {maps} {os.uname().release}"


def refused_drivers(run_root: str, scratch: str, *, single: bool = False) -> dict[str, str]:
    """Return driver -> why it must not be used here, for `mount.driver.open_root`; empty when overlay works.

    *scratch* is a directory of ours in the store's file system. Called as root of our user namespace, with a mount
    namespace of our own.

    Blocks: 2 ms when nothing is remembered
    """
    finding = overlay_works(run_root, scratch, single=single)
    return {} if finding.works else {"overlay": finding.detail}


def overlay_works(run_root: str, scratch: str, *, single: bool = False) -> Finding:
    """Return the remembered answer, or try and remember it."""
    path = f"{run_root}/{CACHE}"
    key = cache_key(scratch, single)
    try:
        kept = loads(read_file(path))
        if kept["key"] == key:
            return finding_from_json(kept["overlay"])
    except (KernelError, ValueError, TypeError, KeyError):
        pass
    finding = try_overlay(scratch)
    fresh = f"{path}.{os.getpid()}"
    try:
        with open(fresh, "w", encoding="utf-8") as out:
            out.write(dumps({"key": key, "overlay": finding_to_json(finding)}) + "\n")
        os.rename(fresh, path)
    except OSError:
        pass  # the next command tries again
    return finding


def forget(run_root: str) -> None:
    """Drop what is remembered: something that worked when it was tried has failed."""
    try:
        os.unlink(f"{run_root}/{CACHE}")
    except OSError:
        pass


def try_overlay(scratch: str) -> Finding:
    """Mount an overlay in a new directory below *scratch* and use it; nothing is left."""
    place = f"{scratch}/probe-{os.getpid()}"
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    step = "mkdir"
    mounted = False
    try:
        for name in ("", "/lower", "/lower/gone", "/lower/gone/below", "/upper", "/work", "/merged"):
            os.mkdir(place + name, 0o700)
        for name in ("hidden", "renamed", "gone/file"):
            _touch(f"{place}/lower/{name}")
        os.chdir(place)  # so that no `,` or `:` of the store's path is in the options
        step = "mount(overlay)"
        options = "lowerdir=lower,upperdir=upper,workdir=work,userxattr"
        mount("overlay", "merged", "overlay", MS_NODEV, options)
        mounted = True
        for name, use in (
            ("create", _create), ("unlink", _hide), ("rename", _rename), ("rmdir", _remove_lower_directory),
            ("mkdir", _make_again), ("setxattr", _attribute),
        ):  # fmt: skip
            step = name
            use()
        return Finding(OVERLAY, True, "the kernel's overlay, mounted in our user namespace")
    except KernelError as error:
        return Finding(OVERLAY, False, _why(step, error.errno or 0), step, error.errno or 0)
    except OSError as error:
        return Finding(OVERLAY, False, _why(step, error.errno or 0), step, error.errno or 0)
    finally:
        os.fchdir(here)
        os.close(here)
        if mounted:
            umount2(f"{place}/merged", MNT_DETACH)
        remove_tree(place)


def _why(step: str, errno: int) -> str:
    text = os.strerror(errno).lower() if errno else "the result is wrong"
    if step == "mount(overlay)":
        return f"mounting it in the store fails: {text}"
    return f"it mounts, but {step} in it fails: {text}"


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _create() -> None:
    _touch("merged/new")


def _hide() -> None:
    os.unlink("merged/hidden")
    _expect(not os.path.lexists("merged/hidden"))


def _rename() -> None:
    os.rename("merged/renamed", "merged/new")
    _expect(not os.path.lexists("merged/renamed") and os.path.lexists("merged/new"))


def _remove_lower_directory() -> None:
    os.unlink("merged/gone/file")
    os.rmdir("merged/gone/below")
    os.rmdir("merged/gone")


def _make_again() -> None:
    os.mkdir("merged/gone")
    _expect(os.listdir("merged/gone") == [])


def _attribute() -> None:
    try:
        os.setxattr("merged/new", "user.rootless.probe", b"1")
    except OSError as error:
        if error.errno != 95:  # the store's file system has none for users: containers do without, as on the host
            raise


def _expect(right: bool) -> None:
    if not right:
        raise OSError(0, "the result is wrong")


def remove_tree(path: str) -> None:
    """Remove a tree of ours; the kernel leaves <workdir>/work with mode 0."""
    try:
        names = os.listdir(path)
    except NotADirectoryError:
        os.unlink(path)
        return
    except PermissionError:
        os.chmod(path, 0o700)
        names = os.listdir(path)
    except FileNotFoundError:
        return
    for name in names:
        below = f"{path}/{name}"
        if os.path.isdir(below) and not os.path.islink(below):
            remove_tree(below)
        else:
            os.unlink(below)
    os.rmdir(path)
