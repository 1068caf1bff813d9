"""Sinks of output: bounds, a disk that is full, a journal."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import StoreError, UsageError
from rootless.proto import logline
from rootless.supervise.logs import open_log

if TYPE_CHECKING:
    from rootless.supervise.logs import LogSink

CID = "c" * 64


def _open(path: Path, driver: str = "k8s-file", bound: int = 0) -> LogSink:
    sink = open_log(driver, str(path), tag="", max_size_bytes=bound, cid=CID, name="web")
    assert sink is not None
    return sink


def _said(path: Path) -> bytes:
    lines = [logline.decode_k8s(line) for line in path.read_bytes().split(b"\n")[:-1]]
    return b"".join([line.data + (b"" if line.partial else b"\n") for line in lines if line is not None])


@pytest.mark.parametrize("driver", ["none", "passthrough"])
def test_drivers_that_keep_nothing(driver: str, tmp_path: Path) -> None:
    assert open_log(driver, "", tag="", max_size_bytes=0, cid=CID, name="web") is None
    assert not list(tmp_path.iterdir())


def test_a_driver_that_does_not_exist() -> None:
    with pytest.raises(UsageError, match="syslog"):
        open_log("syslog", "", tag="", max_size_bytes=0, cid=CID, name="web")


def test_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such file or directory"):
        _open(tmp_path / "nowhere" / "log")


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    for word in (b"one\n", b"two\n"):
        sink = _open(tmp_path / "log")
        sink.write(1, word)
        sink.close()
        sink.write(1, b"too late\n")
    assert _said(tmp_path / "log") == b"one\ntwo\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_half_a_line_that_a_killed_supervisor_left_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"2022-11-24T18:41:01.123456789+00:00 stdout F one\n2022-11-24T18:41:01.12345")
    sink = _open(tmp_path / "log")
    sink.write(1, b"two\n")
    sink.close()
    assert _said(tmp_path / "log") == b"one\ntwo\n"


@given(st.lists(st.binary(min_size=1, max_size=90), max_size=30), st.integers(100, 700))
def test_a_bounded_log_holds_the_end_of_the_output(tmp_path_factory: pytest.TempPathFactory, data: list[bytes],
                                                   bound: int) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("bounded") / "log"
    sink = _open(path, bound=bound)
    for piece in data:
        sink.write(1, piece)
        lines = path.read_bytes().split(b"\n")
        # One line may be longer than the bound: then it stands alone.
        assert path.stat().st_size <= bound or len(lines) == 2
    sink.close()
    assert b"".join(data).endswith(_said(path))
    assert (_said(path) != b"") == bool(data)
    assert os.listdir(path.parent) == ["log"]


def test_who_reads_a_file_that_is_replaced_can_read_it_to_its_end(tmp_path: Path) -> None:
    sink = _open(tmp_path / "log", bound=100)
    sink.write(1, b"a" * 40 + b"\n")
    with (tmp_path / "log").open("rb") as reader:
        sink.write(1, b"b" * 40 + b"\n")
        assert b"a" * 40 in reader.read()
        assert b"b" not in reader.read()
    assert _said(tmp_path / "log") == b"b" * 40 + b"\n"


@contextmanager
def _file_limit(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: what a full disk is to a writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_is_full_costs_output_and_no_error(tmp_path: Path) -> None:
    sink = _open(tmp_path / "log")
    sink.write(1, b"before\n")
    with _file_limit(100):
        sink.write(1, b"x" * 200 + b"\n")
        sink.write(2, b"y" * 200 + b"\n")
    assert sink.lost_bytes > 400
    sink.write(1, b"after\n")
    sink.close()
    assert _said(tmp_path / "log") == b"before\nafter\n"


def test_a_device_without_space(tmp_path: Path) -> None:
    sink = _open(Path("/dev/full"))
    sink.write(1, b"gone\n")
    assert sink.lost_bytes
    sink.close()


def test_a_pipe_that_nobody_reads_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="no such device or address"):
        _open(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    sink = _open(tmp_path / "pipe")
    for _ in range(100):
        sink.write(1, b"x" * 4000 + b"\n")
    assert sink.lost_bytes
    sink.close()
    os.close(reader)
