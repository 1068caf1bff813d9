"""`rootless pull`, `images` and `rmi` on this machine: a full disk, interruptions, images that go again."""

from __future__ import annotations

import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.cli import Cli, Done
from tests.support.embedded import EmbeddedRegistry, Handler
from tests.support.images import Image
from tests.support.pulling import CLIENTS, small, snapshot
from tests.support.registry import Registry

# ---- this machine


DISK_FULL = """
set -e
mkdir -p "$STORE" && mount -t tmpfs -o size=$SIZE,mode=700 none "$STORE"
"$@" --root="$STORE" pull -q "$KEPT" >/dev/null
find "$STORE" | sort >"$PLACE/before"
if [ -n "$FILL" ]; then head -c "$FILL" /dev/zero >"$STORE/fill" 2>/dev/null || true; fi
status=0
"$@" --root="$STORE" pull -q "$NAME" || status=$?
rm -f "$STORE/fill"
find "$STORE" | sort >"$PLACE/after"
exit $status
"""


@pytest.mark.parametrize("fill", ["", "1g"])
def test_a_full_disk(cli: Cli, docker_registry: Registry, large: Image, fill: str) -> None:
    """The store on a small tmpfs: full while a layer is unpacked, or already before the pull."""
    kept = small("kept").push(docker_registry.host, "kept")
    name = large.push(docker_registry.host, "large")
    place = cli.place
    env = cli.environ(
        STORE=str(place / "tiny"), SIZE="2m", KEPT=kept, NAME=name, PLACE=str(place), FILL=fill,
    )  # fmt: skip
    program = [word for word in cli.argv() if not word.startswith("--root=")]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", DISK_FULL, "sh", *program],
        env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 125, done
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert "no space left on device" in line and "Traceback" not in done.stderr
    assert (place / "after").read_text() == (place / "before").read_text()


@CLIENTS
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_pull_that_is_interrupted(
    cli: Cli, embedded_registry: EmbeddedRegistry, large: Image, number: int, words: tuple[str, ...]
) -> None:
    name = large.push(embedded_registry.host, "slow")
    cli.ok("pull", "-q", small("kept").push(embedded_registry.host, "kept"))
    before = snapshot(cli)
    begun, over = threading.Event(), threading.Event()

    def stall(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(large.layers[1].blob)))
        handler.end_headers()
        handler.wfile.write(large.layers[1].blob[: 1 << 20])
        begun.set()
        over.wait(60)
        return True

    embedded_registry.faults[large.layers[1].digest] = stall
    child = cli.start("pull", *words, name)
    assert begun.wait(60)
    child.send_signal(number)
    child.communicate(timeout=60)
    over.set()
    embedded_registry.faults.clear()
    assert child.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[signal.Signals(number)]
    if number == signal.SIGKILL:  # the next command makes the store what it was
        cli.ok("pull", "-q", f"{embedded_registry.host}/kept")
    assert snapshot(cli).keys() == before.keys()


def test_a_run_that_is_killed_while_it_pulls(cli: Cli, embedded_registry: EmbeddedRegistry, large: Image) -> None:
    """The pull is a process of its own, which ends with the command line although the registry keeps it waiting."""
    name = large.push(embedded_registry.host, "killed")
    cli.ok("pull", "-q", small("kept").push(embedded_registry.host, "kept"))
    before = snapshot(cli)
    begun, over = threading.Event(), threading.Event()

    def stall(handler: Handler) -> bool:
        begun.set()
        over.wait(60)
        return False

    embedded_registry.faults[large.layers[1].digest] = stall
    child = cli.start("run", "--rm", "--network=none", name, "true")
    assert begun.wait(60)
    child.kill()
    child.communicate(timeout=30)  # until nobody holds its stderr any more
    assert child.returncode == -signal.SIGKILL
    assert snapshot(cli).keys() == before.keys()
    over.set()


def test_a_run_that_fails_before_its_image_is_there(
    cli: Cli, embedded_registry: EmbeddedRegistry, large: Image, tmp_path: Path
) -> None:
    """The pull begins while the command line is still being checked, and ends with it."""
    name = large.push(embedded_registry.host, "early")
    cli.ok("pull", "-q", small("kept").push(embedded_registry.host, "kept"))
    before = snapshot(cli)
    over = threading.Event()

    def stall(handler: Handler) -> bool:
        over.wait(60)
        return False

    embedded_registry.faults[large.layers[1].digest] = stall
    taken = tmp_path / "cid"
    taken.write_text("")
    done = cli("run", "--rm", "--network=none", "--cidfile", str(taken), name, "true")
    over.set()
    assert done.status == 125 and "container id file exists" in done.err
    assert snapshot(cli).keys() == before.keys()
    embedded_registry.faults.clear()
    done = cli("run", "--rm", "--network=none", name, "true")  # no such program, but now the image is here
    assert done.status == 127 and "Trying to pull" in done.err
    assert large.id in cli.ok("images", "-q", "--no-trunc")


# ---- rmi and images


def test_rmi_untags_before_it_deletes(cli: Cli, docker_registry: Registry) -> None:
    image = small("tags")
    one, two = image.push(docker_registry.host, "tags", "1"), image.push(docker_registry.host, "tags", "2")
    cli.ok("pull", "-q", one, two)
    done = cli("rmi", image.id)
    assert done.status == 125 and "more than one tag" in done.err
    assert cli.ok("rmi", one) == f"Untagged: {one}\n"
    assert cli.ok("rmi", image.id[:12]) == f"Untagged: {two}\nDeleted: {image.id}\n"
    assert [path.name for path in (cli.data / "l").iterdir()] == []
    assert list((cli.data / "blobs/sha256").iterdir()) == []


def test_rmi_of_what_is_not_there(cli: Cli, docker_registry: Registry) -> None:
    assert cli("rmi", "nosuch") == Done(1, "", "Error: nosuch: image not known\n")
    assert cli("rmi", "-f", "nosuch") == Done(0, "", "")
    assert cli("rmi", "-i", "nosuch") == Done(0, "", "")
    assert cli("rmi").status == 125
    image = small("there")
    name = image.push(docker_registry.host, "there")
    cli.ok("pull", "-q", name)
    done = cli("rmi", "nosuch", name, "UPPER")
    assert done.status == 1 and f"Deleted: {image.id}" in done.out
    assert "2 errors occurred:\n\t* nosuch: image not known\n\t* UPPER: image not known" in done.err


def test_rmi_all(cli: Cli, docker_registry: Registry) -> None:
    for text in ("a", "b"):
        cli.ok("pull", "-q", small(text).push(docker_registry.host, text))
    assert cli.ok("rmi", "-a").count("Deleted: ") == 2
    assert cli.ok("images", "-q") == ""
    assert cli.ok("rmi", "-a") == ""


def test_the_table(cli: Cli, docker_registry: Registry) -> None:
    assert cli.ok("images") == "REPOSITORY  TAG         IMAGE ID    CREATED     SIZE\n"
    image = small("table")
    name = image.push(docker_registry.host, "table", "v1")
    cli.ok("pull", "-q", name)
    head, line = cli.ok("images").splitlines()
    assert head.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert line.split()[:3] == [f"{docker_registry.host}/table", "v1", image.id[:12]]
    assert line.endswith(" B")
    assert cli.ok("images", "--noheading", "--digests").split()[2] == image.digest
    assert cli.ok("images", "-q", "--no-trunc") == f"sha256:{image.id}\n"
    assert cli.ok("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}") == f"{name} {image.id[:12]}\n"
    assert cli.ok("images", "-q", "table:v1") == cli.ok("images", "-q", "-f", "reference=*/table") != ""
    assert cli.ok("images", "-q", "other") == ""
