"""A stack of things to undo, for launches that must leave nothing when they fail.

contextlib.ExitStack costs 5 ms to import; this is the part of it that the start-up path needs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Undo:
    """Calls what was pushed in reverse order when the block is left, unless `keep()` was called.

    An undo step that fails does not hide the error that caused the unwinding, nor stop the others.
    """

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def push(self, step: Callable[[], object]) -> None:
        self._steps.append(step)

    def keep(self) -> Undo:
        """Hand the steps over to a new stack; leaving this block then undoes nothing."""
        kept = Undo()
        kept._steps, self._steps = self._steps, []
        return kept

    def run(self) -> None:
        """Undo everything now. Raises the first error after all steps have run."""
        first: BaseException | None = None
        while self._steps:
            try:
                self._steps.pop()()
            except BaseException as error:
                first = first or error
        if first is not None:
            raise first

    def __enter__(self) -> Undo:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if value is None:
            self.run()
            return
        try:
            self.run()
        except Exception as error:
            value.add_note(f"while undoing: {error}")
