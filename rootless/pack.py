"""One file with the compiled code of the programs, and the finder that imports from it.

The ordinary import costs each of some eighty modules a look into directories, the source's and the .pyc's stat, and
seven system calls for reading: 3 ms or more of a launch. scripts/hatch_build.py writes the pack; without one, or where
an entry is older than its source, the ordinary import does the work.

Shape:   MAGIC, the size of the index in 4 bytes, the index (marshal), then code objects (marshal), one after another.
         The index is {module: (is a package, offset, size, mtime in ns of the source, size of the source)}; in a wheel
         the two last are 0 and not compared, because installers set times as they like
Source:  PEP 451 (finders and loaders), PEP 552 (why a .pyc that is distributed need not be checked)
"""

import _imp
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    Identity = tuple[int, int, int]
    Index = dict[str, tuple[bool, int, int, int, int]]

MAGIC = b"rootless pack 1\n"
FIRST_READ_BYTES = 1 << 15


def pack_path(root: str) -> str:
    """Return the path of the pack for this interpreter; code objects differ from version to version."""
    return f"{root}/rootless/startup.{sys.implementation.cache_tag}.pack"


def install(root: str) -> None:
    """Import the modules below *root* from its pack from now on, if there is one."""
    path = pack_path(root)
    start = len(MAGIC) + 4
    head, identity = _read(path, 0, FIRST_READ_BYTES)
    if head[: len(MAGIC)] != MAGIC:
        return
    end = start + int.from_bytes(head[len(MAGIC) : start], "little")
    if len(head) < end:
        head, identity = _read(path, 0, end)
    sys.meta_path.insert(0, Pack(root, path, identity, marshal.loads(head[start:end]), end))


class Pack:
    """Finder and loader of what the index lists."""

    def __init__(self, root: str, path: str, identity: "Identity", index: "Index", base: int) -> None:
        self.root, self.path, self.identity, self.index, self.base = root, path, identity, index, base

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> ModuleSpec | None:
        """Return the spec of module *name*; None, for the other finders, where it is not here or has changed.

        The file is opened each time: a descriptor that stays would take a number which the caller may have meant for
        the container (--preserve-fds). So it may be another one by now, of a newer version: then it is left alone.
        """
        entry = self.index.get(name)
        if entry is None:
            return None
        place = f"{self.root}/{name.replace('.', '/')}"
        origin = f"{place}/__init__.py" if entry[0] else f"{place}.py"
        if entry[3]:
            try:
                now = posix.stat(origin)
            except OSError:
                return None
            if now.st_mtime_ns != entry[3] or now.st_size != entry[4]:
                return None
        code, identity = _read(self.path, self.base + entry[1], entry[2])
        if identity != self.identity:
            return None
        spec = ModuleSpec(name, self, loader_state=code, origin=origin, is_package=entry[0])  # type: ignore[arg-type]
        spec.has_location = True
        spec.cached = self.path  # or the import system would work out where a .pyc would lie, part by part
        if entry[0]:
            spec.submodule_search_locations = [place]
        return spec

    def create_module(self, spec: ModuleSpec) -> "ModuleType | None":
        """Leave making the module to the import system."""
        return None

    def exec_module(self, module: "ModuleType") -> None:
        """Run the code of *module* in it."""
        spec = module.__spec__
        if spec is None:
            raise ImportError(f"{module.__name__} has no spec")
        code = marshal.loads(spec.loader_state)
        spec.loader_state = None
        origin = module.__file__ or ""
        if code.co_filename != origin:  # it was compiled elsewhere: tracebacks name the file that is here
            _imp._fix_co_filename(code, origin)  # type: ignore[attr-defined]
        exec(code, module.__dict__)


def _read(path: str, at: int, size: int) -> "tuple[bytes, Identity]":
    """Return *size* bytes of the file at *path* and which file that is; no bytes where it cannot be read."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return b"", (0, 0, 0)
    try:
        about = posix.fstat(fd)
        return posix.pread(fd, size, at), (about.st_ino, about.st_mtime_ns, about.st_size)
    finally:
        posix.close(fd)
