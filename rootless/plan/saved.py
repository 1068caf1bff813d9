"""Run options as JSON and back: what a container was asked for stays in its record, and every start reads it.

Only what differs from the defaults is kept, so that a record stays readable and an older one fits newer options.
"""

from __future__ import annotations

from rootless.errors import StoreError
from rootless.plan import options as o
from rootless.spec.record import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# the fields whose values are records, or tuples of them
_NESTED: dict[str, type] = {
    "publish": o.PortRange,
    "expose": o.PortRange,
    "volumes": o.VolumeRequest,
    "devices": o.DeviceRequest,
    "ulimits": o.UlimitRequest,
    "secrets": o.SecretRequest,
    "security": o.SecurityOptions,
    "network": o.NetworkRequest,
    "health": o.HealthRequest,
    "limits": o.Limits,
}
_LISTS = ("publish", "expose", "volumes", "devices", "ulimits", "secrets")


def encode(value: Any) -> dict[str, Any]:
    """Return *value*, a record, as a JSON object without its defaults."""
    defaults: dict[str, Any] = value._defaults_
    found: dict[str, Any] = {}
    for name in fields(value):
        field = getattr(value, name)
        if name in defaults and defaults[name] == field:
            continue
        if name in _LISTS:
            found[name] = [encode(one) for one in field]
        elif name in _NESTED and field is not None:
            found[name] = encode(field)
        else:
            found[name] = field
    return found


def decode(data: dict[str, Any]) -> o.RunOptions:
    """Return the options that `encode` wrote. Raises: StoreError for a record that holds something else"""
    try:
        return o.RunOptions(**{name: _decoded(name, field) for name, field in data.items()})
    except (TypeError, AttributeError) as error:
        raise StoreError(f"the container's record cannot be read: {error}") from None


def _decoded(name: str, field: Any) -> Any:
    kind = _NESTED.get(name)
    if kind is None or field is None:
        return _tuples(field)
    if name in _LISTS:
        return tuple([kind(**{key: _tuples(one) for key, one in entry.items()}) for entry in field])
    return kind(**{key: _tuples(one) for key, one in field.items()})


def _tuples(value: Any) -> Any:
    if not _is_list(value):
        return value
    items: list[Any] = value
    return tuple([_tuples(one) for one in items])


def _is_list(value: Any) -> bool:
    return isinstance(value, list)
