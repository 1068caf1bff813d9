"""What a pull decides, without a word about how bytes come: which documents it needs, what they say, what is stored.

    reference ─► manifest ─► (index: the platform's manifest) ─► config ─► layers

engine/pulling.py drives this with trio, engine/straight.py without.
"""

from __future__ import annotations

import os

from rootless.errors import ImageError, NotFound, SpecError
from rootless.plan.pulling import Found
from rootless.proto.registry import Asked
from rootless.spec import jsontext, media
from rootless.spec.image import ImageConfig, chain_ids, parse_image
from rootless.spec.manifest import Index, Manifest, parse_manifest, select
from rootless.spec.record import record
from rootless.store import blobs, images, layers
from rootless.store.events import emit
from rootless.store.images import ImageRecord
from rootless.unpack.layerplan import LayerPlan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from rootless.plan.pulling import PullOptions
    from rootless.proto.messages import Document
    from rootless.spec.digest import Digest
    from rootless.spec.platform import Platform
    from rootless.spec.reference import ImageReference
    from rootless.store.layers import StagedLayer, Staging
    from rootless.store.layout import Roots
    from rootless.unpack.layerplan import LayerResult

PROCESSORS = max(2, min(5, len(os.sched_getaffinity(0))))
MAX_INDEX_DEPTH = 3


@record
class Resolved:
    """An image as the registry describes it. *digests* are the ways to name it: the index's and the manifest's."""

    reference: ImageReference
    manifest: Manifest
    raw_manifest: bytes
    digest: Digest
    digests: tuple[Digest, ...]
    config: ImageConfig
    raw_config: bytes

    @property
    def id(self) -> str:
        return self.manifest.config.digest.hex


def local_image(roots: Roots, text: str, options: PullOptions) -> tuple[ImageRecord | None, bool]:
    """Return the image in the store that the policy cares about, and whether that is the end of the pull.

    Raises: NotFound, ReferenceInvalid
    """
    local = images.lookup(roots, text) if options.policy in ("missing", "never", "newer") else None
    if local is not None and options.policy in ("missing", "never"):
        return local, True
    if options.policy == "never":
        raise NotFound("image", text, hint="it is not in local storage and --pull=never forbids to fetch it")
    return local, False


def resolving(reference: ImageReference, platform: Platform) -> Generator[Asked, Document, Resolved]:
    """Find out what *reference* means on *platform*: yields what is needed, is sent the documents.

    Raises: ImageError, SpecError
    """
    name = str(reference)
    document = yield Asked(reference.selector)
    digests = [document.digest]
    for _ in range(MAX_INDEX_DEPTH):
        found = _parsed(document, name)
        if isinstance(found, Manifest):
            break
        document = yield Asked(descriptor=select(found, platform, name))
        digests.append(document.digest)
    else:
        raise ImageError(f"{name}: manifest lists within manifest lists")
    raw_config = (yield Asked(descriptor=found.config, is_config=True)).body
    try:
        config = parse_image(raw_config)
    except SpecError as error:
        raise ImageError(f"{name}: invalid image config: {error}") from None
    if len(config.diff_ids) != len(found.layers):
        raise ImageError(
            f"{name}: the manifest has {len(found.layers)} layers, the image config {len(config.diff_ids)}",
            hint="the image is broken: its owner must push it again",
        )
    return Resolved(reference, found, document.body, document.digest, tuple(digests), config, raw_config)


def _parsed(document: Document, name: str) -> Manifest | Index:
    try:
        return parse_manifest(document.body, document.content_type)
    except SpecError as error:
        raise ImageError(f"{name}: invalid manifest: {error}") from None
    except ImageError as error:
        raise ImageError(f"{name}: {error}", hint=error.hint) from None


def found_event(found: Resolved) -> Found:
    """Return what a person is told of the image."""
    descriptors = found.manifest.layers
    return Found(
        str(found.reference),
        str(found.manifest.config.digest),
        tuple([str(d.digest) for d in descriptors]),
        tuple([d.size_bytes for d in descriptors]),
    )


def plans_of(found: Resolved) -> list[LayerPlan]:
    """Return what is to be done with each layer, base first."""
    chain = chain_ids(found.config.diff_ids)
    return [
        LayerPlan(
            chain_id=chain[at],
            diff_id=found.config.diff_ids[at],
            parent=chain[at - 1] if at else "",
            compression=media.compression_of(descriptor.media_type) or "",
            digest=str(descriptor.digest),
        )
        for at, descriptor in enumerate(found.manifest.layers)
    ]


def commit(
    staging: Staging, found: Resolved, text: str, plans: Sequence[LayerPlan], staged: Sequence[StagedLayer]
) -> ImageRecord:
    """Make the image, which was asked for as *text*, and its new layers visible.

    Blocks: for the disk
    Raises: as layers.commit
    """
    record = ImageRecord(
        id=found.id,
        digest=str(found.digest),
        config=jsontext.loads(found.raw_config),
        layers=tuple([plan.chain_id for plan in plans]),
        links=(),
        created=found.config.created,
        manifest_type=found.manifest.media_type,
    )
    blobs.write(staging.roots, found.raw_manifest)
    blobs.write(staging.roots, found.raw_config)
    image = layers.commit(staging, staged, record, _names(found))
    emit(staging.roots, "image", "pull", id=image.id, name=text)
    return image


def _names(found: Resolved) -> list[str]:
    """Return the references under which the image is kept: what was asked for, and its digests."""
    name = found.reference.name
    asked = [str(found.reference)]
    return asked + [n for n in (f"{name}@{d}" for d in found.digests) if n not in asked]


def notes_of(results: Iterable[LayerResult]) -> list[str]:
    """Return what a person should know about the unpacked layers, a line for each kind."""
    results = tuple(results)
    notes = []
    squashed = sum([r.squashed for r in results])
    devices = sum([r.skipped_devices for r in results])
    xattrs = sum([r.skipped_xattrs for r in results])
    if squashed:
        notes.append(
            f"{squashed} files of the image belong to ids that are not mapped here: they are stored as yours "
            "(see `rootless doctor`)"
        )
    if devices:
        notes.append(f"{devices} device nodes of the image were left out: only the machine's root can make them")
    if xattrs:
        notes.append(f"{xattrs} extended attributes of the image were left out: the store cannot hold them")
    return notes
