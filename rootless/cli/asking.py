"""Ask before something is removed.

Source: podman 4.3: `[y/N]`, and an error where there is nobody to answer
"""

from __future__ import annotations

import sys

from rootless.errors import RootlessError

QUESTION = "Are you sure you want to continue? [y/N] "


def confirmed(warning: str, *, code: int = 125) -> bool:
    """Print *warning* and the question; say whether the answer is yes.

    Raises: RootlessError - there is no answer, as from /dev/null
    """
    sys.stdout.write(warning + QUESTION)
    sys.stdout.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        raise RootlessError("EOF", hint="--force does without the question", code=code)
    return answer[:1].lower() == "y"
