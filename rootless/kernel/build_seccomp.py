"""Build rootless.kernel._seccomp: the few functions of libseccomp that compile a filter.

The library is opened with dlopen(3) when a filter has to be compiled, so neither its header nor the
library is needed to build or to start: a machine without it runs containers with the default profile,
whose programs ship as data. The prototypes are those of the library's stable ABI (libseccomp.so.2).

Source: seccomp_init(3), seccomp_arch_add(3), seccomp_attr_set(3), seccomp_rule_add(3), seccomp_export_bpf(3)
"""

from __future__ import annotations

from cffi import FFI

ffibuilder = FFI()
ffibuilder.cdef("""
struct rl_scmp_arg { unsigned int arg; int op; uint64_t a; uint64_t b; };
int rl_scmp_open(void);
unsigned rl_scmp_version(void);
void *rl_scmp_init(uint32_t default_action);
void rl_scmp_release(void *ctx);
int rl_scmp_attr_set(void *ctx, int attr, uint32_t value);
int rl_scmp_arch_add(void *ctx, uint32_t arch);
int rl_scmp_arch_remove(void *ctx, uint32_t arch);
int rl_scmp_resolve(const char *name);
int rl_scmp_resolve_arch(uint32_t arch, const char *name);
int rl_scmp_rule_add(void *ctx, uint32_t action, int number, unsigned count, const struct rl_scmp_arg *args);
int rl_scmp_export(void *ctx, int fd);
""")
ffibuilder.set_source(
    "rootless.kernel._seccomp",
    r"""
#include <dlfcn.h>
#include <stdint.h>

struct rl_scmp_arg { unsigned int arg; int op; uint64_t a; uint64_t b; };
struct rl_scmp_version { unsigned major, minor, micro; };

static struct {
    const struct rl_scmp_version *(*version)(void);
    void *(*init)(uint32_t);
    void (*release)(void *);
    int (*attr_set)(void *, int, uint32_t);
    int (*arch_add)(void *, uint32_t);
    int (*arch_remove)(void *, uint32_t);
    int (*resolve)(const char *);
    int (*resolve_arch)(uint32_t, const char *);
    int (*rule_add)(void *, uint32_t, int, unsigned, const struct rl_scmp_arg *);
    int (*export_bpf)(const void *, int);
} scmp;
static void *library;

/* 0: ready; -1: no such library; -2: too old (a symbol is missing). */
static int rl_scmp_open(void)
{
    if (library)
        return 0;
    void *lib = dlopen("libseccomp.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        return -1;
    static const struct { const char *name; void *slot; } symbols[] = {
        {"seccomp_version", &scmp.version}, {"seccomp_init", &scmp.init}, {"seccomp_release", &scmp.release},
        {"seccomp_attr_set", &scmp.attr_set}, {"seccomp_arch_add", &scmp.arch_add},
        {"seccomp_arch_remove", &scmp.arch_remove}, {"seccomp_syscall_resolve_name", &scmp.resolve},
        {"seccomp_syscall_resolve_name_arch", &scmp.resolve_arch},
        {"seccomp_rule_add_array", &scmp.rule_add}, {"seccomp_export_bpf", &scmp.export_bpf},
    };
    for (unsigned i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
        void *found = dlsym(lib, symbols[i].name);
        if (!found) {
            dlclose(lib);
            return -2;
        }
        *(void **)symbols[i].slot = found;
    }
    library = lib;
    return 0;
}

static unsigned rl_scmp_version(void)
{
    const struct rl_scmp_version *v = scmp.version();
    return v->major << 16 | v->minor << 8 | v->micro;
}
static void *rl_scmp_init(uint32_t action) { return scmp.init(action); }
static void rl_scmp_release(void *ctx) { scmp.release(ctx); }
static int rl_scmp_attr_set(void *ctx, int attr, uint32_t value) { return scmp.attr_set(ctx, attr, value); }
static int rl_scmp_arch_add(void *ctx, uint32_t arch) { return scmp.arch_add(ctx, arch); }
static int rl_scmp_arch_remove(void *ctx, uint32_t arch) { return scmp.arch_remove(ctx, arch); }
static int rl_scmp_resolve(const char *name) { return scmp.resolve(name); }
static int rl_scmp_resolve_arch(uint32_t arch, const char *name) { return scmp.resolve_arch(arch, name); }
static int rl_scmp_rule_add(void *ctx, uint32_t action, int nr, unsigned n, const struct rl_scmp_arg *args)
{
    return scmp.rule_add(ctx, action, nr, n, args);
}
static int rl_scmp_export(void *ctx, int fd) { return scmp.export_bpf(ctx, fd); }
""",
    libraries=["dl"],
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
