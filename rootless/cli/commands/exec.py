"""`rootless exec`: one more process in a running container.

Source: podman-exec(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.parser import Command, parse
from rootless.engine import life
from rootless.errors import ContainerStateError, RootlessError, UsageError
from rootless.kernel.fds import Fd, open_fd, pipe
from rootless.store import containers
from rootless.store.layout import find_roots
from rootless.supervise.attachment import DETACHED, Attachment, parse_keys
from rootless.supervise.client import Supervisor, connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.parser import Parsed
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="exec",
    summary="Run a process in a running container",
    usage="[options] CONTAINER [COMMAND [ARG...]]",
    description="Execute the specified command inside a running container.",
    flags=(
        ("detach", "d", "bool", "", "", "Run the exec session in detached mode (backgrounded)", ""),
        ("detach-keys", "", "string", "[a-Z]", '"ctrl-p,ctrl-q"', "Select the key sequence for detaching a container",
         ""),
        ("env", "e", "array", "", "", "Set environment variables", ""),
        ("env-file", "", "strings", "", "", "Read in a file of environment variables", ""),
        ("interactive", "i", "bool", "", "", "Keep STDIN open even if not attached", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
        ("preserve-fds", "", "uint", "", "0", "Pass N additional file descriptors to the container", ""),
        ("privileged", "", "bool", "", "", "Give the process extended Linux capabilities inside the container", ""),
        ("tty", "t", "bool", "", "", "Allocate a pseudo-TTY", ""),
        ("user", "u", "string", "", "", "Sets the username or UID used and optionally the groupname or GID", ""),
        ("workdir", "w", "string", "", "", "Working directory inside the container", ""),
    ),
    examples=("exec -it ctrID ls", 'exec -it -w /tmp myCtr pwd', "exec --user root ctrID ls"),
    interspersed=False,
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Run the process; the exit status is its own, 125, 126 or 127."""
    parsed, options = parse(COMMAND, argv, options)
    words = list(parsed.args)
    if not words and not parsed.flag("latest"):
        raise UsageError("exec requires the name or ID of a container or the --latest flag")
    keys = parse_keys(parsed.text("detach-keys", "ctrl-p,ctrl-q") if parsed.given("detach-keys") else "ctrl-p,ctrl-q")
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    container = life.latest(roots) if parsed.flag("latest") else life.find(roots, words.pop(0))
    if not words:
        raise UsageError("must provide a non-empty command to start an exec session: invalid argument")
    status = containers.status(roots, container)
    life.check_here(container, status)
    if status != "running":
        raise ContainerStateError("can only create exec sessions on running containers: container state improper")
    body = {
        "args": words,
        "tty": parsed.flag("tty"),
        "user": parsed.text("user"),
        "workdir": parsed.text("workdir"),
        "env": _environment(parsed),
        "privileged": parsed.flag("privileged"),
    }
    preserved = _preserved(parsed.number("preserve-fds") or 0)
    with connect(roots, container.id) as supervisor:
        if parsed.flag("detach"):
            supervisor.call("exec", {**body, "detach": True})
            return 0
        return _attached(supervisor, body, preserved, keys, interactive=parsed.flag("interactive"))


def _environment(parsed: Parsed) -> list[tuple[str, str]]:
    if not parsed.given("env") and not parsed.given("env-file"):
        return []
    from rootless.plan import values

    env: dict[str, str] = {}
    for path in parsed.many("env-file"):
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
        except OSError as error:
            reason = (error.strerror or "").lower()
            raise RootlessError(f'parsing env file "{path}": open {path}: {reason}') from None
        values.add_env_file(env, text, path, os.environ)
    for line in parsed.many("env"):
        try:
            values.add_env(env, line, os.environ)
        except UsageError as error:
            raise UsageError(f"parsing environment variables: {error}") from None
    return list(env.items())


def _preserved(count: int) -> list[Fd]:
    found = []
    for number in range(3, 3 + count):
        try:
            os.fstat(number)
        except OSError:
            raise UsageError(
                f"file descriptor {number} is not available - the preserve-fds option requires that file "
                "descriptors must be passed"
            ) from None
        found.append(Fd(number))
    return found


def _attached(
    supervisor: Supervisor, body: dict[str, Any], preserved: list[Fd], keys: bytes, *, interactive: bool
) -> int:
    """Run the process with our stdio; return its exit status, 0 when one has left by the detach keys."""
    sys.stdout.flush()
    if body["tty"]:
        null = open_fd("/dev/null", os.O_RDWR)
        with null:
            _, fds = supervisor.call("exec", body, [null, null, null, *preserved])
        if not fds:
            raise RootlessError("the supervisor sent no terminal")
        master = fds[0]
        os.set_blocking(master.fileno(), False)
        feed = master.dup() if interactive else None
        attachment = Attachment(supervisor.sock, supervisor.hear, supervisor.say, feed=feed, outputs=[(master, 1)],
                                keys=keys, tty=True, master=master)  # fmt: skip
    else:
        feed = None
        if interactive:
            stdin, feed = pipe()
        else:
            stdin = open_fd("/dev/null", os.O_RDONLY)
        out_r, out_w = pipe()
        err_r, err_w = pipe()
        theirs = [stdin, out_w, err_w]
        supervisor.call("exec", body, [*theirs, *preserved])
        for fd in theirs:
            fd.close()
        attachment = Attachment(supervisor.sock, supervisor.hear, supervisor.say, feed=feed,
                                outputs=[(out_r, 1), (err_r, 2)])  # fmt: skip
    code = attachment.run()
    return 0 if code == DETACHED else code
