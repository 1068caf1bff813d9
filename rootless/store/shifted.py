"""Copies of layers for another map of ids (`--userns keep-id`), made once and kept beside the layers.

Shape:   shifted/LINK-HEX.json = {"format", "of": LINK, "link": its tree in l/, "uids", "gids"}; HEX is taken from the
         maps. gc.collect deletes them with the layer that they are of; `system df` lists them.
"""

from __future__ import annotations

import os

from rootless.kernel.fds import open_fd
from rootless.kernel.fs import syncfs
from rootless.spec.record import record
from rootless.store import atomic, copytree, layers, layout, merged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.spec.idmap import IdMap
    from rootless.store.layers import Staging
    from rootless.store.layout import Roots


@record
class ShiftedCopy:
    """One copy."""

    of: str
    link: str
    uids: str
    gids: str
    """The maps as /proc/PID/uid_map has them."""


def shifted_layers(roots: Roots, links: Sequence[str], uids: IdMap, gids: IdMap) -> tuple[str, ...]:
    """Return links to copies of the layers *links* in which container ids are mapped by *uids* and *gids* to ours.

    What is not there yet is made. A map that changes nothing gives *links* themselves. Hold the shared data lock.

    Blocks:  for the copies, and one syncfs(2) if any had to be made
    Raises:  StoreError
    """
    if all([c == h for c, h, _ in (*uids.triples(), *gids.triples())]):
        return tuple(links)
    found = {link: _existing(roots, link, uids, gids) for link in links}
    missing = [link for link in dict.fromkeys(links) if not found[link]]
    if missing:
        with layers.open_staging(roots) as staging:
            for link in missing:
                _copy(staging, link, uids, gids)
            with open_fd(staging.path, os.O_RDONLY | os.O_DIRECTORY) as directory:
                syncfs(directory)
            for link in missing:
                found[link] = _publish(staging, link, uids, gids)
    return tuple([found[link] for link in links])


def list_shifted(roots: Roots) -> list[ShiftedCopy]:
    """Return all copies."""
    copies = []
    for name in atomic.names_in(f"{roots.data}/{layout.SHIFTED}"):
        value = atomic.read_record(f"{roots.data}/{layout.SHIFTED}/{name}")
        if value is not None:
            copies.append(ShiftedCopy(value["of"], value["link"], value["uids"], value["gids"]))
    return copies


def _existing(roots: Roots, link: str, uids: IdMap, gids: IdMap) -> str:
    value = atomic.read_record(_record(roots, link, uids, gids))
    if value is None or not os.path.isdir(layers.layer_dir(roots, value["link"])):
        return ""
    found: str = value["link"]
    return found


def _copy(staging: Staging, link: str, uids: IdMap, gids: IdMap) -> None:
    def shift(uid: int, gid: int) -> tuple[int, int]:
        new_uid, new_gid = uids.lookup(uid), gids.lookup(gid)
        return uid if new_uid is None else new_uid, gid if new_gid is None else new_gid

    target = staging.make_dir(f"tree-{link}")
    try:
        with (
            merged.open_layers((layers.layer_dir(staging.roots, link),)) as source,
            open_fd(target, os.O_RDONLY | os.O_DIRECTORY) as root,
        ):
            copytree.copy_tree(source, root, shift, raw=True)
    except OSError as error:
        raise atomic.cannot("copy the layer to", target, error) from error
    value = {"of": link, "link": layers.new_link(), "uids": uids.text(), "gids": gids.text()}
    atomic.write_new(f"{staging.path}/{link}.json", atomic.encode_record(value))


def _publish(staging: Staging, link: str, uids: IdMap, gids: IdMap) -> str:
    """Move a copy into the store; return the link that holds, which may be another process's."""
    roots = staging.roots
    staged, path = f"{staging.path}/{link}.json", _record(roots, link, uids, gids)
    value = atomic.read_record(staged)
    assert value is not None
    own: str = value["link"]
    tree, target = f"{staging.path}/tree-{link}", layers.layer_dir(roots, own)
    try:
        os.rename(tree, target)
    except OSError as error:
        raise atomic.cannot("make", target, error) from error
    if atomic.publish_new(staged, path):
        return own
    winner = _existing(roots, link, uids, gids)
    if winner:
        os.rename(target, tree)
        return winner
    atomic.publish(staged, path)
    return own


def _record(roots: Roots, link: str, uids: IdMap, gids: IdMap) -> str:
    from rootless.spec.digest import digest_of

    key = digest_of(f"{uids.text()}/{gids.text()}".encode()).hex[:16]
    return f"{roots.data}/{layout.SHIFTED}/{link}-{key}.json"
