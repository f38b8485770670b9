/* SPDX-License-Identifier: MIT */
/*
 * sg.c - lists
 *
 *   elements   |e0|e1|      |  e2  |  e3  |e4|
 *   memory     e0 and e1 side by side; e2 and e3 whole granules, mapped; e4 small
 *   segments   | s0  |      |     s1      |s2|     in sg[0], sg[1], sg[2]
 *
 * Elements whose memory lies side by side go one way together. What is then mapped by the domain and
 * meets at a granule gets neighbouring addresses. Each segment is one slot, one mapping, or
 * translated, so that its end is checked as a single mapping's is; what was mapped as a list
 * remembers how many elements that had.
 */
#include "streaming/streaming_internal.h"

#include <errno.h>

#include "base/error.h"

/* Pieces that become one segment at most. */
enum { PIECES_MAX = 64 };

static int list_check(struct streaming *s, const struct scatterlist *sg, int nents,
		      enum dma_data_direction direction, unsigned long attrs)
{
	int err = 0;

	if (!sg || nents <= 0)
		return error_set(EINVAL, "%s: a list of %d elements can't be mapped", s->name,
				 sg ? nents : 0);
	for (int i = 0; !err && i < nents; i++) {
		err = request_check(s, sg[i].address, sg[i].length, direction, attrs);
		if (!err && sg[i].length > s->limits->max_seg_size)
			err = error_set(EINVAL,
					"%s: element %d of the list has %u bytes, and a segment "
					"may have %u: split it, or dma_set_max_seg_size()",
					s->name, i, sg[i].length, s->limits->max_seg_size);
		if (!err && sg_is_last(&sg[i]) && i + 1 < nents)
			err = error_set(EINVAL,
					"%s: the list ends at element %d of %d (sg_mark_end)",
					s->name, i, nents);
	}
	return err;
}

/* May so many bytes be one segment? */
static bool fits_segment(const struct streaming *s, size_t size)
{
	return size <= s->limits->max_seg_size && size - 1 <= s->limits->seg_boundary;
}

/* Can a piece that must keep its place in the page do so? */
static bool keeps_place(const struct streaming *s, const struct piece *piece)
{
	return !piece_touches_edge(s, piece) ||
	       !place_crosses(s, piece, s->limits->min_align_mask | (s->page - 1));
}

/* The elements from the first on whose memory lies side by side, as one piece. */
static struct piece run_collect(struct streaming *s, const struct scatterlist *sg, int nents,
				struct piece piece)
{
	piece.ptr = sg->address;
	piece.size = sg->length;
	piece.entries = 1;
	for (int i = 1; i < nents && (char *)sg[i].address == piece.ptr + piece.size; i++) {
		struct piece longer = piece;

		longer.size += sg[i].length;
		/* Not if that takes from what is translated, or its place in the page away. */
		if (!fits_segment(s, longer.size) || !keeps_place(s, &longer) ||
		    piece_is_translated(s, &piece) != piece_is_translated(s, &longer))
			break;
		piece = longer;
		piece.entries++;
	}
	return piece;
}

/* Do two pieces that the domain maps meet at a granule, inside of one segment of so many bytes? */
static bool pieces_meet(const struct streaming *s, const struct piece *a, const struct piece *b,
			size_t size)
{
	size_t granule = s->space->domain->granule;

	return !((uintptr_t)(a->ptr + a->size) & (granule - 1)) &&
	       !((uintptr_t)b->ptr & (granule - 1)) && fits_segment(s, size);
}

/*
 * Map the first elements of a list, as many as become one segment. How many; 0 with the error set.
 * Where the device has a copy of its own, one segment is one mapping, so that it can be synced.
 */
static uint32_t segment_map(struct streaming *s, const struct scatterlist *sg, int nents,
			    const struct piece *proto, struct scatterlist *segment)
{
	struct piece pieces[PIECES_MAX];
	uint32_t n = 1, entries;
	dma_addr_t dma;
	size_t size;

	pieces[0] = run_collect(s, sg, nents, *proto);
	size = pieces[0].size;
	entries = pieces[0].entries;
	while (!s->shadow && (int)entries < nents && n < PIECES_MAX &&
	       piece_is_mapped(s, &pieces[n - 1])) {
		pieces[n] = run_collect(s, sg + entries, nents - (int)entries, *proto);
		if (!piece_is_mapped(s, &pieces[n]) ||
		    !pieces_meet(s, &pieces[n - 1], &pieces[n], size + pieces[n].size))
			break;
		size += pieces[n].size;
		entries += pieces[n++].entries;
	}
	dma = n > 1 ? mapped_map_pieces(s, pieces, n) : piece_map(s, pieces);
	if (dma == DMA_MAPPING_ERROR)
		return 0;
	segment->dma_address = dma;
	segment->dma_length = (unsigned int)size;
	return entries;
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

int streaming_map_sg(struct streaming *s, struct scatterlist *sg, int nents,
		     enum dma_data_direction direction, unsigned long attrs)
{
	const struct piece proto = {NULL, 0, direction, attrs, (uint32_t)nents, 0};
	int segments = 0, code;
	uint32_t n;

	if (list_check(s, sg, nents, direction, attrs)) {
		count_way(s, WAY_FAILED);
		return -EINVAL;
	}
	for (uint32_t i = 0; i < (uint32_t)nents; i += n) {
		n = segment_map(s, sg + i, nents - (int)i, &proto, &sg[segments]);
		if (!n)
			goto unwind;
		segments++;
	}
	for (int i = segments; i < nents; i++)
		sg[i].dma_length = 0;
	return segments;

unwind:
	count_way(s, WAY_FAILED);
	code = errno;
	while (segments--) {
		const struct piece claim = {NULL,
					    sg[segments].dma_length,
					    direction,
					    DMA_ATTR_SKIP_CPU_SYNC,
					    (uint32_t)nents,
					    0};

		piece_unmap(s, sg[segments].dma_address, &claim);
		sg[segments].dma_address = DMA_MAPPING_ERROR;
		sg[segments].dma_length = 0;
	}
	errno = code;
	return failure_code();
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
			sg[i].address, sg[segment].dma_length, direction, 0, (uint32_t)nents, 0};

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

void streaming_unmap_sg(struct streaming *s, struct scatterlist *sg, int nents,
			enum dma_data_direction direction, unsigned long attrs)
{
	if (!list_holds(s, sg, nents, direction))
		return;
	for (int i = 0, segment = 0; i < nents; segment++) {
		const struct piece claim = {sg[i].address, sg[segment].dma_length, direction,
					    attrs,	   (uint32_t)nents,	   0};

		i += segment_entries(&sg[segment], sg + i, nents - i);
		piece_unmap(s, sg[segment].dma_address, &claim);
	}
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
