"""rootless-netstack reads slirp4netns's command line."""

from __future__ import annotations

import pytest

from netns.cmd_slirp4netns import Command, main, parse
from netns.config import NetConfig
from rootless.errors import UsageError
from rootless.spec.record import replace

PLAIN = NetConfig(mtu=1500, ipv6=False, allow_host_loopback=True)


def test_defaults() -> None:
    assert parse(["123", "tap7"]) == Command("123", replace(PLAIN, tap_name="tap7"), False, False)
    assert parse(["123"]) == Command("123", PLAIN, False, False)


def test_podmans_command_line() -> None:
    """What podman 4.3 runs."""
    words = "--disable-host-loopback --mtu=65520 --enable-sandbox --enable-seccomp --enable-ipv6 -c -r 3"
    words += " --netns-type=path /run/user/1000/netns/netns-1 tap0"
    command = parse(words.split())
    assert command == Command("/run/user/1000/netns/netns-1", NetConfig(), True, True, ready_fd=3)


def test_everything() -> None:
    words = "-c6m1400 -e 5 -a /s --cidr 10.9.0.0/24 --disable-dns --userns-path=/u --outbound-addr=192.0.2.1"
    words += " --outbound-addr6 2001:db8::1 --macaddress=0e:00:00:00:00:01 9 eth0"
    command = parse(words.split())
    assert command is not None
    assert (command.exit_fd, command.api_socket, command.userns_path) == (5, "/s", "/u")
    assert command.config == NetConfig(
        mtu=1400,
        cidr="10.9.0.0/24",
        dns=False,
        allow_host_loopback=True,
        outbound_addr="192.0.2.1",
        outbound_addr6="2001:db8::1",
        tap_name="eth0",
        mac="0e:00:00:00:00:01",
    )


@pytest.mark.parametrize(
    ("words", "text"),
    (
        ("", "usage: rootless-netstack"),
        ("1 tap0 more", "usage: rootless-netstack"),
        ("x", "PID must be a positive integer"),
        ("0", "PID must be a positive integer"),
        ("-m 65522 1", "MTU must be a positive integer (< 65522)"),
        ("-m x 1", "MTU must be a positive integer (< 65522)"),
        ("--cidr=10.0.2.100/24 1", "CIDR needs to be a network address like 10.0.2.0/24, not like 10.0.2.100/24"),
        ("--cidr=x 1", "invalid CIDR"),
        ("--bogus 1", "unrecognized option '--bogus'"),
        ("-x 1", "invalid option -- 'x'"),
        ("1 -m", "option '-m' requires an argument"),
        ("1 --mtu", "option '--mtu' requires an argument"),
        ("--configure=yes 1", "option '--configure' doesn't allow an argument"),
        ("--netns-type=foo 1", "netns-type must be one of: pid, path"),
        ("--target-type=bess /s", "target-type must be one of: netns"),
        ("--exit-fd=x 1", "exit-fd must be a non-negative integer"),
        ("--outbound-addr=eth0 1", "outbound-addr needs an IPv4 address"),
        ("--macaddress=0e:00:00:00:00:01 1", "--macaddress cannot be specified"),
        ("-c --macaddress=01:00:00:00:00:01 1", "is not a valid MAC address"),
        ("-c --macaddress=nonsense 1", "is not a valid MAC address"),
    ),
)
def test_refused(words: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words.split())
    assert text in str(caught.value)


def test_help_and_errors_are_one_thing_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("rootless-netstack - ")
    assert out.splitlines()[1].startswith("usage: rootless-netstack ")
    assert main(["--bogus"]) == 1
    assert capsys.readouterr().err == "rootless-netstack: unrecognized option '--bogus'\n"
