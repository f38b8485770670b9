/* SPDX-License-Identifier: MIT */
/*
 * test_rtl8139cp_irq.c - waiting for frames, with interrupts and without
 */
#include "rtl8139cp_stand.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>

/* When a wait sleeps, or is about to: the chip has interrupts on, and what came was taken. */
static void *frame_comes(void *context)
{
	struct soft_rtl8139 *chip = context;
	unsigned char frame[100];

	while (soft_rtl8139_register(chip, ISR, 2))
		sched_yield();
	frame_fill(frame, 0, 77, sizeof(frame));
	assert_true(soft_rtl8139_receive(chip, frame, sizeof(frame)));
	return NULL;
}

static void a_wait_sleeps_until_a_frame_comes(void **state)
{
	struct soft_rtl8139 *chip = &ends[0].chip;
	struct dmaland_packet *packet;
	unsigned char frame[100];
	int irq = dmaland_rtl8139cp_irq(ends[0].card);

	(void)state;
	assert_true(irq >= 0);
	assert_int_equal(dmaland_rtl8139cp_irq(ends[0].card), irq);
	for (int round = 0; round < 200; round++) {
		pthread_t thread;

		/* One that is taken without waiting leaves its interrupt: there is nothing more to do. */
		frame_fill(frame, 0, 1, sizeof(frame));
		assert_true(soft_rtl8139_receive(chip, frame, sizeof(frame)));
		dmaland_packet_free(receive_one(0));
		if (round % 20 == 0)
			assert_int_equal(dmaland_rtl8139cp_reset(ends[0].card), 0);
		assert_int_equal(pthread_create(&thread, NULL, frame_comes, chip), 0);
		assert_int_equal(
			dmaland_rtl8139cp_wait(ends[0].card, round % 2 ? -1 : (int)patience(60000)),
			1);
		assert_int_equal(dmaland_rtl8139cp_receive(ends[0].card, &packet, 1), 1);
		frame_check(0, packet->data, packet->len, 77, sizeof(frame));
		dmaland_packet_free(packet);
		pthread_join(thread, NULL);
	}
	/* Of the last, nothing but the interrupt is left. */
	assert_int_equal(dmaland_rtl8139cp_wait(ends[0].card, 1), 0);
	assert_int_equal(dmaland_rtl8139cp_wait(ends[0].card, 0), 0);
}

static void the_interrupts_file_is_readable_when_there_is_something_to_do(void **state)
{
	struct soft_rtl8139 *chip = &ends[0].chip;
	struct pollfd irq = {.fd = dmaland_rtl8139cp_irq(ends[0].card), .events = POLLIN};
	struct dmaland_packet *packet;
	unsigned char frame[100];

	(void)state;
	frame_fill(frame, 0, 1, sizeof(frame));
	for (int round = 0; round < 10; round++) {
		assert_int_equal(poll(&irq, 1, 0), 0);
		if (round % 2) {
			chip->holds = true;
			send_one(0, frame_make(0, 1, 100, 1));
			assert_int_equal(poll(&irq, 1, 0), 0);
			assert_int_equal(dmaland_rtl8139cp_wait(ends[0].card, 0), 0);
			soft_rtl8139_go(chip);
		} else {
			assert_true(soft_rtl8139_receive(chip, frame, sizeof(frame)));
		}
		assert_int_equal(poll(&irq, 1, (int)patience(60000)), 1);
		assert_int_equal(dmaland_rtl8139cp_wait(ends[0].card, 0), 1);
		while (dmaland_rtl8139cp_receive(ends[0].card, &packet, 1))
			dmaland_packet_free(packet);
		assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
		assert_int_equal(dmaland_rtl8139cp_wait(ends[0].card, 0), 0);
		if (round == 5)
			assert_int_equal(dmaland_rtl8139cp_reset(ends[0].card), 0);
	}
}

static void without_interrupts_a_wait_only_looks(void **state)
{
	unsigned char frame[100];

	(void)state;
	assert_int_equal(dmaland_rtl8139cp_wait(ends[0].card, -1), 0);
	frame_fill(frame, 0, 1, sizeof(frame));
	assert_true(soft_rtl8139_receive(&ends[0].chip, frame, sizeof(frame)));
	assert_int_equal(dmaland_rtl8139cp_wait(ends[0].card, -1), 1);
	dmaland_packet_free(receive_one(0));
	soft_rtl8139_vanish(&ends[0].chip);
	assert_int_equal(dmaland_rtl8139cp_wait(ends[0].card, -1), -ENODEV);
}

static void *pull(void *context)
{
	while (soft_rtl8139_register(context, ISR, 2))
		sched_yield();
	soft_rtl8139_vanish(context);
	return NULL;
}

static void a_card_that_is_pulled_wakes_who_waits(void **state)
{
	pthread_t thread;

	(void)state;
	assert_true(dmaland_rtl8139cp_irq(ends[0].card) >= 0);
	soft_rtl8139_raise(&ends[0].chip, INT_LINK);
	assert_int_equal(pthread_create(&thread, NULL, pull, &ends[0].chip), 0);
	assert_int_equal(dmaland_rtl8139cp_wait(ends[0].card, -1), -ENODEV);
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_a_card(a_wait_sleeps_until_a_frame_comes),
		with_a_card(the_interrupts_file_is_readable_when_there_is_something_to_do),
		with_a_card(without_interrupts_a_wait_only_looks),
		with_a_card(a_card_that_is_pulled_wakes_who_waits),
	};

	watchdog(100);
	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
