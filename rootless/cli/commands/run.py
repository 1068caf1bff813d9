"""`rootless run`: a command in a new container.

Source: podman-run(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys
import time

from rootless.cli.flags_run import run_options
from rootless.cli.parser import parse
from rootless.cli.table_run import COMMAND
from rootless.errors import UsageError
from rootless.plan.options import GlobalOptions, RunOptions
from rootless.spec.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["COMMAND", "main"]


def main(argv: list[str], options: GlobalOptions) -> int:
    """Run the container; the exit status is its command's, or 125, 126, 127."""
    from rootless.cli.main import warn
    from rootless.store.layout import find_roots
    from rootless.supervise.early import Early

    parsed, options = parse(COMMAND, argv, options)
    asked = run_options(parsed, options, os.environ, os.getcwd(), _read_text)
    for number in range(3, 3 + asked.preserve_fds):
        try:
            os.fstat(number)
        except OSError:
            raise UsageError(
                f"file descriptor {number} is not available - the preserve-fds option requires that file "
                "descriptors must be passed"
            ) from None
    if asked.devices:
        from rootless.mount.hostparts import expand_devices

        asked = replace(asked, devices=expand_devices(asked.devices))
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    driver = options.storage_driver or os.environ.get("ROOTLESS_STORAGE_DRIVER", "")

    def pull(wanted: RunOptions) -> None:
        from rootless.cli.progress import pull_in_child

        first, *rest = _pull_words(wanted)
        pull_in_child([first, *_global_words(options), *rest], quiet=wanted.quiet)

    trace = _tracer(options.log_level)
    early = Early(asked, roots.run, os.environ)
    try:
        from rootless.supervise.session import Caller, run

        return run(asked, roots, driver, Caller(os.environ, pull, warn, trace), early)
    finally:
        early.close()


def _read_text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _global_words(options: GlobalOptions) -> list[str]:
    pairs = (("root", options.root), ("runroot", options.runroot), ("tmpdir", options.tmpdir))
    return [f"--{name}={value}" for name, value in pairs if value]


def _pull_words(wanted: RunOptions) -> list[str]:
    words = ["pull", f"--policy={'newer' if wanted.pull == 'newer' else 'always'}"]
    choice = [("arch", wanted.arch), ("os", wanted.os), ("variant", wanted.variant)]
    if wanted.platform:
        choice = [("platform", wanted.platform)]  # the others are its parts
    for name, value in (*choice, ("authfile", wanted.authfile)):
        if value:
            words.append(f"--{name}={value}")
    if wanted.tls_verify is not None:
        words.append(f"--tls-verify={'true' if wanted.tls_verify else 'false'}")
    return [*words, wanted.image]


def _tracer(level: str) -> Callable[[str], None]:
    """Return what says how long each stage took, with --log-level debug or info."""
    if level not in ("debug", "info", "trace"):
        return lambda stage: None
    last = [time.monotonic()]

    def trace(stage: str) -> None:
        now = time.monotonic()
        sys.stderr.write(f"rootless: {stage}: {(now - last[0]) * 1000:.1f} ms\n")
        last[0] = now

    return trace
