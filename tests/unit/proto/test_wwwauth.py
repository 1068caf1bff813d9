"""WWW-Authenticate: what servers send is understood, whatever else they send is survived."""

from __future__ import annotations

from base64 import b64decode
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.proto.wwwauth import Challenge, Credentials, choose, parse_challenges, token_request

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull"'


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (["Basic"], [("basic", {})]),
        (['Basic realm="a, b"'], [("basic", {"realm": "a, b"})]),
        (['basic REALM=x, charset="UTF-8"'], [("basic", {"realm": "x", "charset": "UTF-8"})]),
        ([r'Basic realm="say \"hi\" \\"'], [("basic", {"realm": 'say "hi" \\'})]),
        (['Bearer realm = "x" , service="y"'], [("bearer", {"realm": "x", "service": "y"})]),
        (["Negotiate abc==", "Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (["Negotiate, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (["Negotiate abc=, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (['Basic realm="x", Bearer realm="y"'], [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        (['Bearer realm="unclosed'], [("bearer", {"realm": "unclosed"})]),
        (["Bearer realm=https://a.example/token,service=x"],
         [("bearer", {"realm": "https://a.example/token", "service": "x"})]),
        ([",, ,"], []),
        ([""], []),
        (["=x"], [("x", {})]),
    ],
)  # fmt: skip
def test_parse(headers: list[str], found: list[tuple[str, dict[str, str]]]) -> None:
    assert [(c.scheme, dict(c.params)) for c in parse_challenges(headers)] == found


token = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8)
value = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
challenge = st.builds(
    Challenge,
    token,
    st.dictionaries(token, value, min_size=1, max_size=3).map(lambda d: tuple(d.items())),
)


@given(st.lists(challenge, max_size=3))
def test_round_trip_in_one_header_and_in_several(challenges: list[Challenge]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    texts = [f"{c.scheme} " + ", ".join(f"{k}={quoted(v)}" for k, v in c.params) for c in challenges]
    assert parse_challenges(texts) == tuple(challenges)
    assert parse_challenges([", ".join(texts)]) == tuple(challenges)


@given(st.lists(st.text(max_size=60), max_size=3))
def test_anything_is_survived(headers: list[str]) -> None:
    parse_challenges(headers)


def test_bearer_goes_before_basic() -> None:
    found = choose(parse_challenges(["Basic realm=x", HUB]))
    assert found is not None and found.scheme == "bearer"
    assert choose(parse_challenges(["Negotiate"])) is None
    without_realm = choose(parse_challenges(["Bearer", "Basic realm=x"]))
    assert without_realm is not None and without_realm.scheme == "basic"


def test_an_anonymous_token_request() -> None:
    (hub,) = parse_challenges([HUB])
    request = token_request(hub, "repository:other:pull", None)
    parts = urlsplit(request.url)
    assert (request.method, parts.netloc, parts.path) == ("GET", "auth.docker.io", "/token")
    assert parse_qs(parts.query) == {"service": ["registry.docker.io"], "scope": ["repository:library/alpine:pull"]}
    assert "Authorization" not in dict(request.headers)


def test_a_token_request_with_a_password_keeps_the_realms_query() -> None:
    (found,) = parse_challenges(['Bearer realm="http://t.example/a?tenant=1&x="'])
    request = token_request(found, "repository:a:pull repository:b:pull", Credentials("me", "pass:word"))
    query = parse_qs(urlsplit(request.url).query, keep_blank_values=True)
    assert query == {
        "tenant": ["1"], "x": [""], "scope": ["repository:a:pull", "repository:b:pull"], "account": ["me"]
    }  # fmt: skip
    kind, _, text = dict(request.headers)["Authorization"].partition(" ")
    assert (kind, b64decode(text)) == ("Basic", b"me:pass:word")


def test_an_identity_token_goes_in_the_body() -> None:
    (hub,) = parse_challenges([HUB])
    request = token_request(hub, "", Credentials(identity_token="secret"))
    assert (request.method, request.url) == ("POST", "https://auth.docker.io/token")
    form = parse_qs(request.body.decode())
    assert (form["grant_type"], form["refresh_token"]) == (["refresh_token"], ["secret"])


@pytest.mark.parametrize("realm", ["", "/token", "file:///etc/passwd", "https://", "token"])
def test_a_realm_that_is_no_address(realm: str) -> None:
    with pytest.raises(ValueError, match="not the address"):
        token_request(Challenge("bearer", (("realm", realm),)), "", None)


def test_a_password_is_never_shown() -> None:
    assert "secret" not in repr(Credentials("me", "secret", "secret"))
