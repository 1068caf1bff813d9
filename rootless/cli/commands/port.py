"""`rootless port`: the published ports of containers.

Source: podman-port(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.parser import Command, go_integer, parse
from rootless.engine import listing
from rootless.errors import UsageError
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.engine.listing import Listed
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="port",
    summary="List port mappings or a specific mapping for the container",
    usage="CONTAINER [PORT]",
    description=(
        "List port mappings for the CONTAINER, or look up the public-facing port that is NAT-ed to the PRIVATE_PORT"
    ),
    flags=(
        ("all", "a", "bool", "", "", "Display port information for all containers", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
    ),
    examples=("port --all", "port ctrID 80/tcp", "port --latest 80"),
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print a line for each mapping, or the address of one port."""
    parsed, options = parse(COMMAND, argv, options)
    words = list(parsed.args)
    every, latest = parsed.flag("all"), parsed.flag("latest")
    if every and latest:
        raise UsageError("--all and --latest cannot be used together")
    if every and words:
        raise UsageError("no arguments are needed with --all")
    if not every and not latest and not words:
        raise UsageError("you must supply a running container name or id")
    if len(words) > (1 if latest else 2):
        raise UsageError(f"`port` accepts at most {1 if latest else 2} arguments")
    wanted = words[-1] if len(words) == (1 if latest else 2) else ""
    port, protocol = _split(wanted) if wanted else (0, "")
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    if every:
        for one in listing.list_all(roots):
            if one.status == "running":
                sys.stdout.write("".join([f"{one.id[:12]}\t{line}\n" for line in _lines(one)]))
        return 0
    one = listing.latest(roots) if latest else listing.find(roots, words[0])
    if not wanted:
        sys.stdout.write("".join([f"{line}\n" for line in _lines(one)]))
        return 0
    found = [address for inside, kind, address in _mappings(one) if (inside, kind) == (port, protocol)]
    if not found:
        raise UsageError(f'failed to find published port "{wanted}"')
    sys.stdout.write("".join([f"{address}\n" for address in found]))
    return 0


def _split(text: str) -> tuple[int, str]:
    """Read PORT[/PROTOCOL]. Raises: UsageError"""
    number, _, protocol = text.partition("/")
    try:
        return go_integer(number), protocol or "tcp"
    except ValueError:
        raise UsageError(f'strconv.ParseUint: parsing "{number}": invalid syntax') from None


def _mappings(one: Listed) -> list[tuple[int, str, str]]:
    """Return (port in the container, protocol, ADDRESS:PORT of the host)."""
    ports = sorted(one.data.get("ports") or (), key=lambda port: (port[3], port[2], port[0], port[1]))
    found = []
    for host_ip, host_port, inside, protocol in ports:
        address = f"[{host_ip}]" if ":" in host_ip else host_ip or "0.0.0.0"
        found.append((int(inside), str(protocol), f"{address}:{host_port}"))
    return found


def _lines(one: Listed) -> list[str]:
    return [f"{inside}/{protocol} -> {address}" for inside, protocol, address in _mappings(one)]
