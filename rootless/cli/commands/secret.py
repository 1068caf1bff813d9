"""`rootless secret create|ls|inspect|rm|exists`.

Source: podman-secret(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys
import time

from rootless.cli.parser import Command, parse
from rootless.errors import NotFound, RootlessError, UsageError
from rootless.store import events
from rootless.store import secrets as store
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.cli.parser import Parsed
    from rootless.plan.options import GlobalOptions
    from rootless.store.layout import Roots
    from rootless.store.secrets import Secret

CREATE = Command(
    name="secret create",
    summary="Create a new secret",
    usage="NAME FILE|-",
    description=(
        "Creates a secret from a file, from stdin (-) or, with --env, from a variable. It is kept in a file below the "
        "data root that only you can read."
    ),
    flags=(
        ("driver", "d", "string", "", '"file"', "Secret driver: only file", ""),
        ("driver-opts", "", "strings", "", "[]", "Driver specific options (KEY=VALUE)", ""),
        ("env", "", "bool", "", "", "Read secret data from environment variable", ""),
        ("label", "l", "array", "", "", "Labels of the secret (KEY=VALUE)", ""),
    ),
    examples=("secret create mysecret /path/to/secret", "secret create mysecret -"),
    min_args=2,
    max_args=2,
)
LS = Command(
    name="secret ls",
    summary="List secrets",
    usage="",
    description="Lists secrets; their values are never shown.",
    flags=(
        ("filter", "f", "strings", "", "", "Filter secret output (name, id)", ""),
        ("format", "", "string", "", "", "Format secret output using Go template", ""),
        ("noheading", "", "bool", "", "", "Do not print headers", ""),
        ("quiet", "q", "bool", "", "", "Print secret IDs only", ""),
    ),
    examples=("secret ls",),
    max_args=0,
)
INSPECT = Command(
    name="secret inspect",
    summary="Inspect a secret",
    usage="SECRET [SECRET...]",
    description="Displays detail information on one or more secrets, without their values.",
    flags=(
        ("format", "f", "string", "", "", "Format inspect output using Go template", ""),
        ("pretty", "", "bool", "", "", "Print inspect output in human-readable format", ""),
    ),
    examples=("secret inspect MYSECRET",),
    min_args=1,
)
RM = Command(
    name="secret rm",
    summary="Remove one or more secrets",
    usage="SECRET [SECRET...]",
    description="Removes one or more secrets. Containers that run keep what they have been given.",
    flags=(("all", "a", "bool", "", "", "Remove all secrets", ""),),
    examples=("secret rm mysecret1 mysecret2",),
)
EXISTS = Command(
    name="secret exists",
    summary="Check if a secret exists in local storage",
    usage="SECRET",
    description="Exits with 0 if the secret exists, with 1 if it does not.",
    examples=("secret exists mysecret",),
    min_args=1,
    max_args=1,
)
COMMANDS = {"create": CREATE, "ls": LS, "inspect": INSPECT, "rm": RM, "exists": EXISTS}
COMMAND = LS
COLUMNS = (("ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"), ("CREATED", "CreatedAt"), ("UPDATED", "UpdatedAt"))


def main(argv: list[str], options: GlobalOptions) -> int:
    """Do what the first word of *argv* says."""
    verb = argv[0]
    parsed, options = parse(COMMANDS[verb], argv[1:], options)
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    if verb == "create":
        return _create(parsed, roots)
    if verb == "ls":
        return _ls(parsed, roots)
    if verb == "inspect":
        return _inspect(parsed, roots)
    if verb == "rm":
        return _rm(parsed, roots)
    try:
        store.find(roots, parsed.args[0])
    except NotFound:
        return 1
    return 0


def _create(parsed: Parsed, roots: Roots) -> int:
    name, source = parsed.args
    secret = store.create(
        roots, name, _value(source, from_env=parsed.flag("env")), driver=parsed.text("driver", "file"),
        driver_options=_pairs(parsed.many("driver-opts")), labels=_pairs(parsed.many("label")),
    )  # fmt: skip
    events.emit(roots, "secret", "create", id=secret.id, name=secret.name)
    sys.stdout.write(secret.id + "\n")
    return 0


def _value(source: str, *, from_env: bool) -> bytes:
    """Return the value that the argument FILE|- (or a variable's name) stands for."""
    if from_env:
        found = os.environb.get(os.fsencode(source))
        if found is None:
            raise RootlessError(f"cannot create store secret data: environment variable {source} is not set")
        return found
    if source == "-":
        if os.isatty(0):
            raise UsageError("if `-` is used, data must be passed into stdin")
        return _read(0)
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise RootlessError(f"open {source}: {(error.strerror or '').lower()}") from None
    try:
        return _read(fd)
    finally:
        os.close(fd)


def _read(fd: int) -> bytes:
    data = b""
    while len(data) <= store.MAX_BYTES and (part := os.read(fd, 65536)):
        data += part
    return data


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name:
            raise UsageError(f'invalid label format: "{text}"')
        found[name] = value
    return found


def _wanted(texts: tuple[str, ...]) -> Callable[[Secret], bool]:
    names: list[Callable[[str], bool]] = []
    ids: list[str] = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"filter input must be in the form of filter=value: {text} is invalid")
        if key == "name":
            from rootless.engine.filters import matcher

            names.append(matcher(value))
        elif key == "id":
            ids.append(value)
        else:
            raise UsageError(f'invalid filter "{key}"')
    return lambda secret: (not names or any([test(secret.name) for test in names])) and (
        not ids or any([secret.id.startswith(one) for one in ids]))  # fmt: skip


def _ls(parsed: Parsed, roots: Roots) -> int:
    wanted = _wanted(parsed.many("filter"))
    found = [secret for secret in store.list_secrets(roots) if wanted(secret)]
    format = parsed.text("format")
    if parsed.flag("quiet") and not format:
        sys.stdout.write("".join([f"{secret.id}\n" for secret in found]))
        return 0
    from rootless.cli import output

    if format and output.is_json(format):
        sys.stdout.write(output.to_json([_document(secret) for secret in found]) + "\n")
        return 0
    rows = [_fields(secret) for secret in found]
    if format or rows:
        output.listing(rows, COLUMNS, format=format, name="list", noheading=parsed.flag("noheading"))
    elif not parsed.flag("noheading"):
        output.listing([], COLUMNS)
    return 0


def _fields(secret: Secret) -> dict[str, str]:
    from rootless.cli.output import human_duration
    from rootless.spec import moment

    def ago(key: str) -> str:
        then = moment.parse(secret.data.get(key)) or 0
        return f"{human_duration((time.time_ns() - then) / 1e9)} ago"

    return {"ID": secret.id, "Name": secret.name, "Driver": str(secret.data.get("driver")),
            "CreatedAt": ago("created"), "UpdatedAt": ago("updated")}  # fmt: skip


def _document(secret: Secret) -> dict[str, Any]:
    """Return what podman prints of a secret."""
    data = secret.data
    return {
        "ID": secret.id,
        "CreatedAt": data.get("created"),
        "UpdatedAt": data.get("updated"),
        "Spec": {
            "Name": secret.name,
            "Driver": {"Name": data.get("driver"), "Options": data.get("driver_options") or {}},
            "Labels": data.get("labels") or {},
        },
    }


def _inspect(parsed: Parsed, roots: Roots) -> int:
    found: list[Secret] = []
    failed: list[RootlessError] = []
    for text in parsed.args:
        try:
            found.append(store.find(roots, text))
        except RootlessError as error:
            failed.append(error)
    format = parsed.text("format")
    if parsed.flag("pretty") and format:
        raise UsageError("--format and --pretty cannot be used together")
    if parsed.flag("pretty"):
        sys.stdout.write("".join([_pretty(secret) for secret in found]))
    else:
        _print(found, format)
    sys.stdout.flush()
    for other in failed[1:]:
        sys.stderr.write(f"error inspecting secret: {other.message}\n")
    if failed:
        raise RootlessError(f"inspecting secret: {failed[0].message}")
    return 0


def _print(found: list[Secret], format: str) -> None:
    from rootless.cli import output

    documents = [_document(secret) for secret in found]
    if not format or format.strip() == "json":
        sys.stdout.write(output.to_json(documents) + "\n")
        return
    if output.is_json(format):
        from rootless.spec import jsontext

        sys.stdout.write("".join([jsontext.dumps(one) + "\n" for one in documents]))
        return
    from rootless.cli.govalues import Time

    rows = [{**one, "CreatedAt": Time(one["CreatedAt"]), "UpdatedAt": Time(one["UpdatedAt"])} for one in documents]
    output.listing(rows, (), format=format, name="inspect", kind="*entities.SecretInfoReport")


def _pretty(secret: Secret) -> str:
    from rootless.spec import moment

    data = secret.data
    lines = [f"ID:              {secret.id}", f"Name:              {secret.name}"]
    if data.get("labels"):
        lines.append("Labels:")
        lines += [f" - {key}" + (f"={value}" if value else "") for key, value in data["labels"].items()]
    lines.append(f"Driver:            {data.get('driver')}")
    for title, key in (("Created at", "created"), ("Updated at", "updated")):
        lines.append(f"{title}:        {moment.go_string(moment.parse(data.get(key)) or 0)}")
    return "\n".join(lines) + "\n"


def _rm(parsed: Parsed, roots: Roots) -> int:
    if parsed.flag("all") == bool(parsed.args):
        raise UsageError("`rootless secret rm` requires one argument, or the --all flag")
    failed: list[RootlessError] = []
    for text in parsed.args or [secret.id for secret in store.list_secrets(roots)]:
        try:
            secret = store.find(roots, text)
            store.remove(roots, secret)
            events.emit(roots, "secret", "remove", id=secret.id, name=secret.name)
            sys.stdout.write(secret.id + "\n")
            sys.stdout.flush()
        except RootlessError as error:
            failed.append(error)
    if not failed:
        return 0
    from rootless.cli.main import report

    return [report(error) for error in failed][-1]
