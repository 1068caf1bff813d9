/*
 * The program that runs in the containers of tests/runtime: /init of an otherwise empty root. It answers
 * questions about what it sees, one verb after the other, separated by "+":
 *
 *   probe id + cat /proc/self/mountinfo + exit 3
 *
 * Each answer is printed as it is; the first verb that fails ends the program with status 120 and a line on
 * stderr. Built statically, so that the root needs nothing else.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void fail(const char *what, const char *object)
{
	fprintf(stderr, "probe: %s %s: %s\n", what, object ? object : "", strerror(errno));
	exit(120);
}

static const char *need(int count, char **words, int i)
{
	if (i < count) return words[i];
	fprintf(stderr, "probe: %s: a word is missing\n", words[0]);
	exit(121);
}

static void copy_out(const char *path)
{
	char buffer[65536];
	ssize_t n;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) fail("open", path);
	while ((n = read(fd, buffer, sizeof buffer)) > 0) fwrite(buffer, 1, (size_t)n, stdout);
	if (n < 0) fail("read", path);
	close(fd);
}

static void print_ids(void)
{
	uid_t u[3];
	gid_t g[3], groups[256];
	int n;

	getresuid(u, u + 1, u + 2);
	getresgid(g, g + 1, g + 2);
	printf("uid=%u %u %u gid=%u %u %u groups=", u[0], u[1], u[2], g[0], g[1], g[2]);
	n = getgroups(256, groups);
	for (int i = 0; i < n; i++) printf("%s%u", i ? "," : "", groups[i]);
	printf("\n");
}

static void print_limit(const char *number)
{
	struct rlimit limit;

	if (getrlimit(atoi(number), &limit) < 0) fail("getrlimit", number);
	printf("%llu %llu\n", (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
}

/* Our own descriptors: number and what it is, without the one that lists them. */
static void print_fds(void)
{
	char path[64], target[4096];
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	if (!dir) fail("opendir", "/proc/self/fd");
	while ((entry = readdir(dir))) {
		int fd = atoi(entry->d_name);
		if (entry->d_name[0] == '.' || fd == dirfd(dir)) continue;
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		ssize_t n = readlink(path, target, sizeof target - 1);
		target[n < 0 ? 0 : n] = 0;
		printf("%d %s\n", fd, target);
	}
	closedir(dir);
}

static void print_stat(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0) fail("lstat", path);
	printf("%o %u:%u %lld %u,%u\n", st.st_mode, st.st_uid, st.st_gid, (long long)st.st_size, major(st.st_rdev),
	       minor(st.st_rdev));
}

static void list(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir) fail("opendir", path);
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) printf("%s\n", entry->d_name);
	closedir(dir);
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

	if (fd < 0) fail("open", path);
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text)) fail("write", path);
	close(fd);
}

static void notify(const char *text)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (!path || fd < 0) fail("NOTIFY_SOCKET", path);
	strncpy(to.sun_path, path, sizeof to.sun_path - 1);
	if (sendto(fd, text, strlen(text), 0, (struct sockaddr *)&to, sizeof to) < 0) fail("sendto", path);
	close(fd);
}

/* Wait for a signal and say which; TERM ends us with 0. */
static void wait_signal(void)
{
	sigset_t all;
	int number;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	printf("ready\n");
	fflush(stdout);
	do {
		sigwait(&all, &number);
		printf("signal %d\n", number);
		fflush(stdout);
	} while (number != SIGTERM);
	exit(0);
}

static void terminal(void)
{
	struct winsize size = { 0 };
	char *name = ttyname(0);

	ioctl(0, TIOCGWINSZ, &size);
	printf("%s %d %d pgrp=%d\n", name ? name : "none", size.ws_row, size.ws_col, tcgetpgrp(0) == getpgrp());
}

/* Is the process another program than /init (which is ours to look at)? One that has ended is none. */
static int foreign(int pid)
{
	char path[64], exe[4096];

	snprintf(path, sizeof path, "/proc/%d/exe", pid);
	ssize_t n = readlink(path, exe, sizeof exe - 1);
	if (n < 0) return errno == EACCES || errno == EPERM;
	exe[n] = 0;
	if (strcmp(exe, "/init")) printf("caught exe %s\n", exe);
	return strcmp(exe, "/init") != 0;
}

/*
 * Attack every process that comes: read and write its memory, look at its descriptors, trace it. Says "caught" and how
 * for one whose program is the runtime's (not /init, ours).
 */
static void fight(void)
{
	static const char *const ways[] = { "mem", "fd", "cwd", "root", "environ" };
	char path[300];

	signal(SIGTERM, SIG_DFL);
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		DIR *dir = opendir("/proc");
		struct dirent *entry;
		while (dir && (entry = readdir(dir))) {
			int pid = atoi(entry->d_name);
			if (pid <= 0 || pid == getpid()) continue;
			if (!foreign(pid)) continue;
			for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
				snprintf(path, sizeof path, "/proc/%d/%s", pid, ways[i]);
				int fd = open(path, i ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CLOEXEC);
				if (fd < 0) continue;
				close(fd);
				if (foreign(pid)) printf("caught %s\n", ways[i]);
			}
			if (ptrace(PTRACE_SEIZE, pid, 0, 0) == 0) {
				if (foreign(pid)) printf("caught ptrace\n");
				/* Let it go: what ends while it is traced is a zombie to its parent until we have waited. */
				ptrace(PTRACE_INTERRUPT, pid, 0, 0);
				waitpid(pid, NULL, __WALL);
				ptrace(PTRACE_DETACH, pid, 0, 0);
			}
			fflush(stdout);
		}
		if (dir) closedir(dir);
	}
}

/* Fill the table of processes and stay; children that cannot be made are tried again. */
static void bomb(void)
{
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		pid_t pid = fork();
		if (pid < 0) { printf("full\n"); fflush(stdout); break; }
		if (pid == 0) { pause(); _exit(0); }
	}
	for (;;) if (fork() == 0) pause();
}

static void answer(int n, char **w)
{
	const char *verb = w[0];

	if (!strcmp(verb, "id")) print_ids();
	else if (!strcmp(verb, "cat")) copy_out(need(n, w, 1));
	else if (!strcmp(verb, "status")) copy_out("/proc/self/status");
	else if (!strcmp(verb, "mounts")) copy_out("/proc/self/mountinfo");
	else if (!strcmp(verb, "env")) for (char **e = environ; *e; e++) printf("%s\n", *e);
	else if (!strcmp(verb, "cwd")) { char here[4096]; printf("%s\n", getcwd(here, sizeof here) ? here : "none"); }
	else if (!strcmp(verb, "hostname")) { struct utsname u; uname(&u); printf("%s %s %s\n", u.nodename, u.domainname, u.machine); }
	else if (!strcmp(verb, "limit")) print_limit(need(n, w, 1));
	else if (!strcmp(verb, "umask")) printf("%03o\n", umask(0));
	else if (!strcmp(verb, "fds")) print_fds();
	else if (!strcmp(verb, "pid")) printf("%d %d %d %d\n", getpid(), getppid(), getpgrp(), getsid(0));
	else if (!strcmp(verb, "stat")) print_stat(need(n, w, 1));
	else if (!strcmp(verb, "ls")) list(need(n, w, 1));
	else if (!strcmp(verb, "readlink")) {
		char text[4096];
		ssize_t got = readlink(need(n, w, 1), text, sizeof text - 1);
		if (got < 0) fail("readlink", w[1]);
		printf("%.*s\n", (int)got, text);
	}
	else if (!strcmp(verb, "write")) write_text(need(n, w, 1), need(n, w, 2));
	else if (!strcmp(verb, "append")) { int fd = open(need(n, w, 1), O_WRONLY | O_APPEND); if (fd < 0) fail("open", w[1]); dprintf(fd, "%s", need(n, w, 2)); close(fd); }
	else if (!strcmp(verb, "mkdir")) { if (mkdir(need(n, w, 1), 0777) < 0) fail("mkdir", w[1]); }
	else if (!strcmp(verb, "echo")) { for (int i = 1; i < n; i++) printf("%s%s", i > 1 ? " " : "", w[i]); printf("\n"); }
	else if (!strcmp(verb, "args")) for (int i = 1; i < n; i++) printf("%s\n", w[i]);
	else if (!strcmp(verb, "tty")) terminal();
	else if (!strcmp(verb, "isatty")) printf("%d%d%d\n", isatty(0), isatty(1), isatty(2));
	else if (!strcmp(verb, "read")) { char line[4096]; if (fgets(line, sizeof line, stdin)) printf("read %s", line); else printf("end\n"); }
	else if (!strcmp(verb, "notify")) notify(need(n, w, 1));
	else if (!strcmp(verb, "syscall")) {
		long r = syscall(atol(need(n, w, 1)), n > 2 ? atol(w[2]) : 0, n > 3 ? atol(w[3]) : 0);
		printf("%ld %d\n", r, r < 0 ? errno : 0);
	}
	else if (!strcmp(verb, "kill")) { if (kill(atoi(need(n, w, 1)), atoi(need(n, w, 2))) < 0) fail("kill", w[1]); }
	else if (!strcmp(verb, "fork")) { for (int i = atoi(need(n, w, 1)); i > 0; i--) if (fork() == 0) { pause(); _exit(0); } }
	else if (!strcmp(verb, "flush")) fflush(stdout);
	else if (!strcmp(verb, "wait")) wait_signal();
	else if (!strcmp(verb, "fight")) fight();
	else if (!strcmp(verb, "bomb")) bomb();
	else if (!strcmp(verb, "tmpfs")) { if (mount("fake", need(n, w, 1), "tmpfs", 0, NULL) < 0) fail("mount", w[1]); }
	else if (!strcmp(verb, "link")) { if (symlink(need(n, w, 1), need(n, w, 2)) < 0) fail("symlink", w[2]); }
	else if (!strcmp(verb, "pause")) for (;;) pause();
	else if (!strcmp(verb, "exit")) exit(atoi(need(n, w, 1)));
	else { fprintf(stderr, "probe: unknown verb %s\n", verb); exit(122); }
}

int main(int argc, char **argv)
{
	int at = 1;

	setvbuf(stdout, NULL, _IOFBF, 65536);
	while (at < argc) {
		int n = 0;
		while (at + n < argc && strcmp(argv[at + n], "+")) n++;
		if (n > 0) answer(n, argv + at);
		fflush(stdout);
		at += n + 1;
	}
	return 0;
}
