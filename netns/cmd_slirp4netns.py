"""`rootless-netstack [OPTION]... PID|PATH [TAPNAME]`: our stack under the command line of slirp4netns.

Source: slirp4netns(1) of 1.2.0
"""

from __future__ import annotations

import posix
import sys

from netns import sandbox, server, slirp
from netns.addressing import choose_ipv4, format_ip, parse_ip
from netns.config import MTU_MAX, TAP_NAME, NetConfig
from netns.slirp_api import ApiSocket
from rootless.errors import RootlessError, UsageError
from rootless.kernel import namespaces, process
from rootless.kernel._sys import lib
from rootless.kernel.fds import Fd, open_fd
from rootless.spec.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PROGRAM = "rootless-netstack"
HELP = f"""\
{PROGRAM} - user-mode networking for a network namespace, without privileges
usage: {PROGRAM} [OPTION]... PID|PATH [TAPNAME]

-c, --configure          bring up lo and the interface, with address and routes
-e, --exit-fd=FD         end when something happens on FD
-r, --ready-fd=FD        write 1 to FD when the network is there
-m, --mtu=MTU            MTU (default 1500, at most {MTU_MAX})
-6, --enable-ipv6        IPv6 in fd00::/64
-a, --api-socket=PATH    answer requests to publish ports at PATH
--cidr=CIDR              IPv4 network (default 10.0.2.0/24)
--disable-host-loopback  refuse connections to the host's 127.0.0.1 by way of the gateway
--disable-dns            no name server at the network's third address
--netns-type=TYPE        what the first word is: pid (default) or path
--userns-path=PATH       join this user namespace first (default: that of PID)
--outbound-addr=IPv4     the host's address that connections leave from
--outbound-addr6=IPv6    the same for IPv6
--macaddress=MAC         address of the interface (with -c)
--enable-sandbox, --enable-seccomp   always on here
-h, --help               show this text
-v, --version            show the versions of {PROGRAM} and libslirp
"""
# option -> whether a value follows
_LONG = {
    "configure": False,
    "exit-fd": True,
    "ready-fd": True,
    "mtu": True,
    "enable-ipv6": False,
    "api-socket": True,
    "cidr": True,
    "disable-host-loopback": False,
    "disable-dns": False,
    "netns-type": True,
    "userns-path": True,
    "outbound-addr": True,
    "outbound-addr6": True,
    "macaddress": True,
    "enable-sandbox": False,
    "enable-seccomp": False,
    "target-type": True,
    "help": False,
    "version": False,
}
_SHORT = {
    "c": "configure",
    "e": "exit-fd",
    "r": "ready-fd",
    "m": "mtu",
    "6": "enable-ipv6",
    "a": "api-socket",
    "h": "help",
    "v": "version",
}


@record
class Command:
    """A command line that was understood."""

    target: str
    config: NetConfig
    configure: bool
    target_is_path: bool
    userns_path: str = ""
    exit_fd: int = -1
    ready_fd: int = -1
    api_socket: str = ""


def split(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return options and the other words, as getopt_long(3) would; the last of a repeated option counts.

    Raises: UsageError
    """
    options: dict[str, str] = {}
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if name not in _LONG:
                raise UsageError(f"unrecognized option '{word}'")
            if equals and not _LONG[name]:
                raise UsageError(f"option '--{name}' doesn't allow an argument")
            if _LONG[name] and not equals:
                value = _next(rest, f"--{name}")
            options[name] = value
        elif len(word) > 1 and word.startswith("-"):
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                if letter not in _SHORT:
                    raise UsageError(f"invalid option -- '{letter}'")
                name = _SHORT[letter]
                if _LONG[name]:
                    options[name] = letters or _next(rest, f"-{letter}")
                    break
                options[name] = ""
        else:
            words.append(word)
    return options, words


def _next(rest: list[str], option: str) -> str:
    if not rest:
        raise UsageError(f"option '{option}' requires an argument")
    return rest.pop(0)


def parse(argv: Sequence[str]) -> Command | None:
    """Read the command line; None: a text was asked for (--help, --version).

    Raises: UsageError in slirp4netns's words
    """
    options, words = split(argv)
    if "help" in options or "version" in options:
        return None
    if not 1 <= len(words) <= 2:
        raise UsageError(f"usage: {PROGRAM} [OPTION]... PID|PATH [TAPNAME]")
    for name, only in (("netns-type", ("pid", "path")), ("target-type", ("netns",))):
        if options.get(name, only[0]) not in only:
            raise UsageError(f"{name} must be one of: {', '.join(only)}")
    is_path = options.get("netns-type") == "path"
    if not is_path and (not words[0].isdecimal() or int(words[0]) < 1):
        raise UsageError(f"PID must be a positive integer, got {words[0]}")
    if "macaddress" in options and "configure" not in options:
        raise UsageError("--macaddress cannot be specified when --configure or -c is not specified")
    config = NetConfig(
        cidr=options.get("cidr", NetConfig().cidr),
        mtu=_mtu(options.get("mtu", "1500")),
        ipv6="enable-ipv6" in options,
        dns="disable-dns" not in options,
        allow_host_loopback="disable-host-loopback" not in options,
        outbound_addr=_address(options, "outbound-addr", 4),
        outbound_addr6=_address(options, "outbound-addr6", 16),
        tap_name=words[1] if len(words) > 1 else TAP_NAME,
        mac=_mac(options.get("macaddress", "")),
    )
    choose_ipv4(config.cidr)
    return Command(
        words[0],
        config,
        "configure" in options,
        is_path,
        userns_path=options.get("userns-path", ""),
        exit_fd=_fd(options, "exit-fd"),
        ready_fd=_fd(options, "ready-fd"),
        api_socket=options.get("api-socket", ""),
    )


def _mtu(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MTU_MAX:
        raise UsageError(f"MTU must be a positive integer (< {MTU_MAX + 1})")
    return int(text)


def _fd(options: dict[str, str], name: str) -> int:
    text = options.get(name)
    if text is None:
        return -1
    if not text.isdecimal():
        raise UsageError(f"{name} must be a non-negative integer")
    return int(text)


def _address(options: dict[str, str], name: str, size: int) -> str:
    text = options.get(name, "")
    parsed = parse_ip(text) if text else b""
    if text and (parsed is None or len(parsed) != size):
        raise UsageError(
            f"{name} needs an IPv{6 if size == 16 else 4} address: interfaces are not supported, got {text}"
        )
    return format_ip(parsed) if parsed else ""


def _mac(text: str) -> str:
    parts = text.split(":") if text else []
    valid = all(len(part) == 2 and not part.strip("0123456789abcdefABCDEF") for part in parts)
    if text and (len(parts) != 6 or not valid or int(parts[0], 16) & 1):
        raise UsageError(f"{text} is not a valid MAC address")
    return text


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    try:
        command = parse(argv)
        if command is None:
            print(HELP if "help" in split(argv)[0] else _versions(), end="")
            return 0
        return run(command)
    except RootlessError as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        print(f"{PROGRAM}: {error}{hint}", file=sys.stderr)
        return 1


def _versions() -> str:
    from rootless import __version__

    return (
        f"{PROGRAM} version {__version__}\nlibslirp: {slirp.slirp_version()}\n"
        f"SLIRP_CONFIG_VERSION_MAX: {slirp.config_version_max()}\n"
    )


def run(command: Command) -> int:
    """Serve the namespace until told to stop. Blocks: yes"""
    process.set_name(server.NAME)
    stop = server.stop_signals()
    netns = open_fd(command.target if command.target_is_path else f"/proc/{command.target}/ns/net", posix.O_RDONLY)
    _join_userns(command)
    sandbox.limit_resources()
    stack = slirp.Stack(command.config)
    watched: dict[Fd, Callable[[], bool]] = {stop: server.stop_here}
    if command.exit_fd >= 0:
        watched[Fd(command.exit_fd)] = server.stop_here
    if command.api_socket:
        ApiSocket(command.api_socket, stack, choose_ipv4(command.config.cidr).guest, watched)
    device, ipv6 = server.join(netns, command.config, configure=command.configure)
    netns.close()
    sandbox.shut_in()
    _announce(replace(command.config, ipv6=ipv6))
    if command.ready_fd >= 0:
        with Fd(command.ready_fd) as ready:
            posix.write(ready.fileno(), b"1")
    server.carry(stack, device, watched)
    return 0


def _join_userns(command: Command) -> None:
    """Join the user namespace that may configure the target, unless we are in it or are the machine's root.

    Before any thread exists: setns(CLONE_NEWUSER) is refused afterwards.
    """
    path = command.userns_path
    if not path:
        if command.target_is_path or posix.geteuid() == 0:
            return
        path = f"/proc/{command.target}/ns/user"
    with open_fd(path, posix.O_RDONLY) as userns, open_fd("/proc/self/ns/user", posix.O_RDONLY) as ours:
        a, b = posix.fstat(userns.fileno()), posix.fstat(ours.fileno())
        if (a.st_dev, a.st_ino) != (b.st_dev, b.st_ino):
            namespaces.setns(userns, lib.CLONE_NEWUSER)


def _announce(config: NetConfig) -> None:
    net4 = choose_ipv4(config.cidr)
    lines = [
        "Starting slirp",
        f"* MTU:             {config.mtu}",
        f"* Network:         {format_ip(net4.network)}",
        f"* Netmask:         {format_ip(net4.mask)}",
        f"* Gateway:         {format_ip(net4.gateway)}",
        f"* DNS:             {format_ip(net4.nameserver)}",
        f"* Recommended IP:  {format_ip(net4.guest)}",
    ]
    if config.allow_host_loopback:
        lines.append(
            f"WARNING: 127.0.0.1:* on the host is accessible as {format_ip(net4.gateway)} "
            "(set --disable-host-loopback to prohibit connecting to 127.0.0.1:*)"
        )
    print("\n".join(lines), flush=True)
