"""`top`: descriptors and what /proc says of ourselves."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from rootless.engine import top
from rootless.spec import moment


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], top.DEFAULT), (["pid", "USER"], ("pid", "user")), (["pid,user", "%C"], ("pid", "user", "pcpu")),
        (["bogus"], None), (["-eo", "pid"], None), (["%Z"], None),
    ],
)  # fmt: skip
def test_descriptors(words: list[str], expected: tuple[str, ...] | None) -> None:
    assert top.descriptors_of(words) == expected


def row_of(names: list[str]) -> dict[str, str]:
    """Return what `top` prints for this process."""
    _, *rows = top.table(os.getpid(), ["hpid", *names])
    (mine,) = [row for row in rows if row[0] == str(os.getpid())]
    return dict(zip(["hpid", *names], mine))


def test_every_descriptor_of_this_process() -> None:
    found = row_of(list(top.DESCRIPTORS))
    assert found["pgid"].isdigit() and found["state"] in "RS"
    assert found["huser"] == str(os.geteuid()) and found["hgroup"] == str(os.getegid())
    assert found["args"].split(" ")[0] == Path("/proc/self/cmdline").read_text().split("\0")[0]
    elapsed, used = moment.parse_span(found["etime"]), moment.parse_span(found["time"])
    assert elapsed is not None and used is not None and used >= 0 and elapsed > 0
    assert found["pcpu"] == f"{100 * used / elapsed:.3f}"
    assert int(found["vsz"]) > int(found["rss"]) > 0
    assert top.table(os.getpid(), ["capeff", "tty"])[0] == ["EFFECTIVE CAPS", "TTY"]


def test_ids_are_shown_as_the_container_maps_them() -> None:
    ranges = [(0, 1000, 1), (1, 165536, 65536)]
    assert [top._inside(ranges, number) for number in (1000, 165536, 165540, 5)] == ["0", "1", "5", "5"]


def test_names(tmp_path: os.PathLike[str]) -> None:
    path = os.path.join(tmp_path, "passwd")
    with open(path, "w") as file:
        file.write("root:x:0:0:::\ntoor:x:0:0:::\nbroken\nweb:x:7:7:::\n")
    assert top._names(path) == {"0": "root", "7": "web"}
    assert top._names(path + "x") == {}


def test_a_start_is_in_the_past() -> None:
    date, clock, zone, _ = row_of(["stime"])["stime"].split(" ")
    ns = moment.parse(f"{date}T{clock}{zone}")
    assert ns is not None and ns <= time.time_ns()
