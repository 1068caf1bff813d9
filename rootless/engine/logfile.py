"""The files of container logs, read forwards from a place on, and backwards to find that place.

    feed = FileFeed(path, is_json=False, tail=10)
    while entries := feed.read(): ...

A file that was replaced (rotation) is read to its end before the one that has its name now is opened.
"""

from __future__ import annotations

import os
import stat

from rootless.errors import RootlessError
from rootless.proto import logline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Entry = tuple[bytes, int, bool, bytes]  # time, stream, partial, data: a logline.Line that costs less

BLOCK_BYTES = 1 << 18
TAIL_BYTES = 1 << 14
TIME_BYTES = 35  # characters of "2022-11-24T18:41:01.123456789+00:00"
_HEADS = {
    b" stdout F ": (logline.STDOUT, False),
    b" stderr F ": (logline.STDERR, False),
    b" stdout P ": (logline.STDOUT, True),
    b" stderr P ": (logline.STDERR, True),
}
_HEAD_END = TIME_BYTES + 10


class FileFeed:
    """The entries of a log file.

    Owner: holds the file open until `close`
    """

    def __init__(self, path: str, is_json: bool, tail: int) -> None:
        self._path = path
        self._parse = parse_json if is_json else parse_k8s
        self._rest = b""
        self._ahead: list[Entry] = []
        self._fd = _open(path)
        if tail >= 0 and self._fd >= 0:
            offset, self._ahead = find_tail(self._fd, tail, self._parse)
            os.lseek(self._fd, offset, os.SEEK_SET)

    def read(self) -> list[Entry]:
        """Return the entries of the next block; goes on in the new file where this one was replaced."""
        if self._ahead:
            ahead, self._ahead = self._ahead, []
            return ahead
        if self._fd < 0:
            self._fd = _open(self._path)
            if self._fd < 0:
                return []
        while True:
            data = os.read(self._fd, BLOCK_BYTES)
            if data:
                data = self._rest + data if self._rest else data
                end = data.rfind(b"\n") + 1
                self._rest = data[end:]
                if end:
                    return self._parse(data[: end - 1].split(b"\n"))
            elif not self._go_on():
                return []

    def _go_on(self) -> bool:
        """Open the file that has taken this one's name, if there is one; begin again in one that was emptied."""
        mine = os.fstat(self._fd)
        try:
            named = os.stat(self._path)
        except FileNotFoundError:
            return False
        if (named.st_ino, named.st_dev) == (mine.st_ino, mine.st_dev):
            if mine.st_size >= os.lseek(self._fd, 0, os.SEEK_CUR):
                return False
            os.lseek(self._fd, 0, os.SEEK_SET)
        else:
            # The writer has left the old file before the new one got its name: one more read has all of it.
            more = os.read(self._fd, BLOCK_BYTES)
            if more:
                os.lseek(self._fd, -len(more), os.SEEK_CUR)
                return True
            fd = _open(self._path)
            if fd < 0:
                return False
            os.close(self._fd)
            self._fd = fd
        self._rest = b""
        return True

    def settle(self) -> None:
        """A file needs nothing for that."""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open(path: str) -> int:
    """Open a log to read; -1 when it does not exist yet, or keeps nothing (path= may name a FIFO or /dev/null)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise RootlessError(f"cannot read the log {path}: {os.strerror(error.errno or 0).lower()}") from error
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return -1


def parse_k8s(lines: list[bytes]) -> list[Entry]:
    """Take lines of k8s-file apart; what is no such line is left out."""
    found: list[Entry] = []
    for line in lines:
        head = _HEADS.get(line[TIME_BYTES:_HEAD_END])
        if head is not None:
            found.append((line[:TIME_BYTES], head[0], head[1], line[_HEAD_END:]))
        else:
            # Times of another length: an offset written as Z, by another program.
            said = logline.decode_k8s(line)
            if said is not None:
                found.append((said.time.encode(), said.stream, said.partial, said.data))
    return found


def parse_json(lines: list[bytes]) -> list[Entry]:
    """Take lines of json-file apart."""
    said = [logline.decode_json(line) for line in lines]
    return [(one.time.encode(), one.stream, one.partial, one.data) for one in said if one is not None]


def find_tail(fd: int, count: int, parse: Callable[[list[bytes]], list[Entry]]) -> tuple[int, list[Entry]]:
    """Return where the last *count* full lines begin, and parts of them that lie before that, between lines of the
    other stream; read backwards, so a long log costs no more than a short one.

    Parts of lines count with the full line that ends them; parts after the last full line are shown and not counted.
    """
    end = os.fstat(fd).st_size
    if not count:
        return end, []
    carry = b""  # what follows *end*: the end of a line whose begin has not been read yet
    while end > 0:
        begin = max(0, end - TAIL_BYTES)
        block = os.pread(fd, end - begin, begin) + carry
        cut = block.find(b"\n") + 1 if begin else 0
        if begin and not cut:
            carry, end = block, begin
            continue
        carry, body = block[:cut], block[cut:]
        lines = body.split(b"\n")
        offset = begin + len(block) - len(lines.pop())
        while lines:
            entries = parse([lines[-1]])
            if entries and not entries[0][2]:
                if not count:
                    return offset, _begun(parse(lines))
                count -= 1
            offset -= len(lines.pop()) + 1
        end = begin
    return 0, []


def _begun(before: list[Entry]) -> list[Entry]:
    """Return the parts at the end of *before* that a line goes on from: those of the stream that did not end last."""
    settled = {before[-1][1]}
    found: list[Entry] = []
    for entry in reversed(before):
        if entry[1] not in settled:
            if not entry[2]:
                break
            found.append(entry)
    return found[::-1]
