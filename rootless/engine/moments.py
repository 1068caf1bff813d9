"""Points in time as people write them for --since, --until and the `until` filter.

    2022-11-24T18:41:01.5+01:00   2022-11-24T18:41:01   2022-11-24Z   2022-11-24     without a zone: local time
    1669315261   1669315261.5   1e9                                                  seconds since 1970
    10m   1h30m   -2.5s                                                              a duration: before now, or after it

Units: nanoseconds since 1970 in all results
Source: podman 4.3's answers to these texts
"""

from __future__ import annotations

import time

from rootless.errors import UsageError
from rootless.spec import moment
from rootless.spec.moment import SECOND_NS

_DATE, _TIME, _FORM = 10, 19, "0000-00-00T00:00:00"


def parse_moment(text: str, now_ns: int, *, since: bool) -> int:
    """Read a time; a duration is before *now_ns* with *since*, after it otherwise.

    Raises: UsageError in podman's words, to be put behind "parsing --since ..."
    """
    digits = text[1:] if text[:1] in ("+", "-") else text
    if digits.isascii() and digits.isdigit():
        return int(text) * SECOND_NS
    stamp = parse_stamp(text)
    if stamp is not None:
        return stamp
    if text == text.strip() and "_" not in text:
        try:
            return round(float(text) * SECOND_NS)
        except (ValueError, OverflowError):
            pass  # not a number, or an infinite one
    span = moment.parse_span(text)
    if span is None:
        raise UsageError("unable to interpret time value")
    return now_ns - span if since else now_ns + span


def parse_stamp(text: str) -> int | None:
    """Return the time in an RFC 3339 text or date, in local time where it names no zone; None when it is none."""
    size = _TIME if text[_DATE : _DATE + 1] == "T" else _DATE
    # The same digits and marks in the same places, whatever moment.parse would put up with.
    if not text.isascii() or "".join(["0" if c.isdigit() else c for c in text[:size]]) != _FORM[:size]:
        return None
    zone = text[size:]
    if zone[:1] == "." and size == _TIME:
        zone = zone[1:].lstrip("0123456789")
        if text[size + 1 : size + 2] == zone[:1]:
            return None
    if zone in ("", "Z") or (len(zone) == 6 and zone[0] in "+-" and zone[3] == ":"):
        if size == _DATE:
            text = text[:_DATE] + "T00:00:00" + zone
        found = moment.parse(text)
        return found if zone or found is None else _local(found)
    return None


def _local(ns: int) -> int:
    """Return when the clocks here show what they would show at *ns* in UTC."""
    seconds, rest = divmod(ns, SECOND_NS)
    try:
        return int(time.mktime((*time.gmtime(seconds)[:8], -1))) * SECOND_NS + rest
    except (OverflowError, ValueError):
        return ns
