"""Build rootless.unpack._extract: the creation of many small files in one call (unpack/extract.c).

A second thread makes files while the first decodes headers; with a call for each file they would spend their time
handing the interpreter's lock to each other (docs/decisions/0011 has the measurement).
"""

from __future__ import annotations

import os

from cffi import FFI

HERE = os.path.dirname(os.path.abspath(__file__))

ffibuilder = FFI()
STRUCT = """
struct rl_small_file {
    int dfd;
    const char *name;
    unsigned mode, uid, gid;
    int64_t sec, nsec;
    const char *data;
    size_t size;
};
"""
ffibuilder.cdef(
    STRUCT
    + """
int rl_put_files(const struct rl_small_file *files, size_t count, size_t *done, int *step);
void rl_write_behind(int fd, int64_t offset, int64_t length);
"""
)
with open(os.path.join(HERE, "extract.c"), encoding="utf-8") as source:
    ffibuilder.set_source(
        "rootless.unpack._extract",
        "#ifndef _GNU_SOURCE\n#define _GNU_SOURCE\n#endif\n#include <stddef.h>\n#include <stdint.h>\n"
        + STRUCT
        + source.read(),
        extra_compile_args=["-O2"],
    )

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
