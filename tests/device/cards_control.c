/* SPDX-License-Identifier: MIT */
/*
 * cards_control.c - address, filter, counters, interrupts, reset
 */
#include "cards.h"

#include <errno.h>
#include <poll.h>

static void the_chip_counts_what_it_sends_and_receives(void **state)
{
	struct dmaland_rtl8139cp_counters counters;

	(void)state;
	send_and_receive(0, 1, 10, 1);
	assert_int_equal(dmaland_rtl8139cp_get_counters(ends[0].card, &counters), 0);
	assert_int_equal(counters.tx_ok, 10);
	assert_int_equal(dmaland_rtl8139cp_get_counters(ends[1].card, &counters), 0);
	assert_int_equal(counters.rx_ok, 10);
	assert_int_equal(counters.rx_unicast, 10);
}

/* How many of these frames come: one to a stranger, to all, to a group, to another group. */
static unsigned int heard(void)
{
	static const unsigned char to[4][DMALAND_ETH_ALEN] = {
		{0x52, 0x54, 0, 0, 0, 9},
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		{0x01, 0, 0x5e, 0, 0, 1},
		{0x01, 0, 0x5e, 0, 0, 2},
	};
	struct dmaland_packet *packet;
	unsigned int mask = 0;

	for (unsigned int i = 0; i < 5; i++) {
		packet = frame_make(0, i, 64, 1);
		if (i < 4)
			memcpy(packet->data, to[i], DMALAND_ETH_ALEN);
		assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &packet, 1), 1);
	}
	/* The last is for this card: when it is there, all are. */
	for (;;) {
		uint32_t number;

		if (!dmaland_rtl8139cp_receive(ends[1].card, &packet, 1))
			continue;
		memcpy(&number, packet->data + NUMBER_AT, sizeof(number));
		dmaland_packet_free(packet);
		if (number == 4)
			return mask;
		mask |= 1u << number;
	}
}

static void the_filter_takes_what_it_is_told(void **state)
{
	static const unsigned char group[DMALAND_ETH_ALEN] = {0x01, 0, 0x5e, 0, 0, 1};

	(void)state;
	assert_int_equal(heard(), 1 << 1);
	dmaland_rtl8139cp_set_filter(ends[1].card, false, group, 1);
	assert_int_equal(heard(), 1 << 1 | 1 << 2);
	dmaland_rtl8139cp_set_filter(ends[1].card, false, NULL, 1);
	assert_int_equal(heard(), 1 << 1 | 1 << 2 | 1 << 3);
	dmaland_rtl8139cp_set_filter(ends[1].card, true, NULL, 0);
	assert_int_equal(heard(), 0xf);
	assert_int_equal(dmaland_rtl8139cp_reset(ends[1].card), 0);
	assert_int_equal(heard(), 0xf);
	dmaland_rtl8139cp_set_filter(ends[1].card, false, NULL, 0);
	assert_int_equal(heard(), 1 << 1);
}

static void another_address_is_heard(void **state)
{
	static const unsigned char other[DMALAND_ETH_ALEN] = {0x02, 0, 0, 0, 0xaa, 0xbb};
	static const unsigned char group[DMALAND_ETH_ALEN] = {0x03, 0, 0, 0, 0xaa, 0xbb};

	(void)state;
	assert_int_equal(dmaland_rtl8139cp_set_mac(ends[1].card, group), -EINVAL);
	assert_int_equal(dmaland_rtl8139cp_set_mac(ends[1].card, other), 0);
	dmaland_rtl8139cp_mac(ends[1].card, ends[1].mac);
	assert_memory_equal(ends[1].mac, other, DMALAND_ETH_ALEN);
	send_and_receive(0, 1, 3, 1);
}

static void interrupts_wake_who_waits(void **state)
{
	struct dmaland_packet *packet, *come;

	(void)state;
	assert_true(dmaland_rtl8139cp_irq(ends[1].card) >= 0);
	assert_int_equal(dmaland_rtl8139cp_wait(ends[1].card, 0), 0);
	for (uint32_t i = 0; i < 20; i++) {
		packet = frame_make(0, i, 200, 1);
		assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &packet, 1), 1);
		assert_int_equal(dmaland_rtl8139cp_wait(ends[1].card, (int)patience(20000)), 1);
		assert_int_equal(dmaland_rtl8139cp_receive(ends[1].card, &come, 1), 1);
		frame_check(1, come, i, 200);
		dmaland_packet_free(come);
		dmaland_rtl8139cp_clean(ends[0].card);
	}
	assert_int_equal(dmaland_rtl8139cp_reset(ends[1].card), 0);
	assert_int_equal(dmaland_rtl8139cp_wait(ends[1].card, 0), 0);
	packet = frame_make(0, 20, 200, 1);
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &packet, 1), 1);
	assert_int_equal(dmaland_rtl8139cp_wait(ends[1].card, (int)patience(20000)), 1);
	assert_int_equal(dmaland_rtl8139cp_receive(ends[1].card, &come, 1), 1);
	dmaland_packet_free(come);
}

/* What was polled for has set the chip's bits: they wake nobody, and a frame that comes after that does. */
static void old_interrupts_wake_nobody(void **state)
{
	struct pollfd irq = {.fd = dmaland_rtl8139cp_irq(ends[1].card), .events = POLLIN};
	struct dmaland_packet *packet, *come;

	(void)state;
	assert_true(irq.fd >= 0);
	for (uint32_t i = 0; i < 20; i++) {
		send_and_receive(0, 100, 3, 1);
		send_and_receive(1, 200, 3, 1);
		assert_int_equal(dmaland_rtl8139cp_wait(ends[1].card, 0), 0);
		assert_int_equal(poll(&irq, 1, 0), 0);
		packet = frame_make(0, i, 200, 1);
		assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &packet, 1), 1);
		assert_int_equal(poll(&irq, 1, (int)patience(20000)), 1);
		assert_int_equal(dmaland_rtl8139cp_wait(ends[1].card, (int)patience(20000)), 1);
		assert_int_equal(dmaland_rtl8139cp_receive(ends[1].card, &come, 1), 1);
		frame_check(1, come, i, 200);
		dmaland_packet_free(come);
	}
}

/* Frames are on their way in both cards when one is reset: no packet is lost to its owner. */
static void a_reset_under_load_releases_all(void **state)
{
	struct dmaland_packet mine[8] = {{.release = count_released}}, *packet;

	(void)state;
	released = 0;
	for (uint32_t round = 0; round < 10; round++) {
		packet = frame_make(0, round, 300, 1);
		for (int i = 0; i < 8; i++) {
			struct dmaland_packet *p = &mine[i];

			*p = (struct dmaland_packet){
				.data = packet->data, .len = 300, .release = count_released};
			assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &p, 1), 1);
		}
		assert_int_equal(dmaland_rtl8139cp_reset(ends[0].card), 0);
		assert_int_equal(released, 8 * (round + 1));
		dmaland_packet_free(packet);
		assert_int_equal(dmaland_rtl8139cp_reset(ends[1].card), 0);
		send_and_receive(0, 100, 20, 3);
		send_and_receive(1, 200, 20, 3);
	}
}

static void another_device_is_refused(void **state)
{
	struct dmaland_device *edu = dmaland_open(other_spec, NULL);
	struct dmaland_rtl8139cp_options options = {.size = sizeof(options), .rx_way = 3};

	(void)state;
	assert_non_null(edu);
	errno = 0;
	assert_null(dmaland_rtl8139cp_open(edu, NULL));
	assert_int_equal(errno, ENODEV);
	assert_error_says("no RTL8139C+");
	errno = 0;
	assert_null(dmaland_rtl8139cp_open(edu, &options));
	assert_int_equal(errno, EINVAL);
	options.size = 1;
	assert_null(dmaland_rtl8139cp_open(edu, &options));
	assert_int_equal(errno, EINVAL);
	dmaland_rtl8139cp_close(NULL);
	dmaland_close(edu);
}

int run_control_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_chip_counts_what_it_sends_and_receives,
						with_defaults, done),
		cmocka_unit_test_setup_teardown(the_filter_takes_what_it_is_told, with_defaults,
						done),
		cmocka_unit_test_setup_teardown(another_address_is_heard, with_defaults, done),
		cmocka_unit_test_setup_teardown(interrupts_wake_who_waits, with_defaults, done),
		cmocka_unit_test_setup_teardown(old_interrupts_wake_nobody, with_defaults, done),
		cmocka_unit_test_setup_teardown(a_reset_under_load_releases_all, with_defaults,
						done),
		cmocka_unit_test(another_device_is_refused),
	};

	return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
