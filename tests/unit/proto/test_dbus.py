"""Our few D-Bus messages are the bytes that a library makes of them, and its answers are read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jeepney import DBusAddress, HeaderFields, MessageType, new_error, new_method_call, new_method_return

from rootless.errors import SpecError
from rootless.proto import dbus
from rootless.supervise.userbus import MANAGER, socket_path

ADDRESS = DBusAddress(MANAGER[1], MANAGER[0], MANAGER[2])
UNIT = "ssa(sv)a(sa(sv))"


def theirs(serial: int, method: str, signature: str, body: tuple[Any, ...]) -> Any:
    message = new_method_call(ADDRESS, method, signature or None, body)
    return message.serialise(serial=serial)


def same(one: bytes, other: bytes) -> bool:
    """Say whether two messages are the same but for the order of the header's fields."""
    return (
        one[:12] == other[:12]
        and dbus.size_of(one[:16]) == dbus.size_of(other[:16]) == len(one) == len(other)
        and sorted(one) == sorted(other)
    )


@pytest.mark.parametrize(
    ("method", "signature", "body"),
    [
        ("Hello", "", ()),
        ("StopUnit", "ss", ("a.scope", "replace")),
        (
            "StartTransientUnit",
            UNIT,
            ("a.scope", "fail", [("PIDs", ("au", [1, 2])), ("Delegate", ("b", True)), ("Slice", ("s", "x"))], []),
        ),
        ("SetUnitProperties", "sba(sv)", ("x", True, [("MemoryMax", ("t", 1 << 40))])),
    ],
)
def test_a_call(method: str, signature: str, body: tuple[Any, ...]) -> None:
    ours = dbus.call(7, *MANAGER, method, signature, body)
    other = theirs(7, method, signature, body)
    assert same(ours, other)
    start = len(ours) - int.from_bytes(ours[4:8], "little")
    assert ours[start:] == other[start:]


@given(st.text(), st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=4), st.booleans())
def test_bodies_of_all_lengths(text: str, pairs: list[tuple[str, str]], flag: bool) -> None:
    text = text.replace("\0", "").encode("utf-8", "ignore").decode()
    made = [(a.replace("\0", "").encode("utf-8", "ignore").decode(), ("b", flag)) for a, _ in pairs]
    body = (text, "fail", made, [])
    ours = dbus.call(1, *MANAGER, "M", UNIT, body)
    other = theirs(1, "M", UNIT, body)
    start = len(ours) - int.from_bytes(ours[4:8], "little")
    assert ours[start:] == other[start:]


def test_answers() -> None:
    call = new_method_call(ADDRESS, "M")
    call.header.serial = 5
    good = new_method_return(call, "o", ("/job/1",)).serialise(serial=9)
    assert dbus.parse(good) == dbus.Reply(dbus.METHOD_RETURN, 5, "", "/job/1")
    assert dbus.size_of(good[:16]) == len(good)
    bad = new_error(call, "org.x.Failed", "s", ("no such unit",)).serialise(serial=9)
    assert dbus.parse(bad) == dbus.Reply(dbus.ERROR, 5, "org.x.Failed", "no such unit")
    empty = new_method_return(call).serialise(serial=9)
    assert dbus.parse(empty) == dbus.Reply(dbus.METHOD_RETURN, 5)
    assert MessageType.error.value == dbus.ERROR
    assert HeaderFields.reply_serial.value == 5


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for step in (lambda: dbus.size_of(data[:16]), lambda: dbus.parse(data)):
        try:
            step()
        except SpecError:
            continue


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("unix:path=/run/user/1/bus", "/run/user/1/bus"),
        ("tcp:host=x;unix:guid=1,path=/b", "/b"),
        ("unix:abstract=a", "\0a"),
        ("", ""),
    ],
)
def test_addresses(address: str, path: str) -> None:
    assert socket_path(address) == path
