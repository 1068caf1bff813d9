"""Read a container's log from the systemd journal, by its own program.

Source: journalctl(1): -o json, --after-cursor; systemd.journal-fields(7)
"""

from __future__ import annotations

import os
import select
import time

from rootless.errors import KernelError, NotSupported
from rootless.kernel.fds import Fd
from rootless.kernel.process import pidfd_open, pidfd_send_signal, spawn, wait_pid
from rootless.proto import logline
from rootless.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.engine.logfile import Entry
    from rootless.engine.logs import Wanted

READ_BYTES = 1 << 16
_SIGTERM = 15
_ERROR_PRIORITY = "3"
_PLACES = ("/usr/bin/journalctl", "/bin/journalctl", "/run/current-system/sw/bin/journalctl")


class JournalFeed:
    """The entries of one container.

    Owner: a journalctl that runs until it has said all, or until `close`
    """

    def __init__(self, cid: str, wanted: Wanted) -> None:
        self._match = f"CONTAINER_ID_FULL={cid}"
        self._cursor = ""
        self._rest = b""
        self._pid = 0
        self._pipe: Fd | None = None
        self._follows = wanted.follow
        self._seconds_east = time.localtime().tm_gmtoff
        words = ["-n", "all" if wanted.tail < 0 else str(wanted.tail)]
        if wanted.since_ns and wanted.tail < 0:
            words += ["--since", f"@{wanted.since_ns // 1_000_000_000}"]
        self._start([*words, "-f"] if wanted.follow else words)

    def _start(self, words: list[str]) -> None:
        program = next((path for path in _PLACES if os.access(path, os.X_OK)), "")
        if not program:
            raise NotSupported("reading logs of --log-driver journald", ("there is no journalctl",))
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        with Fd(theirs) as end:
            self._pipe = Fd(ours)
            argv = [program, "-q", "-a", "-o", "json", "--no-pager", *words, self._match]
            self._pid = spawn(argv, fds={1: end}, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"})

    def read(self) -> list[Entry]:
        """Return the next entries; waits for them unless the log is followed."""
        while self._pipe is not None:
            if self._follows and not select.select([self._pipe.fileno()], [], [], 0)[0]:
                return []
            data = os.read(self._pipe.fileno(), READ_BYTES)
            if not data:
                self._stop()
                return []
            data = self._rest + data
            end = data.rfind(b"\n") + 1
            self._rest = data[end:]
            found = [self._entry(line) for line in data[:end].split(b"\n") if line]
            entries = [entry for entry in found if entry is not None]
            if entries:
                return entries
        return []

    def settle(self) -> None:
        """End the journalctl that follows, and ask for what it has not said yet."""
        if not self._follows:
            return
        self._follows = False
        self._stop()
        self._start(["--after-cursor", self._cursor] if self._cursor else ["-n", "all"])

    def _entry(self, line: bytes) -> Entry | None:
        try:
            said: dict[str, Any] = jsontext.loads(line)
        except ValueError:
            return None
        self._cursor = str(said.get("__CURSOR") or self._cursor)
        message = said.get("MESSAGE")
        data = bytes(message) if isinstance(message, list) else str(message or "").encode("utf-8", "surrogatepass")
        microseconds = int(said.get("__REALTIME_TIMESTAMP") or 0)
        seconds, rest = divmod(microseconds, 1_000_000)
        when = logline.stamp(time.gmtime(seconds + self._seconds_east)[:6], rest * 1000, self._seconds_east)
        stream = logline.STDERR if said.get("PRIORITY") == _ERROR_PRIORITY else logline.STDOUT
        return when.encode(), stream, said.get("CONTAINER_PARTIAL_MESSAGE") == "true", data

    def _stop(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        self._rest = b""
        if self._pid:
            try:
                with pidfd_open(self._pid) as process:
                    pidfd_send_signal(process, _SIGTERM)
            except KernelError:
                pass  # it has ended
            wait_pid(self._pid)
            self._pid = 0

    def close(self) -> None:
        """End journalctl."""
        self._stop()
