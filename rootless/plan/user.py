"""Who the process is: the USER string, --group-add and the container's passwd and group texts. Pure.

A number is never looked up as a name; a number without an entry is taken as it is, with HOME=/.

Source: podman-run(1) "--user", "--group-add", "--passwd-entry"; passwd(5), group(5);
        observed: podman 4.3's words and exit status 126
"""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.spec.record import record

MAX_ID = 2147483647
EXIT_USER = 126


@record
class ExecUser:
    """The resolved user. *name* is the user's name, or the number where there is no entry."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str
    in_passwd: bool
    group_in_file: bool


def resolve(user: str, group_add: tuple[str, ...], passwd: bytes | None, group: bytes | None) -> ExecUser:
    """Return who USER `name|uid[:group|gid]` is.

    Shape: *passwd* and *group* are the container's files, None where there are none
    Raises: RootlessError (126) in podman's words
    """
    parts = user.split(":")
    who, whose = parts[0], parts[1] if len(parts) > 1 else ""
    entries = _entries(passwd, 7)
    number = _number(who)
    uid, gid, home, name, in_passwd = 0, 0, "/", who or "0", False
    for entry in entries:
        if (entry[2] == str(number if number is not None else 0)) if number is not None or not who else entry[0] == who:
            name, home, in_passwd = entry[0], entry[5] or "/", True
            uid, gid = _number(entry[2]) or 0, _number(entry[3]) or 0
            break
    else:
        if who:
            if number is None:
                raise RootlessError(f"unable to find user {who}: no matching entries in passwd file", code=EXIT_USER)
            uid = _in_range(number)
    files = _entries(group, 4)
    sgids: list[int] = []
    if whose:
        gid = _group(whose, files)
    elif in_passwd:
        sgids = [_number(entry[2]) or 0 for entry in files if name in entry[3].split(",")]
    groups = [gid, *sgids] if uid or sgids or (whose and gid) else []
    for text in group_add:
        groups.append(_added(text, files))
    return ExecUser(
        uid=uid,
        gid=gid,
        groups=tuple(dict.fromkeys(groups)),
        home=home,
        name=name,
        in_passwd=in_passwd,
        group_in_file=any(entry[2] == str(gid) for entry in files),
    )


def passwd_lines(user: ExecUser, cwd: str, template: str, host_users: tuple[str, ...]) -> list[str]:
    """Return the lines to add to the container's passwd: --hostuser's, then --passwd-entry or the user's own."""
    lines: list[str] = []
    for line in host_users:
        fields = (line.split(":") + [""] * 7)[:7]
        lines.append(f"{fields[0]}:*:{fields[2]}:{fields[3]}:{fields[4]}:/:/bin/sh")
    if template:
        for mark, value in (
            ("$USERNAME", user.name), ("$UID", str(user.uid)), ("$GID", str(user.gid)),
            ("$NAME", "container user"), ("$HOME", user.home),
        ):  # fmt: skip
            template = template.replace(mark, value)
        lines.append(template)
    elif not user.in_passwd:
        lines.append(f"{user.name}:*:{user.uid}:{user.gid}:container user:{cwd or '/'}:/bin/sh")
    return lines


def appended(text: bytes, lines: list[str]) -> bytes:
    """Return *text* with *lines* behind it."""
    if text and not text.endswith(b"\n"):
        text += b"\n"
    return text + "".join([f"{line}\n" for line in lines]).encode("utf-8", "surrogateescape")


def _entries(text: bytes | None, least: int) -> list[list[str]]:
    """Return the fields of each line, filled up to *least* of them; comments and foreign lines fall out."""
    found: list[list[str]] = []
    for raw in (text or b"").split(b"\n"):
        line = raw.decode("utf-8", "surrogateescape").strip()
        fields = line.split(":")
        if line and not line.startswith("#") and len(fields) > 2 and _number(fields[2]) is not None:
            found.append(fields + [""] * (least - len(fields)))
    return found


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _in_range(number: int) -> int:
    if number > MAX_ID:
        raise RootlessError(f"uids and gids must be in range 0-{MAX_ID}", code=EXIT_USER)
    return number


def _group(text: str, files: list[list[str]]) -> int:
    number = _number(text)
    if number is not None:
        return _in_range(number)
    for entry in files:
        if entry[0] == text:
            return _number(entry[2]) or 0
    raise RootlessError(f"unable to find group {text}: no matching entries in group file", code=EXIT_USER)


def _added(text: str, files: list[list[str]]) -> int:
    for entry in files:
        if entry[0] == text:
            return _number(entry[2]) or 0
    number = _number(text)
    if number is None:
        raise RootlessError(
            f"looking up supplemental groups: unable to find group {text}: no matching entries in group file",
            code=EXIT_USER,
        )
    return _in_range(number)
