"""Configurations that nobody should have written: one line that says where, and nothing left behind."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from tests.runtime.conftest import Done, Runtime, configuration

VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 1 << 31, 1 << 64, 1e400, "", "/", "..", "/../..", "\0", "x" * 300, "\ud800", [], [None],
    [[]], {}, {"": None}, [{}], "SCMP_ACT_ALLOW", ["/init"], ["bind", "ro"],
    [{"type": "pid", "path": "/proc/self/ns/net"}],
]  # fmt: skip


def rich() -> dict[str, Any]:
    """Return a configuration that has something of everything."""
    config = configuration("echo", "ran")
    config["annotations"] = {"org.example": "1"}
    config["process"] |= {
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}], "oomScoreAdj": 100,
        "capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": []},
        "consoleSize": {"height": 1, "width": 1}, "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
    }  # fmt: skip
    config["mounts"] += [
        {"destination": "/data/x", "type": "bind", "source": "inner", "options": ["rbind", "ro"]},
        {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=4k"]},
    ]
    config["hooks"] = {"poststop": [{"path": "/bin/true", "args": ["true"], "env": ["A=B"], "timeout": 5}]}
    config["linux"] |= {
        "resources": {"memory": {"limit": 1 << 30}, "pids": {"limit": 100}, "cpu": {"shares": 100, "cpus": "0"}},
        "maskedPaths": ["/proc/keys"], "readonlyPaths": ["/proc/sys"], "rootfsPropagation": "private",
        "sysctl": {"kernel.shm_rmid_forced": "1"}, "personality": {"domain": "LINUX"},
        "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                    "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                                  "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]},
    }  # fmt: skip
    return config


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything inside *value*."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, one in inner:
        found += places(one, (*path, key))
    return found


PLACES = places(rich())


def changed(config: dict[str, Any], path: tuple[Any, ...], how: str, value: Any) -> None:
    """Delete, replace or double what *path* names, if it is still there."""
    inner: Any = config
    try:
        for key in path[:-1]:
            inner = inner[key]
        if how == "delete":
            del inner[path[-1]]
        elif how == "double" and isinstance(inner, list):
            inner.append(copy.deepcopy(inner[path[-1]]))
        else:
            inner[path[-1]] = copy.deepcopy(value)
    except (LookupError, TypeError):
        return


def check(oci: Runtime, done: Done) -> None:
    assert "Traceback" not in done.err and "this is a bug" not in done.err, done
    if done.status and "ran" not in done.out:
        said = [line for line in done.err.splitlines() if not line.startswith("hint:")]
        assert len([line for line in said if "level=warning" not in line]) == 1, done
    assert not oci.root.exists() or not [path for path in oci.root.iterdir() if not path.name.startswith(".")], done


mutations = st.lists(
    st.tuples(
        st.sampled_from(PLACES), st.sampled_from(["delete", "replace", "replace", "double"]), st.sampled_from(VALUES)
    ),
    min_size=1,
    max_size=3,
)


@hypothesis.settings(
    max_examples=80, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(mutations)
def test_a_configuration_that_was_tampered_with(oci: Runtime, change: list[tuple[tuple[Any, ...], str, Any]]) -> None:
    """Whatever was changed: no traceback, one line if it fails, no state; a fixture looks for mounts and processes."""
    if not oci.ours:
        pytest.skip("about our own messages")
    config = rich()
    for path, how, value in change:
        changed(config, path, how, value)
    (oci.bundle / "inner").mkdir(exist_ok=True)
    check(oci, oci.run(config))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"ociVersion": 1}', "{}" * 2, '{"a": ' * 5000, "\ufeff{}", "NaN"]
)
def test_what_is_no_configuration(oci: Runtime, text: str) -> None:
    oci.write(text)
    done = oci("run", "c1")
    assert done.status != 0
    if oci.ours:
        assert done.status == 1
        check(oci, done)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        (lambda c: c.pop("root"), "/root"),
        (lambda c: c["root"].pop("path"), "/root"),
        (lambda c: c["process"].pop("args"), "/process/args"),
        (lambda c: c["process"].update(cwd="tmp"), "/process/cwd"),
        (lambda c: c["process"].update(args=["/init", 5]), "/process/args/1"),
        (lambda c: c["process"]["user"].update(uid="root"), "/process/user/uid"),
        (lambda c: c["process"]["user"].update(uid=77), "/process/user/uid"),
        (lambda c: c["process"]["rlimits"][0].update(soft=300), "/process/rlimits/0"),
        (lambda c: c["process"]["rlimits"][0].update(type="RLIMIT_X"), "/process/rlimits/0/type"),
        (lambda c: c["process"]["rlimits"][0].update(hard=1 << 65), "/process/rlimits/0/hard"),
        (lambda c: c["linux"]["namespaces"].append({"type": "moon"}), "/linux/namespaces/5/type"),
        (lambda c: c["linux"]["namespaces"].append({"type": "time", "path": "/nowhere"}), "/linux/namespaces/5/path"),
        (lambda c: c["linux"]["sysctl"].update({"kernel.panic": "1"}), "/linux/sysctl/kernel.panic"),
        (lambda c: c["linux"]["seccomp"].update(defaultAction="NO"), "/linux/seccomp/defaultAction"),
        (lambda c: c["mounts"].append({"destination": "/a/../../b", "type": "tmpfs"}), "/mounts/7/destination"),
        (lambda c: c["mounts"].append({"type": "tmpfs"}), "/mounts/7"),
        (lambda c: c["hooks"]["poststop"][0].update(path="true"), "/hooks/poststop/0/path"),
        (lambda c: c["linux"]["uidMappings"][0].update(size=0), "/linux/uidMappings/0/size"),
        (lambda c: c.update(ociVersion="2.0.0"), "/ociVersion"),
    ],
)  # fmt: skip
def test_a_fault_is_named_by_its_pointer(oci: Runtime, tmp_path: Path, change: Any, pointer: str) -> None:
    """On stderr, and in the log as engines read it; exit status 1."""
    if not oci.ours:
        pytest.skip("about our own messages")
    config = rich()
    change(config)
    oci.write(config)
    log = tmp_path / "log"
    done = oci("--log", str(log), "--log-format", "json", "run", "c1")
    assert (done.status, done.err.partition(":")[0]) == (1, pointer), done
    entry = json.loads(log.read_text().splitlines()[-1])
    assert entry["level"] == "error" and entry["msg"].startswith(f"{pointer}: ")
    assert not os.path.exists(oci.root / "c1")
