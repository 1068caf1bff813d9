"""The helpers of the tests do what they promise."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import hygiene
from tests.support.userns import ChildFailed

InUserns = Callable[..., Any]


def test_single_is_root_alone(in_userns: InUserns) -> None:
    """One id is mapped, and the function runs as it."""

    def body() -> tuple[int, list[str]]:
        with open("/proc/self/uid_map") as file:
            return os.getuid(), file.read().split()

    assert in_userns(body) == (0, ["0", str(os.getuid()), "1"])


@pytest.mark.requires("subuid")
def test_subid_maps_the_ranges(in_userns: InUserns, workplace: os.PathLike[str]) -> None:
    """A file can be given to a subordinate id, and the fixture removes it afterwards."""

    def body() -> int:
        path = os.path.join(workplace, "file")
        with open(path, "w"):
            os.chown(path, 33, 33)
        return os.stat(path).st_uid

    assert in_userns(body, ids="subid") == 33


def test_pid_is_one_with_its_own_proc(in_userns: InUserns) -> None:
    """With `pid` the function is process 1 of a fresh /proc."""

    def body() -> tuple[int, set[str]]:
        return os.getpid(), {name for name in os.listdir("/proc") if name.isdigit()}

    assert in_userns(body, pid=True) == (1, {"1"})


def test_net_has_lo_only(in_userns: InUserns) -> None:
    """A network namespace of its own has one interface."""

    def body() -> list[str]:
        with open("/proc/self/net/dev") as file:
            return [line.split(":")[0].strip() for line in file if ":" in line]

    assert in_userns(body, net=True) == ["lo"]


def test_failure_comes_back_with_its_traceback(in_userns: InUserns) -> None:
    """An assertion that fails in the child fails the test."""

    def body() -> None:
        raise OSError("words of the child")

    with pytest.raises(ChildFailed, match="words of the child"):
        in_userns(body)


def test_skip_comes_back(in_userns: InUserns) -> None:
    """A skip in the child skips the test."""
    with pytest.raises(pytest.skip.Exception, match="reason"):
        in_userns(lambda: pytest.skip("reason"))


def test_hygiene_sees_a_descriptor_and_a_process() -> None:
    """What is left is named."""
    before = hygiene.look()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    try:
        now = hygiene.look()
        assert set(now.fds) - set(before.fds) == {reading, writing}
        assert {key[0] for key in now.processes.keys() - before.processes.keys()} == {pid}
    finally:
        os.close(reading)
        os.close(writing)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert hygiene.left_since(before, set()) == []
