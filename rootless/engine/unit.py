"""A systemd user unit for a container: what `container unit` prints.

The unit runs the attached command in the foreground: systemd then sees the container's exit status itself, needs no pid
file, and has every process of it in the unit's cgroup, of which the limits get a part (Delegate=yes).

Source: systemd.service(5), systemd.unit(5) "Specifiers"; podman-generate-systemd(1) of podman 4.3
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

RESTART_POLICIES = ("no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:,=@+~")
_MARGIN_SECONDS = 60
# flags of run and create that a unit does not keep: it gives its own, or systemd takes their place
_DROP_BOOLS = ("--detach", "-d", "--rm", "--replace")
_DROP_VALUES = ("--restart", "--cidfile", "--pidfile", "--conmon-pidfile", "--sdnotify", "--name")


@record
class UnitRequest:
    """What the command line asks for; *program* is the whole path of `rootless` and its global flags."""

    program: tuple[str, ...]
    restart: str = "on-failure"
    restart_seconds: int | None = None
    start_seconds: int | None = None
    stop_seconds: int | None = None
    new: bool = False
    environment: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    header: str = ""


def unit(name: str, data: dict[str, Any], mounts_for: Sequence[str], request: UnitRequest) -> str:
    """Return the text of the unit of the container *name*. *mounts_for*: the directories that it needs.

    Raises: UsageError
    """
    if request.restart not in RESTART_POLICIES:
        raise UsageError(f"{request.restart} is not a valid restart policy")
    seconds = int(data.get("stop_timeout", 10)) if request.stop_seconds is None else request.stop_seconds
    me = request.program
    if request.new:
        starts = [_line((*me, *_created_anew(data, name)))]
        removes = [f"ExecStopPost=-{_line((*me, 'rm', '-f', '-t', str(seconds), '-i', name))}"]
    else:
        starts, removes = [_line((*me, "start", "-a", name))], []
    lines = [request.header] if request.header else []
    lines += ["[Unit]", f"Description=rootless container {name}", "Documentation=man:rootless-container-unit(1)"]
    for key, names in (("Wants", request.wants), ("After", request.after), ("Requires", request.requires)):
        more = ("network-online.target",) if key != "Requires" else ()
        if names or more:
            lines.append(f"{key}={' '.join([*more, *names])}")
    lines.append("RequiresMountsFor=" + " ".join([_word(path, dollars=False) for path in mounts_for]))
    lines += ["", "[Service]", "Type=exec", "Environment=ROOTLESS_SYSTEMD_UNIT=%n"]
    lines += [f"Environment={_word(text, dollars=False)}" for text in request.environment]
    lines.append(f"Restart={request.restart}")
    if request.restart_seconds is not None:
        lines.append(f"RestartSec={request.restart_seconds}")
    if request.start_seconds is not None:
        lines.append(f"TimeoutStartSec={request.start_seconds}")
    lines.append(f"TimeoutStopSec={seconds + _MARGIN_SECONDS}")
    lines += [f"ExecStart={text}" for text in starts]
    lines.append(f"ExecStop=-{_line((*me, 'stop', '-t', str(seconds), name))}")
    lines += removes
    lines += ["KillMode=mixed", "Delegate=yes", "", "[Install]", "WantedBy=default.target", ""]
    return "\n".join(lines)


def _created_anew(data: dict[str, Any], name: str) -> list[str]:
    """Return the words that make the container anew and stay with it: `run --rm --replace --name NAME ...`.

    Raises: UsageError - the record does not hold its command line
    """
    words = [str(word) for word in data.get("create_command") or ()][1:]
    verbs = [at for at, word in enumerate(words) if word in ("run", "create")]
    if not verbs:
        raise UsageError(f"cannot use --new on container {name}: no create command found")
    kept: list[str] = []
    options = data.get("options") or {}
    rest, image = words[verbs[0] + 1 :], str(options.get("image") or data.get("image") or "")
    at = 0
    while at < len(rest) and rest[at] != image:
        word = rest[at]
        at += 1
        if word in _DROP_BOOLS or word.partition("=")[0] in _DROP_BOOLS:
            continue
        if word.partition("=")[0] in _DROP_VALUES:
            at += "=" not in word
            continue
        if len(word) > 2 and word[0] == "-" != word[1] and "d" in word and set(word[1:]) <= set("ditq"):
            word = word.replace("d", "")  # -dit
            if word == "-":
                continue
        kept.append(word)
    return ["run", "--rm", "--replace", f"--name={name}", *kept, *rest[at:]]


def _line(words: Sequence[str]) -> str:
    return " ".join([_word(word) for word in words])


def _word(word: str, *, dollars: bool = True) -> str:
    """Quote one word as systemd reads it: % is doubled, and in a command line $ too."""
    doubled = word.replace("%", "%%")
    if dollars:
        doubled = doubled.replace("$", "$$")
    if word and _PLAIN.issuperset(word):
        return word
    escaped = doubled.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
