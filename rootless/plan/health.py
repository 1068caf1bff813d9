"""The health check of a container: the image's HEALTHCHECK, changed by --health-*.

Source: image-spec config.md (docker's "Healthcheck"); podman-run(1) "--health-cmd"
"""

from __future__ import annotations

from rootless.errors import SpecError, UsageError
from rootless.plan.options import HealthRequest, RunOptions
from rootless.spec.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULTS = HealthRequest(interval_ns=30_000_000_000, timeout_ns=30_000_000_000, retries=3)


def health_of(options: RunOptions, config: dict[str, Any]) -> HealthRequest | None:
    """Return the check that runs, complete; None for a container without one.

    Shape:  *config* is the image's "config"
    Raises: UsageError in podman's words, SpecError
    """
    asked = options.health
    image = None if asked is not None and asked.test else _of_image(config)
    base = image or DEFAULTS
    if asked is not None:
        base = replace(
            base,
            test=asked.test or base.test,
            interval_ns=asked.interval_ns or base.interval_ns,
            timeout_ns=asked.timeout_ns or base.timeout_ns,
            start_period_ns=asked.start_period_ns or base.start_period_ns,
            retries=asked.retries or base.retries,
            on_failure=asked.on_failure,
        )
    if options.no_healthcheck or not base.test or base.test[0] == "NONE":
        if asked is not None and asked.on_failure != "none":
            raise UsageError(f"cannot set on-failure action to {asked.on_failure} without a health check")
        return None
    return base


def _of_image(config: dict[str, Any]) -> HealthRequest | None:
    found: Any = config.get("Healthcheck")
    if not isinstance(found, dict):
        return None
    check: dict[str, Any] = found  # pyright: ignore[reportUnknownVariableType]
    test: list[Any] = check.get("Test") or []
    if not isinstance(test, list) or not all(isinstance(word, str) for word in test):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SpecError("an array of strings is needed", pointer="/config/Healthcheck/Test")
    words: list[str] = test
    if words and words[0] not in ("CMD", "CMD-SHELL", "NONE"):
        words = ["CMD", *words]
    return HealthRequest(
        test=tuple(words),
        interval_ns=_number(check, "Interval") or DEFAULTS.interval_ns,
        timeout_ns=_number(check, "Timeout") or DEFAULTS.timeout_ns,
        start_period_ns=_number(check, "StartPeriod"),
        retries=_number(check, "Retries") or DEFAULTS.retries,
    )


def _number(check: dict[str, Any], key: str) -> int:
    found = check.get(key) or 0
    if not isinstance(found, int) or found < 0:
        raise SpecError("a number is needed", pointer=f"/config/Healthcheck/{key}")
    return found
