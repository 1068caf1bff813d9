"""The messages between a launch and its network process, as JSON values. Pure.

Shape, one JSON object a message (SEQPACKET; C is who started the process P):

    C -> P   {"config": {...}}              fields of NetConfig, as soon as P is spawned
             (P binds the ports now: one that is taken is known while the container is still being made)
    C -> P   {"netns": true} + descriptors  the container's network namespace; then the user namespace that owns it,
                                            where C has entered one since it started P
    P -> C   {"ready": {...}}               fields of Ready; the network is up. P shuts itself in, then carries frames
    P -> C   {"error": "...", "hint": ..., "code": 125, "kind": "error|unsupported"}   at any moment before; P ends
    EOF from C                              P ends

Afterwards P answers {"forward": PORT}, {"unforward": PORT} and {"counts": true} with {"ok": ...} or {"error": ...}.
"""

from __future__ import annotations

from netns.config import NetConfig, PortForward
from rootless.errors import NotSupported, RootlessError
from rootless.spec import jsontext
from rootless.spec.record import fields, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NETNS = b'{"netns": true}'
COUNTS = b'{"counts": true}'


@record
class Ready:
    """What the container's network is; "" where it has none of that kind."""

    address: str
    gateway: str
    nameserver: str
    address6: str
    gateway6: str
    device: str
    mtu: int
    ports: tuple[PortForward, ...]


def _port(port: PortForward) -> list[Any]:
    return [getattr(port, name) for name in fields(port)]


def decode_port(value: list[Any]) -> PortForward:
    return PortForward(*value)


def _encode(value: NetConfig | Ready) -> dict[str, Any]:
    out = {name: getattr(value, name) for name in fields(value)}
    out["ports"] = [_port(port) for port in value.ports]
    return out


def _ports(value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "ports": tuple(decode_port(port) for port in value["ports"])}


def encode_config(config: NetConfig) -> bytes:
    return jsontext.dumps({"config": _encode(config)}).encode()


def decode_config(data: bytes) -> NetConfig:
    return NetConfig(**_ports(jsontext.loads(data)["config"]))


def encode_ready(ready: Ready) -> bytes:
    return jsontext.dumps({"ready": _encode(ready)}).encode()


def encode_ok(value: object) -> bytes:
    return jsontext.dumps({"ok": value}).encode()


def encode_bound(port: PortForward) -> bytes:
    return encode_ok(_port(port))


def encode_forward(port: PortForward) -> bytes:
    return jsontext.dumps({"forward": _port(port)}).encode()


def encode_unforward(port: PortForward) -> bytes:
    return jsontext.dumps({"unforward": _port(port)}).encode()


def encode_error(error: RootlessError) -> bytes:
    kind = "unsupported" if isinstance(error, NotSupported) else "error"
    value = {"error": str(error), "hint": error.hint, "code": error.code, "kind": kind}
    return jsontext.dumps(value).encode()


def decode_answer(data: bytes) -> Any:
    """Return what `ready` or `ok` holds (a Ready, or a JSON value).

    Raises: the RootlessError that the process sent; NotSupported where it is about this machine
    """
    message = jsontext.loads(data)
    if "error" in message:
        if message["kind"] == "unsupported":
            raise NotSupported(message["error"], hint=message["hint"])
        raise RootlessError(message["error"], hint=message["hint"], code=message["code"])
    if "ready" in message:
        return Ready(**_ports(message["ready"]))
    return message["ok"]
