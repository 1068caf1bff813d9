/*
 * Operations on mounts and on files of the new root. Every path in the root is resolved by openat2(2) with
 * RESOLVE_IN_ROOT, so that no link of an image, nor one put there while we work, leads to the host.
 */
#include "stage.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <linux/magic.h>
#include <linux/openat2.h>

#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 0x00000004
#endif
#ifndef MOVE_MOUNT_T_EMPTY_PATH
#define MOVE_MOUNT_T_EMPTY_PATH 0x00000040
#endif
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef OPEN_TREE_CLOEXEC
#define OPEN_TREE_CLOEXEC O_CLOEXEC
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef MOUNT_ATTR_RDONLY
#define MOUNT_ATTR_RDONLY 1
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

int open_in_root(int root, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	/* EAGAIN: a rename or mount raced with the look-up (openat2(2)). */
	for (int i = 0; i < 64; i++)
		if ((fd = syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof how)) >= 0 || errno != EAGAIN)
			break;
	return fd < 0 ? -errno : (int)fd;
}

enum { MAX_LINKS = 16 };

/*
 * *name* in *dir* is a link to nowhere: put into *out* the path that a look-up of *path* would want to exist,
 * *upto* being the length of the prefix that ends in the link. What is made is then made where the link
 * leads, inside the root, as open(2) with O_CREAT does it.
 */
static int through_link(int dir, const char *name, const char *path, size_t upto, char *out, size_t size)
{
	char link[4096];
	ssize_t n = readlinkat(dir, name, link, sizeof link - 1);
	size_t cut = upto;

	if (n < 0) return errno == EINVAL ? -EEXIST : -errno;
	link[n] = 0;
	while (cut > 0 && path[cut - 1] == '/') cut--;
	while (cut > 0 && path[cut - 1] != '/') cut--;
	if (link[0] == '/') cut = 0;
	n = snprintf(out, size, "%.*s%s%s", (int)cut, path, link, path + upto);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* Open the directory *path* in the root as O_PATH, making what is missing. */
static int make_dirs_deep(int root, const char *path, mode_t mode, int depth)
{
	char done[4096];
	size_t n = strlen(path);
	int here, next;

	if ((here = open_in_root(root, path, O_PATH | O_DIRECTORY, 0)) != -ENOENT) return here;
	if (n >= sizeof done) return -ENAMETOOLONG;
	if (depth >= MAX_LINKS) return -ELOOP;
	if ((here = open_in_root(root, "/", O_PATH | O_DIRECTORY, 0)) < 0) return here;
	for (size_t i = 0; i <= n; i++) {
		/* Each prefix is looked up from the root: links and `..` in what exists keep their meaning. */
		if ((path[i] != '/' && path[i] != 0) || i == 0 || path[i - 1] == '/') continue;
		memcpy(done, path, i);
		done[i] = 0;
		if ((next = open_in_root(root, done, O_PATH | O_DIRECTORY, 0)) == -ENOENT) {
			const char *name = strrchr(done, '/');
			name = name ? name + 1 : done;
			int made = mkdirat(here, name, mode) < 0 ? -errno : 0;
			if (made == -EEXIST && (made = through_link(here, name, path, i, done, sizeof done)) == 0) {
				close(here);
				return make_dirs_deep(root, done, mode, depth + 1);
			}
			if (made < 0) {
				close(here);
				return made;
			}
			next = open_in_root(root, done, O_PATH | O_DIRECTORY, 0);
		}
		close(here);
		if ((here = next) < 0) return here;
	}
	return here;
}

static int make_dirs(int root, const char *path, mode_t mode)
{
	return make_dirs_deep(root, path, mode, 0);
}

/* Open what stands at *path* in the root; make a directory or an empty file where nothing stands. */
static int make_target_deep(int root, const char *path, int directory, int nofollow, int depth)
{
	char parent[4096];
	int fd = open_in_root(root, path, O_PATH | (nofollow ? O_NOFOLLOW : 0), 0), dir;

	if (fd != -ENOENT) return fd;
	if (directory) return make_dirs(root, path, 0755);
	if (depth >= MAX_LINKS) return -ELOOP;
	size_t n = strlen(path);
	while (n > 1 && path[n - 1] == '/') n--;
	const char *name = memrchr(path, '/', n);
	size_t cut = name ? (size_t)(name - path) : 0;
	name = name ? name + 1 : path;
	if (cut >= sizeof parent || strlen(name) > 255) return -ENAMETOOLONG;
	memcpy(parent, path, cut);
	parent[cut] = 0;
	if ((dir = make_dirs(root, cut ? parent : "/", 0755)) < 0) return dir;
	fd = openat(dir, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0) {
		fd = -errno;
		if (fd == -EEXIST && (fd = through_link(dir, name, path, n, parent, sizeof parent)) == 0)
			fd = make_target_deep(root, parent, directory, nofollow, depth + 1);
		close(dir);
		return fd;
	}
	close(fd);
	fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) fd = -errno;
	close(dir);
	return fd;
}

static int make_target(int root, const char *path, int directory)
{
	return make_target_deep(root, path, directory, 0, 0);
}

static int set_attrs(int fd, uint64_t set, uint64_t clr, uint64_t propagation, unsigned flags)
{
	struct { uint64_t set, clr, propagation, userns; } attr = { set, clr, propagation, 0 };

	if (!set && !clr && !propagation) return 0;
	return syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | flags, &attr, sizeof attr) < 0 ? -errno : 0;
}

static int attach(int tree, int target)
{
	return syscall(SYS_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0 ? -errno : 0;
}

static int is_directory(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

static int is_link(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISLNK(st.st_mode);
}

/* Is this below the root of a procfs? What is mounted there would lie to whoever trusts /proc (CVE-2019-16884). */
static int in_proc(int fd)
{
	struct statfs fs;
	struct stat st;
	return fstatfs(fd, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC && fstat(fd, &st) == 0 && st.st_ino != 1;
}

/* Attach the detached mount *tree* at *path*, which is made if missing; tree is closed. */
static int attach_at(struct stage *st, int tree, const char *path, uint32_t flags)
{
	int nofollow = (flags & (OPF_TARGET_NOFOLLOW | OPF_ORDINARY)) != 0;
	int target = make_target_deep(st->root, path, is_directory(tree), nofollow, 0), r = target;

	if (target >= 0) {
		if (flags & OPF_ORDINARY && is_link(target)) r = -ELOOP;
		else r = in_proc(target) && !(flags & OPF_IN_PROC) ? -EPERM : attach(tree, target);
		close(target);
	}
	close(tree);
	return r;
}

static int clone_tree_flags(int dfd, const char *path, int recursive, unsigned more)
{
	unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (*path ? 0 : AT_EMPTY_PATH) | more;
	long fd = syscall(SYS_open_tree, dfd, path, flags | (recursive ? AT_RECURSIVE : 0));

	/* A tree with mounts that an outer namespace locked can only be copied whole. */
	if (fd < 0 && errno == EINVAL && !recursive) fd = syscall(SYS_open_tree, dfd, path, flags | AT_RECURSIVE);
	return fd < 0 ? -errno : (int)fd;
}

static int clone_tree(int dfd, const char *path, int recursive)
{
	return clone_tree_flags(dfd, path, recursive, 0);
}

/*
 * Attach the root over "/": it needs no directory of the host, whose parents may not be ours to search in a
 * nested user namespace. Absolute paths still mean the host: a look-up begins at the root that the process
 * has, below what was mounted on top of it. Nothing leads into the new root but this descriptor, until
 * pivot_root(2).
 */
static int set_root(struct stage *st, const struct op *op)
{
	int tree = op->fd, target, r;

	if (tree < 0 && (tree = clone_tree(AT_FDCWD, arg(op, 0), 1)) < 0) return tree;
	if ((r = set_attrs(tree, op->a, 0, op->b, AT_RECURSIVE)) < 0) return r;
	target = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (target < 0) return -errno;
	if ((r = attach(tree, target)) < 0) return r;
	close(target);
	st->root = tree;
	return 0;
}

static int open_parent(struct stage *st, const char *path, const char **name);

/* Make the link *from* of the host again at *path*; -EINVAL if it is no link. */
static int copy_link(struct stage *st, const char *from, const char *path)
{
	char text[4096], there[4096];
	const char *name;
	ssize_t n = readlink(from, text, sizeof text - 1), m;
	int dir, r = 0;

	if (n < 0) return -errno;
	text[n] = 0;
	if ((dir = open_parent(st, path, &name)) < 0) return dir;
	if (symlinkat(text, dir, name) < 0) {
		r = -errno;
		if (r == -EEXIST && (m = readlinkat(dir, name, there, sizeof there)) == n && !memcmp(text, there, (size_t)n)) r = 0;
	}
	close(dir);
	return r;
}

static int bind_tree(struct stage *st, const struct op *op)
{
	unsigned rec = op->flags & OPF_RECURSIVE ? AT_RECURSIVE : 0;
	int tree, r;

	if (op->flags & OPF_COPY_LINK && (r = copy_link(st, arg(op, 0), arg(op, 1))) != -EINVAL) return r;
	if (op->fd >= 0) {
		tree = clone_tree(op->fd, "", rec != 0);
	} else if (op->flags & OPF_SOURCE_IN_ROOT) {
		if ((r = open_in_root(st->root, arg(op, 0), O_PATH, 0)) < 0) return r;
		tree = clone_tree(r, "", rec != 0);
		close(r);
	} else
		tree = clone_tree_flags(AT_FDCWD, arg(op, 0), rec != 0, op->flags & OPF_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0);
	if (tree < 0) return tree;
	/* Only a bind that asked for it (rro and friends) changes the mounts below. */
	if ((r = set_attrs(tree, op->a, op->b, op->c, op->d ? AT_RECURSIVE : 0)) < 0) {
		close(tree);
		return r;
	}
	return attach_at(st, tree, arg(op, 1), op->flags);
}

/* Copy one regular file; *mode* may have setuid bits, which a write would clear: it is set last. */
static int copy_file(int from, int to, const char *name, const struct stat *st)
{
	int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), out, r = 0;
	ssize_t n;

	if (in < 0) return -errno;
	if ((out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0) {
		r = -errno;
	} else {
		while ((n = sendfile(out, in, NULL, 1 << 20)) > 0) {}
		if (n < 0 || fchown(out, st->st_uid, st->st_gid) < 0 || fchmod(out, st->st_mode & 07777) < 0) r = -errno;
		close(out);
	}
	close(in);
	return r;
}

/* Copy what the directory *from* holds into *to* (a fresh tmpfs): files, directories and links. */
static int copy_up(int from, int to, int depth)
{
	struct { uint64_t ino, off; unsigned short size; unsigned char type; char name[]; } *entry;
	char buffer[4096] __attribute__((aligned(8))), link[4096];
	struct stat st;
	long got;
	int r = 0;

	if (depth > 32) return -ELOOP;
	while (r == 0 && (got = syscall(SYS_getdents64, from, buffer, sizeof buffer)) > 0) {
		for (long at = 0; r == 0 && at < got; at += entry->size) {
			entry = (void *)(buffer + at);
			const char *name = entry->name;
			if (!strcmp(name, ".") || !strcmp(name, "..")) continue;
			if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
			if (S_ISREG(st.st_mode)) {
				r = copy_file(from, to, name, &st);
			} else if (S_ISLNK(st.st_mode)) {
				ssize_t n = readlinkat(from, name, link, sizeof link - 1);
				link[n < 0 ? 0 : n] = 0;
				if (n < 0 || symlinkat(link, to, name) < 0
				    || fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
					r = -errno;
			} else if (S_ISDIR(st.st_mode)) {
				int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), out = -1;
				if (in < 0 || mkdirat(to, name, 0700) < 0
				    || (out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0)
					r = -errno;
				else if ((r = copy_up(in, out, depth + 1)) == 0
					 && (fchown(out, st.st_uid, st.st_gid) < 0 || fchmod(out, st.st_mode & 07777) < 0))
					r = -errno;
				if (in >= 0) close(in);
				if (out >= 0) close(out);
			} /* devices and sockets are not for a copy */
		}
	}
	return r == 0 && got < 0 ? -errno : r;
}

static int mount_new(struct stage *st, const struct op *op)
{
	char path[64], options[4096];
	const char *data = arg(op, 3);
	int tmpfs = !strcmp(arg(op, 2), "tmpfs"), r = 0, top;
	int target = open_in_root(st->root, arg(op, 1), O_PATH | (op->flags & OPF_NOFOLLOW ? O_NOFOLLOW : 0), 0);
	struct stat was;

	if (target >= 0 && op->flags & OPF_NOFOLLOW && is_link(target)) {
		close(target);
		return -ELOOP;
	}
	if (target >= 0 && tmpfs && !strstr(data, "mode=") && fstat(target, &was) == 0) {
		/* A tmpfs over a directory that is there keeps its mode (tmpfs's own default is 1777). */
		r = snprintf(options, sizeof options, "%s%smode=%o", data, *data ? "," : "", was.st_mode & 07777);
		if (r < (int)sizeof options) data = options;
	}
	if (target == -ENOENT) target = make_target(st->root, arg(op, 1), 1);
	if (target < 0) return target;
	/* mount(2) takes all options of any file system as text; the target is a descriptor, never a path. */
	snprintf(path, sizeof path, "/proc/self/fd/%d", target);
	r = mount(arg(op, 0), path, arg(op, 2), op->a, *data ? data : NULL) < 0 ? -errno : 0;
	if (r < 0 || !(op->b || op->flags & OPF_COPYUP)) {
		close(target);
		return r;
	}
	if ((top = open_in_root(st->root, arg(op, 1), O_RDONLY | O_DIRECTORY, 0)) < 0) return top;
	if (op->flags & OPF_COPYUP) {
		int below = openat(target, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = below < 0 ? -errno : copy_up(below, top, 0);
		if (below >= 0) close(below);
	}
	if (r == 0 && op->b) r = set_attrs(top, 0, 0, op->b, op->flags & OPF_RECURSIVE ? AT_RECURSIVE : 0);
	close(target);
	close(top);
	return r;
}

static int empty = -1; /* the file system that hides directories */

/* Hide a path: an empty read-only tmpfs over a directory, one for all; /dev/null over a file. */
static int mask(struct stage *st, const struct op *op)
{
	char path[64];
	int target = open_in_root(st->root, arg(op, 0), O_PATH, 0), tree, r;

	if (target < 0) return target == -ENOENT || target == -ENOTDIR ? 0 : target;
	if (is_directory(target) && empty < 0) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", target);
		r = mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0k") < 0 ? -errno : 0;
		/* Copies are made of the attached mount: a detached one can only be cloned from Linux 6.15 on. */
		if (r == 0 && (empty = open_in_root(st->root, arg(op, 0), O_PATH, 0)) < 0) r = empty;
	} else {
		tree = is_directory(target) ? clone_tree(empty, "", 0) : clone_tree(AT_FDCWD, "/dev/null", 0);
		r = tree < 0 ? tree : attach(tree, target);
		if (tree >= 0) close(tree);
	}
	close(target);
	return r;
}

/* Change attributes of the mount at a path, putting a mount there where there is none. */
static int readonly_path(struct stage *st, const struct op *op)
{
	int target = open_in_root(st->root, arg(op, 0), O_PATH, 0), tree, r;

	if (target < 0) return target == -ENOENT || target == -ENOTDIR ? 0 : target;
	if ((tree = clone_tree(target, "", 1)) < 0) {
		close(target);
		return tree;
	}
	if ((r = set_attrs(tree, MOUNT_ATTR_RDONLY, 0, 0, AT_RECURSIVE)) == 0) r = attach(tree, target);
	close(tree);
	close(target);
	return r;
}

static int set_attr_path(struct stage *st, const struct op *op)
{
	int target = open_in_root(st->root, arg(op, 0), O_PATH, 0), r;

	if (target < 0) return target;
	r = set_attrs(target, op->a, op->b, op->c, op->flags & OPF_RECURSIVE ? AT_RECURSIVE : 0);
	close(target);
	return r;
}

static int make_dir(struct stage *st, const struct op *op)
{
	int fd = open_in_root(st->root, arg(op, 0), O_PATH | O_DIRECTORY, 0), r = 0;

	if (fd >= 0) { /* it is there: its owner and mode are the image's */
		close(fd);
		return 0;
	}
	if (fd != -ENOENT) return fd;
	if ((fd = make_dirs(st->root, arg(op, 0), (mode_t)op->a)) < 0) return fd;
	if ((op->b || op->c) && fchownat(fd, "", (uid_t)op->b, (gid_t)op->c, AT_EMPTY_PATH) < 0) r = -errno;
	close(fd);
	return r;
}

/* Open the directory above *path* and point *name* at its last component. */
static int open_parent(struct stage *st, const char *path, const char **name)
{
	char parent[4096];
	const char *slash = strrchr(path, '/');
	size_t cut = slash ? (size_t)(slash - path) : 0;

	if (cut >= sizeof parent) return -ENAMETOOLONG;
	memcpy(parent, path, cut);
	parent[cut] = 0;
	*name = slash ? slash + 1 : path;
	return make_dirs(st->root, cut ? parent : "/", 0755);
}

static int make_symlink(struct stage *st, const struct op *op)
{
	const char *name;
	int dir = open_parent(st, arg(op, 1), &name), r = 0;

	if (dir < 0) return dir;
	if (symlinkat(arg(op, 0), dir, name) < 0 && errno != EEXIST) r = -errno;
	close(dir);
	return r;
}

static int make_node(struct stage *st, const struct op *op)
{
	const char *name;
	int dir = open_parent(st, arg(op, 0), &name), r = 0;

	if (dir < 0) return dir;
	if (mknodat(dir, name, (mode_t)op->a, (dev_t)op->b) < 0) r = -errno;
	if (r == 0 && (fchownat(dir, name, (uid_t)op->c, (gid_t)op->d, AT_SYMLINK_NOFOLLOW) < 0
		       || fchmodat(dir, name, (mode_t)op->a & 07777, 0) < 0))
		r = -errno;
	close(dir);
	return r;
}

static int enter_root(struct stage *st, const struct op *op)
{
	if (empty >= 0) close(empty);
	empty = -1;
	if (fchdir(st->root) < 0) return -errno;
	if (op->flags & OPF_NO_PIVOT) {
		if (mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0) return -errno;
	} else {
		/*
		 * pivot_root(2), "pivot_root(".", ".")": the old root ends up on the new one, then goes. It is a slave
		 * or private by now (the first PROPAGATION of the plan); "." in mount(2) would mean the new root.
		 */
		if (syscall(SYS_pivot_root, ".", ".") < 0) return -errno;
		if (umount2(".", MNT_DETACH) < 0) return -errno;
	}
	if (chdir("/") < 0) return -errno;
	close(st->root);
	st->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return st->root < 0 ? -errno : 0;
}

static int loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = 0;

	if (fd < 0) return -errno;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) < 0) r = -errno;
	close(fd);
	return r;
}

/* Open a terminal of the container's own devpts, hand its master out, make it our stdio. */
static int open_console(struct stage *st, const struct op *op)
{
	struct winsize size = { .ws_row = (unsigned short)op->a, .ws_col = (unsigned short)op->b };
	int unlock = 0, master, slave, target, r = 0;

	if (st->root < 0 && (st->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0) return -errno;
	if ((master = open_in_root(st->root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY, 0)) < 0) return master;
	if (ioctl(master, TIOCSPTLCK, &unlock) < 0) return -errno;
	/* TIOCGPTPEER needs no path, so no link can lead it astray. */
	if ((slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) return -errno;
	if (op->a || op->b) ioctl(master, TIOCSWINSZ, &size);
	if (op->flags & OPF_JOINED) {
		/* the container's own process has the console */
	} else if ((target = make_target(st->root, "/dev/console", 0)) >= 0) {
		int tree = clone_tree(slave, "", 0);
		r = tree < 0 ? tree : attach(tree, target);
		if (tree >= 0) close(tree);
		close(target);
	} else {
		r = target;
	}
	if (r < 0) return r;
	if ((r = send_message(MSG_CONSOLE, 0, 0, master)) < 0) return r;
	if (fchown(slave, (uid_t)op->c, (gid_t)-1) < 0) {} /* as login does; refused where the id is not mapped */
	if (ioctl(slave, TIOCSCTTY, 0) < 0) return -errno;
	for (int fd = 0; fd < 3; fd++)
		if (dup2(slave, fd) < 0) return -errno;
	close(master);
	close(slave);
	return 0;
}

int op_mounts(struct stage *st, const struct op *op)
{
	switch (op->kind) {
	case OP_PROPAGATION:
		return mount(NULL, arg(op, 0), NULL, op->a, NULL) < 0 ? -errno : 0;
	case OP_ROOT:
		return set_root(st, op);
	case OP_MOUNT:
		return mount_new(st, op);
	case OP_BIND:
		return bind_tree(st, op);
	case OP_ATTACH: {
		int r = set_attrs(op->fd, op->a, op->b, op->c, op->flags & OPF_RECURSIVE ? AT_RECURSIVE : 0);
		return r < 0 ? r : attach_at(st, op->fd, arg(op, 1), op->flags);
	}
	case OP_MKDIR:
		return make_dir(st, op);
	case OP_SYMLINK:
		return make_symlink(st, op);
	case OP_MKNOD:
		return make_node(st, op);
	case OP_MASK:
		return mask(st, op);
	case OP_READONLY:
		return readonly_path(st, op);
	case OP_SETATTR:
		return set_attr_path(st, op);
	case OP_PIVOT:
		return enter_root(st, op);
	case OP_HOSTNAME:
		return sethostname(arg(op, 0), op->len[0]) < 0 ? -errno : 0;
	case OP_DOMAINNAME:
		return setdomainname(arg(op, 0), op->len[0]) < 0 ? -errno : 0;
	case OP_LOOPBACK:
		return loopback_up();
	case OP_CONSOLE:
		return open_console(st, op);
	}
	return NOT_MINE;
}
