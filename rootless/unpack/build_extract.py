"""Build rootless.unpack._extract: the creation of small files in one call (unpack/extract.c).

A file from Python costs about as much again as its system calls (docs/decisions has the measurement), and the
interpreter's lock is held between them.
"""

from __future__ import annotations

import os

from cffi import FFI

HERE = os.path.dirname(os.path.abspath(__file__))

ffibuilder = FFI()
ffibuilder.cdef("""
int rl_put_file(int dfd, const char *name, unsigned mode, unsigned uid, unsigned gid, int64_t sec, int64_t nsec,
                const char *data, size_t size, int *step);
void rl_write_behind(int fd, int64_t offset, int64_t length);
""")
with open(os.path.join(HERE, "extract.c"), encoding="utf-8") as source:
    ffibuilder.set_source(
        "rootless.unpack._extract",
        "#ifndef _GNU_SOURCE\n#define _GNU_SOURCE\n#endif\n" + source.read(),
        extra_compile_args=["-O2"],
    )

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
