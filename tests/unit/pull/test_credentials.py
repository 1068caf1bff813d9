"""Where credentials are looked for, and what the files may hold."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import ImageError, UsageError
from rootless.proto.wwwauth import Credentials
from rootless.pull.credentials import Keyring, authfiles, find, helper_for, keys_for, load, parse_creds


def entry(user: str, password: str) -> dict[str, str]:
    return {"auth": b64encode(f"{user}:{password}".encode()).decode()}


def test_creds() -> None:
    assert parse_creds("me:pa:ss") == Credentials("me", "pa:ss")
    assert parse_creds("me:") == Credentials("me", "")
    for text in ("me", ":x", ""):
        with pytest.raises(UsageError):
            parse_creds(text)


def test_the_most_specific_key_comes_first() -> None:
    assert list(keys_for("q.io", "a/b")) == ["q.io/a/b", "q.io/a", "q.io"]
    assert list(keys_for("docker.io", "a"))[:2] == ["docker.io/a", "docker.io"]
    auths = {"q.io": entry("wide", "1"), "q.io/a": entry("team", "2"), "q.io/a/b": entry("repo", "3")}
    for path, user in (("a/b", "repo"), ("a/c", "team"), ("z", "wide"), ("ab", "wide")):
        found = find({"auths": auths}, "q.io", path, "f")
        assert found is not None and found.username == user
    assert find({"auths": auths}, "q.io:5000", "a/b", "f") is None


@pytest.mark.parametrize(
    ("key", "domain"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("docker.io", "docker.io"),
        ("https://q.io/v2/", "q.io"),
        ("http://q.io:5000", "q.io:5000"),
        ("q.io/", "q.io"),
    ],
)
def test_keys_as_docker_and_podman_write_them(key: str, domain: str) -> None:
    assert find({"auths": {key: entry("u", "p")}}, domain, "library/x", "f") == Credentials("u", "p")


def test_other_forms_of_an_entry() -> None:
    def one(value: Any) -> Credentials | None:
        return find({"auths": {"q.io": value}}, "q.io", "x", "f")

    assert one({"username": "u", "password": "p"}) == Credentials("u", "p")
    token = one({"auth": b64encode(b"<token>:").decode(), "identitytoken": "it"})
    assert token is not None and token.identity_token == "it"
    assert one({}) is one(None) is one("x") is None
    assert find({"auths": []}, "q.io", "x", "f") is find({}, "q.io", "x", "f") is None
    for auth in ("%%%", "4pi", b64encode(b"\xff\xfe").decode()):
        with pytest.raises(ImageError, match=r"f: the entry for q\.io is malformed"):
            one({"auth": auth})


def test_helpers() -> None:
    config = {"credHelpers": {"q.io": "one"}, "credsStore": "all"}
    assert [helper_for(config, d) for d in ("q.io", "docker.io", "x.io")] == ["one", "all", "all"]
    assert helper_for({"credHelpers": {"index.docker.io": "hub"}}, "docker.io") == "hub"
    assert helper_for({}, "q.io") == helper_for({"credsStore": 1}, "q.io") == ""


def test_files(tmp_path: Path) -> None:
    home = str(tmp_path)
    assert authfiles({"HOME": home}, 1 << 30) == (f"{home}/.config/containers/auth.json", f"{home}/.docker/config.json")
    environ = {"HOME": home, "XDG_RUNTIME_DIR": "/r", "XDG_CONFIG_HOME": "/c", "DOCKER_CONFIG": "/d"}
    assert authfiles(environ, 1000) == ("/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json")
    named = tmp_path / "auth.json"
    named.write_text("{}")
    assert authfiles({**environ, "REGISTRY_AUTH_FILE": str(named)}, 1000) == (str(named),)
    with pytest.raises(ImageError, match="no such file"):
        authfiles({"REGISTRY_AUTH_FILE": str(named)}, 1000, str(tmp_path / "other"))


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "auth.json"
    path.write_text(text)
    with pytest.raises(ImageError, match=str(path)):
        load(str(path))


async def test_the_first_file_that_knows_wins(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("absent", "empty", "other", "one", "two")]
    files[1].write_text("")
    files[2].write_text(json.dumps({"auths": {"x.io": entry("no", "no")}}))
    files[3].write_text(json.dumps({"auths": {"q.io": entry("one", "1")}}))
    files[4].write_text(json.dumps({"auths": {"q.io": entry("two", "2")}}))
    paths = tuple(str(path) for path in files)
    assert await Keyring(paths).lookup("q.io", "x") == Credentials("one", "1")
    assert await Keyring(paths).lookup("none.io", "x") is None
    assert await Keyring(paths, Credentials("given", "g")).lookup("q.io", "x") == Credentials("given", "g")
