"""Read the logs of containers: whole, their end, a span of time, and what comes while they run.

    sources = open_sources(roots, names, wanted)
    show(sources, wanted, Printer(style, write))

Reading never touches the container: a log is a file, and a slow reader only falls behind. A file that was replaced
(rotation) is read to its end before the new one is opened.

Source: podman-logs(1) of podman 4.3 and its output
"""

from __future__ import annotations

import time

from rootless.engine.logfile import TIME_BYTES, FileFeed
from rootless.errors import NotFound, RootlessError
from rootless.plan.logs import FILES, JOURNALD, JSON_FILE
from rootless.spec import moment
from rootless.spec.record import record
from rootless.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from rootless.engine.logfile import Entry
    from rootless.store.containers import Container
    from rootless.store.layout import Roots

    Write = Callable[[int, bytes], None]

    class Feed(Protocol):
        """Where entries come from."""

        def read(self) -> list[Entry]:
            """Return the next entries; none when there are no more now."""

        def settle(self) -> None:
            """Make sure that `read` gives all that was written before now."""

        def close(self) -> None:
            """Give its files or processes back."""


_COLORS = (37, 31, 33, 34, 35, 36, 32)
_SHORT_WAIT_S, _LONG_WAIT_S = 0.01, 0.1
_HELD_BYTES = 1 << 16


@record
class Wanted:
    """Which entries. Units: nanoseconds since 1970, 0 is no bound; *tail* lines, negative is all"""

    since_ns: int = 0
    until_ns: int = 0
    tail: int = -1
    follow: bool = False


@record
class Style:
    """How a line looks. *multi* when several containers are shown: each line begins with whose it is."""

    timestamps: bool = False
    names: bool = False
    color: bool = False
    multi: bool = False


class Source:
    """One container's log.

    Owner: `close` gives the file back
    """

    def __init__(self, roots: Roots, container: Container, number: int, wanted: Wanted) -> None:
        log = container.data.get("log") or {}
        driver = str(log.get("driver") or "none")
        self.id = container.id
        self.name = container.name
        self.color = _COLORS[number % len(_COLORS)]
        self.open_lines: dict[int, list[bytes]] = {}
        self._roots = roots
        self._container = container
        if driver in FILES:
            self.feed: Feed = FileFeed(str(log.get("path") or ""), driver == JSON_FILE, wanted.tail)
        elif driver == JOURNALD:
            from rootless.engine.journal import JournalFeed

            self.feed = JournalFeed(container.id, wanted)
        else:
            raise RootlessError(
                f"this container is using the '{driver}' log driver, cannot read logs: "
                "this container is not logging output"
            )

    def goes_on(self) -> bool:
        """Say whether the container may still write: its supervisor lives, here or (by its record) elsewhere."""
        if containers.is_alive(self._roots, self.id):
            return True
        if self._container.data.get("machine") == containers.machine_id():
            return False
        now = containers.read(self._roots, self.id)
        return now is not None and containers.status(self._roots, now) == "remote"

    def close(self) -> None:
        self.feed.close()


class Printer:
    """Writes entries as podman does: stdout's to stdout, stderr's to stderr, without waiting for whole lines.

    A line in several parts gets one prefix. With several containers a line is held until it is whole, or too long.
    """

    def __init__(self, style: Style, write: Write) -> None:
        self._style = style
        self._write = write
        self._plain = not (style.timestamps or style.color or style.multi)

    def print(self, source: Source, entries: list[Entry]) -> None:
        """Write *entries* of *source*; pieces for one stream are written together."""
        last = 0
        pieces: list[bytes] = []
        for entry in entries:
            stream = entry[1]
            if stream != last:
                if pieces:
                    self._write(last, b"".join(pieces))
                    pieces = []
                last = stream
            if self._plain:
                pieces.append(entry[3] if entry[2] else entry[3] + b"\n")
            else:
                pieces.append(self._dressed(source, entry))
        if pieces:
            self._write(last, b"".join(pieces))

    def finish(self, source: Source) -> None:
        """Write what is held of lines that have no end."""
        for stream, parts in list(source.open_lines.items()):
            if parts and self._style.multi:
                self._write(stream, self._colored(source, b"".join(parts)) + b"\n")
        source.open_lines.clear()

    def _dressed(self, source: Source, entry: Entry) -> bytes:
        when, stream, partial, data = entry
        parts = source.open_lines.get(stream)
        text = data if parts is not None else self._prefix(source, when) + data
        if not self._style.multi:
            if partial:
                source.open_lines[stream] = []
            else:
                source.open_lines.pop(stream, None)
            return self._colored(source, text) + (b"" if partial else b"\n")
        held = [*(parts or ()), text]
        if partial and sum([len(piece) for piece in held]) < _HELD_BYTES:
            source.open_lines[stream] = held
            return b""
        source.open_lines.pop(stream, None)
        return self._colored(source, b"".join(held)) + b"\n"

    def _prefix(self, source: Source, when: bytes) -> bytes:
        text = b""
        if self._style.multi:
            text = (source.name if self._style.names else source.id[:12]).encode() + b" "
        if self._style.timestamps:
            text += shown_time(when) + b" "
        return text

    def _colored(self, source: Source, text: bytes) -> bytes:
        return b"\x1b[%dm%s\x1b[0m" % (source.color, text) if self._style.color else text


def shown_time(when: bytes) -> bytes:
    """Return a time with nine digits of its second; UTC as Z."""
    text = when.removesuffix(b"+00:00") + b"Z" if when.endswith(b"+00:00") else when
    if len(text) in (30, TIME_BYTES) and text[19:20] == b".":
        return text
    if text[19:20] != b".":
        return text[:19] + b"." + b"0" * 9 + text[19:]
    end = 20
    while text[end : end + 1].isdigit():
        end += 1
    return text[:20] + text[20:end][:9].ljust(9, b"0") + text[end:]


def open_sources(roots: Roots, names: list[str], wanted: Wanted) -> list[Source]:
    """Find the containers *names*, and open their logs.

    Raises: NotFound in podman's words; RootlessError for a container without a log
    """
    found = []
    for name in names:
        try:
            found.append(containers.find(roots, name))
        except NotFound:
            error = NotFound("container", name)
            error.message = f'no container with name or ID "{name}" found: no such container'
            raise error from None
    return [Source(roots, container, number, wanted) for number, container in enumerate(found)]


def latest(roots: Roots) -> str:
    """Return the id of the newest container. Raises: NotFound"""
    every = containers.list_containers(roots)
    if not every:
        raise NotFound("container", "--latest")
    return every[-1].id


def show(sources: list[Source], wanted: Wanted, printer: Printer) -> None:
    """Print the logs; with *follow*, until the containers have ended or `until` has come.

    Blocks: with *follow*; for a reader of our output that is slow
    """
    keeps = _filter(wanted)
    if len(sources) == 1:
        _drain(sources[0], keeps, printer)
    else:
        for source, entry in _merged(sources, keeps):
            printer.print(source, [entry])
    if wanted.follow:
        _follow(list(sources), wanted, keeps, printer)
    for source in sources:
        printer.finish(source)


def _drain(source: Source, keeps: Callable[[Entry], bool] | None, printer: Printer) -> bool:
    """Print all that is there now; say whether there was anything."""
    any_read = False
    while entries := source.feed.read():
        any_read = True
        printer.print(source, [entry for entry in entries if keeps(entry)] if keeps else entries)
    return any_read


def _merged(sources: list[Source], keeps: Callable[[Entry], bool] | None) -> Iterator[tuple[Source, Entry]]:
    """Yield the entries of all sources in the order of their times."""

    def entries_of(source: Source) -> Iterator[Entry]:
        while entries := source.feed.read():
            yield from [entry for entry in entries if keeps(entry)] if keeps else entries

    heads: list[tuple[Entry, Source, Iterator[Entry]]] = []
    for source in sources:
        rest = entries_of(source)
        first = next(rest, None)
        if first is not None:
            heads.append((first, source, rest))
    while heads:
        at = min(range(len(heads)), key=lambda number: heads[number][0][0])
        entry, source, rest = heads[at]
        yield source, entry
        after = next(rest, None)
        if after is None:
            del heads[at]
        else:
            heads[at] = (after, source, rest)


def _follow(sources: list[Source], wanted: Wanted, keeps: Callable[[Entry], bool] | None, printer: Printer) -> None:
    wait = _SHORT_WAIT_S
    while sources:
        ended = [source for source in sources if not source.goes_on()]
        # What a container wrote before it ended is in its log by now: it is read once more after that was seen.
        for source in ended:
            source.feed.settle()
        busy = [_drain(source, keeps, printer) for source in sources]
        for source in ended:
            sources.remove(source)
        if wanted.until_ns and time.time_ns() >= wanted.until_ns:
            return
        if sources:
            wait = _SHORT_WAIT_S if any(busy) else min(wait * 2, _LONG_WAIT_S)
            time.sleep(wait)


def _filter(wanted: Wanted) -> Callable[[Entry], bool] | None:
    since, until = wanted.since_ns, wanted.until_ns
    if not since and not until:
        return None
    seconds: dict[bytes, int] = {}

    def keeps(entry: Entry) -> bool:
        when = entry[0]
        # All but the fraction of a second is read once.
        key = when[:19] + when[29:]
        base = seconds.get(key) if len(when) in (30, TIME_BYTES) else None
        if base is None:
            stamp = moment.parse(when.decode("ascii", "replace")) or 0
            seconds.clear()
            seconds[key] = stamp - stamp % moment.SECOND_NS
        else:
            stamp = base + int(when[20:29])
        return stamp > since and (not until or stamp < until)

    return keeps
