/* SPDX-License-Identifier: MIT */
/*
 * test_debug_mappings.c - debug mode knows which translated mappings are live, beside a model that asks each of them
 */
#include "test.h"

#include "streaming_stand.h"

enum { MOST = 2000, STEPS = 40000 };

struct noted {
	dma_addr_t dma;
	size_t size; /* 0: not in use */
	enum dma_data_direction direction;
};

static struct noted noted[MOST];
static uint64_t random_state;

static bool no_memory; /* for much at once */

void *__wrap_calloc(size_t n, size_t size);
void *__real_calloc(size_t n, size_t size);

void *__wrap_calloc(size_t n, size_t size)
{
	return no_memory && size > 500000 ? NULL : __real_calloc(n, size);
}

static size_t below(size_t n)
{
	return (size_t)random_below(&random_state, n);
}

/* From bytes to all of it, small ones mostly; one begins as others do now and then. */
static struct noted some_mapping(void)
{
	struct noted n = {0, 1 + below((size_t)1 << below(20)), (enum dma_data_direction)below(3)};

	n.dma = below(sizeof(memory) - n.size + 1) & ~(below(2) ? UINT64_C(63) : UINT64_C(0));
	return n;
}

static void map(struct noted *n, dma_addr_t base)
{
	*n = some_mapping();
	assert_int_equal(streaming_map(s, memory + n->dma, n->size, n->direction, 0),
			 base + n->dma);
	n->dma += base;
}

static bool any_is(const struct noted *claim)
{
	for (size_t i = 0; i < MOST; i++)
		if (noted[i].size == claim->size && noted[i].dma == claim->dma &&
		    noted[i].direction == claim->direction)
			return true;
	return false;
}

static bool any_has(const struct noted *part)
{
	for (size_t i = 0; i < MOST; i++)
		if (part->dma >= noted[i].dma && part->dma - noted[i].dma < noted[i].size &&
		    part->size <= noted[i].size - (part->dma - noted[i].dma) &&
		    (noted[i].direction == DMA_BIDIRECTIONAL ||
		     noted[i].direction == part->direction))
			return true;
	return false;
}

/* Something that is wrong in one thing, or by chance is not. */
static void end_wrongly(const struct noted *n)
{
	struct noted claim = *n;
	uint64_t before = stats().bad_calls;

	switch (below(3)) {
	case 0:
		claim.size = 1 + below(2 * n->size);
		break;
	case 1:
		claim.direction = (enum dma_data_direction)below(3);
		break;
	default:
		claim.dma += below(n->size);
		claim.size = n->size;
		break;
	}
	if (any_is(&claim))
		return;
	streaming_unmap(s, claim.dma, claim.size, claim.direction, 0);
	assert_int_equal(stats().bad_calls, before + 1);
}

static void sync_some(const struct noted *n)
{
	struct noted part = *n;
	uint64_t before = stats().bad_calls;

	part.dma += below(n->size);
	part.size = 1 + below(n->size);
	part.direction = (enum dma_data_direction)below(3);
	streaming_sync(s, part.dma, part.size, part.direction, false);
	assert_int_equal(stats().bad_calls - before, !any_has(&part));
}

static void live_mappings_are_known_whatever_their_size(void **state)
{
	size_t live = 0;
	dma_addr_t base;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){.debug = true});
	random_state = 18;
	assert_int_equal(streaming_register(s, memory, sizeof(memory)), 0);
	base = streaming_map(s, memory, 1, DMA_TO_DEVICE, 0);
	streaming_unmap(s, base, 1, DMA_TO_DEVICE, 0);
	for (size_t i = 0; i < STEPS; i++) {
		struct noted *n = &noted[below(MOST)];

		if (!n->size) {
			map(n, base);
			live++;
		} else if (below(2)) {
			sync_some(n);
		} else if (below(2)) {
			end_wrongly(n);
		} else {
			streaming_unmap(s, n->dma, n->size, n->direction, 0);
			n->size = 0;
			live--;
		}
		assert_int_equal(streaming_live(s), live);
		log_clear();
	}
	for (size_t i = 0; i < MOST; i++)
		if (noted[i].size)
			streaming_unmap(s, noted[i].dma, noted[i].size, noted[i].direction, 0);
	assert_int_equal(streaming_unregister(s, memory), 0);
	close_quietly();
}

static void a_device_without_memory_for_them_is_not_opened(void **state)
{
	(void)state;
	no_memory = true;
	assert_null(dmaland_open("soft:", NULL));
	no_memory = false;
	assert_error_says("no memory for a device's mappings");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(live_mappings_are_known_whatever_their_size),
		cmocka_unit_test(a_device_without_memory_for_them_is_not_opened),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
