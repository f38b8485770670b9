/* SPDX-License-Identifier: MIT */
/*
 * test_registered.c - which registration has which bytes, beside a model that notes it for each byte
 */
#include "test.h"

#include <errno.h>

#include "streaming_stand.h"

enum { PAGE = 4096, BYTES = 8 * PAGE, MOST = 600, STEPS = 20000 };

struct noted {
	size_t begin, length; /* 0: not in use */
	dma_addr_t dma;
};

static struct noted noted[MOST];
static uint16_t owner[BYTES]; /* the number of the registration that has the byte, and 1 */

static uint64_t random_state;

static size_t below(size_t n)
{
	return (size_t)random_below(&random_state, n);
}

/* Mostly a few bytes, so that many share a page; now and then some pages. */
static size_t some_length(void)
{
	size_t most = below(8) ? 64 : below(4) ? PAGE : 3 * PAGE;

	return 1 + below(most);
}

/* The number, and 1, of the one that has all of these bytes; 0: none has. */
static uint16_t owner_of_all(size_t begin, size_t length)
{
	for (size_t i = begin; i < begin + length; i++)
		if (owner[i] != owner[begin])
			return 0;
	return owner[begin];
}

static void note(size_t begin, size_t length, uint16_t what)
{
	for (size_t i = begin; i < begin + length; i++)
		owner[i] = what;
}

static void register_some(struct noted *n)
{
	size_t begin = below(BYTES), length = some_length();
	int err;

	if (begin + length > BYTES)
		return;
	err = streaming_register(s, memory + begin, length);
	for (size_t i = begin; i < begin + length; i++)
		if (owner[i]) {
			assert_int_equal(err, -EEXIST);
			return;
		}
	assert_int_equal(err, 0);
	*n = (struct noted){begin, length, 0};
	n->dma = streaming_map(s, memory + begin, 1, DMA_TO_DEVICE, 0);
	note(begin, length, (uint16_t)(n - noted + 1));
	streaming_unmap(s, n->dma, 1, DMA_TO_DEVICE, 0);
}

static void unregister(struct noted *n)
{
	if (n->length > 1)
		assert_int_equal(streaming_unregister(s, memory + n->begin + 1), -ENOENT);
	assert_int_equal(streaming_unregister(s, memory + n->begin), 0);
	note(n->begin, n->length, 0);
	n->length = 0;
}

static void map_some(void)
{
	size_t begin = below(BYTES), length = 1 + below(below(2) ? 16 : PAGE);
	uint64_t before = stats().translated_registered;
	uint16_t has;
	dma_addr_t dma;

	if (begin + length > BYTES)
		return;
	has = owner_of_all(begin, length);
	dma = streaming_map(s, memory + begin, length, DMA_TO_DEVICE, 0);
	assert_int_equal(stats().translated_registered - before, has != 0);
	if (has)
		assert_int_equal(dma, noted[has - 1].dma + (begin - noted[has - 1].begin));
	streaming_unmap(s, dma, length, DMA_TO_DEVICE, 0);
}

/* *state: is it in debug mode? */
static void registrations_that_share_pages_are_told_apart(void **state)
{
	const bool *debug = *state;

	open_kind(FAKE_MAPS, (struct streaming_options){.debug = *debug});
	random_state = 18;
	for (size_t i = 0; i < STEPS; i++) {
		struct noted *n = &noted[below(MOST)];

		if (below(2))
			map_some();
		else if (n->length)
			unregister(n);
		else
			register_some(n);
	}
	if (*debug)
		assert_int_equal(streaming_check(s), 0);
	for (size_t i = 0; i < MOST; i++)
		if (noted[i].length)
			unregister(&noted[i]);
	assert_int_equal(place.fake.mapped_count, 0);
	close_quietly();
}

int main(void)
{
	bool kinds[] = {false, true};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(registrations_that_share_pages_are_told_apart, &kinds[0]),
		cmocka_unit_test_prestate(registrations_that_share_pages_are_told_apart, &kinds[1]),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
