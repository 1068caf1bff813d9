"""What --log-driver and --log-opt ask for.

Source: podman-run(1) of podman 4.3: k8s-file, json-file, journald, none, passthrough; path, max-size, tag
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

K8S_FILE, JSON_FILE, JOURNALD, NONE, PASSTHROUGH = "k8s-file", "json-file", "journald", "none", "passthrough"
DRIVERS = (K8S_FILE, JSON_FILE, JOURNALD, NONE, PASSTHROUGH)
FILES = (K8S_FILE, JSON_FILE)
_UNITS = "kmgtp"


@record
class LogConfig:
    """Where the output of a container is kept.

    Shape: *path* is absolute, "" where there is no file. Units: *max_size_bytes* 0 is no bound
    """

    driver: str
    path: str = ""
    tag: str = ""
    max_size_bytes: int = 0

    def as_record(self) -> dict[str, Any]:
        """Return the "log" of the container's record."""
        return {"driver": self.driver, "path": self.path, "tag": self.tag, "max_size_bytes": self.max_size_bytes}


def log_config(
    driver: str, opts: Iterable[tuple[str, str]], *, default_path: str, cwd: str, fields: dict[str, str]
) -> LogConfig:
    """Return the log that the flags ask for; "" is k8s-file. *fields* (ID, Name, ImageName) may stand in a tag.

    Raises: UsageError
    """
    driver = driver or K8S_FILE
    if driver not in DRIVERS:
        raise UsageError(
            "running container create option: invalid log driver: invalid argument", hint=f"use {', '.join(DRIVERS)}"
        )
    path, tag, bound = default_path, "", 0
    for name, value in opts:
        if name == "path":
            path = value if value[:1] == "/" else f"{cwd}/{value}"
        elif name == "max-size":
            bound = log_size(value)
        elif name == "tag":
            tag = tag_text(value, fields)
    if tag and driver in FILES:
        raise UsageError(f"{driver} doesn't support --log-opt tag", hint="--log-driver journald has tags")
    return LogConfig(driver, path if driver in FILES else "", tag, bound)


def log_size(text: str) -> int:
    """Read `10k`, `1.5MB`, `100`: bytes in powers of 1000, as podman reads this size.

    Raises: UsageError
    """
    word = text.strip().lower().removesuffix("b").removesuffix("i")
    number, power = word, 0
    if word and word[-1] in _UNITS:
        number, power = word[:-1].rstrip(" "), _UNITS.index(word[-1]) + 1
    whole, dot, part = number.partition(".")
    if not (whole.isascii() and whole.isdigit()) or (dot and not (part.isascii() and part.isdigit())):
        raise UsageError(f"invalid size: '{text}'")
    scale: int = 1000**power
    return int(whole) * scale + (int(part) * scale // 10 ** len(part) if part else 0)


def tag_text(template: str, fields: dict[str, str]) -> str:
    """Fill in `{{.Name}}` and the like; a field that is not known is an error.

    Raises: UsageError
    """
    done, rest = "", template
    while "{{" in rest:
        before, _, rest = rest.partition("{{")
        name, closed, rest = rest.partition("}}")
        field = name.strip().removeprefix(".")
        if not closed or field not in fields:
            known = ", ".join(["{{." + key + "}}" for key in fields])
            raise UsageError(f"--log-opt tag={template}: cannot use {{{{{name}}}}}", hint=f"use {known}")
        done += before + fields[field]
    return done + rest
