"""What happened to containers, images and volumes: an append-only file of JSON lines below the run root.

    emit(roots, "container", "start", id=cid, name=name, image="docker.io/library/alpine:latest")

Shape:
    RUN/events     {"seq":7,"time":NS,"type":"container","status":"start","id":...,"name":...,"image":...,
                    "attributes":{...},"exit_code":0,"health":"healthy"}      what is empty is left out
    RUN/events.1   the file before it: `events` takes its place when it has MAX_BYTES
Sequence numbers go on across files; the writer holds flock(2) on the file while it adds one line. A file that has been
replaced meanwhile is seen by its name, which belongs to another inode then.

Units: time in nanoseconds since 1970
"""

from __future__ import annotations

import fcntl
import os
import time as clock

from rootless.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.store.layout import Roots

MAX_BYTES = 1 << 20
_TAIL_BYTES = 64
_TRIES, _TRY_SECONDS = 500, 0.002
_LINE_BYTES = 65536  # of one event; labels may be long


def path_of(roots: Roots) -> str:
    """Return where the newest events are; the older file is this name with `.1`."""
    return f"{roots.run}/events"


def emit(
    roots: Roots,
    type: str,
    status: str,
    *,
    id: str = "",
    name: str = "",
    image: str = "",
    attributes: Mapping[str, str] | None = None,
    exit_code: int | None = None,
    health: str = "",
) -> None:
    """Add one event. A full disk loses the event, never the verb.

    Shape: *type* container, image, volume, secret, system; *status* podman's words (create, start, died, remove, ...)
    """
    said: dict[str, Any] = {
        "time": clock.time_ns(), "type": type, "status": status, "id": id, "name": name, "image": image,
        "attributes": dict(attributes or {}), "health": health,
    }  # fmt: skip
    said = {key: value for key, value in said.items() if value}
    if exit_code is not None:
        said["exit_code"] = exit_code
    # `seq` stands last and has a fixed width, so that the next writer finds it without reading the line.
    text = jsontext.dumps(said)[:-1].encode("ascii")
    if len(text) > _LINE_BYTES:
        said["attributes"] = {}
        text = jsontext.dumps(said)[:-1].encode("ascii")
    try:
        _append(path_of(roots), text)
    except OSError:
        pass


def _append(path: str, text: bytes) -> None:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _locked(fd):
                return
            info = os.fstat(fd)
            if not _is_named(path, info):
                continue
            size = info.st_size
            if size >= MAX_BYTES:
                os.rename(path, f"{path}.1")
                continue
            tail = os.pread(fd, _TAIL_BYTES, max(0, size - _TAIL_BYTES)) if size else _last_of(f"{path}.1")
            line = b'%s,"seq":%d}\n' % (text, _sequence(tail) + 1)
            if size and tail[-1:] != b"\n":
                line = b"\n" + line  # half a line of a writer that was killed
            done = os.write(fd, line)
            if done < len(line):
                os.ftruncate(fd, size)
            return
        finally:
            os.close(fd)


def _locked(fd: int) -> bool:
    """Take the lock; False when somebody holds it for a second (a stopped process): the event is given up then."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            clock.sleep(_TRY_SECONDS)
    return False


def _is_named(path: str, info: os.stat_result) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return (there.st_ino, there.st_dev) == (info.st_ino, info.st_dev)


def _last_of(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        size = os.fstat(fd).st_size
        return os.pread(fd, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    finally:
        os.close(fd)


def _sequence(tail: bytes) -> int:
    """Return the number at the end of the last whole line in *tail*, 0 for none."""
    lines = tail.split(b'"seq":')
    for piece in reversed(lines[1:]):
        digits, brace, _ = piece.partition(b"}")
        if brace and digits.isdigit():
            return int(digits)
    return 0
