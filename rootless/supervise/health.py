"""Health checks without processes and clocks: what is run, what a result means, what is written down.

    document = health.starting(None)
    document = health.with_result(document, result, rules, in_start_period=False)

The loop that runs them is supervise/checks.py. The document is podman's, in RUN/containers/ID/health.json:

    {"Status": "starting" | "healthy" | "unhealthy", "FailingStreak": N,
     "Log": null | [{"Start": TIME, "End": TIME, "ExitCode": 0 | 1 | 125 | -1, "Output": TEXT}, ...]}

An exit code is 0 or 1 whatever the program said, 125 when it could not be started for a fault of ours, -1 when it
took too long. Streaks are not counted in the start period; a success in it counts.

Source: podman 4.3, libpod/healthcheck.go
"""

from __future__ import annotations

import os

from rootless.errors import RootlessError
from rootless.spec.jsontext import dumps, loads
from rootless.spec.moment import span_text
from rootless.spec.record import record
from rootless.store import atomic, containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.plan.options import HealthRequest
    from rootless.store.layout import Roots

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
FILE = "health.json"
LOG_ENTRIES = 5
OUTPUT_CHARS = 500
NS = 1_000_000_000
INTERVAL_NS = TIMEOUT_NS = 30 * NS
RETRIES = 3
ACTIONS = ("none", "kill", "restart", "stop")
EXIT_TOO_LONG = -1


@record
class Rules:
    """A request with podman's defaults in place of what was not asked for.

    Shape: *args* the words to run; *interval_ns* 0: only when a person asks
    """

    args: tuple[str, ...]
    interval_ns: int
    timeout_ns: int
    start_period_ns: int
    retries: int
    on_failure: str


@record
class Result:
    """How one check went; *error* is what a person who asked for it is told, when it did not even run to its end."""

    start: str
    end: str
    exit_code: int
    output: str
    error: str = ""


def words(test: tuple[str, ...]) -> tuple[str, ...]:
    """Return what is run for *test*; nothing when there is no check.

    Source: CMD runs without a shell, CMD-SHELL with /bin/sh -c; anything else is run as it stands
    """
    if not test or test[0] in ("", "NONE"):
        return ()
    if test[0] == "CMD":
        found = test[1:]
    elif test[0] == "CMD-SHELL":
        found = ("/bin/sh", "-c", " ".join(test[1:])) if test[1:] else ()
    else:
        found = test
    return found if found and found[0] else ()


def rules_of(request: HealthRequest | None) -> Rules | None:
    """Return the rules for *request*; None where nothing is to be checked. A negative interval: never by itself"""
    args = words(request.test) if request is not None else ()
    if request is None or not args:
        return None
    return Rules(
        args=args,
        interval_ns=max(request.interval_ns or INTERVAL_NS, 0),
        timeout_ns=request.timeout_ns or TIMEOUT_NS,
        start_period_ns=request.start_period_ns,
        retries=request.retries or RETRIES,
        on_failure=request.on_failure or "none",
    )


def starting(before: dict[str, Any] | None) -> dict[str, Any]:
    """Return the document of a container that begins; the log of an earlier life stays."""
    return {"Status": STARTING, "FailingStreak": 0, "Log": before.get("Log") if before else None}


def with_result(document: dict[str, Any], result: Result, rules: Rules, *, in_start_period: bool) -> dict[str, Any]:
    """Return *document* after one more check."""
    status, streak = document["Status"], int(document["FailingStreak"])
    if result.exit_code == 0:
        status, streak = HEALTHY, 0
    elif not in_start_period:
        streak += 1
        if streak >= rules.retries:
            status = UNHEALTHY
    entry = {"Start": result.start, "End": result.end, "ExitCode": result.exit_code, "Output": result.output}
    log = [*(document["Log"] or ()), entry]
    return {"Status": status, "FailingStreak": streak, "Log": log[-LOG_ENTRIES:]}


def output_text(data: bytes) -> str:
    """Return what of a program's output is kept."""
    lines = data.decode("utf-8", "replace").split("\n")
    if lines[-1] == "":
        lines.pop()
    return "\n".join([line.removesuffix("\r") for line in lines])[:OUTPUT_CHARS]


def too_long(rules: Rules) -> str:
    return f"healthcheck command exceeded timeout of {span_text(rules.timeout_ns)}"


def answer(result: Result) -> dict[str, Any]:
    """Return what `healthcheck run` is told. Raises: RootlessError when the check did not run to its end"""
    if result.error:
        raise RootlessError(result.error)
    return {"status": HEALTHY if result.exit_code == 0 else UNHEALTHY}


def none_defined(cid: str) -> RootlessError:
    return RootlessError(f"container {cid} has no defined healthcheck")


def read(roots: Roots, cid: str) -> dict[str, Any] | None:
    """Return the document of a container; None where there is none."""
    text = atomic.read_file(f"{containers.run_dir(roots, cid)}/{FILE}")
    try:
        found: Any = loads(text) if text else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def write(roots: Roots, cid: str, document: dict[str, Any]) -> None:
    """Replace the document. A run root that is full or gone costs the document, not the container."""
    path = f"{containers.run_dir(roots, cid)}/{FILE}"
    try:
        with open(f"{path}.new", "w", encoding="utf-8") as out:
            out.write(dumps(document))
        os.rename(f"{path}.new", path)
    except OSError:
        pass
