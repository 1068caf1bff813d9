"""Moments and spans as text."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.spec import moment


@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC)))
def test_a_moment_is_read_as_datetime_reads_it(when: datetime) -> None:
    seconds = int((when - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() // 1)
    ns = moment.parse(when.isoformat())
    assert ns is not None
    assert divmod(ns, 1000)[1] == 0
    delta = when - datetime(1970, 1, 1, tzinfo=UTC)
    assert ns == (delta.days * 86400 + delta.seconds) * 10**9 + delta.microseconds * 1000
    assert moment.rfc3339(ns) == when.strftime(f"{when.year:04}-%m-%dT%H:%M:%SZ"), seconds


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T01:00:00.5+01:00", 5 * 10**8),
        ("1969-12-31T19:00:00-0500", 0),
        ("1970-01-02", 86400 * 10**9),
        ("2026-11-24T18:43:52.191504739Z", 1795545832191504739),
        ("0001-01-01T00:00:00Z", moment.NEVER_SECONDS * 10**9),
        ("x", None), ("", None), (None, None), ("2026-13-01T00:00:00Z", None), ("2026-11-24T18:43:52!", None),
    ],
)  # fmt: skip
def test_moments(text: object, ns: int | None) -> None:
    assert moment.parse(text) == ns


def test_as_go_prints_it() -> None:
    ns = 1795545832191504739
    assert moment.go_string(ns) == "2026-11-24 18:43:52.191504739 +0000 UTC"
    assert moment.go_string(ns // 10**9 * 10**9, -5400, "X") == "2026-11-24 17:13:52 -0130 X"
    assert moment.trimmed("2026-11-24T18:43:52.190000000Z") == "2026-11-24T18:43:52.19Z"
    assert moment.trimmed("2026-11-24T18:43:52.000000000Z") == "2026-11-24T18:43:52Z"


@pytest.mark.parametrize(
    ("text", "ns"),
    [("1h30m", 5400 * 10**9), ("1.5s", 1_500_000_000), ("-2ms", -2_000_000), ("0", 0), ("10", None), ("", None),
     ("1x", None), ("-", None), (".s", None), ("1.2.3s", None), ("3µs", 3000)],
)  # fmt: skip
def test_spans(text: str, ns: int | None) -> None:
    assert moment.parse_span(text) == ns


@given(st.integers(min_value=-(10**17), max_value=10**17))
def test_a_span_that_is_printed_is_read_again(ns: int) -> None:
    assert moment.parse_span(moment.span_text(ns)) == ns
    assert moment.span_text(3750510739593) == "1h2m30.510739593s"
    assert moment.span_text(230510739593) == "3m50.510739593s"
