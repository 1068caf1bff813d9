"""Plans: the order that the kernel forces, whatever the container."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import SpecError
from rootless.plan.launch import CLONE_FLAGS, LaunchContext, plan_exec, plan_launch
from rootless.plan.wire import ELSE, Op, decode
from rootless.spec.linux import IdMapping, Linux, Namespace
from rootless.spec.record import replace
from rootless.spec.runtime import CapSets, Mount, Process, Rlimit, Root, Spec, User

KINDS = ("pid", "network", "ipc", "uts", "cgroup", "mount")
MOUNTS = (
    Mount("/proc", "proc", "proc", ("nosuid",)),
    Mount("/dev", "tmpfs", "tmpfs", ("mode=755",)),
    Mount("/dev/pts", "devpts", "devpts", ("newinstance", "gid=5")),
    Mount("/sys", "sysfs", "sysfs", ("ro",)),
    Mount("/etc/hosts", "/run/hosts", "bind", ("rbind", "rprivate", "ro")),
)
CONTEXT = LaunchContext(bundle="/bundle", root_path="", slots=("root",), seccomp=b"12345678")
SPEC = Spec(
    "1.2.0",
    Process(("sh", "-c", "true"), "/work", User(7, 8, additional_gids=(9,)), env=("PATH=/bin",)),
    Root("/root", readonly=True),
    hostname="host",
    mounts=MOUNTS,
    linux=Linux(
        tuple(Namespace(k) for k in KINDS), sysctl=(("net.ipv4.ip_forward", "1"),), masked_paths=("/proc/kcore",),
        readonly_paths=("/proc/sys",),
    ),
)  # fmt: skip


def kinds(ops: tuple[Op, ...]) -> list[str]:
    return [op.kind for op in ops]


def before(order: list[str], first: str, second: str) -> bool:
    return max(i for i, k in enumerate(order) if k == first) < min(i for i, k in enumerate(order) if k == second)


@given(
    st.sets(st.sampled_from(KINDS)).map(lambda s: s | {"mount"}),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_the_order_holds_for_every_container(own: set[str], user: bool, tty: bool, nnp: bool, readonly: bool) -> None:
    assert SPEC.process and SPEC.linux
    names = tuple(Namespace(k) for k in (("user",) if user else ()) + tuple(sorted(own)))
    maps = (IdMapping(0, 1000, 1),) if user else ()
    spec = replace(
        SPEC,
        process=replace(SPEC.process, terminal=tty, no_new_privileges=nnp),
        root=Root("/r", readonly),
        linux=replace(SPEC.linux, namespaces=names, uid_mappings=maps, gid_mappings=maps),
    )
    plan = plan_launch(spec, CONTEXT)
    order = kinds(plan.ops)
    assert plan.new_userns is user
    assert order[:2] == ["CLOSE", "CLONE"]
    assert ("SYNC" in order) is user
    for first, second in (
        ("PROPAGATION", "ROOT"), ("ROOT", "MOUNT"), ("MOUNT", "PIVOT"), ("WRITE", "READONLY"), ("READONLY", "PIVOT"),
        ("MASK", "PIVOT"), ("PIVOT", "USER"), ("GROUPS", "USER"), ("BOUNDING", "USER"), ("USER", "CAPS"),
        ("USER", "PDEATHSIG"), ("CAPS", "LOOKUP"), ("LOOKUP", "READY"), ("READY", "START"), ("START", "SECCOMP"),
        ("SECCOMP", "EXEC"),
    ):  # fmt: skip
        if (first, second) == ("CAPS", "LOOKUP"):
            assert order.index("CAPS") < order.index("LOOKUP")
        else:
            assert before(order, first, second), (first, second, order)
    assert order.count("PIVOT") == 1
    assert order[-1] == "EXEC"
    if nnp:
        assert before(order, "NNP", "SECCOMP")
        assert order.count("CAPS") == 1
    else:  # the filter needs CAP_SYS_ADMIN, which goes after it
        assert order[-2:] == ["CAPS", "EXEC"]
    assert decode(plan.encode()) == tuple(replace(op, why="", a=op.a & 2**64 - 1, s=_trimmed(op.s)) for op in plan.ops)


def _trimmed(strings: tuple[bytes, ...]) -> tuple[bytes, ...]:
    while strings and not strings[-1]:
        strings = strings[:-1]
    return strings


def test_every_refusable_mount_is_followed_by_its_replacement() -> None:
    ops = plan_launch(SPEC, CONTEXT).ops
    pairs = [(ops[i].s[1], ops[i + 1].kind) for i, op in enumerate(ops) if op.flags & ELSE]
    assert pairs == [(b"/proc", "BIND"), (b"/dev/pts", "MOUNT"), (b"/sys", "BIND")]


def test_gid_5_is_left_out_where_it_is_not_mapped() -> None:
    ops = plan_launch(SPEC, replace(CONTEXT, tty_gid=False)).ops
    (devpts,) = [op for op in ops if op.kind == "MOUNT" and op.s[2] == b"devpts"]
    assert devpts.s[3] == b"newinstance"


def test_namespaces_are_joined_user_first_and_mount_last() -> None:
    assert SPEC.linux
    paths = tuple(Namespace(k, f"/proc/1/ns/{k}") for k in ("mount", "pid", "user", "network"))
    context = replace(CONTEXT, slots=tuple(f"ns:{n.type}" for n in paths))
    ops = plan_launch(replace(SPEC, linux=replace(SPEC.linux, namespaces=paths)), context).ops
    joined = [op.a for op in ops if op.kind == "SETNS"]
    assert joined == [CLONE_FLAGS[k] for k in ("user", "network", "pid", "mount")]
    assert all(op.fd >= context.first_slot for op in ops if op.kind == "SETNS")


def test_a_limit_above_ours_is_lowered_and_said() -> None:
    assert SPEC.process
    process = replace(SPEC.process, rlimits=(Rlimit("RLIMIT_NOFILE", 5000, 9000),))
    plan = plan_launch(replace(SPEC, process=process), replace(CONTEXT, hard_limits=(("RLIMIT_NOFILE", 4096),)))
    (limit,) = [op for op in plan.ops if op.kind == "RLIMIT"]
    assert (limit.a, limit.b, limit.c) == (7, 4096, 4096)
    assert "rlimit_nofile" in plan.warnings[0] and "4096" in plan.warnings[0]


def test_groups_are_not_attempted_where_setgroups_is_denied() -> None:
    plan = plan_launch(SPEC, replace(CONTEXT, setgroups=False))
    assert "GROUPS" not in kinds(plan.ops)
    assert plan.warnings == ("the groups 9 cannot be given: no subordinate ids",)


def test_exec_hides_before_it_joins() -> None:
    process = Process(("id",), capabilities=CapSets(bounding=("CAP_CHOWN",)))
    ops = plan_exec(process, ("pid", "mount"), replace(CONTEXT, slots=("ns:pid", "ns:mount"))).ops
    assert kinds(ops)[:5] == ["DUMPABLE", "CLOSE", "SETNS", "SETNS", "CLONE"]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"process": None}, "/process"),
        ({"linux": None}, "/linux"),
        ({"linux": Linux((Namespace("pod"),))}, "/linux/namespaces/0/type"),
        ({"linux": Linux((Namespace("mount"),), rootfs_propagation="odd")}, "/linux/rootfsPropagation"),
        ({"process": Process(())}, "/process/args"),
        ({"process": Process(("a",), rlimits=(Rlimit("RLIMIT_ODD", 1, 1),))}, "/process/rlimits/0/type"),
    ],
)
def test_what_cannot_be_planned_is_named_by_its_pointer(change: dict[str, object], pointer: str) -> None:
    with pytest.raises(SpecError) as caught:
        plan_launch(replace(SPEC, **change), CONTEXT)
    assert caught.value.pointer == pointer
