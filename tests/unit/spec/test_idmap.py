"""Laws of id maps, and what the kernel would refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.spec.idmap import ID_COUNT, IdMap, IdRange, disjoint, id_map, identity, parse_map, single


@st.composite
def id_maps(draw: st.DrawFn, limit: int = 400) -> IdMap:
    """Maps of a few ranges with gaps on both sides, in any order."""
    pieces = draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 20)), max_size=6))
    inner, at = [], 0
    for gap, _, size in pieces:
        inner.append(at + gap)
        at += gap + size
    order = draw(st.permutations(range(len(pieces))))
    outer, at = [0] * len(pieces), 0
    for position in order:
        _, gap, size = pieces[position]
        outer[position] = at + gap
        at += gap + size
    ranges = [IdRange(i, o, size) for i, o, (_, _, size) in zip(inner, outer, pieces, strict=True)]
    return IdMap(tuple(draw(st.permutations(ranges))))


IDS = st.integers(0, 300)


@given(id_maps(), IDS)
def test_both_look_ups_are_inverse(ids: IdMap, number: int) -> None:
    host = ids.lookup(number)
    if host is not None:
        assert ids.lookup_host(host) == number
    assert ids.invert().lookup_host(number) == host


@given(id_maps())
def test_inverting_twice_changes_nothing(ids: IdMap) -> None:
    assert ids.invert().invert() == ids
    assert ids.invert().size == ids.size


@given(id_maps(), id_maps(), IDS)
def test_composing_is_looking_up_twice(inner: IdMap, outer: IdMap, number: int) -> None:
    middle = inner.lookup(number)
    assert inner.compose(outer).lookup(number) == (None if middle is None else outer.lookup(middle))


@given(id_maps(), id_maps(), id_maps())
def test_composing_is_associative(a: IdMap, b: IdMap, c: IdMap) -> None:
    assert a.compose(b).compose(c).same_ids(a.compose(b.compose(c)))


@given(id_maps(), id_maps())
def test_the_inverse_of_a_composition(a: IdMap, b: IdMap) -> None:
    assert a.compose(b).invert().same_ids(b.invert().compose(a.invert()))


@given(id_maps(), IDS, st.integers(1, 100))
def test_extents_are_what_look_up_says(ids: IdMap, start: int, size: int) -> None:
    pieces = ids.extents(start, size)
    found = {r.container + i: r.host + i for r in pieces for i in range(r.size)}
    assert found == {n: ids.lookup(n) for n in range(start, start + size) if ids.lookup(n) is not None}
    assert [r.container for r in pieces] == sorted(r.container for r in pieces)


@given(id_maps(), IDS)
def test_merging_keeps_every_id(ids: IdMap, number: int) -> None:
    merged = ids.merged()
    assert merged.lookup(number) == ids.lookup(number)
    assert len(merged.ranges) <= len(ids.ranges)
    assert merged.merged() == merged


@given(id_maps())
def test_the_text_is_read_back(ids: IdMap) -> None:
    assert parse_map(ids.text()) == ids
    assert id_map(*ids.triples()) == ids


@given(id_maps(), IDS)
def test_identity_keeps_what_there_is(ids: IdMap, number: int) -> None:
    assert identity(ids.ranges).lookup(number) == (None if ids.lookup(number) is None else number)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 60)), max_size=8))
def test_disjoint_keeps_every_id_once(ranges: list[tuple[int, int]]) -> None:
    kept = [n for start, size in disjoint(ranges) for n in range(start, start + size)]
    assert len(kept) == len(set(kept))
    assert set(kept) == {n for start, size in ranges for n in range(start, start + size)}


def test_disjoint_prefers_what_comes_first() -> None:
    assert disjoint([(10, 5), (5, 20)]) == ((10, 5), (5, 5), (15, 10))


@pytest.mark.parametrize(
    "triples",
    [
        [(0, 0, 0)],
        [(0, -1, 1)],
        [(0, 10, 2), (1, 20, 1)],
        [(0, 10, 2), (5, 11, 1)],
        [(0, 0, ID_COUNT + 1)],
        [(ID_COUNT, 0, 1)],
        [(n, n, 1) for n in range(341)],
    ],
)
def test_what_the_kernel_refuses_is_refused(triples: list[tuple[int, int, int]]) -> None:
    with pytest.raises(ValueError):
        id_map(*triples)


def test_the_whole_range_and_one_id_are_fine() -> None:
    assert id_map((0, 0, ID_COUNT)).size == ID_COUNT
    assert single(0, 1000).triples() == ((0, 1000, 1),)
    assert not IdMap() and single(0, 0)


def test_the_kernels_format_is_read() -> None:
    text = "         0       1000          1\n         1     100000      65536\n"
    assert parse_map(text) == id_map((0, 1000, 1), (1, 100000, 65536))
    assert parse_map("rubbish\n") == IdMap()
