"""A process that unpacks layers, one after the other: compressed bytes in by a pipe, files out, a report at the end.

Shape:   CHANNEL_FD is a SOCK_SEQPACKET socket; one JSON object a message, for each layer:
             -> {"layer": compression} + descriptors: the compressed bytes, the layer's empty directory
             <- {"read": diff id}                                    the archive has ended, all of it is on disk
             -> {"lower": [paths of the layers below, top first]}    they are finished
             <- {"done": {...}}                                      what LayerResult holds
             <- {"error": text, "entry": name, "errno": n}           instead of either; we end then
         Where the bytes come over a connection to a registry, not from whoever started us, the first message also has
         "bytes", their number, and "hash", the algorithm of their digest; "read" and "error" then also have "blob", the
         digest that they have, and before these come any number of
             <- {"at": bytes}                                        that have come, a few times a second
             <- {"short": bytes, "errno": n}                         the connection broke after so many of them
             -> {"more": skip} + descriptor                          another one, whose first *skip* bytes we had
         Whoever started us and wants no layer closes the channel or kills us; we clean nothing up, the staging
         directory is deleted as a whole.
Source:  processes, because a thread would wait for the interpreter's lock (facts.md, section 3)
"""

from __future__ import annotations

import os
import time

from rootless.kernel import fds, process
from rootless.kernel.fds import Fd
from rootless.kernel.fork import CHANNEL_FD
from rootless.proto import changeset, tar
from rootless.spec import jsontext
from rootless.store import merged
from rootless.unpack import ownership
from rootless.unpack.decompress import CompressionError
from rootless.unpack.extract import Extractor
from rootless.unpack.finish import finish
from rootless.unpack.reading import Piped, Promised, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MESSAGE_BYTES = 1 << 18
_SIGKILL = 9
_TELL_S = 0.05


def main(argv: list[str]) -> int:
    """Unpack layers until the channel ends."""
    del argv
    process.set_pdeathsig(_SIGKILL)
    process.set_no_new_privs()
    process.set_name("rootless:[unp]")
    fds.close_range(CHANNEL_FD + 1)
    os.umask(0)
    channel = Fd(CHANNEL_FD)
    while True:
        order, given = _next(channel)
        if order is None:
            return 0
        if not _unpack(channel, order, *given):
            return 1


class _Line:
    """What the thread that reads a blob from a connection has to say, while nobody else here uses the channel."""

    def __init__(self, channel: Fd) -> None:
        self._channel = channel
        self._told = time.monotonic()

    def another(self, got_bytes: int, number: int) -> tuple[Fd, int]:
        """Ask for another connection. Blocks: until there is one; for ever if there will be none, we are killed then"""
        _say(self._channel, {"short": got_bytes, "errno": number})
        order, given = _next(self._channel)
        if order is None:
            os._exit(1)
        return given[0], order["more"]

    def tell(self, got_bytes: int) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL_S:
            self._told = now
            _say(self._channel, {"at": got_bytes})


def _unpack(channel: Fd, order: dict[str, Any], blob: Fd, root: Fd) -> bool:
    """Unpack one layer and report; False after a fault."""
    worker = Worker(Extractor(root, ownership.current()))
    promised = None
    if "bytes" in order:
        line = _Line(channel)
        promised = Promised(blob, order["bytes"], order["hash"], line.another, line.tell)
    reader = Reader(promised or Piped(blob), order["layer"])
    try:
        worker.read(reader)
        blob.close()
        _say(channel, {"read": worker.diff_id, **_blob(promised)})
        following, _ = _next(channel)
        if following is None:
            return False
        with merged.open_layers(following["lower"]) as lower:
            finish(worker.layer, lower)
        _say(channel, {"done": worker.result()})
        return True
    except (tar.TarError, CompressionError) as error:
        if promised is not None:
            reader.drain()  # if the digest is wrong too, that is the fault to name
        _say(channel, {"error": str(error), "entry": worker.entry(), "errno": 0, **_blob(promised)})
    except OSError as error:
        text = f"{getattr(error, 'syscall', 'cannot unpack')}: {os.strerror(error.errno or 0).lower()}"
        _say(channel, {"error": text, "entry": worker.entry(), "errno": error.errno or 0})
    finally:
        worker.layer.close()
    return False


def _blob(promised: Promised | None) -> dict[str, str]:
    return {"blob": promised.digest.hexdigest()} if promised is not None else {}


class Worker:
    """The layer and the position in its archive."""

    def __init__(self, layer: Extractor) -> None:
        self.layer = layer
        self.diff_id = ""
        self._header: tar.Header | None = None

    def entry(self) -> str:
        """Return the name of the entry at work, for a message."""
        failed = self.layer.small.failed
        header = failed.header if failed is not None else self._header
        return changeset.shown(header.name) if header is not None else ""

    def read(self, reader: Reader) -> None:
        """Carry out the whole archive.

        Raises: TarError, CompressionError, OSError
        """
        decoder = tar.TarDecoder()
        for piece in reader.pieces():
            decoder.feed(piece)
            self._drain(decoder)
        decoder.close()
        self._drain(decoder)
        self.layer.end()
        self.diff_id = "sha256:" + reader.digest.hexdigest()
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


def _say(channel: Fd, message: dict[str, Any]) -> None:
    fds.send_fds(channel, jsontext.dumps(message).encode())


def _next(channel: Fd) -> tuple[Any, list[Fd]]:
    """Return the next order and its descriptors, None if there will be none. Blocks: until it comes"""
    text, given = fds.recv_fds(channel, _MESSAGE_BYTES)
    return (jsontext.loads(text) if text else None), given
