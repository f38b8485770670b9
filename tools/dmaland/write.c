/* SPDX-License-Identifier: MIT */
/*
 * write.c - `dmaland nvme write`: a file or pipe to blocks
 *
 * What can be known beforehand is refused beforehand: a file that is not a multiple of the block
 * size or does not fit leaves the drive as it was. Of a pipe this is known at its end only; what
 * was written by then is said.
 *
 * Of a file, whole pieces go to the drive from where they lie, in the page cache: the file is mapped
 * into memory, and that memory for the drive, request by request. So nobody copies them, and the
 * program never touches them, should the file shrink meanwhile. What the kernel won't pin, ends of
 * files, pipes, and everything where memory can't be mapped for the device, is read into buffers
 * that the drive reaches.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drive.h"
#include "progress.h"

/*
 * @begin:  where in the file we begin, where that can be known
 * @bytes:  from there to its end
 * @mapped: the file in memory up to its end, or NULL
 * @refused: it could not be given to the drive, and is read
 */
struct input {
	int fd;
	const char *name;
	bool sized;
	uint64_t begin, bytes;
	const char *mapped;
	bool refused;
};

/*
 * @most:    blocks that there is room for: --count, or to the namespace's end
 * @exact:   so many must come (--count)
 * @next:    the block that the next piece goes to
 * @written: blocks from @first on that the drive has confirmed
 */
struct job {
	struct transfer transfer;
	struct input input;
	uint64_t first, most, next, written;
	bool exact, pad;
	bool failed; /* a request did; the rest is not waited for */
};

static int input_open(struct input *input, const char *name)
{
	bool standard = strcmp(name, "-") == 0;
	uint64_t size = 0;
	struct stat stat;
	off_t at;

	input->name = standard ? "stdin" : name;
	input->fd = standard ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC);
	if (input->fd < 0 || fstat(input->fd, &stat))
		return fail("cannot open %s: %s", input->name, strerror(errno));
	if (S_ISDIR(stat.st_mode))
		return fail("%s is a directory", input->name);
	if (S_ISREG(stat.st_mode))
		size = (uint64_t)stat.st_size;
	else if (S_ISBLK(stat.st_mode) && ioctl(input->fd, BLKGETSIZE64, &size))
		size = 0;
	at = lseek(input->fd, 0, SEEK_CUR);
	/* files of /proc and their like have a size of 0 and yet something to read */
	input->sized = size > 0 && at >= 0;
	input->begin = input->sized ? (uint64_t)at : 0;
	input->bytes = input->sized && (uint64_t)at < size ? size - (uint64_t)at : 0;
	return STATUS_OK;
}

/*
 * Map the file, if pieces of it can be given to the drive untouched: where memory can be mapped for
 * the device at all, pieces are not so small that they are copied, and begin at a dword (NVMe 2.0,
 * 4.1.1).
 */
static void input_map(struct input *input, const struct transfer *transfer)
{
	void *mapped;

	if (!input->sized || input->bytes < transfer->slot_bytes || input->begin % 4 ||
	    !transfer_can_map(transfer))
		return;
	mapped = mmap(NULL, input->begin + input->bytes, PROT_READ, MAP_SHARED, input->fd, 0);
	if (mapped == MAP_FAILED)
		return;
	madvise(mapped, input->begin + input->bytes, MADV_SEQUENTIAL);
	input->mapped = mapped;
}

static void input_unmap(struct input *input)
{
	if (input->mapped)
		munmap((void *)(uintptr_t)input->mapped, input->begin + input->bytes);
}

static void input_close(struct input *input)
{
	if (input->fd > STDERR_FILENO)
		close(input->fd);
}

/* What is known of the input before anything is written. */
static int job_check(const struct job *job)
{
	const struct dmaland_nvme_namespace *ns = &job->transfer.ns;
	const struct input *input = &job->input;
	uint64_t blocks = input->bytes / ns->block_size, part = input->bytes % ns->block_size;

	if (!input->sized || (job->exact && blocks >= job->most))
		return STATUS_OK;
	if (part && !job->pad)
		return fail("%s has %llu bytes, not a multiple of the block size of %u; nothing "
			    "was written; --pad fills the last block with zeros",
			    input->name, (unsigned long long)input->bytes, ns->block_size);
	blocks += part > 0;
	if (job->exact && blocks < job->most)
		return fail("%s has %llu blocks, and %llu were asked; nothing was written",
			    input->name, (unsigned long long)blocks, (unsigned long long)job->most);
	if (blocks > job->most)
		return fail("%s has %llu blocks, and namespace %u has %llu from block %llu on; "
			    "nothing was written",
			    input->name, (unsigned long long)blocks, ns->nsid,
			    (unsigned long long)job->most, (unsigned long long)job->first);
	return STATUS_OK;
}

/* Wait for the oldest request. */
static int job_reap(struct job *job)
{
	struct transfer_slot *slot;
	int status = transfer_wait(&job->transfer, &slot);

	job->failed = status != STATUS_OK;
	if (status)
		return status;
	job->written += slot->blocks;
	transfer_release(&job->transfer);
	progress_update(job->written * job->transfer.ns.block_size);
	return STATUS_OK;
}

/* Wait for all that was submitted. */
static int job_drain(struct job *job)
{
	int status = STATUS_OK;

	while (!status && job->transfer.used)
		status = job_reap(job);
	return status;
}

/*
 * A whole piece of a file that is mapped goes to the drive as it lies. False: it is to be read, as
 * all that follows when the kernel refuses.
 */
static bool job_step_mapped(struct job *job, size_t bytes, bool *more)
{
	struct transfer *transfer = &job->transfer;
	struct input *input = &job->input;
	uint64_t done = (job->next - job->first) * transfer->ns.block_size;
	uint64_t at = input->begin + done;

	if (!input->mapped || input->refused || bytes < transfer->slot_bytes ||
	    input->bytes - done < bytes ||
	    lseek(input->fd, (off_t)(at + bytes), SEEK_SET) < 0) /* as reading it would */
		return false;
	if (transfer_submit_memory(transfer, DMALAND_NVME_WRITE,
				   (void *)(uintptr_t)(input->mapped + at), job->next,
				   transfer->slot_blocks)) {
		lseek(input->fd, (off_t)at, SEEK_SET);
		input->refused = true;
		return false;
	}
	job->next += transfer->slot_blocks;
	*more = job->next < job->first + job->most;
	return true;
}

/*
 * The next piece of the input goes to the drive. *part: bytes of a last block that is not whole.
 * *more: there may be another piece.
 */
static int job_step(struct job *job, size_t *part, bool *more)
{
	struct transfer *transfer = &job->transfer;
	uint32_t block_size = transfer->ns.block_size;
	uint64_t left = job->first + job->most - job->next, blocks;
	size_t want = transfer->slot_bytes, got;
	char *data = transfer_buffer(transfer);
	int status;

	if (left < transfer->slot_blocks)
		want = (size_t)left * block_size;
	if (job_step_mapped(job, want, more))
		return STATUS_OK;
	status = read_full(job->input.fd, job->input.name, data, want, &got);
	if (status)
		return status;
	*more = got == want && left * block_size > want;
	*part = got % block_size;
	blocks = got / block_size;
	if (*part && job->pad) {
		memset(data + got, 0, block_size - *part);
		*part = 0;
		blocks++;
	}
	if (blocks == 0)
		return STATUS_OK;
	status = transfer_submit(transfer, DMALAND_NVME_WRITE, job->next, blocks);
	if (!status)
		job->next += blocks;
	return status;
}

/* Is there input beyond the room? With --count it is not looked at. */
static int job_check_end(struct job *job)
{
	size_t got = 0;
	char byte;
	int status;

	if (job->exact && job->next < job->first + job->most)
		return fail("%s ended before the %llu blocks that were asked", job->input.name,
			    (unsigned long long)job->most);
	if (job->next < job->first + job->most) {
		if (!job->input.sized ||
		    (job->next - job->first) * job->transfer.ns.block_size >= job->input.bytes)
			return STATUS_OK;
		return fail("%s ended before the %llu bytes that it had", job->input.name,
			    (unsigned long long)job->input.bytes);
	}
	if (job->exact)
		return STATUS_OK;
	status = read_full(job->input.fd, job->input.name, &byte, 1, &got);
	if (!status && got)
		return fail("%s goes on, and namespace %u ends here", job->input.name,
			    job->transfer.ns.nsid);
	return status;
}

static int job_copy(struct job *job)
{
	bool more = true;
	size_t part = 0;
	int status;

	while (more) {
		while (!transfer_buffer(&job->transfer)) {
			status = job_reap(job);
			if (status)
				return status;
		}
		status = job_step(job, &part, &more);
		if (!status)
			status = signals_status();
		if (status)
			return status;
	}
	if (part)
		return fail("%s ended %zu bytes into a block of %u, which were not written; --pad "
			    "fills the last block with zeros",
			    job->input.name, part, job->transfer.ns.block_size);
	return job_check_end(job);
}

/* However it went: wait for what is under way, flush, and say what was written when not all was. */
static int job_finish(struct job *job, int status)
{
	if (!job->failed) {
		int drained = job_drain(job);

		status = status ? status : drained;
	}
	progress_end();
	if (job->written && dmaland_nvme_flush(job->transfer.queue, job->transfer.ns.nsid) &&
	    status != STATUS_FAILED)
		status = fail_library(NULL);
	if (status && job->next > job->first)
		fail("%s%llu blocks from block %llu on were written",
		     status > STATUS_SIGNAL ? "interrupted: " : "",
		     (unsigned long long)job->written, (unsigned long long)job->first);
	return status;
}

/* How much there is to write, where that is known. */
static uint64_t job_bytes(const struct job *job)
{
	uint64_t most = job->most * job->transfer.ns.block_size;

	if (job->exact || !job->input.sized)
		return job->exact ? most : 0;
	return job->input.bytes < most ? job->input.bytes : most;
}

/* Without a range it is the drive's beginning that is lost: its partitions, its filesystem. */
static int job_confirm(const struct job *job, const struct drive *drive,
		       const struct arguments *arguments)
{
	const struct dmaland_nvme_namespace *ns = &job->transfer.ns;
	uint64_t bytes = job_bytes(job);

	if (arguments_have(arguments, 's') || arguments_have(arguments, 'c'))
		return STATUS_OK;
	if (bytes == 0 || bytes > ns->blocks * ns->block_size)
		bytes = ns->blocks * ns->block_size;
	return confirm_loss(drive, arguments, "%s from the beginning of namespace %u%s",
			    size_text(bytes).text, ns->nsid,
			    job->input.sized ? "" : ", or as much as comes,");
}

static int write_from(struct drive *drive, const struct dmaland_nvme_namespace *ns, struct job *job,
		      const struct arguments *arguments)
{
	int status = transfer_begin(&job->transfer, drive, ns);

	if (status)
		return status;
	status = job_check(job);
	if (!status)
		status = job_confirm(job, drive, arguments);
	if (!status) {
		input_map(&job->input, &job->transfer);
		progress_begin("writing", job_bytes(job));
		status = job_finish(job, job_copy(job));
	}
	transfer_end(&job->transfer);
	input_unmap(&job->input);
	return status;
}

static int write_run(const struct arguments *arguments)
{
	const char *name = arguments->operand_count > 1 ? arguments->operands[1] : "-";
	struct job job = {.exact = arguments_have(arguments, 'c'),
			  .pad = arguments_have(arguments, 'P')};
	struct dmaland_nvme_namespace ns;
	struct drive drive;
	int status = input_open(&job.input, name);

	if (!status)
		status = drive_open(&drive, arguments);
	if (status) {
		input_close(&job.input);
		return status;
	}
	status = drive_namespace(&drive, arguments->nsid, DRIVE_TRANSFERS | DRIVE_WRITES, &ns);
	if (!status)
		status = drive_range(&ns, arguments, &job.first, &job.most);
	job.next = job.first;
	if (!status)
		status = write_from(&drive, &ns, &job, arguments);
	if (!status)
		transfer_say(&job.transfer, arguments, "wrote", job.first, job.written);
	drive_close(&drive);
	input_close(&job.input);
	return status;
}

const struct command nvme_write_command = {
	.name = "nvme write",
	.summary = "a file or pipe to blocks",
	.options = "nscyPv",
	.operands = "SPEC [FILE]",
	.least = 1,
	.most = 2,
	.help = "FILE, or stdin (no FILE, or -), to blocks of a namespace, and a flush at the\n"
		"end. What the blocks held is lost. Without --start and --count a person at a\n"
		"terminal is asked before that.\n\n"
		"  -n, --namespace=NSID  the namespace; 1 when left out\n"
		"  -s, --start=BLOCK     the first block; 0 when left out\n"
		"  -c, --count=BLOCKS    how many; all of the input when left out\n"
		"  -y, --yes             do not ask\n"
		"      --pad             fill the last block with zeros\n"
		"  -v, --verbose         say what was done, on stderr\n\n"
		"More: man dmaland-nvme\n",
	.run = write_run,
};
