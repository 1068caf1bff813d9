"""Secrets of a container: files, variables, and nothing in the Spec that is recorded."""

from __future__ import annotations

import pytest

from rootless.errors import NotFound
from rootless.plan.options import RunOptions, SecretRequest
from rootless.plan.secrets import SecretFile, no_secret, places, secrets_of, with_variables
from rootless.spec.runtime import OCI_VERSION, Process, Spec


def read(text: str) -> tuple[str, bytes]:
    return {"one": ("one", b"1"), "id2": ("two", b"2\xff")}[text]


def test_files_and_variables() -> None:
    options = RunOptions(
        "image",
        secrets=(
            SecretRequest("one"),
            SecretRequest("id2", target="sub/x", uid=5, gid=6, mode=0o400),
            SecretRequest("one", target="/a/b"),
            SecretRequest("id2", "env"),
            SecretRequest("one", "env", "NAME"),
        ),
    )
    files, env = secrets_of(options, read)
    assert files == (
        SecretFile("/run/secrets/one", b"1", 0, 0, 0o444),
        SecretFile("/run/secrets/sub/x", b"2\xff", 5, 6, 0o400),
        SecretFile("/a/b", b"1", 0, 0, 0o444),
    )
    assert env == ("two=2\udcff", "NAME=1")
    assert places(files) == ("/run/secrets", "/a/b")


def test_variables_replace_others_of_that_name() -> None:
    spec = Spec(OCI_VERSION, Process(("sh",), "/", env=("A=1", "AB=2")))
    changed = with_variables(spec, ("A=secret",)).process
    assert changed is not None
    assert changed.env == ("AB=2", "A=secret")
    assert with_variables(spec, ()) is spec


def test_without_a_store() -> None:
    with pytest.raises(NotFound):
        no_secret("x")
