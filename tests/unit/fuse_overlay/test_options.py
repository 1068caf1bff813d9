"""The command line of rootless-fuse-overlay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuse_overlay import options
from fuse_overlay.options import Mapping, escape, parse, split_escaped, unescape
from rootless.errors import UsageError

paths = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1)


@given(st.lists(paths, min_size=1), paths, paths)
def test_escaped_paths_come_back(lower: list[str], upper: str, work: str) -> None:
    text = "lowerdir=" + ":".join(map(escape, lower)) + f",upperdir={escape(upper)},workdir={escape(work)},ro"
    parsed = parse(["-o", text, "/mnt"])
    assert parsed.lowerdirs == tuple(lower)
    assert (parsed.upperdir, parsed.workdir, parsed.readonly) == (upper, work, True)


def test_a_backslash_before_another_character_is_one() -> None:
    assert unescape(r"a\b\:c\\d\,e") == r"a\b:c\d,e"
    assert unescape("a\\") == "a\\"
    assert split_escaped(r"a\:b:c::d\\:e", ":") == [r"a\:b", "c", r"d\\", "e"]


def test_options_of_fuse_overlayfs() -> None:
    parsed = parse(
        "-f -o lowerdir=/a:/b,upperdir=/u,workdir=/w,uidmapping=0:1000:1:1:110000:65536,gidmapping=0:1:2,"
        "static_nlink,timeout=2.5,xattr_permissions=2,noacl,volatile,writeback=0,noxattrs=1,nodev /mnt".split()
    )
    assert parsed.lowerdirs == ("/a", "/b")
    assert parsed.uid_mappings == (Mapping(0, 1000, 1), Mapping(1, 110000, 65536))
    assert parsed.gid_mappings == (Mapping(0, 1, 2),)
    assert parsed.timeout == 2.5
    assert parsed.xattr_permissions == 2
    assert (parsed.static_nlink, parsed.acl, parsed.fsync) == (True, False, False)
    assert (parsed.writeback, parsed.xattrs, parsed.foreground) == (False, False, True)
    assert parsed.mount_options == ("nodev",)
    assert (parsed.mountpoint, parsed.warnings) == ("/mnt", ())


@pytest.mark.parametrize("text", ["squash_to_root,squash_to_uid=7", "squash_to_uid=7,squash_to_root"])
def test_squash_to_uid_is_stronger(text: str) -> None:
    parsed = parse(["-o", text])
    assert (parsed.squash_uid, parsed.squash_gid) == (7, 0)


def test_unknown_is_warned_about_and_ignored() -> None:
    parsed = parse(["--odd", "-o", "lowerdir=/a,lazytime,plugins=x,threaded=1", "/mnt"])
    assert parsed.warnings == (
        "unknown argument ignored: --odd",
        "unknown argument ignored: lazytime",
        "unknown argument ignored: plugins=x",
        "option without effect ignored: threaded=1",
    )


def test_of_two_mount_points_the_last_counts() -> None:
    """mount(8) -t fuse.PROGRAM passes the source first."""
    assert parse(["overlay", "/mnt", "-o", "ro"]).mountpoint == "/mnt"


@pytest.mark.parametrize(
    "words",
    [
        ["-o"],
        ["-o", "timeout=soon"],
        ["-o", "uidmapping=0:1"],
        ["-o", "uidmapping=0:-1:1"],
        ["-o", "squash_to_uid=root"],
        ["--ready-fd=x"],
    ],
)
def test_nonsense_is_a_usage_error(words: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(words)


@pytest.mark.parametrize("text", ["", "upperdir=/u", "workdir=/w"])
def test_what_is_not_enough(text: str) -> None:
    with pytest.raises(UsageError):
        options.check(parse(["-o", text, "/mnt"]))
    with pytest.raises(UsageError):
        options.check(parse(["-o", "lowerdir=/a"]))
    options.check(parse(["-o", "upperdir=/u,ro", "/mnt"]))
