"""`rootless stats`: what containers use, again and again.

Source: podman-stats(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys
import time

from rootless.cli import output
from rootless.cli.parser import Command, parse
from rootless.engine import listing
from rootless.engine.usage import Usage, usage
from rootless.errors import UsageError
from rootless.spec import moment
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.parser import Parsed
    from rootless.engine.listing import Listed
    from rootless.plan.options import GlobalOptions
    from rootless.store.layout import Roots

COMMAND = Command(
    name="stats",
    summary="Display a live stream of container resource usage statistics",
    usage="[options] [CONTAINER...]",
    description="Display percentage of CPU, memory, network I/O, block I/O and PIDs for one or more containers.",
    flags=(
        ("all", "a", "bool", "", "", "Show all containers. Only running containers are shown by default", ""),
        ("format", "", "string", "", "", "Pretty-print container statistics to JSON or using a Go template", ""),
        ("interval", "i", "int", "", "5", "Time in seconds between stats reports", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
        ("no-reset", "", "bool", "", "", "Disable resetting the screen between intervals", ""),
        ("no-stream", "", "bool", "", "", "Disable streaming stats and only pull the first result", ""),
        ("no-trunc", "", "bool", "", "", "Do not truncate output", ""),
    ),
    examples=(
        "stats --all --no-stream",
        "stats ctrID",
        'stats --no-stream --format "table {{.ID}} {{.Name}} {{.MemUsage}}" ctrID',
    ),
)
COLUMNS = (
    ("ID", "ID"), ("NAME", "Name"), ("CPU %", "CPUPerc"), ("MEM USAGE / LIMIT", "MemUsage"), ("MEM %", "MemPerc"),
    ("NET IO", "NetIO"), ("BLOCK IO", "BlockIO"), ("PIDS", "PIDS"), ("CPU TIME", "UpTime"), ("AVG CPU %", "AVGCPU"),
)  # fmt: skip
_HEADINGS = {"CPU": "CPU %", "MemUsageBytes": "MEM USAGE / LIMIT"}
_ALIVE = ("running", "paused")
_CLEAR = "\033[H\033[2J"
_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


class Look:
    """One look at a container, and the one before it."""

    def __init__(self, one: Listed, before: Look | None) -> None:
        self.one = one
        path = str((one.data.get("cgroup") or {}).get("path") or "")
        self.usage = usage(one.pid, path) if one.pid and one.status in _ALIVE else Usage()
        self.time_ns = time.time_ns()
        started = one.moment("started")
        begun_ns, begun_cpu = (started, 0) if before is None else (before.time_ns, before.usage.cpu_ns)
        self.cpu = _percent(self.usage.cpu_ns - begun_cpu, self.time_ns - (begun_ns or self.time_ns))
        self.average = _percent(self.usage.cpu_ns, self.time_ns - (started or self.time_ns))

    def row(self, trunc: bool) -> dict[str, Any]:
        """Return the fields of podman's template."""
        now, one = self.usage, self.one
        cid = one.id[:12] if trunc else one.id
        return {
            "ID": cid,
            "ContainerID": one.id,
            "Name": one.name,
            "CPUPerc": _share(self.cpu),
            "CPU": self.cpu,
            "AVGCPU": _share(self.average),
            "AvgCPU": self.average,
            "CPUNano": now.cpu_ns,
            "MemUsage": _pair(now.memory, now.memory_limit),
            "MemUsageBytes": f"{_scaled(now.memory, 1024, _BINARY)} / {_scaled(now.memory_limit, 1024, _BINARY)}",
            "MemLimit": now.memory_limit,
            "MemPerc": _share(100.0 * now.memory / now.memory_limit if now.memory_limit else 0.0),
            "NetIO": _pair(now.net_input, now.net_output),
            "NetInput": now.net_input,
            "NetOutput": now.net_output,
            "BlockIO": _pair(now.block_input, now.block_output),
            "BlockInput": now.block_input,
            "BlockOutput": now.block_output,
            "PIDS": str(now.pids),
            "PIDs": now.pids,
            "UpTime": moment.span_text(now.cpu_ns),
            "Up": moment.span_text(now.cpu_ns),
        }


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print a table for each interval, or once. Blocks: until it is interrupted, without --no-stream"""
    from rootless.cli.main import warn

    parsed, options = parse(COMMAND, argv, options)
    if sum([bool(parsed.args), parsed.flag("all"), parsed.flag("latest")]) > 1:
        raise UsageError("--all, --latest and containers cannot be used together")
    interval = 5 if parsed.number("interval") is None else int(parsed.number("interval") or 0)
    if interval < 1:
        raise UsageError("invalid interval, must be a positive number greater zero")
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    before: dict[str, Look] = {}
    said: set[str] = set()
    stream = not parsed.flag("no-stream")
    while True:
        looks = [Look(one, before.get(one.id)) for one in _chosen(roots, parsed)]
        for look in looks:
            if look.one.status in _ALIVE and not look.usage.from_cgroup and look.one.id not in said:
                said.add(look.one.id)
                warn(f"{look.one.name} has no cgroup of its own: its numbers are added up over its processes")
        if stream and not parsed.flag("no-reset") and not parsed.given("format") and os.isatty(1):
            sys.stdout.write(_CLEAR)
        _print(looks, parsed)
        sys.stdout.flush()
        if not stream:
            return 0
        before = {look.one.id: look for look in looks}
        time.sleep(interval)


def _chosen(roots: Roots, parsed: Parsed) -> list[Listed]:
    """Return the containers to look at now; one that does not run shows zeros. Raises: NotFound"""
    if parsed.flag("latest"):
        return [listing.latest(roots)]
    if parsed.args:
        return [listing.find(roots, name) for name in parsed.args]
    every = listing.list_all(roots)
    return every if parsed.flag("all") else [one for one in every if one.status in _ALIVE]


def _print(looks: list[Look], parsed: Parsed) -> None:
    rows = [look.row(not parsed.flag("no-trunc")) for look in looks]
    documents = [
        {
            "id": row["ID"], "name": row["Name"], "cpu_time": row["UpTime"], "cpu_percent": row["CPUPerc"],
            "avg_cpu": row["AVGCPU"], "mem_usage": row["MemUsage"], "mem_percent": row["MemPerc"],
            "net_io": row["NetIO"], "block_io": row["BlockIO"], "pids": row["PIDS"],
        }
        for row in rows
    ]  # fmt: skip
    if output.is_json(parsed.text("format")):
        sys.stdout.write(output.to_json(documents, indent=1) + "\n")
        return
    output.listing(rows, COLUMNS, format=parsed.text("format"), name="stats", headings=_HEADINGS)


def _percent(used_ns: int, passed_ns: int) -> float:
    return 100.0 * used_ns / passed_ns if used_ns > 0 and passed_ns > 0 else 0.0


def _share(percent: float) -> str:
    return f"{percent:.2f}%"


def _pair(one: int, other: int) -> str:
    return f"{_scaled(one, 1000, _DECIMAL)} / {_scaled(other, 1000, _DECIMAL)}"


def _scaled(count: int, base: int, units: tuple[str, ...]) -> str:
    """Return a size with four significant digits, as Go's units.CustomSize writes it."""
    size, unit = float(count), 0
    while size >= base and unit < len(units) - 1:
        size, unit = size / base, unit + 1
    return f"{size:.4g}{units[unit]}"
