"""The processes of a container, seen from the host: what `top` prints for each of podman's descriptors.

A process belongs to the container when it is in the pid namespace of the container's first process. Ids are shown as
the container's user namespace maps them, names as its passwd and group files have them.

Source: proc(5); podman-top(1) of podman 4.3 and the formats of its psgo library, observed
"""

from __future__ import annotations

import posix
import time

from rootless.spec import caps, moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT = ("user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args")
# AIX's spellings of format descriptors
AIX = {
    "%C": "pcpu", "%G": "group", "%P": "ppid", "%U": "user", "%a": "args", "%c": "comm", "%g": "rgroup", "%n": "nice",
    "%p": "pid", "%r": "pgid", "%t": "etime", "%u": "ruser", "%x": "time", "%y": "tty", "%z": "vsz",
}  # fmt: skip
_TICKS = posix.sysconf("SC_CLK_TCK")
_PAGE_KIB = posix.sysconf("SC_PAGE_SIZE") // 1024
_SECCOMP = {"0": "disabled", "1": "strict", "2": "filter"}
_PTS_MAJORS = range(136, 144)


class Around:
    """What is the same for all processes of a container: its maps, its names, the time."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.space = _link(f"/proc/{pid}/ns/pid")
        self.depth = max(len(_fields(f"/proc/{pid}/status").get("NSpid", "").split()) - 1, 0)
        self.uids, self.gids = _map(f"/proc/{pid}/uid_map"), _map(f"/proc/{pid}/gid_map")
        self.users, self.groups = _names(f"/proc/{pid}/root/etc/passwd"), _names(f"/proc/{pid}/root/etc/group")
        self.now_ns = time.time_ns()
        self.up_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def user(self, uid: str) -> str:
        inner = _inside(self.uids, int(uid))
        return self.users.get(inner, inner)

    def group(self, gid: str) -> str:
        inner = _inside(self.gids, int(gid))
        return self.groups.get(inner, inner)


class Process:
    """One process: the words of its files in /proc."""

    def __init__(self, around: Around, pid: int) -> None:
        self.around, self.pid = around, pid
        text = _read(f"/proc/{pid}/stat")
        self.comm = text[text.index("(") + 1 : text.rindex(")")]
        # field n of proc_pid_stat(5) is at n - 3
        self.stat = text[text.rindex(")") + 2 :].split()
        self.status = _fields(f"/proc/{pid}/status")
        self.elapsed_ns = max(around.up_ns - int(self.stat[19]) * moment.SECOND_NS // _TICKS, 1)
        self.cpu_ns = (int(self.stat[11]) + int(self.stat[12])) * moment.SECOND_NS // _TICKS

    def inner(self, name: str) -> str:
        """Return the number that the container knows the process, or its group, by."""
        numbers = self.status.get(name, "").split()
        return numbers[self.around.depth] if len(numbers) > self.around.depth else (numbers or ["0"])[-1]

    def ids(self, name: str) -> list[str]:
        return self.status.get(name, "").split() or ["0", "0", "0", "0"]


def processes(pid: int) -> list[Process]:
    """Return the processes of the container whose first process is *pid*, by their numbers."""
    around = Around(pid)
    found = []
    for name in posix.listdir("/proc"):
        if name[0] in "123456789" and (int(name) == pid or _link(f"/proc/{name}/ns/pid") == around.space != ""):
            try:
                found.append(Process(around, int(name)))
            except (OSError, ValueError, IndexError):
                continue  # it has just ended
    return sorted(found, key=lambda process: int(process.inner("NSpid")))


def table(pid: int, descriptors: Sequence[str]) -> list[list[str]]:
    """Return the heading and a row for each process of the container."""
    every = processes(pid)
    parents = {process.pid: process.inner("NSpid") for process in every}
    rows = [[DESCRIPTORS[name][0] for name in descriptors]]
    for process in every:
        row = []
        for name in descriptors:
            row.append(parents.get(int(process.stat[1]), "0") if name == "ppid" else DESCRIPTORS[name][1](process))
        rows.append(row)
    return rows


def descriptors_of(words: Sequence[str]) -> tuple[str, ...] | None:
    """Return the descriptors that *words* name, None when one of them is not a descriptor (then it is for ps)."""
    found = []
    for word in words or DEFAULT:
        for name in word.split(","):
            name = AIX.get(name, name.lower())
            if name not in DESCRIPTORS:
                return None
            found.append(name)
    return tuple(found)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _link(path: str) -> str:
    try:
        return posix.readlink(path)
    except OSError:
        return ""


def _fields(path: str) -> dict[str, str]:
    try:
        lines = _read(path).splitlines()
    except OSError:
        return {}
    return {key: value.strip() for key, _, value in [line.partition(":") for line in lines]}


def _map(path: str) -> list[tuple[int, int, int]]:
    """Return (inside, outside as we see it, count) of an id map."""
    try:
        return [(int(a), int(b), int(c)) for a, b, c in [line.split() for line in _read(path).splitlines()]]
    except (OSError, ValueError):
        return []


def _inside(ranges: list[tuple[int, int, int]], number: int) -> str:
    for inside, outside, count in ranges:
        if outside <= number < outside + count:
            return str(inside + number - outside)
    return str(number)


def _names(path: str) -> dict[str, str]:
    """Return id -> name of a passwd or group file; the first line of an id counts."""
    found: dict[str, str] = {}
    try:
        for line in _read(path).splitlines():
            words = line.split(":")
            if len(words) > 2:
                found.setdefault(words[2], words[0])
    except OSError:
        pass
    return found


def _capabilities(name: str) -> Callable[[Process], str]:
    def shown(process: Process) -> str:
        bits = int(process.status.get(name, "0"), 16)
        if bits == 0:
            return "none"
        return "full" if bits & caps.ALL == caps.ALL else ",".join(sorted([c[4:] for c in caps.names(bits)]))

    return shown


def _args(process: Process) -> str:
    try:
        text = _read(f"/proc/{process.pid}/cmdline")
    except OSError:
        text = ""
    return text.replace("\0", " ") if text else f"[{process.comm}]"


def _tty(process: Process) -> str:
    number = int(process.stat[4])
    major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
    if major in _PTS_MAJORS:
        return f"pts/{(major - _PTS_MAJORS.start) * 256 + minor}"
    return f"tty{minor}" if major == 4 else "?"


def _start(process: Process) -> str:
    from rootless.spec.moment import go_string

    ns = (process.around.now_ns - process.elapsed_ns) // moment.SECOND_NS * moment.SECOND_NS
    there = time.localtime(ns // moment.SECOND_NS)
    return go_string(ns, there.tm_gmtoff, there.tm_zone)


def _label(process: Process) -> str:
    try:
        return _read(f"/proc/{process.pid}/attr/current").strip("\0\n") or "?"
    except OSError:
        return "?"


# descriptor -> (heading, how it is made)
DESCRIPTORS: dict[str, tuple[str, Callable[[Process], str]]] = {
    "args": ("COMMAND", _args),
    "capamb": ("AMBIENT CAPS", _capabilities("CapAmb")),
    "capbnd": ("BOUNDING CAPS", _capabilities("CapBnd")),
    "capeff": ("EFFECTIVE CAPS", _capabilities("CapEff")),
    "capinh": ("INHERITED CAPS", _capabilities("CapInh")),
    "capprm": ("PERMITTED CAPS", _capabilities("CapPrm")),
    "comm": ("COMMAND", lambda p: p.comm),
    "etime": ("ELAPSED", lambda p: moment.span_text(p.elapsed_ns)),
    "group": ("GROUP", lambda p: p.around.group(p.ids("Gid")[1])),
    "groups": ("GROUPS", lambda p: ",".join([p.around.group(gid) for gid in p.status.get("Groups", "").split()])),
    "hgroup": ("HGROUP", lambda p: p.ids("Gid")[1]),
    "hgroups": ("HGROUPS", lambda p: ",".join(p.status.get("Groups", "").split())),
    "hpid": ("HPID", lambda p: str(p.pid)),
    "huser": ("HUSER", lambda p: p.ids("Uid")[1]),
    "label": ("LABEL", _label),
    "nice": ("NI", lambda p: p.stat[16]),
    "pcpu": ("%CPU", lambda p: f"{100 * p.cpu_ns / p.elapsed_ns:.3f}"),
    "pgid": ("PGID", lambda p: p.inner("NSpgid")),
    "pid": ("PID", lambda p: p.inner("NSpid")),
    "ppid": ("PPID", lambda p: p.stat[1]),
    "rgroup": ("RGROUP", lambda p: p.around.group(p.ids("Gid")[0])),
    "rss": ("RSS", lambda p: str(int(p.stat[21]) * _PAGE_KIB)),
    "ruser": ("RUSER", lambda p: p.around.user(p.ids("Uid")[0])),
    "seccomp": ("SECCOMP", lambda p: _SECCOMP.get(p.status.get("Seccomp", ""), "?")),
    "state": ("STATE", lambda p: p.stat[0]),
    "stime": ("STIME", _start),
    "time": ("TIME", lambda p: moment.span_text(p.cpu_ns)),
    "tty": ("TTY", _tty),
    "user": ("USER", lambda p: p.around.user(p.ids("Uid")[1])),
    "vsz": ("VSZ", lambda p: str(int(p.stat[20]) // 1024)),
}
