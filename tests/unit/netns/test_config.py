"""--network and -p: podman's meaning, podman's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns.config import (
    MTU_DEFAULT,
    NetConfig,
    PortForward,
    check_ports,
    expand,
    make_config,
    parse_network,
    parse_publish,
)
from rootless.errors import RootlessError, UsageError

PORT = st.integers(1, 65535)


@pytest.mark.parametrize(
    ("text", "ports"),
    (
        ("80", [PortForward("", 0, 80)]),
        ("8080:80", [PortForward("", 8080, 80)]),
        (":80", [PortForward("", 0, 80)]),
        ("8080:80/tcp", [PortForward("", 8080, 80)]),
        ("53:53/udp", [PortForward("", 53, 53, "udp")]),
        ("8080:80/UDP", [PortForward("", 8080, 80, "udp")]),
        ("127.0.0.1:8080:80", [PortForward("127.0.0.1", 8080, 80)]),
        ("127.0.0.1::80", [PortForward("127.0.0.1", 0, 80)]),
        ("[::1]:8080:80", [PortForward("::1", 8080, 80)]),
        ("[::1]::80", [PortForward("::1", 0, 80)]),
        ("8000-8002:80-82", [PortForward("", 8000 + i, 80 + i) for i in range(3)]),
        ("80-81", [PortForward("", 0, 80), PortForward("", 0, 81)]),
    ),
)
def test_publish(text: str, ports: list[PortForward]) -> None:
    assert list(parse_publish(text)) == ports


@pytest.mark.parametrize(
    ("text", "words"),
    (
        ("", "must provide a non-empty container port to publish"),
        ("8080:", "must provide a non-empty container port to publish"),
        ("99999:80", "parsing host port: port numbers must be between 1 and 65535 (inclusive), got 99999"),
        ("0:80", "parsing host port: port numbers must be between 1 and 65535 (inclusive), got 0"),
        ("abc:80", "parsing host port: invalid port number"),
        ("8080:abc", "parsing container port: invalid port number"),
        ("8080:80/foo", 'unrecognized protocol "foo" in port mapping'),
        ("8080:80/sctp", "cannot publish an sctp port"),
        ("8080:80/tcp/udp", "invalid port format"),
        ("8000-8002:80", "host and container port ranges have different lengths: 3 vs 1"),
        ("8000-8002:80-81", "host and container port ranges have different lengths: 3 vs 2"),
        (
            "8002-8000:80-82",
            "the end port of a range must be higher than the start port - 8000 is not higher",
        ),
        ("1.2.3:8080:80", 'cannot parse "1.2.3" as an IP address'),
        ("::1:8080:80", "invalid port format - format is [[hostIP:]hostPort:]containerPort"),
        ("1:2:3:4", "invalid port format - format is [[hostIP:]hostPort:]containerPort"),
        ("[::1]8080:80", "cannot parse"),
        ("[fe80::1%eth0]:8080:80", "cannot parse"),
        ("[::1]:1:2:3", "invalid port format"),
        ("-1:80", "invalid port number"),
    ),
)
def test_publish_refused_in_podmans_words(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_publish(text)
    assert words in str(caught.value)


@given(st.text("0123456789:.-/[]abtcpud", max_size=20))
def test_publish_takes_anything_or_says_why(text: str) -> None:
    try:
        ports = parse_publish(text)
    except RootlessError:
        return
    assert ports and all(1 <= port.container_port <= 65535 for port in ports)


@given(PORT, PORT, st.sampled_from(("", "127.0.0.1:", "[::1]:", "[2001:db8::1]:")), st.sampled_from(("tcp", "udp")))
def test_publish_round_trip(host: int, container: int, address: str, protocol: str) -> None:
    """str() of a forward is what `podman port` and `ps` print."""
    (port,) = parse_publish(f"{address}{host}:{container}/{protocol}")
    assert str(port) == f"{address or '0.0.0.0:'}{host}->{container}/{protocol}"


def test_expand_takes_protocol_lists() -> None:
    assert expand("", 53, 53, 1, "tcp,udp") == (PortForward("", 53, 53), PortForward("", 53, 53, "udp"))


def test_the_same_twice_is_once() -> None:
    port = PortForward("", 8080, 80)
    assert check_ports([port, port]) == [port]


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    (
        ("", "", True),
        ("", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::1", "127.0.0.1", False),
        ("::", "::1", True),
        ("", "::", False),
    ),
)
def test_conflicts(one: str, other: str, meet: bool) -> None:
    """Two container ports on one host port: an error where the listeners would meet."""
    ports = [PortForward(one, 8080, 80), PortForward(other, 8080, 81)]
    if meet:
        with pytest.raises(UsageError, match="conflicting port mappings for host port 8080"):
            check_ports(ports)
    else:
        assert check_ports(ports) == ports


def test_no_conflict_between_protocols_nor_free_ports() -> None:
    ports = [*expand("", 53, 53, 1, "tcp,udp"), PortForward("", 0, 80), PortForward("", 0, 81)]
    assert check_ports(ports) == ports


@pytest.mark.parametrize("text", ("private", "slirp4netns", "", "default"))
def test_private_by_its_names(text: str) -> None:
    assert parse_network(text) == (NetConfig(), ())
    assert NetConfig().mtu == MTU_DEFAULT == 65520


def test_options() -> None:
    text = "slirp4netns:allow_host_loopback=true,cidr=10.9.0.0/24,mtu=1400,enable_ipv6=false,port_handler=slirp4netns"
    config, warnings = parse_network(text + ",outbound_addr=192.0.2.1")
    assert warnings == ()
    assert config == NetConfig(
        cidr="10.9.0.0/24", mtu=1400, ipv6=False, allow_host_loopback=True, outbound_addr="192.0.2.1"
    )
    assert parse_network("private:outbound_addr6=2001:DB8::1")[0].outbound_addr6 == "2001:db8::1"


def test_small_mtu_goes_without_ipv6() -> None:
    """IPv6 needs 1280."""
    assert parse_network("private:mtu=1279")[0].ipv6 is False
    with pytest.raises(UsageError, match="outbound_addr6 needs"):
        parse_network("private:mtu=1279,outbound_addr6=2001:db8::1")


@pytest.mark.parametrize(
    ("text", "words"),
    (
        ("slirp4netns:foo=bar", 'unknown option for slirp4netns: "foo=bar"'),
        ("slirp4netns:foo", 'unknown option for slirp4netns: "foo"'),
        ("slirp4netns:mtu=abc", 'invalid mtu "abc"'),
        ("slirp4netns:mtu=70000", "MTU must be a positive integer (< 65522)"),
        ("slirp4netns:mtu=0", 'invalid mtu "0"'),
        ("slirp4netns:cidr=abc", 'invalid cidr "abc"'),
        ("slirp4netns:cidr=10.0.2.1/24", "CIDR needs to be a network address"),
        ("slirp4netns:port_handler=abc", 'unknown port_handler for slirp4netns: "abc"'),
        ("slirp4netns:enable_ipv6=abc", 'invalid value of enable_ipv6 for slirp4netns: "abc"'),
        ("slirp4netns:allow_host_loopback=abc", 'invalid value of allow_host_loopback for slirp4netns: "abc"'),
        ("slirp4netns:outbound_addr=eth0", 'invalid outbound_addr "eth0"'),
        ("slirp4netns:outbound_addr6=1.2.3.4", 'invalid outbound_addr6 "1.2.3.4"'),
        ("none:foo", "invalid option for network none: foo"),
        ("bogus", "unable to find network with name or ID bogus: network not found"),
        ("bridge", "--network bridge"),
        ("container:abc", "--network container"),
        ("ns:/proc/1/ns/net", "--network ns"),
        ("pasta", "--network pasta"),
    ),
)
def test_network_refused_in_podmans_words(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_network(text)
    assert words in str(caught.value)
    assert caught.value.code == 125


@pytest.mark.parametrize("mode", ("none", "host"))
def test_ports_without_a_network_are_lost_with_a_word(mode: str) -> None:
    config, warnings = make_config(mode, (), parse_publish("8080:80"))
    assert config == NetConfig(mode=mode)
    assert warnings == (
        "Port mappings have been discarded as one of the Host, Container, Pod, and None network modes are in use",
    )
    assert make_config(mode, (), ())[1] == ()
