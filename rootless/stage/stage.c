/*
 * The stage: what runs between clone and exec. It reads a plan (wire.h) from a sealed memfd and executes
 * its operations in order; it has no policy, builds no paths and allocates nothing.
 *
 * Two processes run it. E, started by posix_spawn, joins namespaces and clones; F, its sibling by
 * CLONE_PARENT, becomes the container. The drawing stands in rootless/plan/wire.py.
 */
#include "stage.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <linux/sched.h>

int sync_fd = 3;
static struct stage stage = { .root = -1 };
static pid_t reaped_child;

/* ------------------------------------------------------------------ messages */

int send_message(uint32_t kind, int a, int b, int fd)
{
	struct message m = { kind, a, b, stage.at };
	struct iovec iov = { &m, sizeof m };
	union { char buf[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } u;
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		memset(&u, 0, sizeof u);
		h.msg_control = u.buf;
		h.msg_controllen = sizeof u.buf;
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	while (sendmsg(sync_fd, &h, MSG_NOSIGNAL) < 0)
		if (errno != EINTR) return -errno;
	return 0;
}

/* Wait for one message of *kind* from the parent; its end means that nobody wants us any more. */
int wait_message(uint32_t kind, int *value)
{
	struct message m;
	ssize_t n;

	while ((n = recv(sync_fd, &m, sizeof m, 0)) < 0 && errno == EINTR) {}
	if (n <= 0) _exit(125);
	if (n != sizeof m || m.kind != kind) return -EPROTO;
	if (value && m.a > 0) *value = m.a;
	return 0;
}

static _Noreturn void fail(int error)
{
	send_message(MSG_ERROR, error, 0, -1);
	_exit(125);
}

/* ------------------------------------------------------------------ clone */

static int clone_container(const struct op *op)
{
	struct clone_args args = {
		/* CLONE_PARENT makes F a child of B, who can then wait for its status; it wants exit_signal 0
		 * (clone(2)), F inherits ours, SIGCHLD. */
		.flags = op->a | CLONE_PARENT | CLONE_PIDFD,
	};
	int pidfd = -1;
	long pid;

	args.pidfd = (uint64_t)(uintptr_t)&pidfd;
	if (op->fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)op->fd;
	}
	pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid < 0 && errno == ENOSYS && op->fd < 0) {
		/* Docker's seccomp profile answers ENOSYS so that libcs fall back to clone(2). */
#if defined(__x86_64__) || defined(__aarch64__)
		pid = syscall(SYS_clone, op->a | CLONE_PARENT | CLONE_PIDFD | SIGCHLD, 0, &pidfd, 0, 0);
#endif
	}
	if (pid < 0) return -errno;
	if (pid == 0) return 0;
	int r = send_message(MSG_PID, (int)pid, 0, pidfd);
	_exit(r < 0 ? 125 : 0);
}

static int set_timens(const struct op *op)
{
	int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	if (fd < 0) return -errno;
	ssize_t n = write(fd, arg(op, 0), op->len[0]);
	int r = n < 0 ? -errno : 0;
	close(fd);
	return r;
}

/* ------------------------------------------------------------------ start and exec */

static int wait_start(const struct op *op)
{
	int r;

	if (op->fd < 0) return wait_message(MSG_START, NULL);
	/* Until create has written down that we exist, we end with it: nobody would ever find us. */
	if ((r = wait_message(MSG_ACK, NULL)) < 0) return r;
	/* create has ended long ago: whoever starts us connects. From here on that connection is the sync
	 * socket, so its end tells `start` that the exec has happened. */
	for (;;) {
		struct message m;
		int c = accept4(op->fd, NULL, NULL, SOCK_CLOEXEC);
		if (c < 0) {
			if (errno == EINTR || errno == ECONNABORTED) continue;
			return -errno;
		}
		ssize_t n = recv(c, &m, sizeof m, 0);
		if (n == sizeof m && m.kind == MSG_START) {
			if (dup3(c, sync_fd, O_CLOEXEC) < 0) return -errno;
			close(c);
			close(op->fd);
			return 0;
		}
		close(c);
	}
}

static int unpack_block(const struct op *op, int i, char **out, size_t max)
{
	const char *p = arg(op, i), *end = p + op->len[i];
	size_t n = 0;

	for (; p < end; p += strlen(p) + 1) {
		if (n + 1 >= max) return -E2BIG;
		out[n++] = (char *)p;
	}
	out[n] = NULL;
	return 0;
}

enum { MAX_STRINGS = 1 << 17 };
static char *argv_block[MAX_STRINGS], *env_block[MAX_STRINGS];

static void forward(int sig) { if (reaped_child > 0) kill(reaped_child, sig); }

/* Stay as pid 1: forward signals, reap what is orphaned, end as the command ends. */
static _Noreturn void reap(void)
{
	int status, result = 0;
	pid_t pid;

	while ((pid = wait(&status)) > 0 || errno == EINTR) {
		if (pid != reaped_child) continue;
		result = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
		break;
	}
	_exit(result);
}

static int start_reaper(void)
{
	sigset_t all, old;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	reaped_child = fork();
	if (reaped_child < 0) return -errno;
	if (reaped_child == 0) {
		sigprocmask(SIG_SETMASK, &old, NULL);
		setsid();
		return 0; /* goes on to execve */
	}
	for (int sig = 1; sig < NSIG; sig++)
		if (sig != SIGCHLD && sig != SIGKILL && sig != SIGSTOP && sig != SIGTTIN && sig != SIGTTOU)
			signal(sig, forward);
	sigprocmask(SIG_SETMASK, &old, NULL);
	/* Or nobody would see the end that means "exec has happened", nor that of a pipe. */
	syscall(SYS_close_range, 3, ~0u, 0);
	reap();
}

static int run_exec(const struct op *op)
{
	int r;

	if (op->flags & OPF_REAPER && (r = start_reaper()) < 0) return r;
	if ((r = unpack_block(op, 0, argv_block, MAX_STRINGS)) < 0) return r;
	if ((r = unpack_block(op, 1, env_block, MAX_STRINGS)) < 0) return r;
	execve(stage.program, argv_block, env_block);
	return -errno;
}

/* Write the State document, our pid in its place; a hook need not read its stdin. */
static void feed_hook(const struct op *op, int fd, int pid)
{
	const char *text = arg(op, 2);
	char number[12];
	size_t gap = 10, at = (size_t)op->b, size = op->len[2];

	signal(SIGPIPE, SIG_IGN);
	if (at && at + gap <= size) {
		snprintf(number, sizeof number, "%-10d", pid);
		if (write(fd, text, at) == (ssize_t)at && write(fd, number, gap) == (ssize_t)gap
		    && write(fd, text + at + gap, size - at - gap) < 0) {}
	} else if (write(fd, text, size) < 0) {
	}
	signal(SIGPIPE, SIG_DFL);
}

/* Run one program to its end; -ETIME after the timeout, -(1000 + status) for its failure, 128 + n for a signal. */
static int run_hook(struct stage *st, const struct op *op)
{
	int pipefd[2], status, r;
	int64_t timeout_ms = (int64_t)op->a, waited = 0;
	pid_t pid;

	if (pipe2(pipefd, O_CLOEXEC) < 0) return -errno;
	pid = fork();
	if (pid < 0) return -errno;
	if (pid == 0) {
		if (dup2(pipefd[0], 0) < 0 || unpack_block(op, 0, argv_block, MAX_STRINGS) < 0
		    || unpack_block(op, 1, env_block, MAX_STRINGS) < 0
		    || syscall(SYS_close_range, 3u, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */) < 0)
			_exit(126);
		execve(arg(op, 3), argv_block, env_block);
		_exit(errno == ENOENT ? 127 : 126);
	}
	close(pipefd[0]);
	feed_hook(op, pipefd[1], st->pid);
	close(pipefd[1]);
	while ((r = waitpid(pid, &status, timeout_ms > 0 ? WNOHANG : 0)) == 0 || (r < 0 && errno == EINTR)) {
		if (timeout_ms > 0 && waited >= timeout_ms) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
			return -ETIME;
		}
		poll(NULL, 0, 5);
		waited += 5;
	}
	if (r < 0) return -errno;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
	return -(1000 + (WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status)));
}

static int set_pdeathsig(const struct op *op)
{
	struct pollfd p = { sync_fd, 0, 0 };

	if (prctl(PR_SET_PDEATHSIG, op->a) < 0) return -errno;
	/* The parent may have died before the signal was armed; getppid() is 0 in a new pid namespace, so
	 * the socket has to tell. */
	if (poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR)) _exit(125);
	return 0;
}

static int op_process(struct stage *st, const struct op *op)
{
	int r;

	switch (op->kind) {
	case OP_SETNS:
		return setns(op->fd, (int)op->a) < 0 ? -errno : 0;
	case OP_UNSHARE:
		return unshare((int)op->a) < 0 ? -errno : 0;
	case OP_TIMENS:
		return set_timens(op);
	case OP_CLONE:
		return clone_container(op);
	case OP_SYNC:
		r = send_message(MSG_SYNC, (int)op->a, 0, -1);
		return r < 0 ? r : wait_message(MSG_ACK, &st->pid);
	case OP_READY:
		return send_message(MSG_READY, 0, 0, -1);
	case OP_START:
		return wait_start(op);
	case OP_EXEC:
		return run_exec(op);
	case OP_HOOK:
		return run_hook(st, op);
	case OP_PDEATHSIG:
		return set_pdeathsig(op);
	case OP_NAME:
		return prctl(PR_SET_NAME, arg(op, 0)) < 0 ? -errno : 0;
	case OP_DUMPABLE:
		return prctl(PR_SET_DUMPABLE, op->a) < 0 ? -errno : 0;
	case OP_CLOEXEC:
		return syscall(SYS_close_range, (unsigned)op->a, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */) < 0 ? -errno : 0;
	case OP_CLOSE:
		return syscall(SYS_close_range, (unsigned)op->a, (unsigned)op->b, 0) < 0 ? -errno : 0;
	case OP_DUP:
		return dup2(op->fd, (int)op->a) < 0 ? -errno : 0;
	}
	(void)st;
	return NOT_MINE;
}

/* ------------------------------------------------------------------ the loop */

/* glibc's posix_spawn leaves its two internal signals ignored, and would hide them from signal(3): so by system call. */
static void default_internal_signals(void)
{
	const char dfl[64] = { 0 }; /* struct sigaction of the kernel: SIG_DFL, no flags, an empty mask */

	for (int s = 32; s <= 33; s++) syscall(SYS_rt_sigaction, s, dfl, NULL, 8ul);
}

int main(int argc, char **argv)
{
	default_internal_signals();
	if (argc == 2) sync_fd = atoi(argv[1]);
	int plan_fd = sync_fd + 1;
	off_t size = lseek(plan_fd, 0, SEEK_END);
	if (size < (off_t)sizeof(struct plan_header)) return 125;
	const char *plan = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, plan_fd, 0);
	if (plan == MAP_FAILED) return 125;
	const struct plan_header *h = (const struct plan_header *)plan;
	if (h->magic != WIRE_MAGIC || h->version != WIRE_VERSION || h->size != size) return 125;
	close(plan_fd);
	fcntl(sync_fd, F_SETFD, FD_CLOEXEC);

	const char *at = plan + sizeof *h;
	for (uint32_t i = 0; i < h->ops; i++) {
		const struct op *op = (const struct op *)at;
		int r;

		stage.at = i;
		at += op->size;
		if ((r = op_process(&stage, op)) == NOT_MINE && (r = op_mounts(&stage, op)) == NOT_MINE
		    && (r = op_creds(&stage, op)) == NOT_MINE)
			r = -EBADRQC;
		if (r < 0 && op->flags & OPF_SKIP_MISSING && (r == -ENOENT || r == -ENOTDIR)) r = 0;
		if (r >= 0) {
			if (op->flags & OPF_ELSE) { /* it worked: its replacement is not needed */
				at += ((const struct op *)at)->size;
				i++;
			}
			continue;
		}
		if (!(op->flags & (OPF_OPTIONAL | OPF_ELSE)) || ((r == -EINVAL || r == -ELOOP) && op->flags & OPF_STRICT)) fail(-r);
		send_message(MSG_WARN, -r, 0, -1);
	}
	return 125;
}
