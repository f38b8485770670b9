/* SPDX-License-Identifier: MIT */
/*
 * sg.c - lists
 *
 *   elements   |e0|e1|      |  e2  |  e3  |e4|
 *   memory     e0 and e1 side by side; e2 and e3 whole granules; e4 small, not at a granule
 *   segments   | s0  |      |     s1      |s2|     in sg[0], sg[1], sg[2]
 *
 * Elements whose memory lies side by side are a run: they go one way together, if that is no dearer
 * than the ways they would go alone. Runs that meet at a granule become one segment, as with an IOMMU
 * in the kernel (drivers/iommu/dma-iommu.c): copied side by side where each would be copied, else mapped side by
 * side. What the device reaches already stays what it is. Where a segment can't be had, its elements go
 * alone: a list can be mapped when its elements can.
 *
 * Each segment is one slot, one mapping, or translated, so that its end is checked as a single
 * mapping's is; what was mapped as a list remembers how many elements that had.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>

#include "base/error.h"
#include "base/log.h"

static int list_check(struct streaming *s, const struct scatterlist *sg, int nents,
		      enum dma_data_direction direction, unsigned long attrs)
{
	int err = 0;

	if (!sg || nents <= 0)
		return error_set(EINVAL, "%s: a list of %d elements can't be mapped", s->name,
				 sg ? nents : 0);
	for (int i = 0; !err && i < nents; i++) {
		err = request_check(s, sg[i].address, sg[i].length, direction, attrs);
		if (!err && sg_is_last(&sg[i]) && i + 1 < nents)
			err = error_set(EINVAL,
					"%s: the list ends at element %d of %d (sg_mark_end)",
					s->name, i, nents);
	}
	return err;
}

/* ---- which elements become one segment ---- */

/* Elements that go one way together; or several runs of them. */
struct run {
	struct piece piece;
	enum piece_way way;
};

static void run_begin(struct streaming *s, struct run *run, const struct scatterlist *sg,
		      const struct piece *proto)
{
	run->piece = *proto;
	run->piece.ptr = sg->address;
	run->piece.size = sg->length;
	run->piece.entries = 1;
	run->way = piece_way(s, &run->piece);
}

/* A copy of several elements must keep its place in the page, where one of them must. */
static bool keeps_place(const struct streaming *s, const struct piece *piece)
{
	return !piece_touches_edge(s, piece) ||
	       !place_crosses(piece, s->limits->min_align_mask | (s->page - 1));
}

/* Is it no dearer to go this way than for two parts to go theirs? */
static bool ways_join(enum piece_way a, enum piece_way b, enum piece_way joined)
{
	if (a == PIECE_TRANSLATED || b == PIECE_TRANSLATED || joined == PIECE_TRANSLATED)
		return a == b && b == joined;
	if (a == PIECE_MAPPED || b == PIECE_MAPPED)
		return joined == PIECE_MAPPED;
	return joined != PIECE_REFUSED;
}

/* Does the next element, whose memory lies behind the run's, become a part of it? */
static bool run_extend(struct streaming *s, struct run *run, const struct run *next)
{
	struct run longer = {.piece = run->piece};

	longer.piece.size += next->piece.size;
	longer.piece.entries++;
	if (longer.piece.size > s->limits->max_seg_size || next->way == PIECE_REFUSED)
		return false;
	longer.way = piece_way(s, &longer.piece);
	if (!ways_join(run->way, next->way, longer.way) ||
	    (longer.way == PIECE_COPIED && !keeps_place(s, &longer.piece)))
		return false;
	*run = longer;
	return true;
}

/* The elements from the first on that become a run. */
static void run_collect(struct streaming *s, struct run *run, const struct scatterlist *sg,
			uint32_t nents, const struct piece *proto)
{
	struct run next;

	run_begin(s, run, sg, proto);
	while (run->piece.entries < nents && run->way != PIECE_REFUSED &&
	       (char *)sg[run->piece.entries].address == run->piece.ptr + run->piece.size) {
		run_begin(s, &next, &sg[run->piece.entries], proto);
		if (!run_extend(s, run, &next))
			break;
	}
}

/* May a run meet another at a granule? What is not trusted sees whole granules, or copies of its own. */
static bool may_meet(const struct streaming *s, enum piece_way way)
{
	return way == PIECE_MAPPED || (way == PIECE_COPIED && s->translates);
}

/* Does the element behind a run begin, and the run end, at a granule? */
static bool at_granule(const struct streaming *s, const struct scatterlist *last)
{
	uintptr_t end = (uintptr_t)last[0].address + last[0].length;

	return !((end | (uintptr_t)last[1].address) & (s->granule - 1));
}

/* The first elements of a list that become one segment, if it can be had. True: of several runs. */
static bool segment_collect(struct streaming *s, struct run *segment, const struct scatterlist *sg,
			    uint32_t nents, const struct piece *proto)
{
	bool several = false;
	struct run next;

	run_collect(s, segment, sg, nents, proto);
	if (!streaming_merges(s) || !may_meet(s, segment->way))
		return false;
	while (segment->piece.entries < nents && at_granule(s, &sg[segment->piece.entries - 1])) {
		struct piece longer = segment->piece;

		run_collect(s, &next, &sg[longer.entries], nents - longer.entries, proto);
		longer.size += next.piece.size;
		longer.entries += next.piece.entries;
		if (!may_meet(s, next.way) || longer.size > s->limits->max_seg_size ||
		    !fits_in_place(s, &longer))
			break;
		segment->piece = longer;
		if (next.way == PIECE_MAPPED)
			segment->way = PIECE_MAPPED;
		several = true;
	}
	if (!piece_can_be_copied(s, &segment->piece) || !keeps_place(s, &segment->piece))
		segment->way = PIECE_MAPPED;
	return several;
}

/* ---- map ---- */

/*
 * Map the first elements of a list, as many as become one segment; of the next *alone none is joined.
 * How many; 0 with the error set.
 */
static uint32_t segment_map(struct streaming *s, const struct scatterlist *sg, uint32_t nents,
			    const struct piece *proto, struct scatterlist *place, uint32_t *alone)
{
	struct run segment = {.piece = {.entries = 1}};
	dma_addr_t dma = DMA_MAPPING_ERROR;
	size_t size = sg->length;

	if (!*alone && nents > 1) {
		bool several = segment_collect(s, &segment, sg, nents, proto);

		size = segment.piece.size;
		if (several && segment.way == PIECE_COPIED)
			dma = bounce_map_list(s, &segment.piece, sg);
		else if (several)
			dma = mapped_map_list(s, &segment.piece, sg);
		else if (segment.piece.entries > 1)
			dma = piece_map(s, &segment.piece);
		*alone = segment.piece.entries;
	}
	if (dma == DMA_MAPPING_ERROR) {
		segment.piece = *proto;
		segment.piece.ptr = sg->address;
		segment.piece.size = size = sg->length;
		segment.piece.entries = 1;
		dma = element_map(s, &segment.piece);
	}
	if (dma == DMA_MAPPING_ERROR)
		return 0;
	if (*alone)
		*alone -= segment.piece.entries;
	place->dma_address = dma;
	place->dma_length = (unsigned int)size;
	return segment.piece.entries;
}

/* Debug mode: an element that is more than the device takes is mapped, and told. */
static void segment_look(const struct streaming *s, const struct scatterlist *segment)
{
	const struct dma_limits *limits = s->limits;
	dma_addr_t first = segment->dma_address, last = first + (segment->dma_length - 1);

	if (segment->dma_length > limits->max_seg_size)
		log_line(DMALAND_LOG_WARN,
			 "%s: device driver maps an sg element of %u bytes, and the device takes "
			 "segments of %u (dma_set_max_seg_size): split it",
			 s->name, segment->dma_length, limits->max_seg_size);
	if ((first ^ last) & ~limits->seg_boundary)
		log_line(DMALAND_LOG_WARN,
			 "%s: device driver maps an sg element of %u bytes that crosses the "
			 "segment boundary 0x%llx at dma address 0x%llx (dma_set_seg_boundary): "
			 "split it",
			 s->name, segment->dma_length, (unsigned long long)limits->seg_boundary,
			 (unsigned long long)first);
}

/* What kernel source expects of dma_map_sgtable(): try again, or not. */
static int failure_code(void)
{
	switch (errno) {
	case ENOMEM:
		return -ENOMEM;
	case EINVAL:
	case EFAULT:
	case EPERM:
	case EOPNOTSUPP:
		return -EINVAL;
	default:
		return -EIO;
	}
}

static __attribute__((noinline)) int list_map(struct streaming *s, struct scatterlist *sg,
					      int nents, enum dma_data_direction direction,
					      unsigned long attrs)
{
	const struct piece proto = {
		.direction = direction,
		.attrs = attrs,
		.nents = (uint32_t)nents,
		.same_bits = ~s->limits->seg_boundary,
	};
	const struct piece undone = {
		.direction = direction,
		.attrs = DMA_ATTR_SKIP_CPU_SYNC,
		.nents = (uint32_t)nents,
	};
	uint32_t n, alone = 0;
	int segments = 0, code;

	if (list_check(s, sg, nents, direction, attrs)) {
		count_way(s, WAY_FAILED);
		return -EINVAL;
	}
	for (uint32_t i = 0; i < (uint32_t)nents; i += n) {
		n = segment_map(s, sg + i, (uint32_t)nents - i, &proto, &sg[segments], &alone);
		if (!n)
			goto unwind;
		segments++;
	}
	for (int i = segments; i < nents; i++)
		sg[i].dma_length = 0;
	for (int i = 0; unlikely(s->follow != NULL) && i < segments; i++)
		segment_look(s, &sg[i]);
	return segments;

unwind:
	count_way(s, WAY_FAILED);
	code = errno;
	while (segments--) {
		struct piece claim = undone;

		claim.size = sg[segments].dma_length;
		piece_unmap(s, sg[segments].dma_address, &claim);
		sg[segments].dma_address = DMA_MAPPING_ERROR;
		sg[segments].dma_length = 0;
	}
	errno = code;
	return failure_code();
}

int streaming_map_sg(struct streaming *s, struct scatterlist *sg, int nents,
		     enum dma_data_direction direction, unsigned long attrs)
{
	dma_addr_t dma;

	if (nents != 1 || unlikely(!sg))
		return list_map(s, sg, nents, direction, attrs);
	dma = streaming_map_element(s, sg->address, sg->length, direction, attrs);
	if (unlikely(dma == DMA_MAPPING_ERROR))
		return failure_code();
	sg->dma_address = dma;
	sg->dma_length = sg->length;
	if (unlikely(s->follow != NULL))
		segment_look(s, sg);
	return 1;
}

/* How many elements from the first on the segment covers; 0 when they don't add up to it. */
static int segment_entries(const struct scatterlist *segment, const struct scatterlist *sg,
			   int nents)
{
	size_t size = 0;
	int n = 0;

	while (n < nents && size < segment->dma_length)
		size += sg[n++].length;
	return size == segment->dma_length ? n : 0;
}

/* Is each segment what the list says? Reported if not. */
static bool list_holds(struct streaming *s, const struct scatterlist *sg, int nents,
		       enum dma_data_direction direction)
{
	int n;

	if (!sg || nents <= 0) {
		report_bad_list(s, "frees DMA sg list without elements", nents);
		return false;
	}
	for (int i = 0, segment = 0; i < nents; i += n, segment++) {
		struct piece claim = {
			sg[i].address, sg[segment].dma_length, direction, 0, (uint32_t)nents, 0, 0};

		n = segment_entries(&sg[segment], sg + i, nents - i);
		if (!n) {
			report_bad_list(s,
					"frees DMA sg list whose elements and segments differ "
					"in length",
					nents);
			return false;
		}
		if (!piece_check(s, sg[segment].dma_address, &claim))
			return false;
	}
	return true;
}

static __attribute__((noinline)) void list_unmap(struct streaming *s, struct scatterlist *sg,
						 int nents, enum dma_data_direction direction,
						 unsigned long attrs)
{
	if (!list_holds(s, sg, nents, direction))
		return;
	for (int i = 0, segment = 0; i < nents; segment++) {
		struct piece claim = {sg[i].address,
				      sg[segment].dma_length,
				      direction,
				      attrs,
				      (uint32_t)nents,
				      0,
				      0};

		i += segment_entries(&sg[segment], sg + i, nents - i);
		piece_unmap(s, sg[segment].dma_address, &claim);
	}
}

void streaming_unmap_sg(struct streaming *s, struct scatterlist *sg, int nents,
			enum dma_data_direction direction, unsigned long attrs)
{
	if (nents == 1 && sg && likely(sg->dma_length == sg->length))
		element_unmap(s, sg, direction, attrs);
	else
		list_unmap(s, sg, nents, direction, attrs);
}

void streaming_sync_sg(struct streaming *s, struct scatterlist *sg, int nents,
		       enum dma_data_direction direction, bool for_device)
{
	int n;

	if (!sg || nents <= 0) {
		report_bad_list(s, "syncs DMA sg list without elements", nents);
		return;
	}
	for (int i = 0, segment = 0; i < nents; i += n, segment++) {
		n = segment_entries(&sg[segment], sg + i, nents - i);
		if (!n) {
			report_bad_list(s,
					"syncs DMA sg list whose elements and segments differ in "
					"length",
					nents);
			return;
		}
		streaming_sync(s, sg[segment].dma_address, sg[segment].dma_length, direction,
			       for_device);
	}
}
