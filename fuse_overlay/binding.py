"""The one place that knows pyfuse3: importing it without its event loop, and turning its requests into plain calls.

pyfuse3 imports trio, logging, threading, typing and others, which cost 190 ms and 17 MB, and of which a server that
handles one request after another needs nothing: `load` puts small stand-ins into `sys.modules` while the import runs
and takes them out again. The stand-in for trio has what pyfuse3's main loop touches. Nothing in it ever waits except
for the next request, so each coroutine runs to its end at once; that also makes one request half the price of trio's.

Source: pyfuse3 3.5 src/pyfuse3/{__init__.pyx,internal.pxi,_pyfuse3.py}; its asyncio.py replaces the loop the same way
"""

from __future__ import annotations

import sys

from rootless.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

FUSE_ERROR_IO = 5
FUSE_ERROR_NO_DATA = 61
REQUESTS = (
    "lookup", "getattr", "setattr", "readlink", "mknod", "mkdir", "unlink", "rmdir", "symlink", "rename", "link",
    "open", "read", "write", "release", "fsync", "opendir", "readdir", "releasedir", "fsyncdir", "statfs", "setxattr",
    "getxattr", "listxattr", "removexattr", "create",
)  # fmt: skip
# ENOSYS, and the kernel asks never again: permissions are its own business (default_permissions), closing does nothing.
UNSUPPORTED = ("access", "flush", "poll")


def load() -> Any:
    """Import pyfuse3.

    Raises:  NotSupported: it is not installed, or libfuse3 is not
    """
    present = "pyfuse3" in sys.modules
    stand_ins = {} if present else _stand_ins()
    saved = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        import pyfuse3
    except ImportError as error:
        raise NotSupported(
            "the FUSE overlay",
            (f"pyfuse3 cannot be imported ({error})",),
            hint="install rootless with its extra: pip install 'rootless[fuse]' (needs libfuse3-dev)",
        ) from None
    finally:
        for name, module in saved.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
    return pyfuse3


class Ended(Exception):
    """Raised by what waits for requests: there are to be no more."""


def serve(pyfuse3: Any, wait: Callable[[int], None]) -> None:
    """Serve requests until the file system is unmounted or *wait* raises Ended.

    *wait* is called with the descriptor before each request, and returns when one is there.
    """
    pyfuse3.trio = _Trio(wait)
    main = pyfuse3.main(1, 1)
    try:
        main.send(None)
    except StopIteration:
        return
    raise RuntimeError("pyfuse3's main loop waits for something that is not a request")


def handlers(
    pyfuse3: Any, operations: Any, *, writeback: bool, acl: bool, ready: Callable[[], None], report: Callable[..., None]
) -> Any:
    """Return the object that pyfuse3 calls: *operations*, each guarded so that no fault ends the server."""
    ours = _Handlers()
    for name in REQUESTS:
        setattr(ours, name, _guarded(name, getattr(operations, name), pyfuse3.FUSEError, report))
    ours.getxattr = _or_no_data(ours.getxattr, pyfuse3.FUSEError)
    unsupported = pyfuse3.FUSEError(38)

    async def refuse(*_: Any) -> None:
        raise unsupported

    for name in UNSUPPORTED:
        setattr(ours, name, refuse)

    def forget(inodes: list[tuple[int, int]]) -> None:
        try:
            operations.forget(inodes)
        except Exception as error:
            report("forget", error)

    ours.forget = forget
    ours.init = ready
    ours.enable_writeback_cache = writeback
    ours.enable_acl = acl
    return ours


class _Handlers:
    """What pyfuse3 reads of its operations object."""

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False
    init: Any = None
    getxattr: Any = None
    forget: Any = None

    def stacktrace(self) -> None:
        """Do nothing: for debugging of deadlocks, which one thread cannot have."""


def _guarded(name: str, call: Callable[..., Any], fuse_error: Any, report: Callable[..., None]) -> Any:
    """Wrap one handler: an OSError is the answer; anything else is a fault of ours, answered with EIO and reported."""

    async def handler(*args: Any) -> Any:
        try:
            return call(*args)
        except OSError as error:
            raise fuse_error(error.errno or FUSE_ERROR_IO) from None
        except Exception as error:
            report(name, error)
            raise fuse_error(FUSE_ERROR_IO) from None

    return handler


def _or_no_data(handler: Any, fuse_error: Any) -> Any:
    """Wrap getxattr, which returns None where there is no such attribute."""

    async def answered(ino: int, name: bytes, ctx: Any) -> Any:
        value = await handler(ino, name, ctx)
        if value is None:
            raise fuse_error(FUSE_ERROR_NO_DATA)
        return value

    return answered


# ---- stand-ins


class _Anything:
    """Answers every call and subscript with itself: for type annotations and loggers."""

    def __call__(self, *_: Any, **__: Any) -> _Anything:
        return self

    def __getitem__(self, _: Any) -> _Anything:
        return self

    def __getattr__(self, _: str) -> _Anything:
        return self


class _Missing(Exception):
    """For except clauses that are never entered."""


def _stand_ins() -> dict[str, ModuleType]:
    """Return name -> module for what pyfuse3 imports at import time; modules that are loaded already stay."""
    anything = _Anything()

    def unchanged(_: Any) -> Any:
        return lambda function: function

    # Other versions of pyfuse3 may want other names of typing and logging: what is not listed is `anything` as well.
    open_ended = {"__getattr__": lambda _: anything}
    contents: dict[str, dict[str, Any]] = {
        "trio": {},
        "threading": open_ended,
        "queue": open_ended,
        "pickle": {"PicklingError": _Missing},
        "logging": open_ended,
        "functools": {"wraps": unchanged},
        "importlib.metadata": {"PackageNotFoundError": _Missing, "version": lambda _: "unknown"},
        "typing": {"TYPE_CHECKING": False, **open_ended},
    }
    made = {}
    for name, content in contents.items():
        if name not in sys.modules or name == "trio":
            module = type(sys)(name)
            module.__dict__.update(content)
            made[name] = module
    return made


class _Trio:
    """The part of trio that pyfuse3's main loop uses."""

    ClosedResourceError = Ended

    def __init__(self, wait: Callable[[int], None]) -> None:
        self._wait = wait
        self.lowlevel = self

    def current_trio_token(self) -> None:
        return None

    def current_task(self) -> _Task:
        return _Task()

    def notify_closing(self, fd: int) -> None:
        """Nobody waits while another runs."""

    async def wait_readable(self, fd: int) -> None:
        self._wait(fd)

    def Lock(self) -> _Lock:
        return _Lock()

    def open_nursery(self) -> _Nursery:
        return _Nursery()


class _Task:
    name = "main"


class _Lock:
    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        return None


class _Nursery:
    """Runs what was started, one after the other, when its block is left."""

    def __init__(self) -> None:
        self._started: list[tuple[Any, tuple[Any, ...]]] = []

    async def __aenter__(self) -> _Nursery:
        return self

    def start_soon(self, function: Any, *args: Any, name: str = "") -> None:
        self._started.append((function, args))

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for function, args in self._started:
                await function(*args)
