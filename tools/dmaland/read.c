/* SPDX-License-Identifier: MIT */
/*
 * read.c - `dmaland nvme read`: blocks to a file or pipe
 *
 * A file that lies in memory (tmpfs) is mapped, and request by request for the drive, which fills
 * its pages: nobody copies. The kernel pins no pages of other file systems for writing, since it
 * could not tell when they are dirty (from 6.5 on; before, data were lost). Those are written by
 * write() out of the buffers that the drive has filled, as are pipes.
 *
 * Room for all of a file is set aside first, so that a full disk shows before anything is read, and
 * leaves an old file as it was, and no new one. A file system without fallocate() can't tell before it
 * is full, and the old file is lost by then. A read that ends in the middle leaves in the file what was
 * read until there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "drive.h"
#include "progress.h"

/*
 * @bytes:   that are to come
 * @ours:    a regular file that we have opened, and so shorten at the end
 * @created: which there was not before
 * @mapped:  the file in memory, or NULL
 * @refused: it could not be given to the drive, and is written
 */
struct output {
	int fd;
	const char *name;
	uint64_t bytes;
	bool ours, created, refused;
	char *mapped;
};

/* @done: blocks from @first on that are in the output; @part: bytes of the next one that are, too */
struct job {
	struct transfer transfer;
	struct output output;
	uint64_t first, blocks, next, done;
	size_t part;
};

/* As QEMU locks the images it drives; the file may well be the one that is to be read. */
static bool is_locked(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/*
 * Set room aside for all of a file, in which an old one's counts. Where there is none, the file stays as it was, and what
 * could be set aside is given back. Where the file system can't tell, it shows when it is full.
 */
static bool output_has_room(const struct output *output, const struct stat *before)
{
	int code;

	if (fallocate(output->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)output->bytes) == 0 ||
	    (errno != ENOSPC && errno != EFBIG && errno != EDQUOT))
		return true;
	code = errno;
	if (ftruncate(output->fd, before->st_size))
		code = errno;
	fail("cannot write %s to %s: %s", size_text(output->bytes).text, output->name,
	     strerror(code));
	return false;
}

/* Sets errno. A file that is there already is opened as it is. */
static int file_open(const char *name, bool *created)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

	*created = fd >= 0;
	return fd < 0 && errno == EEXIST ? open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666) : fd;
}

static int output_open(struct output *output, const char *name, uint64_t bytes)
{
	struct stat stat;

	output->name = name ? name : "stdout";
	output->bytes = bytes;
	output->fd = STDOUT_FILENO;
	if (!name)
		return STATUS_OK;
	output->fd = file_open(name, &output->created);
	if (output->fd < 0 || fstat(output->fd, &stat))
		return fail("cannot open %s: %s", name, strerror(errno));
	if (S_ISREG(stat.st_mode) && is_locked(output->fd))
		return fail("cannot write to %s: a program has locked it, as QEMU does with the "
			    "image of a drive; name another file",
			    name);
	output->ours = S_ISREG(stat.st_mode) && output_has_room(output, &stat);
	if (!S_ISREG(stat.st_mode) || output->ours)
		return STATUS_OK;
	if (output->created)
		unlink(name);
	return STATUS_FAILED;
}

/* Map the file, if the drive can fill it where it lies. */
static void output_map(struct output *output, const struct transfer *transfer)
{
	char path[32];
	struct statfs statfs;
	void *mapped;
	int fd;

	if (!output->ours || output->bytes < transfer->slot_bytes || !transfer_can_map(transfer) ||
	    fstatfs(output->fd, &statfs) || statfs.f_type != TMPFS_MAGIC)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", output->fd);
	fd = open(path, O_RDWR | O_CLOEXEC); /* what is mapped is also read */
	if (fd < 0)
		return;
	if (ftruncate(fd, (off_t)output->bytes) == 0) {
		mapped = mmap(NULL, output->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (mapped != MAP_FAILED)
			output->mapped = mapped;
	}
	close(fd);
}

/* The file gets the size of what is in it. */
static int output_close(struct output *output, uint64_t done, int status)
{
	if (output->mapped)
		munmap(output->mapped, output->bytes);
	if (output->ours && ftruncate(output->fd, (off_t)done) && !status)
		status = fail("cannot write to %s: %s", output->name, strerror(errno));
	if (output->fd > STDERR_FILENO && close(output->fd) && !status)
		status = fail("cannot write to %s: %s", output->name, strerror(errno));
	return status;
}

/* A whole piece can go to where it lies in the file; false when it is to be written. */
static bool job_submit_mapped(struct job *job, uint64_t blocks)
{
	uint64_t at = (job->next - job->first) * job->transfer.ns.block_size;

	if (!job->output.mapped || job->output.refused || blocks < job->transfer.slot_blocks)
		return false;
	job->output.refused = transfer_submit_memory(&job->transfer, DMALAND_NVME_READ,
						     job->output.mapped + at, job->next, blocks);
	return !job->output.refused;
}

/* As many requests as there are slots. */
static int job_submit(struct job *job)
{
	struct transfer *transfer = &job->transfer;
	uint64_t end = job->first + job->blocks;
	int status = STATUS_OK;

	while (!status && job->next < end && transfer_buffer(transfer)) {
		uint64_t n = end - job->next;

		if (n > transfer->slot_blocks)
			n = transfer->slot_blocks;
		if (!job_submit_mapped(job, n))
			status = transfer_submit(transfer, DMALAND_NVME_READ, job->next, n);
		if (!status)
			job->next += n;
	}
	return status;
}

/* Wait for the oldest request; what it has read goes to the output, if it is not there already. */
static int job_reap(struct job *job)
{
	struct output *output = &job->output;
	struct transfer_slot *slot;
	int status = transfer_wait(&job->transfer, &slot);
	uint64_t at = job->done * job->transfer.ns.block_size;
	size_t written;

	if (status)
		return status;
	if (slot->iov.iov_base == slot->data) {
		if (output->mapped && lseek(output->fd, (off_t)at, SEEK_SET) < 0)
			return fail("cannot write to %s: %s", output->name, strerror(errno));
		status = write_all(output->fd, output->name, slot->data, slot->iov.iov_len,
				   &written);
		if (status) {
			job->done += written / job->transfer.ns.block_size;
			job->part = written % job->transfer.ns.block_size;
			return status;
		}
	}
	job->done += slot->blocks;
	transfer_release(&job->transfer);
	progress_update(job->done * job->transfer.ns.block_size);
	return STATUS_OK;
}

/* A signal ends it when what is under way has come. */
static int job_copy(struct job *job)
{
	int status = STATUS_OK;

	while (!status && job->done < job->blocks) {
		if (!signals_status())
			status = job_submit(job);
		if (!status && !job->transfer.used)
			return signals_status();
		if (!status)
			status = job_reap(job);
	}
	return status;
}

/* After a failure. Who reads a pipe and goes away wants no words. */
static void job_say_end(const struct job *job, int status)
{
	char part[64] = "";

	if (status == STATUS_PIPE)
		return;
	/* a file of ours is cut to whole blocks */
	if (job->part && !job->output.ours)
		snprintf(part, sizeof(part), ", and %zu bytes of the next one", job->part);
	fail("%s%llu of %llu blocks, from block %llu on, were read to %s%s",
	     status > STATUS_SIGNAL ? "interrupted: " : "", (unsigned long long)job->done,
	     (unsigned long long)job->blocks, (unsigned long long)job->first, job->output.name,
	     part);
}

static int read_to(struct job *job, struct drive *drive, const struct dmaland_nvme_namespace *ns,
		   const char *name)
{
	int status = transfer_begin(&job->transfer, drive, ns);

	if (status)
		return status;
	status = output_open(&job->output, name, job->blocks * ns->block_size);
	if (!status) {
		output_map(&job->output, &job->transfer);
		progress_begin("reading", job->output.bytes);
		status = job_copy(job);
		progress_end();
	}
	transfer_end(&job->transfer); /* the drive lets go of the file's pages */
	status = output_close(&job->output, job->done * ns->block_size, status);
	if (status && job->next > job->first)
		job_say_end(job, status);
	return status;
}

static int read_run(const struct arguments *arguments)
{
	const char *name = arguments->operand_count > 1 ? arguments->operands[1] : NULL;
	struct job job = {.next = 0};
	struct dmaland_nvme_namespace ns;
	struct drive drive;
	int status;

	if (name && strcmp(name, "-") == 0)
		name = NULL;
	if (!name && isatty(STDOUT_FILENO))
		return usage_error("nvme read",
				   "blocks are not text, and stdout is a terminal: name a "
				   "file, or redirect it");
	status = drive_open(&drive, arguments);
	if (status)
		return status;
	status = drive_namespace(&drive, arguments->nsid, DRIVE_TRANSFERS, &ns);
	if (!status)
		status = drive_range(&ns, arguments, &job.first, &job.blocks);
	job.next = job.first;
	if (!status)
		status = read_to(&job, &drive, &ns, name);
	if (!status)
		transfer_say(&job.transfer, arguments, "read", job.first, job.done);
	drive_close(&drive);
	return status;
}

const struct command nvme_read_command = {
	.name = "nvme read",
	.summary = "blocks to a file or pipe",
	.options = "nscv",
	.operands = "SPEC [FILE]",
	.least = 1,
	.most = 2,
	.help = "Blocks of a namespace to FILE, or to stdout (no FILE, or -).\n\n"
		"  -n, --namespace=NSID  the namespace; 1 when left out\n"
		"  -s, --start=BLOCK     the first block; 0 when left out\n"
		"  -c, --count=BLOCKS    how many; to the namespace's end when left out\n"
		"  -v, --verbose         say what was done, on stderr\n\n"
		"Blocks are of the namespace's size, which 'dmaland nvme identify' shows.\n"
		"More: man dmaland-nvme\n",
	.run = read_run,
};
