"""The life of a container through the verbs: create, start, state, kill, delete, exec, list, hooks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.conftest import Runtime, configuration


def wait_stopped(oci: Runtime, name: str = "c1") -> None:
    """Wait for the end of the container's process by a pidfd: no polling, no sleep."""
    import select

    pid = oci.state(name).get("pid")
    if not pid:
        return
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([pidfd], [], [], 20)[0], "the container does not end"
    finally:
        os.close(pidfd)


def wait_output(oci: Runtime, text: str) -> None:
    """Wait until a created container has written *text*."""
    deadline = threading.Event()
    for _ in range(2000):
        if text in oci.output():
            return
        deadline.wait(0.01)
    raise AssertionError(f"{text!r} is not in {oci.output()!r}")


def test_the_whole_life(oci: Runtime) -> None:
    config = configuration("echo", "started")
    config["annotations"] = {"org.example.key": "value"}
    assert oci.create(config).status == 0
    state = oci.state()
    assert (state["status"], state["id"], state["bundle"]) == ("created", "c1", str(oci.bundle))
    assert state["annotations"] == {"org.example.key": "value"}
    assert state["pid"] > 0 and state["ociVersion"]
    assert "started" not in oci.output()
    assert oci("start", "c1").status == 0
    wait_output(oci, "started")
    wait_stopped(oci)
    assert oci.state()["status"] == "stopped"
    assert oci("start", "c1").status != 0
    assert oci("delete", "c1").status == 0
    assert oci("state", "c1").status != 0


def test_an_id_is_taken_once(oci: Runtime) -> None:
    assert oci.create(configuration("pause")).status == 0
    done = oci.create(configuration("pause"))
    assert done.status != 0 and "exist" in done.out
    assert oci.state()["status"] == "created"


@pytest.mark.parametrize("name", ["a/b", "..", "", "a b"])
def test_ids_that_are_no_names(oci: Runtime, name: str) -> None:
    oci.write(configuration("echo"))
    assert oci("run", name).status != 0


def test_kill_and_delete(oci: Runtime) -> None:
    assert oci.create(configuration("wait")).status == 0
    assert oci("start", "c1").status == 0
    wait_output(oci, "ready")
    assert oci.state()["status"] == "running"
    assert oci("delete", "c1").status != 0
    for spelling in ("USR1", "SIGUSR1", str(int(signal.SIGUSR1))):
        assert oci("kill", "c1", spelling).status == 0
    wait_output(oci, f"signal {int(signal.SIGUSR1)}")
    assert oci("kill", "c1", "NOSUCH").status != 0
    assert oci("kill", "c1").status == 0
    wait_stopped(oci)
    done = oci("kill", "c1", "KILL")
    assert done.status != 0 and "not running" in done.err


def test_force_deletes_what_runs_and_what_is_not_there(oci: Runtime) -> None:
    assert oci.create(configuration("pause")).status == 0
    assert oci("start", "c1").status == 0
    pid = oci.state()["pid"]
    assert oci("delete", "--force", "c1").status == 0
    assert oci("state", "c1").status != 0
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    assert oci("delete", "--force", "c1").status == 0
    assert oci("delete", "c1").status != 0


def test_run_detached_keep_and_pid_file(oci: Runtime, tmp_path: Path) -> None:
    oci.write(configuration("wait"))
    oci.ids.append("c1")
    assert oci.quiet("run", "--detach", "--pid-file", str(tmp_path / "pid"), "c1").status == 0
    assert int((tmp_path / "pid").read_text()) == oci.state()["pid"]
    assert oci("kill", "c1").status == 0
    assert oci.run(configuration("exit", "3"), name="gone").status == 3
    assert oci("state", "gone").status != 0


def test_signals_reach_a_container_in_the_foreground(oci: Runtime) -> None:
    oci.write(configuration("wait"))
    oci.ids.append("c1")
    process = subprocess.Popen(oci.argv("run", "c1"), stdout=subprocess.PIPE, cwd=oci.bundle, text=True)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == f"signal {int(signal.SIGHUP)}\n"
        process.terminate()
        assert process.wait(20) == 0


def test_list(oci: Runtime) -> None:
    for name in ("one", "two"):
        assert oci.create(configuration("pause"), name=name).status == 0
    assert oci("list", "--quiet").out.split() == ["one", "two"]
    listed = json.loads(oci("list", "--format", "json").out)
    assert [(entry["id"], entry["status"]) for entry in listed] == [("one", "created"), ("two", "created")]
    lines = oci("list").out.splitlines()
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert lines[1].split()[0] == "one"


def started(oci: Runtime, config: dict[str, Any] | None = None) -> None:
    assert oci.create(config or configuration("wait")).status == 0
    assert oci("start", "c1").status == 0
    wait_output(oci, "ready")


def test_exec(oci: Runtime) -> None:
    config = configuration("wait")
    config["process"]["env"].append("OF=container")
    started(oci, config)
    done = oci(
        "exec", "--cwd", "/data", "-e", "OF=exec", "c1", "/init", "cwd", "+", "env", "+", "hostname", "+", "exit", "9"
    )
    assert done.status == 9
    lines = done.out.splitlines()
    assert lines[0] == "/data" and "OF=exec" in lines and lines[-1].startswith("probe ")


def test_exec_shares_the_namespaces(oci: Runtime) -> None:
    started(oci)
    words = " + ".join(f"readlink /proc/self/ns/{kind}" for kind in ("pid", "mnt", "uts", "user")).split()
    inside = oci("exec", "c1", "/init", *words).out.split()
    pid = oci.state()["pid"]
    assert inside == [os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("pid", "mnt", "uts", "user")]


def test_exec_with_a_process_file(oci: Runtime, tmp_path: Path) -> None:
    if not oci.ours:
        pytest.skip("runc 1.1 ignores the umask of an exec")
    started(oci)
    process = {
        "args": ["/init", "umask", "+", "status"],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0, "umask": 0o77},
        "env": [],
    }
    (tmp_path / "process.json").write_text(json.dumps(process))
    done = oci("exec", "--process", str(tmp_path / "process.json"), "c1")
    assert done.out.startswith("077\n") and "CapEff:\t0000000000000000" in done.out, done


def test_exec_of_what_is_not_there(oci: Runtime) -> None:
    started(oci)
    done = oci("exec", "c1", "/nothing")
    assert done.status != 0 and "no such file or directory" in done.err


def test_exec_in_a_stopped_container(oci: Runtime) -> None:
    assert oci.run(configuration("exit", "0"), "--keep").status == 0
    assert oci("exec", "c1", "/init", "echo").status != 0


def test_ps(oci: Runtime) -> None:
    if not oci.ours:
        pytest.skip("others need a cgroup for it")
    config = configuration("fork", "2", "+", "wait")
    started(oci, config)
    assert len(json.loads(oci("ps", "--format", "json", "c1").out)) == 3


HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def test_hooks_run_in_their_order_with_the_state(oci: Runtime) -> None:
    """Each hook writes its name and the document that it got; two of them run in the container's mounts."""
    log = oci.rootfs / "data/log"
    log.write_text("")
    script = oci.bundle / "hook"
    script.write_text(f'#!/bin/sh\nprintf "%s " "$1" >> {log}; cat >> {log}; echo >> {log}\n')
    script.chmod(0o755)
    config = configuration("wait")
    config["hooks"] = {
        stage: [{"path": str(script), "args": ["hook", stage]}] for stage in HOOKS if stage not in ("startContainer",)
    }
    started(oci, config)
    assert oci("delete", "--force", "c1").status == 0
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    assert [name for name, _ in lines] == ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    for name, text in lines:
        state = json.loads(text)
        assert state["id"] == "c1" and state["bundle"] == str(oci.bundle), (name, state)
        if name not in ("poststop",):
            assert state["pid"] > 0
    assert json.loads(lines[-1][1])["status"] == "stopped"


def test_a_start_container_hook_runs_inside(oci: Runtime) -> None:
    config = configuration("cat", "/data/made")
    config["hooks"] = {"startContainer": [{"path": "/init", "args": ["/init", "write", "/data/made", "by the hook"]}]}
    assert oci.run(config).out == "by the hook"


@pytest.mark.parametrize("stage", HOOKS[:4])
def test_a_hook_that_fails_stops_the_container(oci: Runtime, stage: str) -> None:
    config = configuration("echo", "ran")
    failing = {"path": "/init", "args": ["/init", "exit", "3"]} if stage == "startContainer" else {"path": "/bin/false"}
    config["hooks"] = {stage: [failing]}
    done = oci.run(config)
    assert done.status != 0 and "ran" not in done.out
    assert f"{stage} hook #0" in done.err or not oci.ours
    assert oci("state", "c1").status != 0


def test_a_hook_with_a_timeout(oci: Runtime) -> None:
    config = configuration("echo", "ran")
    config["hooks"] = {"prestart": [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]}
    done = oci.run(config)
    assert done.status != 0 and "ran" not in done.out


def test_the_log_is_what_conmon_reads(oci: Runtime, tmp_path: Path) -> None:
    config = configuration()
    config["process"]["args"] = ["nothing"]
    oci.write(config)
    log = tmp_path / "log"
    assert oci("--log", str(log), "--log-format", "json", "run", "c1").status != 0
    entry = json.loads(log.read_text().splitlines()[-1])
    assert entry["level"] == "error" and "executable file not found" in entry["msg"] and entry["time"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"ociVersion": "1.0.0"}', '{"ociVersion": "1.0.0", "root": {"path": 3}}'],
)
def test_a_bad_configuration_is_one_line_and_leaves_nothing(oci: Runtime, text: str) -> None:
    oci.write(text)
    done = oci("run", "c1")
    assert done.status == 1 or not oci.ours
    assert done.status != 0 and "Traceback" not in done.err
    if oci.ours:
        assert len(done.err.splitlines()) == 1
    assert not oci.root.exists() or "c1" not in os.listdir(oci.root)


def receive_terminal(listener: socket.socket, got: list[int]) -> None:
    connection, _ = listener.accept()
    with connection:
        _, fds, _, _ = socket.recv_fds(connection, 1024, 1)
        got += fds


def test_the_console_socket_gets_the_terminal(oci: Runtime, tmp_path: Path) -> None:
    config = configuration("tty", "+", "flush", "+", "exit", "0")
    config["process"]["terminal"] = True
    got: list[int] = []
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(tmp_path)
        listener.bind("console.sock")
        listener.listen(1)
        thread = threading.Thread(target=receive_terminal, args=(listener, got))
        thread.start()
        assert oci.create(config, "--console-socket", str(tmp_path / "console.sock")).status == 0
        thread.join(20)
    assert len(got) == 1 and os.isatty(got[0])
    assert oci("start", "c1").status == 0
    text = b""
    try:
        while part := os.read(got[0], 1024):
            text += part
    except OSError:
        pass  # EIO: the last slave is closed (pty(7))
    os.close(got[0])
    assert text.startswith(b"/dev/") and b"pgrp=1" in text, text


def test_a_terminal_without_a_socket_is_refused(oci: Runtime) -> None:
    config = configuration("tty")
    config["process"]["terminal"] = True
    done = oci.create(config)
    assert done.status != 0


def test_spec_and_features(oci: Runtime) -> None:
    assert oci("spec", "--rootless").status == 0
    config = json.loads((oci.bundle / "config.json").read_text())
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    features = json.loads(oci("features").out)
    assert features["hooks"][0] == "prestart" and features["linux"]["seccomp"]["enabled"] is True


def test_the_programs_own_file_cannot_be_changed(oci: Runtime) -> None:
    """CVE-2019-5736: /proc/PID/exe of what the runtime runs in the container is no file of the host."""
    started(oci)
    config = configuration()
    config["process"]["args"] = ["/proc/self/exe", "echo"]
    done = oci.run(config, name="c2")
    assert done.status != 0
    if oci.ours:
        from rootless.stage.spawn import STAGE

        assert not os.access(STAGE, os.W_OK) or Path(STAGE).read_bytes()[:4] == b"\x7fELF"


def test_a_create_that_is_killed_leaves_nothing_running(oci: Runtime) -> None:
    """Killed at any moment: the container either is there, and can be deleted, or it is gone."""
    config = configuration("pause")
    oci.write(config)
    oci.ids.append("c1")
    log = oci.bundle / "output"
    for number in range(14):
        with log.open("w") as out:
            process = subprocess.Popen(oci.argv("create", "c1"), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       cwd=oci.bundle)  # fmt: skip
        try:
            process.wait(0.003 * number)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        known = oci("state", "c1")
        if known.status == 0 and json.loads(known.out)["status"] == "created":
            assert oci("start", "c1").status == 0
        assert oci("delete", "--force", "c1").status == 0
        assert oci("state", "c1").status != 0


def test_the_cpus_of_an_exec(oci: Runtime, tmp_path: Path) -> None:
    if not oci.ours:
        pytest.skip("from runc 1.3 on")
    started(oci)
    cpu = min(os.sched_getaffinity(0))
    process = {"args": ["/init", "status"], "cwd": "/", "env": [], "user": {"uid": 0, "gid": 0}}
    process["execCPUAffinity"] = {"initial": "0-1023", "final": str(cpu)}
    (tmp_path / "process.json").write_text(json.dumps(process))
    done = oci("exec", "--process", str(tmp_path / "process.json"), "c1")
    assert f"Cpus_allowed_list:\t{cpu}\n" in done.out, done
    process["execCPUAffinity"] = {"final": "1-0"}
    (tmp_path / "process.json").write_text(json.dumps(process))
    done = oci("exec", "--process", str(tmp_path / "process.json"), "c1")
    assert done.status == 255 and done.err.startswith("/execCPUAffinity/final: "), done
