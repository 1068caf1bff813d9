"""The event log: written by many at once, replaced when it is long, read from any time on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rootless.engine import events as engine
from rootless.engine.events import Span
from rootless.errors import UsageError
from rootless.spec import jsontext
from rootless.store import events as store
from rootless.store.events import emit
from rootless.store.layout import Roots


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots(data=str(tmp_path / "data"), run=str(tmp_path), tmp=str(tmp_path / "tmp"))


def _all(roots: Roots, *filters: str, **span: Any) -> list[dict[str, Any]]:
    wanted = Span(**{"from_start": True, "stream": False, **span})
    return list(engine.read(roots, wanted, engine.filter_of(filters)))


def test_the_log_is_bounded_and_its_numbers_go_on(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MAX_BYTES", 2000)
    for number in range(100):
        emit(roots, "volume", "create", name=str(number))
    sizes = [os.stat(f"{store.path_of(roots)}{end}").st_size for end in ("", ".1")]
    assert max(sizes) < 2200
    numbers = [event["seq"] for event in _all(roots)]
    assert numbers == list(range(numbers[0], 101))
    assert len(numbers) > 20


def test_a_reader_goes_on_in_the_new_file(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    emit(roots, "volume", "create", name="0")
    log = engine._Log(store.path_of(roots), from_start=True)
    seen = log.read()
    monkeypatch.setattr(store, "MAX_BYTES", 300)
    for number in range(1, 30):
        emit(roots, "volume", "create", name=str(number))
        while more := log.read():
            seen += more
    log.close()
    assert [event["name"] for event in seen] == [str(number) for number in range(30)]


def test_half_a_line_of_a_writer_that_was_killed(roots: Roots) -> None:
    emit(roots, "volume", "create", name="a")
    with open(store.path_of(roots), "a") as file:
        file.write('{"time":1,"type":"vol')
    emit(roots, "volume", "create", name="b")
    assert [(event["name"], event["seq"]) for event in _all(roots)] == [("a", 1), ("b", 2)]


def test_a_log_that_cannot_be_written_is_no_error(roots: Roots) -> None:
    emit(Roots("/d", "/proc/nowhere", "/t"), "volume", "create", name="a")
    assert _all(Roots("/d", "/proc/nowhere", "/t")) == []


def test_labels_beyond_all_bounds_are_left_out(roots: Roots) -> None:
    emit(roots, "container", "create", name="a", attributes={"x": "y" * 100_000})
    assert [(event["name"], event.get("attributes")) for event in _all(roots)] == [("a", {})]


def test_filters(roots: Roots) -> None:
    emit(roots, "container", "create", id="c1", name="web", image="i", attributes={"a": "b"})
    emit(roots, "container", "died", id="c1", name="web", image="i", attributes={"a": "b"}, exit_code=3)
    emit(roots, "container", "create", id="c2", name="db", image="i")
    emit(roots, "volume", "create", name="data")
    emit(roots, "image", "pull", id="f00d", name="example.org/x")

    def names(*filters: str) -> list[str]:
        return [f"{event['status']} {event['name']}" for event in _all(roots, *filters)]

    assert names("container=web") == names("CONTAINER=c1") == ["create web", "died web"]
    assert names("event=create", "type=container") == ["create web", "create db"]
    assert names("status=died", "event=died") == ["died web"]
    assert names("event=died", "event=pull") == ["died web", "pull example.org/x"]
    assert names("label=a") == names("label=a=b") == ["create web", "died web"]
    assert names("label=a=c") == names("container=we") == names("pod=x") == []
    assert names("volume=da") == ["create data"]
    assert names("image=f00") == names("image=example.org/x") == ["pull example.org/x"]


@pytest.mark.parametrize(("text", "words"), [("size=3", "size is an invalid filter"), ("event", "cannot parse")])
def test_filters_that_do_not_exist(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        engine.filter_of([text])


def test_spans(roots: Roots) -> None:
    for name in "abc":
        emit(roots, "volume", "create", name=name)
    middle = _all(roots)[1]["time"]
    assert [event["name"] for event in _all(roots, since_ns=middle)] == ["b", "c"]
    assert [event["name"] for event in _all(roots, until_ns=middle)] == ["a"]
    assert [event["name"] for event in _all(roots, from_start=False)] == []
    # A stream whose end is past ends too.
    assert [event["name"] for event in _all(roots, until_ns=middle, stream=True)] == ["a"]


def test_documents_and_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    died = {"seq": 1, "time": 1_669_315_261_500_000_000, "type": "container", "status": "died", "id": "c" * 64,
            "name": "web", "image": "i", "attributes": {"a": "b"}, "exit_code": 3}  # fmt: skip
    document = engine.document_of(died)
    assert list(document) == ["ContainerExitCode", "ID", "Image", "Name", "Status", "Time", "Type", "Attributes"]
    assert (document["ContainerExitCode"], document["Attributes"]) == (3, {"a": "b"})
    assert "ContainerExitCode" not in engine.document_of({**died, "exit_code": 0})
    pull = engine.document_of({"time": 1, "type": "image", "status": "pull", "name": "x"})
    assert jsontext.loads(jsontext.dumps(pull))["Attributes"] is None
    assert engine.text_of(died).endswith(f" container died {'c' * 64} (image=i, name=web, a=b)")
    assert engine.text_of(died, trunc=True).endswith(f" container died {'c' * 12} (image=i, name=web, a=b)")
    assert engine.text_of({"time": 1, "type": "volume", "status": "create", "name": "v"}).endswith(" volume create v")
