"""What is known of a layer before and after it is unpacked, and what a worker's report means.

Source:  unpack/worker.py has the messages
"""

from __future__ import annotations

import errno

from rootless.errors import DigestMismatch, UnpackError
from rootless.spec.record import record
from rootless.store.layers import StagedLayer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@record
class LayerPlan:
    """A layer of the image, before it is known what it holds."""

    chain_id: str
    diff_id: str
    """What the image config promises for the unpacked bytes."""
    parent: str
    """Chain id of the layer below, empty for the base."""
    compression: str
    """One of decompress.FORMATS."""
    digest: str = ""
    """Digest of the blob, for messages."""


@record
class LayerResult:
    """What was unpacked."""

    diff_id: str
    size_bytes: int
    entries: int
    squashed: int
    """Entries of owners that this namespace does not have."""
    skipped_devices: int
    """Device nodes, which only the real root can make."""
    skipped_xattrs: int
    """Attributes that this file system or user cannot set."""
    forms: tuple[str, ...]


def name_of(plan: LayerPlan) -> str:
    """Return how a message calls the layer."""
    return plan.digest or plan.diff_id


def check_read(plan: LayerPlan, message: dict[str, Any]) -> None:
    """Compare what was read with what the image promises.

    Raises: DigestMismatch
    """
    if message["read"] != plan.diff_id:
        raise DigestMismatch(
            f"layer {name_of(plan)}: unpacked it has {message['read']}, the image's config promises {plan.diff_id}"
        )


def result_of(message: dict[str, Any]) -> LayerResult:
    """Return the result in a worker's last message."""
    fields = message["done"]
    return LayerResult(**{**fields, "forms": tuple(fields["forms"])})


def fault_of(plan: LayerPlan, message: dict[str, Any]) -> UnpackError:
    """Return the error that a worker reports; one with a hint is this machine's fault, not the archive's."""
    hint = None
    if message["errno"] in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space (rootless rmi), or keep the store elsewhere with --root DIR"
    return UnpackError(message["error"], layer=name_of(plan), entry=message["entry"], hint=hint)


def staged(plan: LayerPlan, path: str, result: LayerResult) -> StagedLayer:
    """Return the finished layer at *path* for layers.commit."""
    return StagedLayer(
        path, plan.chain_id, result.diff_id, plan.parent, result.size_bytes, result.entries, result.squashed,
        result.forms,
    )  # fmt: skip
