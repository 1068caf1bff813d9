"""Images in the store: list them, remove them, name them. Synchronous: nothing here waits for a network.

Source: podman-rmi(1), podman-images(1), podman-tag(1) of podman 4.3
"""

from __future__ import annotations

from rootless.errors import ImageError, InUse, NotFound, ReferenceInvalid, RootlessError
from rootless.spec.record import record
from rootless.spec.reference import ImageReference, parse_reference
from rootless.store import events, images, overview

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rootless.store.images import ImageRecord
    from rootless.store.layout import Roots

NOT_KNOWN = "image not known"


@record
class Untagged:
    """A name was taken away; the image may live on."""

    name: str


@record
class Deleted:
    """An image was removed."""

    id: str


@record
class NotRemoved:
    """One of the images could not be removed; the others are still tried."""

    error: RootlessError


Removal = Untagged | Deleted | NotRemoved


def tags(image: ImageRecord) -> tuple[str, ...]:
    """Return the names with a tag; the ones with a digest go with them."""
    return tuple([name for name in image.names if "@" not in name])


def digests(image: ImageRecord) -> tuple[str, ...]:
    """Return the names with a digest, and NAME@DIGEST for each repository that has a tag, without repetition."""
    found = {name: None for name in image.names if "@" in name}
    for name in tags(image):
        found.setdefault(f"{repository(name)}@{image.digest}")
    return tuple(found)


def repository(name: str) -> str:
    """Return a normalised name without its tag or digest."""
    name = name.partition("@")[0]
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name


def find(roots: Roots, text: str) -> ImageRecord:
    """Return the image *text* with all its names.

    Raises: NotFound
    """
    try:
        found = images.lookup(roots, text)
    except ReferenceInvalid:
        found = None
    if found is None:
        raise NotFound("image", text)
    return images.get(roots, found.id) or found


def tag(roots: Roots, text: str, name: str) -> None:
    """Give the image *text* another name; one without a registry goes to localhost/, as podman's.

    Raises: NotFound, ReferenceInvalid
    """
    image = find(roots, text)
    images.tag(roots, image.id, str(local_name(name)))
    events.emit(roots, "image", "tag", id=image.id, name=name)


def local_name(text: str) -> ImageReference:
    """Return the reference that a name given to a local image means.

    Raises: ReferenceInvalid
    """
    reference = parse_reference(text)
    first = text.partition("/")[0]
    if reference.domain == "docker.io" and first not in ("docker.io", "index.docker.io"):
        path = text.partition("@")[0].partition(":")[0]
        return ImageReference("localhost", path, reference.tag, reference.digest)
    return reference


def remove(
    roots: Roots,
    names: Sequence[str],
    *,
    every: bool = False,
    force: bool = False,
    ignore: bool = False,
) -> Iterator[Removal]:
    """Remove images by name or id, or *every* image, and then the layers that nobody needs any more.

    A name that is not the image's only one is just taken away. An image that a container was made from stays:
    who forces its removal removes the container first (cli/commands/rmi.py).

    Yields:  what was done, and NotRemoved for each image that stays (InUse, NotFound, ImageError)
    """
    chosen: Iterable[tuple[str, ImageRecord | None]]
    if every:
        chosen = [(image.id, image) for image in images.list_images(roots)]
    else:
        chosen = [(name, None) for name in names]
    users = image_users(roots)
    done = False
    for text, known in chosen:
        try:
            image = known or find(roots, text)
            for removal in _remove_one(roots, text, image, users(image), force or every):
                done = True
                yield removal
        except NotFound:
            if not ignore and not force:
                yield NotRemoved(NotFound("image", text))
        except RootlessError as error:
            yield NotRemoved(error)
    if done:
        from rootless.store import gc

        gc.collect(roots, in_use=in_use_links(roots))


def _remove_one(roots: Roots, text: str, image: ImageRecord, users: Sequence[str], force: bool) -> Iterator[Removal]:
    named = tags(image)
    asked = _matching(image, text)
    if asked is not None and len(named) > 1 and asked in named:
        images.untag(roots, asked)
        events.emit(roots, "image", "untag", id=image.id, name=asked)
        yield Untagged(asked)
        return
    if users:
        hint = "remove the container first" if len(users) == 1 else "remove the containers first"
        raise InUse(f"image used by {users[0]}: image is in use by a container", hint=hint)
    if asked is None and len(named) > 1 and not force:
        raise ImageError(
            f'unable to delete image "{image.id}" by ID with more than one tag ([{" ".join(named)}]): '
            "please force removal"
        )
    if not images.remove(roots, image.id):
        raise NotFound("image", text)
    events.emit(roots, "image", "remove", id=image.id, name=named[0] if named else image.id)
    for name in named or digests(image):
        events.emit(roots, "image", "untag", id=image.id, name=name)
        yield Untagged(name)
    yield Deleted(image.id)


def _matching(image: ImageRecord, text: str) -> str | None:
    """Return the name of *image* that *text* means, None when *text* is an id."""
    from rootless.spec.reference import candidates

    try:
        wanted = [str(c) for c in candidates(text)]
    except ReferenceInvalid:
        return None
    return next((name for name in wanted if name in image.names), None)


def in_use_links(roots: Roots) -> frozenset[str]:
    """Return the layers that containers hold, whether or not their image still has a record."""
    return frozenset(link for _, data in overview.records(roots) for link in data.get("links") or ())


def image_users(roots: Roots) -> Callable[[ImageRecord], Sequence[str]]:
    """Return a function that names the containers, running or not, which were made from an image."""
    made_from = [(cid, data.get("image_id")) for cid, data in overview.records(roots)]
    return lambda image: [cid for cid, image_id in made_from if image_id == image.id]
