/* What the files of the stage share. */
#ifndef ROOTLESS_STAGE_H
#define ROOTLESS_STAGE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "wire.h"

/* The sync socket; its number is our first argument, the plan is the descriptor after it. */
extern int sync_fd;

struct stage {
	int root;        /* O_PATH of the new root, -1 before OP_ROOT */
	uint32_t at;     /* index of the operation that runs, for messages */
	const char *program; /* what OP_LOOKUP found */
	int pid;         /* ours as the parent sees it; comes with an ACK */
};

/* The string arguments of an operation; each has a NUL behind it. */
static inline const char *arg(const struct op *op, int i)
{
	const char *p = op->data;
	for (int k = 0; k < i; k++) p += op->len[k] + 1;
	return p;
}

/* ops.c */
int open_in_root(int root, const char *path, int flags, mode_t mode);
int op_mounts(struct stage *st, const struct op *op);
/* creds.c */
int op_creds(struct stage *st, const struct op *op);
/* stage.c */
int send_message(uint32_t kind, int a, int b, int fd);
int wait_message(uint32_t kind, int *value);

/* What a file returns for an operation that is not its own. */
enum { NOT_MINE = -100000 };

#endif
