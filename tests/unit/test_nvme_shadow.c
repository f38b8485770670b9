/* SPDX-License-Identifier: MIT */
/*
 * test_nvme_shadow.c - shadow doorbells, and a drive that asks to be rung when it likes
 *
 * Whatever it writes as an event: each request is answered once, with the right bytes, and nobody is late.
 */
#include "nvme_stand.h"

#include <errno.h>
#include <stdlib.h>

enum { DEPTH = 32, BLOCK = SOFT_NVME_BLOCK };

static struct dmaland_nvme_request many[DEPTH], *list[DEPTH];
static struct iovec segments[DEPTH];
static unsigned int done_count;
static unsigned char *pages;

static void open_shadowed(uint32_t (*event)(struct soft_nvme *d, uint32_t honest))
{
	dev = soft_nvme_open(&drive);
	drive.offers_shadows = true;
	drive.event = event;
	begin_on_device(command_ms(), command_ms() / 2);
	pages = aligned_alloc(4096, DEPTH * 4096);
	assert_non_null(pages);
}

static void close_shadowed(void)
{
	struct dmaland_nvme_stats said = stats();

	assert_int_equal(said.aborts + said.queues_remade + said.ignored, 0);
	end();
	free(pages);
}

static void on_done(struct dmaland_nvme_request *request, int result)
{
	(void)request;
	assert_int_equal(result, 0);
	done_count++;
}

static void submit_reads(unsigned int count, uint64_t first)
{
	memset(pages, 0, DEPTH * 4096);
	done_count = 0;
	for (unsigned int i = 0; i < count; i++) {
		list[i] = &many[i];
		segments[i] = (struct iovec){pages + (size_t)i * 4096, 4096};
		many[i] = (struct dmaland_nvme_request){
			.opcode = DMALAND_NVME_READ,
			.nsid = 1,
			.block = (first + 8 * i) % SOFT_NVME_BLOCKS,
			.blocks = 8,
			.iov = &segments[i],
			.iov_count = 1,
			.done = on_done,
		};
	}
	assert_int_equal(dmaland_nvme_submit_bulk(queue, list, count), count);
}

static void finish_reads(unsigned int count)
{
	while (done_count < count)
		dmaland_nvme_poll(queue);
	for (unsigned int i = 0; i < count; i++)
		assert_memory_equal(pages + (size_t)i * 4096, drive.media + many[i].block * BLOCK,
				    4096);
}

static void read_many(unsigned int batches)
{
	uint64_t seed = 99;

	for (unsigned int i = 0; i < batches; i++) {
		unsigned int count = (unsigned int)(random_next(&seed) % DEPTH) + 1;

		submit_reads(count, 8 * (random_next(&seed) % 400));
		finish_reads(count);
	}
}

/* ---- whether they are used ---- */

static bool used(void)
{
	struct dmaland_nvme_info info;

	dmaland_nvme_get_info(ctrl, &info);
	return info.shadow_doorbells;
}

static void only_a_drive_that_offers_them_is_told_of_them(void **state)
{
	(void)state;
	assert_false(used());
	assert_int_equal(drive.shadows_told, 0);
	all_is_well();
}

static int refuse_shadows(struct soft_nvme *d, const struct nvme_command *command,
			  unsigned char *data)
{
	(void)d;
	(void)data;
	return command->opcode == NVME_ADMIN_DOORBELL_BUFFER ? 0x002 | SOFT_NVME_DNR
							     : SOFT_NVME_CARRY_OUT;
}

static void one_that_refuses_them_is_rung(void **state)
{
	(void)state;
	dev = soft_nvme_open(&drive);
	drive.offers_shadows = true;
	drive.answer = refuse_shadows;
	begin_on_device(command_ms(), command_ms() / 2);
	assert_false(used());
	assert_int_equal(dmaland_nvme_flush(queue, 1), 0);
	assert_int_equal(drive.doorbells, 1);
	all_is_well();
	end();
}

static void the_application_cannot_tell_of_others(void **state)
{
	struct dmaland_nvme_command raw = {.opcode = NVME_ADMIN_DOORBELL_BUFFER};

	(void)state;
	open_shadowed(NULL);
	assert_true(used());
	assert_int_equal(dmaland_nvme_admin(ctrl, &raw), -EPERM);
	assert_int_equal(drive.shadows_told, 1);
	close_shadowed();
}

/* ---- honest drives ---- */

static void a_batch_costs_two_register_accesses_at_most(void **state)
{
	(void)state;
	open_shadowed(NULL);
	for (unsigned int i = 0; i < 100; i++) {
		unsigned int before = drive.doorbells + drive.cq_doorbells;

		submit_reads(DEPTH, 8 * i);
		finish_reads(DEPTH);
		assert_in_range(drive.doorbells + drive.cq_doorbells - before, 1, 2);
	}
	close_shadowed();
}

static void batches_of_all_sizes_arrive_round_and_round_the_ring(void **state)
{
	(void)state;
	open_shadowed(NULL);
	read_many(1000);
	close_shadowed();
}

/* It was rung for that already, and will not be for what comes: it finds by itself what there is. */
static uint32_t just_passed(struct soft_nvme *d, uint32_t honest)
{
	(void)d;
	return honest - 1;
}

static void a_drive_that_looks_by_itself_is_not_rung(void **state)
{
	(void)state;
	open_shadowed(just_passed);
	soft_nvme_look_at_shadows(&drive); /* that it does so is there to be read */
	for (unsigned int i = 0; i < 20; i++) {
		submit_reads(DEPTH, 8 * i);
		assert_int_equal(drive.commands, i * DEPTH);
		soft_nvme_look_at_shadows(&drive);
		assert_int_equal(drive.commands, (i + 1) * DEPTH);
		finish_reads(DEPTH);
		soft_nvme_look_at_shadows(&drive);
	}
	assert_int_equal(drive.doorbells, 0);
	assert_int_equal(drive.cq_doorbells, 0);
	close_shadowed();
}

/* ---- others ---- */

/* It never looks by itself, and never asks to be rung: so it is, at the next tick, before a command is late. */
static void what_is_not_rung_for_is_rung_for_before_it_is_late(void **state)
{
	(void)state;
	open_shadowed(just_passed);
	soft_nvme_look_at_shadows(&drive);
	for (unsigned int i = 0; i < 5; i++) {
		unsigned int before = drive.doorbells;

		submit_reads(DEPTH, 8 * i);
		assert_int_equal(drive.doorbells, before);
		finish_reads(DEPTH);
		assert_true(drive.doorbells > before);
	}
	close_shadowed();
}

/* Nor is it left alone when its queue ends. */
static void what_is_not_rung_for_is_rung_for_when_the_queue_ends(void **state)
{
	(void)state;
	open_shadowed(just_passed);
	soft_nvme_look_at_shadows(&drive);
	submit_reads(4, 0);
	dmaland_nvme_queue_destroy(queue);
	assert_int_equal(done_count, 4);
	queue = dmaland_nvme_queue_create(ctrl, DEPTH, 0);
	assert_non_null(queue);
	close_shadowed();
}

/* A drive may take the same value twice for a mistake. */
static void what_was_rung_for_is_not_rung_for_again(void **state)
{
	(void)state;
	open_shadowed(NULL);
	drive.aborts = true;
	judge(SOFT_NVME_HOLD, 1);
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, pages),
			 -ETIMEDOUT); /* many ticks later */
	assert_int_equal(drive.doorbells, 1);
	end();
	free(pages);
}

static uint32_t garbage(struct soft_nvme *d, uint32_t honest)
{
	static uint64_t seed = 4711;

	(void)d;
	return random_next(&seed) % 4 ? (uint32_t)random_next(&seed) : honest;
}

static void events_of_any_value_decide_nothing_but_whether_to_ring(void **state)
{
	(void)state;
	open_shadowed(garbage);
	read_many(60);
	close_shadowed();
}

/* ---- queues that begin again ---- */

static void a_queue_of_an_old_number_begins_at_its_beginning(void **state)
{
	(void)state;
	open_shadowed(NULL);
	for (unsigned int i = 0; i < 5; i++) {
		submit_reads(7, 80);
		finish_reads(7);
		dmaland_nvme_queue_destroy(queue);
		queue = dmaland_nvme_queue_create(ctrl, DEPTH, 0);
		assert_non_null(queue);
	}
	submit_reads(7, 80);
	finish_reads(7);
	close_shadowed();
}

static void after_a_reset_the_drive_is_told_again(void **state)
{
	(void)state;
	open_shadowed(NULL);
	for (unsigned int i = 0; i < 3; i++) {
		read_many(5);
		assert_int_equal(dmaland_nvme_reset(ctrl), 0);
		assert_int_equal(drive.shadows_told, 2 + i);
		assert_true(drive.shadows != 0);
		read_many(5);
	}
	assert_false(drive.shadows_old);
	close_shadowed();
}

/* Its firmware is another, say. */
static void one_that_refuses_after_a_reset_is_rung(void **state)
{
	(void)state;
	open_shadowed(just_passed);
	drive.answer = refuse_shadows;
	assert_int_equal(dmaland_nvme_reset(ctrl), 0);
	assert_int_equal(drive.shadows, 0);
	for (unsigned int i = 0; i < 10; i++) {
		unsigned int before;

		dmaland_nvme_poll(queue);
		before = drive.doorbells;
		submit_reads(DEPTH, 8 * i);
		assert_int_equal(drive.doorbells, before + 1);
		finish_reads(DEPTH);
	}
	close_shadowed();
}

/* One does not answer any more: its queue is made again, and goes on. */
static void a_queue_that_is_made_again_begins_at_its_beginning(void **state)
{
	(void)state;
	open_shadowed(NULL);
	read_many(3);
	judge(SOFT_NVME_HOLD, 1);
	assert_int_equal(dmaland_nvme_read(queue, 1, 0, 1, pages), -ETIMEDOUT);
	assert_int_equal(stats().queues_remade, 1);
	read_many(20);
	end();
	free(pages);
}

/* What a drive in trouble is told of when it is opened is answered or reset, as for any admin command. */
static void one_that_is_silent_about_them_is_not_opened(void **state)
{
	(void)state;
	dev = soft_nvme_open(&drive);
	drive.offers_shadows = true;
	drive.silent_admin = NVME_ADMIN_DOORBELL_BUFFER;
	assert_null(open_controller(command_ms(), command_ms() / 2));
	assert_int_equal(errno, ETIMEDOUT);
	assert_error_says("Doorbell Buffer Config did not complete");
	dmaland_close(dev);
	assert_int_equal(drive.faults, 0);
	soft_nvme_free(&drive);
	log_clear();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_a_drive(only_a_drive_that_offers_them_is_told_of_them),
		cmocka_unit_test(one_that_refuses_them_is_rung),
		cmocka_unit_test(the_application_cannot_tell_of_others),
		cmocka_unit_test(a_batch_costs_two_register_accesses_at_most),
		cmocka_unit_test(batches_of_all_sizes_arrive_round_and_round_the_ring),
		cmocka_unit_test(a_drive_that_looks_by_itself_is_not_rung),
		cmocka_unit_test(what_is_not_rung_for_is_rung_for_before_it_is_late),
		cmocka_unit_test(what_is_not_rung_for_is_rung_for_when_the_queue_ends),
		cmocka_unit_test(what_was_rung_for_is_not_rung_for_again),
		cmocka_unit_test(events_of_any_value_decide_nothing_but_whether_to_ring),
		cmocka_unit_test(a_queue_of_an_old_number_begins_at_its_beginning),
		cmocka_unit_test(after_a_reset_the_drive_is_told_again),
		cmocka_unit_test(one_that_refuses_after_a_reset_is_rung),
		cmocka_unit_test(a_queue_that_is_made_again_begins_at_its_beginning),
		cmocka_unit_test(one_that_is_silent_about_them_is_not_opened),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
