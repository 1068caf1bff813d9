"""Points in time as people write them for --since, --until and the `until` filter, and as log files hold them.

    2022-11-24T18:41:01.5+01:00   2022-11-24T18:41:01   2022-11-24Z   2022-11-24     without a zone: local time
    1669315261   1669315261.5   1e9                                                  seconds since 1970
    10m   1h30m   -2.5s                                                              a duration: before now, or after it

Units: nanoseconds since 1970 in all results
Source: podman 4.3's answers to these texts; Go's time.ParseDuration and RFC 3339
"""

from __future__ import annotations

import time

from rootless.errors import UsageError

SECOND_NS = 1_000_000_000
_UNITS_NS = {
    "h": 3600 * SECOND_NS, "m": 60 * SECOND_NS, "s": SECOND_NS, "ms": 1_000_000, "us": 1000, "µs": 1000, "μs": 1000,
    "ns": 1,
}  # fmt: skip
_DAYS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def parse_moment(text: str, now_ns: int, *, since: bool) -> int:
    """Read a time; a duration is before *now_ns* with *since*, after it otherwise.

    Raises: UsageError in podman's words, to be put behind "parsing --since ..."
    """
    seconds = _integer(text)
    if seconds is not None:
        return seconds * SECOND_NS
    stamp = parse_rfc3339(text)
    if stamp is not None:
        return stamp
    try:
        number = float(text) if text and not text[0].isspace() and not text[-1].isspace() and "_" not in text else None
        if number is not None:
            return round(number * SECOND_NS)
    except (ValueError, OverflowError):
        pass  # not a number, or an infinite one
    duration = parse_duration(text)
    if duration is None:
        raise UsageError("unable to interpret time value")
    return now_ns - duration if since else now_ns + duration


def _integer(text: str) -> int | None:
    digits = text[1:] if text[:1] in ("+", "-") else text
    return int(text) if digits.isascii() and digits.isdigit() else None


def parse_duration(text: str) -> int | None:
    """Return a duration as Go writes it, None when it is none."""
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text[1:] if text[:1] == "+" else text)
    if rest == "0":
        return 0
    if not rest:
        return None
    total = 0
    while rest:
        end = 0
        while end < len(rest) and rest[end] in "0123456789.":
            end += 1
        number, rest = rest[:end], rest[end:]
        end = 0
        while end < len(rest) and rest[end] not in "0123456789.":
            end += 1
        unit, rest = rest[:end], rest[end:]
        whole, _, part = number.partition(".")
        if unit not in _UNITS_NS or not (whole + part) or "." in part:
            return None
        size = _UNITS_NS[unit]
        total += int(whole or "0") * size + (int(part) * size // 10 ** len(part) if part else 0)
    return sign * total


def parse_rfc3339(text: str) -> int | None:
    """Return the time in an RFC 3339 text or date, None when it is none."""
    if len(text) < 10 or not text.isascii():
        return None
    date, rest = text[:10], text[10:]
    if not (date[4] == date[7] == "-") or not (date[:4] + date[5:7] + date[8:]).isdigit():
        return None
    year, month, day = int(date[:4]), int(date[5:7]), int(date[8:])
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= month <= 12 or not 1 <= day <= _DAYS[month] + leap:
        return None
    hour = minute = second = nanoseconds = 0
    if rest[:1] == "T":
        clock, rest = rest[1:9], rest[9:]
        if len(clock) != 8 or not (clock[2] == clock[5] == ":") or not (clock[:2] + clock[3:5] + clock[6:]).isdigit():
            return None
        hour, minute, second = int(clock[:2]), int(clock[3:5]), int(clock[6:])
        if hour > 23 or minute > 59 or second > 59:
            return None
        if rest[:1] == ".":
            end = 1
            while end < len(rest) and rest[end].isdigit():
                end += 1
            if end == 1:
                return None
            nanoseconds, rest = int(rest[1:end][:9].ljust(9, "0")), rest[end:]
    if not rest:
        try:
            seconds = int(time.mktime((year, month, day, hour, minute, second, 0, 0, -1)))
        except (OverflowError, ValueError):
            return None
        return seconds * SECOND_NS + nanoseconds
    offset = _offset(rest)
    if offset is None:
        return None
    seconds = _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset
    return seconds * SECOND_NS + nanoseconds


def _offset(zone: str) -> int | None:
    """Return the seconds east of UTC of `Z` or `+01:00`."""
    if zone == "Z":
        return 0
    if len(zone) != 6 or zone[0] not in "+-" or zone[3] != ":" or not (zone[1:3] + zone[4:]).isdigit():
        return None
    seconds = int(zone[1:3]) * 3600 + int(zone[4:]) * 60
    return -seconds if zone[0] == "-" else seconds


def _days(year: int, month: int, day: int) -> int:
    """Return the days since 1970-01-01 of a day of the Gregorian calendar; March is the first month of its year."""
    if month < 3:
        year, month = year - 1, month + 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719_469
