"""Run the program `rootless` with roots of its own.

done = cli("run", "--rm", "--network=none", image, "id")
assert (done.status, done.out) == (0, "uid=0(root) ...")
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rootless.launcher import PROGRAMS
from tests.support.userns import remove_tree

TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Done:
    """What a command gave."""

    status: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"status {self.status}\nstdout: {self.out}\nstderr: {self.err}"


def launcher(program: str = "rootless") -> str:
    """Return the path of the launcher of *program*, beside the interpreter that runs the tests."""
    if program not in PROGRAMS:
        raise KeyError(program)
    path = Path(sys.prefix) / "bin" / program
    if not path.exists():
        raise FileNotFoundError(f"{path}: install the package with pip install -e .")
    return str(path)


class Cli:
    """The program `rootless` with --root, --runroot and --tmpdir below *place*."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.data, self.run, self.tmp = place / "data", place / "run", place / "tmp"
        place.mkdir(parents=True, exist_ok=True)
        for path in (self.run, self.tmp):
            path.mkdir(mode=0o700)

    def argv(self, *words: str | os.PathLike[str]) -> list[str]:
        """Return the whole command line of `rootless WORDS`."""
        roots = [f"--root={self.data}", f"--runroot={self.run}", f"--tmpdir={self.tmp}"]
        return [launcher(), *roots, *(os.fspath(word) for word in words)]

    def environ(self, **more: str) -> dict[str, str]:
        """Return a clean environment, and *more*."""
        home = self.place / "home"
        home.mkdir(exist_ok=True)
        return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "TERM": "dumb", **more}

    def __call__(
        self,
        *words: str | os.PathLike[str],
        stdin: str | bytes | None = None,
        env: dict[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Done:
        """Run `rootless WORDS` to its end; stdin is empty where none is given."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            self.argv(*words),
            input=data if data is not None else b"",
            capture_output=True,
            env=self.environ(**(env or {})),
            cwd=cwd,
            timeout=timeout_s,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def ok(self, *words: str | os.PathLike[str], stdin: str | bytes | None = None) -> str:
        """Run `rootless WORDS`, which must succeed, and return its output."""
        done = self(*words, stdin=stdin)
        assert done.status == 0, f"{' '.join(map(str, words))}: {done}"
        return done.out

    def start(self, *words: str | os.PathLike[str], **options: object) -> subprocess.Popen[bytes]:
        """Start `rootless WORDS`; its three streams are pipes unless *options* say otherwise."""
        pipes: dict[str, object] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(self.argv(*words), env=self.environ(), **(pipes | options))  # type: ignore[call-overload,no-any-return]

    def clean(self) -> None:
        """End what still runs and remove all roots; layers belong to subordinate ids."""
        if any((self.run / "containers").glob("*")):
            self("rm", "--force", "--all", "--time=0")
        remove_tree(self.place)
