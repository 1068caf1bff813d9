"""`--userns`: every mode for every kind of caller."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import NotSupported, UsageError
from rootless.plan.userns import DIRECT, SINGLE, TOOLS, UsernsMode, parse_mode, plan_single, plan_userns
from rootless.spec.idmap import ID_COUNT, IdFacts, IdMap, id_map, single
from rootless.spec.record import replace

WHOLE = id_map((0, 0, ID_COUNT))
USER = IdFacts(
    uid=1000, gid=100, name="ann", sub_uids=((100000, 65536),), sub_gids=((200000, 65536),), own_uids=WHOLE,
    own_gids=WHOLE, newuidmap="/usr/bin/newuidmap", newgidmap="/usr/bin/newgidmap",
)  # fmt: skip
NO_RANGES = replace(USER, sub_uids=(), sub_gids=(), free_id=165536)
NO_TOOLS = replace(USER, newuidmap="", newgidmap="")
NESTED_MAP = id_map((0, 1000, 1), (1, 100000, 65536))
NESTED_ROOT = IdFacts(
    uid=0, gid=0, name="root", sub_uids=(), sub_gids=(), own_uids=NESTED_MAP, own_gids=NESTED_MAP, may_set_ids=True
)
ROOT = replace(NESTED_ROOT, own_uids=WHOLE, own_gids=WHOLE)
WEAK_ROOT = replace(NESTED_ROOT, may_set_ids=False)
LONE_ROOT = replace(NESTED_ROOT, own_uids=single(0, 1000), own_gids=single(0, 1000), setgroups=False)

CALLERS = {"user": USER, "no ranges": NO_RANGES, "no tools": NO_TOOLS, "nested root": NESTED_ROOT, "root": ROOT,
           "weak root": WEAK_ROOT}  # fmt: skip
FULL_U, FULL_G = ((0, 1000, 1), (1, 100000, 65536)), ((0, 100, 1), (1, 200000, 65536))
ONE_U, ONE_G = ((0, 1000, 1),), ((0, 100, 1),)
ALL = ((0, 0, ID_COUNT),)
INSIDE = ((0, 0, 1), (1, 1, 65536))  # range by range: one over both is EPERM
KEEP = ((0, 1, 1000), (1000, 0, 1), (1001, 1001, 64536))

# mode, caller -> how, outer uids, outer gids, inner uids, inner gids, user, a word of the warning
TABLE = [
    ("", "user", TOOLS, FULL_U, FULL_G, None, None, None, None),
    ("host", "user", TOOLS, FULL_U, FULL_G, None, None, None, None),
    ("keep-id", "user", TOOLS, FULL_U, FULL_G, KEEP, ((0, 1, 100), (100, 0, 1), (101, 101, 65436)), (1000, 100), None),
    ("keep-id:uid=5,gid=7", "user", TOOLS, FULL_U, FULL_G, ((0, 1, 5), (5, 0, 1), (6, 6, 65531)),
     ((0, 1, 7), (7, 0, 1), (8, 8, 65529)), (5, 7), None),
    ("keep-id:uid=70000", "user", TOOLS, FULL_U, FULL_G, ((0, 1, 65536), (70000, 0, 1)),
     ((0, 1, 100), (100, 0, 1), (101, 101, 65436)), (70000, 100), None),
    ("keep-id:uid=0,gid=0", "user", TOOLS, FULL_U, FULL_G, INSIDE, INSIDE, (0, 0), None),
    ("nomap", "user", TOOLS, FULL_U, FULL_G, ((0, 1, 65536),), ((0, 1, 65536),), None, None),
    ("single", "user", SINGLE, ONE_U, ONE_G, None, None, None, None),
    ("", "no ranges", SINGLE, ONE_U, ONE_G, None, None, None, "usermod --add-subuids 165536-231071"),
    ("keep-id", "no ranges", SINGLE, ONE_U, ONE_G, ((1000, 0, 1),), ((100, 0, 1),), (1000, 100), "usermod"),
    ("single", "no ranges", SINGLE, ONE_U, ONE_G, None, None, None, None),
    ("", "no tools", SINGLE, ONE_U, ONE_G, None, None, None, "newuidmap and newgidmap not found"),
    ("keep-id", "no tools", SINGLE, ONE_U, ONE_G, ((1000, 0, 1),), ((100, 0, 1),), (1000, 100), "uidmap"),
    ("single", "no tools", SINGLE, ONE_U, ONE_G, None, None, None, None),
    ("", "nested root", DIRECT, INSIDE, INSIDE, None, None, None, None),
    ("keep-id:uid=3,gid=3", "nested root", DIRECT, INSIDE, INSIDE, ((0, 1, 3), (3, 0, 1), (4, 4, 65533)),
     ((0, 1, 3), (3, 0, 1), (4, 4, 65533)), (3, 3), None),
    ("nomap", "nested root", DIRECT, INSIDE, INSIDE, ((0, 1, 65536),), ((0, 1, 65536),), None, None),
    ("single", "nested root", SINGLE, ((0, 0, 1),), ((0, 0, 1),), None, None, None, None),
    ("", "root", DIRECT, ALL, ALL, None, None, None, "does not need"),
    ("single", "root", SINGLE, ((0, 0, 1),), ((0, 0, 1),), None, None, None, None),
    ("", "weak root", SINGLE, ((0, 0, 1),), ((0, 0, 1),), None, None, None, "CAP_SETFCAP"),
]  # fmt: skip


def triples(ids: IdMap | None) -> tuple[tuple[int, int, int], ...] | None:
    return None if ids is None else ids.triples()


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0] or 'default'}-{row[1]}")
def test_table(row: tuple[object, ...]) -> None:
    mode, caller, how, outer_uids, outer_gids, inner_uids, inner_gids, user, warning = row
    plan = plan_userns(parse_mode(str(mode)), CALLERS[str(caller)])
    assert (plan.how, triples(plan.outer_uids), triples(plan.outer_gids)) == (how, outer_uids, outer_gids)
    assert (triples(plan.inner_uids), triples(plan.inner_gids), plan.user) == (inner_uids, inner_gids, user)
    if warning is None:
        assert plan.warnings == ()
    else:
        assert len(plan.warnings) == 1 and str(warning) in plan.warnings[0]
    assert plan.setgroups == (how != SINGLE)
    assert plan.shared == (mode != "single")


def test_every_mode_meets_every_caller() -> None:
    """What is not in the table is refused, with podman's words."""
    listed = {(str(row[0]), str(row[1])) for row in TABLE}
    refused = {
        ("keep-id", "root"): "keep-id is only supported in rootless mode",
        ("nomap", "root"): "nomap is only supported in rootless mode",
        ("nomap", "no ranges"): "nomap requires additional UIDs or GIDs",
        ("nomap", "no tools"): "nomap requires additional UIDs or GIDs",
        ("nomap", "weak root"): "nomap requires additional UIDs or GIDs",
    }
    for mode in ("", "keep-id", "nomap", "single"):
        for caller, facts in CALLERS.items():
            if (mode, caller) in refused:
                with pytest.raises((UsageError, NotSupported), match=refused[mode, caller]):
                    plan_userns(parse_mode(mode), facts)
            elif (mode, caller) not in listed:
                assert plan_userns(parse_mode(mode), facts).outer_uids


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bogus", "unrecognized namespace mode bogus passed"),
        ("nomap:x", "unrecognized namespace mode nomap:x passed"),
        ("host:x", "unrecognized namespace mode host:x passed"),
        ("single:x", "unrecognized namespace mode single:x passed"),
        ("keep-id:x", 'invalid option specified: "x"'),
        ("keep-id:", 'invalid option specified: ""'),
        ("keep-id:foo=1", 'unknown option specified: "foo"'),
        ("keep-id:uid=abc", 'parsing "abc": invalid syntax'),
        ("keep-id:uid=-1", 'parsing "-1": invalid syntax'),
        ("keep-id:uid=4294967295", "value out of range"),
        ("container:", "namespace mode container requires a value"),
        ("ns:", "namespace mode path requires a value"),
    ],
)
def test_bad_modes_are_refused_in_podmans_words(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_mode(text)
    assert words in caught.value.message and caught.value.code == 125


@pytest.mark.parametrize("text", ["auto", "auto:size=10", "private", "container:web", "ns:/proc/1/ns/user"])
def test_modes_of_podman_that_we_lack_say_so(text: str) -> None:
    with pytest.raises(NotSupported) as caught:
        parse_mode(text)
    assert text in caught.value.message and caught.value.code == 125


def test_ranges_are_cut_to_what_the_namespace_has() -> None:
    """A subordinate id that the namespace we run in does not have would make newuidmap refuse everything."""
    facts = replace(USER, own_uids=id_map((0, 5000, 120000)), own_gids=id_map((0, 5000, 200100)))
    plan = plan_userns(UsernsMode("host"), facts)
    assert plan.outer_uids == id_map((0, 1000, 1), (1, 100000, 20000))
    assert plan.outer_gids == id_map((0, 100, 1), (1, 200000, 100))
    nothing = plan_userns(UsernsMode("host"), replace(facts, own_uids=id_map((0, 5000, 2000))))
    assert nothing.how == SINGLE and "do not exist in the user namespace" in nothing.warnings[0]


def test_overlapping_ranges_and_our_own_id_are_mapped_once() -> None:
    facts = replace(USER, sub_uids=((900, 200), (1000, 500)))
    assert plan_userns(UsernsMode("host"), facts).outer_uids == id_map(
        (0, 1000, 1), (1, 900, 100), (101, 1001, 99), (200, 1100, 400)
    )


def test_root_of_a_single_id_says_so() -> None:
    plan = plan_userns(UsernsMode("host"), LONE_ROOT)
    assert plan.outer_uids == single(0, 0) and plan.squashes and "single id" in plan.warnings[0]


def test_a_denied_setgroups_stays_denied() -> None:
    assert not plan_userns(UsernsMode("host"), replace(NESTED_ROOT, setgroups=False)).setgroups


def test_falling_back_keeps_the_mode_and_names_the_reason() -> None:
    mode = parse_mode("keep-id")
    plan = plan_single(plan_userns(mode, USER), mode, USER, reason="newuidmap failed")
    assert plan.how == SINGLE and plan.user == (1000, 100) and plan.warnings[0].startswith("newuidmap failed")
    with pytest.raises(NotSupported, match="newuidmap failed again"):
        plan_single(plan, mode, USER, reason="newuidmap failed again")


def test_the_arguments_of_enter() -> None:
    assert plan_userns(UsernsMode("host"), USER).enter_args() == (
        "tools", "allow", "0 1000 1\n1 100000 65536\n", "0 100 1\n1 200000 65536\n", "/usr/bin/newuidmap",
        "/usr/bin/newgidmap",
    )  # fmt: skip
    assert plan_userns(UsernsMode("single"), USER).enter_args() == (
        "single", "deny", "0 1000 1\n", "0 100 1\n", "", ""
    )  # fmt: skip


@given(
    st.integers(0, 70000), st.lists(st.tuples(st.integers(2000, 9000), st.integers(1, 3000)), min_size=1, max_size=4)
)
def test_keep_id_loses_no_id(uid: int, ranges: list[tuple[int, int]]) -> None:
    """Every outer id has exactly one inner id, and the user's is where it was asked."""
    facts = replace(USER, sub_uids=tuple(ranges))
    plan = plan_userns(UsernsMode("keep-id", uid, 0), facts)
    assert plan.inner_uids is not None
    assert plan.inner_uids.lookup(uid) == 0
    assert plan.inner_uids.size == plan.outer_uids.size
    assert plan.inner_uids.compose(plan.outer_uids).size == plan.outer_uids.size
    assert plan.inner_uids.compose(plan.outer_uids).lookup(uid) == 1000
    for r in plan.inner_uids.ranges:  # the kernel wants each range inside one range of the outer map
        assert len(plan.outer_uids.extents(r.host, r.size)) == 1


def test_a_single_map_never_composes_to_more() -> None:
    assert single(0, 0).compose(single(0, 1000)) == single(0, 1000)
