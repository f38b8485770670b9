/* SPDX-License-Identifier: MIT */
/*
 * debug.c - pools that are watched
 *
 * A checked pool fills free blocks with 0xa7, blocks that it hands out with 0xa9 (the kernel's
 * values), and the zones between blocks with 0xbb, and looks whether they are still so:
 *
 *   |   block 0   | zone:  behind 0 | before 1 |   block 1   | behind 1 | ...
 *
 * It keeps the call sites of the last allocation and free of each block in a record, out of the device's
 * reach. An annotated pool tells AddressSanitizer and Valgrind instead,
 * which look at each access of the program, but not of the device. Both may be wanted at a time.
 *
 * A block is free if its slab has its bit, and out if its record says so. A block that is being looked at is neither, and
 * its thread's: so nothing long is done under the lock, and nothing is logged under it. One of two frees that race finds
 * that the block is not out any more.
 */
#include "pool/debug.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "base/error.h"
#include "base/log.h"
#include "pool/annotate.h"

/* include/linux/poison.h: POOL_POISON_FREED, POOL_POISON_ALLOCATED; the zones' as SLUB's. */
enum { POISON_FREE = 0xa7, POISON_ALLOCATED = 0xa9, POISON_ZONE = 0xbb };

enum { OWNERS_SHOWN = 8, BYTES_SHOWN = 16 };

/* Who had a block last: return addresses, NULL for none. */
struct block_record {
	const void *allocated, *freed;
	bool out;
};

/* A block, all that is known of it. */
struct subject {
	struct page *slab;
	uint32_t number;
	char *vaddr;
	struct block_record *record;
};

/* What was found in bytes that nobody should have written. */
struct damage {
	const char *what;
	ptrdiff_t at; /* from the block's beginning */
	size_t count;
	unsigned char bytes[BYTES_SHOWN];
};

struct span {
	char *from;
	size_t size;
};

/* ---- text ---- */

static void text_add(char *text, size_t size, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void text_add(char *text, size_t size, const char *format, ...)
{
	size_t used = strlen(text);
	va_list args;

	va_start(args, format);
	vsnprintf(text + used, size - used, format, args);
	va_end(args);
}

/*
 * PROGRAM+0x1234, as addr2line takes it. The address is where the call returns to; the one before
 * belongs to the call.
 */
static void text_add_site(char *text, size_t size, const char *what, const void *site)
{
	uintptr_t address = (uintptr_t)site - 1;
	const char *name;
	Dl_info info;

	if (!site)
		return;
	if (!dladdr(site, &info) || !info.dli_fname) {
		text_add(text, size, "%s0x%lx", what, (unsigned long)address);
		return;
	}
	if (((const ElfW(Ehdr) *)info.dli_fbase)->e_type != ET_EXEC)
		address -= (uintptr_t)info.dli_fbase;
	name = strrchr(info.dli_fname, '/');
	text_add(text, size, "%s%.40s+0x%lx", what, name ? name + 1 : info.dli_fname,
		 (unsigned long)address);
}

/* ---- blocks ---- */

static size_t slab_bytes(const struct page *slab)
{
	return (size_t)slab->run_pages << ARENA_PAGE_SHIFT;
}

static struct block_record *slab_records(const struct dma_pool *pool, const struct page *slab)
{
	return (void *)(pool->records + (size_t)(slab - pool->entries) * pool->records_size);
}

static struct subject subject_of(const struct dma_pool *pool, struct page *slab, uint32_t number)
{
	return (struct subject){
		.slab = slab,
		.number = number,
		.vaddr = slab_base(pool, slab) + number * pool->stride,
		.record = slab_records(pool, slab) + number,
	};
}

static bool subject_is_free(const struct subject *s)
{
	return slab_back(s->slab) >> s->number & 1;
}

static void debug_lock(struct dma_pool *pool)
{
	rt_lock_try_or_take(&pool->shared_lock);
}

static void debug_unlock(struct dma_pool *pool)
{
	rt_lock_release(&pool->shared_lock);
}

/* The block at an address that may be anything. The lock is held. */
static bool subject_find(struct dma_pool *pool, const void *vaddr, struct subject *subject)
{
	uint32_t number;
	struct page *slab = slab_find(pool, &pool->shared, vaddr, &number);

	if (slab)
		*subject = subject_of(pool, slab, number);
	return slab;
}

static bool subject_is_last(const struct dma_pool *pool, const struct subject *s)
{
	return s->number + 1 == slab_blocks(pool, s->slab);
}

/* Bytes from the end of a block to the next one, or to the slab's end. */
static size_t zone_size(const struct dma_pool *pool, const struct subject *s)
{
	const char *end = s->vaddr + pool->size;

	if (subject_is_last(pool, s))
		return (size_t)(slab_base(pool, s->slab) + slab_bytes(s->slab) - end);
	return (size_t)(s->vaddr + pool->stride - end);
}

/* Two neighbours share the zone between them. */
static struct span zone_behind(const struct dma_pool *pool, const struct subject *s)
{
	size_t size = zone_size(pool, s);

	return (struct span){s->vaddr + pool->size,
			     subject_is_last(pool, s) ? size : size - size / 2};
}

static struct span zone_before(const struct dma_pool *pool, const struct subject *s)
{
	struct subject left;
	size_t size;

	if (s->number == 0)
		return (struct span){s->vaddr, 0};
	left = subject_of(pool, s->slab, s->number - 1);
	size = zone_size(pool, &left) / 2;
	return (struct span){s->vaddr - size, size};
}

static void zones_fill(const struct dma_pool *pool, const struct subject *s)
{
	struct span behind = zone_behind(pool, s), before = zone_before(pool, s);

	memset(before.from, POISON_ZONE, before.size);
	memset(behind.from, POISON_ZONE, behind.size);
}

/* The program may have put these bytes out of bounds, so no function of libc is to read them. */
static ANNOTATE_PEEKS bool span_is_damaged(struct span span, unsigned char poison,
					   const struct subject *s, const char *what,
					   struct damage *damage)
{
	const volatile unsigned char *bytes = (const volatile unsigned char *)span.from;
	size_t i = 0, n;

	while (i < span.size && bytes[i] == poison)
		i++;
	if (i == span.size)
		return false;
	damage->what = what;
	damage->at = span.from + i - s->vaddr;
	for (n = 0; n < BYTES_SHOWN && i + n < span.size; n++)
		damage->bytes[n] = bytes[i + n];
	damage->count = n;
	return true;
}

static bool zones_are_damaged(const struct dma_pool *pool, const struct subject *s,
			      struct damage *damage)
{
	return span_is_damaged(zone_behind(pool, s), POISON_ZONE, s, "(overrun)", damage) ||
	       span_is_damaged(zone_before(pool, s), POISON_ZONE, s, "(underrun)", damage);
}

static bool block_is_damaged(const struct dma_pool *pool, const struct subject *s,
			     struct damage *damage)
{
	struct span span = {s->vaddr, pool->size};

	return span_is_damaged(span, POISON_FREE, s, "(corrupted)", damage);
}

static void damage_report(const struct dma_pool *pool, const char *call, const char *vaddr,
			  const struct damage *damage, const struct block_record *record)
{
	char text[256] = "";

	for (size_t i = 0; i < damage->count; i++)
		text_add(text, sizeof(text), " %02x", damage->bytes[i]);
	text_add_site(text, sizeof(text), ", allocated at ", record->allocated);
	text_add_site(text, sizeof(text), ", freed at ", record->freed);
	log_line(DMALAND_LOG_ERR, "%s: %s %s, %p %s from byte %td:%s", pool->place.name, call,
		 pool->name, (const void *)vaddr, damage->what, damage->at, text);
}

/* ---- slabs ---- */

void debug_slab_begin(struct dma_pool *pool, struct page *slab)
{
	size_t blocks = slab_blocks(pool, slab);
	char *base = slab_base(pool, slab);

	memset(slab_records(pool, slab), 0, blocks * sizeof(struct block_record));
	if (pool->debug & POOL_CHECKED) {
		memset(base, POISON_ZONE, slab_bytes(slab));
		for (size_t i = 0; i < blocks; i++)
			memset(base + i * pool->stride, POISON_FREE, pool->size);
	}
	if (pool->debug & POOL_ANNOTATED)
		annotate_forbid(base, slab_bytes(slab));
}

void debug_slab_end(struct dma_pool *pool, struct page *slab)
{
	if (pool->debug & POOL_ANNOTATED)
		annotate_allow(slab_base(pool, slab), slab_bytes(slab));
}

/* ---- alloc and free ---- */

/* The zones are looked at from outside of the block, where the program must not look. */
static bool zones_check(const struct dma_pool *pool, const struct subject *s, struct damage *damage)
{
	struct span behind = zone_behind(pool, s), before = zone_before(pool, s);
	bool damaged;

	annotate_peek_begin();
	damaged = zones_are_damaged(pool, s, damage);
	annotate_peek_end();
	if (!damaged)
		return false;
	if (pool->debug & POOL_ANNOTATED) {
		annotate_allow(before.from, before.size);
		annotate_allow(behind.from, behind.size);
	}
	zones_fill(pool, s);
	if (pool->debug & POOL_ANNOTATED) {
		annotate_forbid(before.from, before.size);
		annotate_forbid(behind.from, behind.size);
	}
	return true;
}

static struct subject subject_at(const struct dma_pool *pool, char *vaddr)
{
	struct page *page = pagemap_find(&pool->place.arena->pagemap, vaddr);
	struct page *slab = page - page->run_offset;

	return subject_of(pool, slab,
			  (uint32_t)((size_t)(vaddr - slab_base(pool, slab)) / pool->stride));
}

void debug_alloc(struct dma_pool *pool, gfp_t gfp, char *vaddr, const void *site)
{
	struct subject s = subject_at(pool, vaddr);
	struct damage damage;

	if (pool->debug & POOL_ANNOTATED)
		annotate_alloc(pool, s.vaddr, pool->size);
	if (pool->debug & POOL_CHECKED) {
		if (block_is_damaged(pool, &s, &damage) || zones_check(pool, &s, &damage))
			damage_report(pool, "dma_pool_alloc", s.vaddr, &damage, s.record);
		if (!(gfp & __GFP_ZERO))
			memset(s.vaddr, POISON_ALLOCATED, pool->size);
	}
	debug_lock(pool);
	s.record->allocated = site;
	s.record->out = true;
	debug_unlock(pool);
}

const char *debug_release(struct dma_pool *pool, struct page *slab, uint32_t number,
			  const void *site)
{
	struct block_record *record = slab_records(pool, slab) + number;

	if (!record->out)
		return "already free";
	record->out = false;
	record->freed = site;
	return NULL;
}

void debug_free(struct dma_pool *pool, struct page *slab, uint32_t number)
{
	struct subject s = subject_of(pool, slab, number);
	struct damage damage;

	if (pool->debug & POOL_CHECKED) {
		if (zones_check(pool, &s, &damage))
			damage_report(pool, "dma_pool_free", s.vaddr, &damage, s.record);
		memset(s.vaddr, POISON_FREE, pool->size);
	}
	if (pool->debug & POOL_ANNOTATED)
		annotate_free(pool, s.vaddr, pool->size);
	debug_lock(pool);
	cache_free(pool, &pool->shared, slab, number);
	debug_unlock(pool);
}

void debug_describe(struct dma_pool *pool, const void *vaddr, const void *site, char *text,
		    size_t size)
{
	struct block_record record = {NULL, NULL, false};
	struct subject s;

	if (pool_is_disowned(pool))
		return;
	debug_lock(pool);
	if (subject_find(pool, vaddr, &s)) {
		record.allocated = s.record->allocated;
		if (!s.record->out)
			record.freed = s.record->freed;
	}
	debug_unlock(pool);
	text_add_site(text, size, " (freed at ", record.freed);
	text_add_site(text, size, text[0] ? ", allocated at " : " (allocated at ",
		      record.allocated);
	text_add_site(text, size, text[0] ? "; this free at " : " (this free at ", site);
	text_add(text, size, "%s", text[0] ? ")" : "");
}

/* ---- on demand, and at the end ---- */

/* A block as it was under the lock, to be told of afterwards. */
struct finding {
	bool damaged;
	bool out;
	char *vaddr;
	dma_addr_t handle;
	struct block_record record;
	struct damage damage;
};

/* False when the block is no more, its slab having been given back. */
static bool block_look(struct dma_pool *pool, struct page *slab, uint32_t number,
		       struct finding *finding)
{
	struct subject s;

	memset(finding, 0, sizeof(*finding));
	debug_lock(pool);
	if (!subject_find(pool, slab_base(pool, slab) + number * pool->stride, &s) ||
	    s.slab != slab) {
		debug_unlock(pool);
		return false;
	}
	finding->vaddr = s.vaddr;
	finding->handle = (uintptr_t)s.vaddr + slab->dma_offset;
	finding->record = *s.record;
	finding->out = s.record->out;
	if (finding->out)
		finding->record.freed = NULL;
	if (pool->debug & POOL_CHECKED && (finding->out || subject_is_free(&s))) {
		annotate_peek_begin();
		finding->damaged =
			(!finding->out && block_is_damaged(pool, &s, &finding->damage)) ||
			zones_are_damaged(pool, &s, &finding->damage);
		annotate_peek_end();
	}
	debug_unlock(pool);
	return true;
}

struct survey {
	struct dma_pool *pool;
	const char *call;
	bool owners;
	size_t out;
	int damaged;
};

static void owner_report(const struct survey *survey, const struct finding *finding)
{
	char text[128] = "";

	text_add_site(text, sizeof(text), ", allocated at ", finding->record.allocated);
	log_line(DMALAND_LOG_ERR, "%s: %s %s, %p/%llx in use%s", survey->pool->place.name,
		 survey->call, survey->pool->name, (void *)finding->vaddr,
		 (unsigned long long)finding->handle, text);
}

/* One damaged block is reported once. */
static void slab_look(struct arena *arena, struct page *slab, void *context)
{
	struct survey *survey = context;
	struct dma_pool *pool = survey->pool;
	struct finding finding;

	(void)arena;
	for (uint32_t number = 0; block_look(pool, slab, number, &finding); number++) {
		if (survey->owners && finding.out && ++survey->out <= OWNERS_SHOWN)
			owner_report(survey, &finding);
		if (!finding.damaged)
			continue;
		damage_report(pool, survey->call, finding.vaddr, &finding.damage, &finding.record);
		survey->damaged += survey->damaged < INT_MAX;
	}
}

int dmaland_pool_check(struct dma_pool *pool)
{
	struct survey survey = {.pool = pool, .call = "dmaland_pool_check"};

	if (!pool)
		return error_set(EINVAL, "dmaland_pool_check: no pool");
	if (pool_is_disowned(pool))
		return error_forked(pool->place.name);
	if (!(pool->debug & POOL_CHECKED))
		return error_set(EOPNOTSUPP,
				 "dmaland_pool_check %s: the pool is not in debug mode; set "
				 "DMALAND_POOL_DEBUG=1, or pool_debug in the options of "
				 "dmaland_open()",
				 pool->name);
	arena_for_each_run_of(pool->place.arena, &pool->tenant, slab_look, &survey);
	return survey.damaged;
}

int debug_begin(struct dma_pool *pool)
{
	size_t most = (ARENA_PAGE + pool->stride - 1) / pool->stride;

	pool->records_size = power_of_two_covering(most * sizeof(struct block_record));
	pool->records = arena_side(pool->place.arena, pool->records_size, 0);
	if (!pool->records)
		return -ENOMEM;
	if (pool->debug & POOL_ANNOTATED)
		annotate_pool_begin(pool);
	return 0;
}

void debug_end(struct dma_pool *pool)
{
	struct survey survey = {.pool = pool, .call = "dma_pool_destroy", .owners = true};

	arena_for_each_run_of(pool->place.arena, &pool->tenant, slab_look, &survey);
	if (survey.out > OWNERS_SHOWN)
		log_line(DMALAND_LOG_ERR, "%s: dma_pool_destroy %s, %zu more in use",
			 pool->place.name, pool->name, survey.out - OWNERS_SHOWN);
	if (pool->debug & POOL_ANNOTATED)
		annotate_pool_end(pool);
}

/* ---- who wants it ---- */

bool pool_debug_wanted(const char *name)
{
	const char *list = secure_getenv("DMALAND_POOL_DEBUG");
	size_t length = name ? strlen(name) : 0;

	if (!list)
		return false;
	if (!strcmp(list, "1"))
		return true;
	for (;; list++) {
		size_t n = strcspn(list, ",");

		if (n == length && n && !memcmp(list, name, n))
			return true;
		list += n;
		if (!*list)
			return false;
	}
}

bool pool_annotate_wanted(void)
{
	return annotate_wanted();
}
