/* Starts PROGRAM: what scripts/launcher.sh does, without the millisecond that a shell takes before its first line.
 *
 * Freestanding: a static program with glibc takes as long to start as the shell. Built for x86_64 and aarch64; where it
 * does not compile, the script takes its place. PROGRAM, PYTHON (python3.11) and BASE (its path where this was built)
 * are defined by scripts/hatch_build.py.
 *
 * Source: System V ABI, "Process Initialization" (argc, argv, envp on the stack); syscalls(2); proc_pid_exe(5)
 */

#include <fcntl.h>
#include <linux/errno.h>
#include <stddef.h>
#include <sys/syscall.h>

#ifndef PATH_MAX
#define PATH_MAX 4096
#endif
#define X_OK 1
#define FAILED 125

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

static Path here, prefix, site, scratch, source, option, start, interpreter;

__attribute__((used, noreturn)) void begin(long *stack)
{
	static const char *const places[] = {"/lib/" PYTHON "/site-packages", "/lib64/" PYTHON "/site-packages",
					     "/lib/" PYTHON "/dist-packages", "/lib/python3/dist-packages"};
	long argc = *stack;
	char **argv = (char **)(stack + 1);
	char **environ = argv + argc + 1;
	/* Everything behind argv[0] stays where it is; before it there is room for what leads to it. */
	char *words[argc + 5];
	int found = 0, count = 0;
	long size = call(SYS_readlinkat, AT_FDCWD, (long)"/proc/self/exe", (long)here, PATH_MAX - 1);

	if (size <= 0)
		fail("cannot read /proc/self/exe", ": is /proc mounted?");
	here[size] = 0;
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
	words[count++] = (char *)PROGRAM;
	for (long i = 1; i < argc; i++)
		words[count++] = argv[i];
	words[count] = NULL;
	call(SYS_execve, (long)interpreter, (long)words, (long)environ, 0);
	fail("cannot execute ", interpreter);
	__builtin_unreachable();
}
