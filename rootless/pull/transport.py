"""A transport for httpx that reads a quarter of a megabyte at a time.

httpx asks the network for 64 KiB whatever there is, so each megabyte of a layer costs 16 turns of the event loop and
of a pile of generators: a fifth of what the pulling process needs for a layer. httpcore, on which httpx stands, lets
the network be exchanged; httpx does not pass that on, hence this. More than 256 KiB is slower again: such buffers are
mapped anew each time.

Source: httpcore "Network backends", httpx "Custom transports"
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpcore
import httpx

READ_BYTES = 1 << 18
KEPT_CONNECTIONS = 8


class Transport(httpx.AsyncBaseTransport):
    """Connections without a proxy."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=None,
            max_keepalive_connections=KEPT_CONNECTIONS,
            network_backend=WideBackend(),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request*; raises httpcore's exceptions, which pull/http.py tells apart."""
        url = request.url
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=Body(answer), extensions=answer.extensions)

    async def aclose(self) -> None:
        await self._pool.aclose()


class Body(httpx.AsyncByteStream):
    """The body of an answer."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._answer.aiter_stream():
            yield part

    async def aclose(self) -> None:
        await self._answer.aclose()


class WideStream(httpcore.AsyncNetworkStream):
    """A connection that is read in larger pieces than asked for: the HTTP parser takes any."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._inner.read(max(max_bytes, READ_BYTES), timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return WideStream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class WideBackend(httpcore.AsyncNetworkBackend):
    """Makes WideStreams on trio."""

    def __init__(self) -> None:
        self._inner = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return WideStream(await self._inner.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)
