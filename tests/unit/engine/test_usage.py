"""What containers use and what `update` makes of limits that there were already."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.cli.commands import stats
from rootless.engine import usage as module
from rootless.engine.updating import merged
from rootless.engine.usage import processes_of, usage
from rootless.plan.options import Limits


def group(path: Path, **files: str) -> str:
    for name, text in {"cgroup.procs": "", **files}.items():
        (path / name.replace("_", ".", 1)).write_text(text)
    return str(path)


def test_a_cgroup_says_it_all(tmp_path: Path) -> None:
    path = group(
        tmp_path,
        memory_current="4096\n",
        memory_max="8192\n",
        pids_current="3\n",
        cpu_stat="usage_usec 1500\nuser_usec 1000\n",
        io_stat="8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2\n",
    )
    found = usage(os.getpid(), path)
    assert (found.memory, found.memory_limit, found.pids, found.cpu_ns) == (4096, 8192, 3, 1_500_000)
    assert (found.block_input, found.block_output, found.from_cgroup) == (11, 22, True)


def test_what_a_cgroup_does_not_say_is_counted(tmp_path: Path) -> None:
    found = usage(os.getpid(), group(tmp_path, cpu_stat="usage_usec 7\n", memory_max="max\n"))
    assert found.from_cgroup
    assert found.memory > 0
    assert found.pids >= 1
    assert found.memory_limit > found.memory


def test_without_a_cgroup_the_processes_are_added_up() -> None:
    found = usage(os.getpid(), "")
    assert not found.from_cgroup
    assert found.memory > 0
    assert found.pids >= 1
    assert os.getpid() in processes_of(os.getpid())


def test_what_has_ended_uses_nothing() -> None:
    assert module._stat(-1) == []
    assert usage(-1, "").memory == 0


@pytest.mark.parametrize(
    ("count", "decimal", "binary"),
    [(0, "0B", "0B"), (999, "999B", "999B"), (53248, "53.25kB", "52KiB"), (67108864, "67.11MB", "64MiB")],
)
def test_sizes_as_go_writes_them(count: int, decimal: str, binary: str) -> None:
    assert stats._scaled(count, 1000, stats._DECIMAL) == decimal
    assert stats._scaled(count, 1024, stats._BINARY) == binary


@pytest.mark.parametrize(
    ("old", "new", "both"),
    [
        (Limits(memory=5), Limits(cpu_shares=7), Limits(memory=5, cpu_shares=7)),
        (Limits(memory=5, memory_swap=6), Limits(memory=9), Limits(memory=9)),
        (Limits(memory=5), Limits(memory_swap=-1), Limits(memory=5, memory_swap=-1)),
        (Limits(pids=5), Limits(), Limits(pids=5)),
    ],
)
def test_new_limits_beside_old_ones(old: Limits, new: Limits, both: Limits) -> None:
    assert merged(old, new) == both
