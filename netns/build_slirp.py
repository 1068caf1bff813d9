"""Build netns._slirp: the poll loop in slirp_loop.c and frame_filter.c against the machine's libslirp (4.7 or newer).

Source: cffi API mode; libslirp.h (SlirpConfig version 4)
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent


def pkg_config(flag: str) -> list[str]:
    """Return what pkg-config says of slirp, nothing where it is not installed."""
    tool = shutil.which("pkg-config")
    if tool is None:
        return []
    done = subprocess.run([tool, flag, "slirp"], capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []


include_dirs = [word[2:] for word in pkg_config("--cflags-only-I") if word.startswith("-I")]
library_dirs = [word[2:] for word in pkg_config("--libs-only-L") if word.startswith("-L")]

ffibuilder = FFI()
ffibuilder.cdef((HERE / "decl" / "slirp.h").read_text())
ffibuilder.set_source(
    "netns._slirp",
    '#include "slirp_loop.h"',
    sources=[str(HERE / "slirp_loop.c"), str(HERE / "frame_filter.c"), str(HERE / "seccomp.c")],
    include_dirs=[*dict.fromkeys([str(HERE), *include_dirs, "/usr/include/slirp"])],
    library_dirs=library_dirs,
    libraries=["slirp"],
    extra_compile_args=["-O2", "-fvisibility=hidden"],
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=str(HERE.parent), verbose=False)
