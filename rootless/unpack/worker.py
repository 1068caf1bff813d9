"""A process that unpacks layers, one after the other: compressed bytes in by a pipe, files out, a report at the end.

Shape:   CHANNEL_FD is a SOCK_SEQPACKET socket; one JSON object a message, for each layer:
             -> {"layer": compression} + descriptors: the compressed bytes, the layer's empty directory
             <- {"read": diff id}                                    the archive has ended, all of it is on disk
             -> {"lower": [paths of the layers below, top first]}    they are finished
             <- {"done": {...}}                                      what LayerResult holds
             <- {"error": text, "entry": name, "errno": n}           instead of either; we end then
         Whoever started us and wants no layer closes the channel or kills us; we clean nothing up, the staging
         directory is deleted as a whole.
Source:  processes, because a thread would wait for the interpreter's lock (facts.md, section 3)
"""

from __future__ import annotations

import os

from rootless.kernel import fds, process
from rootless.kernel.fds import Fd
from rootless.proto import changeset, tar
from rootless.spec import jsontext
from rootless.store import merged
from rootless.unpack import ownership
from rootless.unpack.decompress import CompressionError
from rootless.unpack.extract import Extractor
from rootless.unpack.finish import finish
from rootless.unpack.reading import Reader
from rootless.unpack.spawning import CHANNEL_FD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MESSAGE_BYTES = 1 << 18
_SIGKILL = 9


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
        if not _unpack(channel, order["layer"], *given):
            return 1


def _unpack(channel: Fd, compression: str, blob: Fd, root: Fd) -> bool:
    """Unpack one layer and report; False after a fault."""
    worker = Worker(Extractor(root, ownership.current()))
    try:
        worker.read(blob, compression)
        blob.close()
        _say(channel, {"read": worker.diff_id})
        order, _ = _next(channel)
        if order is None:
            return False
        with merged.open_layers(order["lower"]) as lower:
            finish(worker.layer, lower)
        _say(channel, {"done": worker.result()})
        return True
    except (tar.TarError, CompressionError) as error:
        _say(channel, {"error": str(error), "entry": worker.entry(), "errno": 0})
    except OSError as error:
        text = f"{getattr(error, 'syscall', 'cannot unpack')}: {os.strerror(error.errno or 0).lower()}"
        _say(channel, {"error": text, "entry": worker.entry(), "errno": error.errno or 0})
    finally:
        worker.layer.close()
    return False


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

    def read(self, blob: Fd, compression: str) -> None:
        """Carry out the whole archive.

        Raises: TarError, CompressionError, OSError
        """
        decoder = tar.TarDecoder()
        reader = Reader(blob, compression)
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
