"""A registry in memory, for machines without docker-registry and for faults that a good registry never shows.

    with EmbeddedRegistry() as server:
        server.faults["/blobs/sha256:12"] = truncated(100)      # a part of the path -> what happens there
        server.requests                                         # (method, path, headers) of all that was asked

    python -m tests.support.embedded [PORT]     serves on loopback until its input ends; prints the address

Source: distribution-spec
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import sys
import threading
import urllib.parse
from base64 import b64decode
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

CHUNK_BYTES = 1 << 16
MANIFEST = re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)$")
BLOB = re.compile(r"/v2/(?P<name>.+)/blobs/(?P<digest>sha256:[0-9a-f]{64})$")
UPLOAD = re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<id>[0-9]*)$")

# A fault answers the request itself (and returns True), or changes something and returns False.
Fault = Callable[["Handler"], bool]


class EmbeddedRegistry:
    """A registry on a free loopback port; a context manager.

    *basic* is the (user, password) that may do anything; *bearer* a token that must be shown, which /token gives.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        basic: tuple[str, str] | None = None,
        bearer: str | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.uploads: dict[str, bytes] = {}
        self.faults: dict[str, Fault] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.basic = basic
        self.bearer = bearer
        self.lock = threading.Lock()
        registry = self

        class Bound(Handler):
            state = registry

        self.server = _Server((address, port), Bound)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), name="registry", daemon=True)

    @property
    def host(self) -> str:
        address = self.server.server_address
        return f"{address[0]!s}:{address[1]}"

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.close_connections()
        self.server.server_close()
        self.thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    state: EmbeddedRegistry
    # Headers and body are two writes: without this each answer waits for the client's delayed acknowledgement.
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send an answer; underscores in *headers* stand for hyphens."""
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.end_headers()
        if self.command != "HEAD":
            for start in range(0, len(body), CHUNK_BYTES):
                self.wfile.write(body[start : start + CHUNK_BYTES])

    def error(self, status: int, code: str, **headers: str) -> None:
        text = json.dumps({"errors": [{"code": code, "message": code.replace("_", " ").lower()}]}).encode()
        self.answer(status, text, Content_Type="application/json", **headers)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def handle_any(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        with self.state.lock:
            self.state.requests.append((self.command, self.path, dict(self.headers.items())))
        for piece, fault in list(self.state.faults.items()):
            if piece in self.path and fault(self):
                return
        if parts.path == "/token":
            if self.state.basic is not None and not self.knows(self.state.basic):
                self.error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="token"')
                return
            self.answer(200, json.dumps({"token": self.state.bearer}).encode(), Content_Type="application/json")
        elif not self.allowed():
            pass
        elif parts.path == "/v2/":
            self.answer(200, b"{}", Content_Type="application/json")
        else:
            self.route(parts.path, dict(urllib.parse.parse_qsl(parts.query)))

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = handle_any

    def knows(self, account: tuple[str, str]) -> bool:
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        return kind == "Basic" and b64decode(value).decode() == ":".join(account)

    def allowed(self) -> bool:
        """Tell whether the client showed what it must; answer 401 where not."""
        state = self.state
        if state.bearer is not None:
            if self.headers.get("Authorization") == f"Bearer {state.bearer}":
                return True
            challenge = f'Bearer realm="http://{state.host}/token",service="embedded",scope="repository:any:pull"'
        elif state.basic is not None:
            if self.knows(state.basic):
                return True
            challenge = 'Basic realm="embedded"'
        else:
            return True
        self.body()
        self.error(401, "UNAUTHORIZED", WWW_Authenticate=challenge)
        return False

    def route(self, path: str, query: dict[str, str]) -> None:
        state, command = self.state, self.command
        if found := UPLOAD.match(path):
            self.upload(found["name"], found["id"], query)
        elif found := MANIFEST.match(path):
            name, reference = found["name"], found["reference"]
            if command == "PUT":
                data = self.body()
                entry = (self.headers.get("Content-Type", ""), data)
                which = "sha256:" + hashlib.sha256(data).hexdigest()
                state.manifests[name, reference] = state.manifests[name, which] = entry
                self.answer(201, Location=path, Docker_Content_Digest=which)
            elif (name, reference) in state.manifests:
                kind, data = state.manifests[name, reference]
                which = "sha256:" + hashlib.sha256(data).hexdigest()
                self.answer(200, data, Content_Type=kind, Docker_Content_Digest=which)
            elif any(key[0] == name for key in state.manifests):
                self.error(404, "MANIFEST_UNKNOWN")
            else:
                self.error(404, "NAME_UNKNOWN")
        elif (found := BLOB.match(path)) and command in {"GET", "HEAD"}:
            self.blob(found["digest"])
        else:
            self.body()
            self.error(404, "UNSUPPORTED")

    def blob(self, which: str) -> None:
        data = self.state.blobs.get(which)
        if data is None:
            self.error(404, "BLOB_UNKNOWN")
            return
        common = {"Content_Type": "application/octet-stream", "Docker_Content_Digest": which, "Accept_Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and int(wanted[1]) < len(data):
            start, end = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
            self.answer(206, data[start : end + 1], Content_Range=f"bytes {start}-{end}/{len(data)}", **common)
        else:
            self.answer(200, data, **common)

    def upload(self, name: str, which: str, query: dict[str, str]) -> None:
        state, data = self.state, self.body()
        if self.command == "POST" and not which:
            with state.lock:
                which = str(len(state.uploads) + 1)
                state.uploads[which] = data
        elif which in state.uploads:
            state.uploads[which] += data
        else:
            self.error(404, "BLOB_UPLOAD_UNKNOWN")
            return
        where = f"/v2/{name}/blobs/uploads/{which}"
        if "digest" not in query:
            self.answer(202, Location=where, Range=f"0-{max(0, len(state.uploads[which]) - 1)}")
            return
        whole = state.uploads[which]
        if "sha256:" + hashlib.sha256(whole).hexdigest() != query["digest"]:
            self.error(400, "DIGEST_INVALID")
            return
        state.blobs[query["digest"]] = whole
        self.answer(201, Location=f"/v2/{name}/blobs/{query['digest']}", Docker_Content_Digest=query["digest"])


# ---- faults


def status(code: int, times: int = 1 << 30, **headers: str) -> Fault:
    """Answer *code* to the first *times* requests."""
    left = [times]

    def fault(handler: Handler) -> bool:
        if left[0] <= 0:
            return False
        left[0] -= 1
        handler.body()
        handler.error(code, "UNKNOWN", **headers)
        return True

    return fault


def truncated(keep_bytes: int, times: int = 1 << 30) -> Fault:
    """Promise the whole blob and close the connection after *keep_bytes*, for the first *times* requests."""
    left = [times]

    def fault(handler: Handler) -> bool:
        found = BLOB.match(urllib.parse.urlsplit(handler.path).path)
        if found is None or handler.command != "GET" or left[0] <= 0:
            return False
        left[0] -= 1
        data = handler.state.blobs[found["digest"]]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:keep_bytes])
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        return True

    return fault


def whole(handler: Handler) -> bool:
    """Serve all of a blob, whatever range is asked for."""
    found = BLOB.match(urllib.parse.urlsplit(handler.path).path)
    if found is None or handler.command != "GET":
        return False
    handler.answer(200, handler.state.blobs[found["digest"]], Content_Type="application/octet-stream")
    return True


def chunked(handler: Handler) -> bool:
    """Serve a blob without saying how long it is."""
    found = BLOB.match(urllib.parse.urlsplit(handler.path).path)
    if found is None or handler.command != "GET":
        return False
    data = handler.state.blobs[found["digest"]]
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for at in range(0, len(data), 50_000):
        piece = data[at : at + 50_000]
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")
    return True


def altered(change: Callable[[bytes], bytes]) -> Fault:
    """Serve a blob with its bytes changed."""

    def fault(handler: Handler) -> bool:
        found = BLOB.match(urllib.parse.urlsplit(handler.path).path)
        if found is None or handler.command != "GET":
            return False
        handler.answer(200, change(handler.state.blobs[found["digest"]]), Content_Type="application/octet-stream")
        return True

    return fault


def redirected(where: str) -> Fault:
    """Send the client to the same path at *where* (scheme and host)."""

    def fault(handler: Handler) -> bool:
        if handler.command not in {"GET", "HEAD"}:
            return False
        handler.answer(307, Location=where + handler.path)
        return True

    return fault


def main() -> None:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with EmbeddedRegistry(port=port) as server:
        print(server.host, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
