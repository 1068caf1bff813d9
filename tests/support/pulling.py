"""What tests of pulls share: images to pull, the state of the store, what was said."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from tests.support.cli import Cli, Done
from tests.support.images import Directory, File, Image, Layer

# A registry on loopback is asked without httpx; where TLS might be needed, it is not.
CLIENTS = pytest.mark.parametrize("words", [(), ("--tls-verify=false",)], ids=["straight", "httpx"])
BIG = random.Random(4).randbytes(3 << 20)


def small(text: str = "x", **more: object) -> Image:
    """An image of two tiny layers that *text* tells from others."""
    layers = (Layer((Directory("d"), File("d/one", b"1 " + text.encode()))), Layer((File("two", text.encode()),)))
    return Image(layers, {"Cmd": ["/bin/true"]}, **more)  # type: ignore[arg-type]


def snapshot(cli: Cli) -> dict[str, str]:
    """Return path -> what is there, for the whole store: mode, size and content of files, mode of directories."""
    found: dict[str, str] = {}
    for directory, names, files in os.walk(cli.data):
        for name in names:
            path = Path(directory, name)
            found[str(path.relative_to(cli.data))] = f"{path.lstat().st_mode:o}"
        for name in files:
            path = Path(directory, name)
            info = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(cli.data))] = f"{info.st_mode:o} {info.st_ino} {info.st_size} {content}"
    return found


def error(done: Done) -> str:
    return next(line for line in done.err.splitlines() if line.startswith("Error: "))
