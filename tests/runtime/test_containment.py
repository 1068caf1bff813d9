"""What a container or an image does to get at the runtime or at the host, and does not get."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.conftest import Runtime, configuration
from tests.runtime.test_life import started, wait_output
from tests.runtime.test_root import bind, mounts

ALL_CAPS = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"]


def powerful(*words: str) -> dict[str, Any]:
    """A container whose root may trace and mount, as far as its user namespace goes."""
    config = configuration(*words)
    config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), ALL_CAPS)
    config["process"]["noNewPrivileges"] = False
    return config


def _with(flags: int) -> Callable[[str, int], int]:
    return lambda path, _: os.open(path, flags | os.O_CLOEXEC)


def test_the_runtimes_program_cannot_be_overwritten(oci: Runtime) -> None:
    """CVE-2019-5736: what waits in the container is reached as /proc/PID/exe, and written to when it runs no more."""
    assert oci.create(configuration("pause")).status == 0
    with open(f"/proc/{oci.state()['pid']}/exe", "rb") as exe:
        before = hashlib.file_digest(exe, "sha256").digest()
        assert oci("start", "c1").status == 0
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
            with pytest.raises(OSError), open(f"/proc/self/fd/{exe.fileno()}", "wb", opener=_with(flags)) as again:
                again.write(b"overwritten")
                again.flush()
        exe.seek(0)
        assert hashlib.file_digest(exe, "sha256").digest() == before
        if oci.ours:
            seals = fcntl.fcntl(exe.fileno(), fcntl.F_GET_SEALS)
            wanted = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            assert seals & wanted == wanted


def test_a_program_that_is_the_runtime_again_does_nothing(oci: Runtime) -> None:
    """The other half of it: `#!/proc/self/exe` has the kernel start the runtime's program inside."""
    (oci.rootfs / "again").write_text("#!/proc/self/exe\n")
    (oci.rootfs / "again").chmod(0o755)
    config = configuration()
    config["process"]["args"] = ["/again"]
    assert oci.run(config).status != 0
    started(oci)
    assert oci("exec", "c1", "/again").status != 0


def test_exec_beside_one_that_attacks_whatever_comes(oci: Runtime) -> None:
    """Root of the container with CAP_SYS_PTRACE gets no hold of what joins it before that is the program itself."""
    started(oci, powerful("fight"))
    for number in range(20):
        done = oci("exec", "c1", "/init", "echo", str(number))
        assert (done.status, done.out) == (0, f"{number}\n"), done
    assert "caught" not in oci.output()


def test_exec_where_proc_is_a_fake(oci: Runtime) -> None:
    if not oci.ours:
        pytest.skip("others need a true /proc for an exec")
    fake = "tmpfs /proc + mkdir /proc/self + link /data /proc/self/fd + link /data /proc/self/attr + wait"
    started(oci, powerful(*fake.split()))
    done = oci("exec", "c1", "/init", "echo", "through")
    assert (done.status, done.out) == (0, "through\n"), done
    assert not list((oci.rootfs / "data").iterdir())


def test_a_fork_bomb_is_ended(oci: Runtime) -> None:
    config = configuration("bomb")
    config["process"]["rlimits"] = [{"type": "RLIMIT_NPROC", "soft": 60, "hard": 60}]
    started(oci, config)
    wait_output(oci, "full")
    pid = oci.state()["pid"]
    done = oci("exec", "c1", "/init", "echo", "room")  # there may be room or not; it must be said and not waited for
    assert done.status in (0, 1, 255), done
    assert oci("delete", "--force", "c1").status == 0
    assert not Path(f"/proc/{pid}/root").exists()


def test_nothing_of_ours_reaches_a_process_of_exec(oci: Runtime) -> None:
    started(oci)
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        lines = oci("exec", "c1", "/init", "fds", close_fds=False).out.splitlines()
    finally:
        os.close(reading)
        os.close(writing)
    assert [line.split()[0] for line in lines] == ["0", "1", "2"], lines


def test_a_started_container_holds_nothing_of_create(oci: Runtime) -> None:
    assert oci.create(configuration("fds", "+", "wait")).status == 0
    assert oci("start", "c1").status == 0
    wait_output(oci, "ready")
    assert [line.split()[0] for line in oci.output().splitlines() if line[0].isdigit()] == ["0", "1", "2"]


def test_a_target_that_is_swapped_for_a_link_all_the_time(oci: Runtime, tmp_path: Path) -> None:
    """Another process of the same tree races with the mounts: they land in the root, or create fails."""
    if not oci.ours:
        pytest.skip("runc 1.1 loses this race: it makes the target outside")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "source").mkdir()
    (tmp_path / "source/marker").write_text("m")
    place, spare = oci.rootfs / "data/place", oci.rootfs / "data/spare"
    place.mkdir()
    spare.symlink_to(outside)
    ended = threading.Event()

    def swap() -> None:
        third = oci.rootfs / "data/third"
        while not ended.is_set():
            try:
                place.rename(third)
                spare.rename(place)
                third.rename(spare)
            except OSError:  # a mount of a run lies there for a moment
                pass

    racer = threading.Thread(target=swap)
    racer.start()
    try:
        for number in range(25):
            config = configuration("mounts")
            config["mounts"].append(bind(tmp_path / "source", "/data/place/inner"))
            done = oci.run(config, name=f"c{number}")
            if done.status == 0:
                assert any(target.endswith("inner") for target in mounts(done.out)), done
            assert not list(outside.iterdir())
    finally:
        ended.set()
        racer.join()


@pytest.mark.parametrize("destination", ["/proc", "/proc/", "/./proc"])
def test_a_bind_of_proc_behind_a_link_is_refused(oci: Runtime, destination: str) -> None:
    if not oci.ours:
        pytest.skip("others follow it, inside the root")
    os.rmdir(oci.rootfs / "proc")
    (oci.rootfs / "proc").symlink_to("/tmp")
    config = configuration("ls", "/tmp")
    config["mounts"][0]["destination"] = destination
    done = oci.run(config)
    assert done.status != 0 and "must be mounted on ordinary directory" in done.err and not done.out
    config["mounts"][0] = bind("/proc", destination)
    done = oci.run(config, name="c2")
    assert done.status != 0 and "must be mounted on ordinary directory" in done.err and not done.out


def test_sysctls_are_written_to_a_true_proc_only(oci: Runtime, tmp_path: Path) -> None:
    """What stands at /proc in the image takes no settings: a file with the right name would swallow them."""
    if not oci.ours:
        pytest.skip("about our own way of writing them")
    (oci.rootfs / "proc/sys/kernel").mkdir(parents=True)
    (oci.rootfs / "proc/sys/kernel/shm_rmid_forced").write_text("0")
    config = configuration("echo")
    config["mounts"] = config["mounts"][1:]
    config["linux"]["sysctl"] = {"kernel.shm_rmid_forced": "1"}
    assert oci.run(config).status != 0
    assert (oci.rootfs / "proc/sys/kernel/shm_rmid_forced").read_text() == "0"


@pytest.mark.parametrize(
    ("key", "module"), [("apparmorProfile", "/sys/module/apparmor"), ("selinuxLabel", "/sys/fs/selinux/enforce")]
)
def test_a_label_that_the_machine_does_not_know_is_refused(oci: Runtime, key: str, module: str) -> None:
    if Path(module).exists():
        pytest.skip("this machine knows it")
    config = configuration("echo", "unconfined")
    config["process"][key] = "some-label"
    done = oci.run(config)
    assert done.status != 0 and not done.out
    if oci.ours:
        assert done.err.startswith(f"/process/{key}: "), done


def test_a_pidfd_is_handed_out(oci: Runtime, tmp_path: Path) -> None:
    if not oci.ours:
        pytest.skip("from runc 1.2 on")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "pidfd"))
        listener.listen()
        listener.settimeout(20)
        assert oci.create(configuration("wait"), "--pidfd-socket", str(tmp_path / "pidfd")).status == 0
        peer, _ = listener.accept()
        with peer:
            words, fds, _, _ = socket.recv_fds(peer, 64, 2)
        try:
            about = Path(f"/proc/self/fdinfo/{fds[0]}").read_text()
        finally:
            os.close(fds[0])
    assert (words, len(fds)) == (b"standard", 1)
    assert f"Pid:\t{oci.state()['pid']}\n" in about
