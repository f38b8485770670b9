/* SPDX-License-Identifier: MIT */
/*
 * map.c - from segments of memory to what the drive reaches
 *
 * The drive sees the data of a command as a stream that is cut into controller pages. Only the
 * first page may begin at an offset (NVMe 2.0, 4.1.1); so all later cuts follow from that one:
 *
 *   stream    |-- page 0 --|---- page 1 ----|---- page 2 ----|-- page 3 --|
 *             ^ first_offset, all others at offset 0
 *
 *   memory    |  A A A A A |A A A A A A A A | B B A A A A A A|A A A A A A |
 *             |<-------- run of A --------->| page: gathered |<-- run --->|
 *
 * A run is pages whose bytes lie side by side in memory, at the offset that the stream wants. Runs
 * are elements of a scatterlist and mapped with dma_map_sg(), or dma_map_single() when there is but
 * one. The minimum alignment mask makes dma addresses agree with memory in the offset in a page,
 * so it can be seen in memory where PRPs can't express it. Such a page is gathered: ordinary memory
 * of the command's own, iod->gathered, stands in for it, and is an element like the others, so that the
 * library decides how the device reaches it, and for how long. The offset is chosen such that the
 * longest segment can be mapped as it lies.
 *
 * SGLs, where the drive takes them, have no such rules: a run is what lies side by side, wherever it
 * begins and ends. What they can't express goes by PRPs all the same: more runs than descriptors fit in
 * a page, and, for some drives, what is no multiple of 4.
 */
#include "data.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Pages that lie side by side, or (address NULL) a page to be gathered. */
struct run {
	char *address;
	size_t bytes;
};

void nvme_init_iod(struct nvme_iod *iod)
{
	iod->lists = &iod->list;
	iod->sg = iod->few_sg;
}

/* ---- the segments as a stream ---- */

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Of data that are elements. */
static struct nvme_position start_of(const struct nvme_iod *iod)
{
	return (struct nvme_position){0, iod->iov_offset};
}

/* Step over segments that are used up or empty; there are bytes left behind them. */
static size_t piece_at(const struct iovec *iov, struct nvme_position *at)
{
	while (at->offset == iov[at->segment].iov_len) {
		at->segment++;
		at->offset = 0;
	}
	return iov[at->segment].iov_len - at->offset;
}

static char *address_at(const struct iovec *iov, const struct nvme_position *at)
{
	return (char *)iov[at->segment].iov_base + at->offset;
}

static void skip(const struct iovec *iov, struct nvme_position *at, size_t bytes)
{
	while (bytes > 0) {
		size_t piece = smaller(bytes, piece_at(iov, at));

		at->offset += piece;
		bytes -= piece;
	}
}

static void copy_in(const struct iovec *iov, struct nvme_position at, char *to, size_t bytes)
{
	while (bytes > 0) {
		size_t piece = smaller(bytes, piece_at(iov, &at));

		memcpy(to, address_at(iov, &at), piece);
		at.offset += piece;
		to += piece;
		bytes -= piece;
	}
}

static void copy_out(const struct iovec *iov, struct nvme_position *at, const char *from,
		     size_t bytes)
{
	while (bytes > 0) {
		size_t piece = smaller(bytes, piece_at(iov, at));

		memcpy(address_at(iov, at), from, piece);
		at->offset += piece;
		from += piece;
		bytes -= piece;
	}
}

/* How many of so many bytes lie side by side in memory, over segment ends too. */
static size_t contiguous(const struct iovec *iov, struct nvme_position at, size_t bytes)
{
	const char *next = NULL;
	size_t done = 0;

	while (done < bytes) {
		size_t piece = smaller(bytes - done, piece_at(iov, &at));

		if (done > 0 && address_at(iov, &at) != next)
			break;
		next = address_at(iov, &at) + piece;
		at.offset += piece;
		done += piece;
	}
	return done;
}

/* ---- runs ---- */

static size_t offset_in_page(const struct nvme_prp_pools *pools, uintptr_t address)
{
	return address & (pools->page_size - 1);
}

/*
 * The offset in the first page that spares the longest segment the copy. A PRP entry is dword
 * aligned (NVMe 2.0, 4.1.1), so segments that aren't don't count.
 */
static uint32_t choose_first_offset(const struct nvme_prp_pools *pools, const struct nvme_iod *iod)
{
	struct nvme_position at = start_of(iod);
	const struct iovec *iov = iod->iov;
	size_t longest = 0, done = 0;
	uint32_t offset = 0;

	while (done < iod->bytes) {
		size_t piece = smaller(iod->bytes - done, piece_at(iov, &at));
		uintptr_t begin = (uintptr_t)address_at(iov, &at) - done;

		if (piece > longest && (begin & 3) == 0) {
			longest = piece;
			offset = offset_in_page(pools, begin);
		}
		at.offset += piece;
		done += piece;
	}
	return offset;
}

/* What the stream goes on with, so many bytes being left from a position on: it is where a page begins. */
static struct run next_run(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
			   const struct iovec *iov, struct nvme_position at, size_t page,
			   size_t left)
{
	size_t offset, bytes;
	struct run gathered = {NULL, iod->sgl ? 0 : nvme_page_bytes(pools, iod, page)};
	char *address;

	piece_at(iov, &at);
	address = address_at(iov, &at);
	offset = offset_in_page(pools, (uintptr_t)address);
	if (!iod->sgl && offset != (page == 0 ? iod->first_offset : 0))
		return gathered;
	bytes = contiguous(iov, at, smaller(left, pools->max_run - offset));
	if (bytes < left && !iod->sgl)
		bytes -= smaller(bytes, offset_in_page(pools, (uintptr_t)address + bytes));
	return bytes > 0 ? (struct run){address, bytes} : gathered;
}

/* The page behind a run that begins with a page. */
static size_t page_behind(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
			  size_t page, const struct run *run)
{
	size_t end = nvme_page_start(pools, iod, page) + run->bytes + iod->first_offset;

	return (end + pools->page_size - 1) >> pools->page_shift;
}

/*
 * Go through the stream, and count the elements and the pages that are gathered. With elements to be
 * noted (sg), these pages are filled too: for a read as well, so that what the drive leaves alone is there
 * again afterwards, and nobody else's. Those that follow one another are one element.
 */
static size_t collect(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
		      struct scatterlist *sg, size_t *pages_gathered)
{
	struct nvme_position at = start_of(iod);
	const struct iovec *iov = iod->iov;
	size_t done = 0, page = 0, elements = 0, gathered = 0, length = 0;

	while (done < iod->bytes) {
		struct run run = next_run(pools, iod, iov, at, page, iod->bytes - done);
		bool goes_on = !run.address && length > 0 &&
			       length + run.bytes <= pools->max_run - iod->first_offset;

		length = run.address ? 0 : goes_on ? length + run.bytes : run.bytes;
		if (sg && !run.address) {
			run.address = iod->gathered + (gathered << pools->page_shift) +
				      (page == 0 ? iod->first_offset : 0);
			copy_in(iov, at, run.address, run.bytes);
		}
		if (sg && goes_on)
			sg[elements - 1].length = (unsigned int)length;
		else if (sg)
			sg_set_buf(&sg[elements], run.address, (unsigned int)run.bytes);
		gathered += length > 0;
		elements += !goes_on;
		page = iod->sgl ? 0 : page_behind(pools, iod, page, &run);
		skip(iov, &at, run.bytes);
		done += run.bytes;
	}
	*pages_gathered = gathered;
	return elements;
}

static void free_elements(struct nvme_iod *iod)
{
	if (iod->sg != iod->few_sg)
		free(iod->sg);
	free(iod->gathered);
	iod->sg = iod->few_sg;
	iod->gathered = NULL;
	iod->gathered_bytes = 0;
	iod->sg_count = 0;
}

/* Note the elements, and gather the pages that have to be. How many; or 0 with ENOMEM set. */
static size_t note_elements(const struct nvme_prp_pools *pools, struct nvme_iod *iod)
{
	size_t gathered, n = collect(pools, iod, NULL, &gathered);

	if (n > NVME_INLINE_SG)
		iod->sg = malloc(n * sizeof(*iod->sg));
	iod->gathered_bytes = gathered << pools->page_shift;
	if (iod->sg && gathered > 0)
		iod->gathered = aligned_alloc(pools->page_size, iod->gathered_bytes);
	if (!iod->sg || (gathered > 0 && !iod->gathered)) {
		free_elements(iod);
		dmaland_set_error(ENOMEM,
				  "no memory to note %zu pieces of a transfer, and to gather %zu "
				  "pages that PRPs can't express",
				  n, gathered);
		return 0;
	}
	sg_init_table(iod->sg, n);
	return collect(pools, iod, iod->sg, &gathered);
}

/* ---- mapping ---- */

/* Can descriptors say where the data are? */
static bool sgl_can_say(const struct nvme_prp_pools *pools, const struct nvme_iod *iod)
{
	size_t most = pools->page_size / NVME_SGL_DESCRIPTOR, done = 0, n;
	struct nvme_position at = start_of(iod);
	const struct iovec *iov = iod->iov;

	for (n = 0; done < iod->bytes && n <= most; n++) {
		struct run run = next_run(pools, iod, iov, at, 0, iod->bytes - done);

		if (((uintptr_t)run.address | run.bytes) & pools->misaligned)
			return false;
		skip(iov, &at, run.bytes);
		done += run.bytes;
	}
	return n <= most;
}

static int map_scattered(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
			 const struct iovec *iov, const struct nvme_position *at)
{
	size_t elements;
	int code;

	iod->iov = &iov[at->segment];
	iod->iov_offset = at->offset;
	iod->sgl = pools->sgls;
	iod->first_offset = 0;
	if (!iod->sgl || !sgl_can_say(pools, iod)) {
		iod->sgl = false;
		iod->first_offset = choose_first_offset(pools, iod);
	}
	elements = note_elements(pools, iod);
	if (elements == 0)
		return -ENOMEM;
	if (dma_map_sg(pools->dev, iod->sg, (int)elements,
		       (enum dma_data_direction)iod->direction) == 0) {
		code = -errno;
		free_elements(iod);
		return code;
	}
	iod->sg_count = elements;
	iod->holds = NVME_ELEMENTS;
	return 0;
}

/* Do the data lie side by side, where PRPs can say it? So many bytes of them are in their first segment. */
static bool lies_in_one_piece(const struct nvme_prp_pools *pools, const struct nvme_iod *iod,
			      const struct iovec *iov, const struct nvme_position *at, size_t piece)
{
	uintptr_t address = (uintptr_t)address_at(iov, at);

	return (address & pools->misaligned) == 0 &&
	       iod->bytes <= pools->max_run - offset_in_page(pools, address) &&
	       (iod->bytes <= piece || contiguous(iov, *at, iod->bytes) == iod->bytes);
}

/* Say where data are that are mapped and need more than a command; or unmap them. 0 or -ENOMEM. */
int nvme_take_lists(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		    struct nvme_command *command)
{
	int code;

	if (iod->holds == NVME_PIECE) {
		iod->holds = NVME_LISTED_PIECE;
		iod->first_offset = iod->dma & (pools->page_size - 1);
	}
	code = iod->sgl ? nvme_list_sgl(pools, iod, command) : nvme_list_prps(pools, iod, command);
	if (code != 0)
		nvme_unmap_data(pools, iod, false);
	return code;
}

/* Say in a command where its data are, whose lists are taken; once more, when it is repeated. All else of it is there. */
void nvme_write_data(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		     struct nvme_command *command)
{
	if (nvme_is_piece(iod) && nvme_write_piece(pools, iod, command))
		return;
	if (iod->sgl)
		nvme_write_sgl(iod, command);
	else
		nvme_write_prps(pools, iod, command->prp);
}

/*
 * Map the data of a command and say in it where they are: iod->bytes (at least 1) of the segments from
 * *at on, which moves behind them; iod->direction says where they go. On failure *at stays and nothing is
 * held: -ENOMEM (later it may work), or what dma_map_sg() has against the memory.
 */
int nvme_setup_data(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		    const struct iovec *iov, struct nvme_position *at, struct nvme_command *command)
{
	size_t piece = piece_at(iov, at);
	int code;

	if (lies_in_one_piece(pools, iod, iov, at, piece))
		code = nvme_map_piece(pools, iod, address_at(iov, at));
	else
		code = map_scattered(pools, iod, iov, at);
	if (code == 0 && !(iod->holds == NVME_PIECE && nvme_write_piece(pools, iod, command)))
		code = nvme_take_lists(pools, iod, command);
	if (code == 0)
		skip(iov, at, iod->bytes);
	return code;
}

static bool is_gathered(const struct nvme_iod *iod, const char *address)
{
	return (uintptr_t)address - (uintptr_t)iod->gathered < iod->gathered_bytes;
}

/* A read has arrived: its elements that are gathered pages go to where they belong. */
static void scatter(const struct nvme_iod *iod)
{
	struct nvme_position at = start_of(iod);
	const struct iovec *iov = iod->iov;
	uint32_t i;

	for (i = 0; i < iod->sg_count; i++) {
		const struct scatterlist *sg = &iod->sg[i];

		if (is_gathered(iod, sg->address))
			copy_out(iov, &at, sg->address, sg->length);
		else
			skip(iov, &at, sg->length);
	}
}

/* nvme_unmap_data() of what is not one piece, or has lists. */
void nvme_unmap_more(const struct nvme_prp_pools *pools, struct nvme_iod *iod, bool arrived)
{
	enum dma_data_direction direction = (enum dma_data_direction)iod->direction;
	unsigned long attrs = arrived ? 0 : DMA_ATTR_SKIP_CPU_SYNC;

	if (iod->holds == NVME_ELEMENTS) {
		dma_unmap_sg_attrs(pools->dev, iod->sg, (int)iod->sg_count, direction, attrs);
		if (arrived && direction == DMA_FROM_DEVICE && iod->gathered)
			scatter(iod);
		free_elements(iod);
	} else if (nvme_is_piece(iod)) {
		dma_unmap_single_attrs(pools->dev, iod->dma, iod->bytes, direction, attrs);
	}
	nvme_free_iod(pools, iod);
	iod->holds = NVME_NOTHING;
}

/*
 * Forget a command whose memory the drive may still use: its blocks and gathered pages are never
 * freed, and what is mapped stays so until the device is closed.
 */
void nvme_leak_iod(struct nvme_iod *iod)
{
	if (iod->lists != &iod->list)
		free(iod->lists);
	iod->lists = &iod->list;
	iod->list_count = 0;
	iod->gathered = NULL;
	free_elements(iod);
	iod->holds = NVME_NOTHING;
}
