"""Platforms: what an image is built for, what this machine is, and which entry of an index fits best.

Source: OCI image-spec image-index.md#image-index-property-descriptions; Go's GOARCH names
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


@record
class Platform:
    """An operating system, an architecture by Go's name, and a variant ("" when it has none)."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    def __str__(self) -> str:
        return "/".join([part for part in (self.os, self.architecture, self.variant) if part])


#: uname machine -> (architecture, variant)
MACHINES = {
    "x86_64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv8l": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armhf": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "armv5tel": ("arm", "v5"),
    "armel": ("arm", "v6"),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "mips64": ("mips64le", ""),
    "loongarch64": ("loong64", ""),
}

#: architecture -> its variants, best first; a machine of one variant runs those after it
VARIANTS = {
    "arm": ("v8", "v7", "v6", "v5"),
    "arm64": ("v8",),
    "amd64": ("v4", "v3", "v2", "v1"),
}

#: The variant that an image means when it names none.
DEFAULT_VARIANT = {"arm": "v7", "arm64": "v8", "amd64": "v1"}


def from_machine(machine: str, os: str = "linux") -> Platform:
    """Return the platform of a machine as uname(2) names it."""
    architecture, variant = MACHINES.get(machine, (machine, ""))
    return Platform(os, architecture, variant)


def parse_platform(text: str, default: Platform) -> Platform:
    """Return the platform that `--platform OS/ARCH[/VARIANT]` means; a lone ARCH or OS takes the rest from *default*.

    Raises: UsageError
    """
    parts = text.split("/")
    if not all(parts) or len(parts) > 3:
        raise UsageError(f"invalid platform {text!r}", hint="write it as OS/ARCH or OS/ARCH/VARIANT, as linux/arm64")
    if len(parts) == 1:
        if parts[0] in ("linux", "windows", "darwin", "freebsd"):
            return Platform(parts[0], default.architecture, default.variant)
        return normalised(Platform(default.os, parts[0]))
    return normalised(Platform(parts[0], parts[1], parts[2] if len(parts) == 3 else ""))


def normalised(platform: Platform) -> Platform:
    """Return *platform* with a uname machine name (x86_64, aarch64) replaced by Go's."""
    known = MACHINES.get(platform.architecture)
    if known is None or platform.architecture == known[0]:
        return platform
    return Platform(platform.os, known[0], platform.variant or known[1], platform.os_version)


def ranks(wanted: Platform) -> tuple[str, ...]:
    """Return the variants that run on *wanted*, best first; "" stands for an image that names none."""
    order = VARIANTS.get(wanted.architecture, ())
    if not wanted.variant:
        # An unnamed variant is the architecture's default, and only that: amd64 may lack what v3 needs.
        default = DEFAULT_VARIANT.get(wanted.architecture, "")
        if wanted.architecture == "arm":
            return ("", *order[order.index(default) :])
        return ("", default) if default else ("",)
    if wanted.variant not in order:
        return (wanted.variant, "")
    below = order[order.index(wanted.variant) :]
    if DEFAULT_VARIANT[wanted.architecture] == wanted.variant:
        return (wanted.variant, "", *below[1:])
    return (*below, "")


def best_match(wanted: Platform, offered: Sequence[Platform | None]) -> int | None:
    """Return the index of the entry of *offered* that fits *wanted* best, None when none does.

    Among equals the first wins, as the image-spec asks.
    """
    order = ranks(wanted)
    best: tuple[int, int] | None = None
    for at, platform in enumerate(offered):
        if platform is None:
            continue
        have = normalised(platform)
        if have.os != wanted.os or have.architecture != wanted.architecture or have.variant not in order:
            continue
        if wanted.os_version and platform.os_version and platform.os_version != wanted.os_version:
            continue
        rank = (order.index(have.variant), at)
        if best is None or rank < best:
            best = rank
    return None if best is None else best[1]
