/* SPDX-License-Identifier: MIT */
/*
 * model_streaming.c - mappings beside a few obvious lines
 *
 * The model keeps the application's memory once more, and for each piece of a mapping whether the
 * device has a copy (dma_need_sync() says so) and what is in it: mapping copies to it, unmapping and
 * syncing bring together what the direction says, and without a copy both see the same bytes. Where
 * memory is not coherent, it keeps for each byte whose it is.
 * Random operations run on both, and all bytes that can be seen are compared.
 *
 * Below is the address space of `soft:`, which checks each access of the device; or a fake domain,
 * where nothing can be mapped, or what is unmapped must be just what was mapped.
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include "backend/soft.h"
#include "fake_domain.h"
#include "memory/coherent.h"

enum {
	MEMORY = 1 << 20,
	COHERENT = 1 << 16,
	MAPPINGS = 48,
	PIECES = 6,
	REGISTRATIONS = 6,
};

/* Of a byte: in how many mappings, and synced for the CPU last. */
struct model_owner {
	unsigned int mappings;
	bool is_cpu;
};

struct model_piece {
	dma_addr_t dma;
	size_t at, size; /* in the memory */
	char *copy;	 /* the device's; NULL: it sees the memory */
	bool copy_is_ours;
	struct model_owner *owners; /* NULL: not kept; ours where the copy is */
};

struct model_mapping {
	bool live, is_list;
	enum dma_data_direction dir;
	int count;
	struct model_piece pieces[PIECES];
	struct scatterlist sg[PIECES];
};

struct model_registration {
	size_t at, size;
	char *copy;
	struct model_owner *owners;
};

static struct fake_place place;
static struct soft_domain *soft; /* in place of the fake one; or NULL */
static struct streaming *const s = &place.streaming;
static char *memory, *expected; /* MEMORY bytes of the application, then COHERENT bytes */
static char application[MEMORY + 4096];
static char *coherent;
static dma_addr_t coherent_dma;
static struct model_mapping mappings[MAPPINGS];
static struct model_registration registrations[REGISTRATIONS];
static uint64_t seed;

static size_t below(size_t n)
{
	return (size_t)random_below(&seed, n);
}

static char *real(size_t at)
{
	return at < MEMORY ? memory + at : coherent + (at - MEMORY);
}

static void compare(size_t at, size_t size)
{
	if (memcmp(real(at), expected + at, size))
		fail_msg("%zu bytes at %zu differ from the model", size, at);
}

/* A range inside one of the two memories; mostly small, often on granules. */
static size_t any_range(size_t *size)
{
	bool high = below(5) == 0;
	size_t limit = high ? COHERENT : MEMORY, at;

	switch (below(4)) {
	case 0:
		*size = 1 + below(200);
		break;
	case 1:
		*size = 1 + below(6000);
		break;
	case 2:
		*size = 4096 * (1 + below(5));
		break;
	default:
		*size = 1 + below(60000);
		break;
	}
	at = below(limit - *size + 1);
	if (below(2))
		at &= ~(size_t)4095;
	return (high ? MEMORY : 0) + at;
}

static struct model_registration *registration_of(size_t at, size_t size)
{
	for (int i = 0; i < REGISTRATIONS; i++)
		if (registrations[i].size && at >= registrations[i].at &&
		    at + size <= registrations[i].at + registrations[i].size)
			return &registrations[i];
	return NULL;
}

/* ---- what both do ---- */

static void piece_begin(struct model_piece *p, dma_addr_t dma, size_t at, size_t size,
			struct model_registration *r)
{
	*p = (struct model_piece){.dma = dma, .at = at, .size = size};
	if (!streaming_need_sync(s, dma))
		return;
	/* The copy of registered memory is all its mappings'. */
	p->copy_is_ours = !(r && r->copy && s->shadow && s->translates);
	p->copy = p->copy_is_ours ? malloc(size) : r->copy + (at - r->at);
	memcpy(p->copy, expected + at, size);
	if (!s->shadow)
		return;
	p->owners = p->copy_is_ours ? calloc(size, sizeof(*p->owners)) : r->owners + (at - r->at);
	for (size_t i = 0; i < size; i++) {
		p->owners[i].mappings++;
		p->owners[i].is_cpu = false;
	}
}

static void piece_end(struct model_piece *p, enum dma_data_direction dir)
{
	if (p->copy && dir != DMA_TO_DEVICE)
		memcpy(expected + p->at, p->copy, p->size);
	for (size_t i = 0; p->owners && i < p->size; i++) {
		p->owners[i].mappings--;
		p->owners[i].is_cpu = false;
	}
	if (!p->copy_is_ours)
		return;
	free(p->copy);
	free(p->owners);
}

static void do_map(struct model_mapping *m)
{
	size_t size, at = any_range(&size);
	dma_addr_t dma;

	m->dir = (enum dma_data_direction)below(3);
	dma = streaming_map(s, real(at), size, m->dir, 0);
	if (dma == DMA_MAPPING_ERROR)
		fail_msg("%zu bytes: %s", size, dmaland_last_error());
	m->live = true;
	m->is_list = false;
	m->count = 1;
	piece_begin(&m->pieces[0], dma, at, size, registration_of(at, size));
}

/* Elements, some of them one behind the other. */
static void list_fill(struct model_mapping *m)
{
	m->count = 1 + (int)below(PIECES);
	sg_init_table(m->sg, (unsigned int)m->count);
	for (int i = 0; i < m->count; i++) {
		size_t size, at = any_range(&size), last = i ? m->pieces[i - 1].at : 0;

		if (i && below(2) && last + m->pieces[i - 1].size + size <= MEMORY)
			at = last + m->pieces[i - 1].size;
		m->pieces[i] = (struct model_piece){.at = at, .size = size};
		sg_set_buf(&m->sg[i], real(at), (unsigned int)size);
	}
}

static void do_map_list(struct model_mapping *m)
{
	struct model_registration *r = NULL;
	int segments, j = 0;
	size_t used = 0;

	list_fill(m);
	m->dir = (enum dma_data_direction)below(3);
	segments = streaming_map_sg(s, m->sg, m->count, m->dir, 0);
	if (segments <= 0)
		fail_msg("a list of %d: %s", m->count, dmaland_last_error());
	m->live = m->is_list = true;
	for (int i = 0; i < m->count; i++) {
		struct model_piece *p = &m->pieces[i];

		/* Elements that are one segment are registered together, or none of them. */
		if (used == 0)
			r = registration_of(p->at, sg_dma_len(&m->sg[j]));
		piece_begin(p, sg_dma_address(&m->sg[j]) + used, p->at, p->size, r);
		used += p->size;
		if (used == sg_dma_len(&m->sg[j])) {
			j++;
			used = 0;
		}
	}
	assert_int_equal(j, segments);
}

static void do_unmap(struct model_mapping *m)
{
	if (m->is_list)
		streaming_unmap_sg(s, m->sg, m->count, m->dir, 0);
	else
		streaming_unmap(s, m->pieces[0].dma, m->pieces[0].size, m->dir, 0);
	for (int i = 0; i < m->count; i++)
		piece_end(&m->pieces[i], m->dir);
	for (int i = 0; i < m->count; i++)
		compare(m->pieces[i].at, m->pieces[i].size);
	m->live = false;
}

static bool device_does(dma_addr_t dma, void *data, size_t size, bool write)
{
	const struct soft_access access = {dma, dma, data, size, write};
	struct dmaland_soft_fault fault;

	if (soft)
		return soft_domain_access(soft, &access, &fault) == size;
	return write ? fake_device_write(&place, dma, data, size)
		     : fake_device_read(&place, dma, data, size);
}

/* Of n bytes of a piece, those before the first that the CPU has, which the device can't touch. */
static size_t before_the_cpus(const struct model_mapping *m, const struct model_piece *p,
			      size_t from, size_t n)
{
	size_t allowed = 0;
	char byte = 0;

	while (allowed < n && !p->owners[from + allowed].is_cpu)
		allowed++;
	if (allowed < n) {
		const struct soft_access access = {p->dma + from, p->dma + from + allowed, &byte, 1,
						   m->dir != DMA_TO_DEVICE};
		struct dmaland_soft_fault fault;

		assert_int_equal(soft_domain_access(soft, &access, &fault), 0);
		assert_int_equal(fault.reason, DMALAND_SOFT_CPU);
		assert_true(fault.address == access.dma && access.dma - fault.first < fault.size);
	}
	return allowed;
}

static void do_device_access(struct model_mapping *m)
{
	struct model_piece *p = &m->pieces[below((size_t)m->count)];
	size_t from = below(p->size), n = 1 + below(p->size - from);
	char *view = p->copy ? p->copy + from : expected + p->at + from;
	static char buffer[65536];

	if (soft && p->owners)
		n = before_the_cpus(m, p, from, n);
	if (!n)
		return;
	if (m->dir != DMA_FROM_DEVICE) {
		if (!device_does(p->dma + from, buffer, n, false))
			fail_msg("the device can't read what it was given");
		if (memcmp(buffer, view, n))
			fail_msg("the device reads %zu bytes that differ from the model", n);
	}
	if (m->dir == DMA_TO_DEVICE)
		return;
	for (size_t i = 0; i < n; i += 1 + n / 64)
		view[i] = (char)random_next(&seed);
	if (!device_does(p->dma + from, view, n, true))
		fail_msg("the device can't write what it was given");
}

static void do_sync(struct model_mapping *m)
{
	struct model_piece *p = &m->pieces[below((size_t)m->count)];
	size_t from = below(p->size), n = 1 + below(p->size - from);
	bool for_device = below(2);

	streaming_sync(s, p->dma + from, n, m->dir, for_device);
	if (p->copy && for_device && m->dir != DMA_FROM_DEVICE)
		memcpy(p->copy + from, expected + p->at + from, n);
	if (p->copy && !for_device && m->dir != DMA_TO_DEVICE)
		memcpy(expected + p->at + from, p->copy + from, n);
	for (size_t i = 0; p->owners && i < n; i++)
		p->owners[from + i].is_cpu = !for_device && p->owners[from + i].mappings == 1;
	compare(p->at, p->size);
}

static void do_cpu_write(void)
{
	size_t size, at = any_range(&size);

	for (size_t i = 0; i < size; i += 1 + size / 64)
		expected[at + i] = real(at)[i] = (char)random_next(&seed);
}

static bool in_use(size_t at, size_t size)
{
	for (int i = 0; i < MAPPINGS; i++)
		for (int k = 0; mappings[i].live && k < mappings[i].count; k++)
			if (mappings[i].pieces[k].at < at + size &&
			    at < mappings[i].pieces[k].at + mappings[i].pieces[k].size)
				return true;
	return false;
}

static void do_register(struct model_registration *r)
{
	size_t size = 1 + below(100000), at = below(MEMORY - size);
	bool free_place = true;
	int err;

	for (int i = 0; i < REGISTRATIONS; i++)
		if (registrations[i].size && registrations[i].at < at + size &&
		    at < registrations[i].at + registrations[i].size)
			free_place = false;
	err = streaming_register(s, memory + at, size);
	if (!s->translates || !streaming_can_map(s)) {
		assert_true(err == -EPERM || err == -EOPNOTSUPP);
		return;
	}
	assert_int_equal(err, free_place ? 0 : -EEXIST);
	if (err)
		return;
	r->at = at;
	r->size = size;
	if (s->shadow) {
		r->copy = malloc(size);
		memset(r->copy, 0xee, size);
		r->owners = calloc(size, sizeof(*r->owners));
	}
}

static void do_unregister(struct model_registration *r)
{
	if (in_use(r->at, r->size))
		return;
	assert_int_equal(streaming_unregister(s, memory + r->at), 0);
	free(r->copy);
	free(r->owners);
	*r = (struct model_registration){0};
}

/* Calls that must change nothing. */
static void do_wrong(struct model_mapping *m)
{
	struct dmaland_streaming_stats before, after;
	struct model_piece *p = &m->pieces[0];
	uint64_t live = streaming_live(s);

	/* What is translated holds nothing: only claims on a copy or a mapping are checked. */
	streaming_get_stats(s, &before);
	if (!p->copy || registration_of(p->at, p->size) || m->is_list)
		return;
	switch (below(5)) {
	case 0:
		streaming_unmap(s, p->dma, p->size + 1 + below(9999), m->dir, 0);
		break;
	case 1:
		streaming_unmap(s, p->dma, p->size, (m->dir + 1) % 3, 0);
		break;
	case 2:
		streaming_sync(s, p->dma, p->size + 1, m->dir, false);
		break;
	case 3:
		streaming_unmap(s, DMA_MAPPING_ERROR, p->size, m->dir, 0);
		break;
	default:
		assert_true(streaming_map(s, NULL, 1 + below(100000), m->dir, 0) ==
			    DMA_MAPPING_ERROR);
		return;
	}
	streaming_get_stats(s, &after);
	assert_int_equal(after.bad_calls, before.bad_calls + 1);
	assert_int_equal(streaming_live(s), live);
	log_clear();
}

static void step(void)
{
	struct model_mapping *m = &mappings[below(MAPPINGS)];
	struct model_registration *r = &registrations[below(REGISTRATIONS)];

	if (below(200) == 0) {
		if (r->size)
			do_unregister(r);
		else
			do_register(r);
	} else if (below(500) == 0) {
		streaming_flush(s);
	} else if (below(8) == 0) {
		do_cpu_write();
	} else if (!m->live) {
		if (below(3))
			do_map(m);
		else
			do_map_list(m);
	} else if (below(4) == 0) {
		do_unmap(m);
	} else if (below(3) == 0) {
		do_sync(m);
	} else if (below(20) == 0) {
		do_wrong(m);
	} else {
		do_device_access(m);
	}
}

static void soft_begin(bool coherent_memory, const struct streaming_options *options)
{
	const struct soft_domain_options wanted = {
		.bits = 48, .granule = 4096, .mappings = 65535, .coherent = coherent_memory};

	memset(&place, 0, sizeof(place));
	soft = soft_domain_create(&wanted);
	assert_non_null(soft);
	soft_domain_join(soft);
	assert_int_equal(arena_create(&soft->domain, &place.arena), 0);
	place.limits.coherent_mask = place.limits.streaming_mask = DMA_BIT_MASK(64);
	place.coherent.limits = place.orphans.limits = &place.limits;
	place.space = streaming_space_create(&soft->domain, place.arena);
	assert_non_null(place.space);
	assert_int_equal(
		streaming_init(s, place.space, &place.limits, &place.orphans, "soft", options), 0);
}

static void soft_end(void)
{
	streaming_fini(s);
	streaming_space_destroy(place.space);
	arena_destroy(place.arena);
	assert_int_equal(soft->domain.mappings, 0);
	soft_domain_leave(soft);
	soft = NULL;
}

static void steps(int n)
{
	coherent =
		coherent_alloc(place.arena, &place.coherent, COHERENT, &coherent_dma, GFP_KERNEL);
	memory = (char *)(((uintptr_t)application + 4095) & ~(uintptr_t)4095);
	for (size_t i = 0; i < MEMORY + COHERENT; i++)
		expected[i] = *real(i) = (char)random_next(&seed);
	for (int i = 0; i < n; i++) {
		step();
		if (i % 4096 == 0)
			compare(0, MEMORY), compare(MEMORY, COHERENT);
	}
	for (int i = 0; i < MAPPINGS; i++)
		if (mappings[i].live)
			do_unmap(&mappings[i]);
	for (int i = 0; i < REGISTRATIONS; i++)
		if (registrations[i].size)
			do_unregister(&registrations[i]);
	compare(0, MEMORY);
	compare(MEMORY, COHERENT);
	assert_int_equal(streaming_live(s), 0);
	assert_string_equal(log_text(), "");
	coherent_free(place.arena, &place.coherent, "model", COHERENT, coherent, coherent_dma);
}

static const struct streaming_options strict, lazy = {.lazy = true, .lazy_count = 100},
					      untrusted = {.untrusted = true};

static void on_soft_random_operations_do_what_the_model_does(void **state)
{
	static const struct {
		bool coherent;
		const struct streaming_options *options;
		uint64_t min_align;
	} runs[] = {
		{true, &strict, 0},    {true, &lazy, 0},      {true, &lazy, 16383},
		{true, &untrusted, 0}, {false, &lazy, 0},     {false, &untrusted, 4095},
		{false, &strict, 0},   {true, &strict, 4095},
	};
	enum { RUNS = sizeof(runs) / sizeof(runs[0]) };

	(void)state;
	for (size_t i = 0; i < RUNS; i++) { /* MODEL_STEPS: meson.build */
		soft_begin(runs[i].coherent, runs[i].options);
		assert_int_equal(streaming_set_min_align(s, runs[i].min_align), 0);
		steps(MODEL_STEPS / RUNS);
		soft_end();
	}
}

static void on_other_domains_too(void **state)
{
	static const struct {
		enum fake_kind kind;
		const struct streaming_options *options;
		uint64_t min_align;
	} runs[] = {
		{FAKE_PLAIN, &strict, 0},
		{FAKE_PLAIN, &strict, 4095},
		{FAKE_MAPS, &lazy, 16383},
		{FAKE_SHADOW, &lazy, 0},
	};
	enum { RUNS = sizeof(runs) / sizeof(runs[0]) };

	(void)state;
	for (size_t i = 0; i < RUNS; i++) {
		fake_streaming_open(&place, runs[i].kind, runs[i].options);
		assert_int_equal(streaming_set_min_align(s, runs[i].min_align), 0);
		steps(MODEL_STEPS / 4 / RUNS);
		fake_streaming_close(&place);
	}
}

static int begin(void **state)
{
	(void)state;
	seed = 20240607;
	expected = malloc(MEMORY + COHERENT);
	return !expected;
}

static int end(void **state)
{
	(void)state;
	free(expected);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(on_soft_random_operations_do_what_the_model_does),
		cmocka_unit_test(on_other_domains_too),
	};

	log_capture();
	return cmocka_run_group_tests_name("streaming model", tests, begin, end);
}
