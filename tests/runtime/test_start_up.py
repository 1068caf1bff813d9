"""What a call of rootless-oci imports: the start-up budget of the architecture (decision 11)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from rootless.launcher import command
from tests.runtime.conftest import Runtime, configuration

BANNED = frozenset(
    """typing dataclasses enum re json pathlib subprocess socket logging argparse trio tempfile shutil contextlib
    functools collections signal hashlib threading asyncio ssl""".split()
)


def imported(oci: Runtime, *words: str) -> set[str]:
    """Run our runtime with -X importtime; return the names that it imported."""
    argv = command("rootless-oci", "--root", str(oci.root), *words)
    log = oci.bundle / "imports"
    with log.open("w") as err:
        done = subprocess.run(
            [argv[0], "-X", "importtime", *argv[1:]], stdout=subprocess.DEVNULL, stderr=err, stdin=subprocess.DEVNULL,
            cwd=oci.bundle, timeout=60,
        )  # fmt: skip
    text = log.read_text()
    assert done.returncode == 0, text[-400:]
    return {line.rpartition("|")[2].strip() for line in text.splitlines() if line.startswith("import time:")}


def test_no_verb_imports_what_is_slow(oci: Runtime) -> None:
    if not oci.ours:
        pytest.skip("about our own program")
    oci.write(configuration("pause"))
    oci.ids.append("c1")
    for words in (
        ("create", "c1"), ("state", "c1"), ("start", "c1"), ("exec", "c1", "/init", "id"), ("list",),
        ("kill", "c1", "KILL"), ("delete", "--force", "c1"),
    ):  # fmt: skip
        assert not imported(oci, *words) & BANNED, words
    oci.write(configuration("echo"))
    assert not imported(oci, "run", "c1") & BANNED


def test_nothing_of_python_stays_with_a_created_container(oci: Runtime) -> None:
    """The container is the only process left: it is small, and its program is no file of the host."""
    if not oci.ours:
        pytest.skip("about our own program")
    assert oci.create(configuration("pause")).status == 0
    pid = oci.state()["pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    resident_kb = int(status.partition("VmRSS:")[2].split()[0])
    assert resident_kb < 2048, status
    assert "memfd:rootless-stage" in os.readlink(f"/proc/{pid}/exe")
