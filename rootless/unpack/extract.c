/* The hot loop of unpacking: small files, all of their system calls, without the interpreter's lock.
 *
 * Order: data, owner, mode, time. write(2) and chown(2) clear setuid bits, so the mode that has them comes after
 * both; everything before changes the time. The caller's umask is 0 and the directory has no default ACL, so open(2)
 * gives the plain permission bits and a second chmod is needed for special bits only.
 *
 * Source: open(2), chown(2) "setuid", utimensat(2)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* Start writing a range to the disk without waiting for it: the one syncfs(2) at the end has less to do then.
 * A file system that cannot is none the worse. Source: sync_file_range(2) */
static void rl_write_behind(int fd, int64_t offset, int64_t length)
{
	sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE);
}

enum { STEP_OPEN, STEP_WRITE, STEP_OWNER, STEP_MODE, STEP_TIME };

static int put_file(const struct rl_small_file *f, int *step)
{
	struct timespec times[2] = { { f->sec, f->nsec }, { f->sec, f->nsec } };
	size_t done = 0;
	int fd, saved;

	*step = STEP_OPEN;
	do
		fd = openat(f->dfd, f->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, f->mode & 0777);
	while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return -errno;
	*step = STEP_WRITE;
	while (done < f->size) {
		ssize_t n = write(fd, f->data + done, f->size - done);
		if (n >= 0)
			done += (size_t)n;
		else if (errno != EINTR)
			goto fail;
	}
	*step = STEP_OWNER;
	if (fchown(fd, f->uid, f->gid) < 0)
		goto fail;
	*step = STEP_MODE;
	if ((f->mode & 07000) && fchmod(fd, f->mode & 07777) < 0)
		goto fail;
	*step = STEP_TIME;
	if (futimens(fd, times) < 0)
		goto fail;
	close(fd);
	return 0;
fail:
	saved = errno;
	close(fd);
	unlinkat(f->dfd, f->name, 0);
	return -saved;
}

/* Make files until one fails: 0, or -errno of that one; *done counts those before it, *step is what failed. */
static int rl_put_files(const struct rl_small_file *files, size_t count, size_t *done, int *step)
{
	int result = 0;

	for (*done = 0; *done < count; ++*done)
		if ((result = put_file(&files[*done], step)) < 0)
			break;
	return result;
}
