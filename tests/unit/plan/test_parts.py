"""The parts of a translation: joined namespaces, health checks, limits, kept groups, id maps, writable cgroups."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.errors import UsageError
from rootless.plan.health import health_of
from rootless.plan.limits import resources_of
from rootless.plan.namespaces import namespaces, sysctls
from rootless.plan.options import HealthRequest, Limits, NetworkRequest, RunOptions
from rootless.plan.resources import plan_resources
from rootless.plan.userns import UsernsMode, parse_maps, plan_userns
from rootless.spec.idmap import IdFacts, IdRange, id_map
from rootless.spec.linux import Namespace
from tests.unit.plan.test_translate import run

NS = 1_000_000_000
IMAGE_CHECK = {"Test": ["CMD-SHELL", "true"], "Interval": 5 * NS, "Retries": 7}


def asked(**changes: Any) -> RunOptions:
    return RunOptions("image", **changes)


@pytest.mark.parametrize(
    ("options", "config", "expected"),
    [
        (asked(), {}, None),
        (asked(), {"Healthcheck": IMAGE_CHECK}, HealthRequest(("CMD-SHELL", "true"), 5 * NS, 30 * NS, 0, 7)),
        (asked(no_healthcheck=True), {"Healthcheck": IMAGE_CHECK}, None),
        (asked(), {"Healthcheck": {"Test": ["NONE"]}}, None),
        (asked(), {"Healthcheck": {"Test": ["a", "b"]}}, HealthRequest(("CMD", "a", "b"), 30 * NS, 30 * NS, 0, 3)),
        (
            asked(health=HealthRequest(interval_ns=-1, on_failure="kill")),
            {"Healthcheck": IMAGE_CHECK},
            HealthRequest(("CMD-SHELL", "true"), -1, 30 * NS, 0, 7, "kill"),
        ),
        # a command of one's own does not take over what the image says of its own
        (
            asked(health=HealthRequest(("CMD", "x"), start_period_ns=NS)),
            {"Healthcheck": IMAGE_CHECK},
            HealthRequest(("CMD", "x"), 30 * NS, 30 * NS, NS, 3),
        ),
        (asked(health=HealthRequest(("NONE",))), {"Healthcheck": IMAGE_CHECK}, None),
    ],
)
def test_health(options: RunOptions, config: dict[str, Any], expected: HealthRequest | None) -> None:
    assert health_of(options, config) == expected


def test_an_action_needs_a_check() -> None:
    with pytest.raises(UsageError, match="cannot set on-failure action to kill without a health check"):
        health_of(asked(health=HealthRequest(on_failure="kill")), {})


def numbers(path: str, flag: str) -> tuple[int, int]:
    return (8, 16) if path == "/dev/sdb" else (1, 3)


@pytest.mark.parametrize(
    ("limits", "written"),
    [
        (Limits(memory=100), [("memory.swap.max", "100"), ("memory.max", "100")]),
        (Limits(memory=100, memory_swap=150), [("memory.swap.max", "50"), ("memory.max", "100")]),
        (Limits(memory=100, memory_swap=-1), [("memory.swap.max", "max"), ("memory.max", "100")]),
        (Limits(memory_reservation=5), [("memory.low", "5")]),
        (Limits(cpu_period=100000, cpu_quota=150000), [("cpu.max", "150000 100000")]),
        (Limits(cpu_shares=1024, cpuset_cpus="0-1"), [("cpu.weight", "100"), ("cpuset.cpus", "0-1")]),
        (Limits(pids=-1), [("pids.max", "max")]),
        (Limits(pids=7), [("pids.max", "7")]),
        (Limits(read_bps=(("/dev/sdb", 5),)), [("io.max", "8:16 rbps=5")]),
        (Limits(blkio_weight=1000), [("io.weight", "default 10000")]),
        (Limits(unified=(("memory.high", "9"),)), [("memory.high", "9")]),
        # answered with a warning when the flags were read
        (Limits(memory_swappiness=5, oom_kill_disable=True, cpu_rt_period=5), []),
    ],
)
def test_limits_become_writes(limits: Limits, written: list[tuple[str, str]]) -> None:
    plan = plan_resources(resources_of(limits, numbers))
    assert [(write.file, write.value) for write in plan.writes] == written
    assert plan.unsupported == ()


def test_no_limits_are_no_resources() -> None:
    assert resources_of(Limits(), numbers) is None


def test_namespaces_of_another() -> None:
    def resolve(kind: str, mode: str) -> str:
        return "" if kind == "uts" else f"/proc/5/ns/{kind}:{mode}"

    options = asked(pid="container:a", uts="container:a", ipc="ns:/x", network=NetworkRequest("host"))
    assert namespaces(options, False, resolve) == (
        Namespace("pid", "/proc/5/ns/pid:container:a"),
        Namespace("ipc", "/proc/5/ns/ipc:ns:/x"),
        Namespace("cgroup"),
        Namespace("mount"),
    )
    joined = namespaces(asked(userns="container:a"), True, resolve)
    assert joined[0] == Namespace("user", "/proc/5/ns/user:container:a")


def test_sysctls_of_a_namespace_that_is_not_ours() -> None:
    options = asked(network=NetworkRequest("container:a"), sysctls=(("net.x", "1"),))
    with pytest.raises(UsageError, match="sysctl net.x=1 can't be set since network Namespace set to container"):
        sysctls(options, None)
    assert sysctls(asked(network=NetworkRequest("container:a")), None) == ()
    assert sysctls(asked(default_sysctls=(("net.y", "2"),)), None) == (("net.y", "2"),)


def test_what_the_translation_says_of_another_container() -> None:
    def resolve(kind: str, mode: str) -> str:
        return f"/proc/5/ns/{kind}"

    found = run("--ipc container:a --uts container:a plain", namespace_path=resolve, joined_name="theirs")
    shm = next(mount for mount in found.spec.mounts if mount.destination == "/dev/shm")
    assert shm.source == "/proc/5/root/dev/shm"
    assert found.spec.hostname is None
    assert found.hostname == "theirs"
    assert found.spec.process is not None
    assert "HOSTNAME=theirs" in found.spec.process.env


def test_kept_groups_are_nobodys_names() -> None:
    found = run("--group-add keep-groups plain")
    assert found.keep_groups
    assert found.user.groups == ()
    assert not run("--group-add audio plain").keep_groups


def test_another_init() -> None:
    found = run("--init --init-path /usr/bin/catatonit plain")
    assert not found.reaper
    assert found.spec.process is not None
    assert found.spec.process.args[:3] == ("/run/rootless-init", "--", "/bin/env")
    assert next(m for m in found.spec.mounts if m.destination == "/run/rootless-init").source == "/usr/bin/catatonit"


def test_chroot_directories_get_the_generated_files() -> None:
    places = {mount.destination: mount.source for mount in run("--chrootdirs /a --chrootdirs /b/ plain").spec.mounts}
    for place in ("/etc/hosts", "/a/etc/hosts", "/b/etc/hosts"):
        assert places[place] == "/files/hosts"
    assert "/a/etc/localtime" not in places


@pytest.mark.parametrize(
    ("line", "mode"),
    [("plain", "ro"), ("--security-opt unmask=/sys/fs/cgroup plain", "rw"), ("--privileged plain", "rw")],
)
def test_who_may_write_cgroups(line: str, mode: str) -> None:
    found = next(mount for mount in run(line).spec.mounts if mount.destination == "/sys/fs/cgroup")
    assert mode in found.options


def test_defaults_of_containers_conf() -> None:
    from rootless.cli.flags_run import run_options
    from rootless.cli.parser import parse
    from rootless.cli.table_run import COMMAND
    from rootless.plan.options import GlobalOptions
    from rootless.plan.translate import capability_sets

    parsed, everywhere = parse(COMMAND, ["image"], GlobalOptions())
    options = run_options(parsed, everywhere, {}, "/", str)
    assert len(capability_sets(options, False).bounding) == 11
    from rootless.spec.record import replace

    changed = replace(options, default_capabilities=("CAP_CHOWN",))
    assert capability_sets(changed, False).bounding == ("CAP_CHOWN",)


FACTS = IdFacts(
    uid=1000, gid=1000, name="me", sub_uids=((100000, 1000), (300000, 1000)), sub_gids=((100000, 2000),),
    own_uids=id_map((0, 0, (1 << 32) - 1)), own_gids=id_map((0, 0, (1 << 32) - 1)),
    newuidmap="/bin/newuidmap", newgidmap="/bin/newgidmap",
)  # fmt: skip


def test_maps_of_ones_own_are_cut_where_the_outer_ones_are() -> None:
    mode = UsernsMode("maps", uids=parse_maps(("0:1:1500", "5000:0:1")))
    plan = plan_userns(mode, FACTS)
    assert plan.outer_uids == id_map((0, 1000, 1), (1, 100000, 1000), (1001, 300000, 1000))
    assert plan.inner_uids is not None
    assert plan.inner_uids.ranges == (IdRange(0, 1, 1000), IdRange(1000, 1001, 500), IdRange(5000, 0, 1))
    # groups follow the users where nothing is said of them, but in pieces of their own
    assert plan.inner_gids is not None
    assert plan.inner_gids.ranges == (IdRange(0, 1, 1500), IdRange(5000, 0, 1))


def test_subordinate_ranges_by_name() -> None:
    plan = plan_userns(UsernsMode("maps", named_uids=((300000, 1000),), named_gids=((100000, 10),)), FACTS)
    assert plan.inner_uids is not None
    assert plan.inner_gids is not None
    assert plan.inner_uids.ranges == (IdRange(0, 1001, 1000),)
    assert plan.inner_gids.ranges == (IdRange(0, 1, 10),)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (UsernsMode("maps", uids=((0, 0, 5000),)), r"UIDs 0\.\.4999 of the map 0:0:5000 do not exist"),
        (UsernsMode("maps", uids=((0, 0, 5), (3, 10, 5))), "container id 3 is mapped twice"),
        (UsernsMode("maps", named_uids=((5, 5),)), "none of the subordinate UIDs of this name are ours to map"),
    ],
)
def test_maps_that_cannot_be(mode: UsernsMode, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_userns(mode, FACTS)


@pytest.mark.parametrize(
    ("line", "prepared"),
    [
        ("--systemd always plain", True),
        ("plain /usr/lib/systemd/systemd", True),
        ("plain /sbin/init", True),
        ("--systemd false plain /sbin/init", False),
        ("plain", False),
        ("plain /bin/initial", False),
    ],
)
def test_an_init_of_systemds_kind(line: str, prepared: bool) -> None:
    found = run(line)
    mounts = {mount.destination: mount for mount in found.spec.mounts}
    assert ("/run/lock" in mounts) == prepared
    assert ("rw" in mounts["/sys/fs/cgroup"].options) == prepared
    assert (found.stop_signal == 37) == prepared
    assert found.spec.process is not None
    assert any([line.startswith("container_uuid=4ea63dc4fd59") for line in found.spec.process.env]) == prepared


def test_a_stop_signal_that_somebody_chose_stays() -> None:
    assert run("--systemd always --stop-signal INT plain").stop_signal == 2
    assert run("--systemd always full").stop_signal == 2
