"""Parse the values of flags: sizes, limits, ports, addresses, environment. Pure; podman's words in every error.

Source: podman-run(1); docker/go-units (sizes); podman's observed messages
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.plan.options import PortRange, UlimitRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NAME_RULE = "names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument"
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NAME_FIRST = frozenset(_LETTERS + "0123456789")
_NAME_REST = frozenset(_LETTERS + "0123456789_.-")
_BLANKS = " \t"
_HEX = "0123456789abcdefABCDEF"

ULIMITS = frozenset((
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
    "rtprio", "rttime", "sigpending", "stack",
))  # fmt: skip
_UNITS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def is_name(text: str) -> bool:
    """Say whether *text* may name a container or volume."""
    return bool(text) and text[0] in _NAME_FIRST and all(c in _NAME_REST for c in text)


def size(text: str) -> int:
    """Read `64m`, `1.5g`, `10kib`, `100` as bytes, in powers of 1024.

    Raises: UsageError
    """
    word = text.strip()
    end = len(word)
    while end and not (word[end - 1].isdigit() or word[end - 1] == "."):
        end -= 1
    number, unit = word[:end], word[end:].strip().lower()
    if unit in ("kb", "mb", "gb", "tb", "pb", "kib", "mib", "gib", "tib", "pib"):
        unit = unit[0]
    try:
        if unit not in _UNITS or not number or not number.isascii() or number[0] in "+-" or "_" in number:
            raise ValueError
        value = float(number) if "." in number else int(number)
    except ValueError:
        raise UsageError(f"invalid size: '{text}'") from None
    scaled = int(value * 1024 ** _UNITS[unit])
    if scaled > 2**63 - 1:
        raise UsageError(f"invalid size: '{text}'")
    return scaled


def ulimit(text: str) -> UlimitRequest:
    """Read `nofile=1024:2048`; -1 is unlimited.

    Raises: UsageError
    """
    name, equals, value = text.partition("=")
    problem = ""
    parts = value.split(":")
    if not equals:
        problem = f"invalid ulimit argument: {text}"
    elif name not in ULIMITS:
        problem = f"invalid ulimit type: {name}"
    elif len(parts) > 2:
        problem = f"too many limit value arguments - {value}, can only have up to two, `soft[:hard]`"
    numbers: list[int] = []
    for part in () if problem else parts:
        digits = part[1:] if part[:1] in ("-", "+") else part
        if not digits.isdigit() or not digits.isascii():
            problem = f'strconv.ParseInt: parsing "{part}": invalid syntax'
            break
        number = int(part)
        if not -(2**63) <= number < 2**63:
            problem = f'strconv.ParseInt: parsing "{part}": value out of range'
            break
        numbers.append(number)
    if not problem:
        soft, hard = numbers[0], numbers[-1]
        if hard != -1 and (soft == -1 or soft > hard):
            problem = f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        else:
            return UlimitRequest(name, soft, hard)
    raise UsageError(f'ulimit option "{text}" requires name=SOFT:HARD, failed to be parsed: {problem}')


def octal_umask(text: str) -> int:
    """Read a umask of at most four octal digits.

    Raises: UsageError
    """
    if not 1 <= len(text) <= 4 or any(c not in "01234567" for c in text):
        raise UsageError(f"invalid umask string {text}: invalid argument")
    return int(text, 8)


def add_env(env: dict[str, str], line: str, host: Mapping[str, str]) -> None:
    """Apply one `-e` or one line of an env file: NAME=VALUE, NAME (the caller's, if set), NAME* (all that begin so).

    Raises: UsageError
    """
    name, equals, value = line.partition("=")
    if not name:
        raise UsageError(f'invalid environment variable: "{line}"')
    name = name.lstrip(_BLANKS)
    if equals:
        env[name] = value
    elif name.endswith("*"):
        for other in host:
            if other.startswith(name[:-1]):
                env[other] = host[other]
    elif name in host:
        env[name] = host[name]


def add_env_file(env: dict[str, str], text: str, path: str, host: Mapping[str, str]) -> None:
    """Apply an env file: one variable a line, `#` comments, no quotes.

    Raises: UsageError
    """
    for line in lines_of(text):
        try:
            add_env(env, line, host)
        except UsageError as error:
            raise UsageError(f'parsing env file "{path}": {error.message}') from None


def lines_of(text: str) -> Iterable[str]:
    """Yield the lines that are neither blank nor comments, without leading blanks."""
    for line in text.split("\n"):
        line = line.removesuffix("\r").lstrip(_BLANKS)
        if line and not line.startswith("#"):
            yield line


def labels(items: Iterable[str], into: dict[str, str]) -> None:
    """Add KEY=VALUE or KEY to *into*.

    Raises: UsageError
    """
    for item in items:
        key, _, value = item.partition("=")
        if not key:
            raise UsageError(f'unable to process labels: invalid label format: "{item}"')
        into[key] = value


def ip_version(text: str) -> int:
    """Return 4 or 6 for an IP address, 0 for anything else."""
    if ":" not in text:
        parts = text.split(".")
        good = len(parts) == 4 and all(_is_octet(part) for part in parts)
        return 4 if good else 0
    head, gap, tail = text.partition("::")
    if "::" in tail:
        return 0
    words = (head.split(":") if head else []) + (tail.split(":") if tail else [])
    if not gap and not words:
        return 0
    count = len(words)
    if words and "." in words[-1]:
        if ip_version(words.pop()) != 4:
            return 0
        count += 1
    if any(not 1 <= len(word) <= 4 or any(c not in _HEX for c in word) for word in words):
        return 0
    return 6 if (count <= 7 if gap else count == 8) else 0


def _is_octet(text: str) -> bool:
    return text.isdigit() and text.isascii() and len(text) <= 3 and int(text) <= 255 and (text[0] != "0" or text == "0")


def expose(text: str) -> PortRange:
    """Read `PORT[-PORT][/PROTOCOL]`.

    Raises: UsageError
    """
    ports, _, protocol = text.partition("/")
    low, _, high = ports.partition("-")
    for part in (low, high or low):
        if not part.isdigit() or not part.isascii():
            raise UsageError(
                f'invalid range format for --expose: {text}: strconv.ParseUint: parsing "{part}": invalid syntax'
            )
    first, last = int(low), int(high or low)
    if not 0 < first <= last <= 65535:
        raise UsageError(f"invalid range format for --expose: {text}")
    return PortRange("", 0, first, last - first + 1, protocol.lower() or "tcp")


def mac_address(text: str) -> str:
    """Read a hardware address of six bytes.

    Raises: UsageError with the words of Go's net.ParseMAC
    """
    words = text.replace("-", ":").split(":")
    if len(words) != 6 or any(len(word) != 2 or any(c not in _HEX for c in word) for word in words):
        raise UsageError(f"address {text}: invalid MAC address")
    if int(words[0], 16) & 1:
        raise UsageError(f"address {text}: a group's address cannot be a container's")
    return ":".join(words).lower()


def add_host(text: str) -> tuple[str, str]:
    """Read `NAME:IP` or `NAME:host-gateway`; docker writes `NAME=IP` too.

    Raises: UsageError
    """
    mark = "=" if 0 < text.find("=") < text.find(":") or ":" not in text else ":"
    name, colon, address = text.partition(mark)
    if not name or not colon:
        raise UsageError(f'bad format for add-host: "{text}"')
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    if address != "host-gateway" and not ip_version(address):
        raise UsageError(f'invalid IP address in add-host: "{address}"')
    return name, address


def sysctl(text: str) -> tuple[str, str]:
    """Read `KEY=VALUE`; only what belongs to a namespace of the container may be set.

    Raises: UsageError
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text} is invalid, sysctl values must be in the form of KEY=VALUE")
    if key not in _SYSCTLS and not key.startswith(("net.", "fs.mqueue.")):
        raise UsageError(f"sysctl '{key}' is not allowed")
    return key, value


_SYSCTLS = frozenset((
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
    "kernel.shmmni", "kernel.shm_rmid_forced", "kernel.domainname",
))  # fmt: skip
