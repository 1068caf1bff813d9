"""Subordinate ranges: the files, the directory service's answer, the tools on PATH."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.kernel import idmaps


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ann:100000:65536\n", ((100000, 65536),)),
        ("bob:1:2\nann:100000:10\n1000:200000:20\n", ((100000, 10), (200000, 20))),
        ("ann:100000:0\nann:x:1\nann:1\n:1:1\n# ann:5:5\n", ()),
        ("ann:4294967290:100\n", ()),
        ("anna:100000:1\nan:100000:1\n", ()),
        ("", ()),
    ],
)
def test_ranges_by_name_and_by_number(text: str, found: tuple[tuple[int, int], ...]) -> None:
    assert idmaps.parse_subids(text, ("ann", "1000")) == found


def test_the_answer_of_getsubids() -> None:
    assert idmaps.parse_getsubids("0: ann 100000 65536\n1: ann 300000 10\n") == ((100000, 65536), (300000, 10))
    assert idmaps.parse_getsubids("Error fetching ranges\n") == ()


@pytest.mark.parametrize(
    ("text", "service"),
    [
        ("", ""),
        ("passwd: sss files\n", ""),
        ("subid: files\n", ""),
        ("subid:\tsss # x\n", "sss"),
        ("#subid: sss\n", ""),
    ],
)
def test_who_has_the_ranges(text: str, service: str) -> None:
    assert idmaps.subid_service(text) == service


def test_the_next_free_range() -> None:
    assert idmaps.first_free("") == 100000
    assert idmaps.first_free("a:5:5\nb:100000:65536\nrubbish\n") == 165536


def test_files_alone_count_without_a_service(tmp_path: Path) -> None:
    name = idmaps.user_name(os.getuid())
    (tmp_path / "nsswitch.conf").write_text("passwd: files\n")
    (tmp_path / "subuid").write_text(f"{name}:100000:100\n{os.getuid()}:100050:100\n")
    (tmp_path / "subgid").write_text("other:100000:100\n")
    found = idmaps.subordinate_ranges(os.getuid(), {}, etc=str(tmp_path))
    assert found == (name, ((100000, 100), (100100, 50)), (), 100150)


def test_tools_are_found_beyond_path(tmp_path: Path) -> None:
    tool = tmp_path / "newuidmap"
    tool.write_text("")
    assert idmaps.find_tool("newuidmap", {"PATH": f"relative::{tmp_path}"}) != str(tool)
    tool.chmod(0o755)
    assert idmaps.find_tool("newuidmap", {"PATH": f"relative::{tmp_path}"}) == str(tool)
    assert idmaps.find_tool("sh", {}).endswith("/sh")
    assert idmaps.find_tool("no-such-tool", {"PATH": str(tmp_path)}) == ""
