"""Messages between launch and network process survive the way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns import wire
from netns.config import NetConfig, PortForward
from rootless.errors import KernelError, NotSupported, RootlessError
from rootless.spec import jsontext

PORTS = st.builds(
    PortForward, st.sampled_from(("", "::1", "127.0.0.1")), st.integers(0, 65535), st.integers(1, 65535), st.just("udp")
)


@given(st.builds(NetConfig, ports=st.lists(PORTS).map(tuple), mtu=st.integers(68, 65521), ipv6=st.booleans()))
def test_config(config: NetConfig) -> None:
    assert wire.decode_config(wire.encode_config(config)) == config


@given(st.lists(PORTS).map(tuple))
def test_ready(ports: tuple[PortForward, ...]) -> None:
    ready = wire.Ready("10.0.2.100/24", "10.0.2.2", "10.0.2.3", "", "", "tap0", 1500, ports)
    assert wire.decode_answer(wire.encode_ready(ready)) == ready


@given(PORTS)
def test_port(port: PortForward) -> None:
    assert wire.decode_port(wire.decode_answer(wire.encode_bound(port))) == port
    assert wire.decode_port(jsontext.loads(wire.encode_forward(port))["forward"]) == port


@pytest.mark.parametrize(
    ("error", "kind"),
    (
        (RootlessError("it failed", hint="do this", code=126), RootlessError),
        (KernelError("bind", 13, "tcp"), RootlessError),
        (NotSupported("private network", ("no tun",), hint="modprobe tun"), NotSupported),
    ),
)
def test_error(error: RootlessError, kind: type[RootlessError]) -> None:
    with pytest.raises(kind) as caught:
        wire.decode_answer(wire.encode_error(error))
    assert type(caught.value) is kind
    assert (str(caught.value), caught.value.hint, caught.value.code) == (str(error), error.hint, error.code)
