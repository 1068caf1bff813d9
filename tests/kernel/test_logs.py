"""Logs that go to the journal, and events of several processes."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.engine import events as engine
from rootless.engine.events import Span
from rootless.errors import NotSupported
from rootless.store.layout import Roots
from rootless.supervise import logs
from rootless.supervise.logs import open_log

CID = "c" * 64
WRITER = """
import sys
from rootless.store.events import emit
from rootless.store.layout import Roots
for number in range(200):
    emit(Roots("/d", sys.argv[1], "/t"), "container", "start", id=sys.argv[2] * 64, name=str(number))
"""


def test_numbers_of_several_writers_have_no_gap_and_no_double(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*argv, letter]) for letter in "abcd"]
    assert [writer.wait() for writer in writers] == [0] * 4
    roots = Roots(data="/d", run=str(tmp_path), tmp="/t")
    found = list(engine.read(roots, Span(from_start=True, stream=False), engine.filter_of(())))
    assert [event["seq"] for event in found] == list(range(1, 801))
    for letter in "abcd":
        assert [int(e["name"]) for e in found if e["id"] == letter * 64] == list(range(200))


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket where the journal's would be."""
    monkeypatch.setattr(logs, "JOURNAL_SOCKET", str(tmp_path / "socket"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "socket"))
        server.settimeout(10)
        yield server


def test_each_line_is_an_entry_of_the_journal(journal: socket.socket) -> None:
    sink = open_log("journald", "", tag="front\nend", max_size_bytes=0, cid=CID, name="web")
    assert sink is not None
    sink.write(2, b"one\nt\xffwo")
    whole, part = journal.recv(4096).split(b"\n"), journal.recv(4096).split(b"\n")
    common = [f"CONTAINER_ID={CID[:12]}".encode(), f"CONTAINER_ID_FULL={CID}".encode(), b"CONTAINER_NAME=web",
              b"CONTAINER_TAG=front end", b"SYSLOG_IDENTIFIER=front end", b"PRIORITY=3"]  # fmt: skip
    assert sorted(whole) == sorted([*common, b"MESSAGE=one", b""])
    assert sorted(part) == sorted([*common, b"CONTAINER_PARTIAL_MESSAGE=true", b"MESSAGE=t\xffwo", b""])
    journal.close()
    sink.write(1, b"nobody listens\n")
    assert sink.lost_bytes
    sink.close()


def test_without_a_journal_the_driver_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "JOURNAL_SOCKET", str(tmp_path / "nobody"))
    with pytest.raises(NotSupported, match="no journal answers"):
        open_log("journald", "", tag="", max_size_bytes=0, cid=CID, name="web")


def test_a_journal_that_does_not_read_is_waited_for_once(journal: socket.socket) -> None:
    sink = open_log("journald", "", tag="", max_size_bytes=0, cid=CID, name="web")
    assert sink is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "JOURNAL_MS", 1)
        for number in range(5000):
            sink.write(1, b"%04d\n" % number)
    assert sink.lost_bytes
    journal.setblocking(False)
    taken = 0
    while True:
        try:
            assert journal.recv(4096).endswith(b"MESSAGE=%04d\n" % taken)
        except BlockingIOError:
            break
        taken += 1
    assert sink.lost_bytes == 4 * (5000 - taken)
    sink.write(1, b"again\n")
    assert journal.recv(4096).endswith(b"MESSAGE=again\n")
    sink.close()
