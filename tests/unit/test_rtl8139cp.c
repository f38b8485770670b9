/* SPDX-License-Identifier: MIT */
/*
 * test_rtl8139cp.c - frames, by each way, through the card in software; packets, filter, counters
 */
#include "rtl8139cp_stand.h"

#include <errno.h>
#include <stdlib.h>

#include "card.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static const unsigned int lengths[] = {14, 17, 59, 60, 61, 255, 256, 257, 600, 1513, 1514};
static const unsigned int pieces[] = {1, 2, 5, 14, 17};

static bool is_linear_by(enum dmaland_tx_way way, unsigned int length, unsigned int n)
{
	return length < DMALAND_ETH_ZLEN || way == DMALAND_TX_LINEAR ||
	       (way == DMALAND_TX_AUTO && length < LINEAR_BELOW * n);
}

static bool is_copied_by(enum dmaland_rx_way way, unsigned int length)
{
	return way == DMALAND_RX_KEEP || (way == DMALAND_RX_COPYBREAK && length < COPYBREAK);
}

static void ways_are_tried(const char *spec, enum dmaland_rx_way rx_way, enum dmaland_tx_way tx_way)
{
	struct dmaland_rtl8139cp_options options = {
		.size = sizeof(options), .rx_way = rx_way, .tx_way = tx_way};
	uint64_t copied = 0, linear = 0, bytes = 0, n = 0;

	ends_open(spec, &options);
	for (unsigned int l = 0; l < ARRAY_SIZE(lengths); l++)
		for (unsigned int p = 0; p < ARRAY_SIZE(pieces); p++) {
			unsigned int length = lengths[l];
			unsigned int arrives =
				length < DMALAND_ETH_ZLEN ? DMALAND_ETH_ZLEN : length;

			if (pieces[p] > length)
				continue;
			passes(0, (uint32_t)n, length, pieces[p]);
			passes(1, (uint32_t)n, length, pieces[p]);
			copied += is_copied_by(rx_way, arrives);
			linear += is_linear_by(tx_way, length, pieces[p]);
			bytes += arrives;
			n++;
		}
	for (unsigned int i = 0; i < 2; i++) {
		struct dmaland_rtl8139cp_stats s = stats(i);

		assert_int_equal(s.rx_packets, n);
		assert_int_equal(s.tx_packets, n);
		assert_int_equal(s.rx_bytes, bytes);
		assert_int_equal(s.tx_bytes, bytes);
		assert_int_equal(s.rx_copied, copied);
		assert_int_equal(s.tx_linear, linear);
		assert_int_equal(s.rx_dropped + s.rx_errors + s.rx_length + s.rx_split +
					 s.tx_errors + s.tx_busy + s.resets,
				 0);
	}
	ends_close();
}

static void frames_arrive_whole_by_every_way(void **state)
{
	static const char *const specs[] = {"soft:",
					    "soft:,copy_below=1",
					    "soft:,trusted=no",
					    "soft:,coherent=no",
					    "soft:,coherent=no,trusted=no",
					    "soft:,dma_debug=no"};

	(void)state;
	for (unsigned int spec = 0; spec < ARRAY_SIZE(specs); spec++)
		for (int way = 0; way < 9; way++)
			ways_are_tried(specs[spec], (enum dmaland_rx_way)(way / 3),
				       (enum dmaland_tx_way)(way % 3));
}

static void frames_go_out_in_as_many_pieces_as_told(void **state)
{
	struct dmaland_rtl8139cp_options options = {.size = sizeof(options),
						    .tx_way = DMALAND_TX_SG};
	struct soft_rtl8139 *chip = &ends[0].chip;

	(void)state;
	end_open("soft:", &options);
	for (unsigned int p = 1; p <= 17; p++) {
		struct dmaland_packet *packet = frame_make(0, p, 500, p);

		packet->csum = p & 7;
		send_one(0, packet);
		assert_int_equal(chip->kept_count, p);
		assert_int_equal(chip->kept[p - 1].pieces, p);
		frame_check(1, chip->kept[p - 1].data, (unsigned int)chip->kept[p - 1].length, p,
			    500);
		assert_int_equal(chip->kept[p - 1].status & (TX_IPCS | TX_UDPCS | TX_TCPCS),
				 (p & DMALAND_CSUM_IP ? TX_IPCS : 0) |
					 (p & DMALAND_CSUM_UDP ? TX_UDPCS : 0) |
					 (p & DMALAND_CSUM_TCP ? TX_TCPCS : 0));
	}
	/* One look of the chip for each call. */
	assert_int_equal(chip->polls, 17);
	end_close();
}

/* Whatever lay there before. */
static void short_frames_are_padded_with_zeroes(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < RING; i++)
		passes(0, i, 200, 1);
	for (uint32_t i = 0; i < RING; i++)
		passes(0, i, 14 + i % 46, 1);
}

/* Where its limits are given, they are kept. */
static void limits_of_copying_are_options(void **state)
{
	struct dmaland_rtl8139cp_options options = {
		.size = sizeof(options), .copybreak = 100, .linear_below = 100};

	(void)state;
	ends_open("soft:", &options);
	passes(0, 1, 99, 2);
	assert_int_equal(stats(1).rx_copied, 1);
	passes(0, 2, 100, 2);
	assert_int_equal(stats(1).rx_copied, 1);
	passes(0, 3, 199, 2);
	assert_int_equal(stats(0).tx_linear, 3);
	passes(0, 4, 200, 2);
	assert_int_equal(stats(0).tx_linear, 3);
	ends_close();
}

static void a_packet_without_data_of_its_own_is_sent_by_every_way(void **state)
{
	(void)state;
	for (int way = 0; way < 3; way++) {
		struct dmaland_rtl8139cp_options options = {.size = sizeof(options),
							    .tx_way = (enum dmaland_tx_way)way};
		unsigned char memory[1000];
		unsigned int released = 0;
		struct dmaland_packet packet = {
			.release = count_released, .context = &released, .nr_frags = 3};
		struct dmaland_packet *come;

		ends_open("soft:", &options);
		frame_fill(memory, 1, 9, sizeof(memory));
		packet.frags[0] = (struct dmaland_frag){memory, 14};
		packet.frags[1] = (struct dmaland_frag){memory + 14, 1};
		packet.frags[2] = (struct dmaland_frag){memory + 15, 985};
		send_one(0, &packet);
		come = receive_one(1);
		frame_check(1, come->data, come->len, 9, 1000);
		dmaland_packet_free(come);
		assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
		assert_int_equal(released, 1);
		/* and of one piece */
		packet.nr_frags = 1;
		packet.frags[0] = (struct dmaland_frag){memory, 1000};
		send_one(0, &packet);
		dmaland_packet_free(receive_one(1));
		ends_close();
		assert_int_equal(released, 2);
	}
}

/* ---- with a tag of 802.1Q a frame has four bytes more ---- */

static void tag_set(unsigned char *frame, unsigned int type)
{
	frame[12] = (unsigned char)(type >> 8);
	frame[13] = (unsigned char)type;
}

/* Its header is in one piece, or each byte of it is. */
static void tagged_is_sent(unsigned int length, unsigned int type, bool in_bytes, bool passes)
{
	unsigned char memory[2000];
	unsigned int released = 0;
	struct dmaland_packet packet = {.data = memory,
					.len = length,
					.release = count_released,
					.context = &released},
			      *p = &packet;

	frame_fill(memory, 1, length, length);
	tag_set(memory, type);
	if (in_bytes) {
		packet.len = 1;
		packet.nr_frags = HEADER;
		for (unsigned int f = 0; f < HEADER; f++)
			packet.frags[f] = (struct dmaland_frag){memory + 1 + f, 1};
		packet.frags[HEADER - 1].size = length - HEADER;
	}
	if (!passes) {
		assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &p, 1), -EMSGSIZE);
		assert_error_says("1518 with a tag");
		return;
	}
	send_one(0, p);
	p = receive_one(1);
	assert_int_equal(p->len, length);
	assert_memory_equal(p->data, memory, length);
	dmaland_packet_free(p);
	assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
	assert_int_equal(released, 1);
}

static void frames_with_a_tag_have_four_bytes_more(void **state)
{
	static const unsigned int tags[] = {0x8100, 0x88a8, 0x0800, 0x0081};

	(void)state;
	for (int way = 0; way < 9; way++) {
		struct dmaland_rtl8139cp_options options = {
			.size = sizeof(options),
			.rx_way = (enum dmaland_rx_way)(way / 3),
			.tx_way = (enum dmaland_tx_way)(way % 3)};
		uint64_t too_long = 0;

		ends_open(way % 2 ? "soft:,coherent=no,trusted=no" : "soft:", &options);
		for (unsigned int length = DMALAND_ETH_FRAME_LEN - 1; length <= RX_BUFFER - CRC;
		     length++)
			for (unsigned int t = 0; t < ARRAY_SIZE(tags); t++) {
				bool passes = length <= DMALAND_ETH_FRAME_LEN ||
					      (t < 2 && length <= DMALAND_VLAN_ETH_FRAME_LEN);
				unsigned char frame[RX_BUFFER];
				struct dmaland_packet *packet;

				tagged_is_sent(length, tags[t], false, passes);
				tagged_is_sent(length, tags[t], true, passes);
				/* from somebody who sends longer ones */
				if (passes)
					continue;
				frame_fill(frame, 1, length, length);
				tag_set(frame, tags[t]);
				assert_true(soft_rtl8139_receive(&ends[1].chip, frame, length));
				assert_int_equal(
					dmaland_rtl8139cp_receive(ends[1].card, &packet, 1), 0);
				assert_int_equal(stats(1).rx_length, ++too_long);
			}
		assert_int_equal(too_long, 2 * 18 + 2 * 14);
		ends_close();
	}
}

static void packets_that_cannot_be_sent_are_refused(void **state)
{
	static const struct {
		unsigned int len, nr_frags, size;
		int error;
	} cases[] = {
		{13, 0, 0, -EINVAL},
		{DMALAND_ETH_FRAME_LEN + 1, 0, 0, -EMSGSIZE},
		{1500, 1, 15, -EMSGSIZE},
		{UINT32_MAX, 0, 0, -EMSGSIZE},
		{UINT32_MAX - 99, 1, 200, -EMSGSIZE}, /* 100 bytes, as the sum is */
		{100, 1, 0, -EINVAL},
		{100, 1, UINT32_MAX, -EINVAL},
		{100, DMALAND_MAX_FRAGS + 1, 10, -EINVAL},
		{0, 0, 0, -EINVAL},
	};
	unsigned char memory[2000] = {0};
	unsigned int released = 0;

	(void)state;
	for (unsigned int c = 0; c < ARRAY_SIZE(cases); c++) {
		struct dmaland_packet packet = {.data = memory,
						.len = cases[c].len,
						.nr_frags = cases[c].nr_frags,
						.release = count_released,
						.context = &released};
		struct dmaland_packet *p = &packet;

		packet.frags[0] = (struct dmaland_frag){memory, cases[c].size};
		assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &p, 1), cases[c].error);
	}
	assert_int_equal(released, 0);
	assert_int_equal(ends[0].chip.polls, 0);
	assert_int_equal(stats(0).tx_packets, 0);
}

/* ---- the rest of the chip ---- */

static void a_packet_begins_as_new(void **state)
{
	struct dmaland_packet *packet = frame_make(0, 1, 100, 3);

	(void)state;
	packet->csum = 7;
	dmaland_packet_free(packet);
	packet = dmaland_packet_alloc(ends[0].card, DMALAND_PACKET_ROOM);
	assert_int_equal(dmaland_packet_length(packet), 0);
	assert_int_equal(packet->csum, 0);
	assert_null(dmaland_packet_put(packet, 1));
	assert_non_null(dmaland_packet_push(packet, DMALAND_PACKET_ROOM));
	assert_null(dmaland_packet_push(packet, 1));
	dmaland_packet_free(packet);
	assert_null(dmaland_packet_alloc(ends[0].card, DMALAND_PACKET_ROOM + 1));
	assert_int_equal(errno, EINVAL);
}

static void what_the_chip_says_of_checksums_is_told(void **state)
{
	static const struct {
		uint32_t status;
		unsigned int csum;
	} cases[] = {
		{0, 0},
		{RX_PID, DMALAND_CSUM_IP},
		{RX_PID_TCP, DMALAND_CSUM_IP | DMALAND_CSUM_TCP},
		{RX_PID_UDP, DMALAND_CSUM_IP | DMALAND_CSUM_UDP},
		{RX_PID_TCP | RX_TCPF, DMALAND_CSUM_IP},
		{RX_PID_UDP | RX_UDPF, DMALAND_CSUM_IP},
		{RX_PID_TCP | RX_IPF, 0},
		{RX_PID_UDP | RX_IPF, 0},
	};
	unsigned char frame[100] = {0};

	(void)state;
	for (unsigned int c = 0; c < ARRAY_SIZE(cases); c++) {
		struct dmaland_packet *packet;

		soft_rtl8139_forge(&ends[0].chip, DESC_FS | DESC_LS | 104 | cases[c].status, frame,
				   sizeof(frame));
		packet = receive_one(0);
		if (packet->csum != cases[c].csum)
			fail_msg("status %#x: %u", cases[c].status, packet->csum);
		dmaland_packet_free(packet);
	}
}

static void the_filter_the_address_and_the_counters_reach_the_chip(void **state)
{
	static const unsigned char group[DMALAND_ETH_ALEN] = {0x01, 0, 0x5e, 0, 0, 1};
	static const unsigned char groups[2 * DMALAND_ETH_ALEN] = {0x01, 0, 0x5e, 0, 0, 2,
								   0x33, 0, 0,	  0, 0, 1};
	static const unsigned char other[DMALAND_ETH_ALEN] = {0x02, 0, 0, 0xfe, 0xaa, 0xbb};
	struct soft_rtl8139 *chip = &ends[0].chip;
	struct dmaland_rtl8139cp_counters counters;
	struct dmaland_packet *packets[8];
	unsigned char frame[64] = {0};

	(void)state;
	memcpy(frame, group, sizeof(group));
	assert_false(soft_rtl8139_receive(chip, frame, sizeof(frame)));
	dmaland_rtl8139cp_set_filter(ends[0].card, false, groups, 2);
	assert_false(soft_rtl8139_receive(chip, frame, sizeof(frame)));
	memcpy(frame, groups + DMALAND_ETH_ALEN, DMALAND_ETH_ALEN);
	assert_true(soft_rtl8139_receive(chip, frame, sizeof(frame)));
	memcpy(frame, group, sizeof(group));
	dmaland_rtl8139cp_set_filter(ends[0].card, false, group, 1);
	assert_true(soft_rtl8139_receive(chip, frame, sizeof(frame)));
	dmaland_rtl8139cp_set_filter(ends[0].card, false, NULL, 0);
	assert_int_equal(dmaland_rtl8139cp_set_mac(ends[0].card, group), -EINVAL);
	assert_int_equal(dmaland_rtl8139cp_set_mac(ends[0].card, other), 0);
	dmaland_rtl8139cp_mac(ends[0].card, ends[0].mac);
	assert_memory_equal(ends[0].mac, other, sizeof(other));
	assert_int_equal(soft_rtl8139_register(chip, EECR, 1), 0);
	assert_int_equal(dmaland_rtl8139cp_reset(ends[0].card), 0);
	assert_int_equal(dmaland_rtl8139cp_receive(ends[0].card, packets, 8), 0); /* lost */
	memcpy(frame, other, sizeof(other));
	assert_true(soft_rtl8139_receive(chip, frame, sizeof(frame)));
	dmaland_packet_free(receive_one(0));

	chip->tally = (struct tally){1, 1ull << 40, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};
	assert_int_equal(dmaland_rtl8139cp_get_counters(ends[0].card, &counters), 0);
	assert_int_equal(counters.tx_ok, 1);
	assert_int_equal(counters.rx_ok, 1ull << 40);
	assert_int_equal(counters.tx_errors, 3);
	assert_int_equal(counters.rx_errors, 4);
	assert_int_equal(counters.rx_missed, 5);
	assert_int_equal(counters.align_errors, 6);
	assert_int_equal(counters.tx_one_collision, 7);
	assert_int_equal(counters.tx_collisions, 8);
	assert_int_equal(counters.rx_unicast, 9);
	assert_int_equal(counters.rx_broadcast, 10);
	assert_int_equal(counters.rx_multicast, 11);
	assert_int_equal(counters.tx_aborted, 12);
	assert_int_equal(counters.tx_underruns, 13);
	chip->never_tallies = true;
	assert_int_equal(dmaland_rtl8139cp_get_counters(ends[0].card, &counters), -ETIMEDOUT);

	assert_int_equal(dmaland_rtl8139cp_link(ends[0].card), 100);
	chip->regs[MSR] = MSR_SPEED_10;
	assert_int_equal(dmaland_rtl8139cp_link(ends[0].card), 10);
	chip->regs[MSR] = MSR_SPEED_10 | MSR_LINKB;
	assert_int_equal(dmaland_rtl8139cp_link(ends[0].card), 0);
}

static void frames_that_could_not_be_sent_are_counted(void **state)
{
	static const uint32_t errors[] = {TX_UNF, TX_OWC, TX_LNKF, TX_EXC};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(errors); i++) {
		ends[0].chip.sent_status = errors[i];
		send_one(0, frame_make(0, i, 400, 3));
		assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
		assert_int_equal(stats(0).tx_errors, i + 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_arrive_whole_by_every_way),
		cmocka_unit_test(frames_go_out_in_as_many_pieces_as_told),
		with_two_cards(short_frames_are_padded_with_zeroes),
		cmocka_unit_test(limits_of_copying_are_options),
		cmocka_unit_test(a_packet_without_data_of_its_own_is_sent_by_every_way),
		cmocka_unit_test(frames_with_a_tag_have_four_bytes_more),
		with_a_card(packets_that_cannot_be_sent_are_refused),
		with_a_card(a_packet_begins_as_new),
		with_a_card(what_the_chip_says_of_checksums_is_told),
		with_a_card(the_filter_the_address_and_the_counters_reach_the_chip),
		with_a_card(frames_that_could_not_be_sent_are_counted),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
