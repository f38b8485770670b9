/* SPDX-License-Identifier: MIT */
/*
 * demo.c - what ./run demo shows, as a program that uses the library like any other
 *
 *   demo scatter SPEC FILE COPY   write FILE to the drive from scattered, unaligned buffers, read it
 *                                 back into others, and store what came back in COPY
 *   demo lists SPEC               1,024 reads of 64 KiB in flight: what their PRP lists cost
 *
 * Buffers lie partly in DMA memory and partly in the program's own, at odd addresses and in odd
 * lengths; where the one and where the other changes between writing and reading.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dmaland/dmaland.h>
#include <dmaland/nvme.h>

static struct dmaland_device *dev;
static struct dmaland_nvme *ctrl;
static struct dmaland_nvme_queue *queue;
static struct dmaland_nvme_namespace ns;

static int fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "demo: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	return 1;
}

static int drive_open(const char *spec, unsigned int depth)
{
	/* QEMU's drive takes SGLs, which need fewer lists; lists are what this is about */
	const struct dmaland_nvme_options options = {.size = sizeof(options), .no_sgls = true};

	dev = dmaland_open(spec, NULL);
	ctrl = dev ? dmaland_nvme_open(dev, &options) : NULL;
	queue = ctrl ? dmaland_nvme_queue_create(ctrl, depth, 0) : NULL;
	if (!queue || dmaland_nvme_get_namespace(ctrl, 1, &ns))
		return fail("%s", dmaland_last_error());
	return 0;
}

static void drive_close(void)
{
	dmaland_nvme_close(ctrl);
	dmaland_close(dev);
}

/* ---- scatter ---- */

enum { PIECE_MAX = 150000, REQUEST_BYTES = 1 << 20 };

static uint64_t seed = 20260101;

static size_t random_below(size_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (size_t)(seed % n);
}

/* Places for `bytes` bytes: pieces of odd length at odd addresses of two buffers. */
struct pieces {
	struct iovec iov[1024];
	int count;
};

static void pieces_cut(struct pieces *p, size_t bytes, char *dma, char *own)
{
	size_t dma_at = 0, own_at = 0;

	p->count = 0;
	while (bytes) {
		size_t length = 1 + random_below(PIECE_MAX);
		size_t *at = random_below(2) ? &dma_at : &own_at;

		if (length > bytes || p->count == 1023)
			length = bytes;
		*at += 1 + random_below(5000);
		p->iov[p->count++] = (struct iovec){(at == &dma_at ? dma : own) + *at, length};
		*at += length;
		bytes -= length;
	}
}

static void on_done(struct dmaland_nvme_request *request, int status)
{
	*(int *)request->context = status;
}

static int transfer(uint8_t opcode, uint64_t block, size_t bytes, const struct pieces *p)
{
	int status = 1 << 30; /* no status has this value */
	struct dmaland_nvme_request request = {
		.opcode = opcode,
		.nsid = 1,
		.block = block,
		.blocks = bytes / ns.block_size,
		.iov = p->iov,
		.iov_count = p->count,
		.done = on_done,
		.context = &status,
	};

	if (dmaland_nvme_submit(queue, &request))
		return fail("%s", dmaland_last_error());
	while (status == 1 << 30)
		dmaland_nvme_poll(queue);
	return status ? fail("%s", dmaland_nvme_status_text(status)) : 0;
}

static int copy_through_drive(FILE *from, FILE *to, char *dma, char *own)
{
	static struct pieces out, in;
	unsigned long long total = 0;
	int pieces = 0;
	size_t n;

	do {
		size_t bytes, at = 0;
		uint64_t block = total / ns.block_size;

		/* The last bytes of the file fill a block that may be longer than they are. */
		pieces_cut(&out, REQUEST_BYTES, dma, own);
		for (int i = 0; i < out.count; at += out.iov[i++].iov_len) {
			size_t length = out.iov[i].iov_len;
			size_t got = fread(out.iov[i].iov_base, 1, length, from);

			n = at + got;
			if (got < length)
				break;
		}
		if (n == 0)
			break;
		if (block + REQUEST_BYTES / ns.block_size > ns.blocks)
			return fail("the file is larger than the drive");
		if (transfer(DMALAND_NVME_WRITE, block, REQUEST_BYTES, &out))
			return 1;
		memset(dma, 0, 4 * REQUEST_BYTES);
		memset(own, 0, 4 * REQUEST_BYTES);
		pieces_cut(&in, REQUEST_BYTES, dma, own);
		if (transfer(DMALAND_NVME_READ, block, REQUEST_BYTES, &in))
			return 1;
		bytes = n;
		for (int i = 0; i < in.count && bytes; i++) {
			size_t length = in.iov[i].iov_len < bytes ? in.iov[i].iov_len : bytes;

			if (fwrite(in.iov[i].iov_base, 1, length, to) != length)
				return fail("cannot store what was read back");
			bytes -= length;
		}
		total += n;
		pieces += out.count;
	} while (n == REQUEST_BYTES);
	if (dmaland_nvme_flush(queue, 1))
		return fail("%s", dmaland_last_error());
	printf("%.1f MiB from %d scattered, unaligned buffers\n", (double)total / (1 << 20),
	       pieces);
	return 0;
}

static int scatter(const char *spec, const char *path, const char *copy)
{
	size_t bytes = 8 * REQUEST_BYTES;
	FILE *from = fopen(path, "rb"), *to = fopen(copy, "wb");
	dma_addr_t handle;
	char *dma, *own;
	int err;

	if (!from || !to)
		return fail("cannot open %s", from ? copy : path);
	if (drive_open(spec, 0))
		return 1;
	dma = dma_alloc_coherent(dev, bytes, &handle, GFP_KERNEL);
	own = malloc(bytes);
	if (!dma || !own)
		return fail("%s", dma ? "no memory" : dmaland_last_error());
	err = copy_through_drive(from, to, dma, own);
	fclose(from);
	if (fclose(to) && !err)
		err = fail("cannot store what was read back");
	dma_free_coherent(dev, bytes, dma, handle);
	free(own);
	drive_close();
	return err;
}

/* ---- lists ---- */

enum { READS = 1024, READ_BYTES = 65536 };

static unsigned int reads_done, reads_failed;

static void on_read(struct dmaland_nvme_request *request, int status)
{
	(void)request;
	reads_done++;
	reads_failed += status != 0;
}

/* Content that tells block from block. */
static void pattern(uint64_t *words, size_t bytes, uint64_t block)
{
	for (size_t i = 0; i < bytes / 8; i++)
		words[i] = (block * READ_BYTES + i) * UINT64_C(0x9e3779b97f4a7c15);
}

static size_t pages_of_lists(void)
{
	struct dmaland_pool_stats stats[8];
	size_t n = dmaland_get_pools(dev, stats, 8), pages = 0;

	printf("   %-16s %7s %6s %5s %6s\n", "NAME", "IN USE", "TOTAL", "SIZE", "PAGES");
	for (size_t i = 0; i < n; i++) {
		if (strncmp(stats[i].name, "prp list", 8) != 0)
			continue;
		printf("   %-16s %7zu %6zu %5zu %6zu\n", stats[i].name, stats[i].in_use,
		       stats[i].total, stats[i].block_size, stats[i].pages);
		pages += stats[i].pages;
	}
	return pages;
}

static int read_all(char *memory)
{
	static struct dmaland_nvme_request requests[READS];
	static struct iovec iov[READS];
	static uint64_t expected[READ_BYTES / 8];
	unsigned int per_read = READ_BYTES / ns.block_size;
	size_t pages;

	for (unsigned int i = 0; i < READS; i++) {
		char *place = memory + (size_t)i * READ_BYTES;

		pattern((uint64_t *)(void *)place, READ_BYTES, i);
		if (dmaland_nvme_write(queue, 1, (uint64_t)i * per_read, per_read, place))
			return fail("%s", dmaland_last_error());
	}
	memset(memory, 0, (size_t)READS * READ_BYTES);
	for (unsigned int i = 0; i < READS; i++) {
		iov[i] = (struct iovec){memory + (size_t)i * READ_BYTES, READ_BYTES};
		requests[i] = (struct dmaland_nvme_request){
			.opcode = DMALAND_NVME_READ,
			.nsid = 1,
			.block = (uint64_t)i * per_read,
			.blocks = per_read,
			.iov = &iov[i],
			.iov_count = 1,
			.done = on_read,
		};
		if (dmaland_nvme_submit(queue, &requests[i]))
			return fail("%s", dmaland_last_error());
	}
	pages = pages_of_lists();
	while (reads_done < READS)
		dmaland_nvme_poll(queue);
	if (reads_failed)
		return fail("%u of %d reads failed", reads_failed, READS);
	for (unsigned int i = 0; i < READS; i++) {
		pattern(expected, READ_BYTES, i);
		if (memcmp(memory + (size_t)i * READ_BYTES, expected, READ_BYTES))
			return fail("read %u brought other data than was written", i);
	}
	printf("   PRP lists: %zu pages hold %d requests of 64 KiB (a page each would be %d)\n",
	       pages, READS, READS);
	printf("   all %d reaped, all data as written\n", READS);
	return 0;
}

static int lists(const char *spec)
{
	dma_addr_t handle;
	char *memory;
	int err;

	if (drive_open(spec, READS))
		return 1;
	if ((uint64_t)READS * READ_BYTES / ns.block_size > ns.blocks)
		return fail("the drive is smaller than %d MiB", READS * (READ_BYTES >> 10) >> 10);
	memory = dma_alloc_coherent(dev, (size_t)READS * READ_BYTES, &handle, GFP_KERNEL);
	if (!memory)
		return fail("%s", dmaland_last_error());
	err = read_all(memory);
	dma_free_coherent(dev, (size_t)READS * READ_BYTES, memory, handle);
	drive_close();
	return err;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "scatter") == 0)
		return scatter(argv[2], argv[3], argv[4]);
	if (argc == 3 && strcmp(argv[1], "lists") == 0)
		return lists(argv[2]);
	fprintf(stderr, "usage: demo scatter SPEC FILE COPY | demo lists SPEC\n");
	return 2;
}
