"""Id maps: which id in one user namespace is which id in another.

An `IdMap` has the meaning of a `/proc/PID/uid_map`: ids of an inner namespace ("container") on the
left, ids of an outer one ("host") on the right. Everything here is arithmetic; who may write which
map is decided in `plan/userns.py`, and `kernel/idmaps.py` reads files.

Source: user_namespaces(7) "User and group ID mappings"
"""

from __future__ import annotations

from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ID_COUNT = (1 << 32) - 1
"""How many ids there are: 4294967295 is "no id" and cannot be mapped."""

MAX_EXTENTS = 340
"""What one uid_map holds (five before Linux 4.15)."""

OVERFLOW_ID = 65534
"""What the kernel shows for an id that is not mapped (its default; see /proc/sys/kernel/overflowuid)."""


@record
class IdRange:
    """*size* consecutive ids, from *container* inside and from *host* outside."""

    container: int
    host: int
    size: int


@record
class IdMap:
    """An ordered set of ranges that overlap on neither side; falsy when it maps nothing.

    Raises: ValueError from the constructor for a map that the kernel would refuse
    """

    ranges: tuple[IdRange, ...] = ()

    def __post_init__(self) -> None:
        for side in ("container", "host"):
            end = 0
            for start, size in sorted((getattr(r, side), r.size) for r in self.ranges):
                if size < 1 or start < 0 or start + size > ID_COUNT:
                    raise ValueError(f"id range {start}+{size} does not exist")
                if start < end:
                    raise ValueError(f"{side} id {start} is mapped twice")
                end = start + size
        if len(self.ranges) > MAX_EXTENTS:
            raise ValueError(f"an id map has at most {MAX_EXTENTS} ranges, not {len(self.ranges)}")

    def __bool__(self) -> bool:
        return bool(self.ranges)

    @property
    def size(self) -> int:
        """Return how many ids are mapped."""
        return sum([r.size for r in self.ranges])

    def lookup(self, container: int) -> int | None:
        """Return the outer id of the inner id *container*, None where it has none."""
        for r in self.ranges:
            if 0 <= container - r.container < r.size:
                return r.host + container - r.container
        return None

    def lookup_host(self, host: int) -> int | None:
        """Return the inner id of the outer id *host*, None where it has none."""
        for r in self.ranges:
            if 0 <= host - r.host < r.size:
                return r.container + host - r.host
        return None

    def invert(self) -> IdMap:
        """Return the map with its sides exchanged."""
        return IdMap(tuple([IdRange(r.host, r.container, r.size) for r in self.ranges]))

    def extents(self, container: int, size: int) -> tuple[IdRange, ...]:
        """Return the pieces of the inner ids *container* .. +*size* that are mapped, in ascending order."""
        end = container + size
        pieces: list[IdRange] = []
        for r in sorted(self.ranges, key=_by_container):
            start, stop = max(container, r.container), min(end, r.container + r.size)
            if start < stop:
                pieces.append(IdRange(start, r.host + start - r.container, stop - start))
        return tuple(pieces)

    def compose(self, outer: IdMap) -> IdMap:
        """Return the map from our inner ids to *outer*'s outer ids; what *outer* lacks falls out.

        Shape: a piece for every range of ours and every range of *outer* that it touches
        """
        pieces: list[IdRange] = []
        for r in self.ranges:
            for piece in outer.extents(r.host, r.size):
                pieces.append(IdRange(r.container + piece.container - r.host, piece.host, piece.size))
        return IdMap(tuple(pieces))

    def merged(self) -> IdMap:
        """Return the same map in ascending order with adjacent ranges joined."""
        joined: list[IdRange] = []
        for r in sorted(self.ranges, key=_by_container):
            last = joined[-1] if joined else None
            if last and last.container + last.size == r.container and last.host + last.size == r.host:
                joined[-1] = IdRange(last.container, last.host, last.size + r.size)
            else:
                joined.append(r)
        return IdMap(tuple(joined))

    def same_ids(self, other: IdMap) -> bool:
        """Say whether both map the same ids to the same ids, however they are cut into ranges."""
        return self.merged() == other.merged()

    def text(self) -> str:
        """Return what is written to /proc/PID/uid_map: a line "container host size" for each range."""
        return "".join([f"{r.container} {r.host} {r.size}\n" for r in self.ranges])

    def triples(self) -> tuple[tuple[int, int, int], ...]:
        """Return the ranges as plain (container, host, size) tuples."""
        return tuple([(r.container, r.host, r.size) for r in self.ranges])


def _by_container(r: IdRange) -> int:
    return r.container


def id_map(*triples: tuple[int, int, int]) -> IdMap:
    """Make a map of (container, host, size) triples."""
    return IdMap(tuple([IdRange(c, h, n) for c, h, n in triples]))


def parse_map(text: str) -> IdMap:
    """Read the text of a /proc/PID/uid_map; what is not three numbers in a line is skipped."""
    ranges: list[IdRange] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[0].isdigit() and words[1].isdigit() and words[2].isdigit():
            ranges.append(IdRange(int(words[0]), int(words[1]), int(words[2])))
    return IdMap(tuple(ranges))


def identity(ids: Iterable[IdRange]) -> IdMap:
    """Return the map that gives every inner id of *ids* to itself: all that a namespace has, unchanged.

    Shape: range by range: the kernel refuses one (EPERM) that reaches over two of the outer map, even when they are
           neighbours
    """
    return IdMap(tuple([IdRange(r.container, r.container, r.size) for r in ids]))


def single(container: int, host: int) -> IdMap:
    """Return the map of one id, which a user may always write for itself."""
    return IdMap((IdRange(container, host, 1),))


def disjoint(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return (start, size) ranges in their order without what an earlier one already has.

    Files of ranges may overlap; a map must not, or the kernel refuses all of it.
    """
    kept: list[tuple[int, int]] = []
    for start, size in ranges:
        pieces = [(max(start, 0), min(start + size, ID_COUNT))]
        for taken, count in kept:
            rest: list[tuple[int, int]] = []
            for low, high in pieces:
                rest.append((low, min(high, taken)))
                rest.append((max(low, taken + count), high))
            pieces = [(low, high) for low, high in rest if low < high]
        kept.extend([(low, high - low) for low, high in pieces if low < high])
    return tuple(kept)


@record
class IdFacts:
    """What is known about the caller before a user namespace is made; `kernel.idmaps.read_facts` fills it."""

    uid: int
    gid: int
    name: str
    sub_uids: tuple[tuple[int, int], ...]
    """Subordinate ranges (start, size), in the order of their files; empty without any."""
    sub_gids: tuple[tuple[int, int], ...]
    own_uids: IdMap
    """The map of the namespace we run in; `0 0 4294967295` in the machine's own."""
    own_gids: IdMap
    newuidmap: str = ""
    """Path of the tool, empty where it is not installed."""
    newgidmap: str = ""
    may_set_ids: bool = False
    """Whether we hold CAP_SETUID and CAP_SETGID (and CAP_SETFCAP, to map id 0) in our namespace."""
    setgroups: bool = True
    """Whether setgroups(2) is allowed in our namespace (inherited by every one below it)."""
    free_id: int = 100000
    """The first id above all ranges that are given to anybody: where new ones could begin."""

    @property
    def in_initial(self) -> bool:
        """Whether we run with the machine's own ids."""
        return self.own_uids.triples() == ((0, 0, ID_COUNT),)
