"""USER strings against passwd and group texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import RootlessError
from rootless.plan.user import ExecUser, appended, passwd_lines, resolve

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
# comment
broken line
bob:x:1000:1000:Bob:/home/bob:/bin/sh
alice:x:1001:100::/home/alice:/bin/sh
1001:x:7:7::/seven:/bin/sh
"""
GROUP = b"""root:x:0:
audio:x:29:bob
users:x:100:bob,alice
bob:x:1000:
wheel:x:10:bob
"""


@pytest.mark.parametrize(
    ("user", "added", "ids", "groups", "home"),
    [
        ("", (), (0, 0), (), "/root"),
        ("root", (), (0, 0), (), "/root"),
        ("bob", (), (1000, 1000), (1000, 29, 100, 10), "/home/bob"),
        ("1000", (), (1000, 1000), (1000, 29, 100, 10), "/home/bob"),
        ("alice", (), (1001, 100), (100,), "/home/alice"),
        ("1001", (), (1001, 100), (100,), "/home/alice"),
        ("alice:wheel", (), (1001, 10), (10,), "/home/alice"),
        ("1001:10", (), (1001, 10), (10,), "/home/alice"),
        ("1234", (), (1234, 0), (0,), "/"),
        ("1234:55", (), (1234, 55), (55,), "/"),
        (":10", (), (0, 10), (10,), "/root"),
        ("", ("wheel", "77"), (0, 0), (10, 77), "/root"),
        ("bob", ("audio", "77"), (1000, 1000), (1000, 29, 100, 10, 77), "/home/bob"),
        ("alice:wheel:rest", (), (1001, 10), (10,), "/home/alice"),
    ],
)
def test_users(user: str, added: tuple[str, ...], ids: tuple[int, int], groups: tuple[int, ...], home: str) -> None:
    found = resolve(user, added, PASSWD, GROUP)
    assert (found.uid, found.gid) == ids
    assert found.groups == groups
    assert found.home == home


def test_without_files() -> None:
    assert resolve("", (), None, None) == ExecUser(0, 0, (), "/", "0", False, False)
    assert resolve("5:6", (), None, None) == ExecUser(5, 6, (6,), "/", "5", False, False)


@pytest.mark.parametrize(
    ("user", "added", "message"),
    [
        ("nobody", (), "unable to find user nobody: no matching entries in passwd file"),
        ("a:b:c", (), "unable to find user a: no matching entries in passwd file"),
        ("0:nogrp", (), "unable to find group nogrp: no matching entries in group file"),
        ("99999999999", (), "uids and gids must be in range 0-2147483647"),
        ("0:99999999999", (), "uids and gids must be in range 0-2147483647"),
        (
            "",
            ("nogrp",),
            "looking up supplemental groups: unable to find group nogrp: no matching entries in group file",
        ),
    ],
)
def test_unknown_users(user: str, added: tuple[str, ...], message: str) -> None:
    with pytest.raises(RootlessError) as caught:
        resolve(user, added, PASSWD, GROUP)
    assert caught.value.message == message
    assert caught.value.code == 126


def test_lines_that_are_added() -> None:
    stranger = resolve("1234:55", (), PASSWD, GROUP)
    assert passwd_lines(stranger, "/work", "", ()) == ["1234:*:1234:55:container user:/work:/bin/sh"]
    assert passwd_lines(resolve("bob", (), PASSWD, GROUP), "/", "", ()) == []
    template = "x$USERNAME:*:$UID:$GID:$NAME:$HOME:/bin/q"
    assert passwd_lines(stranger, "/", template, ("me:x:1007:1008:Me,,:/home/me:/bin/zsh",)) == [
        "me:*:1007:1008:Me,,:/:/bin/sh",
        "x1234:*:1234:55:container user:/:/bin/q",
    ]
    assert appended(b"a", ["b"]) == b"a\nb\n"
    assert appended(b"", ["b"]) == b"b\n"


@given(st.text(max_size=20), st.binary(max_size=80), st.binary(max_size=80))
def test_any_texts_give_a_user_or_an_error(user: str, passwd: bytes, group: bytes) -> None:
    try:
        found = resolve(user, (), passwd, group)
    except RootlessError as error:
        assert error.code == 126
    else:
        assert found.uid >= 0
        assert found.gid >= 0
