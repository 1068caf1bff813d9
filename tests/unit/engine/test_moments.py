"""Times as --since and --until take them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from rootless.engine.moments import parse_moment
from rootless.errors import UsageError

S = 1_000_000_000
NOW = 1_700_000_000 * S


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two hours east of Greenwich."""
    monkeypatch.setenv("TZ", "EET-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("0", 0),
        ("+5", 5 * S),
        ("1669315261", 1_669_315_261 * S),
        ("1669315261.5", 1_669_315_261 * S + S // 2),
        ("1e3", 1000 * S),
        ("2022-11-24T18:41:01Z", 1_669_315_261 * S),
        ("2022-11-24T18:41:01.25Z", 1_669_315_261 * S + S // 4),
        ("2022-11-24T18:41:01+01:00", 1_669_311_661 * S),
        ("2022-11-24T18:41:01", 1_669_308_061 * S),
        ("2022-11-24T18:41:01.5", 1_669_308_061 * S + S // 2),
        ("2022-11-24Z", 1_669_248_000 * S),
        ("2022-11-24", 1_669_240_800 * S),
        ("3s", NOW - 3 * S),
        ("1h30m", NOW - 5400 * S),
        ("-2.5s", NOW + 2 * S + S // 2),
        ("100000us", NOW - S // 10),
    ],
)
def test_times(text: str, moment: int) -> None:
    assert parse_moment(text, NOW, since=True) == moment


def test_a_duration_until_is_after_now() -> None:
    assert parse_moment("3s", NOW, since=False) == NOW + 3 * S
    assert parse_moment("-3s", NOW, since=False) == NOW - 3 * S


@pytest.mark.parametrize(
    "text",
    ["", "nope", "1d", "inf", "nan", "0x10", " 5", "1_0", "2022-11-24T18", "2022-11-24T18:41Z", "2022-11-24 18:41:01",
     "2022-13-24", "2022-11-24X", "2022-11-24T18:41:01.Z", "1.2.3s", "5x"],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="unable to interpret time value"):
        parse_moment(text, NOW, since=True)
