"""Events of a pull: as lines of JSON, as lines for a person, as bars."""

from __future__ import annotations

import io
import os

import pytest

from rootless.cli.progress import Bars, Lines, Quiet, follow, human_size, make_renderer
from rootless.errors import PeerGone, RootlessError
from rootless.kernel.fds import Fd
from rootless.plan.pulling import (
    Found,
    LayerBytes,
    LayerKnown,
    LayerRead,
    LayerUnpacked,
    Pulled,
    PullEvent,
    PullFailed,
    Retrying,
    Storing,
    Trying,
    Warned,
    decode_event,
    encode_event,
)

EVENTS: tuple[PullEvent, ...] = (
    Trying("q.io/x:1"),
    Found("q.io/x:1", "sha256:cc", ("sha256:aa", "sha256:bb"), (1000, 2_500_000)),
    LayerKnown(0),
    LayerBytes(1, 1000),
    Retrying("layer sha256:bb", "reset", 500),
    LayerRead(1),
    LayerUnpacked(1),
    Storing(),
    Warned("2 files [red] are yours"),
    Pulled("dd", "q.io/x:1"),
)


@pytest.mark.parametrize("event", [*EVENTS, PullFailed("no", "do", 125)])
def test_an_event_is_read_back(event: PullEvent) -> None:
    line = encode_event(event)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert decode_event(line) == event


def test_an_event_of_a_newer_version_is_passed_over() -> None:
    assert decode_event(b'{"event": "signed", "by": 1}') is None
    assert decode_event(b'{"event": "bytes", "index": 1, "done": 2, "of": 3}') == LayerBytes(1, 2)
    for line in (b"[]", b"{}", b"", b"{"):
        with pytest.raises(ValueError):
            decode_event(line)


def shown(renderer: type[Quiet | Lines | Bars]) -> str:
    stream = io.StringIO()
    view = renderer(stream)
    for event in EVENTS:
        view.show(event)
    view.close()
    return stream.getvalue()


def test_lines() -> None:
    assert shown(Lines).splitlines() == [
        "Trying to pull q.io/x:1...",
        "Copying blob sha256:aa",
        "Copying blob sha256:bb",
        "Copying blob sha256:aa skipped: already exists",
        "rootless: warning: layer sha256:bb: reset, trying again in 0.5 s",
        "Copying blob sha256:bb done (2.5 MB)",
        "Copying config sha256:cc",
        "Writing manifest to image destination",
        "rootless: warning: 2 files [red] are yours",
    ]


def test_quiet_shows_warnings_only() -> None:
    assert shown(Quiet) == "rootless: warning: 2 files [red] are yours\n"


def test_bars() -> None:
    text = shown(Bars)
    assert "Trying to pull q.io/x:1..." in text
    assert "Copying blob aa" in text and "already exists" in text and "2.5/2.5 MB" in text
    assert "rootless: warning: 2 files [red] are yours" in text


def test_what_is_no_terminal_gets_lines() -> None:
    assert isinstance(make_renderer(io.StringIO(), quiet=False), Lines)
    assert isinstance(make_renderer(io.StringIO(), quiet=True), Quiet)


def followed(data: bytes) -> Pulled:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    with Fd(read) as source:
        return follow(source, Quiet(io.StringIO()))


def test_following_a_child() -> None:
    assert followed(b"".join(map(encode_event, EVENTS))) == EVENTS[-1]
    with pytest.raises(RootlessError) as caught:
        followed(encode_event(EVENTS[0]) + encode_event(PullFailed("it broke", "mend it", 125)))
    assert (caught.value.message, caught.value.hint, caught.value.code) == ("it broke", "mend it", 125)
    with pytest.raises(PeerGone):
        followed(encode_event(EVENTS[0]))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1234567, "1.23 MB"), (999_999, "1 MB"), (12_345_678_901, "12.3 GB")],
)
def test_sizes(count: int, text: str) -> None:
    assert human_size(count) == text
