"""Decide which ids a user namespace gets: `--userns` and what is known about the caller -> IdMapPlan.

There are at most two namespaces. The *outer* one is shared by everything that a user runs: root
inside is the user outside, and the subordinate ids follow from 1. `keep-id`, `nomap` and maps of the
caller's own put the container into a second, *inner* one whose ids are a rearrangement of the outer's.

    host, ''    outer   0 -> user, 1.. -> subordinate ids                  inner  none
    keep-id     outer   the same                                           inner  user -> 0, the others in order
    nomap       outer   the same                                           inner  0.. -> 1.., the user nowhere
    single      outer   0 -> user and nothing else                         inner  none
    maps        outer   as host                                            inner  --uidmap, --gidmap, --subuidname

Without ranges or without newuidmap the outer map is the single one, whatever was asked. Root (of a
container that we run in, or of the machine) needs neither: it writes the map that its namespace has.

Source: podman-run(1) "--userns"; user_namespaces(7); newuidmap(1)
"""

from __future__ import annotations

from rootless.errors import NotSupported, UsageError
from rootless.spec.idmap import IdFacts, IdMap, IdRange, disjoint, identity, single
from rootless.spec.record import record, replace

TOOLS, DIRECT, SINGLE = "tools", "direct", "single"
"""How a map is written: by newuidmap and newgidmap, by ourselves with CAP_SETUID, by ourselves as one id."""

NOT_YET = ("auto", "container", "ns", "private")
RANGE_SIZE = 65536


@record
class UsernsMode:
    """A parsed `--userns`: *kind* is host, keep-id, nomap, single or maps; ids only with keep-id.

    Shape: with maps, *uids* and *gids* are (container, outer, size), *named_uids* and *named_gids* (start, size) on the
           host, which become 0.. of the container; what is empty is taken from the other
    """

    kind: str
    uid: int | None = None
    gid: int | None = None
    uids: tuple[tuple[int, int, int], ...] = ()
    gids: tuple[tuple[int, int, int], ...] = ()
    named_uids: tuple[tuple[int, int], ...] = ()
    named_gids: tuple[tuple[int, int], ...] = ()


@record
class IdMapPlan:
    """What to write into which map, complete: nothing is looked up after this."""

    kind: str
    """The mode that was asked: host, keep-id, nomap, single, maps."""
    how: str
    """TOOLS, DIRECT or SINGLE."""
    outer_uids: IdMap
    outer_gids: IdMap
    newuidmap: str = ""
    newgidmap: str = ""
    setgroups: bool = True
    """False: "deny" goes into /proc/PID/setgroups before gid_map, or is there already."""
    inner_uids: IdMap | None = None
    """The container's own map in terms of the outer namespace's ids; None: it shares the outer one."""
    inner_gids: IdMap | None = None
    user: tuple[int, int] | None = None
    """The ids that the container's process has without --user, None for the image's."""
    warnings: tuple[str, ...] = ()

    @property
    def shared(self) -> bool:
        """Whether the outer namespace is the default one, which a live supervisor may hold already."""
        return self.kind != SINGLE

    @property
    def squashes(self) -> bool:
        """Whether owners of an image have no ids of their own."""
        return self.outer_uids.size == 1

    def enter_args(self) -> tuple[str, str, str, str, str, str]:
        """Return the plan of the outer map as plain strings for the program `enter`.

        Shape: (how, "allow" or "deny", uid map, gid map, path of newuidmap, path of newgidmap);
               a map is the text of /proc/PID/uid_map, its words are also the tools' arguments
        """
        allow = "allow" if self.setgroups else "deny"
        return self.how, allow, self.outer_uids.text(), self.outer_gids.text(), self.newuidmap, self.newgidmap


def parse_mode(text: str) -> UsernsMode:
    """Read the value of --userns.

    Raises: UsageError in podman's words for what is no mode, NotSupported for modes of podman that we lack
    """
    kind, colon, rest = text.partition(":")
    if kind == "keep-id":
        uid = gid = None
        for option in rest.split(",") if colon else ():
            key, equals, value = option.partition("=")
            if not equals:
                raise UsageError(f'invalid option specified: "{option}"')
            if key not in ("uid", "gid"):
                raise UsageError(f'unknown option specified: "{key}"')
            if not (value.isascii() and value.isdigit()):
                raise UsageError(f'strconv.ParseUint: parsing "{value}": invalid syntax')
            if int(value) >= (1 << 32) - 1:
                raise UsageError(f'strconv.ParseUint: parsing "{value}": value out of range')
            if key == "uid":
                uid = int(value)
            else:
                gid = int(value)
        return UsernsMode("keep-id", uid, gid)
    if text in ("", "host"):
        return UsernsMode("host")
    if text in ("nomap", SINGLE):
        return UsernsMode(text)
    if kind in ("container", "ns") and not rest:
        name = "container" if kind == "container" else "path"
        raise UsageError(f"invalid config provided: namespace mode {name} requires a value")
    if kind in NOT_YET and (kind in ("container", "ns", "auto") or not colon):
        raise NotSupported(f"--userns {text}", ("this mode does not exist here yet",),
                           hint="use host, keep-id, nomap or single")  # fmt: skip
    raise UsageError(f"unrecognized namespace mode {text} passed")


def plan_userns(mode: UsernsMode, facts: IdFacts) -> IdMapPlan:
    """Return the plan of *mode* for the caller that *facts* describes.

    Raises: UsageError (keep-id and nomap for the machine's root), NotSupported (nomap without ranges)
    """
    if mode.kind in ("keep-id", "nomap") and facts.uid == 0 and facts.in_initial:
        raise UsageError(f"{mode.kind} is only supported in rootless mode")
    outer = _outer(mode.kind, facts)
    if mode.kind == "keep-id":
        uid = facts.uid if mode.uid is None else mode.uid
        gid = facts.gid if mode.gid is None else mode.gid
        return replace(outer, user=(uid, gid), inner_uids=_rearranged(outer.outer_uids, uid),
                       inner_gids=_rearranged(outer.outer_gids, gid))  # fmt: skip
    if mode.kind == "nomap":
        if outer.outer_uids.size < 2 or outer.outer_gids.size < 2:
            raise NotSupported("nomap requires additional UIDs or GIDs defined in /etc/subuid and /etc/subgid",
                               outer.warnings)  # fmt: skip
        return replace(outer, inner_uids=_rearranged(outer.outer_uids, None),
                       inner_gids=_rearranged(outer.outer_gids, None))  # fmt: skip
    if mode.kind == "maps":
        uids = _own_map("UID", mode.uids, mode.named_uids, outer.outer_uids)
        gids = _own_map("GID", mode.gids, mode.named_gids, outer.outer_gids)
        return replace(
            outer,
            inner_uids=uids or _own_map("UID", mode.gids, mode.named_gids, outer.outer_uids),
            inner_gids=gids or _own_map("GID", mode.uids, mode.named_uids, outer.outer_gids),
        )
    return outer


def parse_maps(texts: tuple[str, ...]) -> tuple[tuple[int, int, int], ...]:
    """Return CONTAINER:OUTER:SIZE as numbers; their form was judged when the flags were read."""
    found: list[tuple[int, int, int]] = []
    for text in texts:
        inside, outside, size = [int(word) for word in text.split(":")]
        found.append((inside, outside, size))
    return tuple(found)


def _own_map(
    what: str, asked: tuple[tuple[int, int, int], ...], named: tuple[tuple[int, int], ...], outer: IdMap
) -> IdMap:
    """Return the inner map, in pieces that reach over no two ranges of *outer*, which the kernel refuses (EPERM).

    Raises: UsageError - ids that do not exist, are mapped twice or are too many
    """
    pieces: list[IdRange] = []
    for inside, outside, size in asked:
        found = outer.extents(outside, size)
        if not size or sum([piece.size for piece in found]) != size:
            raise UsageError(
                f"{what}s {outside}..{outside + size - 1} of the map {inside}:{outside}:{size} do not exist: "
                f"{outer.size} id(s) are there",
                hint="the second number counts from 0, which is your own id; your subordinate ids follow from 1",
            )
        pieces += [IdRange(inside + piece.container - outside, piece.container, piece.size) for piece in found]
    at = 0
    for start, size in named:
        for piece in outer.invert().extents(start, size):
            # The inverted map says which outer ids these of the host are; a piece of it is one of the outer map too.
            pieces.append(IdRange(at, piece.host, piece.size))
            at += piece.size
    if named and not pieces:
        raise UsageError(f"none of the subordinate {what}s of this name are ours to map")
    try:
        return IdMap(tuple(pieces))
    except ValueError as error:
        raise UsageError(f"initializing ID mappings: {error}") from None


def plan_single(plan: IdMapPlan, mode: UsernsMode, facts: IdFacts, *, reason: str) -> IdMapPlan:
    """Return the plan to fall back to when writing *plan*'s map failed because of *reason*.

    Raises: NotSupported when *plan* was a single id already (there is nothing less)
    """
    if plan.how == SINGLE:
        raise NotSupported("user namespace", (reason,))
    less = replace(facts, sub_uids=(), sub_gids=(), may_set_ids=False, newuidmap="", newgidmap="")
    warning = f"{reason}: only one id is mapped, so owners in images are squashed; `rootless doctor` says what to do"
    return replace(plan_userns(mode, less), warnings=(warning,))


def _outer(kind: str, facts: IdFacts) -> IdMapPlan:
    if kind == SINGLE:
        return _one_id(kind, facts, ())
    if facts.uid == 0:
        if not facts.may_set_ids:
            return _one_id(kind, facts, (
                "this root lacks CAP_SETUID, CAP_SETGID or CAP_SETFCAP: only one id can be mapped, so owners in images "
                "are squashed; add these capabilities to the container that rootless runs in",
            ))  # fmt: skip
        warnings: tuple[str, ...] = ()
        if facts.in_initial:
            warnings = ("started by root, which rootless does not need: run it as an ordinary user",)
        elif facts.own_uids.size == 1 or facts.own_gids.size == 1:
            warnings = ("the user namespace that rootless runs in has a single id, so owners in images are squashed; "
                        "give it more ids",)  # fmt: skip
        return IdMapPlan(
            kind=kind, how=DIRECT, outer_uids=identity(facts.own_uids.ranges),
            outer_gids=identity(facts.own_gids.ranges), setgroups=facts.setgroups,
            warnings=warnings,
        )  # fmt: skip
    user = facts.name or str(facts.uid)
    if not facts.sub_uids or not facts.sub_gids:
        files = [f for f, r in (("/etc/subuid", facts.sub_uids), ("/etc/subgid", facts.sub_gids)) if not r]
        return _one_id(kind, facts, (
            f"no subordinate ids for {user} in {' and '.join(files)}: only one id can be mapped, so owners in images "
            f"are squashed; an administrator can grant them: {grant_command(facts)}",
        ))  # fmt: skip
    if not facts.newuidmap or not facts.newgidmap:
        tools = ("newuidmap", facts.newuidmap), ("newgidmap", facts.newgidmap)
        missing = " and ".join([name for name, path in tools if not path])
        return _one_id(kind, facts, (
            f"{missing} not found: the subordinate ids of {user} cannot be used, so owners in images are squashed; "
            f"an administrator can install it: {INSTALL_UIDMAP}",
        ))  # fmt: skip
    uids = _with_ranges(facts.uid, facts.sub_uids, facts.own_uids)
    gids = _with_ranges(facts.gid, facts.sub_gids, facts.own_gids)
    if uids.size == 1 or gids.size == 1:
        return _one_id(kind, facts, (
            f"the subordinate ids of {user} do not exist in the user namespace that rootless runs in: only one id can "
            "be mapped, so owners in images are squashed; give that container more ids",
        ))  # fmt: skip
    return IdMapPlan(kind=kind, how=TOOLS, outer_uids=uids, outer_gids=gids, newuidmap=facts.newuidmap,
                     newgidmap=facts.newgidmap, setgroups=facts.setgroups)  # fmt: skip


INSTALL_UIDMAP = "apt-get install uidmap (Debian, Ubuntu), dnf install shadow-utils (Fedora)"


def grant_command(facts: IdFacts) -> str:
    """Return the command with which an administrator gives the caller subordinate ids."""
    ids = f"{facts.free_id}-{facts.free_id + RANGE_SIZE - 1}"
    return f"usermod --add-subuids {ids} --add-subgids {ids} {facts.name or facts.uid}"


def _one_id(kind: str, facts: IdFacts, warnings: tuple[str, ...]) -> IdMapPlan:
    # Without privilege gid_map can only be written after setgroups is denied (CVE-2014-8989).
    return IdMapPlan(kind=kind, how=SINGLE, outer_uids=single(0, facts.uid), outer_gids=single(0, facts.gid),
                     setgroups=False, warnings=warnings)  # fmt: skip


def _with_ranges(own: int, ranges: tuple[tuple[int, int], ...], namespace: IdMap) -> IdMap:
    """Return 0 -> *own*, 1.. -> *ranges*, without ids that are mapped already or do not exist in *namespace*."""
    mapped = [IdRange(0, own, 1)]
    at = 1
    for start, size in disjoint(((own, 1), *ranges))[1:]:
        for piece in namespace.extents(start, size):
            mapped.append(IdRange(at, piece.container, piece.size))
            at += piece.size
    return IdMap(tuple(mapped))


def _rearranged(outer: IdMap, user: int | None) -> IdMap:
    """Return an inner map: *user* -> 0, every other outer id at the next free inner id, in order.

    Shape: podman's three ranges (0.. -> 1.., user -> 0, the rest unchanged) where the outer ids have no gap
    """
    mapped: list[IdRange] = []
    at = 0
    placed = user is None
    for start, size in disjoint([(0, 1), *sorted([(r.container, r.size) for r in outer.ranges])])[1:]:
        if user is not None and not placed and at + size > user >= at:
            below = user - at
            if below:
                mapped.append(IdRange(at, start, below))
            mapped.append(IdRange(user, 0, 1))
            placed, at, start, size = True, user + 1, start + below, size - below
        if size:
            mapped.append(IdRange(at, start, size))
            at += size
    if user is not None and not placed:
        mapped.append(IdRange(user, 0, 1))
    # Not merged: the kernel refuses (EPERM) a range that reaches over two ranges of the outer map.
    return IdMap(tuple(mapped))
