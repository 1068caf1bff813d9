"""Compile the native parts: hatchling build hook, and a script that builds in place.

    python scripts/hatch_build.py [--force]

What is built, from what is there:

    module (cffi)                rootless/kernel/build_sys.py -> rootless.kernel._sys, and every other build_*.py
                                 that holds an `ffibuilder`, in rootless/, netns/ and fuse_overlay/
    program rootless/stage/enter     from enter.c
    program rootless/stage/stage.bin from the other C files beside it, static where libc.a is there
    rootless/startup.TAG.pack    the compiled code of the start-up path in one file (rootless/pack.py)
    launchers                    scripts/launcher.c for each program, the interpreter's name filled in; launcher.sh
                                 where it does not compile

Only what is older than its sources is built. Objects are kept in build/ (or in a temporary directory where the tree
is read-only); in-place and editable builds copy them into the tree, wheels take them from there. Needs a C compiler and
the headers of Python, nothing else: a binding to a library whose header is absent is left out and the reason printed.
"""

from __future__ import annotations
import __future__

import ast
import fcntl
import importlib.util
import marshal
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # as a script, hatchling is not needed
    BuildHookInterface = object  # type: ignore[assignment,misc]

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("rootless", "netns", "fuse_overlay")
# What the programs import on their way to START, what the verbs import, and the two servers.
PACKED = (
    *("rootless/*.py", "rootless/spec/*.py", "rootless/plan/*.py", "rootless/kernel/*.py", "rootless/stage/*.py"),
    *("rootless/store/*.py", "rootless/mount/*.py", "rootless/run/**/*.py", "rootless/supervise/*.py"),
    *("rootless/cli/*.py", "rootless/cli/commands/*.py", "rootless/engine/*.py"),
    *("rootless/proto/*.py", "rootless/pull/plain.py", "rootless/unpack/*.py", "netns/*.py", "fuse_overlay/*.py"),
)
# What is imported on its own, with all that it stands on: what the same ones of these need lies together in the pack.
FIRST = (
    *("rootless.cli.main", "rootless.cli.parser", "rootless.cli.ahead", "rootless.supervise.early"),
    *("rootless.supervise.session", "rootless.cli.commands.run", "netns.server"),
)
PROGRAMS = ("rootless", "rootless-oci", "rootless-fuse-overlay", "rootless-netstack")
STAGE = "rootless/stage"
FREESTANDING = (
    *("-std=gnu11", "-Os", "-Wall", "-Wextra", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector"),
    *("-fno-asynchronous-unwind-tables", "-fno-tree-loop-distribute-patterns", "-fno-pie", "-no-pie", "-s"),
    *("-Wl,--build-id=none", "-Wl,-z,noseparate-code", "-Wl,-z,noexecstack"),
)
EXT_SUFFIX: str = sysconfig.get_config_var("EXT_SUFFIX") or ".so"
# builder -> (header that must be found, what is missing without it)
OPTIONAL = {
    "netns/build_slirp.py": (("slirp/libslirp.h", "libslirp.h"), "libslirp-dev", "the private network"),
}


def say(text: str) -> None:
    print(f"hatch_build: {text}", file=sys.stderr, flush=True)


def compiler() -> list[str]:
    """Return the C compiler as words: $CC, the one that built Python, or cc."""
    for words in (os.environ.get("CC", ""), sysconfig.get_config_var("CC") or "", "cc", "gcc", "clang"):
        argv = str(words).split()
        if argv and shutil.which(argv[0]):
            return argv
    raise SystemExit(
        "hatch_build: no C compiler found: install gcc (Debian: apt-get install gcc libc6-dev python3-dev)"
    )


def has_header(names: tuple[str, ...]) -> bool:
    """Tell whether the compiler finds one of the headers *names*."""
    for name in names:
        probe = subprocess.run(
            [*compiler(), *os.environ.get("CPPFLAGS", "").split(), "-E", "-x", "c", "-"],
            input=f"#include <{name}>\n".encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if probe.returncode == 0:
            return True
    return False


def older(product: Path, sources: list[Path]) -> bool:
    """Tell whether *product* is missing or older than one of *sources*."""
    try:
        made = product.stat().st_mtime_ns
    except FileNotFoundError:
        return True
    return any(source.stat().st_mtime_ns > made for source in sources if source.exists())


def replace_file(source: Path, target: Path) -> None:
    """Put a copy of *source* at *target* by rename, so that a running program keeps the old one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy2(source, fresh)
    fresh.replace(target)


class Shorter(ast.NodeTransformer):
    """Leaves out what no program looks at: docstrings and the annotations of functions and of a module's names.

    Those of classes are the fields of records.
    """

    def visit_Module(self, node: ast.Module) -> ast.AST:
        node.body = [self.plain(line) for line in node.body]
        return self.without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self.without_docstring(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        arguments = node.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs,
                         arguments.vararg, arguments.kwarg):  # fmt: skip
            if argument is not None:
                argument.annotation = None
        node.returns = None
        return self.without_docstring(node)

    visit_AsyncFunctionDef = visit_FunctionDef  # type: ignore[assignment]

    def plain(self, line: ast.stmt) -> ast.stmt:
        if isinstance(line, ast.AnnAssign) and line.value is not None:
            return ast.copy_location(ast.Assign([line.target], line.value), line)
        return line

    def without_docstring(self, node: Any) -> ast.AST:
        self.generic_visit(node)
        if ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
            if not node.body and not isinstance(node, ast.Module):
                node.body = [ast.Pass()]
        return node  # type: ignore[no-any-return]


def compiled(path: Path) -> Any:
    """Return the code of the module at *path*, the statement `from __future__ import annotations` as a flag.

    The statement itself would import the module __future__, which nobody looks at.
    """
    tree = ast.parse(path.read_bytes(), str(path))
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    tree.body = [node for node in tree.body if node not in future]
    tree = ast.fix_missing_locations(Shorter().visit(tree))
    for node in ast.walk(tree):
        if hasattr(node, "lineno"):  # the columns only mark a place in tracebacks, and are a tenth of the pack
            vars(node).update(end_lineno=node.lineno, col_offset=-1, end_col_offset=-1)
    flags = __future__.annotations.compiler_flag if future else 0
    return compile(tree, str(path), "exec", flags=flags, dont_inherit=True, optimize=0)


def module_name(root: Path, path: Path) -> str:
    """Return the name under which the source at *path* is imported."""
    words = path.relative_to(root).with_suffix("").parts
    return ".".join(words[:-1] if words[-1] == "__init__" else words)


def imported(path: Path, known: set[str]) -> tuple[str, ...]:
    """Return those of *known* that the module at *path* imports in any case, in order, packages before what is in them.

    What stands in a condition, a `try` or a function is left to the moment when it is wanted.
    """
    names: list[str] = []
    for line in ast.parse(path.read_bytes(), str(path)).body:
        if isinstance(line, ast.Import):
            names += [alias.name for alias in line.names]
        elif isinstance(line, ast.ImportFrom) and line.module and not line.level:
            names += [line.module, *(f"{line.module}.{alias.name}" for alias in line.names)]
    found: dict[str, None] = {}
    for name in names:
        words = name.split(".")
        for size in range(1, len(words) + 1):
            one = ".".join(words[:size])
            if one in known:
                found[one] = None
    return tuple(found)


def pack_body(root: Path, sources: list[Path], *, checked: bool, extensions: tuple[str, ...] = ()) -> bytes:
    """Return what follows the magic of a pack of *sources* below *root*; what is used together lies together."""
    paths = {module_name(root, path): path for path in sources}
    needs = {name: imported(path, set(paths)) for name, path in paths.items()}
    order: dict[str, None] = {}

    def place(name: str, above: tuple[str, ...]) -> None:
        for needed in needs[name]:
            if needed not in above and needed not in order:
                place(needed, (*above, needed))
        order[name] = None

    for name in (*(name for name in FIRST if name in paths), *paths):
        if name not in order:
            place(name, (name,))
    wanted_by: dict[str, set[str]] = {name: set() for name in order}
    for entry in (name for name in FIRST if name in paths):
        for name in closure(entry, needs):
            wanted_by[name].add(entry)
    # What the same entries want is there a second time in one piece: read back in one go it shares what it repeats.
    groups: dict[frozenset[str], list[str]] = {}
    for name in order:
        groups.setdefault(frozenset(wanted_by[name]), []).append(name)
    pieces = [tuple(names) for wanted, names in groups.items() if wanted and len(names) > 1]
    piece_of = {name: number for number, names in enumerate(pieces) for name in names}
    index: dict[str, bytes] = {}
    places: list[tuple[int, int, tuple[str, ...]]] = []
    codes = {name: compiled(path) for name, path in paths.items()}
    code = bytearray()
    for names in pieces:
        blob = marshal.dumps(tuple([codes[name] for name in names]))
        places.append((len(code), len(blob), names))
        code += blob
    for name in order:
        blob = marshal.dumps((codes[name],))
        about = paths[name].stat()
        times = (about.st_mtime_ns, about.st_size) if checked else (0, 0)
        # A package above is there before any module in it is asked for.
        above = tuple([needed for needed in needs[name] if not name.startswith(f"{needed}.")])
        is_package = paths[name].name == "__init__.py"
        row = (is_package, *times, len(code), len(blob), piece_of.get(name, -1), above)
        index[name] = marshal.dumps(row)
        code += blob
    head = marshal.dumps((index, tuple(places), extensions))
    return len(head).to_bytes(4, "little") + head + code


def closure(entry: str, needs: dict[str, tuple[str, ...]]) -> set[str]:
    """Return *entry* and all that it stands on."""
    found = {entry}
    left = [entry]
    while left:
        for needed in needs[left.pop()]:
            if needed not in found:
                found.add(needed)
                left.append(needed)
    return found


class Builder:
    """Builds into *out*, which mirrors the tree; `products` maps what was made to its place in the tree."""

    def __init__(self, out: Path, *, force: bool = False) -> None:
        self.out = out
        self.force = force
        self.products: dict[Path, str] = {}

    def everything(self) -> dict[Path, str]:
        """Build all native parts; return product -> path in the tree."""
        for package in PACKAGES:
            for builder in sorted((ROOT / package).rglob("build_*.py")):
                self.extension(builder)
        self.programs()
        return self.products

    def stale(self, product: Path, sources: list[Path]) -> bool:
        return self.force or older(product, [*sources, Path(__file__)])

    # ---- cffi modules

    def extension(self, path: Path) -> None:
        """Compile the cffi module that the builder at *path* describes."""
        place = path.relative_to(ROOT).as_posix()
        if place in OPTIONAL:
            headers, package, lost = OPTIONAL[place]
            if not has_header(headers):
                say(f"{place} skipped: {headers[0]} not found (Debian: {package}); {lost} will not be available")
                return
        # Any source beside the builder may be included by another one: a rebuild too many costs a second.
        near = [p for p in path.parent.iterdir() if p.suffix in {".c", ".h"} and not p.name.startswith("_")]
        near += [p for p in (path.parent / "decl").glob("*") if p.is_file()]
        module = self.load(path) if self.might_be_stale(path, near) else None
        if module is None:
            return
        builder = getattr(module, "ffibuilder", None)
        if builder is None:
            return
        name, source, extension, options = builder._assigned_source
        product = self.out / (name.replace(".", "/") + EXT_SUFFIX)
        for key in ("sources", "include_dirs", "depends", "library_dirs", "extra_objects"):
            if key in options:  # relative paths are meant from the builder's directory
                options[key] = [str((path.parent / item).resolve()) for item in options[key]]
        builder._assigned_source = name, source, extension, options
        say(f"compiling {name}")
        with tempfile.TemporaryDirectory(prefix="rootless-cffi-") as scratch:
            built = Path(builder.compile(tmpdir=scratch, verbose=False))
            replace_file(built, product)
        self.remember(path, product)
        self.products[product] = product.relative_to(self.out).as_posix()

    def might_be_stale(self, path: Path, near: list[Path]) -> bool:
        """Look at the note that the last build left: which product this builder has. True when it must be loaded."""
        note = self.note(path)
        if note.exists():
            product = self.out / note.read_text()
            if not self.stale(product, [path, *near]):
                self.products[product] = product.relative_to(self.out).as_posix()
                return False
        return True

    def note(self, path: Path) -> Path:
        return self.out / (path.relative_to(ROOT).as_posix() + EXT_SUFFIX + ".made")

    def remember(self, path: Path, product: Path) -> None:
        self.note(path).parent.mkdir(parents=True, exist_ok=True)
        self.note(path).write_text(product.relative_to(self.out).as_posix())

    def load(self, path: Path) -> Any:
        """Execute the builder at *path* as a module of its own."""
        spec = importlib.util.spec_from_file_location(f"rootless_builder_{path.stem}", path)
        if spec is None or spec.loader is None:
            raise SystemExit(f"hatch_build: cannot load {path}")
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(ROOT))
        try:
            spec.loader.exec_module(module)
        finally:
            sys.path.remove(str(ROOT))
        return module

    # ---- C programs

    def programs(self) -> None:
        """Compile `enter` and the stage."""
        stage = ROOT / STAGE
        headers = sorted(stage.glob("*.h"))
        enter = stage / "enter.c"
        rest = sorted(p for p in stage.glob("*.c") if p != enter and not p.name.startswith("_"))
        if enter.exists():
            self.program(f"{STAGE}/enter", [enter], headers)
        if (stage / "stage.c").exists():
            self.program(f"{STAGE}/stage.bin", rest, headers)

    def program(self, place: str, sources: list[Path], headers: list[Path]) -> None:
        """Link one program: static, so that it starts fast and needs no file of a container; dynamic without libc.a."""
        product = self.out / place
        self.products[product] = place
        if not self.stale(product, [*sources, *headers]):
            return
        say(f"compiling {place}")
        product.parent.mkdir(parents=True, exist_ok=True)
        fresh = product.with_name(product.name + ".new")
        flags = [
            "-std=gnu11",
            "-O2",
            "-fno-plt",
            "-ffunction-sections",
            "-Wall",
            "-Wextra",
            *os.environ.get("CFLAGS", "").split(),
        ]
        command = [
            *compiler(),
            *flags,
            f"-I{ROOT / STAGE}",
            "-o",
            str(fresh),
            *map(str, sources),
            "-Wl,--gc-sections",
            "-s",
        ]
        static = subprocess.run([*command, "-static"], stderr=subprocess.PIPE, check=False)
        if static.returncode == 0:
            sys.stderr.buffer.write(static.stderr)
        else:
            if subprocess.run(command, check=False).returncode != 0:
                raise SystemExit(f"hatch_build: cannot compile {place}")
            say(f"{place} is linked dynamically (no libc.a)")
        fresh.replace(product)

    # ---- the pack of the start-up path

    def pack(self, *, checked: bool) -> None:
        """Write the pack; *checked*: with the times of the sources, which are compared when modules are imported."""
        spec = importlib.util.spec_from_file_location("rootless_pack", ROOT / "rootless/pack.py")
        if spec is None or spec.loader is None:
            raise SystemExit("hatch_build: cannot load rootless/pack.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        product = Path(module.pack_path(str(self.out)))
        if not checked:
            product = product.with_suffix(".wheel")
        sources = sorted({path for pattern in PACKED for path in ROOT.glob(pattern)})
        sources = [path for path in sources if not path.name.startswith("build_")]
        self.products[product] = os.path.relpath(module.pack_path(str(ROOT)), ROOT)
        if not self.stale(product, sources):
            return
        product.parent.mkdir(parents=True, exist_ok=True)
        compiled_too = [place for place in self.products.values() if place.endswith(EXT_SUFFIX)]
        extensions = tuple(sorted([place.removesuffix(EXT_SUFFIX).replace("/", ".") for place in compiled_too]))
        body = pack_body(ROOT, sources, checked=checked, extensions=extensions)
        product.write_bytes(module.MAGIC + body)

    # ---- launchers

    def launchers(self) -> dict[str, str]:
        """Make the launcher of each program: compiled, or the script where that fails; return path -> name in bin/."""
        text = (ROOT / "scripts/launcher.sh").read_text()
        python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        base = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
        made = {}
        for program in PROGRAMS:
            path = self.out / "bin" / program
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            words = {"PROGRAM": program, "PYTHON": python, "BASE": str(base)}
            defined = [f'-D{name}="{value}"' for name, value in words.items()]
            command = [*compiler(), *FREESTANDING, *defined, "-o", str(path), str(ROOT / "scripts/launcher.c")]
            if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode or not starts(path):
                say(f"{program} is started by a shell script")
                filled = text
                for name, value in words.items():
                    filled = filled.replace(f"@{name}@", value)
                path.write_text(filled)
            path.chmod(0o755)
            made[str(path)] = program
        return made


def starts(program: Path) -> bool:
    """Tell whether the launcher *program* runs on this machine: from here it finds no package, and says so."""
    try:
        said = subprocess.run([program], stderr=subprocess.PIPE, check=False)
    except OSError:
        return False
    return said.returncode == 125 and b"is not installed" in said.stderr


@contextmanager
def workshop() -> Iterator[Path]:
    """Give the directory that products are kept in, locked; a temporary one where the tree cannot be written."""
    out = ROOT / "build" / f"native-{sysconfig.get_platform()}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = os.open(out / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
    except OSError:
        with tempfile.TemporaryDirectory(prefix="rootless-build-") as scratch:
            yield Path(scratch)
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield out
    finally:
        os.close(lock)


def install_in_place(products: dict[Path, str]) -> None:
    """Copy *products* into the tree and compile the Python files, which a user who may not write here cannot do."""
    for product, place in products.items():
        target = ROOT / place
        if older(target, [product]):
            replace_file(product, target)
    import compileall

    for package in PACKAGES:
        compileall.compile_dir(ROOT / package, quiet=2, workers=1)


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """What hatchling calls for wheels (editable ones too)."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        self.held = workshop()
        builder = Builder(self.held.__enter__())
        products = builder.everything()
        builder.pack(checked=version == "editable")
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["shared_scripts"].update(builder.launchers())
        if version == "editable":
            install_in_place(products)
        else:
            build_data["force_include"].update({str(product): place for product, place in products.items()})

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self.target_name == "wheel":
            self.held.__exit__(None, None, None)


def main() -> None:
    with workshop() as out:
        builder = Builder(out, force="--force" in sys.argv[1:])
        builder.everything()
        builder.pack(checked=True)
        install_in_place(builder.products)


if __name__ == "__main__":
    main()
