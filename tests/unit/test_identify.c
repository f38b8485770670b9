/* SPDX-License-Identifier: MIT */
/*
 * test_identify.c - `dmaland nvme identify` and `log` of drives that refuse to tell something
 *
 * The drive is soft_nvme.h's. What the command prints goes to files in memory.
 */
#include "drive.h" /* whose fail() is none of cmocka's */

#include "soft_nvme.h"

#include <sys/mman.h>
#include <unistd.h>

static struct soft_nvme soft;
static int (*refusals)(struct soft_nvme *, const struct nvme_command *, unsigned char *);

int drive_open(struct drive *drive, const struct arguments *arguments)
{
	(void)arguments;
	memset(drive, 0, sizeof(*drive));
	drive->dev = soft_nvme_open(&soft);
	soft.answer = refusals;
	drive->ctrl = dmaland_nvme_open(drive->dev, NULL);
	assert_non_null(drive->ctrl);
	dmaland_nvme_get_info(drive->ctrl, &drive->info);
	return STATUS_OK;
}

void drive_close(struct drive *drive)
{
	dmaland_nvme_close(drive->ctrl);
	dmaland_close(drive->dev);
	assert_int_equal(soft.faults, 0);
	soft_nvme_free(&soft);
}

/* ---- what is printed ---- */

static char out[8192], err[8192];

static void redirect(int fd, int to)
{
	assert_true(dup2(to, fd) >= 0);
	close(to);
}

static void take(int fd, int back, char *text)
{
	ssize_t n = pread(fd, text, 8191, 0);

	assert_true(n >= 0);
	text[n] = '\0';
	redirect(fd, back);
}

static int run(const struct command *command)
{
	struct arguments arguments = {.nsid = 1};
	int out_back = dup(STDOUT_FILENO), err_back = dup(STDERR_FILENO), status;

	fflush(stdout);
	redirect(STDOUT_FILENO, memfd_create("out", 0));
	redirect(STDERR_FILENO, memfd_create("err", 0));
	status = command->run(&arguments);
	fflush(stdout);
	take(STDOUT_FILENO, out_back, out);
	take(STDERR_FILENO, err_back, err);
	return status;
}

#define assert_says(text, words)                                                                   \
	do {                                                                                       \
		if (!strstr(text, words))                                                          \
			fail_msg("'%s' lacks '%s'", text, words);                                  \
	} while (0)

/* ---- refusals ---- */

static bool has_list;

/* Namespaces 1, 2 and 5, of which 2 can't be had, and at most 6. */
static int refuses_2(struct soft_nvme *d, const struct nvme_command *command, unsigned char *data)
{
	static const unsigned char ids[] = {1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0};
	uint32_t nsid = le32toh(command->nsid);

	(void)d;
	if (command->opcode != NVME_ADMIN_IDENTIFY)
		return SOFT_NVME_CARRY_OUT;
	switch (le32toh(command->cdw10) & 0xff) {
	case NVME_IDENTIFY_NAMESPACE:
		if (nsid == 2)
			return 0x006 | SOFT_NVME_DNR;
		return nsid == 1 || nsid == 5 ? SOFT_NVME_CARRY_OUT
					      : NVME_STATUS_INVALID_NAMESPACE | SOFT_NVME_DNR;
	case NVME_IDENTIFY_CONTROLLER:
		data[516] = 6;
		break;
	case NVME_IDENTIFY_ACTIVE_LIST:
		if (!has_list)
			return NVME_STATUS_INVALID_FIELD | SOFT_NVME_DNR;
		memset(data, 0, 4096);
		if (nsid < 1)
			memcpy(data, ids, sizeof(ids));
		break;
	}
	return SOFT_NVME_CARRY_OUT;
}

static void a_namespace_that_is_refused_is_named_and_the_others_are_shown(void **state)
{
	(void)state;
	refusals = refuses_2;
	for (int i = 0; i < 2; i++) {
		has_list = i == 0;
		assert_int_equal(run(&nvme_identify_command), STATUS_FAILED);
		assert_says(out, "soft drive");
		assert_says(out, "\n   1    4096         512 ");
		assert_says(out, "\n   5    4096         512 ");
		assert_null(strstr(out, "\n   2 "));
		assert_says(err, "namespace 2: ");
		assert_says(err, "Identify: Internal Error (0x006)\n");
		assert_null(strchr(strchr(err, '\n') + 1, '\n'));
	}
}

/* The answer to this is its last. */
static int goes_at_2(struct soft_nvme *d, const struct nvme_command *command, unsigned char *data)
{
	if (command->opcode == NVME_ADMIN_IDENTIFY && le32toh(command->cdw10) == 0 &&
	    le32toh(command->nsid) == 2)
		atomic_store(&d->gone, true);
	return refuses_2(d, command, data);
}

static void a_drive_that_goes_meanwhile_is_not_asked_for_each_namespace(void **state)
{
	(void)state;
	refusals = goes_at_2;
	has_list = true;
	assert_int_equal(run(&nvme_identify_command), STATUS_FAILED);
	assert_says(err, "namespace 2: ");
	assert_null(strstr(err, "namespace 5"));
	assert_string_equal(out, "");
}

static int refuses_health(struct soft_nvme *d, const struct nvme_command *command,
			  unsigned char *data)
{
	(void)d;
	(void)data;
	return command->opcode == NVME_ADMIN_GET_LOG_PAGE && (le32toh(command->cdw10) & 0xff) == 2
		       ? 0x109 | SOFT_NVME_DNR
		       : SOFT_NVME_CARRY_OUT;
}

static void errors_are_told_by_a_drive_that_refuses_its_health(void **state)
{
	(void)state;
	refusals = refuses_health;
	assert_int_equal(run(&nvme_log_command), STATUS_FAILED);
	assert_says(err, "health: ");
	assert_says(err, "Invalid Log Page (0x109)");
	assert_says(out, "Unrecovered Read Error");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_namespace_that_is_refused_is_named_and_the_others_are_shown),
		cmocka_unit_test(a_drive_that_goes_meanwhile_is_not_asked_for_each_namespace),
		cmocka_unit_test(errors_are_told_by_a_drive_that_refuses_its_health),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
