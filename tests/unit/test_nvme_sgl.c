/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_sgl.c - SGLs of the NVMe driver: where they are used, and what their lengths are good for
 */
#include "nvme_stand.h"

#include <errno.h>
#include <stdlib.h>

enum {
	BLOCK = SOFT_NVME_BLOCK,
	ROOM = 1 << 20,
	BYTES = 1,  /* SGLS of a drive that takes any address and length ... */
	DWORDS = 2, /* ... and of one that wants multiples of 4 */
	MOST = 300, /* pieces */
};

static char *arena, *plain, *lent; /* ROOM bytes each; lent: registered */
static dma_addr_t arena_dma;

static void open_drive(uint32_t sgls)
{
	dev = soft_nvme_open(&drive);
	drive.sgls = sgls;
	begin_on_device(command_ms(), command_ms() / 2);
	arena = dma_alloc_coherent(dev, ROOM, &arena_dma, GFP_KERNEL);
	plain = aligned_alloc(4096, ROOM);
	lent = aligned_alloc(4096, ROOM);
	assert_true(arena && plain && lent);
	assert_int_equal(dmaland_register(dev, lent, ROOM), 0);
}

static void close_drive(void)
{
	assert_int_equal(dmaland_unregister(dev, lent), 0);
	dma_free_coherent(dev, ROOM, arena, arena_dma);
	end();
	free(lent);
	free(plain);
}

static void on_pieces(struct dmaland_nvme_request *request, int result)
{
	*(int *)request->context = result;
}

/* How many commands of it had an SGL. */
static unsigned int transfer(uint8_t opcode, uint64_t block, struct iovec *pieces, int n)
{
	int result = UNTOUCHED;
	struct dmaland_nvme_request request = {
		.opcode = opcode,
		.nsid = 1,
		.block = block,
		.iov = pieces,
		.iov_count = n,
		.done = on_pieces,
		.context = &result,
	};
	unsigned int before = drive.sgls_used;

	for (int i = 0; i < n; i++)
		request.blocks += pieces[i].iov_len;
	request.blocks /= BLOCK;
	if (dmaland_nvme_submit(queue, &request) != 0)
		fail_msg("%s", dmaland_last_error());
	while (result == UNTOUCHED)
		dmaland_nvme_poll(queue);
	assert_int_equal(result, 0);
	return drive.sgls_used - before;
}

/* Pieces of whole blocks in all, in any of the memories, which don't overlap. */
static int random_pieces(struct iovec *pieces, int most, size_t multiple, uint64_t *seed)
{
	char *memories[] = {arena, plain, lent};
	size_t used[3] = {0}, sum = 0;
	int n;

	for (n = 0; n < most - 1; n++) {
		size_t kind = random_below(seed, 3), gap = random_below(seed, 9) * multiple;
		size_t size = random_below(seed, 5000 / multiple) * multiple;

		if (sum + size + BLOCK > SIZE)
			break;
		pieces[n] = (struct iovec){memories[kind] + used[kind] + gap, size};
		used[kind] += gap + size;
		sum += size;
	}
	pieces[n] = (struct iovec){arena + ROOM - BLOCK, BLOCK - sum % BLOCK};
	return n + 1;
}

/* Filled with what the drive does not have. */
static void check_both_ways(struct iovec *pieces, int n)
{
	const unsigned char *media = drive.media + 3 * BLOCK;

	for (int i = 0; i < n; i++)
		memset(pieces[i].iov_base, i + 1, pieces[i].iov_len);
	transfer(DMALAND_NVME_WRITE, 3, pieces, n);
	for (int i = 0; i < n; media += pieces[i++].iov_len)
		assert_memory_equal(media, pieces[i].iov_base, pieces[i].iov_len);
	for (int i = 0; i < n; i++)
		memset(pieces[i].iov_base, 0xee, pieces[i].iov_len);
	transfer(DMALAND_NVME_READ, 3, pieces, n);
	media = drive.media + 3 * BLOCK;
	for (int i = 0; i < n; media += pieces[i++].iov_len)
		assert_memory_equal(media, pieces[i].iov_base, pieces[i].iov_len);
}

static void every_byte_of_random_pieces_lands_where_it_belongs(void **state)
{
	struct iovec pieces[MOST];
	uint64_t seed = 7;

	(void)state;
	for (uint32_t sgls = 0; sgls <= DWORDS; sgls++) {
		open_drive(sgls);
		for (unsigned int round = 0; round < 40; round++) {
			int most = 1 + (int)random_below(&seed, round % 4 ? 20 : MOST);
			size_t multiple = round % 3 ? 4 : 1;

			check_both_ways(pieces, random_pieces(pieces, most, multiple, &seed));
		}
		assert_int_equal(drive.sgls_used > 0, sgls > 0);
		close_drive();
	}
}

/* Which commands have one: what a page of descriptors can say, at places that the drive takes. */
static void sgls_are_used_where_they_can_say_it(void **state)
{
	static const struct {
		uint32_t sgls;
		int pieces;
		size_t offset;
		bool used;
	} cases[] = {
		{0, 1, 0, false},     {BYTES, 1, 0, true},	     {BYTES, 1, 1, true},
		{DWORDS, 1, 4, true}, {DWORDS, 1, 1, false},	     {BYTES, 2, 3, true},
		{DWORDS, 2, 4, true}, {DWORDS, 2, 2, false},	     {BYTES, 16, 0, true},
		{BYTES, 17, 0, true}, {BYTES, 256, 0, true},	     {BYTES, 258, 0, false},
		{4, 1, 0, false},     {BYTES | 1 << 19, 5, 0, true}, {3, 1, 0, false},
	};
	struct iovec pieces[MOST];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dmaland_nvme_info info;

		open_drive(cases[i].sgls);
		dmaland_nvme_get_info(ctrl, &info);
		assert_int_equal(info.sgls, cases[i].sgls % 4 == 1 || cases[i].sgls % 4 == 2);
		/* one command takes 256 blocks */
		for (int k = 0; k < cases[i].pieces; k++)
			pieces[k] = (struct iovec){arena + 2 * BLOCK * k + cases[i].offset,
						   cases[i].pieces > 256 ? BLOCK / 2 : BLOCK};
		assert_int_equal(transfer(DMALAND_NVME_WRITE, 0, pieces, cases[i].pieces),
				 cases[i].used);
		check_both_ways(pieces, cases[i].pieces);
		close_drive();
	}
}

static unsigned int lists,
	blocks_alone; /* commands that point to a list; that have their one descriptor */

static int notes_kind(struct soft_nvme *d, const struct nvme_command *command)
{
	bool is_list = le64toh(command->prp[1]) >> 56 == 0x30;

	(void)d;
	assert_int_equal(command->flags, NVME_PSDT_SGL);
	lists += is_list;
	blocks_alone += !is_list;
	return SOFT_NVME_CARRY_OUT;
}

/* The library maps pages that don't lie side by side as one segment, which needs no list. */
static void pieces_that_meet_in_the_drives_view_are_one_descriptor(void **state)
{
	enum { PART = 8 * 4096 };

	(void)state;
	open_drive(BYTES);
	drive.verdict = notes_kind;
	for (size_t shift = 0; shift <= BLOCK; shift += BLOCK) {
		struct iovec pieces[] = {{plain, PART - shift}, {plain + 2 * PART + shift, PART}};

		pieces[1].iov_len -= shift;
		lists = blocks_alone = 0;
		check_both_ways(pieces, 2);
		assert_int_equal(blocks_alone, shift == 0 ? 2 : 0);
		assert_int_equal(lists, shift == 0 ? 0 : 2);
	}
	close_drive();
}

static void a_command_that_is_repeated_has_its_sgl_again(void **state)
{
	struct iovec pieces[3] = {{NULL, BLOCK}, {NULL, 3 * BLOCK}, {NULL, BLOCK}};

	(void)state;
	open_drive(BYTES);
	for (int n = 1; n <= 3; n += 2) {
		for (int i = 0; i < n; i++)
			pieces[i].iov_base = arena + i * 4096 + 1;
		judge(0x281, 1);
		check_both_ways(pieces, n);
		assert_int_equal(times, 0);
	}
	close_drive();
}

static void an_option_does_without(void **state)
{
	const struct dmaland_nvme_options options = {.size = sizeof(options), .no_sgls = true};
	struct dmaland_nvme_info info;
	struct iovec piece;

	(void)state;
	open_drive(BYTES);
	dmaland_nvme_close(ctrl);
	ctrl = dmaland_nvme_open(dev, &options);
	assert_non_null(ctrl);
	queue = dmaland_nvme_queue_create(ctrl, 32, 0);
	assert_non_null(queue);
	dmaland_nvme_get_info(ctrl, &info);
	assert_false(info.sgls);
	piece = (struct iovec){arena, BLOCK};
	assert_int_equal(transfer(DMALAND_NVME_READ, 0, &piece, 1), 0);
	close_drive();
}

/* ---- a namespace that somebody else has formatted, before the drive reports it, if ever ---- */

static void somebody_formats(void)
{
	soft_nvme_become(&drive, 12, SOFT_NVME_BLOCKS / 8);
}

static void check_untouched(const char *memories, char byte)
{
	for (size_t i = 0; i < 8192; i++)
		assert_int_equal(memories[i], byte);
}

static void blocks_that_have_become_larger_touch_nothing_behind_the_memory(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		static unsigned char before[8 * 4096];
		char *to;

		open_drive(BYTES);
		to = i == 0 ? arena : i == 1 ? plain : lent;
		assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, to), 0);
		memset(to, 0x5a, 8192);
		somebody_formats();
		assert_int_equal(dmaland_nvme_read(queue, 1, 1, 1, to), 0x00f);
		assert_error_says("Data SGL Length Invalid");
		check_untouched(to, 0x5a);
		/* the drive has not reported it, but from now on it is known */
		assert_int_equal(dmaland_nvme_read(queue, 1, 1, 1, to), -ESTALE);
		close_drive();

		open_drive(BYTES);
		to = i == 0 ? arena : i == 1 ? plain : lent;
		assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, to), 0);
		memset(to, 0x5a, 8192);
		memcpy(before, drive.media, sizeof(before));
		somebody_formats();
		assert_int_equal(dmaland_nvme_write(queue, 1, 1, 1, to), 0x00f);
		assert_int_equal(dmaland_nvme_write(queue, 1, 1, 1, to), -ESTALE);
		assert_memory_equal(before, drive.media, sizeof(before));
		close_drive();
	}
}

/* What the documentation warns of: the memory behind is ours here. The event, or a status, ends it. */
static void with_prps_memory_behind_is_touched_until_the_change_is_heard_of(void **state)
{
	struct dmaland_nvme_event event;

	(void)state;
	open_drive(0);
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, arena), 0);
	memset(arena, 0xee, 8192);
	somebody_formats();
	assert_int_equal(dmaland_nvme_read(queue, 1, 1, 1, arena), 0);
	assert_memory_equal(arena, drive.media + 4096, 4096);
	drive.changed[0] = 1;
	assert_true(soft_nvme_report(&drive, 4 << 16 | 2));
	assert_int_equal(dmaland_nvme_event(ctrl, &event), 1);
	memset(arena, 0x5a, 8192);
	assert_int_equal(dmaland_nvme_read(queue, 1, 1, 1, arena), -ESTALE);
	check_untouched(arena, 0x5a);
	close_drive();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_byte_of_random_pieces_lands_where_it_belongs),
		cmocka_unit_test(sgls_are_used_where_they_can_say_it),
		cmocka_unit_test(pieces_that_meet_in_the_drives_view_are_one_descriptor),
		cmocka_unit_test(a_command_that_is_repeated_has_its_sgl_again),
		cmocka_unit_test(an_option_does_without),
		cmocka_unit_test(blocks_that_have_become_larger_touch_nothing_behind_the_memory),
		cmocka_unit_test(with_prps_memory_behind_is_touched_until_the_change_is_heard_of),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
