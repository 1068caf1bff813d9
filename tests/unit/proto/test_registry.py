"""The registry session against scripted answers: no network, no clock."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import (
    AuthRequired,
    DigestMismatch,
    ManifestNotFound,
    RegistryError,
    RootlessError,
)
from rootless.proto.messages import (
    Again,
    Document,
    Done,
    Event,
    Failed,
    NeedCredentials,
    Request,
    Response,
    Retry,
    Stream,
    TransportFailure,
)
from rootless.proto.registry import MAX_FAILURES, Exchange, RegistrySession, bases_for
from rootless.proto.wwwauth import Credentials
from rootless.spec import media
from rootless.spec.descriptor import Descriptor
from rootless.spec.digest import Digest, digest_of
from rootless.spec.reference import parse_reference

BODY = b'{"schemaVersion": 2}'
BLOB = bytes(range(256)) * 40
BEARER = (("www-authenticate", 'Bearer realm="https://auth.example/token",service="s"'),)
BASIC = (("www-authenticate", 'Basic realm="r"'),)
REFUSED = TransportFailure("refused", "connection refused")
BROKEN = TransportFailure("broken", "connection reset by peer")


def session(name: str = "reg.example/a/b", tls_verify: bool | None = None) -> RegistrySession:
    return RegistrySession(parse_reference(name), tls_verify)


def blob_of(data: bytes = BLOB, **more: object) -> Descriptor:
    return Descriptor(media.OCI_LAYER, digest_of(data), len(data), **more)  # type: ignore[arg-type]


def token(text: str = "t0k") -> Response:
    return Response(200, (), json.dumps({"token": text}).encode())


def error_body(code: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": "x"}]}).encode()


def failure(event: Event | None) -> RootlessError:
    assert isinstance(event, Failed), event
    return event.error


def header(request: Request, name: str) -> str:
    return dict(request.headers).get(name, "")


# ---- what is sent


def test_a_manifest_is_asked_for_by_tag_with_all_types() -> None:
    request = session("reg.example/a/b:v1").manifest("v1").next_request()
    assert request.url == "https://reg.example/v2/a/b/manifests/v1"
    assert [v for k, v in request.headers if k == "Accept"] == list(media.ACCEPT_MANIFEST)
    assert request.verify and request.limit_bytes == 4 << 20


def test_docker_hub_has_another_host() -> None:
    assert session("alpine").manifest("latest").next_request().url == (
        "https://registry-1.docker.io/v2/library/alpine/manifests/latest"
    )


@pytest.mark.parametrize(
    ("domain", "tls_verify", "schemes"),
    [
        ("reg.example", None, [("https", True)]),
        ("reg.example", True, [("https", True)]),
        ("reg.example", False, [("https", False), ("http", False)]),
        ("127.0.0.1:5000", None, [("http", False), ("https", False)]),
        ("[::1]:5000", None, [("http", False), ("https", False)]),
        ("localhost", True, [("https", True)]),
        ("127.0.0.1:5000", False, [("https", False), ("http", False)]),
    ],
)
def test_schemes(domain: str, tls_verify: bool | None, schemes: list[tuple[str, bool]]) -> None:
    assert [(b.scheme, b.verify) for b in bases_for(domain, tls_verify)] == schemes


# ---- documents


def test_a_manifest() -> None:
    s = session()
    found = s.manifest("latest").receive(Response(200, (("content-type", f"{media.OCI_MANIFEST}; x=y"),), BODY))
    assert found == Document(BODY, media.OCI_MANIFEST, digest_of(BODY))
    assert s.settled


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_manifest_by_digest_is_verified(algorithm: str) -> None:
    digest = digest_of(BODY, algorithm)
    assert isinstance(session().manifest(str(digest)).receive(Response(200, (), BODY)), Document)
    other = session().manifest(str(digest)).receive(Response(200, (), BODY + b" "))
    assert isinstance(failure(other), DigestMismatch)


def test_a_manifest_that_is_not_what_the_registry_says() -> None:
    headers = (("docker-content-digest", f"sha256:{'0' * 64}"),)
    assert isinstance(failure(session().manifest("v1").receive(Response(200, headers, BODY))), DigestMismatch)


def test_a_config_of_the_wrong_size() -> None:
    descriptor = Descriptor(media.OCI_CONFIG, digest_of(BODY), len(BODY) + 1)
    found = failure(session().config(descriptor).receive(Response(200, (), BODY)))
    assert isinstance(found, DigestMismatch) and "20 bytes instead of 21" in found.message


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (404, error_body("MANIFEST_UNKNOWN"), ManifestNotFound, "manifest unknown (HTTP 404)"),
        (404, error_body("NAME_UNKNOWN"), ManifestNotFound, "no such repository"),
        (404, b"<html>", ManifestNotFound, "not found (HTTP 404)"),
        (403, error_body("DENIED"), AuthRequired, "access denied"),
        (400, error_body("ODD"), RegistryError, "x (HTTP 400)"),
        (418, b"", RegistryError, "unexpected answer (HTTP 418)"),
        (405, b'{"errors": []}', RegistryError, "HTTP 405"),
    ],
)
def test_refusals(status: int, body: bytes, kind: type[RootlessError], words: str) -> None:
    found = failure(session().manifest("v1").receive(Response(status, (), body)))
    assert isinstance(found, kind)
    assert "manifest v1 in reg.example/a/b" in found.message and words in found.message
    assert "\n" not in found.message and found.code == 125


# ---- authorization


def test_the_token_dance_without_credentials() -> None:
    s = session()
    exchange = s.manifest("v1")
    exchange.next_request()
    assert exchange.receive(Response(401, BEARER)) == NeedCredentials("reg.example")
    s.set_credentials(None)
    assert isinstance(exchange.after_credentials(), Again)
    ask = exchange.next_request()
    assert ask.url == "https://auth.example/token?service=s&scope=repository:a/b:pull"
    assert isinstance(exchange.receive(token()), Again)
    again = exchange.next_request()
    assert header(again, "Authorization") == "Bearer t0k"
    assert isinstance(exchange.receive(Response(200, (), BODY)), Document)
    assert header(s.blob(blob_of()).next_request(), "Authorization") == "Bearer t0k"


def test_a_token_that_is_refused_is_the_end() -> None:
    s = session()
    s.set_credentials(None)
    exchange = s.manifest("v1")
    exchange.next_request()
    exchange.receive(Response(401, BEARER))
    exchange.next_request()
    exchange.receive(token())
    exchange.next_request()
    found = failure(exchange.receive(Response(401, BEARER, error_body("UNAUTHORIZED"))))
    assert isinstance(found, AuthRequired)
    assert "authentication required" in found.message and "--creds" in (found.hint or "")


def test_an_expired_token_is_renewed() -> None:
    s = session()
    s.set_credentials(None)
    first = s.manifest("v1")
    first.next_request()
    first.receive(Response(401, BEARER))
    first.next_request()
    first.receive(token("old"))
    first.next_request()
    assert isinstance(first.receive(Response(200, (), BODY)), Document)
    one, two = s.blob(blob_of()), s.blob(blob_of(b"x"))
    one.next_request(), two.next_request()
    assert isinstance(one.receive(Response(401, BEARER)), Again)
    one.next_request()
    assert isinstance(one.receive(token("new")), Again)
    # The other one was refused with the old token too: it goes on with the new one, without a dance of its own.
    assert isinstance(two.receive(Response(401, BEARER)), Again)
    assert header(two.next_request(), "Authorization") == "Bearer new"
    assert header(one.next_request(), "Authorization") == "Bearer new"


def test_basic() -> None:
    s = session()
    exchange = s.manifest("v1")
    exchange.next_request()
    assert isinstance(exchange.receive(Response(401, BASIC)), NeedCredentials)
    s.set_credentials(Credentials("u", "p"))
    assert isinstance(exchange.after_credentials(), Again)
    assert header(exchange.next_request(), "Authorization") == "Basic dTpw"
    found = failure(exchange.receive(Response(401, BASIC)))
    assert isinstance(found, AuthRequired) and "were refused" in (found.hint or "")


def test_basic_without_credentials() -> None:
    s = session()
    exchange = s.manifest("v1")
    exchange.next_request()
    exchange.receive(Response(401, BASIC))
    s.set_credentials(None)
    assert isinstance(failure(exchange.after_credentials()), AuthRequired)
    other = s.manifest("v2")
    other.next_request()
    assert isinstance(failure(other.receive(Response(401, BASIC))), AuthRequired)


@pytest.mark.parametrize(
    ("status", "body"),
    [(403, b""), (200, b"{}"), (200, b"<html>"), (200, b'{"token": 1}'), (200, b'{"token": "a\\r\\nb"}'), (200, b"[]")],
)
def test_a_token_server_that_gives_no_token(status: int, body: bytes) -> None:
    s = session()
    s.set_credentials(None)
    exchange = s.manifest("v1")
    exchange.next_request()
    exchange.receive(Response(401, BEARER))
    exchange.next_request()
    found = failure(exchange.receive(Response(status, (), body)))
    assert isinstance(found, AuthRequired) and "auth.example" in found.message


@pytest.mark.parametrize("realm", ["http://auth.example/token", "nonsense", "", "https://[", "https://x:y/"])
def test_credentials_do_not_go_to_a_doubtful_token_server(realm: str) -> None:
    s = session()
    s.set_credentials(Credentials("u", "p"))
    exchange = s.manifest("v1")
    exchange.next_request()
    answer = Response(401, (("www-authenticate", f'Bearer realm="{realm}"'),))
    assert isinstance(failure(exchange.receive(answer)), AuthRequired)


# ---- redirects


@pytest.mark.parametrize(
    ("target", "keeps"),
    [
        ("https://cdn.example/x?sig=1", False),
        ("https://reg.example:444/x", False),
        ("https://reg.example/x", True),
        ("https://REG.example:443/x", True),
        ("/other", True),
        ("//evil.example/x", False),
    ],
)
def test_a_redirect_keeps_credentials_only_at_home(target: str, keeps: bool) -> None:
    s = session()
    s.authorize("Bearer t")
    exchange = s.blob(blob_of())
    assert header(exchange.next_request(), "Authorization") == "Bearer t"
    assert isinstance(exchange.receive(Response(307, (("location", target),))), Again)
    assert bool(header(exchange.next_request(), "Authorization")) is keeps


def test_redirects_end() -> None:
    exchange = session().blob(blob_of())
    event: Event = Again("")
    for _ in range(20):
        exchange.next_request()
        event = exchange.receive(Response(302, (("location", "/again"),)))
        if isinstance(event, Failed):
            break
    assert "without end" in failure(event).message


@pytest.mark.parametrize("target", ["http://reg.example/x", "file:///etc/passwd", "", "//[", "https://x:99999/"])
def test_redirects_to_somewhere_worse(target: str) -> None:
    exchange = session().blob(blob_of())
    exchange.next_request()
    assert isinstance(failure(exchange.receive(Response(302, (("location", target),)))), RegistryError)


def test_a_layer_kept_elsewhere() -> None:
    descriptor = Descriptor(media.OCI_FOREIGN_LAYER, digest_of(BLOB), len(BLOB), ("https://far.example/l",))
    s = session()
    s.authorize("Bearer t")
    exchange = s.blob(descriptor)
    exchange.next_request()
    assert isinstance(exchange.receive(Response(404)), Again)
    request = exchange.next_request()
    assert request.url == "https://far.example/l" and not header(request, "Authorization")
    assert isinstance(failure(exchange.receive(Response(404))), RegistryError)


# ---- http and https


def test_loopback_tries_http_then_https() -> None:
    exchange = session("127.0.0.1:5000/x").manifest("v1")
    assert exchange.next_request().url.startswith("http://")
    assert isinstance(exchange.receive(Response(400)), Again)
    request = exchange.next_request()
    assert request.url.startswith("https://") and not request.verify
    assert isinstance(exchange.receive(Response(200, (), BODY)), Document)


def test_a_settled_registry_is_not_tried_otherwise() -> None:
    s = session("127.0.0.1:5000/x")
    s.manifest("v1").receive(Response(200, (), BODY))
    exchange = s.blob(blob_of())
    assert isinstance(failure(exchange.receive(Response(400))), RegistryError)
    assert exchange.next_request().url.startswith("http://")


def test_nobody_listens() -> None:
    exchange = session("127.0.0.1:5000/x").manifest("v1")
    assert isinstance(exchange.failed(REFUSED), Again)
    found = failure(exchange.failed(REFUSED))
    assert found.message == "contacting registry 127.0.0.1:5000: connection refused"
    assert "listening" in (found.hint or "")


def test_a_certificate_that_is_not_trusted() -> None:
    exchange = session().manifest("v1")
    found = failure(exchange.failed(TransportFailure("tls", "certificate not accepted: self-signed certificate")))
    assert "self-signed" in found.message and "--tls-verify=false" in (found.hint or "")


# ---- failures and retries


def test_delays_grow_and_end() -> None:
    s = session()
    s.settled = True
    exchange = s.manifest("v1")
    delays = []
    event = exchange.failed(BROKEN)
    while isinstance(event, Retry):
        delays.append(event.delay_ms)
        event = exchange.failed(BROKEN)
    assert len(delays) == MAX_FAILURES and delays == sorted(set(delays))
    found = failure(event)
    assert "connection reset by peer" in found.message and "in the middle" in (found.hint or "")


@pytest.mark.parametrize(
    ("headers", "at_least_ms"),
    [
        ((("retry-after", "7"),), 7000),
        ((("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"), ("date", "Sun, 06 Nov 1994 08:49:37 GMT")), 10_000),
        ((("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), ("date", "Sun, 06 Nov 1994 08:49:47 GMT")), 1),
        ((("retry-after", "soon"),), 1),
        ((("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),), 1),
        ((), 1),
    ],
)
def test_retry_after(headers: tuple[tuple[str, str], ...], at_least_ms: int) -> None:
    event = session().manifest("v1").receive(Response(429, headers, error_body("TOOMANYREQUESTS")))
    assert isinstance(event, Retry) and at_least_ms <= event.delay_ms <= max(at_least_ms, 1000)
    assert "too many requests" in event.why


def test_a_wait_of_an_hour_is_not_waited() -> None:
    event = session().manifest("v1").receive(Response(429, (("retry-after", "3600"),)))
    assert "3600 s" in failure(event).message


# ---- blobs


def test_a_blob_in_one_piece() -> None:
    exchange = session().blob(blob_of())
    assert exchange.next_request().limit_bytes is None
    assert exchange.receive(Response(200, (("content-length", str(len(BLOB))),))) == Stream(0)
    assert exchange.progress(len(BLOB)) is None
    assert exchange.ended() == Done()


def test_a_broken_blob_goes_on_where_it_stopped() -> None:
    exchange = session().blob(blob_of())
    exchange.receive(Response(200))
    exchange.progress(100)
    assert isinstance(exchange.failed(BROKEN), Retry)
    assert header(exchange.next_request(), "Range") == "bytes=100-"
    span = f"bytes 100-{len(BLOB) - 1}/{len(BLOB)}"
    assert exchange.receive(Response(206, (("content-range", span),))) == Stream(0)
    exchange.progress(len(BLOB) - 100)
    assert exchange.ended() == Done()


def test_a_registry_without_ranges_sends_again_what_is_skipped() -> None:
    exchange = session().blob(blob_of())
    exchange.receive(Response(200))
    exchange.progress(100)
    exchange.failed(BROKEN)
    assert exchange.receive(Response(200)) == Stream(100)


@pytest.mark.parametrize("span", ["bytes 0-99/10240", "bytes 100-10239/7", "nonsense", ""])
def test_a_wrong_range_is_not_believed(span: str) -> None:
    exchange = session().blob(blob_of())
    exchange.receive(Response(200))
    exchange.progress(100)
    exchange.failed(BROKEN)
    assert isinstance(exchange.receive(Response(206, (("content-range", span),))), Retry)


def test_a_blob_of_the_wrong_size() -> None:
    exchange = session().blob(blob_of())
    found = failure(exchange.receive(Response(200, (("content-length", "5"),))))
    assert isinstance(found, DigestMismatch) and "5 bytes instead of 10240" in found.message
    exchange.receive(Response(200))
    assert isinstance(failure(exchange.progress(len(BLOB) + 1)), DigestMismatch)


def test_a_blob_that_always_stops_early() -> None:
    exchange = session().blob(blob_of())
    exchange.receive(Response(200))
    exchange.progress(100)
    event = exchange.ended()
    while isinstance(event, Retry):
        exchange.next_request()
        assert exchange.receive(Response(200)) == Stream(100)
        event = exchange.ended()
    assert "ended after 100 bytes" in failure(event).message


def test_a_retry_starts_from_the_registry_again() -> None:
    s = session()
    exchange = s.blob(blob_of())
    exchange.next_request()
    exchange.receive(Response(307, (("location", "https://cdn.example/x?sig=old"),)))
    assert "cdn.example" in exchange.next_request().url
    assert isinstance(exchange.receive(Response(403)), Retry)  # the signature ran out
    assert "reg.example" in exchange.next_request().url


# ---- a whole conversation, against a registry that may do anything


@dataclass
class Server:
    """A registry with one blob which breaks each answer off as *cuts* say, then serves it whole."""

    data: bytes
    cuts: list[int]
    ranges: bool
    sent: bytearray = field(default_factory=bytearray)

    def answer(self, request: Request) -> tuple[Response, bytes, bool]:
        """Return the head, the bytes that come, and whether all came."""
        wanted = header(request, "Range").removeprefix("bytes=").removesuffix("-")
        start = int(wanted) if wanted and self.ranges else 0
        body = self.data[start:]
        head = Response(200, (("content-length", str(len(body))),))
        if start:
            head = Response(206, (("content-range", f"bytes {start}-{len(self.data) - 1}/{len(self.data)}"),))
        cut = self.cuts.pop(0) if self.cuts else len(body)
        return head, body[:cut], cut >= len(body)


def download(exchange: Exchange, answer: Callable[[Request], tuple[Response, bytes, bool]], chunk: int) -> bytes:
    """Drive *exchange* as pull/registry.py does; return what it delivered."""
    got = bytearray()
    for _ in range(200):
        head, body, whole = answer(exchange.next_request())
        event = exchange.receive(head)
        if isinstance(event, Stream):
            fresh = body[event.skip_bytes :]
            for at in range(0, len(fresh), chunk):
                piece = fresh[at : at + chunk]
                assert exchange.progress(len(piece)) is None
                got += piece
            event = exchange.ended() if whole else exchange.failed(BROKEN)
        if isinstance(event, Done):
            return bytes(got)
        assert isinstance(event, (Retry, Again)), event
    raise AssertionError("the exchange does not end")


@given(
    st.binary(min_size=1, max_size=300),
    st.lists(st.integers(0, 300), max_size=3),
    st.booleans(),
    st.integers(1, 64),
)
def test_whatever_is_cut_off_the_blob_arrives_once(data: bytes, cuts: list[int], ranges: bool, chunk: int) -> None:
    server = Server(data, cuts, ranges)
    s = session()
    s.settled = True
    assert download(s.blob(blob_of(data)), server.answer, chunk) == data


ODD = ("//[", "https://x:99999/", "http://[::1", 'Bearer realm="https://["', 'Bearer realm="https://x:y/"', "é", "\n")
KNOWN = (BEARER[0][1], BASIC[0][1], "https://x.example/y", *ODD)
answers = st.one_of(
    st.builds(
        Response,
        st.sampled_from([200, 201, 206, 301, 307, 400, 401, 403, 404, 416, 429, 500, 503, 999]),
        st.lists(
            st.tuples(
                st.sampled_from(
                    ["location", "www-authenticate", "retry-after", "content-length", "content-range", "date",
                     "docker-content-digest", "content-type"]
                ),
                st.one_of(st.text(max_size=20), st.sampled_from(KNOWN)),
            ),
            max_size=3,
        ).map(tuple),
        st.one_of(st.binary(max_size=20), st.just(BODY), st.just(b'{"token": "t"}'), st.just(error_body("DENIED"))),
    ),
    st.sampled_from([REFUSED, BROKEN, TransportFailure("tls", "t"), TransportFailure("timeout", "t")]),
)  # fmt: skip


@given(st.lists(answers, max_size=12), st.sampled_from(["manifest", "config", "blob"]), st.booleans())
def test_every_prefix_of_any_conversation_has_a_next_step(
    script: list[Response | TransportFailure], kind: str, known: bool
) -> None:
    s = session("127.0.0.1:5000/x" if known else "reg.example/x")
    exchange = {"manifest": lambda: s.manifest("v1"), "config": lambda: s.config(blob_of(BODY)),
                "blob": lambda: s.blob(blob_of())}[kind]()  # fmt: skip
    for step in script:
        request = exchange.next_request()
        assert request.url.startswith(("http://", "https://"))
        if "Authorization" in dict(request.headers):
            assert "x.example" not in request.url
        event = exchange.failed(step) if isinstance(step, TransportFailure) else exchange.receive(step)
        if isinstance(event, NeedCredentials):
            s.set_credentials(Credentials("u", "p") if known else None)
            event = exchange.after_credentials()
        if isinstance(event, Stream):
            event = exchange.ended()
        if isinstance(event, (Failed, Document, Done)):
            return
        assert isinstance(event, (Again, Retry))


def test_a_digest_of_another_algorithm() -> None:
    s = session()
    descriptor = Descriptor(media.OCI_CONFIG, digest_of(BODY, "sha512"), len(BODY))
    assert isinstance(s.config(descriptor).receive(Response(200, (), BODY)), Document)
    wrong = Descriptor(media.OCI_CONFIG, Digest("sha512", "0" * 128), len(BODY))
    assert isinstance(failure(s.config(wrong).receive(Response(200, (), BODY))), DigestMismatch)
