/* SPDX-License-Identifier: MIT */
#include "nvme_fake.h"

#define USER_DMA   0x100000000ull /* of the first half; the second lies 1 GiB above its place */
#define SECOND_GAP (1ull << 30)
#define POOL_DMA   0x900000000ull

struct fake fake;

static bool allocation_fails(void)
{
	return fake.fail_after >= 0 && fake.fail_after-- == 0;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
	return allocation_fails() ? NULL : __real_malloc(size);
}

void *__real_aligned_alloc(size_t align, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size)
{
	return allocation_fails() ? NULL : __real_aligned_alloc(align, size);
}

int dmaland_set_error(int code, const char *format, ...)
{
	(void)format;
	errno = code;
	return -code;
}

struct dma_pool *dma_pool_create(const char *name, struct dmaland_device *dev, size_t size,
				 size_t align, size_t boundary)
{
	struct dma_pool *pool;

	(void)dev;
	assert_int_equal(align, size);
	assert_int_equal(boundary, 0);
	if (allocation_fails()) {
		errno = ENOMEM;
		return NULL;
	}
	pool = &fake.pools[fake.pool_count];
	*pool = (struct dma_pool){.name = name, .size = size};
	pool->dma = POOL_DMA + fake.pool_count * (1ull << 32);
	pool->memory = __real_aligned_alloc(LARGEST_PAGE, BLOCKS * size);
	assert_non_null(pool->memory);
	fake.pool_count++;
	return pool;
}

void dma_pool_destroy(struct dma_pool *pool)
{
	if (!pool)
		return;
	assert_int_equal(pool->in_use, 0);
	free(pool->memory);
	pool->memory = NULL;
	fake.pool_count--;
}

/* Not the block that was freed last: neighbours in a request are not neighbours in memory. */
void *dma_pool_alloc(struct dma_pool *pool, gfp_t gfp, dma_addr_t *handle)
{
	size_t i;

	assert_int_equal(gfp, GFP_KERNEL);
	if (allocation_fails() || pool->in_use == BLOCKS) {
		errno = ENOMEM;
		return NULL;
	}
	pool->next = (pool->next + 7) % BLOCKS;
	for (i = pool->next; pool->out[i]; i = (i + 1) % BLOCKS)
		;
	pool->out[i] = true;
	if (++pool->in_use > pool->peak)
		pool->peak = pool->in_use;
	memset(pool->memory + i * pool->size, POISON, pool->size);
	*handle = pool->dma + i * pool->size;
	return pool->memory + i * pool->size;
}

void dma_pool_free(struct dma_pool *pool, void *vaddr, dma_addr_t handle)
{
	size_t i = ((char *)vaddr - pool->memory) / pool->size;

	assert_true((char *)vaddr == pool->memory + i * pool->size && i < BLOCKS);
	assert_true(handle == pool->dma + i * pool->size);
	assert_true(pool->out[i]);
	memset(vaddr, ~POISON, pool->size);
	pool->out[i] = false;
	pool->in_use--;
}

/* ---- limits and mappings ---- */

int dma_set_min_align_mask(struct dmaland_device *dev, unsigned int mask)
{
	(void)dev;
	fake.min_align = mask;
	return 0;
}

int dma_set_seg_boundary(struct dmaland_device *dev, unsigned long mask)
{
	(void)dev;
	assert_true(mask == ~0ul);
	return 0;
}

int dma_set_max_seg_size(struct dmaland_device *dev, unsigned int size)
{
	(void)dev;
	fake.max_seg = size;
	return 0;
}

size_t dma_max_mapping_size(struct dmaland_device *dev)
{
	(void)dev;
	return fake.max_mapping;
}

void sg_init_table(struct scatterlist *sg, unsigned int nents)
{
	memset(sg, 0, nents * sizeof(*sg));
	sg[nents - 1].flags = SG_LAST;
}

/* Inside one half of the DMA memory? */
static bool in_dma_memory(const char *address, size_t size)
{
	size_t at = address - fake.dma;

	return address >= fake.dma && at + size <= 2 * HALF && (at >= HALF || at + size <= HALF);
}

/* beside: the dma address that it shall have; 0: any. */
static void mapping_add(char *address, size_t size, enum dma_data_direction direction,
			dma_addr_t beside)
{
	struct fake_mapping *m = &fake.mappings[fake.live++];
	size_t at = address - fake.dma;

	assert_true(fake.live <= MAPPINGS);
	*m = (struct fake_mapping){address, address, size, beside, direction};
	if (in_dma_memory(address, size)) {
		m->dma = USER_DMA + at + (at < HALF ? 0 : SECOND_GAP);
		return;
	}
	if (fake.copies) {
		m->cpu = __real_malloc(size);
		memcpy(m->cpu, address, size);
	}
	if (!beside)
		m->dma = fake.next_dma + ((uintptr_t)address & fake.min_align);
	fake.next_dma = (m->dma + size + 2 * 65536) & ~65535ull;
}

static void mapping_end(dma_addr_t dma, size_t size, char *address,
			enum dma_data_direction direction, unsigned long attrs)
{
	struct fake_mapping *m = NULL;
	size_t i;

	for (i = 0; i < fake.live && !m; i++)
		if (fake.mappings[i].dma == dma && fake.mappings[i].size == size &&
		    fake.mappings[i].direction == direction &&
		    (!address || fake.mappings[i].original == address))
			m = &fake.mappings[i];
	if (!m)
		fail_msg("%zu bytes at %llx are not mapped so", size, (unsigned long long)dma);
	if (m->cpu != m->original) {
		if (direction != DMA_TO_DEVICE && !(attrs & DMA_ATTR_SKIP_CPU_SYNC))
			memcpy(m->original, m->cpu, size);
		free(m->cpu);
	}
	*m = fake.mappings[--fake.live];
}

static bool mapping_fails(void)
{
	fake.calls++;
	if (!allocation_fails() && !fake.map_errno)
		return false;
	errno = fake.map_errno ? fake.map_errno : ENOMEM;
	return true;
}

dma_addr_t dma_map_single_attrs(struct dmaland_device *dev, void *ptr, size_t size,
				enum dma_data_direction dir, unsigned long attrs)
{
	(void)dev;
	assert_int_equal(attrs, 0);
	assert_true(size > 0 && size <= fake.max_mapping);
	if (mapping_fails())
		return DMA_MAPPING_ERROR;
	mapping_add(ptr, size, dir, 0);
	return fake.mappings[fake.live - 1].dma;
}

void dma_unmap_single_attrs(struct dmaland_device *dev, dma_addr_t addr, size_t size,
			    enum dma_data_direction dir, unsigned long attrs)
{
	(void)dev;
	mapping_end(addr, size, NULL, dir, attrs);
}

/* Does an element go on where the last one, which is mapped, ends? */
static bool joins_last(const struct scatterlist *sg, const struct scatterlist *segment)
{
	const struct fake_mapping *last = &fake.mappings[fake.live - 1];
	uintptr_t end = (uintptr_t)last->original + last->size;

	return fake.joins && !((end | (uintptr_t)sg->address) & fake.min_align) &&
	       !in_dma_memory(last->original, 1) && !in_dma_memory(sg->address, 1) &&
	       segment->dma_length + (size_t)sg->length <= fake.max_seg;
}

int dma_map_sg_attrs(struct dmaland_device *dev, struct scatterlist *sg, int nents,
		     enum dma_data_direction dir, unsigned long attrs)
{
	struct scatterlist *segment = sg - 1;
	int i;

	(void)dev;
	assert_int_equal(attrs, 0);
	assert_true(nents > 0 && sg_is_last(&sg[nents - 1]));
	if (mapping_fails())
		return 0;
	for (i = 0; i < nents; i++) {
		bool joins = i > 0 && joins_last(&sg[i], segment);

		assert_true(sg[i].length > 0 && sg[i].length <= fake.max_seg);
		mapping_add(sg[i].address, sg[i].length, dir,
			    joins ? segment->dma_address + segment->dma_length : 0);
		if (!joins) {
			segment++;
			segment->dma_address = fake.mappings[fake.live - 1].dma;
			segment->dma_length = 0;
		}
		segment->dma_length += sg[i].length;
	}
	fake.segments = segment - sg + 1;
	return (int)fake.segments;
}

void dma_unmap_sg_attrs(struct dmaland_device *dev, struct scatterlist *sg, int nents,
			enum dma_data_direction dir, unsigned long attrs)
{
	struct scatterlist *segment = sg;
	size_t used = 0;
	int i;

	(void)dev;
	assert_true(sg_is_last(&sg[nents - 1]));
	for (i = 0; i < nents; i++) {
		mapping_end(segment->dma_address + used, sg[i].length, sg[i].address, dir, attrs);
		used += sg[i].length;
		if (used == segment->dma_length) {
			segment++;
			used = 0;
		}
	}
}

/* ---- the drive ---- */

/* Memory that the drive reaches at an address: what is mapped, or a block that a pool has handed out. */
static char *reach(dma_addr_t dma, size_t size, enum dma_data_direction direction)
{
	size_t i;

	for (i = 0; i < fake.live; i++) {
		const struct fake_mapping *m = &fake.mappings[i];

		if (dma >= m->dma && dma - m->dma + size <= m->size && m->direction == direction)
			return m->cpu + (dma - m->dma);
	}
	for (i = 0; i < fake.pool_count; i++) {
		struct dma_pool *pool = &fake.pools[i];
		size_t block = (dma - pool->dma) / pool->size;

		if (dma < pool->dma || block >= BLOCKS)
			continue;
		assert_true(pool->out[block]);
		assert_true(dma + size <= pool->dma + (block + 1) * pool->size);
		return pool->memory + (dma - pool->dma);
	}
	fail_msg("the drive can't reach %zu bytes at %llx", size, (unsigned long long)dma);
	return NULL;
}

static void move_data(const struct drive *drive, size_t done, dma_addr_t dma, size_t bytes)
{
	char *memory = reach(dma, bytes, drive->write ? DMA_TO_DEVICE : DMA_FROM_DEVICE);

	if (drive->write)
		memcpy(drive->stream + done, memory, bytes);
	else
		memcpy(memory, drive->stream + done, bytes);
}

static dma_addr_t read_entry(dma_addr_t at)
{
	uint64_t entry;

	memcpy(&entry, reach(at, sizeof(entry), DMA_NONE), sizeof(entry));
	return le64toh(entry);
}

/* The pages behind the first, by a list. Returns how many lists it has. */
static size_t walk_list(const struct drive *drive, dma_addr_t at, size_t done, size_t bytes)
{
	size_t mask = drive->page_size - 1, lists = 1;

	assert_int_equal(at & 7, 0);
	while (done < bytes) {
		size_t left = bytes - done;
		size_t piece = left < drive->page_size ? left : drive->page_size;
		dma_addr_t entry = read_entry(at);

		assert_true(entry != 0);
		assert_int_equal(entry & mask, 0);
		/* the last place of a page is a chain exactly when more than one page is left */
		if (((at + 8) & mask) == 0 && left > drive->page_size) {
			at = entry;
			lists++;
			continue;
		}
		move_data(drive, done, entry, piece);
		done += piece;
		at += 8;
	}
	return lists;
}

size_t drive_transfer(const struct drive *drive, const uint64_t prp[2], size_t bytes)
{
	size_t mask = drive->page_size - 1;
	dma_addr_t prp1 = le64toh(prp[0]), prp2 = le64toh(prp[1]);
	size_t first = drive->page_size - (prp1 & mask);

	assert_true(prp1 != 0);
	assert_int_equal(prp1 & 3, 0);
	if (bytes <= first) {
		move_data(drive, 0, prp1, bytes);
		assert_int_equal(prp2, 0);
		return 0;
	}
	move_data(drive, 0, prp1, first);
	assert_true(prp2 != 0);
	if (bytes - first > drive->page_size)
		return walk_list(drive, prp2, first, bytes);
	assert_int_equal(prp2 & mask, 0);
	move_data(drive, first, prp2, bytes - first);
	return 0;
}
