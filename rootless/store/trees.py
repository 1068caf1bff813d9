"""Delete trees of any owner and mode.

Owner: run it as uid 0 of our user namespace, which has every capability over the files of all mapped ids. Outside, a
tree whose files all belong to the caller goes too, whatever their modes.
"""

from __future__ import annotations

import errno
import os

from rootless.kernel.fds import Fd
from rootless.store import atomic

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEPTH = 128
_DEEP = ".rootless-deep-"


def remove_tree(path: str) -> None:
    """Delete *path* and everything below it; nothing there is no error. Links are deleted, never followed.

    Without recursion, and with a bounded number of open directories, however deep the tree is.

    Raises: StoreError
    """
    parent, _, name = path.rpartition("/")
    try:
        top = os.open(parent or "/", _DIRECTORY)
    except FileNotFoundError:
        return
    except OSError as error:
        raise atomic.cannot("remove", path, error) from error
    with Fd(top) as directory:
        try:
            remove_at(directory, name)
        except OSError as error:
            raise atomic.cannot("remove", path, error) from error


def remove_at(directory: Fd, name: str) -> None:
    """As `remove_tree`, for one name in an open directory.

    Raises: OSError
    """
    parent = directory.fileno()
    try:
        os.unlink(name, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    # (directory, its name in the one above, its subdirectories that are still to do)
    stack: list[tuple[int, str, list[str]]] = []
    try:
        stack.append(_empty(parent, name))
        while stack:
            here, own_name, rest = stack[-1]
            if not rest:
                os.close(here)
                stack.pop()
                above = stack[-1][0] if stack else parent
                try:
                    os.rmdir(own_name, dir_fd=above)
                except PermissionError:
                    if not stack:
                        raise
                    os.fchmod(above, 0o700)
                    os.rmdir(own_name, dir_fd=above)
                continue
            child = rest.pop()
            if len(stack) < _DEPTH:
                stack.append(_empty(here, child))
            else:
                # An image may nest deeper than we may have descriptors: go on with the rest from the top.
                moved = f"{_DEEP}{os.urandom(8).hex()}"
                os.rename(child, moved, src_dir_fd=here, dst_dir_fd=stack[0][0])
                stack[0][2].append(moved)
    finally:
        for here, _, _ in stack:
            os.close(here)


def _empty(parent: int, name: str) -> tuple[int, str, list[str]]:
    """Open a directory, delete what is not a directory in it, and return what is."""
    try:
        here = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        # Without capabilities (a store of plain files outside the namespace) our own 0000 directory is closed to us.
        os.chmod(name, 0o700, dir_fd=parent)
        here = os.open(name, _DIRECTORY, dir_fd=parent)
    directories = []
    try:
        with os.scandir(here) as entries:
            listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for entry, is_directory in listed:
            if is_directory:
                directories.append(entry)
                continue
            try:
                os.unlink(entry, dir_fd=here)
            except PermissionError:
                os.fchmod(here, 0o700)
                os.unlink(entry, dir_fd=here)
    except BaseException:
        os.close(here)
        raise
    return here, name, directories
