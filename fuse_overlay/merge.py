"""The overlay rules and nothing else: what a name is when several layers have it, and what a directory lists.

Layers are numbered from the top, 0 first. An entry of an upper layer hides what lower layers have under its name; only
directories add up, as long as none of them is opaque and nothing that is not a directory stands in between.

Source: Documentation/filesystems/overlayfs.rst "Upper and Lower", "Directories", "whiteouts and opaque directories"
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


ABSENT, OTHER, DIRECTORY, WHITEOUT = range(4)
"""The kinds of an entry; OTHER is every file that is not a directory."""


def list_names(parts: Iterable[tuple[int, Iterable[tuple[bytes, int]]]]) -> dict[bytes, int]:
    """Merge the entries of one directory; *parts* are (layer, its entries), top first.

    Shape:   name -> the layer whose entry is visible
    """
    seen: dict[bytes, int] = {}
    hidden: set[bytes] = set()
    for layer, entries in parts:
        for name, kind in entries:
            if name in seen or name in hidden:
                continue
            if kind == WHITEOUT:
                hidden.add(name)
            elif kind != ABSENT:
                seen[name] = layer
    return seen


def stack_below(candidates: Sequence[int], look: Callable[[int], tuple[int, bool]]) -> tuple[int, ...]:
    """Return which of *candidates* (top first) add up to one directory.

    *look* says of a layer what it has there and whether that directory is opaque; it is called from the top and not
    below the layer that ends the stack.
    """
    found: list[int] = []
    for layer in candidates:
        kind, opaque = look(layer)
        if kind == ABSENT:
            continue
        if kind != DIRECTORY:
            break
        found.append(layer)
        if opaque:
            break
    return tuple(found)
