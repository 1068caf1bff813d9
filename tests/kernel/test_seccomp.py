"""Programs for containers: shipped, compiled, kept; and the kernel's own answer to one of them."""

from __future__ import annotations

import errno
import json
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import KernelError, SpecError
from rootless.kernel import libseccomp, process, seccomp
from rootless.kernel._sys import lib
from rootless.kernel.seccomp import NEW_LISTENER, oci_program, program_for
from rootless.plan.defaults import CAPABILITIES
from rootless.spec.linux import Seccomp, SeccompRule

USUAL = frozenset(CAPABILITIES)
needs_library = pytest.mark.skipif(not libseccomp.version(), reason="no libseccomp.so.2")
needs_shipped = pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no program ships for it")


@needs_shipped
def test_the_default_needs_neither_library_nor_cache(tmp_path: Path) -> None:
    code = (
        "import sys; from rootless.kernel.seccomp import program_for;"
        f"p = program_for('default', frozenset({sorted(USUAL)!r}), {str(tmp_path)!r});"
        "assert len(p) > 800; print([m for m in sys.modules if 'seccomp' in m])"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True,
                          cwd=Path(__file__).parents[2], env={"PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert done.stdout.strip() == "['rootless.kernel.seccomp']"
    assert list(tmp_path.iterdir()) == []


def test_unconfined_is_no_program(tmp_path: Path) -> None:
    assert program_for("unconfined", USUAL, str(tmp_path)) == b""


@needs_library
def test_other_capabilities_are_compiled_once(tmp_path: Path) -> None:
    capabilities = USUAL | {"CAP_SYS_TIME"}
    first = program_for("default", capabilities, str(tmp_path))
    (kept,) = (tmp_path / "seccomp").iterdir()
    assert kept.read_bytes() == first
    assert program_for("default", capabilities | {"CAP_NET_RAW"}, str(tmp_path)) == first
    kept.write_bytes(first[:8])  # what is kept is what is given
    assert program_for("default", capabilities, str(tmp_path)) == first[:8]
    assert program_for("default", USUAL | {"CAP_SYS_ADMIN"}, str(tmp_path)) != first


@needs_library
def test_a_run_root_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert program_for("default", USUAL | {"CAP_SYS_TIME"}, str(tmp_path))


@needs_library
def test_a_profile_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["uname", "a_call_of_the_future"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]}))  # fmt: skip
    program = program_for(str(path), USUAL, str(tmp_path))
    path.write_text(path.read_text().replace("5", "6"))
    assert program_for(str(path), USUAL, str(tmp_path)) != program


def test_a_bad_profile_names_the_file_and_the_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "x"}]}')
    with pytest.raises(SpecError, match=r"/syscalls/0/action: seccomp profile .*mine.json: unknown action 'x'"):
        program_for(str(path), USUAL, str(tmp_path))
    path.write_text("{")
    with pytest.raises(SpecError, match="is not JSON"):
        program_for(str(path), USUAL, str(tmp_path))
    with pytest.raises(KernelError, match="no such file"):
        program_for(str(tmp_path / "absent"), USUAL, str(tmp_path))


def answers(program: bytes, in_userns: Callable[..., Any]) -> dict[str, int]:
    """Load *program* in a child and return the errno of a few calls under it."""

    def body() -> dict[str, int]:
        process.set_no_new_privs()
        assert lib.rl_seccomp_filter(program, len(program), 0) == 0
        found = {}
        calls: dict[str, Callable[[], object]] = {
            "uname": os.uname, "getpid": os.getpid, "chroot": lambda: os.chroot("/"),
            "sethostname": lambda: socket.sethostname("x"),
            "socket": lambda: socket.socket().close(),
            "audit": lambda: socket.socket(16, 3, 9).close(),
            "move_mount": lambda: os.open("/nonexistent", 0),
        }  # fmt: skip
        for name, call in calls.items():
            try:
                call()
                found[name] = 0
            except OSError as error:
                found[name] = error.errno or -1
        return found

    result: dict[str, int] = in_userns(body)
    return result


@needs_shipped
def test_the_kernel_agrees(in_userns: Callable[..., Any], tmp_path: Path) -> None:
    """The shipped programs load, and the kernel answers as the table says."""
    with_chroot = answers(program_for("default", USUAL, str(tmp_path)), in_userns)
    assert with_chroot["uname"] == with_chroot["getpid"] == with_chroot["chroot"] == with_chroot["socket"] == 0
    assert with_chroot["sethostname"] == errno.EPERM
    assert with_chroot["audit"] == errno.EINVAL
    assert with_chroot["move_mount"] == errno.ENOENT
    assert answers(program_for("default", frozenset(), str(tmp_path)), in_userns)["chroot"] == errno.EPERM
    everything = frozenset(seccomp.SHIPPED["all"])
    assert answers(program_for("default", everything, str(tmp_path)), in_userns)["audit"] in (0, errno.EPROTONOSUPPORT)


@needs_library
def test_linux_seccomp_of_a_config(in_userns: Callable[..., Any], tmp_path: Path) -> None:
    spec = Seccomp(default_action="SCMP_ACT_ALLOW", flags=("SECCOMP_FILTER_FLAG_LOG",),
                   syscalls=(SeccompRule(("uname",), "SCMP_ACT_ERRNO", 95),))  # fmt: skip
    made = oci_program(spec, str(tmp_path))
    assert made.flags == lib.SECCOMP_FILTER_FLAG_LOG and not made.notifies
    assert answers(made.program, in_userns)["uname"] == 95


@needs_library
def test_a_listener(tmp_path: Path) -> None:
    spec = Seccomp(default_action="SCMP_ACT_ALLOW", listener_path="/run/agent.sock", listener_metadata="m",
                   syscalls=(SeccompRule(("mknod",), "SCMP_ACT_NOTIFY"),))  # fmt: skip
    made = oci_program(spec, str(tmp_path))
    assert NEW_LISTENER == lib.SECCOMP_FILTER_FLAG_NEW_LISTENER
    assert made.flags == NEW_LISTENER | lib.SECCOMP_FILTER_FLAG_SPEC_ALLOW and made.notifies
    assert (made.listener_path, made.listener_metadata) == ("/run/agent.sock", "m")


@pytest.mark.parametrize(
    ("spec", "pointer"),
    [
        (Seccomp("SCMP_ACT_ALLOW", flags=("TSYNC",)), "/linux/seccomp/flags/0"),
        (Seccomp("SCMP_ACT_NOTIFY"), "/linux/seccomp/defaultAction"),
        (Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompRule(("a",), "SCMP_ACT_NOTIFY"),)), "/linux/seccomp/listenerPath"),
        (
            Seccomp("SCMP_ACT_ALLOW", listener_path="/x", syscalls=(SeccompRule(("write",), "SCMP_ACT_NOTIFY"),)),
            "/linux/seccomp/syscalls/0/names",
        ),
        (Seccomp("SCMP_ACT_ALLOW", syscalls=(SeccompRule(("a",), "X"),)), "/linux/seccomp/syscalls/0/action"),
    ],
)
def test_what_is_wrong_in_a_config_is_pointed_at(spec: Seccomp, pointer: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        oci_program(spec, str(tmp_path))
    assert caught.value.pointer == pointer
