"""Read the event log: what happened since a time, and what happens from now on.

    for event in read(roots, Span(since_ns=..., stream=True), filters): ...

Source: podman-events(1) of podman 4.3; its fields, its text and its JSON
"""

from __future__ import annotations

import os
import time

from rootless.errors import UsageError
from rootless.spec import jsontext, moment
from rootless.spec.record import record
from rootless.store import events as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from rootless.store.layout import Roots

    Event = dict[str, Any]  # one line of the log, store/events.py
    Test = Callable[[Event], bool]

BLOCK_BYTES = 1 << 18
_SHORT_WAIT_S, _LONG_WAIT_S = 0.01, 0.1
_SHORT_ID = 12


@record
class Span:
    """Which events. Units: nanoseconds since 1970; 0 is no bound

    Shape: *from_start*: what is in the log already belongs to it; *stream*: wait for more
    """

    since_ns: int = 0
    until_ns: int = 0
    from_start: bool = False
    stream: bool = True


def read(roots: Roots, span: Span, keeps: Test) -> Iterator[Event]:
    """Yield events, oldest first.

    Blocks: with *stream*, until `until` has come or for ever
    """
    log = _Log(store.path_of(roots), from_start=span.from_start)
    wait = _SHORT_WAIT_S
    try:
        while True:
            # Asked before the log is read: what happened before `until` is in it by then.
            over = not span.stream or bool(span.until_ns and time.time_ns() >= span.until_ns)
            found = log.read()
            for event in found:
                when = int(event.get("time") or 0)
                if when >= span.since_ns and (not span.until_ns or when < span.until_ns) and keeps(event):
                    yield event
            if over and not found:
                return
            if not found:
                time.sleep(wait)
                wait = min(wait * 2, _LONG_WAIT_S)
            else:
                wait = _SHORT_WAIT_S
    finally:
        log.close()


class _Log:
    """The two files of the event log, read from one position on.

    Owner: holds one file open until `close`
    """

    def __init__(self, path: str, *, from_start: bool) -> None:
        self._path = path
        self._rest = b""
        self._fd = _open(f"{path}.1") if from_start else -1
        if self._fd < 0:
            self._fd = _open(path)
            if self._fd >= 0 and not from_start:
                os.lseek(self._fd, 0, os.SEEK_END)

    def read(self) -> list[Event]:
        """Return the next events; none when there are no more now."""
        while True:
            if self._fd < 0:
                self._fd = _open(self._path)
                if self._fd < 0:
                    return []
            data = os.read(self._fd, BLOCK_BYTES)
            if data:
                *lines, self._rest = (self._rest + data).split(b"\n")
                events = [event for event in map(_event, lines) if event is not None]
                if events:
                    return events
            elif not self._go_on():
                return []

    def _go_on(self) -> bool:
        """Open the newest file where the one that was read to its end is the older one now."""
        mine = os.fstat(self._fd)
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return False
        if (named.st_ino, named.st_dev) == (mine.st_ino, mine.st_dev):
            return False
        # Two files further on, the one between is called .1 now.
        older = _open(f"{self._path}.1")
        fd = _open(self._path)
        if older >= 0 and os.fstat(older).st_ino != mine.st_ino:
            fd, older = older, fd
        if older >= 0:
            os.close(older)
        if fd < 0:
            return False
        os.close(self._fd)
        self._fd, self._rest = fd, b""
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _event(line: bytes) -> Event | None:
    try:
        event = jsontext.loads(line)
    except ValueError:
        return None  # half a line: its writer was killed
    return event if isinstance(event, dict) else None


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def filter_of(texts: Iterable[str]) -> Test:
    """Return the test of all --filter: one of the values of each key.

    Raises: UsageError
    """
    wanted: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f'cannot parse "{text}": invalid filter', hint="use KEY=VALUE")
        if key.lower() not in _FILTERS:
            raise UsageError(f"{key} is an invalid filter", hint=f"use {', '.join(_FILTERS)}")
        wanted.setdefault(key.lower(), []).append(value)

    def keeps(event: Event) -> bool:
        return all([any([_FILTERS[key](event, value) for value in values]) for key, values in wanted.items()])

    return keeps


def _names(kind: str) -> Callable[[Event, str], bool]:
    def names(event: Event, value: str) -> bool:
        if event.get("type") != kind:
            return False
        return event.get("name") == value or (bool(value) and str(event.get("id", "")).startswith(value))

    return names


def _is_status(event: Event, value: str) -> bool:
    return event.get("status") == value


def _is_type(event: Event, value: str) -> bool:
    return event.get("type") == value


def _is_volume(event: Event, value: str) -> bool:
    return event.get("type") == "volume" and str(event.get("name", "")).startswith(value)


def _has_label(event: Event, value: str) -> bool:
    key, equals, wanted = value.partition("=")
    labels = event.get("attributes") or {}
    return key in labels and (not equals or labels[key] == wanted)


def _in_pod(event: Event, value: str) -> bool:
    return False  # there are no pods


_FILTERS: dict[str, Callable[[Event, str], bool]] = {
    "container": _names("container"), "event": _is_status, "image": _names("image"), "label": _has_label,
    "pod": _in_pod, "status": _is_status, "type": _is_type, "volume": _is_volume,
}  # fmt: skip


def text_of(event: Event, *, trunc: bool = False) -> str:
    """Return the line that a person reads."""
    cid, name, kind = str(event.get("id", "")), str(event.get("name", "")), event.get("type")
    if trunc:
        cid = cid[:_SHORT_ID]
    head = f"{go_time(int(event.get('time') or 0))} {kind} {event.get('status')}"
    if kind == "container":
        more = [f"image={event.get('image', '')}", f"name={name}"]
        if event.get("health"):
            more.append(f"health_status={event['health']}")
        more += [f"{key}={value}" for key, value in (event.get("attributes") or {}).items()]
        return f"{head} {cid} ({', '.join(more)})"
    if kind == "image":
        return f"{head} {cid} {name}"
    return f"{head} {name}" if name else head


def document_of(event: Event) -> dict[str, Any]:
    """Return the object of --format json: what is empty is left out, as podman does."""
    found: dict[str, Any] = {
        "ContainerExitCode": event.get("exit_code"), "ID": event.get("id"), "Image": event.get("image"),
        "Name": event.get("name"), "Status": event.get("status"), "Time": json_time(int(event.get("time") or 0)),
        "Type": event.get("type"), "health_status": event.get("health"),
    }  # fmt: skip
    found = {key: value for key, value in found.items() if value}
    attributes = event.get("attributes") or ({} if event.get("type") == "container" else None)
    return {**found, "Attributes": attributes}


def go_time(ns: int) -> str:
    """Return a time as Go prints it, in the local zone."""
    local = time.localtime(ns // moment.SECOND_NS)
    return moment.go_string(ns, local.tm_gmtoff, local.tm_zone)


def json_time(ns: int) -> str:
    """Return a time as Go writes it into JSON, in the local zone."""
    local = time.localtime(ns // moment.SECOND_NS)
    date, clock, offset = moment.go_string(ns, local.tm_gmtoff, "").split(" ")[:3]
    return f"{date}T{clock}" + ("Z" if not local.tm_gmtoff else f"{offset[:3]}:{offset[3:]}")
