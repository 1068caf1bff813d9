"""Build rootless.kernel._sys: thin system call wrappers and constants from the kernel's headers.

Every wrapper is named rl_<syscall>, keeps the kernel's argument order and returns -errno on failure
(so no thread can disturb errno between the call and its look-up). Headers older than the kernel are
completed by `#ifndef` defaults; nothing else is copied from them.

Source: cffi API mode; linux/mount.h, linux/openat2.h, linux/sched.h, linux/seccomp.h
"""

from __future__ import annotations

from cffi import FFI

FUNCTIONS = """
int rl_openat2(int dfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve);
int rl_mount(const char *source, const char *target, const char *fstype, unsigned long flags, const char *data);
int rl_umount2(const char *target, int flags);
int rl_pivot_root(const char *new_root, const char *put_old);
int rl_fsopen(const char *fstype, unsigned flags);
int rl_fsconfig(int fd, unsigned cmd, const char *key, const char *value, int aux);
int rl_fsmount(int fd, unsigned flags, unsigned attrs);
int rl_open_tree(int dfd, const char *path, unsigned flags);
int rl_move_mount(int from_dfd, const char *from_path, int to_dfd, const char *to_path, unsigned flags);
int rl_mount_setattr(int dfd, const char *path, unsigned flags, uint64_t set, uint64_t clr, uint64_t propagation,
                     int userns_fd);
int rl_unshare(int flags);
int rl_clone3_empty(size_t size_bytes);
int rl_setns(int fd, int flags);
int rl_prctl(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d);
int rl_pidfd_open(int pid, unsigned flags);
int rl_pidfd_send_signal(int pidfd, int sig);
int rl_pidfd_getfd(int pidfd, int fd);
int rl_close_range(unsigned first, unsigned last, unsigned flags);
int rl_capget(uint64_t *effective, uint64_t *permitted, uint64_t *inheritable);
int rl_capset(uint64_t effective, uint64_t permitted, uint64_t inheritable);
int rl_seccomp_filter(const char *program, size_t size_bytes, unsigned flags);
int rl_renameat2(int from_dfd, const char *from, int to_dfd, const char *to, unsigned flags);
int rl_ficlone(int dst, int src);
int rl_fchownat(int dfd, const char *path, unsigned uid, unsigned gid, int flags);
int rl_fchmodat2(int dfd, const char *path, unsigned mode, int flags);
int rl_linkat(int from_dfd, const char *from, int to_dfd, const char *to, int flags);
int rl_statx_mnt_id(int dfd, const char *path, int flags, uint64_t *id);
int rl_syncfs(int fd);
int rl_fallocate(int fd, int mode, int64_t offset, int64_t length);
int rl_ioctl_ns_get_userns(int fd);
int rl_ioctl_int(int fd, unsigned long request, int value);
"""

CONSTANTS = """
RESOLVE_BENEATH RESOLVE_IN_ROOT RESOLVE_NO_MAGICLINKS RESOLVE_NO_SYMLINKS RESOLVE_NO_XDEV
CLONE_NEWUSER CLONE_NEWNS CLONE_NEWPID CLONE_NEWNET CLONE_NEWIPC CLONE_NEWUTS CLONE_NEWCGROUP CLONE_NEWTIME
MS_RDONLY MS_NOSUID MS_NODEV MS_NOEXEC MS_SYNCHRONOUS MS_REMOUNT MS_MANDLOCK MS_DIRSYNC MS_NOATIME MS_NODIRATIME
MS_BIND MS_MOVE MS_REC MS_SILENT MS_UNBINDABLE MS_PRIVATE MS_SLAVE MS_SHARED MS_RELATIME MS_STRICTATIME MS_LAZYTIME
MS_NOSYMFOLLOW MS_I_VERSION
MNT_DETACH UMOUNT_NOFOLLOW
FSCONFIG_SET_FLAG FSCONFIG_SET_STRING FSCONFIG_SET_BINARY FSCONFIG_SET_PATH FSCONFIG_SET_FD FSCONFIG_CMD_CREATE
FSCONFIG_CMD_RECONFIGURE FSOPEN_CLOEXEC FSMOUNT_CLOEXEC
MOUNT_ATTR_RDONLY MOUNT_ATTR_NOSUID MOUNT_ATTR_NODEV MOUNT_ATTR_NOEXEC MOUNT_ATTR__ATIME MOUNT_ATTR_RELATIME
MOUNT_ATTR_NOATIME MOUNT_ATTR_STRICTATIME MOUNT_ATTR_NODIRATIME MOUNT_ATTR_IDMAP MOUNT_ATTR_NOSYMFOLLOW
OPEN_TREE_CLONE OPEN_TREE_CLOEXEC MOVE_MOUNT_F_EMPTY_PATH MOVE_MOUNT_T_EMPTY_PATH MOVE_MOUNT_F_SYMLINKS
MOVE_MOUNT_T_SYMLINKS
AT_FDCWD AT_EMPTY_PATH AT_SYMLINK_NOFOLLOW AT_RECURSIVE AT_NO_AUTOMOUNT AT_SYMLINK_FOLLOW
PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_SET_DUMPABLE PR_GET_DUMPABLE PR_SET_NAME PR_SET_NO_NEW_PRIVS
PR_GET_NO_NEW_PRIVS PR_SET_CHILD_SUBREAPER PR_GET_CHILD_SUBREAPER PR_CAPBSET_READ PR_CAPBSET_DROP PR_CAP_AMBIENT
PR_CAP_AMBIENT_CLEAR_ALL PR_CAP_AMBIENT_RAISE PR_SET_KEEPCAPS PR_SET_SECCOMP PR_GET_SECCOMP PR_SET_MM PR_SET_PTRACER
MFD_CLOEXEC MFD_ALLOW_SEALING MFD_EXEC MFD_NOEXEC_SEAL
F_ADD_SEALS F_GET_SEALS F_SEAL_SEAL F_SEAL_SHRINK F_SEAL_GROW F_SEAL_WRITE F_OFD_SETLK F_OFD_GETLK
RENAME_NOREPLACE RENAME_EXCHANGE RENAME_WHITEOUT
CLOSE_RANGE_CLOEXEC
FALLOC_FL_KEEP_SIZE FALLOC_FL_PUNCH_HOLE
SECCOMP_FILTER_FLAG_TSYNC SECCOMP_FILTER_FLAG_LOG SECCOMP_FILTER_FLAG_SPEC_ALLOW SECCOMP_FILTER_FLAG_NEW_LISTENER
TUNSETIFF TUNSETOFFLOAD TUNSETVNETHDRSZ IFF_TAP IFF_NO_PI IFF_VNET_HDR
SYS_clone3
OVERLAYFS_SUPER_MAGIC TMPFS_MAGIC NFS_SUPER_MAGIC FUSE_SUPER_MAGIC PROC_SUPER_MAGIC CGROUP2_SUPER_MAGIC
""".split()

SOURCE = r"""
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/falloc.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/nsfs.h>
#include <linux/openat2.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/stat.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif
#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif
#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif
#ifndef UMOUNT_NOFOLLOW
#define UMOUNT_NOFOLLOW 8
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef NFS_SUPER_MAGIC
#define NFS_SUPER_MAGIC 0x6969
#endif
#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

#define RET(call) do { long r_ = (call); return r_ < 0 ? -errno : (int)r_; } while (0)

static int rl_openat2(int dfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	struct open_how how = { .flags = flags, .mode = mode, .resolve = resolve };
	long r;
	/* EAGAIN: a rename or mount raced with a scoped look-up; openat2(2) asks to try again. */
	for (int i = 0; i < 64; i++) {
		r = syscall(SYS_openat2, dfd, path, &how, sizeof how);
		if (r >= 0 || (errno != EAGAIN && errno != EINTR)) break;
	}
	return r < 0 ? -errno : (int)r;
}
static int rl_mount(const char *s, const char *t, const char *f, unsigned long flags, const char *data)
{ RET(syscall(SYS_mount, s, t, f, flags, data)); }
static int rl_umount2(const char *t, int flags) { RET(syscall(SYS_umount2, t, flags)); }
static int rl_pivot_root(const char *n, const char *o) { RET(syscall(SYS_pivot_root, n, o)); }
static int rl_fsopen(const char *f, unsigned flags) { RET(syscall(SYS_fsopen, f, flags)); }
static int rl_fsconfig(int fd, unsigned cmd, const char *k, const char *v, int aux)
{ RET(syscall(SYS_fsconfig, fd, cmd, k, v, aux)); }
static int rl_fsmount(int fd, unsigned flags, unsigned attrs) { RET(syscall(SYS_fsmount, fd, flags, attrs)); }
static int rl_open_tree(int dfd, const char *p, unsigned flags) { RET(syscall(SYS_open_tree, dfd, p, flags)); }
static int rl_move_mount(int fd, const char *fp, int td, const char *tp, unsigned flags)
{ RET(syscall(SYS_move_mount, fd, fp, td, tp, flags)); }
static int rl_mount_setattr(int dfd, const char *p, unsigned flags, uint64_t set, uint64_t clr, uint64_t propagation,
			    int userns_fd)
{
	struct { uint64_t set, clr, propagation, userns_fd; } attr = { set, clr, propagation, (uint64_t)userns_fd };
	RET(syscall(SYS_mount_setattr, dfd, p, flags, &attr, sizeof attr));
}
/* -EINVAL where the call exists: an empty request is invalid. */
static int rl_clone3_empty(size_t size) { RET(syscall(SYS_clone3, NULL, size)); }
static int rl_unshare(int flags) { RET(syscall(SYS_unshare, flags)); }
static int rl_setns(int fd, int flags) { RET(syscall(SYS_setns, fd, flags)); }
static int rl_prctl(int o, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{ RET(syscall(SYS_prctl, o, a, b, c, d)); }
static int rl_pidfd_open(int pid, unsigned flags) { RET(syscall(SYS_pidfd_open, pid, flags)); }
static int rl_pidfd_send_signal(int fd, int sig) { RET(syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0)); }
static int rl_pidfd_getfd(int pidfd, int fd) { RET(syscall(SYS_pidfd_getfd, pidfd, fd, 0)); }
static int rl_close_range(unsigned a, unsigned b, unsigned flags) { RET(syscall(SYS_close_range, a, b, flags)); }
static int rl_capget(uint64_t *e, uint64_t *p, uint64_t *i)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2];
	if (syscall(SYS_capget, &h, d) < 0) return -errno;
	*e = d[0].effective | (uint64_t)d[1].effective << 32;
	*p = d[0].permitted | (uint64_t)d[1].permitted << 32;
	*i = d[0].inheritable | (uint64_t)d[1].inheritable << 32;
	return 0;
}
static int rl_capset(uint64_t e, uint64_t p, uint64_t i)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = {
		{ (uint32_t)e, (uint32_t)p, (uint32_t)i },
		{ (uint32_t)(e >> 32), (uint32_t)(p >> 32), (uint32_t)(i >> 32) },
	};
	RET(syscall(SYS_capset, &h, d));
}
static int rl_seccomp_filter(const char *program, size_t size, unsigned flags)
{
	struct sock_fprog fp = { (unsigned short)(size / sizeof(struct sock_filter)), (struct sock_filter *)program };
	RET(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &fp));
}
static int rl_renameat2(int fd, const char *f, int td, const char *t, unsigned flags)
{ RET(syscall(SYS_renameat2, fd, f, td, t, flags)); }
static int rl_ficlone(int dst, int src) { RET(ioctl(dst, FICLONE, src)); }
static int rl_fchownat(int dfd, const char *p, unsigned u, unsigned g, int flags)
{ RET(syscall(SYS_fchownat, dfd, p, u, g, flags)); }
static int rl_fchmodat2(int dfd, const char *p, unsigned mode, int flags)
{ RET(syscall(SYS_fchmodat2, dfd, p, mode, flags)); }
static int rl_linkat(int fd, const char *f, int td, const char *t, int flags)
{ RET(syscall(SYS_linkat, fd, f, td, t, flags)); }
static int rl_statx_mnt_id(int dfd, const char *p, int flags, uint64_t *id)
{
	struct statx st;
	if (syscall(SYS_statx, dfd, p, flags, STATX_MNT_ID, &st) < 0) return -errno;
	*id = st.stx_mnt_id;
	return (st.stx_mask & STATX_MNT_ID) ? 0 : -EOPNOTSUPP;
}
static int rl_syncfs(int fd) { RET(syncfs(fd)); }
static int rl_fallocate(int fd, int mode, int64_t o, int64_t l) { RET(fallocate(fd, mode, o, l)); }
static int rl_ioctl_ns_get_userns(int fd) { RET(ioctl(fd, NS_GET_USERNS)); }
static int rl_ioctl_int(int fd, unsigned long request, int value) { RET(ioctl(fd, request, value)); }
"""

ffibuilder = FFI()
ffibuilder.cdef(FUNCTIONS.replace("\n                     ", " ") + "".join(f"#define {c} ...\n" for c in CONSTANTS))
ffibuilder.set_source("rootless.kernel._sys", SOURCE)


def stub() -> str:
    """Return the text of _sys.pyi, so that type checkers know every wrapper and constant."""
    lines = [
        "# Generated by build_sys.py --stub; do not edit.",
        "from typing import Any, Final",
        "",
        "ffi: Any",
        "",
        "class _Lib:",
    ]
    for declaration in " ".join(FUNCTIONS.split()).rstrip(";").split("; "):
        head, _, rest = declaration.partition("(")
        name = head.split()[-1]
        arguments = ["self"]
        for argument in rest.rstrip(")").split(","):
            words = argument.replace("*", " * ").split()
            kind = "bytes | Any" if "char" in words else "Any" if "*" in words else "int"
            arguments.append(f"{words[-1]}_: {kind}")
        lines += [f"    def {name}(", *[f"        {a}," for a in arguments], "        /,", "    ) -> int: ..."]
    lines += [f"    {c}: Final[int]" for c in CONSTANTS]
    return "\n".join([*lines, "", "lib: Final[_Lib]", ""])


if __name__ == "__main__":
    import sys

    if sys.argv[1:] == ["--stub"]:
        print(stub(), end="")
    else:
        ffibuilder.compile(verbose=True)
