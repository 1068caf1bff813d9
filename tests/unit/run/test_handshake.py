"""The conversation with the stage: every order but the right one is refused, every fault gets its words."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import ExecNotExecutable, ExecNotFound, InternalError, LaunchError
from rootless.plan.launch import SYNC_HOOKS, SYNC_MAPS
from rootless.plan.wire import ELSE, MESSAGES, Message, Op
from rootless.run.handshake import TABLE, Handshake

OPS = (
    Op("CLONE", why="clone the container"),
    Op("MOUNT", ELSE, why="mount proc on /proc"),
    Op("BIND", why="bind /proc"),
    Op("LOOKUP", why="sh"),
    Op("EXEC", why="/bin/sh"),
)


def talk(*messages: Message) -> Handshake:
    handshake = Handshake(OPS, os.strerror)
    for message in messages:
        handshake.receive(message)
    return handshake


def test_a_whole_conversation() -> None:
    handshake = Handshake(OPS, os.strerror)
    said = [
        Message("PID", 42),
        Message("SYNC", SYNC_MAPS),
        Message("SYNC", SYNC_HOOKS),
        Message("CONSOLE"),
        Message("READY"),
    ]
    assert [handshake.receive(m).do for m in said] == ["pid", "maps", "hooks", "console", "ready"]
    assert handshake.phase == "created"


@given(st.lists(st.sampled_from(MESSAGES), max_size=6))
def test_any_order_is_accepted_exactly_where_the_table_says_so(kinds: list[str]) -> None:
    handshake, phase = Handshake(OPS, os.strerror), "spawned"
    for kind in kinds:
        message = Message(kind, SYNC_MAPS)
        if kind in TABLE.get(phase, {}):
            handshake.receive(message)
            phase = TABLE[phase][kind]
            assert handshake.phase == phase
        else:
            with pytest.raises(InternalError):
                handshake.receive(message)
            return


def test_nothing_is_accepted_after_a_failure() -> None:
    handshake = talk(Message("ERROR", 1))
    with pytest.raises(InternalError):
        handshake.receive(Message("PID", 1))


@pytest.mark.parametrize(
    ("errno", "op", "kind", "words"),
    [
        (2, 3, ExecNotFound, 'exec: "sh": executable file not found in $PATH'),
        (13, 3, ExecNotExecutable, 'exec: "sh": permission denied'),
        (2, 4, ExecNotFound, "exec /bin/sh: no such file or directory"),
        (8, 4, ExecNotExecutable, "exec /bin/sh: exec format error"),
        (21, 4, ExecNotExecutable, "exec /bin/sh: is a directory"),
        (1, 2, LaunchError, "bind /proc: operation not permitted"),
        (22, 99, LaunchError, "operation 99: invalid argument"),
    ],
)
def test_errors_name_the_step_and_carry_the_exit_code(errno: int, op: int, kind: type[LaunchError], words: str) -> None:
    action = talk(Message("PID", 1)).receive(Message("ERROR", errno, op=op))
    assert isinstance(action.error, kind)
    assert action.error.message == words
    assert action.error.code == {ExecNotFound: 127, ExecNotExecutable: 126, LaunchError: 125}[kind]


def test_a_warning_says_what_takes_the_place() -> None:
    action = talk(Message("PID", 1)).receive(Message("WARN", 1, op=1))
    assert action.text == "mount proc on /proc: operation not permitted (instead: bind /proc)"
