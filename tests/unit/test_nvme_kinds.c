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

static unsigned int cns_of(const struct nvme_command *command)
{
	return command->opcode == NVME_ADMIN_IDENTIFY ? le32toh(command->cdw10) & 0xff : 0x100;
}

/* ---- namespaces ---- */

static const struct list {
	unsigned int count;
	uint32_t ids[4], highest;
	bool none; /* no list */
} * list;

/* Namespaces of these ids, all alike. */
static int has_namespaces(struct soft_nvme *d, const struct nvme_command *command,
			  unsigned char *data)
{
	uint32_t nsid = le32toh(command->nsid);
	unsigned int n = 0;

	(void)d;
	switch (cns_of(command)) {
	case NVME_IDENTIFY_NAMESPACE:
		for (unsigned int i = 0; i < list->count; i++)
			if (list->ids[i] == nsid)
				return SOFT_NVME_CARRY_OUT;
		return NVME_STATUS_INVALID_NAMESPACE | SOFT_NVME_DNR;
	case NVME_IDENTIFY_CONTROLLER:
		put32(data, 516, list->highest);
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
	dev = soft_nvme_open(&drive);
	drive.answer = has_namespaces;
	ctrl = open_controller(command_ms(), command_ms() / 2);
	if (!ctrl)
		fail_msg("%s", dmaland_last_error());
}

static void namespaces_are_listed_whatever_the_highest_id(void **state)
{
	static const struct list l = {3, {3, 7, 0xfffffffe}, 2, false};
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
	static const struct list l = {2, {1, 3}, 1500, true};
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
	static const struct list l = {2, {1, 3}, 3, true};

	(void)state;
	open_list(&l);
	assert_int_equal(dmaland_nvme_format(ctrl, UINT32_MAX, 1, 0), -EINVAL);
	assert_error_says("no format 1");
	assert_int_equal(dmaland_nvme_format(ctrl, UINT32_MAX, 0, 0), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(namespaces_are_listed_whatever_the_highest_id),
		cmocka_unit_test(without_a_list_all_ids_are_named),
		cmocka_unit_test(all_namespaces_are_formatted_without_a_list),
		cmocka_unit_test(a_drive_that_refuses_to_give_queues_tells_how_it_is),
		cmocka_unit_test(a_drive_with_doorbells_of_the_admin_queue_alone_is_opened),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
