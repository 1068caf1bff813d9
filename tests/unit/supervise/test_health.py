"""What health checks run and what their results mean."""

from __future__ import annotations

from typing import Any

import pytest

from rootless.errors import RootlessError
from rootless.plan.options import HealthRequest
from rootless.supervise import health
from rootless.supervise.health import Result, Rules, rules_of, starting, with_result, words

S = health.NS


def request(*test: str, **more: Any) -> HealthRequest:
    return HealthRequest(test=test, **more)


def rules(*args: str, retries: int = 3, **more: Any) -> Rules:
    found = rules_of(request("CMD", *(args or ("true",)), retries=retries, **more))
    assert found is not None
    return found


def result(code: int, output: str = "") -> Result:
    return Result("a", "b", code, output)


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ((), ()),
        (("NONE",), ()),
        (("",), ()),
        (("CMD",), ()),
        (("CMD", ""), ()),
        (("CMD-SHELL",), ()),
        (("CMD", "curl", "-f"), ("curl", "-f")),
        (("CMD-SHELL", "a", "b"), ("/bin/sh", "-c", "a b")),
        (("/check", "x"), ("/check", "x")),
    ],
)
def test_what_is_run(test: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert words(test) == expected
    assert (rules_of(request(*test)) is None) == (expected == ())


def test_defaults_are_podmans() -> None:
    assert rules_of(None) is None
    assert rules("x") == Rules(("x",), 30 * S, 30 * S, 0, 3, "none")
    assert rules("x", interval_ns=-1).interval_ns == 0


def test_a_streak_of_retries_makes_it_unhealthy_and_one_success_healthy() -> None:
    document = starting(None)
    assert document == {"Status": "starting", "FailingStreak": 0, "Log": None}
    seen = []
    for code in (1, 1, 1, 1, 0, 1, -1, 125, 0):
        document = with_result(document, result(code), rules(retries=3), in_start_period=False)
        seen.append((document["Status"], document["FailingStreak"]))
    assert seen == [
        ("starting", 1), ("starting", 2), ("unhealthy", 3), ("unhealthy", 4), ("healthy", 0), ("healthy", 1),
        ("healthy", 2), ("unhealthy", 3), ("healthy", 0),
    ]  # fmt: skip


def test_the_start_period_forgives_failures_and_counts_success() -> None:
    document = with_result(starting(None), result(1), rules(retries=1), in_start_period=True)
    assert (document["Status"], document["FailingStreak"]) == ("starting", 0)
    document = with_result(document, result(0), rules(retries=1), in_start_period=True)
    assert document["Status"] == "healthy"


def test_the_log_keeps_the_last_five_and_survives_a_restart() -> None:
    document = starting(None)
    for number in range(7):
        document = with_result(document, result(0, str(number)), rules(), in_start_period=False)
    assert [entry["Output"] for entry in document["Log"]] == ["2", "3", "4", "5", "6"]
    assert document["Log"][0] == {"Start": "a", "End": "b", "ExitCode": 0, "Output": "2"}
    again = starting(document)
    assert (again["Status"], again["FailingStreak"], again["Log"]) == ("starting", 0, document["Log"])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"hi\ntwo\n", "hi\ntwo"),
        (b"a\r\nb", "a\nb"),
        (b"\n\n", "\n"),
        (b"\xff", "\ufffd"),
        (b"x" * 900, "x" * 500),
    ],
)
def test_output_as_podman_keeps_it(data: bytes, text: str) -> None:
    assert health.output_text(data) == text


def test_answers() -> None:
    assert health.answer(result(0)) == {"status": "healthy"}
    assert health.answer(result(1)) == {"status": "unhealthy"}
    with pytest.raises(RootlessError, match="exceeded timeout of 1m30s"):
        health.answer(Result("a", "b", -1, "", health.too_long(rules(timeout_ns=90 * S))))
