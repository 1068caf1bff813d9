"""Limits of config.json as files of cgroup v2 and properties of a unit."""

from __future__ import annotations

import pytest

from rootless.errors import SpecError
from rootless.plan.resources import cpu_bytes, cpu_weight, plan_resources, unit_properties
from rootless.spec.codec import decode
from rootless.spec.linux import Resources


def writes(value: dict[str, object]) -> dict[str, str]:
    return {w.file: w.value for w in plan_resources(decode(Resources, value)).writes}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, {}),
        ({"memory": {"limit": 100}}, {"memory.max": "100"}),
        ({"memory": {"limit": -1}}, {"memory.max": "max", "memory.swap.max": "max"}),
        ({"memory": {"limit": 100, "swap": 300}}, {"memory.max": "100", "memory.swap.max": "200"}),
        ({"memory": {"limit": 100, "swap": -1}}, {"memory.max": "100", "memory.swap.max": "max"}),
        ({"memory": {"reservation": 5}}, {"memory.low": "5"}),
        ({"cpu": {"shares": 1024}}, {"cpu.weight": "100"}),
        ({"cpu": {"shares": 1024, "idle": 1}}, {"cpu.idle": "1"}),
        ({"cpu": {"quota": 5000, "period": 10000}}, {"cpu.max": "5000 10000"}),
        ({"cpu": {"quota": -1}}, {"cpu.max": "max 100000"}),
        ({"cpu": {"cpus": "0-1", "mems": "0"}}, {"cpuset.cpus": "0-1", "cpuset.mems": "0"}),
        ({"pids": {"limit": 9}}, {"pids.max": "9"}),
        ({"pids": {"limit": -1}}, {"pids.max": "max"}),
        ({"blockIO": {"weight": 1000}}, {"io.weight": "default 10000"}),
        ({"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": 1, "rate": 3}]}}, {"io.max": "8:1 wiops=3"}),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 4}]}, {"hugetlb.2MB.max": "4"}),
        ({"rdma": {"mlx": {"hcaHandles": 2, "hcaObjects": 3}}}, {"rdma.max": "mlx hca_handle=2 hca_object=3"}),
        ({"unified": {"memory.high": "7"}}, {"memory.high": "7"}),
    ],
)
def test_files(value: dict[str, object], expected: dict[str, str]) -> None:
    assert writes(value) == expected


def test_what_v2_lacks_is_named() -> None:
    plan = plan_resources(decode(Resources, {"memory": {"swappiness": 1, "kernel": 5}, "network": {"classID": 3}}))
    assert plan.writes == ()
    assert plan.unsupported == ("kernel memory limit", "memory swappiness", "network class and priorities")


@pytest.mark.parametrize(
    "value",
    [{"memory": {"swap": 5}}, {"memory": {"limit": 10, "swap": 5}}, {"unified": {"../x": "1"}}, {"unified": {"": "1"}}],
)
def test_contradictions_are_refused(value: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        writes(value)


def test_weights_grow_with_shares() -> None:
    weights = [cpu_weight(shares) for shares in range(2, 5000)]
    assert weights == sorted(weights) and weights[0] == 1
    assert (cpu_weight(1 << 18), cpu_weight(0)) == (10000, 0)


def test_properties_of_a_unit() -> None:
    resources = decode(Resources, {
        "memory": {"limit": 100, "swap": 150}, "pids": {"limit": 0},
        "cpu": {"quota": 1000, "period": 3000, "cpus": "0-3,8"},
    })  # fmt: skip
    made = {p.name: (p.signature, p.value) for p in unit_properties(resources)}
    assert made == {
        "MemoryMax": ("t", 100), "MemorySwapMax": ("t", 50), "CPUQuotaPeriodUSec": ("t", 3000),
        "CPUQuotaPerSecUSec": ("t", 340000), "AllowedCPUs": ("ay", b"\x0f\x01"), "TasksMax": ("t", 2**64 - 1),
    }  # fmt: skip


@pytest.mark.parametrize("text", ["a", "3-1", "1-", "99999999"])
def test_lists_of_cpus(text: str) -> None:
    with pytest.raises(SpecError):
        cpu_bytes(text)
