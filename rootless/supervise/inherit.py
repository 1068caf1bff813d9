"""What a container asks for that others must be looked up for, once, when it is made: --volumes-from and type=glob.

Source: podman-run(1) "--volumes-from", "--mount type=glob"; podman 4.3's words
"""

from __future__ import annotations

import os

from rootless.errors import NotFound, RootlessError, StoreError, UsageError
from rootless.plan import saved
from rootless.spec.record import replace
from rootless.store import containers, images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import RunOptions, VolumeRequest
    from rootless.store.layout import Roots

_WORDS = ("z", "ro", "rw")


def settled(options: RunOptions, roots: Roots) -> tuple[RunOptions, tuple[str, ...]]:
    """Return *options* with the volumes of other containers and what patterns find, and warnings.

    Raises: UsageError, RootlessError
    """
    if not options.volumes_from and not any([request.kind == "glob" for request in options.volumes]):
        return options, ()
    own: list[VolumeRequest] = []
    for request in options.volumes:
        own += _found(request) if request.kind == "glob" else [request]
    taken = {request.target for request in own}
    inherited: dict[str, VolumeRequest] = {}
    warnings: list[str] = []
    for text in options.volumes_from:
        requests, more = _of(text, roots)
        warnings += more
        inherited.update({request.target: request for request in requests if request.target not in taken})
    return replace(options, volumes=(*inherited.values(), *own)), tuple(warnings)


def _found(request: VolumeRequest) -> list[VolumeRequest]:
    """Return a bind for each path that the pattern of *request* finds."""
    import glob  # it is dear to import, and nobody else needs it

    paths = sorted(glob.glob(request.source))
    if not paths:
        raise RootlessError(f"no file system path matches {request.source}: no such file or directory")
    made = []
    for path in paths:
        target = path if request.target == "/" else f"{request.target}/{os.path.basename(path)}"
        made.append(replace(request, kind="bind", source=path, target=target))
    return made


def _of(text: str, roots: Roots) -> tuple[list[VolumeRequest], list[str]]:
    """Return the volumes and binds of the container that *text* names, and warnings about what cannot be taken."""
    name, _, rest = text.partition(":")
    words = rest.split(",") if rest else []
    for word in words:
        if word not in _WORDS:
            raise UsageError(
                f'invalid option "{word}" specified - volumes from another container can only use z,ro,rw options'
            )
    if len([word for word in words if word in ("ro", "rw")]) > 1:
        raise UsageError("cannot set ro or rw options more than once")
    if words.count("z") > 1:
        raise UsageError("cannot set :z more than once in mount options")
    try:
        container = containers.find(roots, name)
    except NotFound:
        raise RootlessError(
            f'looking up container "{name}" for volumes-from: no container with name or ID "{name}" found: '
            "no such container"
        ) from None
    except StoreError as error:
        raise RootlessError(f'looking up container "{name}" for volumes-from: {error.message}') from None
    data = container.data
    asked = saved.decode(dict(data.get("options") or {}))
    anonymous = dict(data.get("anonymous") or {})
    mode = [word for word in words if word != "z"]
    found: list[VolumeRequest] = []
    warnings: list[str] = []
    for request in (*_image_volumes(container, asked, roots), *asked.volumes):
        source = request.source
        if request.kind == "volume" and not source:
            source = str(anonymous.get(request.target, ""))
        if request.kind not in ("volume", "bind") or not source:
            warnings.append(f"Unable to match volume {request.target} from container {container.id} for volumes-from")
            continue
        options = request.options
        if mode:
            options = (*[word for word in options if word not in ("ro", "rw")], *mode)
        found.append(replace(request, source=source, options=tuple(options), inherited=True))
    return found, warnings


def _image_volumes(container: containers.Container, asked: RunOptions, roots: Roots) -> tuple[VolumeRequest, ...]:
    """Return what the VOLUMEs of the container's image have become."""
    from rootless.plan.containermounts import image_requests
    from rootless.plan.translate import volume_targets

    image_id = str(container.data.get("image_id") or "")
    image = images.get(roots, image_id) if image_id else None
    return image_requests(asked, volume_targets(image.config)) if image is not None else ()
