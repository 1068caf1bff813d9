"""The launch wire: what is encoded is what is read back, and nothing else is taken for a plan."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.plan import wire
from rootless.plan.wire import Message, Op

NUMBER = st.integers(0, 2**64 - 1)
OPS = st.builds(
    Op,
    st.sampled_from(wire.OPS),
    st.integers(0, 2**32 - 1),
    st.integers(-1, 1000),
    NUMBER,
    NUMBER,
    NUMBER,
    NUMBER,
    st.lists(st.binary(max_size=40), max_size=4).map(tuple),
)


def trimmed(op: Op) -> Op:
    strings = list(op.s)
    while strings and not strings[-1]:
        strings.pop()
    return Op(op.kind, op.flags, op.fd, op.a, op.b, op.c, op.d, tuple(strings))


@given(st.lists(OPS, max_size=8))
def test_decode_gives_back_what_was_encoded(ops: list[Op]) -> None:
    assert wire.decode(wire.encode(ops)) == tuple(trimmed(op) for op in ops)


@given(st.lists(OPS, max_size=4))
def test_every_operation_starts_at_a_multiple_of_eight(ops: list[Op]) -> None:
    assert len(wire.encode(ops)) % 8 == 0


@given(st.lists(OPS, min_size=1, max_size=3), st.data())
def test_a_shortened_plan_is_refused(ops: list[Op], data: st.DataObject) -> None:
    text = wire.encode(ops)
    with pytest.raises(ValueError):
        wire.decode(text[: data.draw(st.integers(0, len(text) - 1))])


def test_negative_numbers_travel_as_two_complement() -> None:
    (op,) = wire.decode(wire.encode([Op("OOM", a=-500)]))
    assert op.a == 2**64 - 500


@given(st.sampled_from(wire.MESSAGES), st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**32 - 1))
def test_messages_come_back(kind: str, number: int, op: int) -> None:
    message = Message(kind, number, 0, op)
    assert wire.decode_message(wire.encode_message(message)) == message


@pytest.mark.parametrize("data", [b"", b"x" * 15, b"\0" * wire.MESSAGE_BYTES, b"\xff" * wire.MESSAGE_BYTES])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        wire.decode_message(data)


def test_the_header_of_the_stage_is_current() -> None:
    header = Path(wire.__file__).parents[1] / "stage" / "wire.h"
    assert header.read_text() == wire.header(), f"run {sys.executable} scripts/gen_wire.py"


def test_every_operation_has_a_case_in_the_stage() -> None:
    stage = Path(wire.__file__).parents[1] / "stage"
    text = "".join(p.read_text() for p in sorted(stage.glob("*.c")))
    assert [name for name in wire.OPS if f"case OP_{name}:" not in text] == []
