"""HTTP for registries: httpx on trio, with the requests and answers of proto.messages.

What goes wrong on the way is told apart by kind here and nowhere else, so that proto.registry can
decide without knowing any HTTP library.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import TracebackType
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

# Where click happens to be installed, httpx imports it, rich and pygments for a command line that nobody here calls:
# 45 ms of the 150 that a pull needs before its first request. A None in sys.modules makes that import fail, which
# httpx expects.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]

import httpcore  # noqa: E402
import httpx  # noqa: E402

from rootless import __version__  # noqa: E402
from rootless.errors import RegistryError  # noqa: E402
from rootless.proto.messages import Request, Response, TransportFailure  # noqa: E402
from rootless.proto.registry import MAX_ERROR_BYTES  # noqa: E402
from rootless.pull.transport import KEPT_CONNECTIONS, Transport  # noqa: E402
from rootless.spec.reference import is_loopback  # noqa: E402

CONNECT_S = 15.0
SILENCE_S = 60.0  # between two pieces of an answer
CERT_DIRS = ("~/.config/containers/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d")

TIMEOUT = httpx.Timeout(SILENCE_S, connect=CONNECT_S, pool=None)
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=KEPT_CONNECTIONS)

FAILURES = (
    httpx.TransportError,
    httpx.InvalidURL,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
)


class NoAnswer(Exception):
    """There was no answer, or it broke off."""

    def __init__(self, failure: TransportFailure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Answer:
    """An answer whose body may still be on its way."""

    def __init__(self, response: Response, body: httpx.Response) -> None:
        self.response = response
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, undecoded.

        Raises: NoAnswer
        """
        with translated():
            async for chunk in self._body.aiter_raw():
                yield chunk


class HttpClient:
    """The connections of one pull; an async context manager. *home* is where `~` of CERT_DIRS lies."""

    def __init__(self, *, cert_dir: str = "", home: str = "") -> None:
        self._cert_dir = cert_dir
        self._home = home
        self._clients: dict[tuple[str, bool], httpx.AsyncClient] = {}

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            await client.aclose()

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[Answer]:
        """Send *request*; a body that is not to be streamed has been read and bounded when this returns.

        Checkpoint: yes
        Raises: NoAnswer; RegistryError when a bounded body is too long
        """
        client = self._client(request)
        proxy = proxy_for(request.url)
        outgoing = httpx.Request(
            request.method,
            request.url,
            headers=[("User-Agent", f"rootless/{__version__}"), *request.headers],
            content=request.body or None,
            extensions={"timeout": TIMEOUT.as_dict()},
        )
        with translated(proxy):
            incoming = await client.send(outgoing, stream=True, follow_redirects=False)
        try:
            headers = tuple((key.lower(), value) for key, value in incoming.headers.multi_items())
            body = b""
            if incoming.status_code not in (200, 206):
                body = await _read(incoming, MAX_ERROR_BYTES, request.url, cut=True)
            elif request.limit_bytes is not None:
                body = await _read(incoming, request.limit_bytes, request.url, cut=False)
            yield Answer(Response(incoming.status_code, headers, body), incoming)
        finally:
            await incoming.aclose()

    def _client(self, request: Request) -> httpx.AsyncClient:
        """Return the client for a request: certificates belong to a host."""
        parts = urlsplit(request.url)
        secure, proxied = parts.scheme == "https", bool(proxy_for(request.url))
        key = (f"{parts.netloc} {request.verify}" if secure else "", proxied)
        client = self._clients.get(key)
        if client is None:
            context = tls_context(parts.netloc, request.verify, self._places(parts.netloc)) if secure else None
            if proxied:
                client = httpx.AsyncClient(verify=context or False, trust_env=True, timeout=TIMEOUT, limits=LIMITS)
            else:
                client = httpx.AsyncClient(transport=Transport(context), trust_env=False, timeout=TIMEOUT)
            self._clients[key] = client
        return client

    def _places(self, host: str) -> list[str]:
        if self._cert_dir:
            return [self._cert_dir]
        return [f"{place.replace('~', self._home)}/{host}" for place in CERT_DIRS if self._home or place[0] != "~"]


async def _read(incoming: httpx.Response, limit_bytes: int, url: str, *, cut: bool) -> bytes:
    """Read at most *limit_bytes*; what is longer is *cut*, or refused."""
    found = bytearray()
    with translated():
        async for chunk in incoming.aiter_raw():
            found += chunk
            if len(found) > limit_bytes:
                if cut:
                    break
                raise RegistryError(
                    f"{urlsplit(url).netloc} sent more than {limit_bytes} bytes for {urlsplit(url).path}",
                    status=incoming.status_code,
                )
    return bytes(found[:limit_bytes])


def tls_context(host: str, verify: bool, places: list[str]) -> ssl.SSLContext:
    """Return a context that trusts the system, and the *.crt of the first of *places* that exists.

    Its *.cert with *.key of the same name are shown to the registry.
    Raises: RegistryError when a certificate there cannot be read
    """
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif not context.cert_store_stats()["x509_ca"] and not os.path.isdir("/etc/ssl/certs"):
        import certifi  # a machine without ca-certificates

        context.load_verify_locations(certifi.where())
    for place in places:
        try:
            names = sorted(os.listdir(place))
        except OSError:
            continue
        for name in names:
            path = f"{place}/{name}"
            try:
                if name.endswith(".crt"):
                    context.load_verify_locations(path)
                elif name.endswith(".cert"):
                    context.load_cert_chain(path, path[: -len(".cert")] + ".key")
            except (OSError, ssl.SSLError) as error:
                raise RegistryError(f"certificate {path} for {host}: {error.strerror or error}") from error
        break
    return context


def proxy_for(url: str) -> str:
    """Return host and port of the proxy that the environment sets for *url*, "" where there is none, for messages."""
    parts = urlsplit(url)
    if is_loopback(parts.netloc) or proxy_bypass(parts.hostname or ""):
        return ""
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all") or ""
    return urlsplit(found if "//" in found else f"//{found}").netloc.rpartition("@")[2]


class translated:
    """Turn httpx's exceptions into NoAnswer, in one place; *proxy* stands between us and the registry."""

    def __init__(self, proxy: str = "") -> None:
        self._proxy = proxy

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, FAILURES):
            failure = explain(error)
            if self._proxy:
                failure = TransportFailure(failure.kind, f"{failure.text} (through the proxy {self._proxy})")
            raise NoAnswer(failure) from error


def explain(error: Exception) -> TransportFailure:
    """Say which kind of failure *error* is, by what caused it."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return TransportFailure("tls", f"certificate not accepted: {cause.verify_message}")
        if isinstance(cause, ssl.SSLError):
            return TransportFailure("tls", f"TLS failed: {(cause.reason or str(cause)).replace('_', ' ').lower()}")
        if isinstance(cause, socket.gaierror):
            return TransportFailure("name", f"no address for its name: {(cause.strerror or str(cause)).lower()}")
        if isinstance(cause, ConnectionRefusedError):
            return TransportFailure("refused", "connection refused")
    if isinstance(error, (httpx.ConnectTimeout, httpcore.ConnectTimeout)):
        return TransportFailure("timeout", f"no connection within {CONNECT_S:.0f} s")
    if isinstance(error, (httpx.TimeoutException, httpcore.TimeoutException)):
        return TransportFailure("timeout", f"no data for {SILENCE_S:.0f} s")
    if isinstance(error, (httpx.ProxyError, httpx.UnsupportedProtocol, httpx.InvalidURL)):
        return TransportFailure("refused", str(error).lower() or "proxy error")
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno:
            return TransportFailure("broken", os.strerror(cause.errno).lower())
    if isinstance(error, (httpx.RemoteProtocolError, httpcore.RemoteProtocolError)):
        return TransportFailure("broken", "the connection was closed before the answer was complete")
    return TransportFailure("broken", str(error).lower() or type(error).__name__)


def _causes(error: BaseException) -> Iterator[BaseException]:
    pending: list[BaseException] = [error]
    seen: set[int] = set()
    while pending:
        one = pending.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions
        pending += [e for e in (one.__cause__, one.__context__) if e is not None]
