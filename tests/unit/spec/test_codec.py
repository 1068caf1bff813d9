"""config.json in both directions, and where a fault is said to be."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.cli.oci_documents import starter
from rootless.errors import SpecError
from rootless.run.bundle import check_spec
from rootless.spec import jsontext
from rootless.spec.codec import decode, encode
from rootless.spec.linux import IdMapping, Namespace, Resources, TimeOffset
from rootless.spec.runtime import Hooks, Process, Spec

CONFIG: dict[str, Any] = {
    **starter(True, 1000, 1000),
    "hooks": {"createRuntime": [{"path": "/bin/true", "args": ["true"], "timeout": 3}], "poststop": [{"path": "/x"}]},
    "annotations": {"a.b": "c"},
}
CONFIG["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
CONFIG["linux"]["timeOffsets"] = {"monotonic": {"secs": -3, "nanosecs": 4}}
CONFIG["linux"]["resources"] = {
    "memory": {"limit": 1 << 20, "disableOOMKiller": True, "kernelTCP": 7},
    "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]},
    "unified": {"memory.high": "3"},
    "rdma": {"mlx": {"hcaHandles": 2}},
}
CONFIG["linux"]["seccomp"] = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}
    ],
}


def config() -> dict[str, Any]:
    return copy.deepcopy(CONFIG)


def test_every_part_arrives() -> None:
    spec = decode(Spec, config())
    assert spec.process == decode(Process, CONFIG["process"])
    assert spec.linux is not None and spec.linux.resources is not None and spec.linux.resources.memory is not None
    assert spec.linux.namespaces[-1] == Namespace("user")
    assert spec.linux.uid_mappings == (IdMapping(0, 1000, 1),)
    assert spec.linux.sysctl == (("net.ipv4.ip_forward", "1"),)
    assert spec.linux.time_offsets == (("monotonic", TimeOffset(-3, 4)),)
    assert spec.linux.resources.memory.disable_oom_killer is True
    assert spec.linux.resources.memory.kernel_tcp == 7
    assert spec.hooks == Hooks(create_runtime=spec.hooks.create_runtime, poststop=spec.hooks.poststop)  # type: ignore[union-attr]
    assert spec.hooks.poststop[0].env is None


def test_what_is_written_is_read_as_the_same() -> None:
    spec = decode(Spec, config())
    text = jsontext.dumps(encode(spec))
    assert decode(Spec, jsontext.loads(text)) == spec
    assert encode(spec)["linux"]["resources"]["blockIO"]["throttleReadBpsDevice"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        (("ociVersion",), 3, "/ociVersion"),
        (("process", "user", "uid"), -1, "/process/user/uid"),
        (("process", "user", "uid"), True, "/process/user/uid"),
        (("process", "args", 0), None, "/process/args/0"),
        (("process", "rlimits", 0, "hard"), 1 << 64, "/process/rlimits/0/hard"),
        (("mounts", 2, "options", 1), {}, "/mounts/2/options/1"),
        (("linux", "namespaces", 1, "type"), "pod", "/linux/namespaces/1/type"),
        (("linux", "namespaces"), {}, "/linux/namespaces"),
        (("linux", "uidMappings", 0, "size"), 0, "/linux/uidMappings/0/size"),
        (("linux", "maskedPaths", 0), "a\0b", "/linux/maskedPaths/0"),
        (("linux", "resources", "rdma", "mlx", "hcaHandles"), "x", "/linux/resources/rdma/mlx/hcaHandles"),
        (("root",), [], "/root"),
        (("annotations", "a.b"), 1, "/annotations/a.b"),
    ],
)
def test_a_wrong_value_is_named(path: tuple[Any, ...], value: Any, pointer: str) -> None:
    value_at: Any = (wrong := config())
    for step in path[:-1]:
        value_at = value_at[step]
    value_at[path[-1]] = value
    with pytest.raises(SpecError) as caught:
        decode(Spec, wrong)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(("path", "key"), [(("root",), "path"), (("mounts", 0), "destination"), ((), "ociVersion")])
def test_a_missing_key_is_named(path: tuple[Any, ...], key: str) -> None:
    value: Any = (wrong := config())
    for step in path:
        value = value[step]
    del value[key]
    with pytest.raises(SpecError, match=f"'{key}' is missing"):
        decode(Spec, wrong)


def test_pointers_are_escaped() -> None:
    with pytest.raises(SpecError) as caught:
        decode(Resources, {"unified": {"a/b~c": 1}})
    assert caught.value.pointer == "/unified/a~1b~0c"


def test_null_and_unknown_keys_are_ignored() -> None:
    value = config()
    value["process"]["terminal"] = None
    value["process"]["somethingNew"] = {"x": 1}
    assert decode(Spec, value).process.terminal is False  # type: ignore[union-attr]


def test_an_empty_path_is_no_path() -> None:
    assert decode(Namespace, {"type": "pid", "path": ""}) == Namespace("pid")


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        found += places(one, (*path, key))
    return found


@given(st.sampled_from(places(CONFIG)), ANY)
def test_a_mutated_configuration_is_read_or_refused(path: tuple[Any, ...], value: Any) -> None:
    """Whatever stands anywhere: a Spec that passes the checks, or a SpecError with a pointer."""
    at: Any = (wrong := config())
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    try:
        spec = decode(Spec, wrong)
        check_spec(spec)
    except SpecError as error:
        assert error.pointer.startswith("/") or path == ("ociVersion",)
        assert "\n" not in error.message
