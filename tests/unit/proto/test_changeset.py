"""Layer changes: names stay in the layer, whiteouts mean what the specification says, forged attributes are dropped."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.proto import changeset, tar
from rootless.proto.changeset import Hardlink, LayerOp, MkDir, Mknod, Opaque, PutFile, Symlink, Whiteout, layer_op
from rootless.proto.tar import Header, TarError

PARTS = st.sampled_from([b"a", b"b", b".", b"..", b"", b"c d", b"\xff", b"...", b".wh", b"..a"])
NAMES = st.lists(PARTS, min_size=1, max_size=7).map(b"/".join)


@given(name=NAMES)
def test_a_cleaned_name_is_inside_and_means_what_the_lexical_path_means(name: bytes) -> None:
    normal = posixpath.normpath(name)
    if not name.startswith(b"/") and (normal == b".." or normal.startswith(b"../")):
        with pytest.raises(TarError, match="outside"):
            changeset.clean(name)
        return
    parts = changeset.clean(name)
    assert not {b"", b".", b".."} & set(parts)
    assert b"/".join(parts) == (b"" if normal == b"." else normal.lstrip(b"/"))


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        (Header(b"f"), PutFile),
        (Header(b"d/", tar.DIRECTORY), MkDir),
        (Header(b"./", tar.DIRECTORY), MkDir),
        (Header(b"l", tar.SYMLINK, linkname=b"/etc/passwd"), Symlink),
        (Header(b"h", tar.HARDLINK, linkname=b"./f"), Hardlink),
        (Header(b"c", tar.CHARACTER, devmajor=1), Mknod),
        (Header(b"b", tar.BLOCK_DEVICE), Mknod),
        (Header(b"p", tar.FIFO), Mknod),
        (Header(b"dump", b"D"), MkDir),
        (Header(b"d/.wh.f"), Whiteout),
        (Header(b".wh.f", tar.DIRECTORY), Whiteout),
        (Header(b"d/.wh..wh..opq"), Opaque),
        (Header(b".wh..wh..opq"), Opaque),
        (Header(b"d/x.wh.y"), PutFile),
        (Header(b"label", b"V"), None),
        (Header(b".wh..wh.aufs"), None),
        (Header(b".wh..wh.plnk/1.2"), None),
        (Header(b"d/.wh..wh.other"), None),
    ],
)
def test_kinds(header: Header, kind: type[LayerOp] | None) -> None:
    op = layer_op(header)
    assert (None if op is None else type(op)) is kind


def test_paths_of_changes() -> None:
    def path(name: bytes, **rest: object) -> tuple[bytes, ...]:
        op = layer_op(Header(name, **rest))  # type: ignore[arg-type]
        assert op is not None
        return op.path

    assert path(b"/a//b/./c") == (b"a", b"b", b"c")
    assert path(b"a/b/../c") == (b"a", b"c")
    assert path(b"/../../c") == (b"c",)
    assert path(b"a/.wh.b") == (b"a", b"b")
    assert path(b"a/b/.wh..wh..opq") == (b"a", b"b")
    assert path(b".wh..wh..opq") == ()
    link = layer_op(Header(b"x", tar.HARDLINK, linkname=b"/a/../b"))
    assert isinstance(link, Hardlink)
    assert link.target == (b"b",)


@pytest.mark.parametrize(
    "header",
    [
        Header(b"../x"),
        Header(b"a/../../x"),
        Header(b"a\0b"),
        Header(b"."),
        Header(b"/", tar.SYMLINK, linkname=b"x"),
        Header(b"n" * 256),
        Header(b".wh."),
        Header(b"a/.wh.."),
        Header(b"a/.wh..."),
        Header(b".wh.d/f"),
        Header(b"l", tar.SYMLINK),
        Header(b"l", tar.SYMLINK, linkname=b"x" * 4096),
        Header(b"h", tar.HARDLINK, linkname=b"../../etc/shadow"),
        Header(b"h", tar.HARDLINK, linkname=b"/"),
        Header(b"h", tar.HARDLINK, linkname=b"a/.wh.b"),
        Header(b"q", b"Q"),
        Header(b"m", b"M"),
    ],
)
def test_refused(header: Header) -> None:
    with pytest.raises(TarError):
        layer_op(header)


def test_attributes_with_which_an_image_could_forge_owners_and_whiteouts_are_dropped() -> None:
    forged = tuple(
        (name, b"y")
        for name in (
            b"user.overlay.opaque",
            b"user.overlay.whiteout",
            b"user.overlay.redirect",
            b"trusted.overlay.opaque",
            b"trusted.overlay.metacopy",
            b"user.fuseoverlayfs.opaque",
            b"user.containers.override_stat",
        )
    )
    kept = ((b"user.overlayed", b"1"), (b"security.capability", b"2"), (b"user.mine", b"3"))
    for kind in (tar.REGULAR, tar.DIRECTORY, tar.FIFO):
        op = layer_op(Header(b"f", kind, xattrs=(*forged[:3], *kept, *forged[3:])))
        assert op is not None
        assert op.xattrs == kept


def test_names_in_messages_cannot_drive_a_terminal() -> None:
    with pytest.raises(TarError) as caught:
        layer_op(Header(b"../\x1b[2J\xff"))
    assert caught.value.message.isprintable()


TREE_NAMES = [b"a", b"a/x", b"a/y", b"a/x/p", b"b", b"b/x", b"c"]
ENTRY = st.one_of(
    st.tuples(st.just("file"), st.sampled_from(TREE_NAMES)),
    st.tuples(st.just("dir"), st.sampled_from(TREE_NAMES)),
    st.tuples(st.just("gone"), st.sampled_from(TREE_NAMES)),
    st.tuples(st.just("opaque"), st.sampled_from([b"a", b"a/x", b"b"])),
)


def header_of(what: str, name: bytes) -> Header:
    parent, _, last = name.rpartition(b"/")
    match what:
        case "file":
            return Header(name)
        case "dir":
            return Header(name, tar.DIRECTORY)
        case "gone":
            return Header((parent + b"/" if parent else b"") + b".wh." + last)
    return Header(name + b"/.wh..wh..opq")


def below(path: tuple[bytes, ...], other: tuple[bytes, ...]) -> bool:
    return len(other) > len(path) and other[: len(path)] == path


@given(
    lower=st.lists(st.sampled_from(TREE_NAMES), unique=True),
    upper=st.lists(ENTRY, max_size=5, unique=True),
)
def test_removals_concern_the_layers_below_and_nothing_else(lower: list[bytes], upper: list[tuple[str, bytes]]) -> None:
    """The names that are left are those of the specification: first all removals below, then all additions."""
    tree = {tuple(name.split(b"/")) for name in lower}
    expected = set(tree)
    for what, name in upper:
        path = tuple(name.split(b"/"))
        if what == "gone":
            expected -= {other for other in expected if other == path or below(path, other)}
        elif what == "opaque":
            expected -= {other for other in expected if below(path, other)}
    expected |= {tuple(name.split(b"/")) for what, name in upper if what in ("file", "dir")}
    removed: set[tuple[bytes, ...]] = set()
    added: set[tuple[bytes, ...]] = set()
    for what, name in upper:
        op = layer_op(header_of(what, name))
        assert op is not None
        if isinstance(op, Whiteout):
            removed |= {other for other in tree if other == op.path or below(op.path, other)}
        elif isinstance(op, Opaque):
            removed |= {other for other in tree if below(op.path, other)}
        else:
            added.add(op.path)
    assert (tree - removed) | added == expected
