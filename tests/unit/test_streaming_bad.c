/* SPDX-License-Identifier: MIT */
/*
 * test_streaming_bad.c - calls that can't be right: said in words, and nothing changed
 */
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory/coherent.h"
#include "streaming_stand.h"

enum { PAGE = 4096 };

/* The log has just this, and the mapping works as before. */
static void expect_dropped(const char *words, dma_addr_t dma, size_t size, size_t bad_calls)
{
	char byte = 0x33;

	assert_logged(words);
	log_clear();
	assert_int_equal(streaming_live(s), 1);
	assert_int_equal(stats().bad_calls, bad_calls);
	assert_true(fake_device_write(&place, dma + size - 1, &byte, 1));
}

/* A bounced mapping and a mapped one, of sizes and ways that the checks are the same for. */
struct subject {
	enum fake_kind kind;
	struct streaming_options options;
	size_t offset, size;
};

static const struct subject subjects[] = {
	{FAKE_PLAIN, {0}, 0, 100},
	{FAKE_PLAIN, {0}, 5, 60000},
	{FAKE_MAPS, {0}, 0, 100},
	{FAKE_MAPS, {0}, 5, 60000},
	{FAKE_MAPS, {.lazy = true}, 5, 60000},
	{FAKE_MAPS, {.untrusted = true}, 5, 6000},
	{FAKE_SHADOW, {0}, 5, 60000},
};

enum { SUBJECTS = sizeof(subjects) / sizeof(subjects[0]) };

static void an_unmap_that_does_not_match_is_reported_and_dropped(void **state)
{
	(void)state;
	for (size_t i = 0; i < SUBJECTS; i++) {
		size_t size = subjects[i].size;
		struct scatterlist sg;
		dma_addr_t dma;

		open_kind(subjects[i].kind, subjects[i].options);
		dma = streaming_map(s, memory + subjects[i].offset, size, DMA_FROM_DEVICE, 0);
		assert_true(dma != DMA_MAPPING_ERROR);

		streaming_unmap(s, dma, size - 1, DMA_FROM_DEVICE, 0);
		expect_dropped("frees DMA memory with different size", dma, size, 1);
		streaming_unmap(s, dma, size + 1, DMA_FROM_DEVICE, 0);
		expect_dropped("frees DMA memory with different size", dma, size, 2);
		streaming_unmap(s, dma, size + ((size_t)1 << 48), DMA_FROM_DEVICE, 0);
		expect_dropped("frees DMA memory with different size", dma, size, 3);
		streaming_unmap(s, dma, size, DMA_BIDIRECTIONAL, 0);
		expect_dropped("mapped with DMA_FROM_DEVICE] [unmapped with DMA_BIDIRECTIONAL", dma,
			       size, 4);
		streaming_unmap(s, dma, size, 7, 0);
		expect_dropped("different direction", dma, size, 5);
		streaming_unmap(s, dma + 1, size, DMA_FROM_DEVICE, 0);
		expect_dropped("it has not allocated", dma, size, 6);
		streaming_unmap(s, dma - PAGE, size, DMA_FROM_DEVICE, 0);
		expect_dropped("it has not allocated", dma, size, 7);
		streaming_unmap(s, DMA_MAPPING_ERROR, size, DMA_FROM_DEVICE, 0);
		expect_dropped("an invalid DMA memory address", dma, size, 8);
		streaming_unmap(s, 0, size, DMA_FROM_DEVICE, 0);
		expect_dropped("it has not allocated", dma, size, 9);
		sg_init_one(&sg, memory + subjects[i].offset, (unsigned int)size);
		sg.dma_address = dma;
		sg.dma_length = (unsigned int)size;
		streaming_unmap_sg(s, &sg, 1, DMA_FROM_DEVICE, 0);
		expect_dropped("[mapped as single] [unmapped as scatter-gather]", dma, size, 10);

		streaming_unmap(s, dma, size, DMA_FROM_DEVICE, 0);
		assert_int_equal(memory[subjects[i].offset + size - 1], 0x33);
		assert_string_equal(log_text(), "");
		streaming_unmap(s, dma, size, DMA_FROM_DEVICE, 0);
		assert_logged("it has not allocated");
		assert_int_equal(stats().bad_calls, 11);
		close_place();
	}
}

/* Whatever bits a direction has, they say nothing else of a mapping. */
static void a_direction_that_is_none_ends_neither_a_single_mapping_nor_a_list(void **state)
{
	(void)state;
	for (size_t i = 0; i < SUBJECTS; i++) {
		size_t size = subjects[i].size;
		struct scatterlist sg;
		dma_addr_t dma;

		open_kind(subjects[i].kind, subjects[i].options);
		sg_init_one(&sg, memory + subjects[i].offset, (unsigned int)size);
		assert_int_equal(streaming_map_sg(s, &sg, 1, DMA_FROM_DEVICE, 0), 1);
		dma = streaming_map(s, memory + 2 * 65536, size, DMA_FROM_DEVICE, 0);
		assert_true(dma != DMA_MAPPING_ERROR);
		for (unsigned int bit = 2; bit < 32; bit++) {
			unsigned int direction = DMA_FROM_DEVICE | 1u << bit;

			streaming_unmap(s, sg.dma_address, size, (enum dma_data_direction)direction,
					0);
			streaming_unmap(s, dma, size, (enum dma_data_direction)direction, 0);
			streaming_unmap_sg(s, &sg, 1, (enum dma_data_direction)direction, 0);
			assert_int_equal(streaming_live(s), 2);
			assert_int_equal(stats().bad_calls, 3 * (bit - 1));
		}
		log_clear();
		streaming_unmap(s, dma, size, DMA_FROM_DEVICE, 0);
		streaming_unmap_sg(s, &sg, 1, DMA_FROM_DEVICE, 0);
		assert_string_equal(log_text(), "");
		assert_int_equal(streaming_live(s), 0);
		close_place();
	}
}

static void a_sync_that_does_not_match_is_reported_and_dropped(void **state)
{
	(void)state;
	for (size_t i = 0; i < SUBJECTS; i++) {
		size_t size = subjects[i].size;
		dma_addr_t dma;

		open_kind(subjects[i].kind, subjects[i].options);
		dma = streaming_map(s, memory + subjects[i].offset, size, DMA_FROM_DEVICE, 0);
		streaming_sync(s, dma, size + 1, DMA_FROM_DEVICE, false);
		expect_dropped("outside allocated range", dma, size, 1);
		streaming_sync(s, dma + 10, size - 9, DMA_FROM_DEVICE, false);
		expect_dropped("outside allocated range", dma, size, 2);
		streaming_sync(s, dma + 10, SIZE_MAX, DMA_FROM_DEVICE, false);
		expect_dropped("outside allocated range", dma, size, 3);
		streaming_sync(s, dma, 10, DMA_TO_DEVICE, true);
		expect_dropped("mapped with DMA_FROM_DEVICE] [synced with DMA_TO_DEVICE", dma, size,
			       4);
		streaming_sync(s, dma, 10, DMA_NONE, true);
		expect_dropped("different direction", dma, size, 5);
		streaming_sync(s, DMA_MAPPING_ERROR, 10, DMA_FROM_DEVICE, false);
		expect_dropped("sync an invalid", dma, size, 6);
		streaming_sync(s, dma + 0x10000000, 10, DMA_FROM_DEVICE, false);
		expect_dropped("tries to sync DMA memory it has not allocated", dma, size, 7);
		streaming_unmap(s, dma, size, DMA_FROM_DEVICE, 0);
		streaming_sync(s, dma, 10, DMA_FROM_DEVICE, false);
		assert_logged("tries to sync DMA memory it has not allocated");
		close_place();
	}
}

static void what_cannot_be_mapped_is_refused_in_words(void **state)
{
	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	assert_true(streaming_map(s, NULL, 100, DMA_TO_DEVICE, 0) == DMA_MAPPING_ERROR);
	assert_error_says("NULL");
	assert_true(streaming_map(s, NULL, 100000, DMA_TO_DEVICE, 0) == DMA_MAPPING_ERROR);
	assert_true(streaming_map(s, memory, 0, DMA_TO_DEVICE, 0) == DMA_MAPPING_ERROR);
	assert_error_says("0 bytes");
	assert_true(streaming_map(s, memory, SIZE_MAX, DMA_TO_DEVICE, 0) == DMA_MAPPING_ERROR);
	assert_true(streaming_map(s, memory, SIZE_MAX / 2, DMA_TO_DEVICE, 0) == DMA_MAPPING_ERROR);
	assert_true(streaming_map(s, memory, 10, DMA_NONE, 0) == DMA_MAPPING_ERROR);
	assert_error_says("direction 3");
	assert_true(streaming_map(s, memory, 10, -1, 0) == DMA_MAPPING_ERROR);
	assert_int_equal(stats().failed, 7);
	assert_int_equal(place.fake.maps, 0);
	/* And once there is a slot in the stack. */
	streaming_unmap(s, streaming_map(s, memory, 100, 0, 0), 100, 0, 0);
	for (int i = 0; i < 100; i++)
		assert_true(streaming_map(s, NULL, 100, DMA_TO_DEVICE, 0) == DMA_MAPPING_ERROR);
	assert_int_equal(place.arena->pages - place.arena->free_pages, 1);
	close_place();
}

static void memory_that_is_not_there_or_read_only_is_refused_where_it_is_mapped(void **state)
{
	char *hole =
		mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t before;
	dma_addr_t dma;

	(void)state;
	memset(hole, 1, 4 * PAGE);
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	before = iova_space_free(&place.fake.domain.iova, UINT64_MAX);
	assert_int_equal(mprotect(hole + 2 * PAGE, PAGE, PROT_READ), 0);
	assert_true(streaming_map(s, hole, 4 * PAGE, DMA_FROM_DEVICE, 0) == DMA_MAPPING_ERROR);
	assert_int_equal(errno, EFAULT);
	dma = streaming_map(s, hole, 4 * PAGE, DMA_TO_DEVICE, 0);
	assert_true(dma != DMA_MAPPING_ERROR);
	streaming_unmap(s, dma, 4 * PAGE, DMA_TO_DEVICE, 0);
	assert_int_equal(munmap(hole + PAGE, PAGE), 0);
	assert_true(streaming_map(s, hole, 4 * PAGE, DMA_TO_DEVICE, 0) == DMA_MAPPING_ERROR);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(streaming_register(s, hole, 4 * PAGE), -EFAULT);
	assert_int_equal(place.fake.mapped_count, 0);
	iova_cache_trim(&s->iova);
	assert_true(before - iova_space_free(&place.fake.domain.iova, UINT64_MAX) <= 64 * 4 * PAGE);
	munmap(hole, 4 * PAGE);
	close_place();
}

/* Addresses of which the first MiB is memory, and nothing is mapped after that. */
static char *memory_before_a_hole(size_t room)
{
	char *begin = mmap(NULL, room, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_ptr_not_equal(begin, MAP_FAILED);
	assert_int_equal(munmap(begin + (1 << 20), room - (1 << 20)), 0);
	return begin;
}

static size_t tables_of(const struct frames *frames)
{
	size_t n = 0;

	for (size_t i = 0; i < TABLE_BUCKETS; i++)
		for (const struct frame_table *t = frames->buckets[i]; t; t = t->next)
			n++;
	return n;
}

static void expect_huge_refused(const char *hole, size_t size)
{
	struct scatterlist sg;
	void *ptr = (void *)(uintptr_t)hole;
	char words[64];

	snprintf(words, sizeof(words), "only the first %zu of them",
		 (size_t)(1 << 20) - ((uintptr_t)hole & (PAGE - 1)));
	errno = 0;
	assert_true(streaming_map(s, ptr, size, DMA_TO_DEVICE, 0) == DMA_MAPPING_ERROR);
	assert_int_equal(errno, EFAULT);
	assert_error_says(words);
	if (s->translates) {
		errno = 0;
		assert_int_equal(streaming_register(s, ptr, size), -EFAULT);
		assert_int_equal(errno, EFAULT);
		assert_error_says(words);
	}
	if (size > UINT32_MAX)
		return;
	sg_init_table(&sg, 1);
	sg_set_buf(&sg, ptr, (unsigned int)size);
	dmaland_set_error(1, "nothing");
	assert_int_equal(streaming_map_sg(s, &sg, 1, DMA_FROM_DEVICE, 0), -EINVAL);
	assert_error_says(words);
}

/* Where the rest of the addresses that a wrong size covers is free. */
static void a_size_that_is_wrong_by_far_is_refused_before_anything_is_made_for_it(void **state)
{
	static const struct {
		enum fake_kind kind;
		struct streaming_options options;
	} places[] = {
		{FAKE_MAPS, {0}},
		{FAKE_MAPS, {.lazy = true}},
		{FAKE_MAPS, {.untrusted = true}},
		{FAKE_SHADOW, {0}},
	};
	char *hole = memory_before_a_hole((size_t)1 << 32);

	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		size_t tables, registered;
		uint64_t unused;
		dma_addr_t dma;

		open_kind(places[i].kind, places[i].options);
		streaming_set_boundary(s, UINT64_MAX);
		s->own_limits->max_seg_size = UINT32_MAX;
		tables = tables_of(&s->space->frames);
		registered = tables_of(&s->space->registered.frames);
		unused = iova_space_free(&place.fake.domain.iova, UINT64_MAX);
		for (unsigned int shift = 21; shift < 63; shift++) {
			expect_huge_refused(hole, (size_t)1 << shift);
			if (s->translates) /* else it is copied, and too large for that */
				expect_huge_refused(hole + 123, ((size_t)1 << shift) + 123);
		}
		assert_int_equal(tables_of(&s->space->frames), tables);
		assert_int_equal(tables_of(&s->space->registered.frames), registered);
		assert_int_equal(iova_space_free(&place.fake.domain.iova, UINT64_MAX), unused);
		assert_int_equal(place.fake.maps, 0);
		dma = streaming_map(s, hole, 1 << 20, DMA_TO_DEVICE, 0);
		assert_true(dma != DMA_MAPPING_ERROR);
		streaming_unmap(s, dma, 1 << 20, DMA_TO_DEVICE, 0);
		close_place();
	}
	munmap(hole, 1 << 20);
}

/* The arena's window is of addresses that are reserved, so that nothing is missing there. Here it is feigned. */
static void a_size_that_reaches_into_the_arenas_window_is_refused(void **state)
{
	char *below =
		mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *window;

	(void)state;
	assert_ptr_not_equal(below, MAP_FAILED);
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	window = place.fake.domain.window;
	place.fake.domain.window = below + (4 << 20);
	assert_true(streaming_map(s, below + 5, 6 << 20, DMA_TO_DEVICE, 0) == DMA_MAPPING_ERROR);
	assert_int_equal(errno, EFAULT);
	assert_error_says("only the first 4194299 of them");
	assert_int_equal(place.fake.maps, 0);
	place.fake.domain.window = window;
	munmap(below, 8 << 20);
	close_place();
}

/* ---- where it is copied the caller's access is at fault, as memcpy()'s would be ---- */

static char *faulty;

static void expect_fault(int signal, siginfo_t *info, void *context)
{
	(void)context;
	_exit(signal == SIGSEGV && (uintptr_t)info->si_addr - (uintptr_t)faulty < PAGE ? 0 : 2);
}

static void map_and_unmap(size_t size, enum dma_data_direction dir, bool reaches_unmap)
{
	const struct sigaction action = {.sa_sigaction = expect_fault, .sa_flags = SA_SIGINFO};
	dma_addr_t dma;

	if (!reaches_unmap)
		sigaction(SIGSEGV, &action, NULL);
	dma = streaming_map(s, faulty, size, dir, 0);
	sigaction(SIGSEGV, &action, NULL);
	streaming_unmap(s, dma, size, dir, 0);
	_exit(1);
}

static void
memory_that_is_not_there_or_read_only_faults_in_the_caller_where_it_is_copied(void **state)
{
	static const struct {
		int protection;
		enum dma_data_direction dir;
		bool reaches_unmap;
	} cases[] = {
		{PROT_NONE, DMA_TO_DEVICE, false},
		{PROT_NONE, DMA_FROM_DEVICE, false},
		{PROT_READ, DMA_FROM_DEVICE, true},
		{PROT_READ, DMA_BIDIRECTIONAL, true},
	};

	(void)state;
	faulty = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		size_t size = i % 2 ? 100 : PAGE; /* in a mapping's place, too */
		int status = -1;
		pid_t child;

		open_kind(i % 2 ? FAKE_MAPS : FAKE_PLAIN, (struct streaming_options){0});
		assert_int_equal(mprotect(faulty, PAGE, cases[i / 2].protection), 0);
		child = fork();
		if (child == 0)
			map_and_unmap(size, cases[i / 2].dir, cases[i / 2].reaches_unmap);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
		close_place();
	}
	munmap(faulty, PAGE);
}

/* ---- debug mode ---- */

/* Memory that is mapped as if it held something: the arena's, or registered. */
static void check_followed(char *ptr, size_t size)
{
	size_t bad = stats().bad_calls;
	struct scatterlist sg;
	dma_addr_t dma = streaming_map(s, ptr, size, DMA_FROM_DEVICE, 0);

	assert_true(dma != DMA_MAPPING_ERROR);
	streaming_unmap(s, dma, size - 1, DMA_FROM_DEVICE, 0);
	expect_dropped("frees DMA memory with different size", dma, size, ++bad);
	streaming_unmap(s, dma, size, DMA_BIDIRECTIONAL, 0);
	expect_dropped("different direction", dma, size, ++bad);
	streaming_unmap(s, dma + 1, size, DMA_FROM_DEVICE, 0);
	expect_dropped("it has not allocated", dma, size, ++bad);
	streaming_sync(s, dma + 10, size - 9, DMA_FROM_DEVICE, false);
	expect_dropped("outside allocated range", dma, size, ++bad);
	streaming_sync(s, dma + 10, 10, DMA_TO_DEVICE, true);
	expect_dropped("synced with DMA_TO_DEVICE", dma, size, ++bad);
	streaming_sync(s, dma - 1, 1, DMA_FROM_DEVICE, true);
	expect_dropped("tries to sync DMA memory it has not allocated", dma, size, ++bad);
	sg_init_one(&sg, ptr, (unsigned int)size);
	sg.dma_address = dma;
	sg.dma_length = (unsigned int)size;
	streaming_unmap_sg(s, &sg, 1, DMA_FROM_DEVICE, 0);
	expect_dropped("[mapped as single] [unmapped as scatter-gather]", dma, size, ++bad);

	/* Twice at a time, and as a list. */
	assert_true(streaming_map(s, ptr, size, DMA_FROM_DEVICE, 0) == dma);
	assert_int_equal(streaming_map_sg(s, &sg, 1, DMA_FROM_DEVICE, 0), 1);
	assert_int_equal(streaming_live(s), 3);
	streaming_sync(s, dma + size - 1, 1, DMA_FROM_DEVICE, false);
	streaming_unmap_sg(s, &sg, 1, DMA_FROM_DEVICE, 0);
	streaming_unmap(s, dma, size, DMA_FROM_DEVICE, 0);
	streaming_unmap(s, dma, size, DMA_FROM_DEVICE, 0);
	assert_string_equal(log_text(), "");
	assert_int_equal(streaming_live(s), 0);
	streaming_unmap(s, dma, size, DMA_FROM_DEVICE, 0);
	assert_logged("it has not allocated");
	log_clear();
}

static void what_is_translated_is_followed_in_debug_mode(void **state)
{
	dma_addr_t handle;
	char *coherent;

	(void)state;
	for (enum fake_kind kind = FAKE_PLAIN; kind <= FAKE_SHADOW; kind++) {
		open_kind(kind, (struct streaming_options){.debug = true});
		coherent = coherent_alloc(place.arena, &place.coherent, 8192, &handle, GFP_KERNEL);
		if (kind != FAKE_SHADOW) /* there the device has a copy */
			check_followed(coherent + 100, 5000);
		if (kind != FAKE_PLAIN) {
			assert_int_equal(streaming_register(s, memory + 50, 60000), 0);
			check_followed(memory + 100, 50);
			check_followed(memory + 50, 60000);
			assert_int_equal(streaming_unregister(s, memory + 50), 0);
		}
		/* One that is left goes with the device. */
		assert_int_equal(streaming_map(s, coherent, 1, DMA_TO_DEVICE, 0) == handle,
				 kind != FAKE_SHADOW);
		assert_int_equal(streaming_live(s), 1);
		coherent_free(place.arena, &place.coherent, "fake", 8192, coherent, handle);
		fake_streaming_close(&place);
	}
}

/* ---- two devices in one domain ---- */

static struct streaming second;
static struct dma_limits second_limits;
static struct arena_tenant second_orphans = {.limits = &second_limits};

static int second_open(struct streaming_options options)
{
	memset(&second_limits, 0, sizeof(second_limits));
	second_limits.coherent_mask = second_limits.streaming_mask = DMA_BIT_MASK(64);
	return streaming_init(&second, place.space, &second_limits, &second_orphans, "second",
			      &options);
}

static void a_call_on_the_wrong_device_is_refused_and_disturbs_no_neighbour(void **state)
{
	char a[64] = {1}, b[64] = {1}, written[64];
	dma_addr_t dma_a, dma_b;

	(void)state;
	open_kind(FAKE_MAPS, (struct streaming_options){0});
	assert_int_equal(second_open((struct streaming_options){0}), 0);
	dma_a = streaming_map(&second, a, sizeof(a), DMA_FROM_DEVICE, 0);
	dma_b = streaming_map(&second, b, sizeof(b), DMA_FROM_DEVICE, 0);
	streaming_sync(s, dma_a, sizeof(a), DMA_FROM_DEVICE, false);
	streaming_unmap(s, dma_a, sizeof(a), DMA_FROM_DEVICE, 0);
	assert_int_equal(stats().bad_calls, 2);
	log_clear();

	memset(written, 7, sizeof(written));
	assert_true(fake_device_write(&place, dma_a, written, sizeof(written)));
	assert_true(fake_device_write(&place, dma_b, written, sizeof(written)));
	streaming_unmap(&second, dma_a, sizeof(a), DMA_FROM_DEVICE, 0);
	streaming_unmap(&second, dma_b, sizeof(b), DMA_FROM_DEVICE, 0);
	assert_memory_equal(a, written, sizeof(a));
	assert_memory_equal(b, written, sizeof(b));
	assert_int_equal(streaming_live(&second), 0);
	assert_string_equal(log_text(), "");
	streaming_fini(&second);
	close_place();
}

static void trusted_and_untrusted_devices_do_not_share_a_domain(void **state)
{
	(void)state;
	for (int first_untrusted = 0; first_untrusted < 2; first_untrusted++) {
		open_kind(FAKE_MAPS, (struct streaming_options){.untrusted = first_untrusted});
		assert_int_equal(
			second_open((struct streaming_options){.untrusted = !first_untrusted}),
			-EINVAL);
		assert_error_says("both would see the same memory");
		assert_int_equal(
			second_open((struct streaming_options){.untrusted = first_untrusted}), 0);
		streaming_fini(&second);
		close_place();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_unmap_that_does_not_match_is_reported_and_dropped),
		cmocka_unit_test(a_direction_that_is_none_ends_neither_a_single_mapping_nor_a_list),
		cmocka_unit_test(a_sync_that_does_not_match_is_reported_and_dropped),
		cmocka_unit_test(what_cannot_be_mapped_is_refused_in_words),
		cmocka_unit_test(
			memory_that_is_not_there_or_read_only_is_refused_where_it_is_mapped),
		cmocka_unit_test(
			a_size_that_is_wrong_by_far_is_refused_before_anything_is_made_for_it),
		cmocka_unit_test(a_size_that_reaches_into_the_arenas_window_is_refused),
		cmocka_unit_test(
			memory_that_is_not_there_or_read_only_faults_in_the_caller_where_it_is_copied),
		cmocka_unit_test(what_is_translated_is_followed_in_debug_mode),
		cmocka_unit_test(a_call_on_the_wrong_device_is_refused_and_disturbs_no_neighbour),
		cmocka_unit_test(trusted_and_untrusted_devices_do_not_share_a_domain),
	};

	log_capture();
	return cmocka_run_group_tests_name("streaming: bad calls", tests, NULL, NULL);
}
