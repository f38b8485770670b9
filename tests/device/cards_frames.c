/* SPDX-License-Identifier: MIT */
/*
 * cards_frames.c - frames are sent and received, by every way
 */
#include "cards.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

static void frames_arrive_in_order_by_every_way(void **state)
{
	struct dmaland_rtl8139cp_options options = {.size = sizeof(options)};
	struct dmaland_rtl8139cp_stats stats;

	(void)state;
	for (unsigned int way = 0; way < 9; way++) {
		unsigned int n = packets_asked / 18;

		options.rx_way = (enum dmaland_rx_way)(way / 3);
		options.tx_way = (enum dmaland_tx_way)(way % 3);
		ends_open(&options);
		for (unsigned int from = 0; from < 2; from++)
			send_and_receive(from, way * n, n, 0);
		for (int i = 0; i < 2; i++) {
			dmaland_rtl8139cp_get_stats(ends[i].card, &stats);
			assert_int_equal(stats.rx_packets, n);
			assert_int_equal(stats.tx_packets, n);
			assert_int_equal(stats.tx_bytes, stats.rx_bytes);
			assert_int_equal(stats.rx_dropped + stats.rx_errors + stats.rx_length +
						 stats.rx_split + stats.tx_errors,
					 0);
			if (options.rx_way == DMALAND_RX_KEEP)
				assert_int_equal(stats.rx_copied, n);
			if (options.rx_way == DMALAND_RX_MAP)
				assert_int_equal(stats.rx_copied, 0);
			if (options.tx_way == DMALAND_TX_LINEAR)
				assert_int_equal(stats.tx_linear, n);
		}
		ends_close();
	}
}

/* Nobody takes them: the ring of the receiver is full, and then goes on. */
static void a_ring_that_is_full_loses_and_goes_on(void **state)
{
	struct dmaland_rtl8139cp_counters counters;
	struct dmaland_packet *packets[64];
	unsigned int n = 0, taken;

	(void)state;
	for (unsigned int i = 0; i < 200; i++) {
		packets[0] = frame_make(0, i, 100, 1);
		while (dmaland_rtl8139cp_send(ends[0].card, packets, 1) == -EBUSY)
			;
	}
	while (dmaland_rtl8139cp_clean(ends[0].card))
		;
	assert_int_equal(dmaland_rtl8139cp_get_counters(ends[1].card, &counters), 0);
	while ((taken = dmaland_rtl8139cp_receive(ends[1].card, packets, 64))) {
		for (unsigned int i = 0; i < taken; i++)
			frame_check(1, packets[i], n + i, 100);
		for (unsigned int i = 0; i < taken; i++)
			dmaland_packet_free(packets[i]);
		n += taken;
	}
	assert_int_equal(n, 64);
	send_and_receive(0, 1000, 100, 2);
}

static void buffers_that_run_out_lose_and_go_on(void **state)
{
	struct dmaland_rtl8139cp_options options = {
		.size = sizeof(options), .rx_way = DMALAND_RX_MAP, .max_packets = 40};
	struct dmaland_rtl8139cp_stats stats;
	struct dmaland_packet *packets[64];
	unsigned int n = 0;
	time_t begun = time(NULL);

	(void)state;
	ends_open(&options);
	for (unsigned int i = 0; i < 50; i++) {
		packets[0] = frame_make(0, i, 100, 1);
		assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, packets, 1), 1);
		while (dmaland_rtl8139cp_clean(ends[0].card))
			;
	}
	do {
		n += dmaland_rtl8139cp_receive(ends[1].card, packets + n, 64 - n);
		dmaland_rtl8139cp_get_stats(ends[1].card, &stats);
		assert_true(time(NULL) - begun < (time_t)patience(60));
	} while (stats.rx_packets + stats.rx_dropped < 50);
	assert_int_equal(n, 40);
	assert_int_equal(stats.rx_dropped, 10);
	while (n)
		dmaland_packet_free(packets[--n]);
	send_and_receive(0, 1000, 20, 2);
	ends_close();
}

static void bad_packets_are_refused_in_words(void **state)
{
	struct dmaland_packet *packet = frame_make(0, 1, 100, 1), large = {.data = packet->data};
	char memory[2000] = "";

	(void)state;
	packet->len = 13;
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &packet, 1), -EINVAL);
	packet->len = DMALAND_ETH_FRAME_LEN + 1;
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &packet, 1), -EMSGSIZE);
	assert_error_says("1514");
	packet->len = 100;
	packet->nr_frags = 1;
	packet->frags[0] = (struct dmaland_frag){memory, 0};
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &packet, 1), -EINVAL);
	packet->frags[0] = (struct dmaland_frag){memory, 2000};
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &packet, 1), -EINVAL);
	packet->nr_frags = DMALAND_MAX_FRAGS + 1;
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &packet, 1), -EINVAL);
	packet->nr_frags = 0;
	dmaland_packet_free(packet);
	assert_null(dmaland_packet_put(&large, 1));
	assert_null(dmaland_packet_alloc(ends[0].card, DMALAND_PACKET_ROOM + 1));
	packet = dmaland_packet_alloc(ends[0].card, 64);
	assert_null(dmaland_packet_push(packet, 65));
	assert_null(dmaland_packet_pull(packet, 1));
	assert_null(dmaland_packet_put(packet, DMALAND_PACKET_ROOM - 63));
	assert_non_null(dmaland_packet_put(packet, DMALAND_PACKET_ROOM - 64));
	assert_non_null(dmaland_packet_push(packet, 64));
	dmaland_packet_free(packet);
	dmaland_packet_free(NULL);
}

/* Room for a tag of 802.1Q is there, and no more. */
static void a_frame_with_a_tag_is_longer(void **state)
{
	struct dmaland_packet *packet = frame_make(0, 1, DMALAND_VLAN_ETH_FRAME_LEN, 3), *come;
	time_t begun = time(NULL);

	(void)state;
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &packet, 1), -EMSGSIZE);
	packet->data[12] = 0x81;
	packet->data[13] = 0;
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &packet, 1), 1);
	while (!dmaland_rtl8139cp_receive(ends[1].card, &come, 1))
		assert_true(time(NULL) - begun < (time_t)patience(60));
	assert_int_equal(come->data[12], 0x81);
	frame_check(1, come, 1, DMALAND_VLAN_ETH_FRAME_LEN);
	dmaland_packet_free(come);
	send_and_receive(1, 1, 5, 1);
}

/* The application's own memory, in pieces, by every way. */
static void packets_on_any_memory_are_sent(void **state)
{
	char *memory = malloc(DMALAND_ETH_FRAME_LEN);
	struct dmaland_packet *made = frame_make(0, 7, 1000, 1), *come;
	struct dmaland_packet mine = {.release = count_released, .nr_frags = 2}, *packet = &mine;

	(void)state;
	assert_non_null(memory);
	memcpy(memory, made->data, 1000);
	dmaland_packet_free(made);
	mine.frags[0] = (struct dmaland_frag){memory, 400};
	mine.frags[1] = (struct dmaland_frag){memory + 400, 600};
	released = 0;
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &packet, 1), 1);
	while (!dmaland_rtl8139cp_receive(ends[1].card, &come, 1))
		;
	frame_check(1, come, 7, 1000);
	dmaland_packet_free(come);
	while (dmaland_rtl8139cp_clean(ends[0].card))
		;
	assert_int_equal(released, 1);
	free(memory);
}

/* A piece that can't be mapped: those mapped before it are taken back, and the chip sees none of the frame. */
static void a_frame_that_can_not_be_mapped_leaves_nothing(void **state)
{
	struct dmaland_rtl8139cp_options options = {.size = sizeof(options),
						    .tx_way = DMALAND_TX_SG};
	struct dmaland_packet *packet, mine = {.release = count_released};
	char *none; /* registers, which dma_map_single() refuses */

	(void)state;
	ends_open(&options);
	none = pci_iomap(ends[0].dev, 1, 0);
	assert_non_null(none);
	released = 0;
	for (uint32_t round = 0; round < 100; round++) {
		struct dmaland_packet *bad = &mine;
		unsigned int at = round % 3;

		packet = frame_make(0, round, 900, 1);
		mine.data = at ? packet->data : (unsigned char *)none;
		mine.len = 100;
		mine.nr_frags = 2;
		mine.frags[0] = (struct dmaland_frag){at == 1 ? none : (char *)packet->data, 100};
		mine.frags[1] = (struct dmaland_frag){at == 2 ? none : (char *)packet->data, 100};
		assert_true(dmaland_rtl8139cp_send(ends[0].card, &bad, 1) < 0);
		dmaland_packet_free(packet);
		/* One at a time, in one descriptor: the chip looks at the next. */
		send_and_receive(0, 2 * round, 1, 1);
		send_and_receive(0, 2 * round + 1, 1, 1);
	}
	assert_int_equal(released, 0);
	pci_iounmap(ends[0].dev, none);
	ends_close();
}

int run_frame_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_arrive_in_order_by_every_way),
		cmocka_unit_test_setup_teardown(a_ring_that_is_full_loses_and_goes_on,
						with_defaults, done),
		cmocka_unit_test(buffers_that_run_out_lose_and_go_on),
		cmocka_unit_test_setup_teardown(bad_packets_are_refused_in_words, with_defaults,
						done),
		cmocka_unit_test_setup_teardown(a_frame_with_a_tag_is_longer, with_defaults, done),
		cmocka_unit_test_setup_teardown(packets_on_any_memory_are_sent, with_defaults,
						done),
		cmocka_unit_test(a_frame_that_can_not_be_mapped_leaves_nothing),
	};

	return cmocka_run_group_tests_name("frames", tests, NULL, NULL);
}
