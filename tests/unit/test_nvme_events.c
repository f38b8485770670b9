/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_events.c - the NVMe driver and a drive that others use, too: what changes behind our back, and
 * what the drive reports of it
 */
#include "nvme_stand.h"

#include <errno.h>
#include <stdlib.h>

enum {
	BLOCK = SOFT_NVME_BLOCK,
	LARGE = 4096, /* bytes of a block, when somebody has formatted the namespace */
	LARGE_SHIFT = 12,
	NAMESPACE_CHANGED = 4 << 16 | 2, /* dword 0 of the event: log page, information, type */
	TEMPERATURE = 2 << 16 | 1 << 8 | 1,
};

static char buffer[LARGE];

static void somebody_formats(void)
{
	soft_nvme_become(&drive, LARGE_SHIFT, SOFT_NVME_BLOCKS * BLOCK / LARGE);
}

/* No block is read or written by who believes in the old size; who asks can go on. */
static void expect_refusal_until_told(void)
{
	struct dmaland_nvme_namespace ns;
	unsigned int commands = drive.commands;

	memset(buffer, 0x5a, sizeof(buffer));
	assert_int_equal(dmaland_nvme_read(queue, 1, 3, 1, buffer), -ESTALE);
	assert_error_says("namespace 1 has blocks of 4096 bytes");
	assert_error_says("dmaland_nvme_get_namespace()");
	assert_int_equal(dmaland_nvme_write(queue, 1, 3, 1, buffer), -ESTALE);
	assert_int_equal(dmaland_nvme_write_zeroes(queue, 1, 3, 1), -ESTALE);
	assert_int_equal(drive.commands, commands);
	for (size_t i = 0; i < sizeof(buffer); i++)
		assert_int_equal(buffer[i], 0x5a);

	assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), 0);
	assert_int_equal(ns.block_size, LARGE);
	assert_int_equal(dmaland_nvme_read(queue, 1, 3, 1, buffer), 0);
	assert_memory_equal(buffer, drive.media + 3 * LARGE, LARGE);
}

static void expect_no_event(void)
{
	struct dmaland_nvme_event event;

	assert_int_equal(dmaland_nvme_event(ctrl, &event), 0);
}

static void a_format_by_others_that_the_drive_reports_is_told_before_blocks_move(void **state)
{
	struct dmaland_nvme_event event;
	char text[80];

	(void)state;
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, buffer), 0);
	somebody_formats();
	drive.changed[0] = 1;
	expect_no_event();
	assert_true(soft_nvme_report(&drive, NAMESPACE_CHANGED));
	assert_int_equal(dmaland_nvme_event(ctrl, &event), 1);
	assert_int_equal(event.type, 2);
	assert_int_equal(event.nsid, 1);
	assert_int_equal(event.missed, 0);
	assert_string_equal(dmaland_nvme_event_text(&event, text, sizeof(text)),
			    "namespace 1 has changed");
	expect_no_event();
	expect_refusal_until_told();
}

static void who_polls_a_queue_hears_of_it_too(void **state)
{
	(void)state;
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, buffer), 0);
	somebody_formats();
	drive.changed[0] = 1;
	assert_true(soft_nvme_report(&drive, NAMESPACE_CHANGED));
	while (drive.logs_read[4] == 0)
		dmaland_nvme_poll(queue);
	assert_logged("namespace 1 is not what it was");
	expect_refusal_until_told();
}

/* As many as the drive takes are its own at any time, so that no event waits for us to ask. */
static void requests_to_report_are_given_again(void **state)
{
	struct dmaland_nvme_event event;

	(void)state;
	for (unsigned int i = 0; i < 3 * SOFT_NVME_REPORTS; i++) {
		assert_int_equal(drive.report_count, SOFT_NVME_REPORTS);
		assert_true(soft_nvme_report(&drive, TEMPERATURE));
		assert_int_equal(dmaland_nvme_event(ctrl, &event), 1);
		assert_int_equal(drive.logs_read[2], i + 1);
	}
	assert_int_equal(dmaland_nvme_reset(ctrl), 0);
	assert_int_equal(drive.report_count, SOFT_NVME_REPORTS);
}

static void a_list_of_changes_that_is_too_long_means_all(void **state)
{
	struct dmaland_nvme_event event;

	(void)state;
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, buffer), 0);
	somebody_formats();
	drive.changed[0] = UINT32_MAX;
	assert_true(soft_nvme_report(&drive, NAMESPACE_CHANGED));
	assert_int_equal(dmaland_nvme_event(ctrl, &event), 1);
	assert_int_equal(event.nsid, UINT32_MAX);
	expect_refusal_until_told();
}

/* Statuses that come where the drive takes the namespace for another than we do. */
static void a_status_that_hints_at_a_change_has_the_drive_asked_again(void **state)
{
	static const int statuses[] = {0x00b, 0x00f, 0x080};

	(void)state;
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
		unsigned int before;

		assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, buffer), 0);
		before = drive.identified;
		judge(statuses[i] | SOFT_NVME_DNR, 1);
		assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, buffer), statuses[i]);
		assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, buffer), 0);
		assert_int_equal(drive.identified, before + 1);
	}
	judge(0x00b | SOFT_NVME_DNR, 1);
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, buffer), 0x00b);
	somebody_formats();
	expect_refusal_until_told();
}

/* The drive would take the blocks of a command that is repeated for larger ones. */
static void reads_that_a_reset_cuts_off_are_not_repeated_in_blocks_of_another_size(void **state)
{
	(void)state;
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_READ);
	somebody_formats();
	drive.held_count = 0;
	assert_int_equal(dmaland_nvme_reset(ctrl), 0);
	expect(-ESTALE);
	assert_int_equal(drive.commands, N);
	expect_refusal_until_told();
}

static void
reads_that_a_reset_cuts_off_go_on_where_nothing_or_the_size_alone_has_changed(void **state)
{
	(void)state;
	for (unsigned int grown = 0; grown < 2; grown++) {
		judge(SOFT_NVME_HOLD, N);
		submit(DMALAND_NVME_READ);
		soft_nvme_become(&drive, 9, SOFT_NVME_BLOCKS - grown);
		assert_int_equal(dmaland_nvme_reset(ctrl), 0);
		expect(0);
	}
	assert_int_equal(dmaland_nvme_read(queue, 1, SOFT_NVME_BLOCKS - 1, 1, buffer), -ERANGE);
}

static void a_rescan_counts_what_has_changed(void **state)
{
	(void)state;
	assert_int_equal(dmaland_nvme_rescan(ctrl), 0); /* nothing is known */
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, buffer), 0);
	assert_int_equal(dmaland_nvme_rescan(ctrl), 0);
	somebody_formats();
	assert_int_equal(dmaland_nvme_rescan(ctrl), 1);
	assert_int_equal(dmaland_nvme_rescan(ctrl), 0);
	expect_refusal_until_told();
	drive.blocks = 0;
	assert_int_equal(dmaland_nvme_rescan(ctrl), 1);
	assert_int_equal(dmaland_nvme_read(queue, 1, 3, 1, buffer), -ERANGE);
}

static bool says_status; /* of a namespace that is not active; else zeroes */

static int has_none(struct soft_nvme *d, const struct nvme_command *command, unsigned char *data)
{
	(void)d;
	if (command->opcode != NVME_ADMIN_IDENTIFY || (le32toh(command->cdw10) & 0xff) != 0)
		return SOFT_NVME_CARRY_OUT;
	memset(data, 0, NVME_ADMIN_DATA);
	return says_status ? NVME_STATUS_INVALID_NAMESPACE | SOFT_NVME_DNR : SOFT_NVME_ANSWERED;
}

static void a_namespace_that_is_gone_is_not_there_in_whatever_way_the_drive_says_so(void **state)
{
	(void)state;
	for (unsigned int way = 0; way < 4; way++) {
		says_status = way & 1;
		assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, buffer), 0);
		drive.answer = has_none;
		if (way & 2)
			assert_int_equal(dmaland_nvme_reset(ctrl), 0);
		else
			assert_int_equal(dmaland_nvme_rescan(ctrl), 1);
		assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, buffer), -ENODEV);
		assert_error_says("namespace 1 does not exist");
		drive.answer = NULL;
	}
}

/* ---- zones that come and go, on a drive of several command sets ---- */

enum { ZONE = 48 };

static bool zoned;

static int may_be_zoned(struct soft_nvme *d, const struct nvme_command *command,
			unsigned char *data)
{
	unsigned int cns = le32toh(command->cdw10) & 0xff;

	(void)d;
	if (command->opcode != NVME_ADMIN_IDENTIFY)
		return SOFT_NVME_CARRY_OUT;
	if (cns == NVME_IDENTIFY_DESCRIPTORS) {
		data[0] = 4; /* the command set */
		data[1] = 1;
		data[4] = zoned ? DMALAND_NVME_SET_ZONED : DMALAND_NVME_SET_NVM;
		return SOFT_NVME_ANSWERED;
	}
	if (cns != NVME_IDENTIFY_NAMESPACE_SET)
		return SOFT_NVME_CARRY_OUT;
	data[2816] = ZONE;
	return zoned ? SOFT_NVME_ANSWERED : NVME_STATUS_INVALID_FIELD | SOFT_NVME_DNR;
}

static void open_plain(void)
{
	zoned = false;
	dev = soft_nvme_open(&drive);
	drive.answer = may_be_zoned;
	drive.cap |= 1ull << 43;
	drive.changed[0] = 1;
	begin_on_device(command_ms(), command_ms() / 2);
}

static void by_rescan(void)
{
	assert_int_equal(dmaland_nvme_rescan(ctrl), 1);
}

static void by_reset(void)
{
	assert_int_equal(dmaland_nvme_reset(ctrl), 0);
}

static void by_event(void)
{
	struct dmaland_nvme_event event;

	assert_true(soft_nvme_report(&drive, NAMESPACE_CHANGED));
	assert_int_equal(dmaland_nvme_event(ctrl, &event), 1);
}

/* Reads of 100 blocks are so many commands, and a write past the end of a zone is one, or refused. */
static void expect_zones(bool there)
{
	static char data[100 * BLOCK];
	struct dmaland_nvme_namespace ns;
	unsigned int before = drive.commands;

	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 100, data), 0);
	assert_memory_equal(data, drive.media, sizeof(data));
	assert_int_equal(drive.commands - before, there ? 3 : 1);
	assert_int_equal(dmaland_nvme_write(queue, 1, ZONE - 1, 2, data), there ? -EOPNOTSUPP : 0);
	assert_int_equal(dmaland_nvme_get_namespace(ctrl, 1, &ns), 0);
	assert_int_equal(ns.command_set, there ? DMALAND_NVME_SET_ZONED : DMALAND_NVME_SET_NVM);
	assert_int_equal(ns.zone_blocks, there ? ZONE : 0);
}

static void zones_that_come_and_go_are_noticed_as_blocks_are(void **state)
{
	static void (*const ways[])(void) = {by_rescan, by_reset, by_event};

	(void)state;
	open_plain();
	expect_zones(false);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		zoned = true;
		ways[i]();
		expect_zones(true);
		zoned = false;
		ways[i]();
		expect_zones(false);
	}
	end();
}

/* They were checked and cut for a namespace without zones. */
static void requests_under_way_do_not_go_on_in_zones(void **state)
{
	(void)state;
	open_plain();
	judge(SOFT_NVME_HOLD, N);
	submit(DMALAND_NVME_READ);
	zoned = true;
	assert_int_equal(dmaland_nvme_reset(ctrl), 0);
	expect(-ESTALE);
	expect_zones(true);
	end();
}

static void a_format_of_our_own_needs_no_telling(void **state)
{
	(void)state;
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, buffer), 0);
	somebody_formats(); /* the drive does, when it is told to */
	assert_int_equal(dmaland_nvme_format(ctrl, 1, 0, 0), 0);
	assert_int_equal(dmaland_nvme_read(queue, 1, 3, 1, buffer), 0);
	assert_memory_equal(buffer, drive.media + 3 * LARGE, LARGE);
}

/* What an event tells is kept for a while, and it is told how much was not. */
static void events_that_nobody_takes_are_counted(void **state)
{
	enum { EXTRA = 7 };
	struct dmaland_nvme_event event;
	unsigned int n = 0;

	(void)state;
	for (unsigned int i = 0; i < NVME_EVENTS + EXTRA; i++) {
		assert_true(soft_nvme_report(&drive, TEMPERATURE));
		while (drive.logs_read[2] == i)
			assert_int_equal(dmaland_nvme_rescan(ctrl), 0);
	}
	assert_int_equal(dmaland_nvme_event(ctrl, &event), 1);
	assert_int_equal(event.missed, EXTRA);
	for (n = 1; dmaland_nvme_event(ctrl, &event) == 1; n++)
		assert_int_equal(event.missed, 0);
	assert_int_equal(n, NVME_EVENTS);
}

static void a_drive_that_reports_nothing_is_not_asked_again_and_again(void **state)
{
	(void)state;
	dev = soft_nvme_open(&drive);
	drive.lacks_reports = true;
	begin_on_device(command_ms(), command_ms() / 2);
	for (unsigned int i = 0; i < 20; i++)
		expect_no_event();
	assert_int_equal(drive.reports_asked, SOFT_NVME_REPORTS);
	all_is_well();
	end();
}

static struct {
	unsigned int times; /* it answers so ... */
	int status;
	unsigned int takes; /* ... or, with 0, holds so many */
	unsigned int asked;
} refusal;

static int refuses_reports(struct soft_nvme *d, const struct nvme_command *command,
			   unsigned char *data)
{
	(void)data;
	if (command->opcode != NVME_ADMIN_EVENT_REQUEST)
		return SOFT_NVME_CARRY_OUT;
	refusal.asked++;
	if (refusal.takes > 0)
		return d->report_count < refusal.takes ? 0 : 0x105 | SOFT_NVME_DNR;
	if (refusal.times == 0)
		return SOFT_NVME_CARRY_OUT;
	refusal.times--;
	return refusal.status;
}

static void open_refusing(unsigned int n, int code, unsigned int takes)
{
	refusal.times = n;
	refusal.status = code;
	refusal.takes = takes;
	refusal.asked = 0;
	dev = soft_nvme_open(&drive);
	drive.answer = refuses_reports;
	begin_on_device(command_ms(), command_ms() / 2);
}

static void expect_event(void)
{
	struct dmaland_nvme_event event;

	assert_true(soft_nvme_report(&drive, TEMPERATURE));
	assert_int_equal(dmaland_nvme_event(ctrl, &event), 1);
}

/* Whatever the status, but for the two that say what the drive takes; and however often. */
static void requests_to_report_that_fail_are_given_again_later(void **state)
{
	static const struct {
		unsigned int times;
		int status;
	} cases[] = {{1, 0x006}, {4, 0x006}, {2, 0x007}, {11, 0x002 | SOFT_NVME_DNR}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		open_refusing(cases[i].times, cases[i].status, 0);
		while (drive.report_count < SOFT_NVME_REPORTS)
			expect_no_event();
		assert_int_equal(refusal.asked, SOFT_NVME_REPORTS + cases[i].times);
		assert_logged("Asynchronous Event Request: ");
		assert_logged("it is asked again, after a while");
		assert_int_equal(log_lines(), 1);
		for (unsigned int k = 0; k < 2 * SOFT_NVME_REPORTS; k++)
			expect_event();
		end();
	}
}

/* Each is an entry of its error log. */
static void a_drive_that_fails_them_all_is_asked_more_and_more_seldom(void **state)
{
	uint64_t begun = nvme_now_ms();
	unsigned int rounds = 1;

	(void)state;
	open_refusing(UINT32_MAX, 0x006, 0);
	while (refusal.asked <= SOFT_NVME_REPORTS || nvme_now_ms() - begun < 30ull * ctrl->tick_ms)
		expect_no_event();
	/* the pauses: 1 tick, 2, 4 ... */
	for (uint64_t ticks = (nvme_now_ms() - begun) / ctrl->tick_ms; ticks > 0; ticks /= 2)
		rounds++;
	assert_true(refusal.asked <= rounds * SOFT_NVME_REPORTS);
	assert_int_equal(log_lines(), 1);
	end();
}

static void a_drive_that_takes_fewer_requests_than_it_says_reports_all_the_same(void **state)
{
	(void)state;
	open_refusing(0, 0, 2);
	for (unsigned int i = 0; i < 20; i++) {
		expect_event();
		assert_int_equal(drive.report_count, 2);
	}
	assert_int_equal(refusal.asked, SOFT_NVME_REPORTS + 20);
	assert_logged("it is asked for fewer at a time");
	assert_int_equal(log_lines(), 1);
	refusal.takes = 0;
	assert_int_equal(dmaland_nvme_reset(ctrl), 0);
	assert_int_equal(drive.report_count, SOFT_NVME_REPORTS);
	end();
}

static void a_reset_has_a_drive_asked_that_knew_no_events(void **state)
{
	(void)state;
	open_refusing(SOFT_NVME_REPORTS, 0x001 | SOFT_NVME_DNR, 0);
	expect_no_event();
	assert_logged("it reports nothing");
	assert_int_equal(drive.report_count, 0);
	assert_int_equal(dmaland_nvme_reset(ctrl), 0);
	assert_int_equal(drive.report_count, SOFT_NVME_REPORTS);
	expect_event();
	end();
}

static void a_drive_that_reports_without_end_is_listened_to_in_turns(void **state)
{
	struct dmaland_nvme_event event;

	(void)state;
	dev = soft_nvme_open(&drive);
	drive.babbles = NAMESPACE_CHANGED;
	for (unsigned int i = 0; i < 8; i++)
		drive.changed[i] = 1;
	begin_on_device(command_ms(), command_ms() / 2);
	all_is_well();
	assert_int_equal(dmaland_nvme_event(ctrl, &event), 1);
	all_is_well();
	end();
}

static void events_are_told_in_words(void **state)
{
	static const struct {
		struct dmaland_nvme_event event;
		const char *text;
	} cases[] = {
		{{.type = 2, .nsid = 7}, "namespace 7 has changed"},
		{{.type = 2, .nsid = UINT32_MAX}, "notice: a namespace has changed"},
		{{.type = 2, .info = 1, .page = 3}, "notice: new firmware is being activated"},
		{{.type = 1, .info = 1, .page = 2},
		 "health: its temperature is beyond a threshold"},
		{{.type = 0, .info = 3, .page = 1}, "error: persistent internal error"},
		{{.type = 7, .info = 9, .page = 0xc0},
		 "the vendor's event, type 7, 0x09, log page 192"},
		{{.type = 1, .info = 99, .page = 2, .missed = 3},
		 "event, type 1, 0x63, log page 2 (3 before it were missed)"},
	};
	char text[120];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(dmaland_nvme_event_text(&cases[i].event, text, sizeof(text)),
				    cases[i].text);
	assert_string_equal(dmaland_nvme_event_text(&cases[6].event, text, 6), "event");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_a_drive(a_format_by_others_that_the_drive_reports_is_told_before_blocks_move),
		on_a_drive(who_polls_a_queue_hears_of_it_too),
		on_a_drive(requests_to_report_are_given_again),
		on_a_drive(a_list_of_changes_that_is_too_long_means_all),
		on_a_drive(a_status_that_hints_at_a_change_has_the_drive_asked_again),
		on_a_drive(reads_that_a_reset_cuts_off_are_not_repeated_in_blocks_of_another_size),
		on_a_drive(
			reads_that_a_reset_cuts_off_go_on_where_nothing_or_the_size_alone_has_changed),
		on_a_drive(a_rescan_counts_what_has_changed),
		on_a_drive(a_namespace_that_is_gone_is_not_there_in_whatever_way_the_drive_says_so),
		cmocka_unit_test(zones_that_come_and_go_are_noticed_as_blocks_are),
		cmocka_unit_test(requests_under_way_do_not_go_on_in_zones),
		on_a_drive(a_format_of_our_own_needs_no_telling),
		on_a_drive(events_that_nobody_takes_are_counted),
		cmocka_unit_test(a_drive_that_reports_nothing_is_not_asked_again_and_again),
		cmocka_unit_test(requests_to_report_that_fail_are_given_again_later),
		cmocka_unit_test(a_drive_that_fails_them_all_is_asked_more_and_more_seldom),
		cmocka_unit_test(
			a_drive_that_takes_fewer_requests_than_it_says_reports_all_the_same),
		cmocka_unit_test(a_reset_has_a_drive_asked_that_knew_no_events),
		cmocka_unit_test(a_drive_that_reports_without_end_is_listened_to_in_turns),
		cmocka_unit_test(events_are_told_in_words),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
