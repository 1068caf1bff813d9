"""Moments and spans as text: RFC 3339, Go's durations. Whole nanoseconds since 1970, in UTC, without `datetime`.

Source: RFC 3339; Go's time.ParseDuration; Howard Hinnant, "chrono-compatible low-level date algorithms"
"""

from __future__ import annotations

SECOND_NS = 1_000_000_000
# Go's zero time, in seconds: what podman shows for "never"
NEVER_SECONDS = -62135596800
NEVER = "0001-01-01T00:00:00Z"
_UNITS_NS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000,
    "s": SECOND_NS, "m": 60 * SECOND_NS, "h": 3600 * SECOND_NS,
}  # fmt: skip


def parse(text: object) -> int | None:
    """Return the moment that an RFC 3339 text names, in nanoseconds since 1970; None when it is not one.

    A date alone is its midnight; a time without a zone is UTC.
    """
    if not isinstance(text, str) or len(text) < 10 or text[4] != "-" or text[7] != "-":
        return None
    try:
        seconds = 86400 * _days(int(text[:4]), int(text[5:7]), int(text[8:10]))
        rest = text[10:]
        if not rest:
            return seconds * SECOND_NS
        if rest[0] not in "Tt " or rest[3] != ":":
            return None
        seconds += 3600 * int(rest[1:3]) + 60 * int(rest[4:6])
        rest = rest[6:]
        if rest[:1] == ":":
            seconds += int(rest[1:3])
            rest = rest[3:]
        fraction = 0
        if rest[:1] == ".":
            digits = rest[1:]
            for mark in "Zz+-":
                digits = digits.partition(mark)[0]
            fraction = int(digits[:9].ljust(9, "0"))
            rest = rest[1 + len(digits) :]
        if rest not in ("", "Z", "z"):
            sign = {"+": 1, "-": -1}[rest[0]]
            hours, _, minutes = rest[1:].partition(":")
            seconds -= sign * (3600 * int(hours[:2]) + 60 * int(minutes or hours[2:] or "0"))
    except (ValueError, IndexError, KeyError):
        return None
    return seconds * SECOND_NS + fraction


def _days(year: int, month: int, day: int) -> int:
    """Return the days from 1970-01-01 to a date of the proleptic Gregorian calendar.

    Raises: ValueError
    """
    if not (1 <= month <= 12 and 1 <= day <= 31):
        raise ValueError("not a date")
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def civil(days: int) -> tuple[int, int, int]:
    """Return (year, month, day) of a number of days since 1970-01-01."""
    days += 719468
    era = days // 146097
    of_era = days - era * 146097
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    return year_of_era + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


def go_string(ns: int, offset_seconds: int = 0, zone: str = "UTC") -> str:
    """Return a moment as Go's %v prints it: 2026-11-24 18:43:52.191504739 +0000 UTC."""
    seconds, fraction = divmod(ns, SECOND_NS)
    days, second = divmod(seconds + offset_seconds, 86400)
    year, month, day = civil(days)
    sign, off = ("-", -offset_seconds) if offset_seconds < 0 else ("+", offset_seconds)
    tail = f".{fraction:09}".rstrip("0") if fraction else ""
    return (
        f"{year:04}-{month:02}-{day:02} {second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}{tail} "
        f"{sign}{off // 3600:02}{off // 60 % 60:02} {zone}"
    )


def rfc3339(ns: int) -> str:
    """Return a moment as RFC 3339 in UTC, without a fraction."""
    days, second = divmod(ns // SECOND_NS, 86400)
    year, month, day = civil(days)
    return f"{year:04}-{month:02}-{day:02}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


def trimmed(text: str) -> str:
    """Return an RFC 3339 text as Go writes it: without the zeros at the end of its fraction."""
    if text[-1:] == "Z" and "." in text:
        return text[:-1].rstrip("0").rstrip(".") + "Z"
    return text


def parse_span(text: str) -> int | None:
    """Return the nanoseconds of one of Go's durations (`1h30m`, `-1.5s`, `0`); None when it is not one."""
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text[1:] if text[:1] == "+" else text)
    if rest == "0":
        return 0
    total = 0
    while rest:
        end = 0
        while end < len(rest) and (rest[end].isdecimal() or rest[end] == "."):
            end += 1
        number, rest = rest[:end], rest[end:]
        end = 0
        while end < len(rest) and not (rest[end].isdecimal() or rest[end] == "."):
            end += 1
        unit = _UNITS_NS.get(rest[:end])
        rest = rest[end:]
        whole, _, part = number.partition(".")
        if unit is None or not (whole or part) or not (whole + part).isascii() or "." in part:
            return None
        total += int(whole or "0") * unit + (int(part) * unit // 10 ** len(part) if part else 0)
    return sign * total if text.strip("+-") else None


def span_text(ns: int) -> str:
    """Return a duration as Go prints it: 1h2m3.5s, 30s, 250ms, 0s."""
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    if not ns:
        return "0s"
    if ns < SECOND_NS:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if ns >= size:
                return f"{sign}{_decimal(ns, size)}{unit}"
    hours, ns = divmod(ns, 3600 * SECOND_NS)
    minutes, ns = divmod(ns, 60 * SECOND_NS)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{head}{_decimal(ns, SECOND_NS)}s"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}}".rstrip("0") if rest else str(whole)
