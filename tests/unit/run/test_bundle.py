"""What is refused before any effect, and where the fault is said to be."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rootless.cli.oci_documents import starter
from rootless.errors import SpecError
from rootless.run.bundle import check_spec, normal, parse_spec
from rootless.run.home import with_unique_names
from rootless.spec.codec import decode
from rootless.spec.runtime import Process, Spec


def changed(path: tuple[Any, ...], value: Any) -> Spec:
    config = copy.deepcopy(starter(True, 1000, 1000))
    at: Any = config
    for step in path[:-1]:
        at = at.setdefault(step, {}) if isinstance(at, dict) else at[step]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return decode(Spec, config)


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        (("ociVersion",), "2.0.0", "/ociVersion"),
        (("ociVersion",), "one", "/ociVersion"),
        (("root",), None, "/root"),
        (("root", "path"), "", "/root/path"),
        (("process",), None, "/process"),
        (("process", "args"), [], "/process/args"),
        (("process", "args"), [""], "/process/args/0"),
        (("process", "cwd"), "tmp", "/process/cwd"),
        (("process", "rlimits"), [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}], "/process/rlimits/0"),
        (("mounts", 0, "destination"), "/a/../../b", "/mounts/0/destination"),
        (("mounts", 0), {"destination": "/x", "type": "bind"}, "/mounts/0/source"),
        (("mounts", 0), {"destination": "/", "type": "tmpfs", "options": ["tmpcopyup"]}, "/mounts/0/options"),
        (("mounts", 0), {"destination": "/x", "type": "tmpfs", "options": ["idmap"]}, "/mounts/0"),
        (("linux", "namespaces", 0), {"type": "ipc"}, "/linux/namespaces/1/type"),
        (("linux", "namespaces", 0), {"type": "pid", "path": "proc/1/ns/pid"}, "/linux/namespaces/0/path"),
        (("linux", "timeOffsets"), {"monotonic": {"secs": 1}}, "/linux/timeOffsets"),
        (("linux", "intelRdt"), {"closID": "x"}, "/linux/intelRdt"),
        (("linux", "netDevices"), {"eth0": {}}, "/linux/netDevices"),
        (("linux", "rootfsPropagation"), "odd", "/linux/rootfsPropagation"),
        (("linux", "sysctl"), {"kernel.panic": "1"}, "/linux/sysctl/kernel.panic"),
        (("linux", "sysctl"), {"net.ipv4.ip_forward": "1"}, "/linux/sysctl/net.ipv4.ip_forward"),
        (("linux", "uidMappings"),
         [{"containerID": 0, "hostID": 5, "size": 3}, {"containerID": 2, "hostID": 50, "size": 1}],
         "/linux/uidMappings/1"),
        (("linux", "uidMappings"), [{"containerID": 0, "hostID": 0xFFFFFFF0, "size": 32}], "/linux/uidMappings/0"),
        (("hooks", "prestart"), [{"path": "bin/x"}], "/hooks/prestart/0/path"),
        (("hooks", "startContainer"), [{"path": "/x", "timeout": 0}], "/hooks/startContainer/0/timeout"),
    ],
)  # fmt: skip
def test_refused_with_a_pointer(path: tuple[Any, ...], value: Any, pointer: str) -> None:
    spec = changed(path, value)
    with pytest.raises(SpecError) as caught:
        check_spec(spec)
    assert caught.value.pointer.startswith(pointer)


def test_what_belongs_to_a_namespace_is_allowed() -> None:
    check_spec(changed(("linux", "sysctl"), {"kernel.shmmax": "1", "fs.mqueue.msg_max": "5", "kernel.domainname": "d"}))


@pytest.mark.parametrize("text", [b"", b"{", b"{ invalid }", b"[1] 2", b"\xff", b"[" * 100000, b'{"a": NaN}'])
def test_what_is_not_json_is_one_line(text: bytes) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("path", "expected"), [("/a/./b//c/..", "/a/b"), ("/..", "/"), ("/", "/"), ("/a/../../x", "/x")]
)
def test_paths_fold(path: str, expected: str) -> None:
    assert normal(path) == expected


def test_the_last_value_of_a_name_counts() -> None:
    process = with_unique_names(Process(("x",), env=("A=1", "B=2", "A=3", "C")))
    assert process.env == ("A=3", "B=2", "C")
