"""The pure core of the overlay: names, merge rules, attributes, nodes."""

from __future__ import annotations

import errno
import os
import stat
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuse_overlay import merge, names
from fuse_overlay.attrs import FIRST_OWN_INO, OVERFLOW_ID, AttrPolicy, Ids, IdSpace, InodeNumbers, shown_nlink
from fuse_overlay.merge import ABSENT, DIRECTORY, OTHER, WHITEOUT
from fuse_overlay.nodes import ROOT_INO, Node, NodeTable
from fuse_overlay.options import Mapping, Options


def stat_values(**given: int) -> os.stat_result:
    """Make stat values; what is not given is 0."""
    order = ("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size")
    base = [given.get(name, 0) for name in order]
    more = {name: given.get(name, 0) for name in ("st_rdev", "st_blocks", "st_blksize")}
    return os.stat_result([*base, 0, 0, 0], {**more, "st_atime_ns": 1, "st_mtime_ns": 2, "st_ctime_ns": 3})


# ---- names


@given(st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name))
def test_shown_names_come_back(name: bytes) -> None:
    for candidate in (name, b"user." + name, b"user.overlay." + name, b"trusted.overlay." + name):
        kept = names.to_disk(candidate)
        if kept is not None:
            assert names.from_disk(kept) == candidate
            assert not kept.startswith(b"user.overlay.") or kept.startswith(b"user.overlay.overlay.")


@pytest.mark.parametrize("name", [*names.OPAQUE, names.WHITEOUT, *names.OVERRIDES, b"user.overlay.origin"])
def test_our_own_names_are_not_shown(name: bytes) -> None:
    assert names.from_disk(name) is None
    assert names.to_disk(name) != name


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"0:0:0755", (0, 0, 0o755, 0)),
        (b"33:44:04755\0", (33, 44, 0o4755, 0)),
        (b"1:2:644:symlink", (1, 2, 0o644 | stat.S_IFLNK, 0)),
        (b"0:0:600:block-8-1", (0, 0, 0o600 | stat.S_IFBLK, os.makedev(8, 1))),
        (b"0:0:600:char-300-70000", (0, 0, 0o600 | stat.S_IFCHR, os.makedev(300, 70000))),
        (b"", None),
        (b"1:2", None),
        (b"a:b:c", None),
        (b"-1:0:644", None),
        (b"1:2:9", None),
    ],
)
def test_recorded_owners(text: bytes, value: tuple[int, int, int, int] | None) -> None:
    assert names.parse_override(text) == value


@given(st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2), st.integers(0, 0o7777))
def test_recorded_owners_come_back(uid: int, gid: int, mode: int) -> None:
    assert names.parse_override(names.format_override(uid, gid, mode)) == (uid, gid, mode, 0)


# ---- merge

NAMES = (b"a", b"b", b"c")
layers = st.lists(st.dictionaries(st.sampled_from(NAMES), st.sampled_from((OTHER, DIRECTORY, WHITEOUT))), max_size=5)


@given(layers)
def test_a_listing_shows_each_name_as_the_topmost_layer_has_it(parts: list[dict[bytes, int]]) -> None:
    listed = merge.list_names(enumerate(part.items() for part in parts))
    for name in NAMES:
        having = [at for at, part in enumerate(parts) if name in part]
        if having and parts[having[0]][name] != WHITEOUT:
            assert listed[name] == having[0]
        else:
            assert name not in listed


@given(st.lists(st.tuples(st.sampled_from((ABSENT, OTHER, DIRECTORY, WHITEOUT)), st.booleans())))
def test_directories_add_up_until_something_ends_them(entries: list[tuple[int, bool]]) -> None:
    asked = []

    def look(at: int) -> tuple[int, bool]:
        asked.append(at)
        return entries[at]

    stack = merge.stack_below(range(len(entries)), look)
    assert all(entries[at][0] == DIRECTORY for at in stack)
    ends = [
        at for at, (kind, opaque) in enumerate(entries) if kind in (OTHER, WHITEOUT) or (kind == DIRECTORY and opaque)
    ]
    last = ends[0] if ends else len(entries) - 1
    assert asked == list(range(last + 1)), "nothing is looked at below the end"
    assert stack == tuple(at for at in range(last + 1) if entries[at][0] == DIRECTORY)


# ---- attributes


def test_ids_are_mapped_both_ways() -> None:
    ids = Ids((Mapping(0, 1000, 1), Mapping(1, 0, 1000)), None)
    for disk, shown in ((0, 1000), (1, 0), (1000, 999)):
        assert ids.shown(disk) == shown
        assert ids.kept(shown) == disk
    assert ids.shown(5000) == OVERFLOW_ID
    with pytest.raises(OSError) as caught:
        ids.kept(5000)
    assert caught.value.errno == errno.EINVAL
    assert Ids((), 7).shown(3) == 7
    assert Ids((), None).shown(3) == 3


def test_a_recorded_owner_counts_only_where_its_ids_exist() -> None:
    policy = AttrPolicy(Options(), "0 1000 1\n1 100000 100\n", "0 0 50")
    st_result = stat_values(st_mode=stat.S_IFREG | 0o600, st_size=5)
    attr = SimpleNamespace(st_rdev=0)
    policy.fill(attr, st_result, 1, (100, 49, 0o4711, 0))
    assert (attr.st_uid, attr.st_gid, attr.st_mode) == (100, 49, stat.S_IFREG | 0o4711)
    assert attr.attr_timeout == 0, "set-id bits go with a write, which the kernel does not notice"
    policy.fill(attr, st_result, 1, (101, 49, 0o4711, 0))
    assert (attr.st_uid, attr.st_gid, attr.st_mode) == (0, 0, stat.S_IFREG | 0o600)
    assert attr.attr_timeout > 0
    assert 100 in IdSpace("0 1000 1\n1 100000 100\n")
    assert 101 not in IdSpace("0 1000 1\n1 100000 100\n")


def test_link_counts() -> None:
    assert shown_nlink(5, directory=True, merged=True, static=False, extra=0) == 1
    assert shown_nlink(5, directory=True, merged=False, static=True, extra=0) == 1
    assert shown_nlink(5, directory=True, merged=False, static=False, extra=0) == 5
    assert shown_nlink(2, directory=False, merged=False, static=False, extra=-1) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**64 - 1)), unique=True))
def test_inode_numbers_of_different_files_differ(files: list[tuple[int, int]]) -> None:
    numbers = InodeNumbers(0)
    chosen = [numbers.wanted(device, ino) or numbers.own() for device, ino in files]
    assert len(set(chosen)) == len(chosen)
    assert all(1 < number < 2**63 for number in chosen)
    for (device, ino), number in zip(files, chosen):
        if device == 0 and 1 < ino < FIRST_OWN_INO:
            assert number == ino


# ---- nodes


class World:
    """A table, and what it said it dropped."""

    def __init__(self) -> None:
        self.dropped: list[Node] = []
        self.table = NodeTable(0, lambda: SimpleNamespace(st_ino=0), self.dropped.append)
        self.root = self.table.make_root(0, stat_values(st_mode=stat.S_IFDIR, st_ino=2))

    def enter(self, parent: Node, name: bytes, ino: int, kind: int = stat.S_IFREG, layer: int = 1) -> Node:
        node = self.table.enter(parent, name, layer, stat_values(st_mode=kind, st_ino=ino))
        node.lookups += 1
        return node


def test_two_names_of_one_inode_are_one_node() -> None:
    w = World()
    a, b = w.enter(w.root, b"a", 10), w.enter(w.root, b"b", 10)
    assert a is b
    assert a.links == [(w.root, b"a"), (w.root, b"b")]
    assert a.ino == 10
    other = w.enter(w.root, b"c", 10, layer=2)
    assert other is not a, "the same inode in another layer is a file of its own"
    assert other.ino >= FIRST_OWN_INO


def test_a_copied_up_file_keeps_its_number() -> None:
    w = World()
    node = w.enter(w.root, b"a", 10)
    w.table.moved_up(node, 0, stat_values(st_ino=77))
    assert w.enter(w.root, b"a", 77, layer=0) is node
    w.table.forget(10, 2)
    assert w.dropped == [node]
    again = w.enter(w.root, b"a", 77, layer=0)
    assert again is not node
    assert again.ino == 10


def test_a_number_is_not_given_again_while_its_file_is_open() -> None:
    w = World()
    node = w.enter(w.root, b"a", 10, layer=0)
    node.opened(5)
    w.table.bury(node)
    w.table.remove_link(node, w.root, b"a")
    reused = w.enter(w.root, b"b", 10, layer=0)
    assert reused is not node
    assert reused.ino != node.ino
    w.table.forget(node.ino, 1)
    assert node.ino in w.table.ids
    node.closed(5)
    w.table.drop_if_idle(node)
    assert node.ino not in w.table.ids
    assert w.table.ids[reused.ino] is reused


def test_a_directory_stays_while_something_below_it_is_known() -> None:
    w = World()
    d = w.enter(w.root, b"d", 20, stat.S_IFDIR)
    f = w.enter(d, b"f", 21)
    assert f.path() == b"/d/f"
    w.table.forget(d.ino, 1)
    assert d.ino in w.table.ids
    w.table.forget(f.ino, 1)
    assert w.dropped == [f, d]
    assert list(w.table.ids) == [ROOT_INO]
    assert w.root.kids == {}


@given(
    st.lists(st.tuples(st.sampled_from(("look", "forget", "bury")), st.integers(0, 3), st.integers(0, 3)), max_size=60)
)
def test_the_two_indexes_agree(steps: list[tuple[str, int, int]]) -> None:
    """Whatever comes, each node is found by its number, and numbers are unique among what the kernel knows."""
    w = World()
    known: list[Node] = []
    for what, name, ino in steps:
        label = b"%d" % name
        if what == "look" and label not in w.root.kids:
            node = w.enter(w.root, label, 100 + ino, layer=0)
            if node not in known:
                known.append(node)
        elif what == "forget" and known:
            node = known.pop(name % len(known))
            w.table.forget(node.ino, node.lookups)
        elif what == "bury" and label in w.root.kids:
            node = w.root.kids[label]
            for parent, link in list(node.links):
                w.table.remove_link(node, parent, link)
            w.table.bury(node)
        assert {w.table.ids[node.ino] for node in known} == set(known)
        assert all(w.table.by_key[key].key == key for key in w.table.by_key)
        assert all(not node.gone for node in w.table.by_key.values())
        assert all(w.table.ids[node.ino] is node for node in w.root.kids.values())
