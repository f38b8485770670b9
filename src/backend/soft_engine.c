/* SPDX-License-Identifier: MIT */
/*
 * soft_engine.c - the DMA engine of `soft:`: commands, misbehaviour, faults
 *
 * A transfer goes piece by piece: read from the address space into the engine, write from there.
 * It ends with the first access that is not allowed. What misbehaves comes after it (or, held
 * back, before the next), by the same way into the address space.
 */
#include "backend/soft.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define SEED UINT64_C(0x9e3779b97f4a7c15)

void soft_engine_init(struct soft_engine *engine, struct soft_domain *sd)
{
	memset(engine, 0, sizeof(*engine));
	engine->sd = sd;
	engine->seed = SEED;
}

void soft_engine_reset(struct soft_engine *engine)
{
	engine->mode = engine->count = 0;
	engine->done = 0;
	engine->late.size = 0;
	engine->seed = SEED;
}

/* xorshift64*: the same numbers after each reset. */
static uint64_t random_number(struct soft_engine *engine)
{
	engine->seed ^= engine->seed >> 12;
	engine->seed ^= engine->seed << 25;
	engine->seed ^= engine->seed >> 27;
	return engine->seed * UINT64_C(2685821657736338717);
}

/* ---- accesses, and faults ---- */

/* Access a part of a transfer that began at `begin` and would go on for `rest` bytes after it. */
static bool engine_access(struct soft_engine *engine, const struct soft_access *access,
			  uint64_t rest)
{
	struct dmaland_soft_fault *fault = &engine->faults[engine->fault_count % SOFT_FAULTS_KEPT];
	struct dmaland_soft_fault found;
	size_t done = soft_domain_access(engine->sd, access, &found);

	if (done == access->size)
		return true;
	found.length = access->size - done + rest;
	*fault = found;
	engine->fault_count++;
	return false;
}

size_t soft_engine_faults(const struct soft_engine *engine, struct dmaland_soft_fault *faults,
			  size_t n)
{
	size_t count = engine->fault_count;

	if (n > SOFT_FAULTS_KEPT)
		n = SOFT_FAULTS_KEPT;
	if (n > count)
		n = count;
	for (size_t i = 0; i < n; i++)
		faults[i] = engine->faults[(count - n + i) % SOFT_FAULTS_KEPT];
	return count;
}

bool soft_engine_next_to_log(struct soft_engine *engine, struct dmaland_soft_fault *fault)
{
	if (engine->logged >= SOFT_FAULTS_LOGGED || engine->logged >= engine->fault_count)
		return false;
	/* One command may have had so many that the first are no longer kept. */
	if (engine->fault_count - engine->logged > SOFT_FAULTS_KEPT)
		*fault = engine->faults[engine->fault_count % SOFT_FAULTS_KEPT];
	else
		*fault = engine->faults[engine->logged % SOFT_FAULTS_KEPT];
	engine->logged++;
	return true;
}

void soft_fault_log(const char *name, const struct dmaland_soft_fault *fault, bool last)
{
	static const char *const reasons[] = {
		[DMALAND_SOFT_NOT_MAPPED] = "nothing is mapped there",
		[DMALAND_SOFT_END] = "it ran over the end of what is mapped",
		[DMALAND_SOFT_DIRECTION] = "it is not mapped for that",
		[DMALAND_SOFT_GONE] = "it is mapped, but the memory is gone",
		[DMALAND_SOFT_CPU] = "it is the CPU's since dma_sync_*_for_cpu(): give it back by "
				     "dma_sync_*_for_device() first",
	};
	static const char *const kinds[] = {
		[DMALAND_SOFT_ARENA] = "the arena",
		[DMALAND_SOFT_MAPPING] = "a mapping",
	};
	char owner[128] = "never mapped, or long ago";

	if (fault->kind != DMALAND_SOFT_NOBODY)
		snprintf(owner, sizeof(owner), "%s0x%llx to 0x%llx, %s of memory at %p, %s%s",
			 fault->unmapped ? "unmapped by now: " : "",
			 (unsigned long long)fault->first,
			 (unsigned long long)(fault->first + (fault->size - 1)), kinds[fault->kind],
			 fault->memory, !fault->writable ? "read-only" : "writable",
			 !fault->readable ? ", not readable" : "");
	log_line(DMALAND_LOG_ERR,
		 "%s: DMA fault: %s of %llu bytes at dma address 0x%llx: %s (%s)%s", name,
		 fault->write ? "write" : "read", (unsigned long long)fault->length,
		 (unsigned long long)fault->address, reasons[fault->reason], owner,
		 last ? "; further faults are counted, not shown" : "");
}

/* ---- misbehaviour ---- */

static void write_garbage(struct soft_engine *engine, dma_addr_t begin, dma_addr_t dma,
			  uint64_t size)
{
	memset(engine->piece, DMALAND_SOFT_GARBAGE, sizeof(engine->piece));
	while (size) {
		size_t n = size < SOFT_PIECE ? (size_t)size : SOFT_PIECE;
		struct soft_access access = {begin, dma, engine->piece, n, true};

		if (!engine_access(engine, &access, size - n))
			return;
		dma += n;
		size -= n;
	}
}

static void write_random(struct soft_engine *engine, uint32_t writes)
{
	for (uint32_t i = 0; i < writes; i++) {
		dma_addr_t dma = soft_domain_pick(engine->sd, random_number(engine));
		uint64_t words[8];
		struct soft_access access = {dma, dma, words, random_number(engine) % 64 + 1, true};

		for (size_t w = 0; w < 8; w++)
			words[w] = random_number(engine);
		if (dma)
			engine_access(engine, &access, 0);
	}
}

static void misbehave(struct soft_engine *engine, const struct soft_transfer *t)
{
	if (engine->mode & DMALAND_SOFT_OVERRUN)
		write_garbage(engine, t->destination, t->destination + t->length, engine->count);
	if ((engine->mode & DMALAND_SOFT_WRITE_SOURCE) && t->command == DMALAND_SOFT_COPY)
		write_garbage(engine, t->source, t->source, t->length);
	if (engine->mode & DMALAND_SOFT_RANDOM)
		write_random(engine, engine->count);
}

/* Write what was held back. */
static void write_late(struct soft_engine *engine)
{
	struct soft_access access = {engine->late.dma, engine->late.dma, engine->late.data,
				     engine->late.size, true};

	if (engine->late.size)
		engine_access(engine, &access, 0);
	engine->late.size = 0;
}

/* ---- transfers ---- */

/* The piece that is read becomes what is held back. */
static void hold_back(struct soft_engine *engine, const struct soft_access *access)
{
	memcpy(engine->late.data, access->data, access->size);
	engine->late.dma = access->dma;
	engine->late.size = access->size;
}

static bool transfer_piece(struct soft_engine *engine, const struct soft_transfer *t, uint32_t at)
{
	uint32_t rest = t->length - at;
	size_t n = rest < SOFT_PIECE ? rest : SOFT_PIECE;
	struct soft_access read = {t->source, t->source + at, engine->piece, n, false};
	struct soft_access write = {t->destination, t->destination + at, engine->piece, n, true};

	if (t->command == DMALAND_SOFT_FILL)
		memset(engine->piece, (int)(t->source & 0xff), n);
	else if (!engine_access(engine, &read, rest - n))
		return false;
	if ((engine->mode & DMALAND_SOFT_LATE) && n == rest)
		hold_back(engine, &write);
	else if (!engine_access(engine, &write, rest - n))
		return false;
	engine->done += n;
	return true;
}

static enum dmaland_soft_status transfer_run(struct soft_engine *engine,
					     const struct soft_transfer *t)
{
	uint32_t at = 0;

	if ((t->command != DMALAND_SOFT_COPY && t->command != DMALAND_SOFT_FILL) || !t->length)
		return DMALAND_SOFT_INVALID;
	write_late(engine);
	while (at < t->length) {
		if (!transfer_piece(engine, t, at))
			return DMALAND_SOFT_FAULT;
		at += t->length - at < SOFT_PIECE ? t->length - at : SOFT_PIECE;
	}
	misbehave(engine, t);
	return DMALAND_SOFT_OK;
}

enum dmaland_soft_status soft_engine_run(struct soft_engine *engine, const struct soft_transfer *t)
{
	engine->done = 0;
	return transfer_run(engine, t);
}

static bool write_back(struct soft_engine *engine, dma_addr_t descriptor,
		       enum dmaland_soft_status status)
{
	dma_addr_t dma = descriptor + offsetof(struct dmaland_soft_descriptor, status);
	uint32_t word = htole32(DMALAND_SOFT_ENDED | (uint32_t)status);
	struct soft_access access = {dma, dma, &word, sizeof(word), true};

	return engine_access(engine, &access, 0);
}

enum dmaland_soft_status soft_engine_run_list(struct soft_engine *engine, dma_addr_t list)
{
	enum dmaland_soft_status status = DMALAND_SOFT_OK;
	struct dmaland_soft_descriptor d;
	uint32_t control = 0;

	engine->done = 0;
	for (dma_addr_t at = list; !status && !(control & DMALAND_SOFT_LAST); at += sizeof(d)) {
		struct soft_access access = {list, at, &d, sizeof(d), false};
		struct soft_transfer t;

		if (!engine_access(engine, &access, 0))
			return DMALAND_SOFT_FAULT;
		control = le32toh(d.control);
		t = (struct soft_transfer){control & 0xff, le64toh(d.source),
					   le64toh(d.destination), le32toh(d.length)};
		status = transfer_run(engine, &t);
		if ((control & DMALAND_SOFT_WRITE_BACK) && !write_back(engine, at, status))
			status = DMALAND_SOFT_FAULT;
	}
	return status;
}
