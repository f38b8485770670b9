/* SPDX-License-Identifier: MIT */
/*
 * debug.c - pools that are watched
 *
 * A checked pool fills free blocks with 0xa7, blocks that it hands out with 0xa9 (the kernel's
 * values), and the zones between blocks with 0xbb, and looks whether they are still so:
 *
 *   |   block 0   | zone:  behind 0 | before 1 |   block 1   | behind 1 | ...
 *
 * It keeps the call sites of the last allocation and free of each block in a record beside the
 * states, out of the device's reach. An annotated pool tells AddressSanitizer and Valgrind instead,
 * which look at each access of the program, but not of the device. Both may be wanted at a time.
 *
 * A block that is being looked at is in the state BLOCK_MOVING, and its thread's: so nothing long is
 * done under the lock of its shelf, and nothing is logged under it. States change under that alone,
 * so that one of two frees that race finds that the block is not out any more.
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
#include "pool/magazine.h"

/* include/linux/poison.h: POOL_POISON_FREED, POOL_POISON_ALLOCATED; the zones' as SLUB's. */
enum { POISON_FREE = 0xa7, POISON_ALLOCATED = 0xa9, POISON_ZONE = 0xbb };

enum { OWNERS_SHOWN = 8, BYTES_SHOWN = 16 };

/* A block, all that is known of it. */
struct subject {
	struct page *unit;
	uint32_t number;
	char *vaddr;
	uint8_t *state;
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

static size_t unit_bytes(const struct page *unit)
{
	return (size_t)unit->run_pages << ARENA_PAGE_SHIFT;
}

static struct subject subject_of(const struct dma_pool *pool, struct page *unit, uint32_t number)
{
	struct block block = unit_block(pool, block_encode((size_t)(unit - pool->pages), number));

	return (struct subject){
		.unit = unit,
		.number = number,
		.vaddr = block.vaddr,
		.state = block.state,
		.record = unit_records(pool, unit) + number,
	};
}

/* The block at an address that may be anything. The lock is held. */
static bool subject_find(const struct dma_pool *pool, const void *vaddr, struct subject *subject)
{
	struct page *page = pagemap_find(&pool->place.arena->pagemap, vaddr);
	uint32_t number;

	if (!page || page_tenant(page) != &pool->tenant)
		return false;
	number = unit_block_number(pool, (size_t)page->run_offset * ARENA_PAGE +
						 ((uintptr_t)vaddr & (ARENA_PAGE - 1)));
	if (number >= pool->per_unit)
		return false;
	*subject = subject_of(pool, unit_of(page), number);
	return true;
}

/* Bytes from the end of a block to the next one, or to the unit's end. */
static size_t zone_size(const struct dma_pool *pool, const struct subject *s)
{
	const char *end = s->vaddr + pool->size;

	if (s->number + 1 == pool->per_unit)
		return (size_t)(s->unit->unit.base + unit_bytes(s->unit) - end);
	return (size_t)(subject_of(pool, s->unit, s->number + 1).vaddr - end);
}

/* Two neighbours share the zone between them. */
static struct span zone_behind(const struct dma_pool *pool, const struct subject *s)
{
	size_t size = zone_size(pool, s);

	return (struct span){s->vaddr + pool->size,
			     s->number + 1 == pool->per_unit ? size : size - size / 2};
}

static struct span zone_before(const struct dma_pool *pool, const struct subject *s)
{
	struct subject left;
	size_t size;

	if (s->number == 0)
		return (struct span){s->vaddr, 0};
	left = subject_of(pool, s->unit, s->number - 1);
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

/* ---- units ---- */

void debug_unit_begin(struct dma_pool *pool, struct page *unit)
{
	memset(unit_records(pool, unit), 0, pool->per_unit * sizeof(struct block_record));
	if (pool->debug & POOL_CHECKED) {
		memset(unit->unit.base, POISON_ZONE, unit_bytes(unit));
		for (uint32_t i = 0; i < pool->per_unit; i++)
			memset(subject_of(pool, unit, i).vaddr, POISON_FREE, pool->size);
	}
	if (pool->debug & POOL_ANNOTATED)
		annotate_forbid(unit->unit.base, unit_bytes(unit));
}

void debug_unit_end(struct dma_pool *pool, struct page *unit)
{
	if (pool->debug & POOL_ANNOTATED)
		annotate_allow(unit->unit.base, unit_bytes(unit));
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

void debug_alloc(struct dma_pool *pool, gfp_t gfp, const struct block *block, const void *site)
{
	struct subject s;
	struct damage damage;

	if (!subject_find(pool, block->vaddr, &s))
		return; /* cannot be: the block is ours */
	if (pool->debug & POOL_ANNOTATED)
		annotate_alloc(pool, s.vaddr, pool->size);
	if (pool->debug & POOL_CHECKED) {
		if (block_is_damaged(pool, &s, &damage) || zones_check(pool, &s, &damage))
			damage_report(pool, "dma_pool_alloc", s.vaddr, &damage, s.record);
		if (!(gfp & __GFP_ZERO))
			memset(s.vaddr, POISON_ALLOCATED, pool->size);
	}
	shelves_lock(pool);
	s.record->allocated = site;
	state_write(s.state, BLOCK_OUT);
	shelves_unlock(pool);
}

void debug_free(struct dma_pool *pool, block_code code)
{
	struct page *unit = code_page(pool, code);
	struct subject s = subject_of(pool, unit, code & CODE_NUMBER_MASK);
	struct damage damage;

	if (pool->debug & POOL_CHECKED) {
		if (zones_check(pool, &s, &damage))
			damage_report(pool, "dma_pool_free", s.vaddr, &damage, s.record);
		memset(s.vaddr, POISON_FREE, pool->size);
	}
	if (pool->debug & POOL_ANNOTATED)
		annotate_free(pool, s.vaddr, pool->size);
	shelves_lock(pool);
	state_write(s.state, BLOCK_FREE);
	shelves_unlock(pool);
	units_put_back(pool, &code, 1);
}

void debug_describe(struct dma_pool *pool, const void *vaddr, const void *site, char *text,
		    size_t size)
{
	struct block_record record = {NULL, NULL};
	struct subject s;

	if (pool_is_disowned(pool))
		return;
	shelves_lock(pool);
	if (subject_find(pool, vaddr, &s)) {
		record.allocated = s.record->allocated;
		if (state_read(s.state) != BLOCK_OUT)
			record.freed = s.record->freed;
	}
	shelves_unlock(pool);
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

/* False when the block is no more, its unit having been given back. */
static bool block_look(struct dma_pool *pool, uint32_t index, uint32_t number,
		       struct finding *finding)
{
	struct page *unit = &pool->pages[index];
	struct subject s;
	uint8_t state;

	memset(finding, 0, sizeof(*finding));
	shelves_lock(pool);
	if (page_tenant(unit) != &pool->tenant || unit->run_offset) {
		shelves_unlock(pool);
		return false;
	}
	s = subject_of(pool, unit, number);
	state = state_read(s.state);
	finding->vaddr = s.vaddr;
	finding->handle = (uintptr_t)s.vaddr + unit->dma_offset;
	finding->record = *s.record;
	finding->out = state == BLOCK_OUT;
	if (finding->out)
		finding->record.freed = NULL;
	if (pool->debug & POOL_CHECKED && state != BLOCK_MOVING) {
		annotate_peek_begin();
		finding->damaged =
			(state == BLOCK_FREE && block_is_damaged(pool, &s, &finding->damage)) ||
			zones_are_damaged(pool, &s, &finding->damage);
		annotate_peek_end();
	}
	shelves_unlock(pool);
	return true;
}

/* Look at all blocks that the pool has now; one damaged block is reported once. -ENOMEM in words. */
static int pool_survey(struct dma_pool *pool, const char *call,
		       void (*visit)(struct dma_pool *pool, const struct finding *finding,
				     void *context),
		       void *context)
{
	int damaged = 0;
	size_t n;
	uint32_t *units = units_list(pool, &n);

	if (!units)
		return error_set(ENOMEM, "%s %s: no memory for a list of %zu units", call,
				 pool->name, pool->unit_count);
	for (size_t i = 0; i < n; i++) {
		struct finding finding;

		for (uint32_t number = 0;
		     number < pool->per_unit && block_look(pool, units[i], number, &finding);
		     number++) {
			if (visit)
				visit(pool, &finding, context);
			if (!finding.damaged)
				continue;
			damage_report(pool, call, finding.vaddr, &finding.damage, &finding.record);
			damaged += damaged < INT_MAX;
		}
	}
	free(units);
	return damaged;
}

int dmaland_pool_check(struct dma_pool *pool)
{
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
	return pool_survey(pool, "dmaland_pool_check", NULL, NULL);
}

static void owner_report(struct dma_pool *pool, const struct finding *finding, void *context)
{
	size_t *owners = context;
	char text[128] = "";

	if (!finding->out || ++*owners > OWNERS_SHOWN)
		return;
	text_add_site(text, sizeof(text), ", allocated at ", finding->record.allocated);
	log_line(DMALAND_LOG_ERR, "%s: dma_pool_destroy %s, %p/%llx in use%s", pool->place.name,
		 pool->name, (void *)finding->vaddr, (unsigned long long)finding->handle, text);
}

void debug_begin(struct dma_pool *pool)
{
	if (pool->debug & POOL_ANNOTATED)
		annotate_pool_begin(pool);
}

void debug_end(struct dma_pool *pool)
{
	size_t owners = 0;

	pool_survey(pool, "dma_pool_destroy", owner_report, &owners);
	if (owners > OWNERS_SHOWN)
		log_line(DMALAND_LOG_ERR, "%s: dma_pool_destroy %s, %zu more in use",
			 pool->place.name, pool->name, owners - OWNERS_SHOWN);
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
