"""Frozen value classes that cost nothing to import.

`dataclasses` alone costs more than a bare interpreter start (it pulls in re, inspect, copy ...),
so what lives on the start-up path is declared with `@record` instead. To a type checker a record
is a frozen dataclass; at run time it is a plain class with an `__init__` that takes its fields by
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

    def record(cls, /):
        """Turn *cls* into a frozen value class with a field for each annotated name.

        The class is completed, not rebuilt: making every class a second time, which slots would need, is
        what most of the import of a module of records would go into.
        """
        inherited = getattr(cls, "_fields_", ())
        own = tuple([n for n in cls.__dict__.get("__annotations__", ()) if n not in inherited and n[:2] != "__"])
        names = inherited + own
        space = cls.__dict__
        defaults = dict(getattr(cls, "_defaults_", ()))
        for name in names:
            if name in space:
                default = defaults[name] = space[name]
                if isinstance(default, (list, dict, set)):
                    raise TypeError(f"mutable default for {cls.__name__}.{name}")
        cls._fields_ = cls.__match_args__ = names
        cls._defaults_ = defaults
        for name, method in _METHODS:
            if name not in space:
                setattr(cls, name, method)
        return cls

    def _init(self, *args, **kwargs):
        names = self._fields_
        own = self.__dict__
        if len(args) > len(names):
            raise TypeError(f"{type(self).__name__} takes {len(names)} values, got {len(args)}")
        own.update(self._defaults_)
        own.update(zip(names, args))
        if kwargs:
            for name in kwargs:
                if name not in names:
                    raise TypeError(f"{type(self).__name__} has no field {name}")
                if name in names[: len(args)]:
                    raise TypeError(f"{type(self).__name__}: two values for {name}")
            own.update(kwargs)
        if len(own) != len(names):
            missing = [name for name in names if name not in own]
            raise TypeError(f"{type(self).__name__} needs {', '.join(missing)}")
        post = getattr(self, "__post_init__", None)
        if post is not None:
            post()

    def _values(self):
        own = self.__dict__
        return tuple([own[n] for n in self._fields_])

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

    _METHODS = (
        ("__init__", _init), ("__repr__", _repr), ("__eq__", _eq), ("__hash__", _hash),
        ("__setattr__", _setattr), ("__delattr__", _delattr),
    )  # fmt: skip

    def replace(value, /, **changes):
        """Return a copy of the record *value* with *changes*."""
        kept = {n: getattr(value, n) for n in value._fields_ if n not in changes}
        return type(value)(**kept, **changes)

    def fields(value, /):
        """Return the field names of a record or record class."""
        return value._fields_
