/* Generated from rootless/plan/wire.py by scripts/gen_wire.py; do not edit. */
#ifndef ROOTLESS_WIRE_H
#define ROOTLESS_WIRE_H
#include <stdint.h>
#define WIRE_MAGIC 0x54535452u
#define WIRE_VERSION 1u
enum op_kind {
	OP_SETNS = 1,
	OP_UNSHARE = 2,
	OP_TIMENS = 3,
	OP_CLONE = 4,
	OP_SYNC = 5,
	OP_SETID = 6,
	OP_SETSID = 7,
	OP_PROPAGATION = 8,
	OP_ROOT = 9,
	OP_MOUNT = 10,
	OP_BIND = 11,
	OP_ATTACH = 12,
	OP_MKDIR = 13,
	OP_SYMLINK = 14,
	OP_WRITE = 15,
	OP_MKNOD = 16,
	OP_MASK = 17,
	OP_READONLY = 18,
	OP_SETATTR = 19,
	OP_PIVOT = 20,
	OP_HOSTNAME = 21,
	OP_DOMAINNAME = 22,
	OP_LOOPBACK = 23,
	OP_CONSOLE = 24,
	OP_RLIMIT = 25,
	OP_OOM = 26,
	OP_KEYRING = 27,
	OP_PERSONALITY = 28,
	OP_IOPRIO = 29,
	OP_SCHED = 30,
	OP_UMASK = 31,
	OP_BOUNDING = 32,
	OP_GROUPS = 33,
	OP_USER = 34,
	OP_CAPS = 35,
	OP_NNP = 36,
	OP_SECCOMP = 37,
	OP_CWD = 38,
	OP_LOOKUP = 39,
	OP_CLOEXEC = 40,
	OP_PDEATHSIG = 41,
	OP_NAME = 42,
	OP_HOOK = 43,
	OP_READY = 44,
	OP_START = 45,
	OP_EXEC = 46,
	OP_DUMPABLE = 47,
	OP_DUP = 48,
};
enum op_flag {
	OPF_OPTIONAL = 1,
	OPF_ELSE = 2,
	OPF_RECURSIVE = 4,
	OPF_LISTENER = 8,
	OPF_REAPER = 16,
	OPF_NO_PIVOT = 32,
	OPF_COPYUP = 64,
	OPF_SKIP_MISSING = 128,
	OPF_NOFOLLOW = 256,
};
enum message_kind {
	MSG_PID = 1,
	MSG_SYNC = 2,
	MSG_ACK = 3,
	MSG_CONSOLE = 4,
	MSG_SECCOMP_FD = 5,
	MSG_READY = 6,
	MSG_START = 7,
	MSG_WARN = 8,
	MSG_ERROR = 9,
};
struct plan_header { uint32_t magic, version, ops, size; };
struct op { uint32_t kind, size, flags; int32_t fd; uint64_t a, b, c, d; uint32_t len[4]; char data[]; };
struct message { uint32_t kind; int32_t a, b; uint32_t op; };
#endif
