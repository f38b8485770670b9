/* SPDX-License-Identifier: MIT */
/* drive_ours.c - libdmaland-nvme: polled, or by interrupts */
#include "drive.h"

#include <stdlib.h>

#include <dmaland/dmaland.h>
#include <dmaland/nvme.h>
#include "bench.h"

/* A request that was prepared for this memory, and for this way. */
struct prepared {
	struct dmaland_nvme_request request;
	struct iovec segment;
};

enum { PREPARED_KINDS = 4 }; /* of reads and writes, of two sizes */

struct ours {
	struct prepared *prepared; /* PREPARED_KINDS for each buffer; or NULL */
	struct dmaland_device *dev;
	struct dmaland_nvme *ctrl;
	struct dmaland_nvme_queue *queue;
	char *registered;
	uint32_t block_size;
	struct dmaland_nvme_request requests[DRIVE_DEPTH], *list[DRIVE_DEPTH];
	struct iovec segments[DRIVE_DEPTH];
};

static void ours_done(struct dmaland_nvme_request *request, int status)
{
	(void)request;
	if (status)
		bench_fail("a request failed: %s", dmaland_nvme_status_text(status));
}

static struct ours *ours_new(const char *spec, unsigned int flags)
{
	struct ours *ours = calloc(1, sizeof(*ours));
	struct dmaland_nvme_namespace ns;

	if (!ours)
		bench_fail("no memory");
	ours->dev = dmaland_open(spec, NULL);
	if (ours->dev)
		ours->ctrl = dmaland_nvme_open(ours->dev, NULL);
	if (ours->ctrl)
		ours->queue = dmaland_nvme_queue_create(ours->ctrl, DRIVE_DEPTH, flags);
	if (!ours->queue || dmaland_nvme_get_namespace(ours->ctrl, 1, &ns))
		bench_fail("%s", dmaland_last_error());
	ours->block_size = ns.block_size;
	for (size_t i = 0; i < DRIVE_DEPTH; i++) {
		ours->list[i] = &ours->requests[i];
		ours->requests[i] = (struct dmaland_nvme_request){.nsid = ns.nsid,
								  .iov = &ours->segments[i],
								  .iov_count = 1,
								  .done = ours_done};
	}
	return ours;
}

static void *ours_open_plain(const char *spec, char *buffers)
{
	(void)buffers;
	return ours_new(spec, 0);
}

static void *ours_open_registered(const char *spec, char *buffers, unsigned int flags)
{
	struct ours *ours = ours_new(spec, flags);

	if (dmaland_register(ours->dev, buffers, DRIVE_ALL_BYTES))
		bench_fail("%s", dmaland_last_error());
	ours->registered = buffers;
	return ours;
}

static void *ours_open(const char *spec, char *buffers)
{
	return ours_open_registered(spec, buffers, 0);
}

static void *ours_open_irq(const char *spec, char *buffers)
{
	return ours_open_registered(spec, buffers, DMALAND_NVME_QUEUE_IRQ);
}

/* Which buffers they are, and how they are used, is known. */
static void *ours_open_prepared(const char *spec, char *buffers)
{
	struct ours *ours = ours_open_registered(spec, buffers, 0);

	ours->prepared = calloc(DRIVE_DEPTH * PREPARED_KINDS, sizeof(*ours->prepared));
	if (!ours->prepared)
		bench_fail("no memory");
	for (size_t i = 0; i < DRIVE_DEPTH * PREPARED_KINDS; i++) {
		struct prepared *p = &ours->prepared[i];

		p->segment.iov_base = buffers + i / PREPARED_KINDS * DRIVE_IO_MAX;
		p->segment.iov_len = i & 1 ? DRIVE_IO_MAX : 4096;
		p->request = ours->requests[0];
		p->request.opcode = i & 2 ? DMALAND_NVME_WRITE : DMALAND_NVME_READ;
		p->request.blocks = p->segment.iov_len / ours->block_size;
		p->request.iov = &p->segment;
		if (dmaland_nvme_prepare(ours->ctrl, &p->request))
			bench_fail("%s", dmaland_last_error());
	}
	return ours;
}

static void ours_close(void *contestant)
{
	struct ours *ours = contestant;

	dmaland_nvme_close(ours->ctrl);
	free(ours->prepared);
	if (ours->registered)
		dmaland_unregister(ours->dev, ours->registered);
	dmaland_close(ours->dev);
	free(ours);
}

static void ours_submit(void *contestant, const struct drive_io *ios, unsigned int count)
{
	struct ours *ours = contestant;

	for (unsigned int i = 0; i < count; i++) {
		struct dmaland_nvme_request *request = &ours->requests[i];

		ours->segments[i].iov_base = ios[i].data;
		ours->segments[i].iov_len = ios[i].bytes;
		request->opcode = ios[i].write ? DMALAND_NVME_WRITE : DMALAND_NVME_READ;
		request->block = ios[i].offset / ours->block_size;
		request->blocks = ios[i].bytes / ours->block_size;
	}
	if (dmaland_nvme_submit_bulk(ours->queue, ours->list, count) != count)
		bench_fail("%s", dmaland_last_error());
}

static void ours_submit_prepared(void *contestant, const struct drive_io *ios, unsigned int count)
{
	struct ours *ours = contestant;

	for (unsigned int i = 0; i < count; i++) {
		unsigned int kind = (ios[i].bytes > 4096) + 2 * ios[i].write;

		ours->list[i] = &ours->prepared[i * PREPARED_KINDS + kind].request;
		ours->list[i]->block = ios[i].offset / ours->block_size;
	}
	if (dmaland_nvme_submit_bulk(ours->queue, ours->list, count) != count)
		bench_fail("%s", dmaland_last_error());
}

static unsigned int ours_reap(void *contestant, unsigned int count)
{
	struct ours *ours = contestant;

	(void)count;
	return dmaland_nvme_poll(ours->queue);
}

static unsigned int ours_sleep(void *contestant, unsigned int count)
{
	struct ours *ours = contestant;
	unsigned int done = 0;

	while (done < count) {
		if (dmaland_nvme_wait(ours->queue, -1) < 0)
			bench_fail("%s", dmaland_last_error());
		done += dmaland_nvme_poll(ours->queue);
	}
	return done;
}

const struct contestant drive_ours = {
	.row = "ours",
	.open = ours_open,
	.close = ours_close,
	.submit = ours_submit,
	.reap = ours_reap,
};

const struct contestant drive_ours_irq = {
	.row = "ours_irq",
	.sleeps = true,
	.open = ours_open_irq,
	.close = ours_close,
	.submit = ours_submit,
	.reap = ours_sleep,
};

const struct contestant drive_ours_prepared = {
	.row = "ours_prepared",
	.open = ours_open_prepared,
	.close = ours_close,
	.submit = ours_submit_prepared,
	.reap = ours_reap,
};

const struct contestant drive_ours_plain = {
	.row = "ours_plain",
	.open = ours_open_plain,
	.close = ours_close,
	.submit = ours_submit,
	.reap = ours_reap,
};
