/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_kinds.c - drives that refuse what others do, and drives of another kind
 */
#include "nvme_stand.h"

#include <errno.h>
#include <stdlib.h>

static void put32(unsigned char *data, size_t at, uint32_t value)
{
	value = htole32(value);
	memcpy(data + at, &value, sizeof(value));
}

static void put64(unsigned char *data, size_t at, uint64_t value)
{
	value = htole64(value);
	memcpy(data + at, &value, sizeof(value));
}

static unsigned int cns_of(const struct nvme_command *command)
{
	return command->opcode == NVME_ADMIN_IDENTIFY ? le32toh(command->cdw10) & 0xff : 0x100;
}

/* ---- namespaces ---- */

static const struct list {
	unsigned int count;
	uint32_t ids[4], highest;
	bool none;	  /* no list */
	bool formats_all; /* FNA */
} * list;

static unsigned int formats;
static uint32_t last_formatted;

/* Namespaces of these ids, all alike. */
static int has_namespaces(struct soft_nvme *d, const struct nvme_command *command,
			  unsigned char *data)
{
	uint32_t nsid = le32toh(command->nsid);
	unsigned int n = 0;

	(void)d;
	if (command->opcode == NVME_ADMIN_FORMAT) {
		formats++;
		last_formatted = nsid;
	}
	switch (cns_of(command)) {
	case NVME_IDENTIFY_NAMESPACE:
		for (unsigned int i = 0; i < list->count; i++)
			if (list->ids[i] == nsid)
				return SOFT_NVME_CARRY_OUT;
		return NVME_STATUS_INVALID_NAMESPACE | SOFT_NVME_DNR;
	case NVME_IDENTIFY_CONTROLLER:
		put32(data, 516, list->highest);
		data[524] = list->formats_all;
		break;
	case NVME_IDENTIFY_ACTIVE_LIST:
		if (list->none)
			return NVME_STATUS_INVALID_FIELD | SOFT_NVME_DNR;
		memset(data, 0, 4096);
		for (unsigned int i = 0; i < list->count; i++)
			if (list->ids[i] > nsid)
				put32(data, 4 * (size_t)n++, list->ids[i]);
		break;
	}
	return SOFT_NVME_CARRY_OUT;
}

static void open_list(const struct list *l)
{
	list = l;
	formats = 0;
	dev = soft_nvme_open(&drive);
	drive.answer = has_namespaces;
	ctrl = open_controller(command_ms(), command_ms() / 2);
	if (!ctrl)
		fail_msg("%s", dmaland_last_error());
}

static void namespaces_are_listed_whatever_the_highest_id(void **state)
{
	static const struct list l = {3, {3, 7, 0xfffffffe}, 2, false, false};
	struct dmaland_nvme_namespace ns;
	uint32_t ids[1024];

	(void)state;
	open_list(&l);
	assert_int_equal(dmaland_nvme_list_namespaces(ctrl, 0, ids, 1024), 3);
	assert_memory_equal(ids, l.ids, 3 * sizeof(ids[0]));
	assert_int_equal(dmaland_nvme_list_namespaces(ctrl, 0, ids, 2), 2);
	assert_int_equal(dmaland_nvme_list_namespaces(ctrl, 7, ids, 2), 1);
	assert_int_equal(ids[0], 0xfffffffe);
	assert_int_equal(dmaland_nvme_list_namespaces(ctrl, 0xfffffffe, ids, 2), 0);
	assert_int_equal(dmaland_nvme_get_namespace(ctrl, 0xfffffffe, &ns), 0);
	assert_int_equal(dmaland_nvme_get_namespace(ctrl, 2, &ns), -ENODEV);
	assert_error_says("namespace 2 does not exist (the drive has 3)");
	end();
}

static void without_a_list_all_ids_are_named(void **state)
{
	static const struct list l = {2, {1, 3}, 1500, true, false};
	uint32_t ids[1024];

	(void)state;
	open_list(&l);
	assert_int_equal(dmaland_nvme_list_namespaces(ctrl, 0, ids, 1024), 1024);
	assert_int_equal(ids[0], 1);
	assert_int_equal(ids[1023], 1024);
	assert_int_equal(dmaland_nvme_list_namespaces(ctrl, 1024, ids, 1024), 1500 - 1024);
	assert_int_equal(ids[0], 1025);
	assert_int_equal(dmaland_nvme_list_namespaces(ctrl, 1500, ids, 1024), 0);
	assert_int_equal(dmaland_nvme_list_namespaces(ctrl, UINT32_MAX, ids, 1024), 0);
	end();
}

static void all_namespaces_are_formatted_without_a_list(void **state)
{
	static const struct list l = {2, {1, 3}, 3, true, false};

	(void)state;
	open_list(&l);
	assert_int_equal(dmaland_nvme_format(ctrl, UINT32_MAX, 1, 0), -EINVAL);
	assert_error_says("no format 1");
	assert_int_equal(dmaland_nvme_format(ctrl, UINT32_MAX, 0, 0), 0);
	end();
}

/* Whoever names one of several would lose the others too. */
static void a_drive_that_formats_all_at_once_wants_that_to_be_said(void **state)
{
	static const struct list several = {2, {1, 3}, 3, false, true},
				 one = {1, {3}, 3, false, true};

	(void)state;
	open_list(&several);
	assert_int_equal(dmaland_nvme_format(ctrl, 1, 0, 0), -EINVAL);
	assert_error_says("soft:nvme can only format all its 2 namespaces at once (FNA); if that "
			  "is meant, give 0xffffffff (dmaland nvme format -n all)");
	assert_int_equal(formats, 0);
	assert_int_equal(dmaland_nvme_format(ctrl, UINT32_MAX, 0, 0), 0);
	assert_int_equal(formats, 1);
	assert_int_equal(last_formatted, UINT32_MAX);
	end();
	open_list(&one);
	assert_int_equal(dmaland_nvme_format(ctrl, 3, 0, 0), 0);
	assert_int_equal(formats, 1);
	assert_int_equal(last_formatted, 3);
	end();
}

/* ---- no queues ---- */

static int refuses_queues(struct soft_nvme *d, const struct nvme_command *command,
			  unsigned char *data)
{
	(void)d;
	(void)data;
	return command->opcode == NVME_ADMIN_SET_FEATURES ? 0x006 | SOFT_NVME_DNR
							  : SOFT_NVME_CARRY_OUT;
}

static void a_drive_that_refuses_to_give_queues_tells_how_it_is(void **state)
{
	struct dmaland_nvme_namespace ns;
	struct dmaland_nvme_event event;
	struct dmaland_nvme_info info;
	char log[512];

	(void)state;
	dev = soft_nvme_open(&drive);
	drive.answer = refuses_queues;
	ctrl = open_controller(command_ms(), command_ms() / 2);
	if (!ctrl)
		fail_msg("%s", dmaland_last_error());
	assert_logged("Set Features: Internal Error (0x006); it is opened without I/O queues");
	dmaland_nvme_get_info(ctrl, &info);
	assert_int_equal(info.max_queues, 0);
	for (int i = 0; i < 2; i++) {
		assert_null(dmaland_nvme_queue_create(ctrl, 0, 0));
		assert_int_equal(errno, EOPNOTSUPP);
		assert_error_says("refuses to say how many");
		assert_int_equal(dmaland_nvme_get_log(ctrl, 2, UINT32_MAX, 0, log, 512), 0);
		assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), 0);
		assert_true(soft_nvme_report(&drive, 2 << 16 | 1 << 8 | 1));
		assert_int_equal(dmaland_nvme_event(ctrl, &event), 1);
		assert_int_equal(event.page, 2);
		assert_int_equal(dmaland_nvme_reset(ctrl), 0);
	}
	end();
}

static void a_drive_with_doorbells_of_the_admin_queue_alone_is_opened(void **state)
{
	(void)state;
	dev = soft_nvme_open(&drive);
	drive.cap |= 9ull << 32; /* 2 KiB each */
	ctrl = open_controller(command_ms(), command_ms() / 2);
	if (!ctrl)
		fail_msg("%s", dmaland_last_error());
	assert_null(dmaland_nvme_queue_create(ctrl, 0, 0));
	assert_error_says("its BAR 0 of 8192 bytes has room for the doorbells of the admin queue "
			  "alone, 2048 bytes each (CAP.DSTRD)");
	end();
}

/* ---- zones ---- */

static struct {
	uint64_t blocks;
	bool across;
	unsigned int command_set;
} zones;

static int is_zoned(struct soft_nvme *d, const struct nvme_command *command, unsigned char *data)
{
	(void)d;
	if (cns_of(command) == NVME_IDENTIFY_DESCRIPTORS) {
		data[0] = 3; /* a UUID, of 16 bytes */
		data[1] = 16;
		data[20] = 4; /* the command set */
		data[21] = 1;
		data[24] = zones.command_set;
		return SOFT_NVME_ANSWERED;
	}
	if (cns_of(command) != NVME_IDENTIFY_NAMESPACE_SET)
		return SOFT_NVME_CARRY_OUT;
	if (le32toh(command->cdw11) >> 24 != DMALAND_NVME_SET_ZONED)
		return NVME_STATUS_INVALID_FIELD | SOFT_NVME_DNR;
	data[2] = zones.across;
	put64(data, 2816, zones.blocks);
	return SOFT_NVME_ANSWERED;
}

/* As a drive with zones has it. */
static int fails_across(struct soft_nvme *d, const struct nvme_command *command)
{
	uint64_t block = le32toh(command->cdw10), n = (le32toh(command->cdw12) & 0xffff) + 1;

	(void)d;
	if (command->opcode == DMALAND_NVME_FLUSH || zones.across)
		return SOFT_NVME_CARRY_OUT;
	return block / zones.blocks == (block + n - 1) / zones.blocks ? SOFT_NVME_CARRY_OUT
								      : 0x1b8 | SOFT_NVME_DNR;
}

static void open_zoned(uint64_t blocks, bool across, unsigned int command_set)
{
	zones.blocks = blocks;
	zones.across = across;
	zones.command_set = command_set;
	dev = soft_nvme_open(&drive);
	drive.answer = is_zoned;
	drive.verdict = fails_across;
	drive.cap |= 1ull << 43;
	for (size_t i = 0; i < (size_t)SOFT_NVME_BLOCKS * SOFT_NVME_BLOCK; i++)
		drive.media[i] = (unsigned char)(i / SOFT_NVME_BLOCK + 1);
	ctrl = open_controller(command_ms(), command_ms() / 2);
	if (!ctrl)
		fail_msg("%s", dmaland_last_error());
	queue = dmaland_nvme_queue_create(ctrl, 8, 0);
	assert_non_null(queue);
}

static void reads_are_split_where_zones_meet(void **state)
{
	enum { READ = 200, FROM = 10 };
	static unsigned char data[READ * SOFT_NVME_BLOCK];
	struct dmaland_nvme_namespace ns;

	(void)state;
	for (unsigned int across = 0; across < 2; across++) {
		open_zoned(48, across, DMALAND_NVME_SET_ZONED);
		assert_int_equal(drive.cc & 7 << 4, NVME_CC_CSS_ALL);
		assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), 0);
		assert_int_equal(ns.command_set, DMALAND_NVME_SET_ZONED);
		assert_int_equal(ns.zone_blocks, 48);
		if (dmaland_nvme_read(queue, 1, FROM, READ, data) != 0)
			fail_msg("%s", dmaland_last_error());
		assert_memory_equal(data, drive.media + FROM * SOFT_NVME_BLOCK, sizeof(data));
		assert_int_equal(drive.commands, across ? 1 : 5);
		assert_int_equal(dmaland_nvme_verify(queue, 1, FROM, READ), 0);
		assert_int_equal(drive.commands, across ? 2 : 10);
		assert_int_equal(dmaland_nvme_flush(queue, 1), 0);
		end();
	}
}

static void what_zones_forbid_is_refused_in_words(void **state)
{
	static unsigned char data[300 * SOFT_NVME_BLOCK];

	(void)state;
	for (unsigned int across = 0; across < 2; across++) {
		open_zoned(512, across, DMALAND_NVME_SET_ZONED);
		assert_int_equal(dmaland_nvme_write(queue, 1, 500, 13, data), -EOPNOTSUPP);
		assert_error_says("zoned: a write of blocks 500 to 512 goes past the end of their "
				  "zone; zones have 512 blocks");
		assert_int_equal(dmaland_nvme_write_zeroes(queue, 1, 500, 13), -EOPNOTSUPP);
		assert_error_says("zoned: a write zeroes of blocks 500 to 512");
		assert_int_equal(dmaland_nvme_write(queue, 1, 0, 300, data), -EOPNOTSUPP);
		assert_error_says("300 blocks takes several commands");
		assert_error_says("256 blocks are the most at once");
		assert_int_equal(dmaland_nvme_write(queue, 1, 4000, 97, data), -ERANGE);
		assert_int_equal(drive.commands, 0);
		assert_int_equal(dmaland_nvme_write(queue, 1, 256, 256, data), 0);
		assert_int_equal(dmaland_nvme_write_zeroes(queue, 1, 500, 12), 0);
		assert_int_equal(drive.commands, 2);
		end();
	}
}

static void note_result(struct dmaland_nvme_request *request, int result)
{
	*(int *)request->context = result;
}

/* Where it begins is not known when it is prepared. */
static void a_prepared_request_stays_in_its_zone(void **state)
{
	static unsigned char data[8 * SOFT_NVME_BLOCK];
	struct iovec segment = {data, sizeof(data)};

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		bool across = i / 2, write = i % 2;
		int result = UNTOUCHED;
		struct dmaland_nvme_request request = {
			.opcode = write ? DMALAND_NVME_WRITE : DMALAND_NVME_READ,
			.nsid = 1,
			.blocks = 8,
			.iov = &segment,
			.iov_count = 1,
			.done = note_result,
			.context = &result,
		};

		open_zoned(48, across, DMALAND_NVME_SET_ZONED);
		assert_int_equal(dmaland_nvme_prepare(ctrl, &request), 0);
		request.block = 47;
		if (write || !across)
			assert_int_equal(dmaland_nvme_submit(queue, &request), -EOPNOTSUPP);
		request.block = SOFT_NVME_BLOCKS - 7;
		assert_int_equal(dmaland_nvme_submit(queue, &request), -ERANGE);
		request.block = across && !write ? 47 : 40;
		assert_int_equal(dmaland_nvme_submit(queue, &request), 0);
		while (result == UNTOUCHED)
			dmaland_nvme_poll(queue);
		assert_int_equal(result, 0);
		assert_memory_equal(data, drive.media + request.block * SOFT_NVME_BLOCK,
				    sizeof(data));
		assert_int_equal(drive.commands, 1);
		end();
	}
}

static void a_namespace_of_an_unknown_command_set_is_refused_in_words(void **state)
{
	struct dmaland_nvme_namespace ns;

	(void)state;
	open_zoned(48, false, 1);
	assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), -EOPNOTSUPP);
	assert_error_says("namespace 1 has the command set 1");
	end();
	open_zoned(0, false, DMALAND_NVME_SET_ZONED);
	assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), -EOPNOTSUPP);
	assert_error_says("its zones have no blocks");
	end();
}

static unsigned int asked; /* bit CNS */

static int notes_questions(struct soft_nvme *d, const struct nvme_command *command,
			   unsigned char *data)
{
	(void)d;
	(void)data;
	if (command->opcode == NVME_ADMIN_IDENTIFY)
		asked |= 1u << cns_of(command);
	return SOFT_NVME_CARRY_OUT;
}

/* Others put an error into their log for each question. */
static void only_drives_that_know_command_sets_are_asked_about_them(void **state)
{
	enum { NEW = 1 << 3 | 1 << 5 | 1 << 6 };
	struct dmaland_nvme_namespace ns;

	(void)state;
	for (unsigned int know = 0; know < 2; know++) {
		dev = soft_nvme_open(&drive);
		drive.answer = notes_questions;
		drive.cap |= (uint64_t)know << 43;
		asked = 0;
		ctrl = open_controller(command_ms(), command_ms() / 2);
		assert_non_null(ctrl);
		assert_int_equal(drive.cc & 7 << 4, know ? NVME_CC_CSS_ALL : 0);
		assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), 0);
		assert_int_equal(ns.command_set, DMALAND_NVME_SET_NVM);
		assert_int_equal(asked & NEW, know ? 1 << 3 | 1 << 6 : 0);
		end();
	}
}

/* ---- limits ---- */

static struct {
	uint8_t verify, zeroes, ranges; /* VSL and WZSL in powers of two of 4 KiB, DMRL */
	uint32_t range_blocks;		/* DMRSL */
	uint64_t blocks;		/* DMSL */
} limits;

static int has_limits(struct soft_nvme *d, const struct nvme_command *command, unsigned char *data)
{
	(void)d;
	if (cns_of(command) != NVME_IDENTIFY_CONTROLLER_SET)
		return SOFT_NVME_CARRY_OUT;
	if (le32toh(command->cdw11) >> 24 != DMALAND_NVME_SET_NVM)
		return NVME_STATUS_INVALID_FIELD | SOFT_NVME_DNR;
	data[0] = limits.verify;
	data[1] = limits.zeroes;
	data[3] = limits.ranges;
	put32(data, 4, limits.range_blocks);
	put64(data, 8, limits.blocks);
	return SOFT_NVME_ANSWERED;
}

/* The blocks of each command, and of each range of one: "8+8 4" are two. */
static char seen[200];

static void note_size(const char *before, uint32_t blocks)
{
	size_t used = strlen(seen);

	snprintf(seen + used, sizeof(seen) - used, "%s%u", used > 0 ? before : "", blocks);
}

static int notes_sizes(struct soft_nvme *d, const struct nvme_command *command)
{
	unsigned int n = (le32toh(command->cdw10) & 0xff) + 1;

	if (command->opcode != DMALAND_NVME_DISCARD) {
		note_size(" ", (le32toh(command->cdw12) & 0xffff) + 1);
		return SOFT_NVME_CARRY_OUT;
	}
	for (unsigned int i = 0; i < n; i++) {
		uint32_t range[4] = {0};

		soft_nvme_look(d, le64toh(command->prp[0]) + i * sizeof(range), range,
			       sizeof(range));
		note_size(i > 0 ? "+" : " ", le32toh(range[1]));
	}
	return SOFT_NVME_CARRY_OUT;
}

/* NVM 1.0, 4.1.5.2: VSL, WZSL, DMRL, DMRSL, DMSL. Discards are cut at 8 blocks. */
static void commands_without_data_are_as_large_as_the_drive_says(void **state)
{
	static const struct {
		uint8_t verify, zeroes, ranges;
		uint32_t range_blocks;
		uint64_t blocks;
		const char *verifies, *writes_zeroes, *discards;
	} cases[] = {
		{0, 0, 0, 0, 0, "600", "256 256 88", "600"},
		{3, 2, 0, 0, 200, "64 64 64 64 64 64 64 64 64 24",
		 "32 32 32 32 32 32 32 32 32 32 32 32 32 32 32 32 32 32 24", "200 200 200"},
		{6, 7, 2, 104, 0, "512 88", "600", "104+104 104+104 104+80"},
		{5, 6, 0, 104, 160, "256 256 88", "512 88", "104+56 104+56 104+56 104+16"},
		{4, 5, 1, 304, 1000, "128 128 128 128 88", "256 256 88", "304 296"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		limits.verify = cases[i].verify;
		limits.zeroes = cases[i].zeroes;
		limits.ranges = cases[i].ranges;
		limits.range_blocks = cases[i].range_blocks;
		limits.blocks = cases[i].blocks;
		dev = soft_nvme_open(&drive);
		drive.answer = has_limits;
		drive.cap |= 1ull << 43;
		begin_on_device(command_ms(), command_ms() / 2);
		drive.verdict = notes_sizes;
		seen[0] = 0;
		assert_int_equal(dmaland_nvme_verify(queue, 1, 0, 600), 0);
		assert_string_equal(seen, cases[i].verifies);
		seen[0] = 0;
		assert_int_equal(dmaland_nvme_write_zeroes(queue, 1, 0, 600), 0);
		assert_string_equal(seen, cases[i].writes_zeroes);
		seen[0] = 0;
		assert_int_equal(dmaland_nvme_discard(queue, 1, 0, 600), 0);
		assert_string_equal(seen, cases[i].discards);
		end();
	}
}

/* ---- what can't be used ---- */

static void a_controller_that_cannot_be_used_is_refused_with_the_cause(void **state)
{
	static const struct {
		uint64_t cap;
		const char *says;
	} cases[] = {
		{0, "virtual function do that is offline"},
		{63 | 1ull << 37 | 5ull << 48 | 5ull << 52,
		 "in pages of 128 KiB at least (CAP.MPSMIN)"},
		{63 | 1ull << 37 | 15ull << 48 | 15ull << 52, "in pages of 131072 KiB at least"},
		{63 | 1ull << 37 | 15ull << 32,
		 "no room for doorbells of 131072 bytes each (CAP.DSTRD)"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		dev = soft_nvme_open(&drive);
		drive.cap = cases[i].cap;
		assert_null(open_controller(command_ms(), command_ms() / 2));
		assert_error_says(cases[i].says);
		dmaland_close(dev);
		soft_nvme_free(&drive);
	}
}

static void blocks_larger_than_a_command_carries_are_said_to_be(void **state)
{
	static unsigned char data[256 << 10];
	struct dmaland_nvme_namespace ns;

	(void)state;
	begin(command_ms(), command_ms() / 2);
	drive.lba_shift = 18;
	drive.blocks = 8;
	assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), 0);
	assert_int_equal(ns.block_size, 256 << 10);
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, data), -EOPNOTSUPP);
	assert_error_says("a block of namespace 1 has 262144 bytes, more than a command may carry");
	end();
}

static void a_namespace_without_blocks_is_not_missing(void **state)
{
	struct dmaland_nvme_namespace ns;
	unsigned char data[512];

	(void)state;
	begin(command_ms(), command_ms() / 2);
	drive.blocks = 0;
	assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), 0);
	assert_int_equal(ns.blocks, 0);
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, data), -ERANGE);
	assert_error_says("namespace 1 has 0");
	end();
}

static void commands_that_transfer_nothing_do_not_mind_metadata(void **state)
{
	unsigned char data[512];

	(void)state;
	begin(command_ms(), command_ms() / 2);
	drive.metadata = 8;
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, data), -EOPNOTSUPP);
	assert_int_equal(dmaland_nvme_write_zeroes(queue, 1, 0, 8), 0);
	assert_int_equal(dmaland_nvme_discard(queue, 1, 0, 8), 0);
	assert_int_equal(dmaland_nvme_verify(queue, 1, 0, 8), 0);
	assert_int_equal(drive.commands, 3);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(namespaces_are_listed_whatever_the_highest_id),
		cmocka_unit_test(without_a_list_all_ids_are_named),
		cmocka_unit_test(all_namespaces_are_formatted_without_a_list),
		cmocka_unit_test(a_drive_that_formats_all_at_once_wants_that_to_be_said),
		cmocka_unit_test(a_drive_that_refuses_to_give_queues_tells_how_it_is),
		cmocka_unit_test(a_drive_with_doorbells_of_the_admin_queue_alone_is_opened),
		cmocka_unit_test(reads_are_split_where_zones_meet),
		cmocka_unit_test(what_zones_forbid_is_refused_in_words),
		cmocka_unit_test(a_prepared_request_stays_in_its_zone),
		cmocka_unit_test(a_namespace_of_an_unknown_command_set_is_refused_in_words),
		cmocka_unit_test(only_drives_that_know_command_sets_are_asked_about_them),
		cmocka_unit_test(commands_without_data_are_as_large_as_the_drive_says),
		cmocka_unit_test(a_controller_that_cannot_be_used_is_refused_with_the_cause),
		cmocka_unit_test(blocks_larger_than_a_command_carries_are_said_to_be),
		cmocka_unit_test(a_namespace_without_blocks_is_not_missing),
		cmocka_unit_test(commands_that_transfer_nothing_do_not_mind_metadata),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
