/* SPDX-License-Identifier: MIT */
#include "streaming_stand.h"

#include <stdlib.h>

struct mover m;
bool moves;
unsigned char *memory, *model;
uint32_t mappings;
uint64_t bad_calls;

bool device_has_copies(void)
{
	return strstr(device_spec, "coherent=no");
}

struct dmaland_streaming_stats stats_now(void)
{
	struct dmaland_streaming_stats stats;

	dmaland_get_streaming_stats(m.dev, &stats);
	return stats;
}

static int begin(const struct dmaland_options *options)
{
	moves = mover_open(&m, device_spec, options);
	if (!moves)
		return 0;
	memory = aligned_alloc(4096, MOST + 2 * GUARD);
	model = malloc(MOST + 2 * GUARD);
	assert_true(memory && model);
	memset(memory, POISON, MOST + 2 * GUARD);
	mappings = mappings_of(m.dev);
	bad_calls = 0;
	log_clear();
	return 0;
}

int open_device(void **state)
{
	(void)state;
	return begin(NULL);
}

int open_lazy(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .lazy = true};

	(void)state;
	return begin(&options);
}

int open_without_syscalls(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .no_syscalls = true};

	(void)state;
	return begin(&options);
}

int open_copying_without_syscalls(void **state)
{
	const struct dmaland_options options = {
		.size = sizeof(options), .no_syscalls = true, .copy_below = 16384};

	(void)state;
	return begin(&options);
}

int open_copying(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .copy_below = MOST};

	(void)state;
	return begin(&options);
}

int open_mapping(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .copy_below = 1};

	(void)state;
	return begin(&options);
}

int open_untrusted(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options),
						.untrusted = !device_is_on("qemu")};

	(void)state;
	return begin(&options);
}

int open_debug(void **state)
{
	const struct dmaland_options options = {.size = sizeof(options), .dma_debug = true};

	(void)state;
	return begin(&options);
}

int close_device(void **state)
{
	struct dmaland_streaming_stats stats;

	(void)state;
	if (!moves)
		return 0;
	stats = stats_now();
	assert_int_equal(stats.live_bounced, 0);
	assert_int_equal(stats.live_mapped, 0);
	assert_int_equal(stats.bad_calls, bad_calls);
	dmaland_flush(m.dev);
	assert_int_equal(stats_now().waiting, 0);
	assert_string_equal(log_text(), "");
	mover_close(&m);
	assert_string_equal(log_text(), "");
	free(memory);
	free(model);
	return 0;
}

void need_mover(void)
{
	if (moves)
		return;
	print_message("# %s: a device that moves what it is told to cannot be had here\n",
		      device_spec);
	skip();
}

dma_addr_t map(void *ptr, size_t size, enum dma_data_direction direction)
{
	dma_addr_t dma = dma_map_single(m.dev, ptr, size, direction);

	if (dma_mapping_error(m.dev, dma))
		fail_msg("%zu bytes: %s", size, dmaland_last_error());
	assert_true(dma && dma + (size - 1) <= dma_get_mask(m.dev));
	return dma;
}

void random_fill(unsigned char *bytes, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)random_next(&seed);
}

void check_write(unsigned char *ptr, size_t size, enum dma_data_direction direction)
{
	dma_addr_t dma;

	random_fill(m.scratch, size, size);
	memcpy(model, m.scratch, size);
	dma = map(ptr, size, direction);
	mover_move(&m, m.scratch_dma, dma, size);
	dma_unmap_single(m.dev, dma, size, direction);
	assert_memory_equal(ptr, model, size);
	assert_true(all_are(ptr - GUARD / 2, GUARD / 2, POISON));
	assert_true(all_are(ptr + size, GUARD / 2, POISON));
	memset(ptr, POISON, size);
}

void check_read(unsigned char *ptr, size_t size, enum dma_data_direction direction)
{
	dma_addr_t dma;

	random_fill(ptr, size, size + 1);
	memset(m.scratch, 0, size);
	dma = map(ptr, size, direction);
	mover_move(&m, dma, m.scratch_dma, size);
	dma_unmap_single(m.dev, dma, size, direction);
	assert_memory_equal(ptr, m.scratch, size);
	memset(ptr, POISON, size);
}

size_t size_number(int i)
{
	static const size_t sizes[] = {512, 1024, 4096, 12288, 16384, 20480, MOVER_SCRATCH};
	size_t size = i < 7 ? sizes[i] : 0;

	return size && size < m.unit ? m.unit : size;
}
