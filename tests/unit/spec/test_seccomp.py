"""Profiles as JSON: which rules count, and what is said about the ones that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.errors import SpecError
from rootless.spec.linux import Seccomp, SeccompArg, SeccompRule
from rootless.spec.seccomp import (
    ALLOW,
    ARCHES,
    EQ,
    ERRNO,
    KILL_PROCESS,
    MASKED_EQ,
    NE,
    TRACE,
    Condition,
    Rule,
    filter_of_profile,
    filter_of_spec,
    machine,
)  # fmt: skip

NONE: frozenset[str] = frozenset()


def profile(*entries: Any, **top: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": list(entries), **top}


def allow(*names: str, **rest: Any) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ALLOW", **rest}


def names(found: Any) -> list[str]:
    return [rule.name for rule in found.rules]


def test_includes_want_all_capabilities_and_any_architecture() -> None:
    text = profile(
        allow("a", includes={"caps": ["CAP_X", "CAP_Y"]}),
        allow("b", includes={"arches": ["amd64", "arm64"]}),
        allow("c", includes={"arches": ["s390x"]}),
        allow("d", excludes={"caps": ["CAP_X"]}),
        allow("e", excludes={"arches": ["amd64"]}),
        allow("f", includes={"caps": ["CAP_X"], "arches": ["arm64"]}),
    )
    assert names(filter_of_profile(text, frozenset({"CAP_X"}), "x86_64")) == ["b"]
    assert names(filter_of_profile(text, frozenset({"CAP_X", "CAP_Y"}), "x86_64")) == ["a", "b"]
    assert names(filter_of_profile(text, NONE, "x86_64")) == ["b", "d"]
    assert names(filter_of_profile(text, frozenset({"CAP_X"}), "aarch64")) == ["b", "e", "f"]


def test_errno_defaults_to_eperm_and_names_win() -> None:
    found = filter_of_profile(
        profile(
            {"name": "a", "action": "SCMP_ACT_ERRNO", "errnoRet": 22},
            {"names": ["b"], "action": "SCMP_ACT_ERRNO", "errno": "ENOSYS", "errnoRet": 1},
            {"names": ["c"], "action": "SCMP_ACT_TRACE"},
            {"names": ["d"], "action": "SCMP_ACT_ERRNO"},
        ),
        NONE,
        "x86_64",
    )
    assert found.default == ERRNO | 1
    assert [r.action for r in found.rules] == [ERRNO | 22, ERRNO | 38, TRACE | 1]  # d says what the default says


def test_architectures_come_from_the_map_of_this_machine() -> None:
    arch_map = [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}]
    found = filter_of_profile(profile(archMap=arch_map), NONE, "x86_64")
    assert found.arches == (ARCHES["SCMP_ARCH_X86_64"], ARCHES["SCMP_ARCH_X86"])
    assert filter_of_profile(profile(archMap=arch_map), NONE, "aarch64").arches == (ARCHES["SCMP_ARCH_AARCH64"],)


def test_one_argument_twice_makes_alternatives() -> None:
    spec = Seccomp(
        default_action="SCMP_ACT_ALLOW",
        syscalls=(
            SeccompRule(("a",), "SCMP_ACT_KILL_PROCESS", None,
                        (SeccompArg(0, 1, "SCMP_CMP_EQ"), SeccompArg(0, 2, "SCMP_CMP_EQ"))),
            SeccompRule(("b",), "SCMP_ACT_KILL_PROCESS", None,
                        (SeccompArg(0, 1, "SCMP_CMP_NE"), SeccompArg(1, 0xF0, "SCMP_CMP_MASKED_EQ", 0x30))),
        ),
    )  # fmt: skip
    assert filter_of_spec(spec, "x86_64").rules == (
        Rule("a", KILL_PROCESS, (Condition(0, EQ, 1),)),
        Rule("a", KILL_PROCESS, (Condition(0, EQ, 2),)),
        Rule("b", KILL_PROCESS, (Condition(0, NE, 1), Condition(1, MASKED_EQ, 0xF0, 0x30))),
    )


def test_the_spec_adds_the_machines_own_architecture() -> None:
    spec = Seccomp(default_action="SCMP_ACT_ALLOW", architectures=("SCMP_ARCH_X86", "SCMP_ARCH_NATIVE"))
    found = filter_of_spec(spec, "x86_64")
    assert found.arches == (ARCHES["SCMP_ARCH_X86_64"], ARCHES["SCMP_ARCH_X86"]) and found.default == ALLOW


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ([], ""),
        ({}, "/defaultAction"),
        (profile(defaultAction="SCMP_ACT_MAYBE"), "/defaultAction"),
        (profile(defaultErrno="ENOTHING"), "/defaultErrno"),
        (profile(syscalls={}), "/syscalls"),
        (profile(7), "/syscalls/0"),
        (profile(allow("a"), {"names": ["b"], "action": "allow"}), "/syscalls/1/action"),
        (profile({"names": "b", "action": "SCMP_ACT_ALLOW"}), "/syscalls/0/names"),
        (profile({"names": [1], "action": "SCMP_ACT_ALLOW"}), "/syscalls/0/names/0"),
        (profile(allow("b", name="c")), "/syscalls/0/name"),
        (profile(allow("b", includes=[1])), "/syscalls/0/includes"),
        (profile(allow("b", args=[{"index": 6, "op": "SCMP_CMP_EQ", "value": 1}])), "/syscalls/0/args/0/index"),
        (profile(allow("b", args=[{"index": 0, "op": "==", "value": 1}])), "/syscalls/0/args/0/op"),
        (profile(allow("b", args=[{"index": 0, "op": "SCMP_CMP_EQ", "value": -1}])), "/syscalls/0/args/0/value"),
        (profile(architectures=["SCMP_ARCH_VAX"]), "/architectures/0"),
        (profile({"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 << 16}), "/syscalls/0/action"),
    ],
)
def test_what_is_wrong_is_pointed_at(text: Any, pointer: str) -> None:
    with pytest.raises(SpecError) as caught:
        filter_of_profile(text, NONE, "x86_64")
    assert caught.value.pointer == pointer


def test_machines_are_known_by_what_uname_says() -> None:
    assert machine("i586").go == "x86" and machine("armv6l").go == "arm"
    with pytest.raises(SpecError, match="vax"):
        machine("vax")
