"""Operations drawn by hypothesis, done on our overlay, on the kernel's and in a plain directory: the same must happen.

Where the two overlays agree that an operation cannot be done (EXDEV for a directory with a lower part), the plain
directory is left alone. At the end all trees are compared as a whole, then again after the mount was made anew, and the
kernel's overlay is mounted on what ours wrote: the format on disk is the same.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.fuse.trees import Place, copy_tree, make_whiteout, raw, rename, snapshot

NOREPLACE, EXCHANGE = 1, 2
# Few enough that one operation meets what another did: names that the layers have, and some that they do not.
FILES = ("a/a", "a/d e/a", "d e/a/c", "a/c/b", "b/a/a", "c", "a/b", "n")
DIRECTORIES = ("a", "b", "a/c", "b/a", "b/c", "b/c/a", "d e", "d e/a", "a/d e", "m")
OTHERS = ("b/b", "b/d e", "a/n", "b/c/n", "m/n", "d e/n", "m/m")
files = st.sampled_from(FILES)
directories = st.sampled_from(DIRECTORIES)
paths = st.one_of(files, directories, st.sampled_from(OTHERS))
contents = st.binary(max_size=40)
modes = st.sampled_from((0o600, 0o644, 0o755, 0o4755, 0o2711, 0o000))
ids = st.sampled_from((0, 1, 1000, 65534))


def build_layers(place: Place) -> None:
    """Three layers that whiteout, replace and merge one another."""
    one = place.layer()
    for path in ("a/a", "a/b", "b/a/c", "c", "a/d e/a"):
        (one / path).parent.mkdir(parents=True, exist_ok=True)
        (one / path).write_bytes(path.encode() * 700)
    os.symlink("../c", one / "b/b")
    os.mkfifo(one / "b/d e", 0o640)
    os.chown(one / "a/a", 1000, 1001)
    os.chmod(one / "a/b", 0o4755)
    os.setxattr(one / "c", "user.note", b"one")
    two = place.layer()
    (two / "a/c").mkdir(parents=True)
    (two / "a/c/b").write_bytes(b"two")
    (two / "b/c/a").mkdir(parents=True)
    make_whiteout(two / "a/b", "device")
    (two / "b/a").mkdir()
    os.setxattr(two / "b/a", "user.overlay.opaque", b"y")
    (two / "b/a/a").write_bytes(b"hides b/a/c")
    three = place.layer()
    (three / "d e/a").mkdir(parents=True)
    (three / "d e/a/c").write_bytes(b"three" * 5000)
    make_whiteout(three / "c", "device")
    (three / "b").mkdir()
    os.chmod(three / "b", 0o2775)
    os.chown(three / "b", 1, 7)


class Trees(RuleBasedStateMachine):
    """The machine; *base* is set by the test."""

    base: Path
    count = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).count += 1
        self.stack = contextlib.ExitStack()
        self.place = Place(self.base / str(self.count))
        self.handles: list[list[int]] = []

    @initialize()
    def mount(self) -> None:
        build_layers(self.place)
        self.before = {name: raw(self.place.base / "store" / "l" / name) for name in self.place.layers}
        self.kernel = self.stack.enter_context(self.place.kernel())
        top = os.stat(self.place.base / "store" / "l" / self.place.layers[-1])
        os.chmod(self.kernel, stat.S_IMODE(top.st_mode))
        self.fuse_stack = contextlib.ExitStack()
        self.fuse = self.fuse_stack.enter_context(self.place.fuse())
        self.plain = self.place.point("plain")
        copy_tree(self.kernel, self.plain)
        os.chmod(self.plain, stat.S_IMODE(top.st_mode))
        assert snapshot(self.fuse.path) == snapshot(self.kernel)

    def every(self, do: Callable[[str], Any]) -> Any:
        """Do the same thing in all trees and compare what comes of it."""
        results: list[tuple[str, Any]] = []
        for top in (str(self.fuse.path), str(self.kernel), str(self.plain)):
            if top == str(self.plain) and results[0] == ("error", "EXDEV"):
                continue
            try:
                results.append(("value", do(top)))
            except OSError as error:
                results.append(("error", errno.errorcode.get(error.errno or 0)))
        assert all(result == results[0] for result in results), f"ours, kernel, plain: {results}"
        return results[0]

    # ---- operations

    @rule(path=files | paths, data=contents, flags=st.sampled_from((os.O_TRUNC, os.O_APPEND, 0, os.O_EXCL)), mode=modes)
    def write(self, path: str, data: bytes, flags: int, mode: int) -> None:
        def do(top: str) -> int:
            fd = os.open(f"{top}/{path}", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | flags, mode)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    return 0
                return os.write(fd, data)
            finally:
                os.close(fd)

        self.every(do)

    @rule(path=files, data=contents, offset=st.integers(0, 9000))
    def write_at(self, path: str, data: bytes, offset: int) -> None:
        def do(top: str) -> bytes:
            fd = os.open(f"{top}/{path}", os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                os.pwrite(fd, data, offset)
                return os.pread(fd, 20000, 0)
            finally:
                os.close(fd)

        self.every(do)

    @rule(path=files, size=st.integers(0, 9000))
    def truncate(self, path: str, size: int) -> None:
        self.every(lambda top: None if os.path.islink(f"{top}/{path}") else os.truncate(f"{top}/{path}", size))

    @rule(path=directories | paths, mode=modes)
    def mkdir(self, path: str, mode: int) -> None:
        self.every(lambda top: os.mkdir(f"{top}/{path}", mode))

    @rule(path=directories)
    def rmdir(self, path: str) -> None:
        self.every(lambda top: os.rmdir(f"{top}/{path}"))

    @rule(path=files | paths)
    def unlink(self, path: str) -> None:
        self.every(lambda top: os.unlink(f"{top}/{path}"))

    @rule(path=directories)
    def remove_tree(self, path: str) -> None:
        def do(top: str) -> None:
            for directory, names, files in os.walk(f"{top}/{path}", topdown=False):
                for name in files:
                    os.unlink(f"{directory}/{name}")
                for name in names:
                    full = f"{directory}/{name}"
                    if os.path.islink(full):
                        os.unlink(full)
                    else:
                        os.rmdir(full)
            os.rmdir(f"{top}/{path}")

        self.every(do)

    @rule(old=paths, new=paths, flags=st.sampled_from((0, 0, NOREPLACE, EXCHANGE)))
    def rename(self, old: str, new: str, flags: int) -> None:
        self.every(lambda top: rename(f"{top}/{old}", f"{top}/{new}", flags))

    @rule(old=paths, new=paths)
    def link(self, old: str, new: str) -> None:
        self.every(lambda top: os.link(f"{top}/{old}", f"{top}/{new}", follow_symlinks=False))

    @rule(path=paths, content=st.sampled_from(("a", "../b", "/nowhere", "c")))
    def symlink(self, path: str, content: str) -> None:
        self.every(lambda top: os.symlink(content, f"{top}/{path}"))

    @rule(path=paths, kind=st.sampled_from((stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFREG)))
    def mknod(self, path: str, kind: int) -> None:
        self.every(lambda top: os.mknod(f"{top}/{path}", kind | 0o640))

    @rule(path=paths, mode=modes)
    def chmod(self, path: str, mode: int) -> None:
        self.every(lambda top: None if os.path.islink(f"{top}/{path}") else os.chmod(f"{top}/{path}", mode))

    @rule(path=paths, uid=ids, gid=ids)
    def chown(self, path: str, uid: int, gid: int) -> None:
        self.every(lambda top: os.chown(f"{top}/{path}", uid, gid, follow_symlinks=False))

    @rule(path=paths, mtime=st.integers(0, 2**33).map(lambda n: n * 10**9 + 7))
    def utime(self, path: str, mtime: int) -> None:
        def do(top: str) -> int:
            os.utime(f"{top}/{path}", ns=(mtime, mtime), follow_symlinks=False)
            return os.lstat(f"{top}/{path}").st_mtime_ns

        self.every(do)

    @rule(path=paths, name=st.sampled_from(("user.a", "user.b")), value=contents, flags=st.sampled_from((0, 1, 2)))
    def setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        self.every(lambda top: os.setxattr(f"{top}/{path}", name, value, flags, follow_symlinks=False))

    @rule(path=paths, name=st.sampled_from(("user.a", "user.b", "user.note")))
    def removexattr(self, path: str, name: str) -> None:
        self.every(lambda top: os.removexattr(f"{top}/{path}", name, follow_symlinks=False))

    @rule(path=paths)
    def list_directory(self, path: str) -> None:
        self.every(lambda top: sorted(os.listdir(f"{top}/{path}")))

    @rule(path=paths)
    def look(self, path: str) -> None:
        def do(top: str) -> tuple[int, ...]:
            seen = os.lstat(f"{top}/{path}")
            links = 0 if stat.S_ISDIR(seen.st_mode) else seen.st_nlink
            return seen.st_mode, seen.st_uid, seen.st_gid, links

        self.every(do)

    @rule(path=files, flags=st.sampled_from((os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND)))
    def open(self, path: str, flags: int) -> None:
        opened: list[int] = []

        def do(top: str) -> None:
            if not stat.S_ISREG(os.lstat(f"{top}/{path}").st_mode):
                raise OSError(errno.EINVAL, "not a file")
            opened.append(os.open(f"{top}/{path}", flags | os.O_NOFOLLOW))

        try:
            self.every(do)
        finally:
            if len(opened) == 3:
                self.handles.append(opened)

    def on_handle(self, index: int, do: Callable[[int], Any]) -> None:
        """Do the same with one of the open files in each tree."""
        if not self.handles:
            return
        results: list[tuple[str, Any]] = []
        for fd in self.handles[index % len(self.handles)]:
            try:
                results.append(("value", do(fd)))
            except OSError as error:
                results.append(("error", errno.errorcode.get(error.errno or 0)))
        # A reader that kernel overlayfs gave a lower file goes on reading that one; ours and POSIX see the copy.
        assert results[0] == results[2], f"ours, kernel, plain: {results}"

    @rule(index=st.integers(0, 9))
    def read_open(self, index: int) -> None:
        self.on_handle(index, lambda fd: (os.pread(fd, 20000, 0), os.fstat(fd).st_size, os.fstat(fd).st_nlink))

    @rule(index=st.integers(0, 9), data=contents)
    def write_open(self, index: int, data: bytes) -> None:
        self.on_handle(index, lambda fd: os.write(fd, data))

    @rule(index=st.integers(0, 9), size=st.integers(0, 5000), mode=modes)
    def change_open(self, index: int, size: int, mode: int) -> None:
        def do(fd: int) -> None:
            os.fchmod(fd, mode)
            os.fsync(fd)
            os.ftruncate(fd, size)

        self.on_handle(index, do)

    @rule(index=st.integers(0, 9))
    def close(self, index: int) -> None:
        if self.handles:
            for fd in self.handles.pop(index % len(self.handles)):
                os.close(fd)

    @rule()
    def compare(self) -> None:
        assert snapshot(self.fuse.path, links=True) == snapshot(self.plain, links=True)

    @rule()
    def drop_caches(self) -> None:
        """Make the kernel forget what it knows of our tree: mount anew while files are open elsewhere."""
        if not self.handles:
            self.fuse_stack.close()
            self.fuse = self.fuse_stack.enter_context(self.place.fuse())

    def teardown(self) -> None:
        try:
            if not hasattr(self, "plain"):
                return
            for fds in self.handles:
                for fd in fds:
                    os.close(fd)
            expected = snapshot(self.plain, links=True)
            assert snapshot(self.fuse.path, links=True) == expected
            assert snapshot(self.kernel, links=True) == expected
            self.fuse_stack.close()
            with self.place.fuse() as again:
                assert snapshot(again.path, links=True) == expected
            with self.place.kernel(kind="check", upper_of="fuse") as check:
                assert snapshot(check, links=True) == expected
            for name, content in self.before.items():
                assert raw(self.place.base / "store" / "l" / name) == content, "a layer was changed"
        finally:
            if hasattr(self, "fuse_stack"):
                self.fuse_stack.close()
            self.stack.close()


@pytest.mark.requires("subuid", "fuse", "overlay")
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_same_happens_as_in_a_plain_directory(in_userns: Callable[..., Any], workplace: Path) -> None:
    def body() -> None:
        os.umask(0o022)
        Trees.base = workplace
        examples = int(os.environ.get("ROOTLESS_FUSE_EXAMPLES", "25"))
        run_state_machine_as_test(
            Trees,
            settings=settings(
                max_examples=examples,
                stateful_step_count=40,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                print_blob=False,
            ),
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.support.userns.DEADLINE_S", 3600.0)  # a long run by hand
        in_userns(body, ids="subid")
