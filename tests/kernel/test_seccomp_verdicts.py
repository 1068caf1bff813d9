"""Our table and our shipped programs against containers-common's profile: every number, every architecture.

The reference is read here by a few lines of its own, compiled by libseccomp as runc and crun do, and asked by the
interpreter of tests/support/bpf.py.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from rootless.kernel import libseccomp
from rootless.kernel.libseccomp import compile_filter
from rootless.kernel.seccomp import RELEVANT as RELEVANT_THERE
from rootless.kernel.seccomp import SHIPPED, data_path
from rootless.spec.caps import NAMES
from rootless.spec.seccomp import ACTIONS, ARCHES, OPERATORS, Condition, Filter, Rule, filter_of_profile, machine
from rootless.spec.seccomp_table import RELEVANT, default_filter
from tests.support import bpf

PROFILE = Path("/usr/share/containers/seccomp.json")
EDITION = "cc374cf23846ce1f62f4dc807a8e2b8673c783c6f56cb475467621035d281e6c"
"""sha256 of the edition that the table has the verdicts of: containers-common 0.50 of Debian 12."""

MACHINES = ("x86_64", "aarch64")
X32 = 0x40000000
EDGES = (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x3FFFFFFF, 0x0EFFFF)
NUMBERS = [*range(1200), *range(X32, X32 + 1200), *range(0x0F0000, 0x0F0010), *EDGES]
"""All system calls of today with room above; those of x32; ARM's own; the ends of the ranges."""

FIRST = (0, 1, 7, 8, 9, 15, 16, 17, 0x20000, 0x20008, 0xFFFFFFFF, 1 << 32, 16 | 1 << 32, 0xFFFFFFFF_FFFFFFFF)
THIRD = (0, 8, 9, 10, 9 | 1 << 32)
JUDGED = (135, 41, 136, 359, 92, 198, 281, 102)
"""personality and socket of the architectures, and i386's socketcall."""


@pytest.fixture(scope="module")
def profile() -> Any:
    if not PROFILE.exists():
        pytest.skip(f"no {PROFILE} (package golang-github-containers-common)")
    if hashlib.sha256(PROFILE.read_bytes()).hexdigest() != EDITION:
        pytest.skip(f"{PROFILE} is another edition than the one of our table")
    if not libseccomp.version():
        pytest.skip("no libseccomp.so.2")
    return json.loads(PROFILE.read_text())


def reference(profile: Any, capabilities: frozenset[str], name: str) -> Filter:
    """Read the profile as seccomp.json(5) says, apart from our own reader."""
    own = machine(name)
    arches = [own.arches[0]]
    for entry in profile["archMap"]:
        if entry["architecture"] == own.arches[0]:
            arches += entry["subArchitectures"]
    default = ACTIONS[profile["defaultAction"]] | profile["defaultErrnoRet"]
    rules = []
    for entry in profile["syscalls"]:
        wanted, unwanted = entry["includes"], entry["excludes"]
        if "arches" in wanted and own.go not in wanted["arches"]:
            continue
        if any(c not in capabilities for c in wanted.get("caps", ())):
            continue
        if own.go in unwanted.get("arches", ()) or any(c in capabilities for c in unwanted.get("caps", ())):
            continue
        action = ACTIONS[entry["action"]] | (entry.get("errnoRet") or 0)
        args = tuple(Condition(a["index"], OPERATORS[a["op"]], a["value"]) for a in entry["args"] or ())
        rules += [Rule(name, action, args) for name in entry["names"]]
    return Filter(default, tuple(ARCHES[a] for a in arches), tuple(rules))


def differences(one: bytes, other: bytes, arches: tuple[int, ...]) -> list[tuple[str, ...]]:
    """Return where two programs answer differently."""
    if one == other:
        return []
    left, right = bpf.decode(one), bpf.decode(other)
    found: list[tuple[str, ...]] = []
    for arch in (*arches, 0xC00000F3, 0):  # and two that the filters do not know
        for number in NUMBERS:
            arguments = [(0,) * 6, (0xFFFFFFFF_FFFFFFFF,) * 6]
            if number & ~X32 in JUDGED:
                arguments += [(a, 0, b, 0, 0, 0) for a, b in itertools.product(FIRST, THIRD)]
            for args in arguments:
                a, b = bpf.run(left, number, arch, args), bpf.run(right, number, arch, args)
                if a != b:
                    found.append((hex(arch), str(number), str(args), hex(a), hex(b)))
    return found


def sets_of_capabilities() -> list[frozenset[str]]:
    """Return none, all, each alone, each missing, and some by chance (always the same)."""
    relevant = sorted(RELEVANT)
    chance = random.Random(4)
    sets = [frozenset(), frozenset(NAMES)]
    sets += [frozenset((c,)) for c in relevant] + [frozenset(NAMES) - {c} for c in relevant]
    sets += [frozenset(c for c in NAMES if chance.random() < 0.5) for _ in range(6)]
    return sets


@pytest.mark.parametrize("name", MACHINES)
def test_the_table_says_what_the_profile_says(profile: Any, name: str) -> None:
    """For every set of capabilities that the profile tells apart, our rules give the same answers."""
    for capabilities in sets_of_capabilities():
        ours = compile_filter(default_filter(capabilities, machine(name)))
        wanted = reference(profile, capabilities, name)
        assert differences(ours, compile_filter(wanted), wanted.arches) == [], sorted(capabilities)


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("which", SHIPPED)
def test_the_shipped_programs_say_what_the_profile_says(profile: Any, name: str, which: str) -> None:
    """The range trees that ship as data answer as libseccomp's program of the profile does."""
    wanted = reference(profile, frozenset(SHIPPED[which]), name)
    shipped = Path(data_path(name, which)).read_bytes()
    assert differences(shipped, compile_filter(wanted), wanted.arches) == []


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("which", SHIPPED)
def test_the_shipped_programs_say_what_the_table_says(name: str, which: str) -> None:
    """Also where no profile is installed: the files are not older than the table."""
    if not libseccomp.version():
        pytest.skip("no libseccomp.so.2")
    wanted = default_filter(frozenset(SHIPPED[which]), machine(name))
    assert differences(Path(data_path(name, which)).read_bytes(), compile_filter(wanted), wanted.arches) == []


@pytest.mark.parametrize("name", MACHINES)
def test_our_reader_of_profiles_agrees(profile: Any, name: str) -> None:
    """filter_of_profile, which custom profiles go through, compiles to the same program."""
    for capabilities in sets_of_capabilities()[:6]:
        ours = filter_of_profile(profile, capabilities, name)
        assert compile_filter(ours) == compile_filter(reference(profile, capabilities, name))


def test_the_profile_asks_for_no_other_capability(profile: Any) -> None:
    """A capability that the profile looks at and we do not would make two sets wrongly the same."""
    asked = {c for e in profile["syscalls"] for key in ("includes", "excludes") for c in e[key].get("caps", ())}
    assert asked == RELEVANT == set(RELEVANT_THERE)


def test_a_difference_is_found() -> None:
    """The comparison is not blind: one rule more, one condition less, one architecture less shows."""
    own = machine("x86_64")
    if hashlib.sha256(PROFILE.read_bytes()).hexdigest() != EDITION:
        pytest.skip(f"{PROFILE} is another edition than the one of our table")
    if not libseccomp.version():
        pytest.skip("no libseccomp.so.2")
    whole = default_filter(frozenset(), own)
    for changed in (
        Filter(whole.default, whole.arches, (*whole.rules, Rule("add_key", ACTIONS["SCMP_ACT_ALLOW"]))),
        Filter(whole.default, whole.arches, tuple(r for r in whole.rules if r.name != "personality")),
        Filter(whole.default, whole.arches[:1], whole.rules),
    ):
        assert differences(compile_filter(whole), compile_filter(changed), whole.arches)
