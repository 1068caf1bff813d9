"""What a container uses: from its cgroup, else added up over its processes in /proc.

Units:  bytes, nanoseconds of CPU time
Source: cgroup-v2.rst "memory.current", "cpu.stat", "io.stat", "pids.current"; proc(5); libpod/stats_linux.go's numbers
"""

from __future__ import annotations

import os
import posix

from rootless.spec.record import record

_TICKS = posix.sysconf("SC_CLK_TCK")
_PAGE_BYTES = posix.sysconf("SC_PAGE_SIZE")


@record
class Usage:
    """One look at a container. *from_cgroup* is false for numbers from /proc, which miss what has ended."""

    cpu_ns: int = 0
    memory: int = 0
    memory_limit: int = 0
    net_input: int = 0
    net_output: int = 0
    block_input: int = 0
    block_output: int = 0
    pids: int = 0
    from_cgroup: bool = False


def usage(pid: int, path: str) -> Usage:
    """Return what the container with first process *pid* and the cgroup at *path* ("" for none) uses."""
    net_input, net_output = _network(pid)
    memory_limit = _host_memory()
    if path and os.path.exists(f"{path}/cgroup.procs"):
        limit = _text(f"{path}/memory.max").strip()
        read, written = _blocks(_text(f"{path}/io.stat"))
        memory = _number(_text(f"{path}/memory.current"))
        pids = _number(_text(f"{path}/pids.current"))
        family: list[int] = []
        if not memory or not pids:  # controllers that are not delegated
            family = processes_of(pid)
        return Usage(
            cpu_ns=_field(_text(f"{path}/cpu.stat"), "usage_usec") * 1000,
            memory=memory or sum([_memory(one) for one in family]),
            memory_limit=min(int(limit), memory_limit) if limit.isdigit() else memory_limit,
            net_input=net_input,
            net_output=net_output,
            block_input=read,
            block_output=written,
            pids=pids or sum([_times(one)[1] for one in family]),
            from_cgroup=True,
        )
    family = processes_of(pid)
    times = [_times(one) for one in family]
    blocks = [_io(one) for one in family]
    return Usage(
        cpu_ns=sum([ticks for ticks, _ in times]) * 1_000_000_000 // _TICKS,
        memory=sum([_memory(one) for one in family]),
        memory_limit=memory_limit,
        net_input=net_input,
        net_output=net_output,
        block_input=sum([read for read, _ in blocks]),
        block_output=sum([written for _, written in blocks]),
        pids=sum([threads for _, threads in times]),
    )


def processes_of(first: int) -> list[int]:
    """Return the container's processes: those of its pid namespace, or without one of its own its descendants."""
    every = [int(name) for name in posix.listdir("/proc") if name[0] in "123456789"]
    own = _namespace(first)
    if own and own != _namespace("self"):
        return sorted([pid for pid in every if pid == first or _namespace(pid) == own])
    parents: dict[int, int] = {}
    for pid in every:
        words = _stat(pid)
        if words:
            parents[pid] = int(words[1])
    family = {first} & set(every)
    grown = bool(family)
    while grown:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        grown = bool(more)
        family |= more
    return sorted(family)


def _namespace(pid: int | str) -> str:
    try:
        return posix.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return posix.read(fd, 1 << 16).decode("ascii", "replace")
    except OSError:
        return ""  # it has ended
    finally:
        posix.close(fd)


def _number(text: str) -> int:
    word = text.strip()
    return int(word) if word.isdigit() else 0


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key.rstrip(":") == name:
            return _number(value.partition(" kB")[0])
    return 0


def _blocks(text: str) -> tuple[int, int]:
    read = written = 0
    for line in text.splitlines():
        for word in line.split()[1:]:
            key, _, value = word.partition("=")
            if key == "rbytes":
                read += _number(value)
            elif key == "wbytes":
                written += _number(value)
    return read, written


def _stat(pid: int) -> list[str]:
    """Return the words of /proc/PID/stat behind the name, which may hold anything: field n at n - 3."""
    text = _text(f"/proc/{pid}/stat")
    return text[text.rindex(")") + 2 :].split() if ")" in text else []


def _times(pid: int) -> tuple[int, int]:
    """Return (ticks of CPU with those of children that have ended, threads)."""
    words = _stat(pid)
    if len(words) < 18:
        return 0, 0
    return sum([int(word) for word in words[11:15]]), int(words[17])


def _memory(pid: int) -> int:
    words = _text(f"/proc/{pid}/statm").split()
    # What is shared with others counts once for each, as in `ps`; a cgroup counts it once.
    return int(words[1]) * _PAGE_BYTES if len(words) > 1 else 0


def _io(pid: int) -> tuple[int, int]:
    text = _text(f"/proc/{pid}/io")
    return _field(text, "read_bytes"), _field(text, "write_bytes")


def _network(pid: int) -> tuple[int, int]:
    """Return the bytes received and sent by the interfaces of the process's network namespace."""
    received = sent = 0
    for line in _text(f"/proc/{pid}/net/dev").splitlines()[2:]:
        name, _, rest = line.partition(":")
        words = rest.split()
        if name.strip() != "lo" and len(words) > 8:
            received += int(words[0])
            sent += int(words[8])
    return received, sent


def _host_memory() -> int:
    for line in _text("/proc/meminfo").splitlines():
        words = line.split()
        if words[0] == "MemTotal:":
            return int(words[1]) * 1024
    return 0
