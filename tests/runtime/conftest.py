"""A bundle with the probe as /init, and the runtime that is tested: ours, or the one that OCI_RUNTIME names.

OCI_RUNTIME=runc scripts/test runtime      # is a failure ours, or the test's?
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import launcher

PROBE = Path(__file__).parent.parent / "payload" / "probe.c"
TIMEOUT_S = 60.0
HIDDEN = ["nosuid", "noexec", "nodev"]


@dataclass(frozen=True)
class Done:
    """What a call of the runtime gave."""

    status: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"status {self.status}\nstdout: {self.out}\nstderr: {self.err}"


def configuration(*words: str) -> dict[str, Any]:
    """Return a configuration that every runtime takes from an unprivileged user: one id, all namespaces but net."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/init", *words],
            "env": ["PATH=/bin", "HOME=/"],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "probe",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", *HIDDEN, "ro"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
        ],
        "linux": {
            "uidMappings": [{"containerID": 0, "hostID": os.geteuid(), "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": os.getegid(), "size": 1}],
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "user")],
        },
    }  # fmt: skip


class Runtime:
    """The runtime with a state root and one bundle of its own."""

    def __init__(self, place: Path, probe: Path) -> None:
        self.program = os.environ.get("OCI_RUNTIME") or launcher("rootless-oci")
        self.root = place / "state"
        self.bundle = place / "bundle"
        self.rootfs = self.bundle / "rootfs"
        for name in ("proc", "sys", "dev", "tmp", "bin", "etc", "data"):
            (self.rootfs / name).mkdir(parents=True)
        shutil.copy2(probe, self.rootfs / "init")
        self.ids: list[str] = []

    @property
    def ours(self) -> bool:
        return self.program.endswith("rootless-oci")

    def write(self, config: dict[str, Any] | str) -> None:
        """Write the bundle's config.json."""
        text = config if isinstance(config, str) else json.dumps(config)
        (self.bundle / "config.json").write_text(text)

    def argv(self, *words: str) -> list[str]:
        return [self.program, "--root", str(self.root), *words]

    def __call__(self, *words: str, stdin: str = "", env: dict[str, str] | None = None, close_fds: bool = True) -> Done:
        """Call the runtime and wait for it; containers that hold our pipes are ended with the test."""
        done = subprocess.run(
            self.argv(*words), input=stdin, capture_output=True, text=True, timeout=TIMEOUT_S, cwd=self.bundle,
            env={**os.environ, **(env or {})}, close_fds=close_fds,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def quiet(self, *words: str) -> Done:
        """Call it with a file for its output: what a container leaves open does not keep us waiting."""
        log = self.bundle / "output"
        with log.open("w+") as out:
            done = subprocess.run(
                self.argv(*words), stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=TIMEOUT_S, cwd=self.bundle
            )
            out.seek(0)
            return Done(done.returncode, out.read(), "")

    def run(self, config: dict[str, Any], *flags: str, name: str = "c1", **more: Any) -> Done:
        """Write *config* and run it in the foreground."""
        self.write(config)
        self.ids.append(name)
        return self("run", *flags, name, **more)

    def create(self, config: dict[str, Any], *flags: str, name: str = "c1") -> Done:
        """Write *config* and create the container; its output goes to the file `output` of the bundle."""
        self.write(config)
        self.ids.append(name)
        return self.quiet("create", *flags, name)

    def state(self, name: str = "c1") -> dict[str, Any]:
        done = self("state", name)
        assert done.status == 0, done
        state: dict[str, Any] = json.loads(done.out)
        return state

    def output(self) -> str:
        """Return what a created container has written."""
        return (self.bundle / "output").read_text()

    def clean(self) -> None:
        for name in self.ids:
            self("delete", "--force", name)


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the probe, compiled statically."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the probe with")
    path = tmp_path_factory.mktemp("probe") / "probe"
    done = subprocess.run([compiler, "-static", "-O1", "-o", str(path), str(PROBE)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"the probe cannot be linked statically: {done.stderr[-200:]}")
    return path


@pytest.fixture
def oci(tmp_path: Path, probe: Path, require: Callable[..., None]) -> Iterator[Runtime]:
    """Give the runtime; its containers are deleted afterwards."""
    require("userns")
    runtime = Runtime(tmp_path, probe)
    yield runtime
    runtime.clean()
