/* Starts PROGRAM: what scripts/launcher.sh does, without the millisecond that a shell takes before its first line.
 *
 * Freestanding: a static program with glibc takes as long to start as the shell. Built for x86_64 and aarch64; where it
 * does not compile, the script takes its place. PROGRAM, PYTHON (python3.11) and BASE (its path where this was built)
 * are defined by scripts/hatch_build.py.
 *
 * `run -d` and `start` leave a supervisor behind. Its interpreter is started here, beside that of the command line, which
 * then need not fork and can read its flags meanwhile (rootless/cli/ahead.py). Whether a command line is one of these
 * is a guess: one that is not ends the other.
 *
 * The interpreter of the command line has nothing to do then but to wait, and takes a millisecond to end. So it executes
 * this program again, under the name WAITER, to wait in its place and to print the container's id.
 *
 * Source: System V ABI, "Process Initialization" (argc, argv, envp on the stack); syscalls(2); proc_pid_exe(5)
 */

#include <fcntl.h>
#include <linux/errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#ifndef PATH_MAX
#define PATH_MAX 4096
#endif
#define X_OK 1
#define FAILED 125
#define BROKEN_PIPE 141
#define WAITER "rootless:[wait]"

typedef char Path[PATH_MAX];

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n\thlt\n");

static long call(long number, long a, long b, long c, long d)
{
	long result;
	register long r10 __asm__("r10") = d;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return result;
}
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tmov x0, sp\n\tbl begin\n\tbrk #0\n");

static long call(long number, long a, long b, long c, long d)
{
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;

	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
#else
#error "the script starts programs on this machine"
#endif

static size_t length(const char *text)
{
	size_t size = 0;

	while (text[size])
		size++;
	return size;
}

static void end(int status)
{
	for (;;)
		call(SYS_exit_group, status, 0, 0, 0);
}

static void say(const char *text)
{
	call(SYS_write, 2, (long)text, (long)length(text), 0);
}

static void fail(const char *one, const char *other)
{
	say(PROGRAM ": ");
	say(one);
	say(other);
	say("\n");
	end(FAILED);
}

/* Writes the strings one after the other; a path that does not fit is one that does not exist. */
static char *join(char *into, const char *one, const char *two, const char *three)
{
	const char *parts[] = {one, two, three};
	size_t at = 0;

	for (int i = 0; i < 3; i++)
		for (const char *from = parts[i]; *from; from++) {
			if (at + 1 >= PATH_MAX)
				fail("path too long: ", one);
			into[at++] = *from;
		}
	into[at] = 0;
	return into;
}

static int may(const char *path, int mode)
{
	return call(SYS_faccessat, AT_FDCWD, (long)path, mode, 0) == 0;
}

static void cut_last(char *path)
{
	size_t at = length(path);

	while (at > 0 && path[at - 1] != '/')
		at--;
	path[at > 0 ? at - 1 : 0] = 0;
}

/* The first line of an editable install's file is the path of the source tree. */
static int first_line(char *into, const char *path)
{
	long fd = call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
	long size;

	if (fd < 0)
		return 0;
	size = call(SYS_read, fd, (long)into, PATH_MAX - 1, 0);
	call(SYS_close, fd, 0, 0, 0);
	for (long i = 0; i < size; i++)
		if (into[i] == '\n')
			size = i;
	into[size > 0 ? size : 0] = 0;
	return size > 0;
}

static int on_path(char *into, char **environ)
{
	const char *list = "/usr/local/bin:/usr/bin:/bin";

	for (; *environ; environ++)
		if ((*environ)[0] == 'P' && (*environ)[1] == 'A' && (*environ)[2] == 'T' && (*environ)[3] == 'H' &&
		    (*environ)[4] == '=')
			list = *environ + 5;
	while (*list) {
		Path directory;
		size_t size = 0;

		for (; *list && *list != ':'; list++)
			if (size + 1 < PATH_MAX)
				directory[size++] = *list;
		directory[size] = 0;
		if (*list == ':')
			list++;
		if (size && may(join(into, directory, "/", PYTHON), X_OK))
			return 1;
	}
	return 0;
}

static int same(const char *one, const char *other, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (one[i] != other[i])
			return 0;
	return 1;
}

static int equal(const char *one, const char *other)
{
	return same(one, other, length(other) + 1);
}

/* Says whether a word is a flag whose value may be the next word. */
static int wants_value(const char *word)
{
	for (; *word; word++)
		if (*word == '=')
			return 0;
	return 1;
}

/* Says whether `run` has -d before its image, or `start` no flag that attaches. */
static int leaves(char **words)
{
	int value = 0;

	/* Flags of the program stand before the verb. */
	for (; *words && ((*words)[0] == '-' || value); words++)
		value = (*words)[0] == '-' && wants_value(*words);
	if (*words && equal(*words, "container"))
		words++;
	if (!*words)
		return 0;
	value = 0;
	if (equal(*words, "start")) {
		while (*++words)
			if ((*words)[0] == '-' && (*words)[1] != 'l')
				return 0;
		return 1;
	}
	if (!equal(*words, "run"))
		return 0;
	while (*++words) {
		const char *word = *words;
		int letters = word[0] == '-', detach = 0;

		if (word[0] != '-') {
			if (!value)
				return 0;
			value = 0;
			continue;
		}
		/* Our descriptors must not take the numbers that are asked for. */
		if (length(word) >= 14 && same(word, "--preserve-fds", 14))
			return 0;
		if (equal(word, "--detach") || equal(word, "--detach=true"))
			return 1;
		for (const char *at = word + 1; *at; at++) {
			letters &= *at == 'd' || *at == 'i' || *at == 't';
			detach |= *at == 'd';
		}
		if (letters && word[1] && detach)
			return 1;
		value = !letters && wants_value(word);
	}
	return 0;
}

static char *digits(char *end, long number)
{
	do
		*--end = (char)('0' + number % 10);
	while (number /= 10);
	return end;
}

/* A child is queued behind its parent, which will not wait soon: let it run elsewhere (sched_setaffinity(2)). */
static void move_away(long pid)
{
	static unsigned long allowed[128], others[128];
	unsigned cpu = 0;
	long size = call(SYS_sched_getaffinity, 0, sizeof allowed, (long)allowed, 0);
	int found = 0;

	if (size <= 0 || call(SYS_getcpu, (long)&cpu, 0, 0, 0) < 0 || cpu / 8 >= (unsigned long)size)
		return;
	for (long i = 0; i < size / (long)sizeof *allowed; i++) {
		others[i] = allowed[i];
		if (i == (long)(cpu / (8 * sizeof *allowed)))
			others[i] &= ~(1ul << cpu % (8 * sizeof *allowed));
		found |= others[i] != 0;
	}
	if (found) {
		call(SYS_sched_setaffinity, pid, size, (long)others, 0);
		call(SYS_sched_setaffinity, pid, size, (long)allowed, 0);
	}
}

/* Starts the supervisor: returns in both, with the descriptor of the link; *pid is its pid here and 0 there. */
static long fork_supervisor(long *pid)
{
	int pair[2];
	long null;

	if (call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET, 0, (long)pair) < 0)
		return -1;
	*pid = call(SYS_clone, SIGCHLD, 0, 0, 0);
	if (*pid < 0) {
		call(SYS_close, pair[0], 0, 0, 0);
		call(SYS_close, pair[1], 0, 0, 0);
		return -1;
	}
	if (*pid > 0) {
		move_away(*pid);
		call(SYS_close, pair[1], 0, 0, 0);
		return pair[0];
	}
	call(SYS_setsid, 0, 0, 0, 0);
	call(SYS_close, pair[0], 0, 0, 0);
	null = call(SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDWR, 0);
	if (null > 0) {
		call(SYS_dup3, null, 0, 0, 0);
		call(SYS_close, null, 0, 0, 0);
	}
	return pair[1];
}

static long number(const char *text)
{
	long value = 0;

	while (*text >= '0' && *text <= '9')
		value = 10 * value + *text++ - '0';
	return value;
}

static void print(const char *text, size_t size)
{
	while (size) {
		long done = call(SYS_write, 1, (long)text, (long)size, 0);

		if (done == -EINTR)
			continue;
		if (done == -EPIPE)
			end(BROKEN_PIPE);
		if (done <= 0)
			fail("cannot write to standard output", "");
		text += done;
		size -= (size_t)done;
	}
}

/* Waits for the packet {"ready": "ID", ...}; words are the link, the supervisor's pid and what is printed for the id. */
static void wait_ready(char **words)
{
	static const char key[] = "\"ready\":";
	static char packet[4096];
	long link = number(words[0]), size, status = 0;

	do
		size = call(SYS_read, link, (long)packet, sizeof packet, 0);
	while (size == -EINTR);
	for (long at = 0; at + (long)sizeof key < size; at++) {
		const char *id = packet + at + sizeof key - 1, *last;

		if (!same(packet + at, key, sizeof key - 1))
			continue;
		while (id < packet + size && *id++ != '"')
			;
		for (last = id; last < packet + size && *last != '"'; last++)
			;
		if (words[2])
			print(words[2], length(words[2]));
		else
			print(id, (size_t)(last - id));
		print("\n", 1);
		end(0);
	}
	while (call(SYS_wait4, number(words[1]), (long)&status, 0, 0) == -EINTR)
		;
	if (status & 0x7f)
		end(128 + (int)(status & 0x7f));
	end(status >> 8 & 0xff ? (int)(status >> 8 & 0xff) : FAILED);
}

static Path self, here, prefix, site, scratch, source, option, start, interpreter;

__attribute__((used, noreturn)) void begin(long *stack)
{
	static const char *const places[] = {"/lib/" PYTHON "/site-packages", "/lib64/" PYTHON "/site-packages",
					     "/lib/" PYTHON "/dist-packages", "/lib/python3/dist-packages"};
	long argc = *stack;
	char **argv = (char **)(stack + 1);
	char **environ = argv + argc + 1;
	/* Everything behind argv[0] stays where it is; before it there is room for what leads to it. */
	char *words[argc + 7];
	char numbers[64], *text = numbers + sizeof numbers;
	int found = 0, count = 0;
	long link = -1, pid = 0;

	if (argc >= 3 && equal(argv[0], WAITER))
		wait_ready(argv + 1);
	long size = call(SYS_readlinkat, AT_FDCWD, (long)"/proc/self/exe", (long)here, PATH_MAX - 1);

	if (size <= 0)
		fail("cannot read /proc/self/exe", ": is /proc mounted?");
	here[size] = 0;
	join(self, here, "", "");
	cut_last(here);
	join(prefix, here, "", "");
	cut_last(prefix);
	for (size_t i = 0; i < sizeof places / sizeof places[0] && !found; i++) {
		join(site, prefix, places[i], "");
		if (may(join(scratch, site, "/rootless/start.py", ""), 0)) {
			join(source, site, "", "");
			found = 1;
		} else if (first_line(source, join(scratch, site, "/_rootless.pth", ""))) {
			join(option, "--site=", site, "");
			found = 1;
		}
	}
	if (!found)
		fail("the package rootless is not installed in ", prefix);
	if (!may(join(interpreter, here, "/", PYTHON), X_OK) && !may(join(interpreter, BASE, "", ""), X_OK) &&
	    !on_path(interpreter, environ))
		fail(PYTHON " not found: install rootless again with an interpreter of this machine", "");
	words[count++] = interpreter;
	words[count++] = (char *)"-IS";
	words[count++] = join(start, source, "/rootless/start.py", "");
	if (option[0])
		words[count++] = option;
	if (equal(PROGRAM, "rootless") && leaves(argv + 1))
		link = fork_supervisor(&pid);
	*--text = 0;
	if (link >= 0 && pid > 0) {
		text = digits(text, pid);
		*--text = ':';
		text = digits(text, link);
		for (const char *from = "=daeha--"; *from; from++)
			*--text = *from;
		words[count++] = text;
		words[count++] = self;
	}
	words[count++] = link >= 0 && pid == 0 ? (char *)"rootless-supervisor" : (char *)PROGRAM;
	if (link >= 0 && pid == 0)
		words[count++] = digits(text, link);
	for (long i = 1; i < argc; i++)
		words[count++] = argv[i];
	words[count] = NULL;
	call(SYS_execve, (long)interpreter, (long)words, (long)environ, 0);
	fail("cannot execute ", interpreter);
	__builtin_unreachable();
}
