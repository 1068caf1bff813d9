"""What this machine says about our ids: subordinate ranges, newuidmap and newgidmap, our own map.

All of it is read once, before a user namespace is made, on the start-up path: one read for each file
and no helper program, except where /etc/nsswitch.conf puts the ranges into a directory service.

Source: subuid(5), subgid(5), getsubids(1), newuidmap(1), nsswitch.conf "subid", user_namespaces(7)
"""

from __future__ import annotations

import posix

from rootless.spec.idmap import ID_COUNT, IdFacts, disjoint, parse_map, single

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CAP_SETGID, _CAP_SETUID, _CAP_SETFCAP = 6, 7, 31


def read_text(path: str) -> str:
    """Return the text of a small file, empty where it cannot be read."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return ""
    try:
        parts: list[bytes] = []
        while part := posix.read(fd, 1 << 16):
            parts.append(part)
    except OSError:
        return ""
    finally:
        posix.close(fd)
    return b"".join(parts).decode("utf-8", "surrogateescape")


def find_tool(name: str, environ: Mapping[str, str]) -> str:
    """Return the path of the program *name*, empty where there is none.

    The directories of the system come after PATH: a batch job's PATH often lacks them.
    """
    for directory in f"{environ.get('PATH', '')}:{SEARCH_PATH}".split(":"):
        if directory.startswith("/"):
            path = f"{directory}/{name}"
            if posix.access(path, posix.X_OK):
                return path
    return ""


def user_name(uid: int) -> str:
    """Return the account's name, empty where the user database has none for *uid*."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def parse_subids(text: str, owners: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Return the (start, size) ranges of any of *owners* (the name, the uid as digits), in file order."""
    found: list[tuple[int, int]] = []
    for line in text.splitlines():
        words = line.strip().split(":")
        if len(words) == 3 and words[0] in owners and words[1].isdigit() and words[2].isdigit():
            start, size = int(words[1]), int(words[2])
            if size and start + size <= ID_COUNT:
                found.append((start, size))
    return tuple(found)


def first_free(text: str) -> int:
    """Return the first id above every range of a subuid or subgid file, 100000 at least."""
    end = 100000
    for line in text.splitlines():
        words = line.strip().split(":")
        if len(words) == 3 and words[1].isdigit() and words[2].isdigit():
            end = max(end, int(words[1]) + int(words[2]))
    return end


def parse_getsubids(text: str) -> tuple[tuple[int, int], ...]:
    """Return the (start, size) ranges of getsubids' answer, lines of `N: OWNER START COUNT`."""
    found: list[tuple[int, int]] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 4 and words[2].isdigit() and words[3].isdigit() and int(words[3]):
            found.append((int(words[2]), int(words[3])))
    return tuple(found)


def subid_service(nsswitch: str) -> str:
    """Return the service that nsswitch.conf names for `subid`, empty for the files."""
    for line in nsswitch.splitlines():
        key, colon, rest = line.partition("#")[0].partition(":")
        if colon and key.strip() == "subid":
            services = rest.split()
            return services[0] if services and services[0] != "files" else ""
    return ""


def _ask_getsubids(tool: str, argv: list[str]) -> str:
    """Run getsubids and return what it prints; it loads the directory service's module for us."""
    reading, writing = posix.pipe2(posix.O_CLOEXEC)
    try:
        null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        try:
            actions = [(posix.POSIX_SPAWN_DUP2, null, 0), (posix.POSIX_SPAWN_DUP2, null, 2),
                       (posix.POSIX_SPAWN_DUP2, writing, 1)]  # fmt: skip
            pid = posix.posix_spawn(tool, argv, {"PATH": SEARCH_PATH, "LC_ALL": "C"}, file_actions=actions)
        except OSError:
            return ""
        finally:
            posix.close(null)
    finally:
        posix.close(writing)
    try:
        parts: list[bytes] = []
        while part := posix.read(reading, 1 << 16):
            parts.append(part)
    finally:
        posix.close(reading)
    _, status = posix.waitpid(pid, 0)
    return b"".join(parts).decode("utf-8", "surrogateescape") if status == 0 else ""


def subordinate_ranges(
    uid: int, environ: Mapping[str, str], *, etc: str = "/etc"
) -> tuple[str, tuple[tuple[int, int], ...], tuple[tuple[int, int], ...], int]:
    """Return (account name, uid ranges, gid ranges, an id above all ranges of the files) of *uid*.

    The files are asked by name and by number. Where nsswitch.conf names another service, it alone
    counts, since newuidmap asks nobody else; `getsubids` speaks for it.

    Blocks: only with a directory service (runs getsubids)
    """
    name = user_name(uid)
    owners = (name, str(uid)) if name else (str(uid),)
    if subid_service(read_text(f"{etc}/nsswitch.conf")):
        tool = find_tool("getsubids", environ)
        if tool and name:
            uids = parse_getsubids(_ask_getsubids(tool, ["getsubids", name]))
            gids = parse_getsubids(_ask_getsubids(tool, ["getsubids", "-g", name]))
            return name, disjoint(uids), disjoint(gids), first_free("")
    uid_text, gid_text = read_text(f"{etc}/subuid"), read_text(f"{etc}/subgid")
    uids, gids = parse_subids(uid_text, owners), parse_subids(gid_text, owners)
    free = 0 if uids and gids else max(first_free(uid_text), first_free(gid_text))
    return name, disjoint(uids), disjoint(gids), free


def _effective_caps(proc: str) -> int:
    for line in read_text(f"{proc}/self/status").splitlines():
        if line.startswith("CapEff:"):
            return int(line[7:].strip(), 16)
    return 0


def read_facts(environ: Mapping[str, str], *, proc: str = "/proc", etc: str = "/etc") -> IdFacts:
    """Collect what `plan.userns.plan_userns` needs to know about the caller.

    Blocks: only with a directory service for subordinate ids
    """
    uid, gid = posix.geteuid(), posix.getegid()
    own_uids = parse_map(read_text(f"{proc}/self/uid_map")) or single(uid, uid)
    own_gids = parse_map(read_text(f"{proc}/self/gid_map")) or single(gid, gid)
    if uid == 0:
        # Root needs no ranges: it hands on the map that its namespace has, if it still has the capabilities.
        wanted = 1 << _CAP_SETUID | 1 << _CAP_SETGID | 1 << _CAP_SETFCAP
        return IdFacts(
            uid=uid, gid=gid, name="root", sub_uids=(), sub_gids=(), own_uids=own_uids, own_gids=own_gids,
            may_set_ids=_effective_caps(proc) & wanted == wanted,
            setgroups=read_text(f"{proc}/self/setgroups").strip() != "deny",
        )  # fmt: skip
    name, sub_uids, sub_gids, free = subordinate_ranges(uid, environ, etc=etc)
    return IdFacts(
        uid=uid, gid=gid, name=name, sub_uids=sub_uids, sub_gids=sub_gids, own_uids=own_uids, own_gids=own_gids,
        newuidmap=find_tool("newuidmap", environ), newgidmap=find_tool("newgidmap", environ),
        setgroups=read_text(f"{proc}/self/setgroups").strip() != "deny", free_id=free,
    )  # fmt: skip
