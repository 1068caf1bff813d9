"""What a supervisor gets from the command line that becomes it or forks it: pulls, warnings, where things are.

Apart from the verbs, because a supervisor that is started beside the command line (ahead.py) needs none of their flags.
"""

from __future__ import annotations

import os
import sys
import time

from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.cli.progress import PullChild
    from rootless.plan.options import GlobalOptions, RunOptions
    from rootless.store.containers import Container
    from rootless.store.layout import Roots
    from rootless.supervise.detach import Link
    from rootless.supervise.early import Begun


def supervise(
    asked: RunOptions, roots: Roots, options: GlobalOptions, pull: puller, link: Link | None = None,
    begun: Begun | None = None,
) -> int:  # fmt: skip
    """Be the supervisor of a new container: of this command line, or forked by it. Returns its exit status.

    Owner: *pull* and *begun* are used up
    """
    from rootless.supervise.early import Early

    early = Early(shared_ids(asked, roots), roots.run, os.environ, begun)
    try:
        if link is None:
            pull.begin(asked, roots)
        from rootless.supervise.session import Caller, run

        caller = Caller(os.environ, pull, warn, tracer(options.log_level))
        return run(asked, roots, driver_of(options), caller, early, link)
    finally:
        pull.close()
        early.close()


def supervise_again(
    container: Container, roots: Roots, options: GlobalOptions, link: Link, attached: tuple[str, ...], *, hold: bool
) -> int:
    """Be the supervisor that was forked for *container*; errors are said on stderr, which is the command line's."""
    from rootless.plan import saved
    from rootless.supervise.early import Early

    try:
        early = Early(shared_ids(saved.decode(dict(container.data.get("options") or {})), roots), roots.run,
                      os.environ)  # fmt: skip
        try:
            from rootless.supervise.session import Caller, start

            caller = Caller(os.environ, puller(options), warn, tracer(options.log_level))
            return start(container, roots, driver_of(options), caller, early, link=link, attached=attached, hold=hold)
        finally:
            early.close()
    except Exception as error:
        from rootless.cli.main import told

        return told(error)


def shared_ids(asked: RunOptions, roots: Roots) -> RunOptions:
    """Return *asked* with the ids of the container whose user namespace it names. Raises: UsageError"""
    if not asked.userns.startswith("container:"):
        return asked
    from rootless.supervise.joining import with_shared_ids

    return with_shared_ids(asked, roots)


def warn(text: str) -> None:
    """Print one warning to the person; a supervisor mostly has none, and no need of the command line's module."""
    from rootless.cli import main

    main.warn(text)


def driver_of(options: GlobalOptions) -> str:
    return options.storage_driver or os.environ.get("ROOTLESS_STORAGE_DRIVER", "")


class puller:
    """Pulls images in child processes, so that no supervisor ever holds httpx, ssl or rich.

    Owner: `close` ends a pull that was begun and that nobody came for
    """

    def __init__(self, options: GlobalOptions) -> None:
        self._options = options
        self._begun: PullChild | None = None

    def __call__(self, wanted: RunOptions) -> None:
        """Pull what *wanted* names. Blocks: until it is there; Raises: RootlessError"""
        child, self._begun = self._begun or self._start(wanted), None
        child.finish(quiet=wanted.quiet)

    def begin(self, wanted: RunOptions, roots: Roots) -> None:
        """Start the pull that will be asked for, if it is certain; there is much to import meanwhile."""
        if wanted.rootfs or wanted.pull == "never":
            return
        if wanted.pull == "missing":
            from rootless.store.images import lookup

            try:
                if lookup(roots, wanted.image) is not None:
                    return
            except RootlessError:
                return  # it comes again where it is reported
        self._begun = self._start(wanted)

    def close(self) -> None:
        if self._begun is not None:
            self._begun.close()

    def _start(self, wanted: RunOptions) -> PullChild:
        from rootless.cli.progress import PullChild

        first, *rest = _pull_words(wanted)
        return PullChild([first, *global_words(self._options), *rest])


def global_words(options: GlobalOptions) -> list[str]:
    """Return the flags that lead a child of ours to the same roots."""
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


def tracer(level: str) -> Callable[[str], None]:
    """Return what says how long each stage took, with --log-level debug or info."""
    if level not in ("debug", "info", "trace"):
        return lambda stage: None
    last = [time.monotonic()]

    def trace(stage: str) -> None:
        now = time.monotonic()
        sys.stderr.write(f"rootless: {stage}: {(now - last[0]) * 1000:.1f} ms\n")
        last[0] = now

    return trace
