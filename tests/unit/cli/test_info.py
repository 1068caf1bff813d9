"""`info`: YAML as podman prints it, and the choice of the storage driver with its reason."""

from __future__ import annotations

import pytest

from rootless.cli.commands import info
from rootless.engine.info import choose, uptime
from rootless.spec import facts as f
from rootless.spec.facts import Finding

WORKS = (Finding(f.OVERLAY, True), Finding(f.FUSE, True))
NO_OVERLAY = Finding(f.OVERLAY, False, "mounting it in the store fails: invalid argument")
NO_FUSE = Finding(f.FUSE, False, "open /dev/fuse: permission denied")


@pytest.mark.parametrize(
    ("found", "wanted", "driver", "reason"),
    [
        (WORKS, "", "overlay", "the first that works"),
        (WORKS, "auto", "overlay", "the first that works"),
        (WORKS, "vfs", "copy", "asked for"),
        (WORKS, "fuse", "fuse", "asked for"),
        ((NO_OVERLAY, WORKS[1]), "", "fuse", "overlay: mounting it in the store fails: invalid argument"),
        (
            (NO_OVERLAY, NO_FUSE),
            "auto",
            "copy",
            "overlay: mounting it in the store fails: invalid argument; fuse: open /dev/fuse: permission denied",
        ),
        ((), "", "copy", "overlay: not tried; fuse: not tried"),
    ],
)
def test_which_driver_and_why(found: tuple[Finding, ...], wanted: str, driver: str, reason: str) -> None:
    assert choose(found, wanted) == (driver, reason)


def test_yaml_as_podman_prints_it() -> None:
    value = {
        "b": {"list": ["x", "z"], "empty": [], "none": None, "on_": True, "m": 3, "f": 1.5},
        "a": [{"z": 1, "x": "2"}, {"w": ""}],
        "m": {},
        "text": "a: b",
        "version": "12",
        "plain": "overlay, then fuse",
    }
    assert info.yaml(value) == (
        "a:\n"
        '- x: "2"\n'
        "  z: 1\n"
        '- w: ""\n'
        "b:\n"
        "  empty: []\n"
        "  f: 1.5\n"
        "  list:\n"
        "  - x\n"
        "  - z\n"
        "  m: 3\n"
        "  none: null\n"
        "  on_: true\n"
        "m: {}\n"
        "plain: overlay, then fuse\n"
        'text: "a: b"\n'
        'version: "12"\n'
    )


@pytest.mark.parametrize("text", ["true", "No", "~", "null", "1e3", "0x", "- a", "a #b", "a:", " a", "a\nb", "{", "*x"])
def test_what_yaml_would_read_as_something_else_is_quoted(text: str) -> None:
    assert info.scalar(text).startswith('"') == (text != "0x")


def test_both_names_of_a_field() -> None:
    tree = (("Host", "host", (("CPUs", "cpus", 2), ("Map", "map", {"k": "v"}))),)
    assert info.plain(tree, 1) == {"host": {"cpus": 2, "map": {"k": "v"}}}
    assert info.plain(tree, 0) == {"Host": {"CPUs": 2, "Map": {"k": "v"}}}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(6, "0h 0m 6.00s"), (3066, "0h 51m 6.00s"), (180187.0, "50h 3m 7.00s (Approximately 2.09 days)")],
)
def test_uptime(seconds: float, text: str) -> None:
    assert uptime(seconds) == text
