/* SPDX-License-Identifier: MIT */
/*
 * test_identify.c - `dmaland nvme identify` and `log` of drives that refuse to tell something
 *
 * The drive is command_stand.h's.
 */
#include "command_stand.h"

static int (*refusals)(struct soft_nvme *, const struct nvme_command *, unsigned char *);

static void refuse(void)
{
	soft.answer = refusals;
}

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
		assert_int_equal(run(&nvme_identify_command, ""), STATUS_FAILED);
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
	assert_int_equal(run(&nvme_identify_command, ""), STATUS_FAILED);
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
	assert_int_equal(run(&nvme_log_command, ""), STATUS_FAILED);
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

	soft_prepare = refuse;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
