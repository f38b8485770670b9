/* SPDX-License-Identifier: MIT */
#include "mover.h"

#include <time.h>

#include <dmaland/soft.h>
#include "nvme_internal.h"
#include "edu.h"

static void wait_begin(struct timespec *begin)
{
	clock_gettime(CLOCK_MONOTONIC, begin);
}

static void wait_check(const struct timespec *begin)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (now.tv_sec - begin->tv_sec > patience(60))
		fail_msg("the device does not end what it does");
}

/* ---- edu: docs/specs/edu in QEMU ---- */

static int edu_start(struct mover *m)
{
	m->unit = 1;
	m->room = EDU_ROOM;
	m->vectors = m->vectors ? 1 : 0;
	return 0;
}

static void edu_transfer(struct mover *m, uint64_t from, uint64_t to, size_t size, uint32_t flags)
{
	struct timespec begin;

	writeq(from, m->bar + EDU_DMA_FROM);
	writeq(to, m->bar + EDU_DMA_TO);
	writeq(size, m->bar + EDU_DMA_COUNT);
	writel(EDU_START | flags, m->bar + EDU_DMA_COMMAND);
	wait_begin(&begin);
	while (readl(m->bar + EDU_DMA_COMMAND) & EDU_START)
		wait_check(&begin);
}

static void edu_reads(struct mover *m, dma_addr_t dma, size_t size)
{
	edu_transfer(m, dma, EDU_BUFFER, size, 0);
}

static void edu_writes(struct mover *m, dma_addr_t dma, size_t size)
{
	edu_transfer(m, EDU_BUFFER, dma, size, EDU_TO_MEMORY);
}

/* The register is read so that the interrupt is there when this returns. */
static void edu_interrupts(struct mover *m, unsigned int vector)
{
	(void)vector;
	writel(1, m->bar + EDU_RAISE);
	readl(m->bar);
}

static void edu_handled(struct mover *m, unsigned int vector)
{
	(void)vector;
	writel(1, m->bar + EDU_HANDLED);
}

/* A bit that is still there is an interrupt that is raised no second time. */
static void edu_stop(struct mover *m)
{
	edu_handled(m, 0);
}

static const struct mover_ops edu_ops = {edu_start,	 edu_reads,   edu_writes,
					 edu_interrupts, edu_handled, edu_stop};

/* ---- the engine of soft: ---- */

static int engine_start(struct mover *m)
{
	m->unit = 1;
	m->room = MOVER_SCRATCH;
	m->store = dma_alloc_coherent(m->dev, m->room, &m->store_dma, GFP_KERNEL);
	return m->store ? 0 : -1;
}

static void engine_copies(struct mover *m, dma_addr_t from, dma_addr_t to, size_t size)
{
	writeq(from, m->bar + DMALAND_SOFT_SOURCE);
	writeq(to, m->bar + DMALAND_SOFT_DESTINATION);
	writel((uint32_t)size, m->bar + DMALAND_SOFT_LENGTH);
	writel(DMALAND_SOFT_COPY, m->bar + DMALAND_SOFT_COMMAND);
}

static void engine_reads(struct mover *m, dma_addr_t dma, size_t size)
{
	engine_copies(m, dma, m->store_dma, size);
}

static void engine_writes(struct mover *m, dma_addr_t dma, size_t size)
{
	engine_copies(m, m->store_dma, dma, size);
}

static void engine_interrupts(struct mover *m, unsigned int vector)
{
	writel(vector + 1, m->bar + DMALAND_SOFT_INTERRUPT);
	engine_copies(m, m->store_dma, m->scratch_dma, 1);
	writel(0, m->bar + DMALAND_SOFT_INTERRUPT);
}

static void engine_handled(struct mover *m, unsigned int vector)
{
	(void)vector;
	writel(1, m->bar + DMALAND_SOFT_HANDLED);
}

static void engine_stop(struct mover *m)
{
	engine_handled(m, 0);
	dma_free_coherent(m->dev, m->room, m->store, m->store_dma);
}

static const struct mover_ops engine_ops = {engine_start,      engine_reads,   engine_writes,
					    engine_interrupts, engine_handled, engine_stop};

/* ---- a drive: one command at a time, on rings of a page (NVMe 2.0, 3.5.1, 5.4, 5.5) ---- */

enum { RING = 4096, RING_ENTRIES = 16, DRIVE_ROOM = 65536 };

static int ring_make(struct mover *m, struct mover_ring *ring, unsigned int id)
{
	ring->memory = dma_alloc_coherent(m->dev, 2 * RING, &ring->dma, GFP_KERNEL);
	ring->at = 0;
	ring->id = id;
	ring->phase = 1;
	return ring->memory ? 0 : -1;
}

/* The submission doorbell of a ring, and behind it that of its completions. */
static void drive_ring(struct mover *m, struct mover_ring *ring, unsigned int completions)
{
	size_t stride = nvme_cap_stride(readq(m->bar + NVME_REG_CAP));

	writel((ring->at + 1) % RING_ENTRIES,
	       m->bar + NVME_REG_DOORBELLS + (2 * ring->id + completions) * stride);
}

/* A command; the device is not told yet that its completion was seen. The status. */
static int drive_submit(struct mover *m, struct mover_ring *ring, struct nvme_command *command)
{
	struct nvme_command *sq = ring->memory;
	struct nvme_completion *cq = (void *)((char *)ring->memory + RING);
	struct timespec begin;
	uint16_t status;

	sq[ring->at] = *command;
	drive_ring(m, ring, 0);
	wait_begin(&begin);
	while (((status = le16toh(READ_ONCE(cq[ring->at].status))) & 1) != ring->phase)
		wait_check(&begin);
	return status >> 1 & 0x7ff;
}

static void drive_complete(struct mover *m, struct mover_ring *ring)
{
	drive_ring(m, ring, 1);
	ring->at = (ring->at + 1) % RING_ENTRIES;
	if (!ring->at)
		ring->phase ^= 1;
}

static int drive_command(struct mover *m, struct mover_ring *ring, struct nvme_command *command)
{
	int status = drive_submit(m, ring, command);

	drive_complete(m, ring);
	return status;
}

static void drive_enable(struct mover *m, uint32_t cc)
{
	struct timespec begin;

	writel(cc, m->bar + NVME_REG_CC);
	wait_begin(&begin);
	while ((readl(m->bar + NVME_REG_CSTS) & NVME_CSTS_RDY) != (cc & NVME_CC_EN))
		wait_check(&begin);
}

static int drive_make_io(struct mover *m)
{
	const uint32_t size_and_id = (RING_ENTRIES - 1) << 16 | 1;
	struct nvme_command create = {.opcode = NVME_ADMIN_CREATE_CQ,
				      .prp = {htole64(m->io.dma + RING)},
				      .cdw10 = htole32(size_and_id),
				      .cdw11 = htole32(m->vectors > 1 ? 1 << 16 | 3 : 1)};
	int status = drive_command(m, &m->admin, &create);

	create.opcode = NVME_ADMIN_CREATE_SQ;
	create.prp[0] = htole64(m->io.dma);
	create.cdw11 = htole32(1 << 16 | 1);
	return status ? status : drive_command(m, &m->admin, &create);
}

/* NVM 1.0, 4.1.5.1: FLBAS, and the LBA formats */
static int drive_block_size(struct mover *m)
{
	const unsigned char *ns = m->scratch;
	struct nvme_command identify = {.opcode = NVME_ADMIN_IDENTIFY,
					.nsid = htole32(1),
					.prp = {htole64(m->scratch_dma)},
					.cdw10 = htole32(NVME_IDENTIFY_NAMESPACE)};
	int status = drive_command(m, &m->admin, &identify);

	m->unit = (size_t)1 << ns[128 + 4 * (ns[26] & 15) + 2];
	return status;
}

/* Vector 0 is the administration's, 1 that of the other ring where there are two. */
static int drive_start(struct mover *m)
{
	m->room = DRIVE_ROOM;
	if (m->vectors > 2)
		m->vectors = 2;
	if (ring_make(m, &m->admin, 0) || ring_make(m, &m->io, 1))
		return -1;
	drive_enable(m, 0);
	writel((RING_ENTRIES - 1) << 16 | (RING_ENTRIES - 1), m->bar + NVME_REG_AQA);
	writeq(m->admin.dma, m->bar + NVME_REG_ASQ);
	writeq(m->admin.dma + RING, m->bar + NVME_REG_ACQ);
	drive_enable(m, NVME_CC_EN | NVME_CC_IOSQES | NVME_CC_IOCQES);
	return drive_make_io(m) || drive_block_size(m) ? -1 : 0;
}

/* At block 0, in commands whose data touch two pages at most. */
static void drive_transfer(struct mover *m, dma_addr_t dma, size_t size, uint8_t opcode)
{
	const size_t page = 4096;

	for (size_t done = 0, part; done < size; done += part) {
		size_t first = page - (size_t)((dma + done) & (page - 1));
		size_t most = (first + page) & ~(m->unit - 1);
		struct nvme_command command = {.opcode = opcode, .nsid = htole32(1)};

		part = size - done < most ? size - done : most;
		command.prp[0] = htole64(dma + done);
		command.prp[1] = part > first ? htole64(dma + done + first) : 0;
		command.cdw10 = htole32((uint32_t)(done / m->unit));
		command.cdw12 = htole32((uint32_t)(part / m->unit) - 1);
		drive_command(m, &m->io, &command);
	}
}

static void drive_reads(struct mover *m, dma_addr_t dma, size_t size)
{
	drive_transfer(m, dma, size, DMALAND_NVME_WRITE);
}

static void drive_writes(struct mover *m, dma_addr_t dma, size_t size)
{
	drive_transfer(m, dma, size, DMALAND_NVME_READ);
}

static void drive_interrupts(struct mover *m, unsigned int vector)
{
	struct nvme_command identify = {.opcode = NVME_ADMIN_IDENTIFY,
					.prp = {htole64(m->scratch_dma)},
					.cdw10 = htole32(NVME_IDENTIFY_CONTROLLER)};
	struct nvme_command flush = {.opcode = DMALAND_NVME_FLUSH, .nsid = htole32(1)};

	drive_submit(m, vector ? &m->io : &m->admin, vector ? &flush : &identify);
}

static void drive_handled(struct mover *m, unsigned int vector)
{
	drive_complete(m, vector ? &m->io : &m->admin);
}

static void drive_stop(struct mover *m)
{
	drive_enable(m, 0);
	dma_free_coherent(m->dev, 2 * RING, m->io.memory, m->io.dma);
	dma_free_coherent(m->dev, 2 * RING, m->admin.memory, m->admin.dma);
}

static const struct mover_ops drive_ops = {drive_start,	     drive_reads,   drive_writes,
					   drive_interrupts, drive_handled, drive_stop};

/* ---- any ---- */

static const struct mover_ops *ops_for(struct mover *m)
{
	struct dmaland_info info;
	uint32_t class = 0;

	dmaland_get_info(m->dev, &info);
	pci_read_config_dword(m->dev, 0x08, &class);
	m->bits = 64;
	if (info.vendor_id == DMALAND_SOFT_VENDOR && info.device_id == DMALAND_SOFT_DEVICE)
		return &engine_ops;
	if (class >> 8 == 0x010802)
		return &drive_ops;
	m->bits = 28;
	return info.vendor_id == 0x1234 && info.device_id == 0x11e8 ? &edu_ops : NULL;
}

bool mover_begin(struct mover *m, const char *spec, const struct dmaland_options *options)
{
	memset(m, 0, sizeof(*m));
	m->dev = dmaland_open(spec, options);
	if (!m->dev)
		fail_msg("%s", dmaland_last_error());
	m->ops = ops_for(m);
	if (!m->ops) {
		dmaland_close(m->dev);
		return false;
	}
	assert_int_equal(dma_set_mask_and_coherent(m->dev, DMA_BIT_MASK(m->bits)), 0);
	assert_int_equal(pci_enable_device(m->dev), 0);
	assert_int_equal(pci_set_master(m->dev), 0);
	m->bar = pci_iomap(m->dev, 0, 0);
	m->scratch = dma_alloc_coherent(m->dev, MOVER_SCRATCH, &m->scratch_dma, GFP_KERNEL);
	assert_true(m->bar && m->scratch);
	return true;
}

void mover_start(struct mover *m)
{
	if (m->ops->start(m))
		fail_msg("%s does not start: %s", dmaland_name(m->dev), dmaland_last_error());
}

void mover_stop(struct mover *m)
{
	m->ops->stop(m);
}

void mover_end(struct mover *m)
{
	dma_free_coherent(m->dev, MOVER_SCRATCH, m->scratch, m->scratch_dma);
	pci_iounmap(m->dev, m->bar);
	dmaland_close(m->dev);
}

bool mover_open(struct mover *m, const char *spec, const struct dmaland_options *options)
{
	if (!mover_begin(m, spec, options))
		return false;
	mover_start(m);
	return true;
}

void mover_close(struct mover *m)
{
	mover_stop(m);
	mover_end(m);
}

void mover_reads(struct mover *m, dma_addr_t dma, size_t size)
{
	assert_true(size <= m->room && size % m->unit == 0);
	m->ops->reads(m, dma, size);
}

void mover_writes(struct mover *m, dma_addr_t dma, size_t size)
{
	assert_true(size <= m->room && size % m->unit == 0);
	m->ops->writes(m, dma, size);
}

void mover_move(struct mover *m, dma_addr_t from, dma_addr_t to, size_t size)
{
	for (size_t done = 0, part; done < size; done += part) {
		part = size - done < m->room ? size - done : m->room;
		mover_reads(m, from + done, part);
		mover_writes(m, to + done, part);
	}
}

void mover_fill(struct mover *m, int byte, size_t size)
{
	memset(m->scratch, byte, size);
	mover_reads(m, m->scratch_dma, size);
}

const unsigned char *mover_holds(struct mover *m, size_t size)
{
	memset(m->scratch, 0, size);
	mover_writes(m, m->scratch_dma, size);
	return m->scratch;
}

uint32_t mappings_of(struct dmaland_device *dev)
{
	struct dmaland_info info;

	dmaland_get_info(dev, &info);
	return info.mappings;
}

bool all_are(const void *memory, size_t size, int byte)
{
	const unsigned char *bytes = memory;

	for (size_t i = 0; i < size; i++)
		if (bytes[i] != byte)
			return false;
	return true;
}
