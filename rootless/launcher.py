"""How our programs are started: `python -IS rootless/start.py [--site=DIR] PROGRAM ARGS...`.

The launchers in bin/ (scripts/launcher.c) run that line, and so does whoever starts one of our programs as a child:

    posix_spawn(argv[0], argv := command("rootless-fuse-overlay", "--fd=5", ...), environ)

`-I` keeps the environment and the user's directories out, `-S` saves the import of `site`; what `site` would have done
for us, naming the directory of the installed packages, is done here, so that trio or httpx can be imported later.
`sys.executable` is the interpreter of the environment and stays usable for children.

Source: python(1) -I, -S; facts measured for decision 11; PEP 405 (pyvenv.cfg)
"""

# No `from __future__ import annotations` here and in pack.py: it would be the one import of that module in a start.
import gc
import sys

from rootless.pack import install

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

PROGRAMS = {
    "rootless": "rootless.cli.main",
    "rootless-oci": "rootless.cli.oci",
    "rootless-fuse-overlay": "fuse_overlay.__main__",
    "rootless-netstack": "netns.__main__",
    "rootless-unpack": "rootless.unpack.worker",
    "rootless-supervisor": "rootless.cli.ahead",
}
ROOT = __file__[: -len("/rootless/launcher.py")]
START = f"{ROOT}/rootless/start.py"
START_OBJECTS = 200_000
_site: list[str] = []
ahead: list[int] = []  # our end of the link to a supervisor that was started beside us, and its pid
launched_by: list[str] = []  # the launcher that did so


def command(program: str, *args: str) -> list[str]:
    """Return the argument vector that starts *program* (a key of PROGRAMS); its first word is the executable.

    Raises:  KeyError: no such program
    """
    PROGRAMS[program]
    option = [f"--site={_site[0]}"] if _site else []
    return [sys.executable, "-IS", START, *option, program, *args]


def start() -> "NoReturn":
    """Run the program that sys.argv names, and leave.

    Leaves by _exit after flushing: tearing the interpreter down takes 2 ms and has nothing left to do.
    """
    # Importing makes many objects and no garbage: with the usual threshold of 700 the collector looks at all of them
    # dozens of times before the first line of a command runs (a tenth of the start-up). What lives long sets its own.
    gc.set_threshold(START_OBJECTS, 20, 50)
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        _fill_stdio()
    words = sys.argv[1:]
    if words and words[0].startswith("--site="):
        _site.append(words.pop(0)[len("--site=") :])
    if words and words[0].startswith("--ahead="):
        ahead[:] = map(int, words.pop(0)[len("--ahead=") :].split(":"))
        launched_by.append(words.pop(0))
    if not words or words[0] not in PROGRAMS:
        sys.exit(f"usage: start.py [--site=DIR] [--ahead=FD:PID LAUNCHER] {'|'.join(PROGRAMS)} ARGS...")
    if "--version" not in words[:2]:  # which imports so little that reading the index would cost more than it saves
        install(ROOT)
    program = words.pop(0)
    sys.path += packages(_site[0] if _site else "")
    sys.argv[:] = [program, *words]
    leave(__import__(PROGRAMS[program], None, None, ["main"]).main(words))


def _fill_stdio() -> None:
    """Put /dev/null where a standard descriptor was closed: the next file opened would take its number."""
    import posix

    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = posix.open("/dev/null", posix.O_RDWR)
            if null != number:
                posix.dup2(null, number)
                posix.close(null)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def leave(status: int) -> "NoReturn":
    """End this process with *status* after flushing what was printed; a reader that has gone is no error."""
    import posix

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    posix._exit(status)


def packages(given: str) -> list[str]:
    """Return the directories of installed packages that go on sys.path behind our own root.

    Shape:   the directory *given* by the launcher, or the one of the environment that holds sys.executable; then those
             of the system, unless this is a virtual environment that does not want them
    """
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    home = sys.executable.rpartition("/")[0].rpartition("/")[0]
    found = [given] if given else []
    settings = _read(f"{home}/pyvenv.cfg")
    if settings:
        found += [f"{home}/lib/{version}/site-packages", f"{home}/lib64/{version}/site-packages"]
    if not settings or "include-system-site-packages=true" in settings.replace(" ", "").lower():
        found += [
            f"{sys.base_prefix}/local/lib/{version}/dist-packages",  # Debian
            f"{sys.base_prefix}/lib/python3/dist-packages",
            f"{sys.base_prefix}/lib/{version}/site-packages",
            f"{sys.base_prefix}/lib64/{version}/site-packages",
        ]
    return [path for path in dict.fromkeys(found) if path != ROOT]


def _read(path: str) -> str:
    """Return the text of a small file, or nothing where there is none."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""
