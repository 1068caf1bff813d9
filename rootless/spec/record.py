"""Frozen value classes that cost nothing to import.

`dataclasses` alone costs more than a bare interpreter start (it pulls in re, inspect, copy ...),
so what lives on the start-up path is declared with `@record` instead. To a type checker a record
is a frozen dataclass; at run time it is a class with slots, an `__init__` that takes its fields by
position or keyword, equality, hashing and a repr. Annotations are only names here: they are never
evaluated. Mutable defaults are refused; use tuples.

Source: PEP 681 (dataclass_transform); docs/decisions/0002-records.md
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar, dataclass_transform

    T = TypeVar("T")

    @dataclass_transform(frozen_default=True, eq_default=True)
    def record(cls: type[T], /) -> type[T]: ...

    def replace(value: T, /, **changes: Any) -> T: ...

    def fields(value: object, /) -> tuple[str, ...]: ...

else:
    _MISSING = object()
    _set = object.__setattr__

    def record(cls, /):
        """Turn *cls* into a frozen value class with one slot for each annotated name."""
        own = [n for n in cls.__dict__.get("__annotations__", ()) if not n.startswith("__")]
        namespace = dict(cls.__dict__)
        namespace.pop("__dict__", None)
        namespace.pop("__weakref__", None)
        defaults = {}
        for base in reversed(cls.__mro__[1:]):
            defaults.update(getattr(base, "_defaults_", {}))
        inherited = []
        for base in reversed(cls.__mro__[1:]):
            for name in base.__dict__.get("_own_", ()):
                if name not in inherited:
                    inherited.append(name)
        for name in own:
            if name in namespace:
                default = namespace.pop(name)
                if isinstance(default, (list, dict, set)):
                    raise TypeError(f"mutable default for {cls.__name__}.{name}")
                defaults[name] = default
        names = tuple(inherited) + tuple(n for n in own if n not in inherited)
        namespace["__slots__"] = tuple(n for n in own if n not in inherited)
        namespace["_own_"] = tuple(own)
        namespace["_fields_"] = names
        namespace["_defaults_"] = defaults
        namespace["__match_args__"] = names
        for method in (_init, _repr, _eq, _hash, _setattr, _delattr, _getstate, _setstate):
            namespace.setdefault(_METHODS[method], method)
        return type(cls)(cls.__name__, cls.__bases__, namespace)

    def _init(self, *args, **kwargs):
        names = self._fields_
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} values, got {len(args)}")
        for name, value in zip(names, args):
            if name in kwargs:
                raise TypeError(f"{type(self).__name__}: two values for {name}")
            _set(self, name, value)
        for name in names[len(args):]:
            value = kwargs.pop(name, _MISSING)
            if value is _MISSING:
                value = self._defaults_.get(name, _MISSING)
                if value is _MISSING:
                    raise TypeError(f"{type(self).__name__} needs {name}")
            _set(self, name, value)
        if kwargs:
            raise TypeError(f"{type(self).__name__} has no field {next(iter(kwargs))}")
        post = getattr(self, "__post_init__", None)
        if post is not None:
            post()

    def _values(self):
        return tuple([getattr(self, n) for n in self._fields_])

    def _repr(self):
        inside = ", ".join([f"{n}={getattr(self, n)!r}" for n in self._fields_])
        return f"{type(self).__name__}({inside})"

    def _eq(self, other):
        if other.__class__ is not self.__class__:
            return NotImplemented
        return _values(self) == _values(other)

    def _hash(self):
        return hash((type(self).__name__, *_values(self)))

    def _setattr(self, name, value):
        raise AttributeError(f"{type(self).__name__}.{name} is frozen")

    def _delattr(self, name):
        raise AttributeError(f"{type(self).__name__}.{name} is frozen")

    def _getstate(self):
        return _values(self)

    def _setstate(self, state):
        for name, value in zip(self._fields_, state):
            _set(self, name, value)

    _METHODS = {
        _init: "__init__", _repr: "__repr__", _eq: "__eq__", _hash: "__hash__",
        _setattr: "__setattr__", _delattr: "__delattr__",
        _getstate: "__getstate__", _setstate: "__setstate__",
    }  # fmt: skip

    def replace(value, /, **changes):
        """Return a copy of the record *value* with *changes*."""
        kept = {n: getattr(value, n) for n in value._fields_ if n not in changes}
        return type(value)(**kept, **changes)

    def fields(value, /):
        """Return the field names of a record or record class."""
        return value._fields_
