"""The seam between what an image comes from and who takes it apart.

A source gives manifests and configs whole and verified, and layers as a stream of bytes. A sink is
whoever takes such a stream: the unpacking pipeline, or a test's list.
"""

from __future__ import annotations

from typing import Protocol

from rootless.proto.messages import Document
from rootless.proto.registry import Asked
from rootless.spec.descriptor import Descriptor


class ByteSink(Protocol):
    """Takes the bytes of one layer, in order."""

    async def write(self, data: bytes, /) -> None:
        """Take *data*; waits while the sink is behind.

        Checkpoint: yes
        """
        ...


class ImageSource(Protocol):
    """A place that images come from."""

    async def document(self, asked: Asked) -> Document:
        """Return a manifest, an index or a config, verified as far as *asked* says what it must be."""
        ...

    async def layer(self, descriptor: Descriptor, sink: ByteSink) -> None:
        """Write the layer's bytes, as they are stored, to *sink*; return when they were the promised ones.

        Raises: DigestMismatch, RegistryError
        """
        ...
