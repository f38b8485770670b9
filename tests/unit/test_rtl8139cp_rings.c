/* SPDX-License-Identifier: MIT */
/*
 * test_rtl8139cp_rings.c - rings that are full and empty, and releases that send
 */
#include "rtl8139cp_stand.h"

#include <errno.h>

#include "card.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static void a_full_ring_takes_no_more_and_goes_on(void **state)
{
	struct soft_rtl8139 *chip = &ends[0].chip;
	struct dmaland_packet *packets[70];

	(void)state;
	chip->holds = true;
	for (uint32_t i = 0; i < 70; i++)
		packets[i] = frame_make(0, i, 300, 1);
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, packets, 70), RING);
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, packets + RING, 6), -EBUSY);
	assert_error_says("full");
	assert_int_equal(stats(0).tx_busy, 2);
	assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), RING);
	soft_rtl8139_go(chip);
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, packets + RING, 6), 6);
	assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 6);
	soft_rtl8139_go(chip);
	assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
	assert_int_equal(chip->kept_count, 70);
	for (uint32_t i = 0; i < 70; i++) {
		frame_check(1, chip->kept[i].data, (unsigned int)chip->kept[i].length, i, 300);
		assert_int_equal(chip->kept[i].status & DESC_EOR, i == RING - 1 ? DESC_EOR : 0);
	}
}

/* A frame finds room whole or not at all; its pieces lie around the ring's end, too. */
static void a_frame_of_more_pieces_than_there_is_room_for_waits(void **state)
{
	struct soft_rtl8139 *chip = &ends[0].chip;

	(void)state;
	ends[0].card->options.tx_way = DMALAND_TX_SG;
	for (uint32_t round = 0; round < 20; round++) {
		struct dmaland_packet *packet;
		uint32_t n = 0;

		chip->holds = true;
		for (; n < 7; n++)
			send_one(0, frame_make(0, n, 400, 9));
		packet = frame_make(0, n, 400, 2);
		assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &packet, 1), -EBUSY);
		send_one(0, frame_make(0, n, 400, 1));
		soft_rtl8139_go(chip);
		assert_int_equal(chip->kept_count, 8);
		for (uint32_t i = 0; i < 8; i++)
			frame_check(1, chip->kept[i].data, (unsigned int)chip->kept[i].length, i,
				    400);
		/* an odd number, so that each round ends elsewhere */
		send_one(0, packet);
		soft_rtl8139_go(chip);
		send_one(0, frame_make(0, n, 400, 3));
		soft_rtl8139_go(chip);
		assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
		chip->kept_count = 0;
	}
}

static void a_frame_half_sent_is_not_released(void **state)
{
	struct soft_rtl8139 *chip = &ends[0].chip;
	struct shared *shared = ends[0].card->shared;
	unsigned char memory[1000];
	unsigned int released = 0;
	struct dmaland_packet packet = {
		.data = memory, .len = 500, .nr_frags = 1, .release = count_released};

	(void)state;
	ends[0].card->options.tx_way = DMALAND_TX_SG;
	packet.context = &released;
	packet.frags[0] = (struct dmaland_frag){memory + 500, 500};
	frame_fill(memory, 1, 1, sizeof(memory));
	chip->holds = true;
	send_one(0, &packet);
	WRITE_ONCE(shared->tx[0].opts1, 0);
	assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 1);
	assert_int_equal(released, 0);
	WRITE_ONCE(shared->tx[1].opts1, 0);
	assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
	assert_int_equal(released, 1);
}

static void an_empty_ring_has_nothing(void **state)
{
	struct dmaland_packet *packet;

	(void)state;
	assert_int_equal(dmaland_rtl8139cp_receive(ends[0].card, &packet, 1), 0);
	assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &packet, 0), 0);
	assert_int_equal(ends[0].chip.polls, 0);
	passes(0, 1, 100, 1);
	assert_int_equal(dmaland_rtl8139cp_receive(ends[1].card, &packet, 0), 0);
	assert_int_equal(dmaland_rtl8139cp_receive(ends[1].card, &packet, 1), 0);
}

static void frames_that_find_no_descriptor_are_lost_and_the_next_are_not(void **state)
{
	struct dmaland_packet *packets[100];
	unsigned char frame[200];

	(void)state;
	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 70; i++) {
			frame_fill(frame, 1, i, sizeof(frame));
			assert_int_equal(soft_rtl8139_receive(&ends[1].chip, frame, sizeof(frame)),
					 i < RING);
		}
		assert_int_equal(dmaland_rtl8139cp_receive(ends[1].card, packets, 10), 10);
		assert_int_equal(dmaland_rtl8139cp_receive(ends[1].card, packets + 10, 90),
				 RING - 10);
		for (uint32_t i = 0; i < RING; i++) {
			frame_check(1, packets[i]->data, packets[i]->len, i, sizeof(frame));
			dmaland_packet_free(packets[i]);
		}
		passes(0, round, 1514, 1);
	}
	assert_int_equal(stats(1).rx_packets, 3 * (RING + 1));
}

static void packets_that_run_out_cost_frames_and_no_buffer(void **state)
{
	(void)state;
	for (int way = 0; way < 3; way++) {
		struct dmaland_rtl8139cp_options options = {.size = sizeof(options),
							    .rx_way = (enum dmaland_rx_way)way,
							    .max_packets = 5};
		struct dmaland_packet *packets[8];

		ends_open("soft:", &options);
		for (uint32_t i = 0; i < 8; i++) {
			send_one(0, frame_make(0, i, i % 2 ? 80 : 800, 1));
			dmaland_rtl8139cp_clean(ends[0].card);
		}
		assert_int_equal(dmaland_rtl8139cp_receive(ends[1].card, packets, 8), 5);
		assert_int_equal(stats(1).rx_packets, 5);
		assert_int_equal(stats(1).rx_dropped, 3);
		assert_null(dmaland_packet_alloc(ends[1].card, 0));
		assert_int_equal(errno, ENOBUFS);
		assert_error_says("max_packets");
		for (uint32_t i = 0; i < 5; i++) {
			frame_check(1, packets[i]->data, packets[i]->len, i, i % 2 ? 80 : 800);
			dmaland_packet_free(packets[i]);
		}
		for (uint32_t i = 0; i < 2 * RING; i++)
			passes(0, i, 60 + i, 1);
		ends_close();
	}
}

/* ---- releases ---- */

/* Each release sends one more; the ring is full when the first comes. */
struct chain {
	struct dmaland_packet packets[200];
	unsigned int released;
};

static void send_one_more(struct dmaland_packet *packet)
{
	struct chain *chain = packet->context;

	assert_ptr_equal(packet, &chain->packets[chain->released++]);
	if (chain->released + RING <= ARRAY_SIZE(chain->packets))
		send_one(0, &chain->packets[chain->released + RING - 1]);
}

static void a_release_may_send(void **state)
{
	static struct chain chain;
	unsigned char memory[300];

	(void)state;
	frame_fill(memory, 1, 1, sizeof(memory));
	chain.released = 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(chain.packets); i++)
		chain.packets[i] = (struct dmaland_packet){.data = memory,
							   .len = sizeof(memory),
							   .release = send_one_more,
							   .context = &chain};
	ends[0].chip.holds = true;
	for (unsigned int i = 0; i < RING; i++)
		send_one(0, &chain.packets[i]);
	ends[0].chip.holds = false;
	soft_rtl8139_go(&ends[0].chip);
	for (unsigned int left = RING; left; left = dmaland_rtl8139cp_clean(ends[0].card))
		assert_true(left <= RING);
	assert_int_equal(chain.released, ARRAY_SIZE(chain.packets));
	assert_int_equal(ends[0].chip.tally.tx_ok, ARRAY_SIZE(chain.packets));
}

/* Each release sends two more for ever, of which the chip takes any number at once. */
struct fountain {
	struct dmaland_packet packets[4 * RING];
	unsigned int sent, released, depth, deepest, refused_resets;
};

static void send_two_more(struct dmaland_packet *packet)
{
	struct fountain *f = packet->context;

	f->released++;
	f->deepest = ++f->depth > f->deepest ? f->depth : f->deepest;
	f->refused_resets += dmaland_rtl8139cp_reset(ends[0].card) == -EBUSY;
	for (int i = 0; i < 2; i++) {
		struct dmaland_packet *more = &f->packets[f->sent % ARRAY_SIZE(f->packets)];

		f->sent += dmaland_rtl8139cp_send(ends[0].card, &more, 1) == 1;
	}
	f->depth--;
}

static void releases_that_send_without_end_do_not_hold_clean(void **state)
{
	static struct fountain f;
	unsigned char memory[300];
	struct dmaland_packet *first = &f.packets[0];

	(void)state;
	frame_fill(memory, 1, 1, sizeof(memory));
	for (unsigned int i = 0; i < ARRAY_SIZE(f.packets); i++)
		f.packets[i] = (struct dmaland_packet){.data = memory,
						       .len = sizeof(memory),
						       .release = send_two_more,
						       .context = &f};
	f.sent = (unsigned int)dmaland_rtl8139cp_send(ends[0].card, &first, 1);
	for (int i = 0; i < 100; i++)
		assert_true(dmaland_rtl8139cp_clean(ends[0].card) <= RING);
	assert_true(f.released > RING);
	assert_int_equal(f.deepest, 1);
	assert_int_equal(f.refused_resets, f.released);
	assert_int_equal(dmaland_rtl8139cp_reset(ends[0].card), 0);
	assert_int_equal(f.released, f.sent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_a_card(a_full_ring_takes_no_more_and_goes_on),
		with_a_card(a_frame_of_more_pieces_than_there_is_room_for_waits),
		with_a_card(a_frame_half_sent_is_not_released),
		with_two_cards(an_empty_ring_has_nothing),
		with_two_cards(frames_that_find_no_descriptor_are_lost_and_the_next_are_not),
		cmocka_unit_test(packets_that_run_out_cost_frames_and_no_buffer),
		with_a_card(a_release_may_send),
		with_a_card(releases_that_send_without_end_do_not_hold_clean),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
