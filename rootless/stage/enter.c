/*
 * enter: make a user namespace with its maps and hand its descriptor over.
 *
 *   enter SOCKET tools UIDMAP GIDMAP NEWUIDMAP NEWGIDMAP     maps through the setuid helpers of shadow
 *   enter SOCKET direct UIDMAP GIDMAP                        maps written by ourselves (we may, or one id)
 *   enter SOCKET deny UIDMAP GIDMAP                          the same, setgroups denied first (user_namespaces(7))
 *
 * A map is text: "inside outside count" and more such triples, blanks between all numbers. The answer on
 * SOCKET is one message, "ok" with the descriptor of the namespace, or "STEP ERRNO" and exit status 1.
 *
 * A C program of its own at a stable path, because AppArmor grants user namespaces by path and because this
 * takes 3 ms from C and 24 from Python. Source: user_namespaces(7), newuidmap(1).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int sock;

static void answer(const char *text, int fd)
{
	struct iovec iov = { (void *)text, strlen(text) };
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
	sendmsg(sock, &h, MSG_NOSIGNAL);
}

static _Noreturn void fail(const char *step, int error)
{
	char text[128];
	snprintf(text, sizeof text, "%s %d", step, error);
	answer(text, -1);
	_exit(1);
}

static void write_map(pid_t child, const char *file, const char *map)
{
	char path[64], text[8192];
	int fd, blanks = 0, n = 0;

	/* The kernel wants one line for each extent, and all of them in one write. */
	for (const char *p = map; *p && n < (int)sizeof text - 1; p++)
		text[n++] = *p == ' ' && ++blanks % 3 == 0 ? '\n' : *p;
	snprintf(path, sizeof path, "/proc/%d/%s", child, file);
	if ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0) fail(file, errno);
	if (write(fd, text, (size_t)n) != n) fail(file, errno);
	close(fd);
}

static pid_t run_tool(const char *tool, pid_t child, const char *map)
{
	static char buffer[2][8192], pid[2][16];
	static int which;
	char *argv[1024], *p = buffer[which], *save = NULL;
	int n = 0;

	snprintf(buffer[which], sizeof buffer[which], "%s", map);
	snprintf(pid[which], sizeof pid[which], "%d", child);
	argv[n++] = (char *)tool;
	argv[n++] = pid[which];
	which = 1;
	for (char *word = strtok_r(p, " ", &save); word && n < 1023; word = strtok_r(NULL, " ", &save)) argv[n++] = word;
	argv[n] = NULL;
	pid_t tool_pid = vfork();
	if (tool_pid == 0) {
		execv(tool, argv);
		_exit(127);
	}
	if (tool_pid < 0) fail("fork", errno);
	return tool_pid;
}

static void wait_tool(const char *step, pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR) fail(step, errno);
	if (!WIFEXITED(status) || WEXITSTATUS(status)) fail(step, WIFEXITED(status) && WEXITSTATUS(status) == 127 ? ENOENT : EPERM);
}

int main(int argc, char **argv)
{
	int gate[2], fd;
	char path[64], byte;

	if (argc < 5) {
		fputs("enter: a part of rootless; makes a user namespace and is not meant to be run by hand\n"
		      "usage: enter SOCKET tools|direct|deny UIDMAP GIDMAP [NEWUIDMAP NEWGIDMAP]\n", stderr);
		return 2;
	}
	sock = atoi(argv[1]);
	fcntl(sock, F_SETFD, FD_CLOEXEC);
	if (pipe2(gate, O_CLOEXEC) < 0) fail("pipe", errno);
	pid_t child = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
	if (child < 0) fail("unshare", errno);
	if (child == 0) {
		/* Only holds the namespace until the descriptor is out; ends with our end of the pipe. */
		close(gate[1]);
		while (read(gate[0], &byte, 1) < 0 && errno == EINTR) {}
		_exit(0);
	}
	close(gate[0]);
	snprintf(path, sizeof path, "/proc/%d/ns/user", child);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0) fail("open", errno);
	if (!strcmp(argv[2], "tools") && argc >= 7) {
		pid_t u = run_tool(argv[5], child, argv[3]), g = run_tool(argv[6], child, argv[4]);
		wait_tool("newuidmap", u);
		wait_tool("newgidmap", g);
	} else {
		if (!strcmp(argv[2], "deny")) {
			snprintf(path, sizeof path, "/proc/%d/setgroups", child);
			int deny = open(path, O_WRONLY | O_CLOEXEC);
			if (deny < 0 || write(deny, "deny", 4) != 4) fail("setgroups", errno);
			close(deny);
		}
		write_map(child, "uid_map", argv[3]);
		write_map(child, "gid_map", argv[4]);
	}
	answer("ok", fd);
	/* Reaped here, or whoever is the machine's init would find one more orphan for every command. */
	close(gate[1]);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {}
	return 0;
}
