"""Probes are run for real: here, where user namespaces are forbidden, without devices, on file systems that refuse."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import KernelError
from rootless.kernel import mounts, overlayprobe, probe
from rootless.kernel.overlayprobe import forget, overlay_works, refused_drivers, try_overlay
from rootless.spec import facts as f
from rootless.spec.facts import Finding, HostFacts

ROOT = Path(__file__).parents[2]
InUserns = Callable[..., Any]


def tried(place: Path) -> HostFacts:
    run = place / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    return probe.probe_all(str(place / "no/such/store"), str(run), os.environ)


def as_pairs(facts: HostFacts) -> dict[str, tuple[bool, str, int, str]]:
    return {one.name: (one.works, one.syscall, one.errno, one.detail) for one in facts.findings}


def test_everything_is_tried_and_nothing_is_left(in_userns: InUserns, tmp_path: Path) -> None:
    facts = in_userns(lambda: as_pairs(tried(tmp_path)))
    assert list(facts) == list(probe.ORDER)
    for name in (f.USERNS, f.OPENAT2, f.STORE, f.RUN_ROOT, f.SECCOMP, f.MEMFD):
        assert facts[name][0], facts[name]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["run"]


def test_as_the_user_that_we_are(require: Callable[..., None], tmp_path: Path) -> None:
    """Not in a namespace of the test's: what `doctor` does. The ranges must agree with what works."""
    require("userns")
    code = (
        "import sys, os, json; from rootless.kernel import probe;"
        f"found = probe.probe_all({str(tmp_path)!r} + '/store', {str(tmp_path)!r}, os.environ);"
        "print(json.dumps({x.name: x.works for x in found.findings} | {'can_run': found.can_run}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    found = json.loads(done.stdout)
    assert found["can_run"] and found[f.USERNS]
    assert found[f.RANGES] or not found[f.IDMAP]
    assert list(tmp_path.iterdir()) == []


def test_user_namespaces_forbidden(in_userns: InUserns, tmp_path: Path) -> None:
    """max_user_namespaces=0 in a nested namespace: ENOSPC, and what needs none is still tried."""

    def body() -> dict[str, tuple[bool, str, int, str]]:
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        facts = tried(tmp_path)
        assert not facts.can_run
        return as_pairs(facts)

    found = in_userns(body)
    assert found[f.USERNS][:3] == (False, "unshare", errno.ENOSPC)
    assert found[f.OVERLAY][3] == found[f.IDMAP][3] == "needs a user namespace"
    assert found[f.STORE][0] and found[f.OPENAT2][0]


def test_no_devices(in_userns: InUserns, tmp_path: Path) -> None:
    """/dev/fuse without permission, /dev/net/tun a file that is no device."""

    def body() -> dict[str, tuple[bool, str, int, str]]:
        mounts.mount("tmpfs", "/dev", "tmpfs")
        os.symlink("/proc/self/fd", "/dev/fd")
        for name in ("null", "fuse"):
            Path("/dev", name).touch()
        os.chmod("/dev/fuse", 0o600)
        return as_pairs(tried(tmp_path))

    found = in_userns(body)
    assert not found[f.FUSE][0] and not found[f.TUN][0]
    assert found[f.TUN][1:3] == ("open", errno.ENOENT)


def test_a_masked_proc(in_userns: InUserns, tmp_path: Path) -> None:
    """As in every container: something lies over a part of /proc, so no fresh one may be mounted."""

    def body() -> tuple[bool, str, int, str]:
        mounts.mount("/dev/null", "/proc/version", flags=mounts.MS_BIND)
        return as_pairs(tried(tmp_path))[f.FRESH_PROC]

    works, syscall, number, _ = in_userns(body)
    assert (works, syscall, number) == (False, "mount(proc)", errno.EPERM)


def test_a_store_that_cannot_be_written(in_userns: InUserns, tmp_path: Path) -> None:
    def body() -> dict[str, tuple[bool, str, int, str]]:
        mounts.mount("tmpfs", str(tmp_path), "tmpfs", mounts.MS_RDONLY)
        return as_pairs(probe.probe_all(f"{tmp_path}/store", "/dev/shm", os.environ))

    found = in_userns(body)
    assert found[f.STORE][:3] == (False, "mkdir", errno.EROFS)
    assert not found[f.OVERLAY][0]


def test_overlay_on_overlay_is_refused_with_the_reason(in_userns: InUserns, tmp_path: Path) -> None:
    def body() -> tuple[bool, str, int, str]:
        for name in ("lower", "upper", "work", "merged"):
            (tmp_path / name).mkdir()
        os.chdir(tmp_path)
        mounts.mount("overlay", "merged", "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=work,userxattr")
        finding = try_overlay(f"{tmp_path}/merged")
        os.chdir("/")
        mounts.umount2(f"{tmp_path}/merged", mounts.MNT_DETACH)
        overlayprobe.remove_tree(f"{tmp_path}/work")
        return finding.works, finding.syscall, finding.errno, finding.detail

    works, syscall, number, detail = in_userns(body)
    assert (works, syscall, number) == (False, "mount(overlay)", errno.EINVAL)
    assert detail == "mounting it in the store fails: invalid argument"


@pytest.mark.requires("overlay")
def test_the_overlay_is_used_in_a_store_with_every_sign_in_its_path(in_userns: InUserns, tmp_path: Path) -> None:
    place = tmp_path / "a,b:c d\\e"
    place.mkdir()
    assert in_userns(lambda: try_overlay(str(place)).works)
    assert list(place.iterdir()) == []


def test_the_answer_is_remembered_until_it_is_dropped(in_userns: InUserns, tmp_path: Path) -> None:
    run, store = tmp_path / "run", tmp_path / "store"
    run.mkdir()
    store.mkdir()
    first = in_userns(lambda: overlay_works(str(run), str(store)).works)
    kept = json.loads((run / "facts.json").read_text())
    assert kept["overlay"]["works"] == first
    kept["overlay"] |= {"works": False, "detail": "as it was written"}
    (run / "facts.json").write_text(json.dumps(kept))
    assert refused_drivers(str(run), str(store)) == {"overlay": "as it was written"}
    # another map, another boot or device: tried again
    assert in_userns(lambda: overlay_works(str(run), str(store), single=True).works) == first
    forget(str(run))
    forget(str(run))
    assert list(run.iterdir()) == [] == list(store.iterdir())


def test_a_damaged_cache_is_no_answer(in_userns: InUserns, tmp_path: Path) -> None:
    for text in ("", "{", "[]", '{"key": 1}', '{"key": null, "overlay": {}}'):
        (tmp_path / "facts.json").write_text(text)
        assert isinstance(in_userns(lambda: overlay_works(str(tmp_path), str(tmp_path)).works), bool)
        assert json.loads((tmp_path / "facts.json").read_text())["overlay"]["name"] == f.OVERLAY


def test_a_probe_that_dies_is_a_failure_and_no_more(in_userns: InUserns) -> None:
    """Probes are forked by a process with one thread, which the runner of the tests may not be."""

    def dies() -> list[Finding]:
        os.kill(os.getpid(), 9)
        return []

    def raises() -> list[Finding]:
        raise KernelError("x", errno.EIO)

    def body() -> tuple[list[Finding], list[Finding]]:
        return list(probe._forked(("a", "b"), dies)), list(probe._forked(("a",), raises))

    died, raised = in_userns(body)
    assert died == [Finding(n, False, "the probe ended with status 137") for n in "ab"]
    assert raised == [Finding("a", False, "x: input/output error")]


@pytest.mark.parametrize(
    ("lines", "controllers", "version"),
    [
        ("0::/user.slice\n", True, "v2"),
        ("0::/\n", False, "none"),
        ("4:memory:/x\n0::/\n", False, "hybrid"),
        ("4:memory:/x\n1:name=systemd:/\n", False, "v1"),
        ("", False, "none"),
    ],
)
def test_versions_of_cgroups(lines: str, controllers: bool, version: str, tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text(lines)
    if controllers:
        (tmp_path / "cgroup.controllers").write_text("cpu\n")
    assert probe.cgroup_version(proc=str(tmp_path), cgroup=str(tmp_path)) == version


def test_file_systems_are_named(in_userns: InUserns, tmp_path: Path) -> None:
    def body() -> list[str]:
        mounts.mount("tmpfs", str(tmp_path), "tmpfs")
        return [probe.file_system(str(tmp_path)), probe.file_system("/proc")]

    assert in_userns(body) == ["tmpfs", "proc"]
    assert probe.existing_parent(str(tmp_path / "a/b")) == str(tmp_path)


def doctor(tmp_path: Path, *args: str, before: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-IS", str(ROOT / "rootless/start.py"), "rootless", "--root", str(tmp_path / "store")]
    command += ["--runroot", str(tmp_path / "run"), "doctor", *args]
    if before:
        command = ["unshare", "-Urm", "sh", "-c", f'{before}; exec "$@"', "sh", *command]
    (tmp_path / "run").mkdir(mode=0o700, exist_ok=True)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_doctor(require: Callable[..., None], tmp_path: Path) -> None:
    require("userns")
    done = doctor(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("user namespace     ok ") and done.stdout.endswith("can run on this machine.\n")
    value = json.loads(doctor(tmp_path, "--format", "json").stdout)
    assert value["CanRun"] is True and [one["Name"] for one in value["Checks"]] == list(probe.ORDER)
    words = doctor(
        tmp_path, "--format", "{{.CanRun}} {{range .Checks}}{{if .Essential}}{{.Name}},{{end}}{{end}}"
    ).stdout
    assert words.split() == ["true", ",".join(n for n in probe.ORDER if n in f.ESSENTIAL) + ","]


def test_doctor_where_no_container_can_run(require: Callable[..., None], tmp_path: Path) -> None:
    require("userns")
    done = doctor(tmp_path, before="echo 0 > /proc/sys/user/max_user_namespaces")
    assert done.returncode == 1
    assert done.stdout.startswith("user namespace     ENOSPC   unshare: no space left on device\n")
    assert "as root: sysctl -w user.max_user_namespaces=15000" in done.stdout
    assert done.stdout.endswith("Containers cannot run on this machine: user namespace.\n")
