"""The process that unpacks one layer: compressed bytes in by a pipe, files out, a report at the end.

Shape:   descriptors: BLOB_FD the compressed bytes, to their end; REPORT_FD our lines; ORDER_FD the lines we get;
         ROOT_FD the layer's empty directory. One JSON object a line:
             <- {"read": diff id}                                    the archive has ended, all of it is on disk
             -> {"lower": [paths of the layers below, top first]}    they are finished
             <- {"done": {...}}                                      what LayerResult holds
             <- {"error": text, "entry": name, "errno": n, "kind": "archive" | "system"}   instead of either
         Whoever started us and wants no layer closes ORDER_FD or kills us; we clean nothing up, the staging directory
         is deleted as a whole.
Source:  one process per layer, because a thread would wait for the interpreter's lock (facts.md, section 3)
"""

from __future__ import annotations

import os
import sys

from rootless.kernel import fds, process
from rootless.kernel.fds import Fd
from rootless.proto import changeset, tar
from rootless.spec import jsontext
from rootless.store import merged
from rootless.unpack import ownership
from rootless.unpack.decompress import CompressionError, decompressor, detect
from rootless.unpack.extract import Extractor
from rootless.unpack.finish import finish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

try:
    # OpenSSL uses the processor's instructions: six times the speed of Python's own, which hashlib falls back to.
    from _hashlib import openssl_sha256 as sha256
except ImportError:
    from hashlib import sha256

BLOB_FD, REPORT_FD, ORDER_FD, ROOT_FD = 3, 4, 5, 6
_READ_BYTES = 1 << 18
_SIGKILL = 9


def main(argv: list[str]) -> int:
    """Unpack one layer; *argv* is the name of its compression."""
    process.set_pdeathsig(_SIGKILL)
    process.set_no_new_privs()
    process.set_name("rootless:[unp]")
    fds.close_range(ROOT_FD + 1)
    os.umask(0)
    report, orders = Fd(REPORT_FD), Fd(ORDER_FD)
    worker = Worker(Extractor(Fd(ROOT_FD), ownership.current()))
    try:
        worker.read(Fd(BLOB_FD), argv[0])
        _say(report, {"read": worker.diff_id})
        order = _next(orders)
        if order is None:
            return 1
        with merged.open_layers(order["lower"]) as lower:
            finish(worker.layer, lower)
        _say(report, {"done": worker.result()})
        return 0
    except (tar.TarError, CompressionError) as error:
        _say(report, {"error": str(error), "entry": worker.entry(), "errno": 0, "kind": "archive"})
    except OSError as error:
        text = f"{getattr(error, 'syscall', 'cannot unpack')}: {os.strerror(error.errno or 0).lower()}"
        _say(report, {"error": text, "entry": worker.entry(), "errno": error.errno or 0, "kind": "system"})
    return 1


class Worker:
    """The layer and the position in its archive."""

    def __init__(self, layer: Extractor) -> None:
        self.layer = layer
        self.diff_id = ""
        self._header: tar.Header | None = None

    def entry(self) -> str:
        """Return the name of the entry at work, for a message."""
        return changeset.shown(self._header.name) if self._header is not None else ""

    def read(self, blob: Fd, compression: str) -> None:
        """Carry out the whole archive.

        Raises: TarError, CompressionError, OSError
        """
        decoder = tar.TarDecoder()
        digest = sha256()
        for piece in _pieces(blob, compression):
            digest.update(piece)
            decoder.feed(piece)
            self._drain(decoder)
        decoder.close()
        self._drain(decoder)
        self.layer.end()
        self.diff_id = "sha256:" + digest.hexdigest()
        self._header = None

    def _drain(self, decoder: tar.TarDecoder) -> None:
        layer, following = self.layer, decoder.next_event
        while True:
            event = following()
            kind = event.__class__
            if kind is tar.Data:
                layer.data(event.offset, event.view)  # type: ignore[union-attr]
            elif kind is tar.Header:
                self._header = event  # type: ignore[assignment]
                op = changeset.layer_op(event)  # type: ignore[arg-type]
                if op is None:
                    layer.end()
                else:
                    layer.apply(op)
            else:
                return

    def result(self) -> dict[str, Any]:
        """Return the fields of LayerResult."""
        layer = self.layer
        return {
            "diff_id": self.diff_id,
            "size_bytes": layer.size_bytes,
            "entries": layer.entries,
            "squashed": layer.owners.squashed,
            "skipped_devices": layer.skipped_devices,
            "skipped_xattrs": layer.skipped_xattrs,
            "forms": sorted(layer.forms),
        }


def _pieces(blob: Fd, compression: str) -> Iterator[bytes]:
    data = b""
    while len(data) < tar.BLOCK and (more := os.read(blob.fileno(), _READ_BYTES)):
        data += more
    stream = decompressor(detect(compression, data))
    while data:
        yield from stream.feed(data)
        data = os.read(blob.fileno(), _READ_BYTES)
    stream.end()


def _say(report: Fd, message: dict[str, Any]) -> None:
    try:
        fds.write_all(report, jsontext.dumps(message).encode() + b"\n")
    except OSError:
        sys.exit(1)  # nobody wants to know any more


def _next(orders: Fd) -> Any:
    """Return the next order, None if there will be none. Blocks: until it comes"""
    text = b""
    while not text.endswith(b"\n"):
        part = os.read(orders.fileno(), 1 << 16)
        if not part:
            return None
        text += part
    return jsontext.loads(text)
