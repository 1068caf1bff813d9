"""Run a function as root of fresh namespaces, in a forked child, and bring its result or its failure back.

    def test_tmpfs(in_userns):
        def body() -> list[str]:
            mounts.mount("tmpfs", "/mnt", "tmpfs", 0, "")
            return os.listdir("/mnt")

        assert in_userns(body) == []

`ids`: "single" maps the caller to 0; "subid" maps the ranges to 1... as well; "none" writes no map.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import shutil
import signal
import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.capabilities import subordinate

T = TypeVar("T")

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
DEADLINE_S = 120.0


class ChildFailed(AssertionError):
    """The function failed in the child; the message is the child's traceback."""


def in_userns(
    body: Callable[[], T], *, ids: str = "single", net: bool = False, pid: bool = False, ipc: bool = False
) -> T:
    """Return what *body* returns when it runs with a user and a mount namespace of its own (more where asked).

    With `pid` the function is process 1 and /proc is a fresh one. The child is killed after DEADLINE_S.

    Raises:  ChildFailed: the function failed; its traceback is the message. Skips of pytest pass through.
    """
    flags = CLONE_NEWUSER | CLONE_NEWNS
    flags |= (CLONE_NEWNET if net else 0) | (CLONE_NEWPID if pid else 0) | (CLONE_NEWIPC | CLONE_NEWUTS if ipc else 0)
    with _pipe() as result, _pipe() as ready, _pipe() as mapped:
        child = os.fork()
        if child == 0:
            _child(body, flags, pid, result, ready, mapped)
        for ends in (result, ready):
            os.close(ends.pop(1))
        try:
            if os.read(ready[0], 1):
                _write_maps(child, ids)
                os.write(mapped[1], b"1")
            os.close(mapped.pop(1))
            data = _read_all(result[0])
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not data:
        raise ChildFailed(f"the child ended with {status} and said nothing")
    kind, value = pickle.loads(data)
    if kind == "skip":
        pytest.skip(value)
    if kind == "failed":
        raise ChildFailed(value)
    result_value: T = value
    return result_value


def remove_tree(path: str | Path) -> None:
    """Remove a directory that may hold files of subordinate ids."""
    if not os.path.lexists(path):
        return

    def body() -> None:
        for directory, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                os.chmod(directory, 0o700)
        shutil.rmtree(path)

    have = subordinate("uid") and subordinate("gid") and shutil.which("newuidmap")
    in_userns(body, ids="subid" if have else "single")


def _child(
    body: Callable[[], Any], flags: int, pid: bool, result: list[int], ready: list[int], mapped: list[int]
) -> None:
    """The child: never returns."""
    try:
        from rootless.kernel import mounts, namespaces

        os.close(mapped.pop(1))
        namespaces.unshare(flags)
        os.write(ready[1], b"1")
        if os.read(mapped[0], 1) != b"1":
            os._exit(1)
        with contextlib.suppress(OSError):  # with ids="none" there is no root to become
            os.setgid(0)
            os.setuid(0)
        if pid:
            first = os.fork()
            if first:
                os.close(result[1])
                os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) & 0xFF)
            mounts.mount("none", "/", "", mounts.MS_REC | mounts.MS_SLAVE, "")
            mounts.mount("proc", "/proc", "proc", 0, "")
        else:
            with contextlib.suppress(OSError):
                mounts.mount("none", "/", "", mounts.MS_REC | mounts.MS_SLAVE, "")
        try:
            answer = pickle.dumps(("value", body()))
        except pytest.skip.Exception as skip:
            answer = pickle.dumps(("skip", str(skip)))
        except BaseException:
            answer = pickle.dumps(("failed", "in the child:\n" + traceback.format_exc()))
        _write_all(result[1], answer)
        os._exit(0)
    except BaseException:
        with contextlib.suppress(OSError):
            _write_all(result[1], pickle.dumps(("failed", "while entering:\n" + traceback.format_exc())))
    finally:
        os._exit(1)


def _write_maps(child: int, ids: str) -> None:
    """Write the maps of *child* from outside."""
    if ids == "none":
        return
    uid, gid = os.geteuid(), os.getegid()
    if ids == "single":
        Path(f"/proc/{child}/setgroups").write_text("deny")
        Path(f"/proc/{child}/uid_map").write_text(f"0 {uid} 1")
        Path(f"/proc/{child}/gid_map").write_text(f"0 {gid} 1")
        return
    if ids != "subid":
        raise ValueError(f"unknown ids {ids!r}")
    for kind, own in (("uid", uid), ("gid", gid)):
        extent = subordinate(kind)
        if extent is None:
            pytest.skip(f"no subordinate {kind} range")
        start, size = extent
        words = [f"new{kind}map", str(child), "0", str(own), "1", "1", str(start), str(size)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ChildFailed(f"{words[0]}: {done.stderr.strip()}")


@contextlib.contextmanager
def _pipe() -> Iterator[list[int]]:
    ends = list(os.pipe2(os.O_CLOEXEC))
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _read_all(fd: int) -> bytes:
    end = time.monotonic() + DEADLINE_S
    parts: list[bytes] = []
    while True:
        if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
            raise ChildFailed(f"no answer within {DEADLINE_S:.0f} s")
        part = os.read(fd, 1 << 16)
        if not part:
            return b"".join(parts)
        parts.append(part)
