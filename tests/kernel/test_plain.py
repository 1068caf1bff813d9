"""The plain HTTP client against servers that answer byte by byte what a test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from rootless.proto.messages import Request
from rootless.pull.plain import Broken, NotPlain, PlainClient

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n"


@contextmanager
def serving(*connections: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Serve one connection after the other: for each answer of a list one request is read; "" closes."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def work() -> None:
            for answers in connections:
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(30)
                    for answer in answers:
                        request = b""
                        while b"\r\n\r\n" not in request:
                            got = connection.recv(65536)
                            if not got:
                                break
                            request += got
                        seen.append(request)
                        with suppress(ConnectionError):  # the client has seen enough
                            for at in range(0, min(len(answer), 99), 9):  # a head never comes whole
                                connection.sendall(answer[at : at + 9])
                            connection.sendall(answer[99:])

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}", seen
        finally:
            thread.join()


def get(host: str, path: str = "/v2/x", *, limit: int | None = 100) -> Request:
    return Request("GET", f"http://{host}{path}", (("Accept", "a/b"),), limit_bytes=limit)


def test_an_answer_and_the_next_on_the_same_connection() -> None:
    with serving([OK + b"X-A:  1 \r\n\r\nbody", OK + b"\r\nmore"]) as (host, seen):
        client = PlainClient()
        first, second = client.send(get(host)), client.send(get(host, "/v2/y?a=b"))
        client.close()
    assert (first.response.status, first.response.body, first.response.get("x-a")) == (200, b"body", "1")
    assert second.response.body == b"more"
    assert seen[0].startswith(b"GET /v2/x HTTP/1.1\r\nHost: " + host.encode()) and b"\r\nAccept: a/b\r\n" in seen[0]
    assert seen[1].startswith(b"GET /v2/y?a=b HTTP/1.1\r\n")


def test_a_connection_that_the_server_has_closed_meanwhile() -> None:
    with serving([OK + b"\r\nbody"], [OK + b"\r\nmore"]) as (host, seen):
        client = PlainClient()
        assert client.send(get(host)).response.body == b"body"
        assert client.send(get(host)).response.body == b"more"
        client.close()
    assert len(seen) == 2


def test_the_body_of_a_layer_stays_on_the_connection() -> None:
    with serving([OK + b"\r\nbody"]) as (host, _):
        answer = PlainClient().send(get(host, limit=None))
        with answer.take() as connection, socket.socket(fileno=connection.detach()) as taken:
            assert taken.recv(4, socket.MSG_WAITALL) == b"body"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nbody",
        OK + b"Content-Length: 5\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101,
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/2 200\r\nContent-Length: 4\r\n\r\nbody",
        OK + b" folded\r\n\r\nbody",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 140_000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_plain(answer: bytes) -> None:
    with serving([answer]) as (host, _), pytest.raises((NotPlain, Broken)) as caught:
        PlainClient().send(get(host))
    assert caught.type is NotPlain


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", OK, OK + b"\r\nbod"])
def test_an_answer_that_breaks_off(answer: bytes) -> None:
    with serving([answer]) as (host, _), pytest.raises(Broken) as caught:
        PlainClient().send(get(host))
    assert caught.value.failure.kind == "broken"


def test_an_error_is_read_as_far_as_words_may_need() -> None:
    body = b"x" * 100_000
    with serving([b"HTTP/1.1 500 Oops\r\nContent-Length: 100000\r\n\r\n" + body]) as (host, _):
        client = PlainClient()
        answer = client.send(get(host))
        client.close()
    assert (answer.response.status, len(answer.response.body)) == (500, 64 << 10)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(Broken) as caught:
        PlainClient().send(get(host))
    assert caught.value.failure.kind == "refused"


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/x", "http://example.org/x", "http://u@127.0.0.1/x", "http://127.0.0.1/a b"]
)
def test_addresses_that_are_not_plain(url: str) -> None:
    with pytest.raises(NotPlain):
        PlainClient().send(Request("GET", url, ()))


def test_a_header_cannot_bring_another() -> None:
    with pytest.raises(NotPlain):
        PlainClient().send(Request("GET", "http://127.0.0.1:1/x", (("A", "b\r\nC: d"),)))
