"""`rootless network ls`: the networks that there are: private, none and host.

Source: podman-network-ls(1) of podman 4.3; `docker network ls` for the names of the drivers
"""

from __future__ import annotations

import sys

from rootless.cli import output
from rootless.cli.parser import Command, parse
from rootless.errors import UsageError
from rootless.spec.moment import NEVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.parser import Parsed
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="network ls",
    summary="List networks",
    usage="",
    description="List networks: what --network of run and create can be. Own networks cannot be made.",
    flags=(
        ("filter", "f", "array", "", "", "Provide filter values (e.g. 'name=podman')", ""),
        ("format", "", "string", "", "", "Pretty-print networks to JSON or using a Go template", ""),
        ("no-trunc", "", "bool", "", "", "Do not truncate the network ID", ""),
        ("noheading", "", "bool", "", "", "Do not print headers", ""),
        ("quiet", "q", "bool", "", "", "display only names", ""),
    ),
    examples=("network ls",),
    max_args=0,
)
COMMANDS = {"ls": COMMAND}
COLUMNS = (("NETWORK ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"))

# The id is the SHA-256 of the name, as podman's of its default network.
NETWORKS: tuple[dict[str, Any], ...] = (
    {
        "name": "host", "id": "4740ae6347b0172c01254ff55bae5aff5199f4446e7f6d643d40185b3f475145", "driver": "host",
        "created": NEVER, "ipv6_enabled": True, "internal": False, "dns_enabled": False,
    },
    {
        "name": "none", "id": "140bedbf9c3f6d56a9846d2ba7088798683f4da0c248231336e6a05679e4fdfe", "driver": "null",
        "created": NEVER, "ipv6_enabled": False, "internal": True, "dns_enabled": False,
    },
    {
        "name": "private", "id": "715dc8493c36579a5b116995100f635e3572fdf8703e708ef1a08d943b36774e", "driver": "user",
        "network_interface": "tap0", "created": NEVER,
        "subnets": [{"subnet": "10.0.2.0/24", "gateway": "10.0.2.2"}, {"subnet": "fd00::/64", "gateway": "fd00::2"}],
        "ipv6_enabled": True, "internal": False, "dns_enabled": True,
    },
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print the table, the names, or what --format asks for."""
    parsed, _ = parse(COMMAND, argv[1:], options)
    format = parsed.text("format")
    if parsed.flag("quiet") and format:
        raise UsageError("quiet and format are mutually exclusive")
    chosen = _chosen(parsed)
    if parsed.flag("quiet"):
        sys.stdout.write("".join([f"{network['name']}\n" for network in chosen]))
        return 0
    if format and output.is_json(format):
        sys.stdout.write(output.to_json(chosen, indent=2) + "\n")
        return 0
    rows = [_fields(network, trunc=not parsed.flag("no-trunc")) for network in chosen]
    output.listing(rows, COLUMNS, format=format, name="list", noheading=parsed.flag("noheading"),
                   kind="networks.ListPrintReports")  # fmt: skip
    return 0


def _chosen(parsed: Parsed) -> list[dict[str, Any]]:
    found = list(NETWORKS)
    for text in parsed.many("filter"):
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"filter input must be in the form of filter=value: {text} is invalid")
        if key == "name":
            from rootless.engine.filters import matcher

            matches = matcher(value)
            found = [network for network in found if matches(network["name"])]
        elif key == "driver":
            found = [network for network in found if network["driver"] == value]
        elif key == "id":
            found = [network for network in found if network["id"].startswith(value)]
        elif key == "label":
            found = []
        elif key not in ("label!", "until", "dangling"):
            raise UsageError(f'invalid filter "{key}"')
    return found


def _fields(network: dict[str, Any], *, trunc: bool) -> dict[str, Any]:
    return {
        "ID": network["id"][:12] if trunc else network["id"],
        "Name": network["name"],
        "Driver": network["driver"],
        "NetworkInterface": network.get("network_interface", ""),
        "Created": network["created"],
        "Subnets": network.get("subnets", []),
        "IPv6Enabled": network["ipv6_enabled"],
        "Internal": network["internal"],
        "DNSEnabled": network["dns_enabled"],
        "Labels": "",
        "Options": {},
        "IPAMOptions": {},
    }
