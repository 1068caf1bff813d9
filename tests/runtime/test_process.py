"""What the process of a container is: ids, limits, environment, capabilities, terminal, descriptors."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from typing import Any

import pytest

from tests.runtime.conftest import Runtime, configuration


def status(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(\w+):\s*(.*)$", text, re.M))


def test_exit_status_and_output_are_the_programs(oci: Runtime) -> None:
    done = oci.run(configuration("echo", "hello", "+", "exit", "7"))
    assert (done.status, done.out) == (7, "hello\n"), done


def test_a_signal_is_128_and_its_number(oci: Runtime) -> None:
    config = configuration("kill", "0", "9")
    config["linux"]["namespaces"].remove({"type": "pid"})
    config["mounts"][0] = {"destination": "/proc", "type": "none", "source": "/proc", "options": ["rbind"]}
    assert oci.run(config).status == 137


def test_stdin_reaches_the_program(oci: Runtime) -> None:
    assert oci.run(configuration("read"), stdin="a line\n").out == "read a line\n"
    assert oci.run(configuration("read"), name="c2").out == "end\n"


def test_it_is_the_first_process_of_its_namespace(oci: Runtime) -> None:
    assert oci.run(configuration("pid")).out.split()[:2] == ["1", "0"]


def test_ids_are_those_of_the_configuration(oci: Runtime) -> None:
    done = oci.run(configuration("id"))
    assert done.out.startswith("uid=0 0 0 gid=0 0 0 groups="), done


def test_an_unmapped_user_is_refused(oci: Runtime) -> None:
    config = configuration("id")
    config["process"]["user"] = {"uid": 5, "gid": 0}
    done = oci.run(config)
    assert done.status != 0 and not done.out


def test_capabilities_are_exactly_those_listed(oci: Runtime) -> None:
    config = configuration("status")
    config["process"]["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": [], "ambient": [],
    }  # fmt: skip
    found = status(oci.run(config).out)
    # The program is root's: execve gives it its bounding set back (capabilities(7)).
    assert int(found["CapBnd"], 16) == 1 << 0 | 1 << 5
    assert int(found["CapEff"], 16) | 0b100001 == 0b100001
    assert int(found["CapAmb"], 16) == int(found["CapInh"], 16) == 0


def test_without_capabilities_there_are_none(oci: Runtime) -> None:
    found = status(oci.run(configuration("status")).out)
    assert {found[key] for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(oci: Runtime, wanted: bool) -> None:
    config = configuration("status")
    config["process"]["noNewPrivileges"] = wanted
    assert status(oci.run(config).out)["NoNewPrivs"] == str(int(wanted))


def test_environment_and_directory(oci: Runtime) -> None:
    config = configuration("cwd", "+", "env")
    config["process"]["cwd"] = "/data"
    config["process"]["env"] = ["A=1", "B=two words", "HOME=/h"]
    lines = oci.run(config).out.splitlines()
    assert lines[0] == "/data"
    assert {"A=1", "B=two words", "HOME=/h"} <= set(lines[1:])


def test_home_comes_from_passwd(oci: Runtime) -> None:
    (oci.rootfs / "etc/passwd").write_text("root:x:0:0:root:/root-home:/bin/sh\n")
    config = configuration("env")
    config["process"]["env"] = ["PATH=/bin"]
    assert "HOME=/root-home" in oci.run(config).out.splitlines()


def test_the_search_path_is_the_containers(oci: Runtime) -> None:
    (oci.rootfs / "init").rename(oci.rootfs / "bin/tool")
    config = configuration()
    config["process"]["args"] = ["tool", "echo", "found"]
    assert oci.run(config).out == "found\n"


def test_umask_and_arguments(oci: Runtime) -> None:
    config = configuration("umask", "+", "args", "", "a b", "ü")
    config["process"]["user"]["umask"] = 0o27
    assert oci.run(config).out == "027\n\na b\nü\n"


def test_limits_are_set(oci: Runtime) -> None:
    config = configuration("limit", str(int(resource.RLIMIT_NOFILE)), "+", "limit", str(int(resource.RLIMIT_CORE)))
    config["process"]["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]  # fmt: skip
    assert oci.run(config).out == "100 200\n0 0\n"


def test_limits_above_ours_are_lowered_with_a_warning(oci: Runtime) -> None:
    if not oci.ours:
        pytest.skip("others refuse them")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        pytest.skip("no limit here")
    config = configuration("limit", str(int(resource.RLIMIT_NOFILE)))
    config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 10, "hard": hard + 1}]
    done = oci.run(config)
    assert done.out == f"10 {hard}\n" and "rlimit_nofile" in done.err


def test_only_the_three_descriptors_reach_it(oci: Runtime) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        lines = oci.run(configuration("fds"), close_fds=False).out.splitlines()
    finally:
        os.close(reading)
        os.close(writing)
    assert [line.split()[0] for line in lines] == ["0", "1", "2"], lines


def test_preserved_descriptors_do(oci: Runtime) -> None:
    oci.write(configuration("fds"))
    argv = oci.argv("run", "--preserve-fds", "1", "c1")
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 3</etc/hostname 4</etc/hostname', "sh", *argv],
        capture_output=True,
        text=True,
        cwd=oci.bundle,
    )
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "3"], done
    assert lines[3].endswith("/etc/hostname")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["/nothing"], "no such file or directory"),
        (["nothing"], r"executable file not found in \$PATH"),
        (["/data"], "permission denied|is a directory"),
        (["/etc/plain"], "permission denied"),
    ],
)
def test_a_program_that_cannot_run_fails_create(oci: Runtime, args: list[str], words: str) -> None:
    (oci.rootfs / "etc/plain").write_text("text")
    config = configuration()
    config["process"]["args"] = args
    done = oci.create(config)
    assert done.status != 0
    assert re.search(words, done.out), done
    assert oci("state", "c1").status != 0
    assert not oci.root.exists() or not [p for p in oci.root.iterdir() if not p.name.startswith(".")]


def seccomp(action: str, **more: Any) -> dict[str, Any]:
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": action, **more}]}


@pytest.mark.parametrize("privileges", [True, False])
def test_a_seccomp_filter_decides(oci: Runtime, privileges: bool) -> None:
    config = configuration("mkdir", "/tmp/x")
    config["process"]["noNewPrivileges"] = privileges
    config["linux"]["seccomp"] = seccomp("SCMP_ACT_ERRNO", errnoRet=11)
    done = oci.run(config)
    assert done.status == 120 and "Resource temporarily unavailable" in done.err, done


def test_a_seccomp_filter_kills(oci: Runtime) -> None:
    config = configuration("mkdir", "/tmp/x")
    config["linux"]["seccomp"] = seccomp("SCMP_ACT_KILL_PROCESS")
    assert oci.run(config).status == 128 + 31


def test_oom_score(oci: Runtime) -> None:
    config = configuration("cat", "/proc/self/oom_score_adj")
    config["process"]["oomScoreAdj"] = 500
    assert oci.run(config).out == "500\n"
