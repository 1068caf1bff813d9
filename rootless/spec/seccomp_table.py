"""Our own table of system calls: what a container may ask of the kernel without being asked back.

The verdicts are those of the profile that podman uses (containers-common's), for every system call and every
set of capabilities, so that what runs under podman runs here; a test compares them number by number. The
shape is ours: calls by subject, then those that a capability unlocks, then those that are judged by their
arguments. Three answers exist: allowed, refused (EPERM: the kernel has it, the container may not), and unknown
(ENOSYS, for everything that is not listed: a C library then falls back to an older call).

Source: syscalls(2), capabilities(7), personality(2); the verdicts: containers-common seccomp.json(5)
"""

from __future__ import annotations

from rootless.spec.seccomp import ALLOW, ARCHES, EQ, ERRNO, NE, Condition, Filter, Machine, Rule

_EPERM, _EINVAL, _ENOSYS = 1, 22, 38

ALLOWED: dict[str, str] = {
    "mounts and namespaces": """
        fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root reboot setns syslog
        umount umount2 unshare
    """,
    "processes and threads": """
        clone clone3 execve execveat exit exit_group fork futex futex_time64 get_robust_list get_thread_area getcpu
        getpgid getpgrp getpid getppid getrandom getrusage getsid gettid membarrier pidfd_getfd
        pidfd_open pidfd_send_signal prctl process_mrelease process_vm_readv process_vm_writev ptrace
        restart_syscall rseq set_robust_list set_thread_area set_tid_address setpgid setsid syscall sysinfo times
        uname vfork wait4 waitid waitpid
    """,
    "signals": """
        kill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
        rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaction sigaltstack signal signalfd signalfd4
        sigpending sigprocmask sigreturn sigsuspend tgkill tkill
    """,
    "limits and scheduling": """
        getpriority getrlimit ioprio_get ioprio_set prlimit64 sched_get_priority_max sched_get_priority_min
        sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
        sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
        setpriority setrlimit ugetrlimit
    """,
    "credentials and security": """
        capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32
        getresuid getresuid32 getuid getuid32 keyctl landlock_add_rule landlock_create_ruleset landlock_restrict_self
        seccomp setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setregid setregid32
        setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32
    """,
    "memory": """
        brk get_mempolicy madvise mbind memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect
        mremap msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages set_mempolicy
        shmat shmctl shmdt shmget
    """,
    "time": """
        adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
        clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create
        timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd
        timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
    """,
    "sockets": """
        accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64
        recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair
    """,
    "messages and semaphores": """
        ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
        mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64
    """,
    "waiting for events": """
        _newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
        epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
        io_cancel io_destroy io_getevents io_setup io_submit poll ppoll ppoll_time64 pselect6 pselect6_time64 select
    """,
    "names in directories": """
        chdir creat fchdir getcwd getdents getdents64 link linkat mkdir mkdirat mknod mknodat name_to_handle_at open
        openat openat2 readdir readlink readlinkat rename renameat renameat2 rmdir symlink symlinkat unlink unlinkat
    """,
    "what is known about a file": """
        access chmod chown chown32 faccessat faccessat2 fchmod fchmodat fchown fchown32 fchownat fgetxattr
        flistxattr fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 futimesat getxattr lchown
        lchown32 lgetxattr listxattr llistxattr lremovexattr lsetxattr lstat lstat64 newfstatat removexattr setxattr
        stat stat64 statfs statfs64 statx umask utime utimensat utimensat_time64 utimes
    """,
    "data of files": """
        _llseek close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate fcntl fcntl64
        fdatasync flock fsync ftruncate ftruncate64 ioctl lseek pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev
        pwritev2 read readahead readv sendfile sendfile64 splice sync sync_file_range syncfs tee truncate truncate64
        write writev
    """,
}

REFUSED: dict[str, str] = {
    "ways into the kernel": """
        kexec_file_load kexec_load nfsservctl pciconfig_iobase pciconfig_read pciconfig_write sysfs uselib
        userfaultfd vm86 vm86old vmsplice
    """,
    "what belongs to the whole machine": "bdflush migrate_pages move_pages swapoff swapon",
    "forms that nothing needs": """
        io_pgetevents nice oldfstat oldlstat oldolduname oldstat olduname sgetmask ssetmask swapcontext ustat
    """,
}

UNLOCKED: dict[str, str] = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": "bpf fanotify_init lookup_dcookie perf_event_open quotactl setdomainname sethostname",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module query_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}
"""Refused without the capability, allowed with it."""

ONLY_ON: dict[str, str] = {
    "amd64": "arch_prctl modify_ldt",
    "x86": "modify_ldt",
    "arm64": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "arm": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "ppc64le": "sync_file_range2",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
}
"""Allowed on one kind of machine, unknown elsewhere."""

PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX and PER_LINUX32, each with and without UNAME26, and the question which one it is."""

AF_NETLINK, NETLINK_AUDIT = 16, 9
"""A socket to the audit system: "no such thing" to a program that may not write to it, so that it goes on."""

RELEVANT: frozenset[str] = frozenset((*UNLOCKED, "CAP_AUDIT_WRITE"))
"""Two bounding sets that agree on these give the same filter."""


def default_filter(capabilities: frozenset[str], own: Machine) -> Filter:
    """Return the default filter of a container with the bounding set *capabilities* on machine *own*."""
    rules = [Rule(name, ALLOW) for text in ALLOWED.values() for name in text.split()]
    rules += [Rule(name, ERRNO | _EPERM) for text in REFUSED.values() for name in text.split()]
    for capability, text in UNLOCKED.items():
        action = ALLOW if capability in capabilities else ERRNO | _EPERM
        rules += [Rule(name, action) for name in text.split()]
    rules += [Rule(name, ALLOW) for name in ONLY_ON.get(own.go, "").split()]
    rules += [Rule("personality", ALLOW, (Condition(0, EQ, value),)) for value in PERSONALITIES]
    if "CAP_AUDIT_WRITE" in capabilities:
        rules.append(Rule("socket", ALLOW))
    else:
        netlink, audit = (0, AF_NETLINK), (2, NETLINK_AUDIT)
        rules.append(Rule("socket", ERRNO | _EINVAL, tuple([Condition(i, EQ, v) for i, v in (netlink, audit)])))
        rules += [Rule("socket", ALLOW, (Condition(i, NE, v),)) for i, v in (netlink, audit)]
    return Filter(ERRNO | _ENOSYS, tuple([ARCHES[name] for name in own.arches]), tuple(rules))
