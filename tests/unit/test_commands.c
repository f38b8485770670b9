/* SPDX-License-Identifier: MIT */
/*
 * test_commands.c - what commands of `dmaland nvme` send to a drive, and what they say of it
 *
 * The drive is command_stand.h's. nanosleep() and write() are the test's: in them things happen while a command works.
 */
#include "command_stand.h"

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Commands that the drive was given since it is open, by opcode; blocks that those of I/O were about. */
static unsigned int admin_seen[256], seen[256], all_seen;
static uint64_t blocks_seen, first_seen;

static int note(struct soft_nvme *d, const struct nvme_command *command)
{
	(void)d;
	seen[command->opcode]++;
	if (all_seen++ == 0)
		first_seen = le32toh(command->cdw10);
	blocks_seen += (le32toh(command->cdw12) & 0xffff) + 1;
	return SOFT_NVME_CARRY_OUT;
}

static bool lacks_verify;

static int note_admin(struct soft_nvme *d, const struct nvme_command *command, unsigned char *data)
{
	(void)d;
	admin_seen[command->opcode]++;
	if (lacks_verify && command->opcode == NVME_ADMIN_IDENTIFY &&
	    (le32toh(command->cdw10) & 0xff) == NVME_IDENTIFY_CONTROLLER)
		data[520] &= 0x7f; /* ONCS */
	return SOFT_NVME_CARRY_OUT;
}

static void prepare(void)
{
	memset(admin_seen, 0, sizeof(admin_seen));
	memset(seen, 0, sizeof(seen));
	all_seen = 0;
	blocks_seen = 0;
	soft.verdict = note;
	soft.answer = note_admin;
}

/* ---- verify ---- */

static void verify_has_the_drive_read_and_sends_nothing_else(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		lacks_verify = i == 1;
		assert_int_equal(run(&nvme_verify_command, ""), STATUS_OK);
		assert_says(out, "namespace 1: the drive can read 4096 blocks of 512 bytes");
		assert_true(all_seen > 0);
		assert_int_equal(seen[lacks_verify ? DMALAND_NVME_READ : DMALAND_NVME_VERIFY],
				 all_seen);
		assert_int_equal(blocks_seen, SOFT_NVME_BLOCKS);
		assert_int_equal(admin_seen[NVME_ADMIN_FORMAT], 0);
	}
	lacks_verify = false;
}

static void verify_keeps_to_its_range(void **state)
{
	(void)state;
	assert_int_equal(run(&nvme_verify_command, "-s 100 -c 50"), STATUS_OK);
	assert_int_equal(first_seen, 100);
	assert_int_equal(blocks_seen, 50);
}

/* ---- format ---- */

static void format_waits_as_long_as_it_is_told(void **state)
{
	(void)state;
	assert_int_equal(run(&nvme_format_command, "--format 0 --yes --timeout 4000"), STATUS_OK);
	assert_int_equal(opened_with.format_timeout_ms, 4000 * 1000);
	assert_int_equal(admin_seen[NVME_ADMIN_FORMAT], 1);
	assert_int_equal(run(&nvme_format_command, "--format 0 --yes"), STATUS_OK);
	assert_int_equal(opened_with.format_timeout_ms, 0); /* the library's default */
}

/* ---- read ---- */

static bool is_small; /* stdout takes @room bytes more, and is full */
static size_t room;

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size)
{
	if (!is_small || fd != STDOUT_FILENO)
		return __real_write(fd, data, size);
	if (room == 0) {
		errno = ENOSPC;
		return -1;
	}
	if (size > room)
		size = room;
	room -= size;
	return __real_write(fd, data, size);
}

static void read_says_how_much_of_a_block_came_too(void **state)
{
	static const struct {
		size_t room;
		const char *said;
	} cases[] = {
		{700, "1 of 4096 blocks, from block 0 on, were read to stdout, and 188 bytes of "
		      "the next one\n"},
		{100, "0 of 4096 blocks, from block 0 on, were read to stdout, and 100 bytes of "
		      "the next one\n"},
		{1024, "2 of 4096 blocks, from block 0 on, were read to stdout\n"},
		{(300 << 10) + 1, "600 of 4096 blocks, from block 0 on, were read to stdout, and 1 "
				  "bytes of the next one\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		is_small = true;
		room = cases[i].room;
		assert_int_equal(run(&nvme_read_command, ""), STATUS_FAILED);
		is_small = false;
		assert_int_equal(room, 0);
		assert_says(err, "cannot write to stdout: No space left on device\n");
		assert_says(err, cases[i].said);
	}
}

/* ---- watch ---- */

static bool is_watched;
static unsigned int naps; /* of watch, in which nothing has come */
static off_t printed;

int __real_nanosleep(const struct timespec *wanted, struct timespec *left);
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left);
int __wrap_nanosleep(const struct timespec *wanted, struct timespec *left)
{
	enum { NAMESPACE_CHANGED = 2 | 4 << 16 };
	struct stat stat;

	if (!is_watched || soft.report_count == 0)
		return __real_nanosleep(wanted, left);
	if (naps++ == 0) {
		soft.changed[0] = 1;
		assert_true(soft_nvme_report(&soft, NAMESPACE_CHANGED));
		return 0;
	}
	is_watched = false;
	assert_int_equal(fstat(STDOUT_FILENO, &stat), 0);
	printed = stat.st_size;
	raise(SIGTERM);
	return 0;
}

static void watch_prints_an_event_when_it_comes_until_a_signal_comes(void **state)
{
	(void)state;
	signals_catch();
	is_watched = true;
	assert_int_equal(run(&nvme_watch_command, ""), STATUS_SIGNAL + SIGTERM);
	assert_string_equal(out, "namespace 1 has changed\n");
	assert_int_equal(printed, strlen(out));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(verify_has_the_drive_read_and_sends_nothing_else),
		cmocka_unit_test(verify_keeps_to_its_range),
		cmocka_unit_test(format_waits_as_long_as_it_is_told),
		cmocka_unit_test(read_says_how_much_of_a_block_came_too),
		/* the last: its signal ends any other command, too */
		cmocka_unit_test(watch_prints_an_event_when_it_comes_until_a_signal_comes),
	};

	soft_prepare = prepare;
	return cmocka_run_group_tests_name("commands", tests, NULL, NULL);
}
