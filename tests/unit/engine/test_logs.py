"""Reading log files: their end, times, lines in parts, files that are replaced while they are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.engine import logfile as engine
from rootless.engine.logfile import FileFeed, find_tail, parse_json, parse_k8s
from rootless.engine.logs import shown_time
from rootless.supervise.logs import open_log

pieces = st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from([b"a\n", b"b", b"\n", b"c\nd\n", b"x" * 50])),
                  max_size=40)  # fmt: skip


def _write(path: Path, said: list[tuple[int, bytes]], driver: str = "k8s-file", bound: int = 0) -> None:
    sink = open_log(driver, str(path), tag="", max_size_bytes=bound, cid="c" * 64, name="n")
    assert sink is not None
    for stream, data in said:
        sink.write(stream, data)
    sink.close()


def _all(feed: FileFeed) -> list[tuple[int, bool, bytes]]:
    found: list[tuple[int, bool, bytes]] = []
    while entries := feed.read():
        found += [entry[1:] for entry in entries]
    return found


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
@given(said=pieces, count=st.integers(0, 30), block=st.sampled_from([1, 50, 300, 4096]))
def test_the_end_of_a_log(
    tmp_path_factory: pytest.TempPathFactory, driver: str, said: list[tuple[int, bytes]], count: int, block: int
) -> None:
    path = tmp_path_factory.mktemp("tail") / "log"
    _write(path, said, driver)
    parse = parse_json if driver == "json-file" else parse_k8s
    every = parse(path.read_bytes().split(b"\n")[:-1])
    usual, engine.TAIL_BYTES = engine.TAIL_BYTES, block
    fd = os.open(path, os.O_RDONLY)
    try:
        offset, ahead = find_tail(fd, count, parse)
    finally:
        os.close(fd)
        engine.TAIL_BYTES = usual
    found = parse(path.read_bytes()[offset:].split(b"\n")[:-1])
    full = [entry for entry in every if not entry[2]]
    assert found == every[len(every) - len(found) :]
    if not count:
        assert found == []
    elif count >= len(full):
        assert found == every
    else:
        assert len([entry for entry in found if not entry[2]]) == count
        # It begins behind a full line, and with the parts of a line of the other stream: none is missing.
        before = every[: len(every) - len(found)]
        assert not before[-1][2]
        assert all(part[2] and part[1] != before[-1][1] for part in ahead)
        if block == 4096:
            other = [entry for entry in before if entry[1] != before[-1][1]]
            full_ones = [at for at, entry in enumerate(other) if not entry[2]]
            assert ahead == other[full_ones[-1] + 1 if full_ones else 0 :]


def test_a_reader_goes_on_in_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    _write(path, [(1, b"one\n")])
    feed = FileFeed(str(path), False, -1)
    assert _all(feed) == [(1, False, b"one")]
    with path.open("ab") as old:
        path.rename(tmp_path / "old")
        _write(path, [(2, b"three\n")])
        old.write(b"2022-11-24T18:41:01.123456789+00:00 stdout P two")
        old.flush()
        assert feed.read()[0][1:] == (2, False, b"three")
    # Half a line at the end of the old file was never finished.
    assert _all(feed) == []
    os.truncate(path, 0)
    _write(path, [(1, b"4\n")])
    assert _all(feed) == [(1, False, b"4")]
    feed.close()


def test_a_log_that_does_not_exist_yet(tmp_path: Path) -> None:
    feed = FileFeed(str(tmp_path / "log"), False, 5)
    assert _all(feed) == []
    _write(tmp_path / "log", [(1, b"one\n")])
    assert _all(feed) == [(1, False, b"one")]
    feed.close()


def test_lines_of_other_programs_are_read_and_noise_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(
        b"2022-11-24T18:41:01Z stdout F short time\nnoise\n\n2022-11-24T18:41:01.123456789+00:00 stderr P x\nhalf"
    )
    feed = FileFeed(str(tmp_path / "log"), False, -1)
    assert _all(feed) == [(1, False, b"short time"), (2, True, b"x")]
    feed.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"2022-11-24T18:41:01.123456789+00:00", b"2022-11-24T18:41:01.123456789Z"),
        (b"2022-11-24T18:41:01.123456789+02:00", b"2022-11-24T18:41:01.123456789+02:00"),
        (b"2022-11-24T18:41:01.5Z", b"2022-11-24T18:41:01.500000000Z"),
        (b"2022-11-24T18:41:01Z", b"2022-11-24T18:41:01.000000000Z"),
    ],
)
def test_times_have_nine_digits(text: bytes, shown: bytes) -> None:
    assert shown_time(text) == shown
