"""References: the grammar, normalisation, and that what is printed is read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import ReferenceInvalid
from rootless.spec.digest import Digest, digest_of, parse_digest
from rootless.spec.reference import (
    ImageReference,
    candidates,
    familiar,
    is_loopback,
    parse_reference,
    split_port,
)

HEX = "0123456789abcdef" * 4

alnum = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=6)
component = st.builds(
    lambda first, rest: first + "".join(sep + word for sep, word in rest),
    alnum,
    st.lists(st.tuples(st.sampled_from([".", "_", "__", "-", "---"]), alnum), max_size=2),
)
path = st.lists(component, min_size=1, max_size=3).map("/".join)
host = st.one_of(
    st.lists(st.from_regex(r"\A[a-zA-Z0-9]([a-zA-Z0-9-]{0,4}[a-zA-Z0-9])?\Z"), min_size=2, max_size=3).map(".".join),
    st.sampled_from(["localhost", "127.0.0.1", "[::1]", "[2001:db8::1]"]),
)
port = st.one_of(st.just(""), st.integers(0, 65535).map(lambda n: f":{n}"))
domain = st.builds(str.__add__, host, port).filter(lambda d: d not in ("docker.io", "index.docker.io"))
tag = st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}\Z")
digest = st.one_of(
    st.text("0123456789abcdef", min_size=64, max_size=64).map(lambda h: Digest("sha256", h)),
    st.text("0123456789abcdef", min_size=128, max_size=128).map(lambda h: Digest("sha512", h)),
)


@given(domain, path, tag)
def test_a_full_name_with_a_tag_is_its_own_normal_form(domain: str, path: str, tag: str) -> None:
    text = f"{domain}/{path}:{tag}"
    assert parse_reference(text) == ImageReference(domain, path, tag, None)
    assert str(parse_reference(text)) == text


@given(domain, path, tag, digest)
def test_a_digest_beats_a_tag(domain: str, path: str, tag: str, digest: Digest) -> None:
    both = parse_reference(f"{domain}/{path}:{tag}@{digest}")
    assert both == parse_reference(f"{domain}/{path}@{digest}") == ImageReference(domain, path, None, digest)
    assert both.selector == str(digest)


@given(st.text(max_size=80))
def test_any_text_is_a_stable_reference_or_refused(text: str) -> None:
    try:
        found = parse_reference(text)
    except ReferenceInvalid:
        return
    assert parse_reference(str(found)) == found
    assert parse_reference(familiar(found)) == found
    assert str(found) in [str(c) for c in candidates(text)]


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.19", "docker.io/library/alpine:3.19"),
        ("org/tool", "docker.io/org/tool:latest"),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
        ("docker://alpine", "docker.io/library/alpine:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("127.0.0.1:5000/a/b/c:v1", "127.0.0.1:5000/a/b/c:v1"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("UPPER/x", "UPPER/x:latest"),
        (f"alpine@sha256:{HEX}", f"docker.io/library/alpine@sha256:{HEX}"),
        (f"alpine:3@sha256:{HEX}", f"docker.io/library/alpine@sha256:{HEX}"),
        ("a__b---c.d", "docker.io/library/a__b---c.d:latest"),
        ("oci:5000/x", "oci:5000/x:latest"),
    ],
)
def test_normal_forms(text: str, normal: str) -> None:
    assert str(parse_reference(text)) == normal


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("Foo", "lower case"),
        ("foo/Bar", "lower case"),
        ("a..b", "joined"),
        ("a___b", "joined"),
        ("a_-b", "joined"),
        ("-a", "joined"),
        ("a/", "empty part"),
        ("/a", "empty part"),
        ("a//b", "empty part"),
        ("a:", "tag"),
        ("a:-x", "tag"),
        ("a:" + "x" * 129, "longer than 128"),
        ("x/" + "a" * 256, "longer than 255"),
        (".a/b", "host name"),
        ("a-.com/b", "host name"),
        ("host:99999/b", "not a port"),
        ("[::1/b", "IPv6"),
        (HEX, "image id"),
        ("a@sha256:123", "64 lower-case hex"),
        ("a@md5:" + HEX, "unsupported algorithm"),
        ("a@", "no algorithm"),
        ("oci:/tmp/x", "transport 'oci'"),
        ("docker-archive:/x.tar", "transport"),
        ("dir:/tmp", "transport"),
        ("ä", "joined"),
        ("a b", "joined"),
        ("a\n", "joined"),
    ],
)
def test_what_is_refused_and_why(text: str, why: str) -> None:
    with pytest.raises(ReferenceInvalid) as caught:
        parse_reference(text)
    assert why in caught.value.message
    assert repr(text) in caught.value.message or "digest" in caught.value.message
    assert caught.value.code == 125


def test_a_short_name_may_be_a_local_image() -> None:
    assert [str(c) for c in candidates("tool:1")] == ["localhost/tool:1", "docker.io/library/tool:1"]
    assert [str(c) for c in candidates("org/tool")] == ["localhost/org/tool:latest", "docker.io/org/tool:latest"]
    assert [str(c) for c in candidates("docker.io/tool")] == ["docker.io/library/tool:latest"]
    assert [str(c) for c in candidates("quay.io/x")] == ["quay.io/x:latest"]
    assert [str(c) for c in candidates("localhost/x")] == ["localhost/x:latest"]


@pytest.mark.parametrize(
    ("domain", "yes"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:1", True),
        ("127.9.9.9", True),
        ("[::1]:5000", True),
        ("128.0.0.1", False),
        ("127.0.0.1.example.org", False),
        ("localhost.example.org", False),
        ("[::2]:5000", False),
        ("127.0.0.x", False),
    ],
)
def test_loopback(domain: str, yes: bool) -> None:
    assert is_loopback(domain) is yes


def test_ports() -> None:
    assert split_port("[::1]:5000") == ("[::1]", 5000)
    assert split_port("[::1]") == ("[::1]", None)
    assert split_port("host") == ("host", None)
    assert split_port("host:80") == ("host", 80)


@given(st.binary(max_size=64), st.sampled_from(["sha256", "sha512"]))
def test_digests_read_back(data: bytes, algorithm: str) -> None:
    found = digest_of(data, algorithm)
    assert parse_digest(str(found)) == found
    assert len(found.short) == 12
