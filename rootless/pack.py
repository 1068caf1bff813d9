"""One file with the compiled code of the programs, and the finder that imports from it.

The ordinary import costs each of some ninety modules a look into directories, the source's and the .pyc's stat, seven
system calls for reading and the import system's own steps: half of what a launch takes in Python. The pack knows what
each module imports at its top, so that the first import of one reads and runs all that it stands on, in order, in one
go. scripts/hatch_build.py writes it; without one, or where an entry is older than its source, the ordinary import does
the work.

Shape:   MAGIC, the size of the index in 4 bytes, the index (marshal), then tuples of code (marshal): pieces, the
         modules that are used together, and each module alone. The index is {module: its row (marshal)}, a row (is a
         package, mtime in ns and size of the source, offset, size, number of its piece or -1, modules of the pack that
         it imports at its top); the pieces' (offset, size, modules); the names of compiled modules beside them. In a
         wheel mtime and size of the source are 0 and not compared, because installers set times as they like
Source:  PEP 451 (finders and loaders), PEP 552 (why a .pyc that is distributed need not be checked)
"""

import _imp
import marshal
import posix
import sys
from _frozen_importlib import ModuleSpec
from _thread import _count as other_threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType

    Identity = tuple[int, int, int]
    Row = tuple[bool, int, int, int, int, int, tuple[str, ...]]
    Piece = tuple[int, int, tuple[str, ...]]

MAGIC = b"rootless pack 2\n"
FIRST_READ_BYTES = 1 << 16
GAP_BYTES = 1 << 15  # what is read for nothing, rather than with a call of its own
BACKEND = "_cffi_backend"


def pack_path(root: str) -> str:
    """Return the path of the pack for this interpreter; code objects differ from version to version."""
    return f"{root}/rootless/startup.{sys.implementation.cache_tag}.pack"


def install(root: str) -> None:
    """Import the modules below *root* from its pack from now on, if there is one."""
    path = pack_path(root)
    start = len(MAGIC) + 4
    head, identity = _read(path, ((0, FIRST_READ_BYTES),))
    if head[0][: len(MAGIC)] != MAGIC:
        return
    end = start + int.from_bytes(head[0][len(MAGIC) : start], "little")
    if len(head[0]) < end:
        head, identity = _read(path, ((0, end),))
    sys.meta_path.insert(0, Pack(root, path, identity, end, *marshal.loads(head[0][start:end])))


class Pack:
    """Finder and loader of what the index lists."""

    def __init__(self, root: str, path: str, identity: "Identity", base: int, rows: "dict[str, bytes]",
                 pieces: "Sequence[Piece]", extensions: "Sequence[str]") -> None:  # fmt: skip
        self.root, self.path, self.identity, self.base = root, path, identity, base
        self.rows, self.pieces, self.extensions = rows, pieces, extensions
        self.read_rows: dict[str, Row] = {}
        self.codes: dict[str, CodeType] = {}  # read and not yet run

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> ModuleSpec | None:
        """Return the spec of module *name*; None, for the other finders, where it is not here or has changed.

        What the module imports at its top is imported here, before it.

        The file is opened each time: a descriptor that stays would take a number which the caller may have meant for
        the container (--preserve-fds). So it may be another one by now, of a newer version: then it is left alone.
        """
        if name not in self.rows:
            return self._extension(name)
        if not self._is_fresh(name):
            return None
        # Modules are run without the import system's locks, which only other threads need.
        batch = self._needs(name) if not other_threads() else []
        if not self._read_codes([*batch, name]):
            return None
        for needed in batch:
            if needed not in sys.modules:
                self._import(needed)
        return self._spec(name)

    def create_module(self, spec: ModuleSpec) -> "ModuleType | None":
        """Leave making the module to the import system."""
        return None

    def exec_module(self, module: "ModuleType") -> None:
        """Run the code of *module* in it."""
        spec = module.__spec__
        if spec is None:
            raise ImportError(f"{module.__name__} has no spec")
        self._run(module, spec.name)

    def _run(self, module: "ModuleType", name: str) -> None:
        code = self.codes.pop(name)
        origin = module.__file__ or ""
        if code.co_filename != origin:  # it was compiled elsewhere: tracebacks name the file that is here
            _imp._fix_co_filename(code, origin)  # type: ignore[attr-defined]
        exec(code, module.__dict__)

    def _import(self, name: str) -> None:
        """Do what the import system does for a module, one step after the other."""
        spec = self._spec(name)
        module = type(sys)(name)
        module.__spec__, module.__file__ = spec, spec.origin
        module.__loader__ = self  # type: ignore[assignment]
        module.__package__, _, own = name.rpartition(".")
        module.__cached__ = self.path  # type: ignore[attr-defined]
        if spec.submodule_search_locations is not None:
            module.__package__, module.__path__ = name, spec.submodule_search_locations
        parent = sys.modules.get(name.rpartition(".")[0])
        sys.modules[name] = module
        try:
            self._run(module, name)
        except BaseException:
            del sys.modules[name]
            raise
        if parent is not None:
            setattr(parent, own, module)

    def _needs(self, name: str) -> list[str]:
        """Return what *name* stands on and is not imported yet, in the order in which Python would get to it.

        What leads back to *name*, or has changed and may do so by now, is left to the import system.
        """
        found: list[str] = []
        clean: dict[str, bool] = {name: False}
        row, modules = self._row, sys.modules

        def visit(one: str) -> bool:
            straight = True
            for needed in row(one)[6]:
                if needed in modules:
                    continue
                if needed not in clean:
                    clean[needed] = False  # while we are below it, all that leads here is no straight way
                    clean[needed] = visit(needed) and self._is_fresh(needed)
                    if clean[needed]:
                        found.append(needed)
                straight &= clean[needed]
            return straight

        visit(name)
        return found

    def _row(self, name: str) -> "Row":
        row = self.read_rows.get(name)
        if row is None:
            row = self.read_rows[name] = marshal.loads(self.rows[name])
        return row

    def _is_fresh(self, name: str) -> bool:
        """Say whether the source of *name* is the one that was packed."""
        row = self._row(name)
        if not row[1]:
            return True
        try:
            now = posix.stat(self._origin(name, row[0]))
        except OSError:
            return False
        return now.st_mtime_ns == row[1] and now.st_size == row[2]

    def _origin(self, name: str, is_package: bool) -> str:
        place = f"{self.root}/{name.replace('.', '/')}"
        return f"{place}/__init__.py" if is_package else f"{place}.py"

    def _spec(self, name: str) -> ModuleSpec:
        is_package = self._row(name)[0]
        origin = self._origin(name, is_package)
        spec = ModuleSpec(name, self, origin=origin, is_package=is_package)  # type: ignore[arg-type]
        spec.has_location = True
        spec.cached = self.path  # or the import system would work out where a .pyc would lie, part by part
        if is_package:
            spec.submodule_search_locations = [origin[: -len("/__init__.py")]]
        return spec

    def _read_codes(self, names: list[str]) -> bool:
        """Read the code of *names* with few calls. Returns: False where the file is another one by now"""
        found = self._places([name for name in names if name not in self.codes])
        runs: list[list[int]] = []
        for at, size, _ in found:
            if runs and at - runs[-1][1] <= GAP_BYTES:
                runs[-1][1] = at + size
            else:
                runs.append([at, at + size])
        if not runs:
            return True
        read, identity = _read(self.path, [(self.base + at, end - at) for at, end in runs])
        if identity != self.identity:
            return False
        number = 0
        for at, size, members in found:
            if at >= runs[number][1]:
                number += 1
            start = at - runs[number][0]
            self.codes.update(zip(members, marshal.loads(memoryview(read[number])[start : start + size]), strict=True))
        return True

    def _places(self, names: list[str]) -> "list[Piece]":
        """Return what to read for *names*, in the order of the file: pieces that are mostly wanted, or parts."""
        wanted: dict[int, int] = {}
        for name in names:
            piece = self._row(name)[5]
            wanted[piece] = wanted.get(piece, 0) + 1
        whole = {number for number, count in wanted.items() if number >= 0 and 2 * count > len(self.pieces[number][2])}
        found = [self.pieces[number] for number in whole]
        for name in names:
            row = self._row(name)
            if row[5] not in whole:
                found.append((row[3], row[4], (name,)))
        return sorted(found)

    def _extension(self, name: str) -> ModuleSpec | None:
        """Return the spec of a compiled module of ours, or of the one they all need, without listing directories."""
        suffix = _imp.extension_suffixes()[0]
        if name in self.extensions:
            places = [f"{self.root}/{name.replace('.', '/')}{suffix}"]
        elif name == BACKEND:
            places = [f"{path}/{name}{suffix}" for path in sys.path if path.endswith("-packages")]
        else:
            return None
        for place in places:
            try:
                posix.stat(place)
            except OSError:
                continue
            from _frozen_importlib_external import ExtensionFileLoader, spec_from_file_location

            return spec_from_file_location(name, place, loader=ExtensionFileLoader(name, place))
        return None


def _read(path: str, parts: "Sequence[tuple[int, int]]") -> "tuple[list[bytes], Identity]":
    """Return *parts* (offset, size) of the file at *path* and which file that is; empty where it cannot be read."""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return [b""] * len(parts), (0, 0, 0)
    try:
        about = posix.fstat(fd)
        read = [posix.pread(fd, size, at) for at, size in parts]
        return read, (about.st_ino, about.st_mtime_ns, about.st_size)
    finally:
        posix.close(fd)
