"""Show how a pull goes: bars on a terminal, a line for each event elsewhere, nothing with --quiet.

Used by `rootless pull` on its own events, and by `rootless run` on the lines that its pulling child
writes, so nothing here imports httpx, ssl or trio before the fork; rich only once there is a terminal.

Source: the lines are podman 4.3's
"""

from __future__ import annotations

import os
import sys
import time

from rootless.errors import PeerGone, RootlessError
from rootless.plan.pulling import (
    Found,
    LayerBytes,
    LayerKnown,
    LayerRead,
    LayerUnpacked,
    Pulled,
    PullFailed,
    Retrying,
    Storing,
    Trying,
    Warned,
    decode_event,
)

TYPE_CHECKING = False
REDRAW_S = 0.1

if TYPE_CHECKING:
    from typing import Protocol, TextIO

    from rich.progress import Progress, TaskID

    from rootless.kernel.fds import Fd
    from rootless.plan.pulling import PullEvent

    class Renderer(Protocol):
        """Shows the events of one pull; `close` leaves the terminal as it should be."""

        def show(self, event: PullEvent) -> None: ...

        def close(self) -> None: ...


def make_renderer(stream: TextIO, *, quiet: bool) -> Renderer:
    """Return what suits *stream*, which is stderr: stdout only ever gets the image's id."""
    if quiet:
        return Quiet(stream)
    if stream.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return Bars(stream)
    return Lines(stream)


def follow(source: Fd, renderer: Renderer) -> Pulled:
    """Show the events that a pulling child writes to the pipe *source*, to their end.

    Blocks:  until the child is done
    Raises:  RootlessError as the child met it; PeerGone when it died without a word
    """
    rest = b""
    try:
        while True:
            data = os.read(source.fileno(), 65536)
            if not data:
                raise PeerGone("the pull")
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                event = decode_event(line)
                if event is None:
                    continue
                if isinstance(event, PullFailed):
                    raise RootlessError(event.message, hint=event.hint or None, code=event.code)
                renderer.show(event)
                if isinstance(event, Pulled):
                    return event
    finally:
        renderer.close()


class PullChild:
    """`rootless ARGV --progress-fd N`, whose first word is pull, in a fork of this process, which goes on.

    Owner: `finish` or `close` waits for the child
    """

    def __init__(self, argv: list[str]) -> None:
        """Start it. Raises: InternalError: this process has several threads"""
        from rootless.kernel.fds import pipe
        from rootless.kernel.fork import fork_child

        self._source, theirs = pipe()
        with theirs:
            self._pid = fork_child(theirs, lambda: _pull_here(argv))

    def finish(self, *, quiet: bool = False) -> Pulled:
        """Show how it goes on stderr.

        Blocks:  until the image is in the store
        Raises:  RootlessError as the child met it
        """
        try:
            return follow(self._source, make_renderer(sys.stderr, quiet=quiet))
        finally:
            self._end()

    def close(self) -> None:
        """End it, if nobody has waited for it: whoever started it needs no image any more."""
        if self._source.closed:
            return
        import _signal
        import posix

        posix.kill(self._pid, _signal.SIGTERM)  # not reaped yet, so the pid is its own
        self._end()

    def _end(self) -> None:
        from rootless.kernel.process import wait_pid

        self._source.close()  # a child that goes on writing ends by EPIPE
        wait_pid(self._pid)


def _pull_here(argv: list[str]) -> int:
    """Be the child."""
    import _signal

    from rootless.cli.commands.pull import pull_for_parent
    from rootless.cli.main import report
    from rootless.kernel.process import set_name

    set_name("rootless:[pull]")
    if _signal.getsignal(_signal.SIGINT) != _signal.SIG_IGN:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    try:
        return pull_for_parent(argv[1:])
    except RootlessError as error:
        return report(error)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


def human_size(count_bytes: int) -> str:
    """Return a size in decimal units with three digits, as podman prints it."""
    size, units = float(count_bytes), ["B", "kB", "MB", "GB", "TB"]
    while size >= 999.5 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.4g} {units[0]}" if size >= 1000 else f"{size:.3g} {units[0]}"


class Quiet:
    """Shows warnings only."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, event: PullEvent) -> None:
        if isinstance(event, Warned):
            _write(self._stream, f"rootless: warning: {event.text}\n")

    def close(self) -> None:
        pass


class Lines:
    """A line for each event."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._found: Found | None = None

    def show(self, event: PullEvent) -> None:
        text = self._text(event)
        if text:
            _write(self._stream, text + "\n")

    def close(self) -> None:
        pass

    def _text(self, event: PullEvent) -> str:
        if isinstance(event, Trying):
            return f"Trying to pull {event.name}..."
        if isinstance(event, Found):
            self._found = event
            return "\n".join([f"Copying blob {digest}" for digest in event.digests])
        if isinstance(event, LayerKnown):
            return f"Copying blob {self._digest(event.index)} skipped: already exists"
        if isinstance(event, LayerUnpacked):
            size = self._found.sizes[event.index] if self._found is not None else 0
            return f"Copying blob {self._digest(event.index)} done ({human_size(size)})"
        if isinstance(event, Storing) and self._found is not None:
            return f"Copying config {self._found.config}\nWriting manifest to image destination"
        if isinstance(event, Retrying):
            return _retrying(event)
        if isinstance(event, Warned):
            return f"rootless: warning: {event.text}"
        return ""

    def _digest(self, index: int) -> str:
        return self._found.digests[index] if self._found is not None else str(index)


class Bars:
    """A bar for each layer, redrawn as events come; no thread of its own."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        self._console = Console(file=stream)
        self._progress: Progress | None = None
        self._bars: list[TaskID] = []
        self._sizes: tuple[int, ...] = ()
        self._drawn = 0.0

    def show(self, event: PullEvent) -> None:
        if isinstance(event, Found):
            self._start(event)
        elif isinstance(event, (Trying, Retrying, Warned)):
            self._say(event)
        elif self._progress is not None:
            self._update(self._progress, event)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.refresh()
            self._progress.stop()
            self._progress = None

    def _start(self, event: Found) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        self._progress = Progress(
            TextColumn("Copying blob {task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TextColumn("{task.fields[state]}"),
            console=self._console,
            auto_refresh=False,
        )
        self._sizes = event.sizes
        for digest, size in zip(event.digests, event.sizes):
            self._bars.append(self._progress.add_task(digest.partition(":")[2][:12], total=size, state=""))
        self._progress.start()

    def _update(self, progress: Progress, event: PullEvent) -> None:
        if isinstance(event, LayerBytes):
            progress.update(self._bars[event.index], completed=event.done)
        elif isinstance(event, LayerKnown):
            progress.update(self._bars[event.index], completed=self._sizes[event.index], state="already exists")
        elif isinstance(event, LayerRead):
            progress.update(self._bars[event.index], completed=self._sizes[event.index], state="unpacking")
        elif isinstance(event, LayerUnpacked):
            progress.update(self._bars[event.index], completed=self._sizes[event.index], state="done")
        elif isinstance(event, Storing):
            self.close()
            self._console.print("Writing manifest to image destination", highlight=False)
            return
        now = time.monotonic()
        if now - self._drawn >= REDRAW_S:  # drawing costs the time of the process that may be pulling
            self._drawn = now
            progress.refresh()

    def _say(self, event: Trying | Retrying | Warned) -> None:
        if isinstance(event, Trying):
            text = f"Trying to pull {event.name}..."
        else:
            text = _retrying(event) if isinstance(event, Retrying) else f"rootless: warning: {event.text}"
        self._console.print(text, highlight=False, markup=False)


def _retrying(event: Retrying) -> str:
    return f"rootless: warning: {event.what}: {event.why}, trying again in {event.delay_ms / 1000:.1f} s"


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        pass  # nobody reads; the pull goes on
