"""Decode tar archives without doing any I/O: bytes go in, headers and pieces of files come out.

Shape:   feed(bytes), next_event() -> Header, then Data ... for its content, ..., End; NEED_DATA asks for more input;
         close() says that there is no more.
         archive = { [pax x | pax g | GNU L | GNU K]* header [sparse blocks] data padding } zero zero
Units:   blocks are 512 bytes; sizes and offsets are bytes; times are nanoseconds since 1970
Raises:  TarError from next_event, and nothing else whatever the input

Read are v7, ustar, star's prefix, pax (local and global), GNU long names, GNU sparse files of all four formats, numbers
in octal and base 256. Checked: checksums, sizes, sparse maps; unlimited: nothing that is held in memory.

Source:  POSIX.1-2017 pax "ustar Interchange Format" and "pax Header Block" · GNU tar manual "Basic Tar Format",
         "Sparse Formats"
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

BLOCK = 512
SPECIAL_MAX_BYTES = 1 << 20
"""The most that one extended header may hold."""
SPARSE_MAX_RUNS = 1 << 18
"""The most runs of data that one sparse file may have."""
_MAP_MAX_BYTES = 44 * SPARSE_MAX_RUNS
_NUMBERS = 256
_SIZE_MAX = (1 << 63) - 1

REGULAR, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

_ZERO = bytes(BLOCK)
_NO_DATA = frozenset(b"123456")
_AS_REGULAR = frozenset(b"\x007")
_XATTR = b"SCHILY.xattr."


class TarError(Exception):
    """The archive is malformed; *offset* is the position of the header at fault."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


class Header:
    """One entry. Frozen by convention: decoding makes tens of thousands, so it has no guard.

    Shape:   type is one byte, REGULAR ... FIFO or what the archive says; sparse is None, or the runs (offset, length)
             that hold data; size_bytes counts the holes too
    """

    __slots__ = (
        "devmajor", "devminor", "gid", "linkname", "mode", "mtime_ns", "name", "size_bytes", "sparse", "type", "uid",
        "xattrs",
    )  # fmt: skip

    def __init__(
        self,
        name: bytes,
        type: bytes = REGULAR,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        size_bytes: int = 0,
        mtime_ns: int = 0,
        linkname: bytes = b"",
        devmajor: int = 0,
        devminor: int = 0,
        xattrs: tuple[tuple[bytes, bytes], ...] = (),
        sparse: tuple[tuple[int, int], ...] | None = None,
    ) -> None:
        self.name = name
        self.type = type
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size_bytes = size_bytes
        self.mtime_ns = mtime_ns
        self.linkname = linkname
        self.devmajor = devmajor
        self.devminor = devminor
        self.xattrs = xattrs
        self.sparse = sparse

    def values(self) -> tuple[object, ...]:
        """Return everything, in the order of the constructor."""
        return (
            self.name, self.type, self.mode, self.uid, self.gid, self.size_bytes, self.mtime_ns, self.linkname,
            self.devmajor, self.devminor, self.xattrs, self.sparse,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Header) and self.values() == other.values()

    def __hash__(self) -> int:
        return hash(self.values())

    def __repr__(self) -> str:
        return f"Header{self.values()}"


class Data:
    """A piece of the last header's file; *view* is valid until the next feed."""

    __slots__ = ("offset", "view")

    def __init__(self, offset: int, view: memoryview) -> None:
        self.offset = offset
        self.view = view


class End:
    """The archive is complete; what follows is padding."""


class NeedData:
    """Feed more, or close."""


END: Final = End()
NEED_DATA: Final = NeedData()

_HEADER, _SPECIAL, _EXTENSION, _MAP, _DATA, _PADDING, _ENDED = range(7)


class TarDecoder:
    """See the module. One decoder reads one archive."""

    def __init__(self) -> None:
        self._chunk = b""
        self._at = 0
        self._before = 0  # bytes of the archive that came before _chunk
        self._start = 0  # where the current header began
        self._closed = False
        self._state = _HEADER
        self._zero_seen = False
        self._numbers: dict[bytes, int] = {}
        self._globals: dict[bytes, bytes] = {}
        self._pax: dict[bytes, bytes] = {}
        self._pax_runs: list[tuple[int, int]] = []  # GNU 0.0 repeats its keys, so a dict loses them
        self._long_name: bytes | None = None
        self._long_link: bytes | None = None
        self._special = 0  # type byte of the extended header whose payload is being collected
        self._size = 0  # its length without padding
        self._wanted = 0  # bytes to collect
        self._collected = b""
        self._entry: Header | None = None
        self._runs: list[tuple[int, int]] = []
        self._left = 0  # bytes of data of this entry still to come
        self._pad = 0
        self._offset = 0  # where in the file the next byte goes
        self._run_left = 0
        self._run_iter: Iterator[tuple[int, int]] | None = None

    def feed(self, data: bytes) -> None:
        """Give the next bytes of the archive."""
        if self._at < len(self._chunk):
            self._before += self._at
            self._chunk = self._chunk[self._at :] + data
        else:
            self._before += len(self._chunk)
            self._chunk = data
        self._at = 0

    def close(self) -> None:
        """Say that no bytes follow; next_event gives End, or raises for an archive that is cut off."""
        self._closed = True

    def next_event(self) -> Header | Data | End | NeedData:
        """Return the next event.

        Raises: TarError
        """
        while True:
            state = self._state
            if state == _HEADER:
                at = self._at
                block = self._chunk[at : at + BLOCK]
                if len(block) < BLOCK:
                    if not self._closed:
                        return NEED_DATA
                    if block or self._pax or self._long_name is not None or self._long_link is not None:
                        raise self._error("the archive is cut off in a header")
                    self._state = _ENDED
                    continue
                self._start = self._before + at
                self._at = at + BLOCK
                entry = self._header(block)
                if entry is not None:
                    return entry
            elif state == _DATA:
                event = self._data()
                if event is not None:
                    return event
            elif state == _PADDING:
                step = min(self._pad, len(self._chunk) - self._at)
                self._at += step
                self._pad -= step
                if self._pad:
                    if not self._closed:
                        return NEED_DATA
                    self._pad = 0  # a last block that was not filled up loses nothing
                self._state = _HEADER
            elif state == _ENDED:
                self._at = len(self._chunk)
                return END
            else:
                payload = self._take(self._wanted)
                if payload is None:
                    return NEED_DATA
                if state == _SPECIAL:
                    self._extended(payload)
                elif state == _EXTENSION:
                    entry = self._extension(payload)
                    if entry is not None:
                        return entry
                else:
                    entry = self._map(payload)
                    if entry is not None:
                        return entry

    # ---- pieces

    def _error(self, message: str) -> TarError:
        return TarError(f"{message} (at byte {self._start} of the archive)", self._start)

    def _take(self, count: int) -> bytes | None:
        at = self._at
        if len(self._chunk) - at < count:
            if self._closed:
                raise self._error("the archive is cut off")
            return None
        self._at = at + count
        return self._chunk[at : at + count]

    def _data(self) -> Data | NeedData | None:
        while self._run_left == 0:
            run = next(self._run_iter, None) if self._run_iter is not None else None
            if run is None:
                self._state = _PADDING
                return None
            self._offset, self._run_left = run
        at = self._at
        step = min(self._run_left, len(self._chunk) - at)
        if step == 0:
            if self._closed:
                raise self._error("the archive is cut off in a file")
            return NEED_DATA
        event = Data(self._offset, memoryview(self._chunk)[at : at + step])
        self._at = at + step
        self._offset += step
        self._run_left -= step
        return event

    def _begin_data(self, entry: Header, stored: int) -> Header:
        """Set up for the content of *entry*, of which the archive holds *stored* bytes."""
        self._pad = -stored % BLOCK
        self._offset = 0
        self._run_iter = None
        self._run_left = stored
        if entry.sparse is not None:
            self._run_left = 0
            self._run_iter = iter(entry.sparse)
        self._state = _DATA if stored else _HEADER
        self._pax = {}
        self._pax_runs = []
        self._long_name = self._long_link = None
        return entry

    def _number(self, field: bytes, what: str) -> int:
        first = field[0]
        if first & 0x80:
            # Base 256, two's complement: the top bit is the marker, the next one the sign.
            value = int.from_bytes(field, "big") & ((1 << (len(field) * 8 - 1)) - 1)
            if first & 0x40:
                value -= 1 << (len(field) * 8 - 1)
            return value
        text = field.partition(b"\0")[0].strip()
        if not text:
            return 0
        if not text.isdigit():
            raise self._error(f"{what} is not a number")
        try:
            return int(text, 8)
        except ValueError:
            raise self._error(f"{what} is not an octal number") from None

    def _repeated(self, field: bytes, what: str) -> int:
        """As `_number`, for fields that have few values in an archive."""
        value = self._numbers.get(field)
        if value is None:
            value = self._number(field, what)
            if len(self._numbers) < _NUMBERS:
                self._numbers[field] = value
        return value

    def _header(self, block: bytes) -> Header | None:
        """Read one header block; None if it was an extended one, zeros, or needs sparse blocks first."""
        if block == _ZERO:
            if self._zero_seen:
                self._state = _ENDED
            self._zero_seen = True
            return None
        if self._zero_seen:
            raise self._error("data after an end-of-archive block")
        checksum = block[148:156]
        expected = self._number(checksum, "checksum")
        total = sum(block) - sum(checksum) + 256
        if total != expected and total - 256 * sum([b > 127 for b in block[:148] + block[156:]]) != expected:
            raise self._error("wrong header checksum")
        kind = block[156]
        size = self._number(block[124:136], "size")
        if not 0 <= size <= _SIZE_MAX:
            raise self._error("impossible size")
        if kind in b"xgLKX":
            if size > SPECIAL_MAX_BYTES:
                raise self._error("extended header too large")
            self._special = kind
            self._size = size
            self._wanted = size + -size % BLOCK
            self._state = _SPECIAL
            return None
        return self._entry_of(block, kind, size)

    def _entry_of(self, block: bytes, kind: int, size: int) -> Header | None:
        name = block[:100].partition(b"\0")[0]
        magic = block[257:265]
        if magic == b"ustar\00000" or magic[:6] == b"ustar\0":
            prefix = block[345:476] if block[508:512] == b"tar\0" else block[345:500]
            prefix = prefix.partition(b"\0")[0]
            if prefix:
                name = prefix + b"/" + name
        entry = Header(
            name,
            REGULAR if kind in _AS_REGULAR else block[156:157],
            self._repeated(block[100:108], "mode"),
            self._repeated(block[108:116], "uid"),
            self._repeated(block[116:124], "gid"),
            size,
            self._number(block[136:148], "mtime") * 1_000_000_000,
            block[157:257].partition(b"\0")[0],
        )
        if kind in b"34" and magic[:5] == b"ustar":
            entry.devmajor = self._number(block[329:337], "device number")
            entry.devminor = self._number(block[337:345], "device number")
        sparse: tuple[tuple[int, int], ...] | None = None
        real_size: int | None = None
        map_in_data = False
        if self._pax or self._globals:
            sparse, real_size, map_in_data = self._apply_pax(entry)
        if self._long_name is not None:
            entry.name = self._long_name
        if self._long_link is not None:
            entry.linkname = self._long_link
        if entry.type == REGULAR and entry.name[-1:] == b"/":
            entry.type = DIRECTORY
            kind = DIRECTORY[0]
        if not entry.name:
            raise self._error("an entry without a name")
        if entry.uid < 0 or entry.gid < 0 or entry.uid > 0xFFFFFFFE or entry.gid > 0xFFFFFFFE:
            raise self._error("impossible owner")
        stored = entry.size_bytes
        if kind in _NO_DATA:
            entry.size_bytes = 0
            return self._begin_data(entry, 0)
        if kind == 0x53:  # S, the old GNU sparse format
            return self._old_sparse(entry, block)
        if map_in_data:
            if real_size is not None:
                entry.size_bytes = real_size
            self._entry, self._left, self._runs = entry, stored, []
            self._collected = b""
            self._wanted, self._state = BLOCK, _MAP
            return None
        if sparse is not None:
            entry.size_bytes = real_size if real_size is not None else stored
            entry.sparse = self._checked(sparse, entry.size_bytes, stored)
        return self._begin_data(entry, stored)

    # ---- pax

    def _extended(self, payload: bytes) -> None:
        """Take in an extended header."""
        self._state = _HEADER
        payload = payload[: self._size]
        kind = self._special
        if kind == 0x4C:
            self._long_name = payload.partition(b"\0")[0]
        elif kind == 0x4B:
            self._long_link = payload.partition(b"\0")[0]
        else:
            records = self._globals if kind == 0x67 else self._pax
            self._records(payload, records)

    def _records(self, payload: bytes, records: dict[bytes, bytes]) -> None:
        """Read "LENGTH KEY=VALUE\\n" records; LENGTH counts itself."""
        at = 0
        offset: int | None = None
        while at < len(payload):
            space = payload.find(b" ", at, at + 20)
            text = payload[at:space]
            if space < 0 or not text.isdigit():
                raise self._error("malformed pax record")
            end = at + int(text)
            equals = payload.find(b"=", space, end)
            if end > len(payload) or equals < 0 or payload[end - 1] != 0x0A:
                raise self._error("malformed pax record")
            key, value = payload[space + 1 : equals], payload[equals + 1 : end - 1]
            if not key or b"\0" in key or (b"\0" in value and key in (b"path", b"linkpath", b"GNU.sparse.name")):
                raise self._error("malformed pax record")
            if key == b"GNU.sparse.offset":
                offset = self._decimal(value, "sparse map")
            elif key == b"GNU.sparse.numbytes":
                if offset is None or len(self._pax_runs) >= SPARSE_MAX_RUNS:
                    raise self._error("malformed sparse map")
                self._pax_runs.append((offset, self._decimal(value, "sparse map")))
                offset = None
            records[key] = value
            at = end

    def _decimal(self, text: bytes, what: str) -> int:
        if not text.isdigit() or len(text) > 20:
            raise self._error(f"{what} is not a number")
        value = int(text)
        if value > _SIZE_MAX:
            raise self._error(f"{what} is impossible")
        return value

    def _apply_pax(self, entry: Header) -> tuple[tuple[tuple[int, int], ...] | None, int | None, bool]:
        """Let the pax records overrule the fields of *entry*; return (sparse runs, real size, map is in the data)."""
        records = {**self._globals, **self._pax} if self._globals else self._pax
        xattrs: list[tuple[bytes, bytes]] = []
        for key, value in records.items():
            if key == b"mtime":
                if value:
                    entry.mtime_ns = self._time(value)
            elif key[:13] == _XATTR:
                if key[13:]:
                    xattrs.append((key[13:], value))
            elif not value:
                continue  # an empty value takes a global record back
            elif key == b"path":
                entry.name = value
            elif key == b"linkpath":
                entry.linkname = value
            elif key == b"size":
                entry.size_bytes = self._decimal(value, "size")
            elif key == b"uid":
                entry.uid = self._decimal(value, "uid")
            elif key == b"gid":
                entry.gid = self._decimal(value, "gid")
        entry.xattrs = tuple(xattrs)
        if records.get(b"GNU.sparse.name"):
            entry.name = records[b"GNU.sparse.name"]
        if records.get(b"GNU.sparse.major"):
            version = records[b"GNU.sparse.major"] + b"." + records.get(b"GNU.sparse.minor", b"0")
            if version == b"1.0":
                return None, self._decimal(records.get(b"GNU.sparse.realsize", b""), "sparse size"), True
        size = records.get(b"GNU.sparse.size")
        if size is None:
            return None, None, False
        if b"GNU.sparse.map" in records:
            numbers = records[b"GNU.sparse.map"].split(b",")
            if numbers == [b""]:
                numbers = []
            if len(numbers) % 2 or len(numbers) > 2 * SPARSE_MAX_RUNS:
                raise self._error("malformed sparse map")
            values = [self._decimal(n, "sparse map") for n in numbers]
            runs = list(zip(values[::2], values[1::2], strict=True))
        else:
            runs = self._pax_runs
        return tuple(runs), self._decimal(size, "sparse size"), False

    def _time(self, text: bytes) -> int:
        whole, _, fraction = text.partition(b".")
        negative = whole[:1] == b"-"
        digits = whole[1:] if negative else whole
        if len(digits) > 20 or not (digits + fraction).isdigit():
            raise self._error("mtime is not a number")
        value = int(digits or b"0") * 1_000_000_000 + int((fraction + b"000000000")[:9])
        return -value if negative else value

    # ---- sparse files

    def _checked(self, runs: tuple[tuple[int, int], ...], size: int, stored: int) -> tuple[tuple[int, int], ...]:
        end = total = 0
        for offset, length in runs:
            if offset < end or length < 0:
                raise self._error("malformed sparse map")
            end = offset + length
            total += length
        if end > size or total != stored:
            raise self._error("sparse map does not fit the file")
        return tuple([run for run in runs if run[1]])

    def _old_sparse(self, entry: Header, block: bytes) -> Header | None:
        """The old GNU format: four runs in the header, then blocks of 21 more."""
        entry.type = REGULAR
        self._entry, self._left, self._runs = entry, entry.size_bytes, []
        entry.size_bytes = self._number(block[483:495], "sparse size")
        if not 0 <= entry.size_bytes <= _SIZE_MAX:
            raise self._error("impossible size")
        self._add_runs(block, 386, 4)
        if block[482]:
            self._wanted, self._state = BLOCK, _EXTENSION
            return None
        return self._sparse_ready()

    def _extension(self, block: bytes) -> Header | None:
        self._add_runs(block, 0, 21)
        return None if block[504] else self._sparse_ready()

    def _add_runs(self, block: bytes, at: int, count: int) -> None:
        for i in range(at, at + 24 * count, 24):
            if block[i] == 0:
                return
            if len(self._runs) >= SPARSE_MAX_RUNS:
                raise self._error("sparse map too large")
            self._runs.append(
                (self._number(block[i : i + 12], "sparse map"), self._number(block[i + 12 : i + 24], "sparse map"))
            )

    def _map(self, block: bytes) -> Header | None:
        """Format 1.0: the map is text in the first blocks of the data, a number a line: count, offset, length ..."""
        self._collected += block
        self._left -= len(block)
        if self._left < 0 or len(self._collected) > _MAP_MAX_BYTES:
            raise self._error("malformed sparse map")
        lines = self._collected.split(b"\n")
        if len(lines) == 1:
            raise self._error("malformed sparse map")
        count = self._decimal(lines[0], "sparse map")
        if count > SPARSE_MAX_RUNS:
            raise self._error("sparse map too large")
        missing = 1 + 2 * count - (len(lines) - 1)
        if missing > 0:
            # Splitting again for every block would be quadratic: ask at once for what so many numbers need at least.
            self._wanted = 2 * missing - 1 + -(2 * missing - 1) % BLOCK
            return None
        values = [self._decimal(text, "sparse map") for text in lines[1 : 1 + 2 * count]]
        self._runs = list(zip(values[::2], values[1::2], strict=True))
        return self._sparse_ready()

    def _sparse_ready(self) -> Header:
        entry = self._entry
        assert entry is not None
        self._entry = None
        entry.sparse = self._checked(tuple(self._runs), entry.size_bytes, self._left)
        self._runs = []
        return self._begin_data(entry, self._left)
