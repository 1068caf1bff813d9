"""`--filter` of containers, as podman's ps, rm, prune and the like understand it.

Source: podman-ps(1) of podman 4.3; its pkg/domain/filters, observed
"""

from __future__ import annotations

from rootless.engine.listing import Listed
from rootless.errors import NotFound, UsageError
from rootless.spec import moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Test = Callable[[Listed], bool]

_STATES = (
    "created",
    "initialized",
    "running",
    "stopped",
    "paused",
    "exited",
    "removing",
    "stopping",
    "unknown",
    "remote",
)
_META = frozenset("\\.+*?()|[]{}^$")
_HEX = frozenset("0123456789abcdef")


def filter_of(texts: Iterable[str], every: Sequence[Listed] = ()) -> Test:
    """Return what *texts* let through: one of the values of each key, all labels. *every*: for before= and since=.

    Raises: UsageError; NotFound for a container that does not exist
    """
    wanted: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f'invalid filter "{text}"')
        wanted.setdefault(key, []).append(value)
    tests = [_test(key, values, every) for key, values in wanted.items()]
    return lambda one: all([test(one) for test in tests])


def prune_filter(texts: Iterable[str]) -> Test:
    """Return what the filters of `container prune` let through: until, label and label!.

    Raises: UsageError
    """
    tests: list[Test] = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"filter input must be in the form of filter=value: {text} is invalid")
        if key == "label!":
            tests.append(lambda one, value=value: not _has_label(one, value))  # type: ignore[misc]
        elif key in ("label", "until"):
            tests.append(_test(key, [value], ()))
        else:
            raise UsageError(f"{key} is an invalid filter", hint="use until, label and label!")
    return lambda one: all([test(one) for test in tests])


def _test(key: str, values: list[str], every: Sequence[Listed]) -> Test:
    if key == "label":
        return lambda one: all([_has_label(one, value) for value in values])
    if key in ("before", "since"):
        return _by_age(key, values, every)
    if key == "until":
        limit = min([until(value) for value in values])
        return lambda one: (one.moment("created") or 0) < limit
    if key == "name":
        names = [matcher(value) for value in values]
        return lambda one: any([test(one.name) for test in names])
    if key == "id":
        ids = [matcher(value) if not _HEX.issuperset(value.lower()) else _starts(value.lower()) for value in values]
        return lambda one: any([test(one.id) for test in ids])
    if key == "status":
        for value in values:
            if value not in _STATES:
                raise UsageError(f"unknown container state: {value}: invalid argument")
        states = {"exited" if value == "stopped" else value for value in values}
        return lambda one: ("created" if one.status == "starting" else one.status) in states
    if key == "exited":
        codes = [_code(value) for value in values]
        return lambda one: one.status == "exited" and one.exit_code in codes
    if key == "pod":
        raise UsageError("there are no pods: --filter pod= is not supported")
    simple = _SIMPLE.get(key)
    if simple is None:
        raise UsageError(f"{key} is an invalid filter", hint=f"use {', '.join(KEYS)}")
    return lambda one: any([simple(one, value) for value in values])


def _starts(text: str) -> Callable[[str], bool]:
    return lambda cid: cid.startswith(text)


def _code(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        words = f'exited code out of range: strconv.ParseInt: parsing "{text}": invalid syntax'
        raise UsageError(words) from None


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return the test of a name by a regular expression, unanchored; the module `re` is loaded for real ones only.

    Raises: UsageError
    """
    plain = pattern.removeprefix("^").removesuffix("$")
    if _META.isdisjoint(plain):
        if pattern[:1] == "^":
            return (lambda name: name == plain) if pattern[-1:] == "$" else (lambda name: name.startswith(plain))
        return (lambda name: name.endswith(plain)) if pattern[-1:] == "$" else (lambda name: plain in name)
    import re

    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"error parsing regexp: {error}: `{pattern}`") from None
    return lambda name: compiled.search(name) is not None


def glob(pattern: str, text: str) -> bool:
    """Tell whether *text* is what *pattern* means; a pattern with more than `*` in it loads `fnmatch`."""
    if "?" in pattern or "[" in pattern:
        import fnmatch

        return fnmatch.fnmatchcase(text, pattern)
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    if not text.startswith(first):
        return False
    text = text[len(first) :]
    for part in rest[:-1]:
        at = text.find(part)
        if at < 0:
            return False
        text = text[at + len(part) :]
    return text.endswith(rest[-1])


def labels_match(labels: dict[str, str], text: str) -> bool:
    """Tell whether *labels* hold what label=*text* asks for: a key, also with a `*` in it, or a key with a value."""
    name, _, value = text.partition("=")
    if "*" in name:
        return any([glob(name, key) and value in ("", have) for key, have in labels.items()])
    return name in labels and value in ("", labels[name])


def _has_label(one: Listed, text: str) -> bool:
    return labels_match(one.data.get("labels") or {}, text)


def _by_age(key: str, values: list[str], every: Sequence[Listed]) -> Test:
    moments = []
    for value in values:
        found = [one for one in every if one.name == value] or [
            one for one in every if value and one.id.startswith(value)
        ]
        if not found:
            raise no_container(value)
        moments.append(found[0].moment("created") or 0)
    limit = min(moments)
    if key == "before":
        return lambda one: (one.moment("created") or 0) < limit
    return lambda one: (one.moment("created") or 0) > limit


def no_container(text: str) -> NotFound:
    """Return podman's words for a container that does not exist."""
    error = NotFound("container", text)
    error.message = f'no container with name or ID "{text}" found: no such container'
    error.args = (error.message,)
    return error


def until(text: str) -> int:
    """Return the moment that until=*text* means: a time, seconds since 1970, or a span before now.

    Raises: UsageError in podman's words
    """
    span = moment.parse_span(text)
    if span is not None:
        import time

        return time.time_ns() - span
    found = moment.parse(text)
    if found is None:
        whole, _, part = text.partition(".")
        if whole.isdecimal() and whole.isascii() and (not part or part.isdecimal()):
            return int(whole) * moment.SECOND_NS + int((part or "0")[:9].ljust(9, "0"))
        raise UsageError(f'failed to parse value as time or duration: "{text}"')
    return found


def _ancestor(one: Listed, value: str) -> bool:
    image, image_id = str(one.data.get("image") or ""), one.image_id or "-"
    named = (image, image.removesuffix(":latest"))
    return image_id.startswith(value) or value in named or any([name.endswith(f"/{value}") for name in named])


def _volume(one: Listed, value: str) -> bool:
    source, colon, target = value.partition(":")
    for mount in one.data.get("mounts") or ():
        name, path, place = mount[:3]
        if colon and source in (name, path) and target == place:
            return True
        if not colon and source and source in (name, path, place):
            return True
    return False


def _network(one: Listed, value: str) -> bool:
    mode = str((one.data.get("network") or {}).get("mode") or "")
    return mode == ("private" if value == "slirp4netns" else value)


def _restart(one: Listed, value: str) -> bool:
    return str((one.data.get("options") or {}).get("restart") or "no") == value


_SIMPLE: dict[str, Callable[[Listed, str], bool]] = {
    "ancestor": _ancestor,
    "health": lambda one, value: (one.health or "none") == value,
    "network": _network,
    "restart-policy": _restart,
    "volume": _volume,
}
KEYS = ("ancestor", "before", "exited", "health", "id", "label", "name", "network", "restart-policy", "since", "status",
        "until", "volume")  # fmt: skip
