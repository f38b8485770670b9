/* SPDX-License-Identifier: MIT */
/*
 * fuzz_streaming.c - a caller who gets everything wrong, for libFuzzer
 *
 * The input's bytes choose calls and what is passed: handles that are live, over, shifted or
 * invented; sizes, directions and lists that match or don't. Only memory that is copied is real,
 * as memcpy() wants it. Whatever was called, what is unmapped as it was mapped at the end leaves
 * nothing behind, and the fake domain ends the program when one of its own rules is broken.
 */
#include "test.h"

#include <stdlib.h>

#include "fake_domain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { AREA = 1 << 18, HELD = 16, ELEMENTS = 5 };

struct input {
	const uint8_t *data;
	size_t size;
};

struct held {
	dma_addr_t dma;
	size_t size;
	enum dma_data_direction dir;
	int nents; /* 0: a single mapping */
	struct scatterlist sg[ELEMENTS];
};

static struct fake_place place;
static struct streaming *const s = &place.streaming;
static char area[AREA] __attribute__((aligned(4096)));

/* The next n bytes as a number; 0 when there are none. */
static uint64_t take(struct input *in, size_t n)
{
	uint64_t value = 0;

	while (n-- && in->size) {
		value = value << 8 | *in->data++;
		in->size--;
	}
	return value;
}

static char *take_range(struct input *in, size_t *size)
{
	size_t at = take(in, 3) % AREA;

	*size = take(in, 3) % (AREA - at) + 1;
	return area + at;
}

static void map_single(struct input *in, struct held *held)
{
	unsigned long attrs = take(in, 1) < 200 ? 0 : 1ul << take(in, 1) % 64;
	enum dma_data_direction dir = (enum dma_data_direction)(take(in, 1) % 4);
	size_t size;
	char *ptr = take_range(in, &size);

	if (take(in, 1) == 0)
		ptr = NULL;
	*held = (struct held){.size = size, .dir = dir};
	held->dma = streaming_map(s, ptr, size, dir, attrs);
	if (held->dma == DMA_MAPPING_ERROR)
		held->size = 0;
}

static void map_list(struct input *in, struct held *held)
{
	int n = (int)(take(in, 1) % ELEMENTS) + 1;

	*held = (struct held){.dir = (enum dma_data_direction)(take(in, 1) % 3)};
	sg_init_table(held->sg, (unsigned int)n);
	for (int i = 0; i < n; i++) {
		size_t size;
		char *ptr = take_range(in, &size);

		if (i && take(in, 1) < 128 && sg_virt(&held->sg[i - 1]))
			ptr = (char *)sg_virt(&held->sg[i - 1]) + held->sg[i - 1].length;
		if (ptr + size > area + AREA)
			size = (size_t)(area + AREA - ptr);
		sg_set_buf(&held->sg[i], ptr, (unsigned int)size);
	}
	if (streaming_map_sg(s, held->sg, n, held->dir, 0) > 0)
		held->nents = n;
}

/* A handle, a size, a direction: nearly right, or not at all. */
static void wrong_call(struct input *in, const struct held *held)
{
	dma_addr_t dma = held->nents ? held->sg[0].dma_address : held->dma;
	size_t size = held->size + (int8_t)take(in, 1);
	unsigned int dir = (unsigned int)take(in, 1);
	struct scatterlist sg[ELEMENTS];

	if (take(in, 1) < 64)
		dma = take(in, 8);
	dma += (uint64_t)(int64_t)(int16_t)take(in, 2);
	memcpy(sg, held->sg, sizeof(sg));
	sg[take(in, 1) % ELEMENTS].dma_length += (unsigned int)take(in, 1);
	sg[take(in, 1) % ELEMENTS].length ^= (unsigned int)take(in, 1);
	switch (take(in, 1) % 4) {
	case 0:
		if (dma != held->dma || size != held->size || dir != held->dir)
			streaming_unmap(s, dma, size, dir, 0);
		break;
	case 1:
		streaming_sync(s, dma, size, dir, take(in, 1) & 1);
		break;
	case 2:
		streaming_need_sync(s, dma);
		streaming_sync_sg(s, sg, held->nents, dir, take(in, 1) & 1);
		break;
	default:
		if (held->nents && (int)dir != held->nents)
			streaming_unmap_sg(s, sg,
					   (int)(dir % (ELEMENTS + 1)) == held->nents
						   ? 0
						   : (int)(dir % (ELEMENTS + 1)),
					   held->dir, 0);
		break;
	}
}

static void unmap(struct held *held)
{
	if (held->nents)
		streaming_unmap_sg(s, held->sg, held->nents, held->dir, 0);
	else if (held->size)
		streaming_unmap(s, held->dma, held->size, held->dir, 0);
	*held = (struct held){0};
}

static void one_call(struct input *in, struct held *all)
{
	struct held *held = &all[take(in, 1) % HELD];
	size_t size;
	char *ptr;

	switch (take(in, 1) % 8) {
	case 0:
		ptr = take_range(in, &size);
		streaming_register(s, ptr, size);
		break;
	case 1: /* what lies in registered memory must be over, or its list is left as it is */
		for (size_t i = 0; i < HELD; i++)
			unmap(&all[i]);
		streaming_unregister(s, area + take(in, 3) % AREA);
		break;
	case 2:
		streaming_flush(s);
		break;
	case 3:
	case 4:
		wrong_call(in, held);
		break;
	case 5:
		unmap(held);
		break;
	case 6:
		unmap(held);
		map_list(in, held);
		break;
	default:
		unmap(held);
		map_single(in, held);
		break;
	}
}

static void drop(void *context, enum dmaland_log_level level, const char *line)
{
	(void)context;
	(void)level;
	if (getenv("FUZZ_LOG"))
		fprintf(stderr, "%s\n", line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	static struct held all[HELD];
	uint8_t how = (uint8_t)take(&in, 1);
	const struct streaming_options options = {
		.untrusted = how % 4 == 3 && how / 4 % 3,
		.lazy = how % 4 == 2,
		.lazy_count = 8,
	};

	dmaland_set_log(drop, NULL);
	fake_streaming_open(&place, (enum fake_kind)(how / 4 % 3), &options);
	streaming_set_min_align(s, how & 0x80 ? 4095 : 0);
	streaming_set_boundary(s, how & 0x40 ? 65535 : DMA_BIT_MASK(32));
	place.limits.max_seg_size = AREA;
	while (in.size)
		one_call(&in, all);
	for (size_t i = 0; i < HELD; i++)
		unmap(&all[i]);
	if (getenv("FUZZ_LOG"))
		fprintf(stderr, "live %llu\n", (unsigned long long)streaming_live(s));
	if (streaming_live(s))
		abort();
	fake_streaming_close(&place);
	return 0;
}
