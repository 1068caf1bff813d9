"""`rootless images`: list what is in the store.

Source: podman-images(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys
import time

from rootless.cli import output
from rootless.cli.parser import Command, Parsed, parse
from rootless.engine.filters import glob, labels_match, until
from rootless.engine.images import digests, image_users, repository, tags
from rootless.errors import ReferenceInvalid, UsageError
from rootless.spec import moment
from rootless.spec.record import record
from rootless.spec.reference import candidates
from rootless.store.images import ImageRecord, list_images
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from rootless.plan.options import GlobalOptions
    from rootless.store.layout import Roots

COMMAND = Command(
    name="images",
    summary="List images in local storage",
    usage="[IMAGE]",
    description="Lists images previously pulled to the system or created on the system.",
    flags=(
        ("all", "a", "bool", "", "", "Show all images (default hides intermediate images)", ""),
        ("digests", "", "bool", "", "", "Show digests", ""),
        ("filter", "f", "strings", "", "", "Filter output based on conditions provided", ""),
        ("format", "", "string", "", "", "Change the output format to JSON or a Go template", ""),
        ("history", "", "bool", "", "", "Display the image name history", "names that an image had are not kept"),
        ("no-trunc", "", "bool", "", "", "Do not truncate output", ""),
        ("noheading", "n", "bool", "", "", "Do not print column headings", ""),
        ("quiet", "q", "bool", "", "", "Display only image IDs", ""),
        ("sort", "", "string", "", '"created"', "Sort by created, id, repository, size, tag", ""),
    ),
    examples=(
        "images --format json",
        'images --sort repository --format "table {{.ID}} {{.Repository}} {{.Tag}}"',
        "images --filter dangling=true",
    ),
    max_args=1,
)

NONE = "<none>"
SORTS = ("created", "id", "repository", "size", "tag")
HEADINGS = {"CreatedAt": "CREATED AT"}
NAME_COLUMNS = (("REPOSITORY", "Repository"), ("TAG", "Tag"))
COLUMNS = (("IMAGE ID", "ID"), ("CREATED", "CreatedSince"), ("SIZE", "Size"))
DIGEST = ("DIGEST", "Digest")


@record
class Row:
    """One line: an image under one of its names. *created* in nanoseconds since 1970."""

    image: ImageRecord
    repository: str
    tag: str
    digest: str
    created: int

    def short(self, now: int, trunc: bool) -> dict[str, Any]:
        """Return the fields of the table."""
        return {
            "Repository": self.repository,
            "Tag": self.tag,
            "Digest": self.digest,
            "ID": self.image.id[:12] if trunc else f"sha256:{self.image.id}",
            "CreatedSince": output.human_duration((now - self.created) / moment.SECOND_NS) + " ago",
            "Size": output.human_size(self.image.size_bytes),
        }

    def fields(self, now: int, trunc: bool, containers: int) -> dict[str, Any]:
        """Return what a template may name."""
        image = self.image
        found = self.short(now, trunc)
        at = output.local_time(self.created)
        return found | {
            "Id": image.id,
            "Created": found["CreatedSince"],
            "CreatedAt": at,
            "CreatedTime": at,
            "VirtualSize": found["Size"],
            "Labels": labels(image),
            "Names": list(tags(image)),
            "RepoTags": list(tags(image)),
            "RepoDigests": list(digests(image)),
            "Containers": containers,
            "ParentId": "",
            "History": "",
            "Dangling": not tags(image),
            "ReadOnly": False,
        }


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print the table, the ids, or what --format asks for."""
    parsed, options = parse(COMMAND, argv, options)
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    key = parsed.text("sort", "created")
    if key not in SORTS:
        raise UsageError(f'"{key}" is not a valid field for sorting. Choose from: {", ".join(SORTS)}')
    if parsed.flag("quiet") and parsed.given("format"):
        raise UsageError("quiet and format are mutually exclusive")
    found = [image for image in list_images(roots) if selected(roots, image, parsed)]
    rows = sorted_rows([row for image in found for row in rows_of(image)], key)
    trunc = not parsed.flag("no-trunc")
    if parsed.flag("quiet"):
        ids = dict.fromkeys(row.image.id for row in rows)
        sys.stdout.write("".join([f"{i[:12] if trunc else 'sha256:' + i}\n" for i in ids]))
        return 0
    now, format = time.time_ns(), parsed.text("format")
    users = image_users(roots) if format else None
    output.listing(
        [row.fields(now, trunc, len(users(row.image))) if users else row.short(now, trunc) for row in rows],
        (*NAME_COLUMNS, *((DIGEST,) if parsed.flag("digests") else ()), *COLUMNS),
        format=format,
        name="images",
        headings=HEADINGS,
        noheading=parsed.flag("noheading"),
        json_rows=[document(row.image, len(users(row.image))) for row in first_of_each(rows)] if users else (),
        kind="images.imageReporter",
    )
    return 0


def first_of_each(rows: list[Row]) -> list[Row]:
    """Return one row for each image: --format json lists images, not names."""
    return list({row.image.id: row for row in reversed(rows)}.values())[::-1]


def rows_of(image: ImageRecord) -> Iterator[Row]:
    """Yield a row for each tag; for each repository of an image that has only digests; one for a nameless image."""
    created = created_of(image)
    named = [(repository(name), name[len(repository(name)) + 1 :]) for name in tags(image)]
    if not named:
        named = [(name, NONE) for name in dict.fromkeys(repository(name) for name in digests(image))]
    for repo, tag in named or [(NONE, NONE)]:
        yield Row(image, repo, tag, image.digest, created)


def sorted_rows(rows: list[Row], key: str) -> list[Row]:
    """Order rows as --sort says: names ascending, newest and largest first."""
    by: dict[str, Callable[[Row], Any]] = {
        "created": lambda row: -row.created,
        "id": lambda row: row.image.id,
        "repository": lambda row: (row.repository, row.tag),
        "size": lambda row: -row.image.size_bytes,
        "tag": lambda row: (row.tag, row.repository),
    }
    return sorted(rows, key=by[key])


def created_of(image: ImageRecord) -> int:
    """Return when the image was made, in nanoseconds since 1970; 0 when it does not say."""
    return moment.parse(image.created) or 0


def labels(image: ImageRecord) -> dict[str, str]:
    """Return the labels in the image's config."""
    config = image.config.get("config")
    found = config.get("Labels") if isinstance(config, dict) else None
    return dict(found) if isinstance(found, dict) else {}


def document(image: ImageRecord, containers: int) -> dict[str, Any]:
    """Return one element of --format json."""
    created = created_of(image)
    return {
        "Id": image.id,
        "ParentId": "",
        "RepoTags": list(tags(image)) or None,
        "RepoDigests": list(digests(image)),
        "Size": image.size_bytes,
        "SharedSize": 0,
        "VirtualSize": image.size_bytes,
        "Labels": labels(image) or None,
        "Containers": containers,
        "Names": list(tags(image)),
        "Digest": image.digest,
        "History": list(tags(image)),
        "Created": created // moment.SECOND_NS,
        "CreatedAt": moment.rfc3339(created),
    }


def selected(roots: Roots, image: ImageRecord, parsed: Parsed) -> bool:
    """Tell whether the argument and all of --filter let *image* through.

    Raises: UsageError for a filter that does not exist
    """
    if parsed.args and not matches(image, parsed.args[0]):
        return False
    for text in parsed.many("filter"):
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f'invalid image filter "{text}": must be in the format "filter=value or filter!=value"')
        if not passes(roots, image, key, value):
            return False
    return True


def passes(roots: Roots, image: ImageRecord, key: str, value: str) -> bool:
    """Tell whether one filter lets *image* through.

    Raises: UsageError
    """
    if key == "dangling":
        return (not tags(image)) is (value.lower() in ("true", "1", "t"))
    if key == "reference":
        return matches(image, value)
    if key == "id":
        return image.id.startswith(value.removeprefix("sha256:"))
    if key == "label":
        return labels_match(labels(image), value)
    if key == "until":
        return created_of(image) < until(value)
    if key in ("before", "since"):
        from rootless.engine.images import find

        limit = created_of(find(roots, value))
        return created_of(image) < limit if key == "before" else created_of(image) > limit
    if key == "readonly":
        return value.lower() in ("false", "0", "f")
    raise UsageError(
        f'unsupported image filter "{key}"', hint="use before, dangling, id, label, readonly, reference, since or until"
    )


def matches(image: ImageRecord, text: str) -> bool:
    """Tell whether *text* is a name of *image*, its repository, a pattern of one, or the beginning of its id."""
    if image.id.startswith(text):
        return True
    names = [*image.names, *(repository(name) for name in image.names)]
    short = [name.rpartition("/")[2] for name in names]
    if any([glob(text, name) for name in (*names, *short)]):
        return True
    try:
        wanted = {str(c) for c in candidates(text)}
    except ReferenceInvalid:
        return False
    return not wanted.isdisjoint(image.names)
