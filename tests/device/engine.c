/* SPDX-License-Identifier: MIT */
#include "suite.h"
#include "engine.h"

#include <sys/mman.h>

#include "device/device.h"

void engine_open(struct engine *e, const char *spec, struct engine *share)
{
	const struct dmaland_options options = {.size = sizeof(options),
						.share_with = share ? share->dev : NULL};

	e->dev = dmaland_open(spec, &options);
	if (!e->dev)
		fail_msg("%s", dmaland_last_error());
	e->domain = e->dev->function->domain;
	assert_int_equal(dma_set_mask_and_coherent(e->dev, DMA_BIT_MASK(64)), 0);
	assert_int_equal(pci_enable_device(e->dev), 0);
	assert_int_equal(pci_set_master(e->dev), 0);
	e->bar = pci_iomap(e->dev, 0, 0);
	assert_non_null(e->bar);
}

void engine_close(struct engine *e)
{
	pci_iounmap(e->dev, e->bar);
	dmaland_close(e->dev);
}

uint32_t engine_copy(struct engine *e, dma_addr_t from, dma_addr_t to, uint32_t length)
{
	writeq(from, e->bar + DMALAND_SOFT_SOURCE);
	writeq(to, e->bar + DMALAND_SOFT_DESTINATION);
	writel(length, e->bar + DMALAND_SOFT_LENGTH);
	writel(DMALAND_SOFT_COPY, e->bar + DMALAND_SOFT_COMMAND);
	return readl(e->bar + DMALAND_SOFT_STATUS);
}

uint32_t engine_fill(struct engine *e, dma_addr_t to, uint32_t length, uint8_t byte)
{
	writel(byte, e->bar + DMALAND_SOFT_PATTERN);
	writeq(to, e->bar + DMALAND_SOFT_DESTINATION);
	writel(length, e->bar + DMALAND_SOFT_LENGTH);
	writel(DMALAND_SOFT_FILL, e->bar + DMALAND_SOFT_COMMAND);
	return readl(e->bar + DMALAND_SOFT_STATUS);
}

void engine_misbehave(struct engine *e, uint32_t mode, uint32_t count)
{
	writel(count, e->bar + DMALAND_SOFT_COUNT);
	writel(mode, e->bar + DMALAND_SOFT_MODE);
}

struct dmaland_soft_fault engine_fault(struct engine *e, size_t count)
{
	struct dmaland_soft_fault fault;

	memset(&fault, 0, sizeof(fault));
	assert_int_equal(dmaland_soft_faults(e->dev, &fault, 1), count);
	assert_int_equal(readl(e->bar + DMALAND_SOFT_FAULTS), count);
	return fault;
}

char *pages_new(size_t n)
{
	void *pages =
		mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(pages != MAP_FAILED);
	return pages;
}

void pages_free(char *pages, size_t n)
{
	assert_int_equal(munmap(pages, n * PAGE), 0);
}

dma_addr_t domain_take(struct domain *domain, size_t size)
{
	const struct iova_wish wish = {.size = size, .align = domain->granule, .last = UINT64_MAX};
	uint64_t dma = 0;

	pthread_mutex_lock(&domain->lock);
	assert_int_equal(iova_space_take(&domain->iova, &wish, &dma), 0);
	pthread_mutex_unlock(&domain->lock);
	return dma;
}

void domain_give(struct domain *domain, dma_addr_t dma, size_t size)
{
	pthread_mutex_lock(&domain->lock);
	iova_space_release(&domain->iova, dma, size);
	pthread_mutex_unlock(&domain->lock);
}

dma_addr_t domain_map(struct domain *domain, void *cpu, size_t size, unsigned int access)
{
	dma_addr_t dma = domain_take(domain, size + domain->granule);

	if (domain->ops->map(domain, dma, cpu, size, access))
		fail_msg("%s", dmaland_last_error());
	return dma;
}

void domain_unmap(struct domain *domain, dma_addr_t dma, size_t size)
{
	if (domain->ops->unmap(domain, dma, size, 1))
		fail_msg("%s", dmaland_last_error());
	domain_give(domain, dma, size + domain->granule);
}

struct fixture fx;

static int setup(const char *spec)
{
	engine_open(&fx.e, spec, NULL);
	fx.buffer = dma_alloc_coherent(fx.e.dev, BUFFER, &fx.buffer_dma, GFP_KERNEL);
	assert_non_null(fx.buffer);
	log_clear();
	return 0;
}

int engine_setup(void **state)
{
	(void)state;
	return setup(device_spec);
}

int engine_setup_coherent(void **state)
{
	(void)state;
	return setup("soft:engine,coherent=yes");
}

int engine_teardown(void **state)
{
	(void)state;
	dma_free_coherent(fx.e.dev, BUFFER, fx.buffer, fx.buffer_dma);
	log_clear();
	engine_close(&fx.e);
	assert_string_equal(log_text(), ""); /* nothing was leaked */
	return 0;
}

void sync_page(bool for_device)
{
	if (fx.e.domain->ops->sync)
		fx.e.domain->ops->sync(fx.e.domain, fx.page_dma, 2 * PAGE, for_device);
}

void map_page(unsigned int access)
{
	fx.page = pages_new(2);
	memset(fx.page, 0x11, 2 * PAGE);
	fx.page_dma = domain_map(fx.e.domain, fx.page, 2 * PAGE, access);
	sync_page(true);
}

void unmap_page(void)
{
	domain_unmap(fx.e.domain, fx.page_dma, 2 * PAGE);
	pages_free(fx.page, 2);
}

bool all_bytes_are(const void *memory, size_t size, int byte)
{
	const unsigned char *bytes = memory;

	for (size_t i = 0; i < size; i++)
		if (bytes[i] != byte)
			return false;
	return true;
}
