"""Lines of log files: what is written comes back, byte for byte, and what is no line is nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.proto import logline
from rootless.proto.logline import Line

TIME = "2022-11-24T18:41:01.123456789+00:00"

pieces = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=40)), max_size=20)


def _text(lines: list[Line], stream: int) -> bytes:
    return b"".join([line.data + (b"" if line.partial else b"\n") for line in lines if line.stream == stream])


@pytest.mark.parametrize(
    ("encode", "decode"),
    [(logline.encode_k8s, logline.decode_k8s), (logline.encode_json, logline.decode_json)],
    ids=["k8s-file", "json-file"],
)
@given(pieces)
def test_output_comes_back_as_it_was(encode, decode, said):  # type: ignore[no-untyped-def]
    blocks = b"".join([encode(TIME, stream, data) for stream, data in said])
    assert blocks == b"" or blocks.endswith(b"\n")
    lines = [decode(line) for line in blocks.split(b"\n")[:-1]]
    assert all(lines)
    for stream in (1, 2):
        assert _text(lines, stream) == b"".join([data for number, data in said if number == stream])
    assert {line.time for line in lines} <= {TIME}


def test_k8s_file_is_the_text_that_others_read() -> None:
    assert logline.encode_k8s(TIME, 1, b"one\n\ntwo") == (
        b"2022-11-24T18:41:01.123456789+00:00 stdout F one\n"
        b"2022-11-24T18:41:01.123456789+00:00 stdout F \n"
        b"2022-11-24T18:41:01.123456789+00:00 stdout P two\n"
    )


def test_json_file_is_the_text_that_others_read() -> None:
    first, second = logline.encode_json(TIME, 2, "ä\nb".encode()).splitlines()
    assert json.loads(first) == {"log": "ä\n", "stream": "stderr", "time": TIME}
    assert json.loads(second) == {"log": "b", "stream": "stderr", "time": TIME}


@pytest.mark.parametrize(
    "line", [b"", b"hello", b"2022 stdout F", b"2022 stdin F x", b"2022 stdout X y", b"\xff stdout F x"]
)
def test_what_is_no_line_of_k8s_file(line: bytes) -> None:
    assert logline.decode_k8s(line) is None


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"log":1}', b'{"log":"x","stream":"stdin","time":"t"}'])
def test_what_is_no_line_of_json_file(line: bytes) -> None:
    assert logline.decode_json(line) is None


def test_a_surrogate_that_stands_for_no_byte_is_kept() -> None:
    line = logline.decode_json(b'{"log":"\\ud800\\n","stream":"stdout","time":"t"}')
    assert line is not None
    assert line.data == "\ud800".encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    ("offset_seconds", "zone"), [(0, "+00:00"), (3600, "+01:00"), (-12600, "-03:30"), (20700, "+05:45")]
)
def test_times_name_their_zone(offset_seconds: int, zone: str) -> None:
    assert logline.stamp((2022, 1, 2, 3, 4, 5), 6, offset_seconds) == f"2022-01-02T03:04:05.000000006{zone}"
