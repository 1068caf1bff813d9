"""A person at a terminal, for the commands that have one."""

from __future__ import annotations

import os
import pty
import select
import time

DEADLINE_S = 60.0


class Terminal:
    """A person at a terminal: a command on a pty, what it shows, what is typed."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self.shown = b""
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.execvpe(argv[0], argv, env)

    def type(self, text: bytes) -> None:
        os.write(self._master, text)

    def read_until(self, wanted: bytes) -> bytes:
        """Return what was shown up to *wanted*, which must come."""
        until = time.monotonic() + DEADLINE_S
        while wanted not in self.shown:
            assert time.monotonic() < until, f"{wanted!r} never came: {self.shown!r}"
            if select.select([self._master], [], [], 1.0)[0]:
                try:
                    self.shown += os.read(self._master, 4096)
                except OSError:
                    break
        found, _, self.shown = self.shown.partition(wanted)
        return found

    def end(self) -> int:
        """Return the exit status; what is still shown is read, or the command could not end."""
        while select.select([self._master], [], [], DEADLINE_S)[0]:
            try:
                if not os.read(self._master, 4096):
                    break
            except OSError:
                break
        os.close(self._master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
