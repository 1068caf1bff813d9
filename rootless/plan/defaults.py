"""What a container gets when nobody says otherwise. Data only.

`container=` is "rootless": systemd and scripts only look whether it is set, and a name that is not
ours would be untrue (docs/podman-differences.md).

Source: podman 4.3's generated config.json and containers-common's containers.conf, observed;
        runtime-spec config-linux.md#default-filesystems
"""

from __future__ import annotations

CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETFCAP",
    "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
)  # fmt: skip

MASKED_PATHS = (
    "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/fs/selinux", "/sys/dev/block",
)  # fmt: skip
# with the host's network /sys is the host's own, whose kernel directory holds tracing and security state
MASKED_PATHS_HOST_NETWORK = ("/sys/kernel",)
READONLY_PATHS = ("/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

ENV = (
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("TERM", "xterm"),
    ("container", "rootless"),
)

SHM_BYTES = 64 << 20
UMASK = "0022"
STOP_SIGNAL = 15

PROC_OPTIONS = ("nosuid", "noexec", "nodev")
SYS_OPTIONS = ("nosuid", "noexec", "nodev")
DEV_OPTIONS = ("nosuid", "noexec", "strictatime", "mode=755", "size=65536k")
DEVPTS_OPTIONS = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")
# the group of terminals in every distribution; only where it is mapped, else mounting fails
TTY_GID = 5
MQUEUE_OPTIONS = ("nosuid", "noexec", "nodev")
SHM_OPTIONS = ("rprivate", "nosuid", "noexec", "nodev", "mode=1777")
CGROUP_OPTIONS = ("rprivate", "nosuid", "noexec", "nodev", "relatime")
FILE_OPTIONS = ("bind", "rprivate")
# what an init of systemd's kind finds, its signal to power off (SIGRTMIN+3), and by which programs it is known
SYSTEMD_TMPFS = ("/run", "/run/lock", "/tmp", "/var/log/journal")
SYSTEMD_STOP_SIGNAL = 37
SYSTEMD_PROGRAMS = ("/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init", "systemd", "init")
# where the program of --init-path is mounted
INIT_TARGET = "/run/rootless-init"
READONLY_TMPFS = ("/run", "/tmp", "/var/tmp")

# (name, what we want, below which hard limit of the caller a person should know)
RLIMITS = (("RLIMIT_NOFILE", 1048576, 4096), ("RLIMIT_NPROC", 4194304, 1024))

# a container's own network namespace lets its root ping without CAP_NET_RAW
NETWORK_SYSCTLS = (("net.ipv4.ping_group_range", "0 0"),)
SECRETS = "/run/secrets"
SECRET_OPTIONS = ("rw", "nosuid", "nodev", "noexec")
