/* The system calls of a running network stack; every other one answers EPERM.
 *
 * A list of what is allowed, as plain numbers turned into a linear BPF program: about 60 comparisons, made once for each
 * of the few calls of a turn (the common ones stand first). It is loaded after all modules are imported.
 *
 * Source: seccomp(2); Documentation/userspace-api/seccomp_filter.rst
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "slirp_loop.h"

#if defined(__x86_64__)
#define RL_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define RL_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define RL_ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define RL_ARCH AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define RL_ARCH AUDIT_ARCH_S390X
#endif

#ifdef RL_ARCH
static const unsigned short allowed[] = {
	/* every turn */
	SYS_read, SYS_write, SYS_ppoll, SYS_recvfrom, SYS_sendto, SYS_clock_gettime, SYS_recvmsg, SYS_sendmsg,
	SYS_readv, SYS_writev, SYS_ioctl,
#ifdef SYS_poll
	SYS_poll,
#endif
	/* a connection */
	SYS_socket, SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4, SYS_setsockopt, SYS_getsockopt,
	SYS_getsockname, SYS_getpeername, SYS_shutdown, SYS_close, SYS_fcntl,
#ifdef SYS_recv
	SYS_recv,
#endif
#ifdef SYS_send
	SYS_send,
#endif
	/* /etc/resolv.conf */
	SYS_openat, SYS_newfstatat, SYS_fstat, SYS_lseek, SYS_statx,
#ifdef SYS_open
	SYS_open,
#endif
#ifdef SYS_stat
	SYS_stat,
#endif
	/* memory, signals, the end */
	SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_madvise, SYS_futex, SYS_rt_sigaction, SYS_rt_sigprocmask,
	SYS_rt_sigreturn, SYS_sigaltstack, SYS_restart_syscall, SYS_getrandom, SYS_getpid, SYS_gettid, SYS_getuid, SYS_geteuid,
	SYS_gettimeofday, SYS_sched_yield, SYS_exit, SYS_exit_group,
#ifdef SYS_time
	SYS_time,
#endif
};

int rl_net_seccomp(void)
{
	enum { COUNT = sizeof allowed / sizeof *allowed, HEAD = 4 };
	struct sock_filter program[HEAD + COUNT + 2];
	unsigned n = 0;
	program[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, RL_ARCH, 1, 0);
	program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	program[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < COUNT; i++) /* x32 numbers have bit 30 set and match nothing */
		program[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], (uint8_t)(COUNT - i), 0);
	program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	program[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog fprog = { (unsigned short)n, program };
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &fprog) < 0 ? -errno : 0;
}
#else
int rl_net_seccomp(void) { return -ENOSYS; }
#endif
