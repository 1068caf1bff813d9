/*
 * Operations on what the process may do: limits, ids, capabilities, seccomp, settings that are files of /proc, and
 * the search for its program.
 */
#include "stage.h"

#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>

static int drop_bounding(uint64_t keep)
{
	for (int cap = 0; cap < 64; cap++) {
		int held = prctl(PR_CAPBSET_READ, cap);
		if (held < 0) return 0; /* past the last one of this kernel */
		if (held && !(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap) < 0) return -errno;
	}
	return 0;
}

static int set_caps(const struct op *op)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = {
		{ (uint32_t)op->a, (uint32_t)op->b, (uint32_t)op->c },
		{ (uint32_t)(op->a >> 32), (uint32_t)(op->b >> 32), (uint32_t)(op->c >> 32) },
	};

	if (syscall(SYS_capset, &h, d) < 0) return -errno;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (int cap = 0; cap < 64; cap++)
		if (op->d >> cap & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0) return -errno;
	return 0;
}

static int set_user(const struct op *op)
{
	/* Keep the capabilities over the change of uid: the plan sets them right afterwards. */
	if (prctl(PR_SET_KEEPCAPS, 1) < 0) return -errno;
	if (syscall(SYS_setresgid, op->b, op->b, op->b) < 0) return -errno;
	if (syscall(SYS_setresuid, op->a, op->a, op->a) < 0) return -errno;
	return prctl(PR_SET_KEEPCAPS, 0) < 0 ? -errno : 0;
}

static int set_groups(const struct op *op)
{
	gid_t groups[4096];
	size_t n = op->len[0] / sizeof groups[0];

	if (n > sizeof groups / sizeof groups[0]) return -EINVAL;
	memcpy(groups, arg(op, 0), n * sizeof groups[0]);
	return syscall(SYS_setgroups, n, groups) < 0 ? -errno : 0;
}

static int set_seccomp(const struct op *op)
{
	struct sock_fprog program = { (unsigned short)(op->len[0] / sizeof(struct sock_filter)), NULL };
	static struct sock_filter aligned[BPF_MAXINSNS];
	unsigned flags = (unsigned)op->a;

	if (op->len[0] > sizeof aligned) return -EINVAL;
	memcpy(aligned, arg(op, 0), op->len[0]);
	program.filter = aligned;
	if (op->flags & OPF_LISTENER) flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
	long r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
	if (r < 0) return -errno;
	if (op->flags & OPF_LISTENER) {
		int sent = send_message(MSG_SECCOMP_FD, 0, 0, (int)r);
		if (sent < 0) return sent;
		close((int)r);
		return wait_message(MSG_ACK, NULL);
	}
	return 0;
}

/* May we execute *path*? 0, or the errno that execve would give, as far as it can be known before. */
static int executable(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0) return -errno;
	if (S_ISDIR(st.st_mode)) return -EISDIR;
	if (!S_ISREG(st.st_mode) || !(st.st_mode & 0111)) return -EACCES;
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

/* execvp's search, in the environment of the container and not in ours. */
static int look_up(struct stage *st, const struct op *op)
{
	static char found[4096];
	const char *name = arg(op, 0), *path = NULL, *env = arg(op, 1), *end = env + op->len[1];
	int result = -ENOENT, r;

	if (!*name) return -ENOENT;
	if (strchr(name, '/')) {
		st->program = name;
		return executable(name);
	}
	for (; env < end; env += strlen(env) + 1)
		if (!strncmp(env, "PATH=", 5)) path = env + 5;
	if (!path) path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	for (;;) {
		const char *colon = strchrnul(path, ':');
		int n = (int)(colon - path);
		if (snprintf(found, sizeof found, "%.*s%s%s", n, path, n ? "/" : "./", name) < (int)sizeof found) {
			if ((r = executable(found)) == 0) {
				st->program = found;
				return 0;
			}
			if (r == -EACCES) result = r; /* as execvp: a better one may follow */
		}
		if (!*colon) return result;
		path = colon + 1;
	}
}

static int set_oom(const struct op *op)
{
	char text[16];
	int n = snprintf(text, sizeof text, "%d", (int)(int64_t)op->a);
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC), r = 0;

	if (fd < 0) return -errno;
	if (write(fd, text, (size_t)n) != n) r = -errno;
	close(fd);
	return r;
}

/*
 * Open a file of the container's /proc. What is written there decides over privileges, so it must be the file that
 * its name says: in the root of a procfs, with nothing mounted over it (CVE-2019-16884, CVE-2025-52881).
 */
static int open_in_proc(int root, const char *path)
{
	struct open_how how = {
		.flags = O_WRONLY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS,
	};
	struct statfs fs;
	struct stat st;
	int proc = open_in_root(root, "/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	long fd = -EPERM;

	if (proc < 0) return proc;
	if (fstatfs(proc, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC && fstat(proc, &st) == 0 && st.st_ino == 1) {
		fd = syscall(SYS_openat2, proc, path, &how, sizeof how);
		if (fd < 0) fd = errno == EXDEV ? -EPERM : -errno;
	}
	close(proc);
	return (int)fd;
}

static int write_file(struct stage *st, const struct op *op)
{
	const char *path = arg(op, 0);
	int fd, r = 0;

	if (st->root < 0 && (st->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0) return -errno;
	fd = strncmp(path, "/proc/", 6) ? open_in_root(st->root, path, O_WRONLY, 0) : open_in_proc(st->root, path + 6);
	if (fd < 0) return fd;
	if (write(fd, arg(op, 1), op->len[1]) != (ssize_t)op->len[1]) r = errno ? -errno : -EIO;
	close(fd);
	return r;
}

static int change_directory(const char *path)
{
	char here[4096];

	if (chdir(path) < 0) return -errno;
	/* A directory outside our root (a leaked descriptor as WorkingDir, CVE-2024-21626) has no name here. */
	long n = syscall(SYS_getcwd, here, sizeof here);
	if (n < 0) return -errno;
	return here[0] == '/' ? 0 : -ENOENT;
}

int op_creds(struct stage *st, const struct op *op)
{
	switch (op->kind) {
	case OP_SETID:
		if (syscall(SYS_setresgid, op->b, op->b, op->b) < 0) return -errno;
		return syscall(SYS_setresuid, op->a, op->a, op->a) < 0 ? -errno : 0;
	case OP_SETSID:
		return setsid() < 0 && errno != EPERM ? -errno : 0;
	case OP_RLIMIT: {
		struct rlimit limit = { op->b, op->c };
		return setrlimit((int)op->a, &limit) < 0 ? -errno : 0;
	}
	case OP_WRITE:
		return write_file(st, op);
	case OP_OOM:
		return set_oom(op);
	case OP_KEYRING:
		return syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, arg(op, 0), 0, 0, 0) < 0 ? -errno : 0;
	case OP_PERSONALITY:
		return personality(op->a) < 0 ? -errno : 0;
	case OP_IOPRIO:
		return syscall(SYS_ioprio_set, 1, 0, (int)op->a) < 0 ? -errno : 0;
	case OP_SCHED:
		return syscall(SYS_sched_setattr, 0, arg(op, 0), 0) < 0 ? -errno : 0;
	case OP_MEMPOLICY:
		return syscall(SYS_set_mempolicy, (int)op->a, op->b ? arg(op, 0) : NULL, op->b) < 0 ? -errno : 0;
	case OP_UMASK:
		umask((mode_t)op->a);
		return 0;
	case OP_BOUNDING:
		return drop_bounding(op->a);
	case OP_GROUPS:
		return set_groups(op);
	case OP_USER:
		return set_user(op);
	case OP_CAPS:
		return set_caps(op);
	case OP_NNP:
		return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
	case OP_SECCOMP:
		return set_seccomp(op);
	case OP_CWD:
		return change_directory(arg(op, 0));
	case OP_LOOKUP:
		return look_up(st, op);
	}
	return NOT_MINE;
}
