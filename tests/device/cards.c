/* SPDX-License-Identifier: MIT */
/*
 * cards.c - two network cards on one hub, in one process: QEMU's in one machine, or those of two specs
 *
 *   cards [PACKETS [SPEC SPEC OTHER]]     each way, in both directions, so many in all; OTHER is a device of another kind
 */
#include "test.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <dmaland/rtl8139cp.h>

enum { BURST = 16, HEADER = 14, NUMBER_AT = HEADER };

static unsigned int packets_asked = 2000;
static const char *specs[2] = {
	"qemu:rtl8139,machine=cards,hub=0,mac=52:54:00:12:34:00",
	"qemu:rtl8139,machine=cards,hub=0,mac=52:54:00:12:34:01",
};
static const char *other_spec = "qemu:edu";

static struct {
	struct dmaland_device *dev;
	struct dmaland_rtl8139cp *card;
	unsigned char mac[DMALAND_ETH_ALEN];
} ends[2];

static void end_open(unsigned int i, const struct dmaland_rtl8139cp_options *options)
{
	ends[i].dev = dmaland_open(specs[i], NULL);
	if (!ends[i].dev)
		fail_msg("%s", dmaland_last_error());
	ends[i].card = dmaland_rtl8139cp_open(ends[i].dev, options);
	if (!ends[i].card)
		fail_msg("%s", dmaland_last_error());
	dmaland_rtl8139cp_mac(ends[i].card, ends[i].mac);
}

static void ends_open(const struct dmaland_rtl8139cp_options *options)
{
	log_clear();
	end_open(0, options);
	end_open(1, options);
	assert_int_equal(ends[1].mac[5], ends[0].mac[5] + 1);
	assert_int_equal(dmaland_rtl8139cp_link(ends[0].card), 100);
}

static void ends_close(void)
{
	for (int i = 0; i < 2; i++) {
		dmaland_rtl8139cp_close(ends[i].card);
		dmaland_close(ends[i].dev);
	}
	assert_string_equal(log_text(), "");
}

static int with_defaults(void **state)
{
	(void)state;
	ends_open(NULL);
	return 0;
}

static int done(void **state)
{
	(void)state;
	ends_close();
	return 0;
}

static unsigned char content(uint32_t number, unsigned int at)
{
	return (unsigned char)(number * 31 + at * 7);
}

/* The number-th frame from one end to the other; pieces: how many. */
static struct dmaland_packet *frame_make(unsigned int from, uint32_t number, unsigned int length,
					 unsigned int pieces)
{
	struct dmaland_packet *packet = dmaland_packet_alloc(ends[from].card, 0);
	unsigned char *at;

	at = packet ? dmaland_packet_put(packet, length) : NULL;
	if (!at) {
		fail_msg("%s", dmaland_last_error());
		return NULL;
	}
	memcpy(at, ends[!from].mac, DMALAND_ETH_ALEN);
	memcpy(at + DMALAND_ETH_ALEN, ends[from].mac, DMALAND_ETH_ALEN);
	at[12] = 0x88;
	at[13] = 0xb5; /* local experiments: IEEE 802, 9.2.4 */
	for (unsigned int i = HEADER; i < length; i++)
		at[i] = content(number, i);
	memcpy(at + NUMBER_AT, &number, sizeof(number));
	/* The rest in pieces that follow each other. */
	for (unsigned int i = 0; i + 1 < pieces; i++) {
		unsigned int size = (length - HEADER) / pieces;

		packet->len -= size;
		memmove(&packet->frags[1], &packet->frags[0], i * sizeof(packet->frags[0]));
		packet->frags[0] = (struct dmaland_frag){at + packet->len, size};
		packet->nr_frags++;
	}
	assert_int_equal(dmaland_packet_length(packet), length);
	return packet;
}

static void frame_check(unsigned int to, const struct dmaland_packet *packet, uint32_t number,
			unsigned int length)
{
	uint32_t found;

	assert_int_equal(packet->len, length < DMALAND_ETH_ZLEN ? DMALAND_ETH_ZLEN : length);
	assert_memory_equal(packet->data, ends[to].mac, DMALAND_ETH_ALEN);
	memcpy(&found, packet->data + NUMBER_AT, sizeof(found));
	assert_int_equal(found, number);
	for (unsigned int i = NUMBER_AT + sizeof(found); i < length; i++)
		if (packet->data[i] != content(number, i))
			fail_msg("frame %u: byte %u of %u is wrong", number, i, length);
	for (unsigned int i = length; i < packet->len; i++)
		assert_int_equal(packet->data[i], 0);
}

static unsigned int length_of(uint32_t number)
{
	return number % 97 == 0 ? 20 : 60 + number * 61 % (DMALAND_ETH_FRAME_LEN - 60 + 1);
}

/* So many frames are on their way at most: the receiver's ring has a place for each. */
static void send_and_receive(unsigned int from, uint32_t first, uint32_t n, unsigned int pieces)
{
	struct dmaland_packet *packets[BURST];
	uint32_t sent = 0, received = 0;
	time_t begun = time(NULL);

	while (received < n) {
		unsigned int burst = n - sent < BURST ? n - sent : BURST, taken;

		if (sent - received > 32)
			burst = 0;
		for (unsigned int i = 0; i < burst; i++)
			packets[i] = frame_make(from, first + sent + i, length_of(first + sent + i),
						pieces ? pieces : 1 + (first + sent + i) % 6);
		for (unsigned int i = 0; i < burst;) {
			int k = dmaland_rtl8139cp_send(ends[from].card, packets + i, burst - i);

			if (k < 0 && k != -EBUSY)
				fail_msg("%s", dmaland_last_error());
			if (k > 0)
				i += (unsigned int)k;
		}
		sent += burst;
		taken = dmaland_rtl8139cp_receive(ends[!from].card, packets, BURST);
		for (unsigned int i = 0; i < taken; i++) {
			frame_check(!from, packets[i], first + received,
				    length_of(first + received));
			dmaland_packet_free(packets[i]);
			received++;
		}
		if (time(NULL) - begun > (time_t)patience(120))
			fail_msg("of %u frames %u were sent and %u have come", n, sent, received);
	}
	while (dmaland_rtl8139cp_clean(ends[from].card))
		assert_true(time(NULL) - begun < (time_t)patience(120));
}

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

static unsigned int released;

static void count_released(struct dmaland_packet *packet)
{
	(void)packet;
	released++;
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

/* --- two processes, each with a card in a QEMU of its own ------------------------------------ */

/*
 * Send n frames and take n, at the same pace as the other does: with at most 32 more sent than received the ring of neither can be
 * full. False, with a word on stderr, at the first frame that is not the next one, whole.
 */
static bool frames_exchange(struct dmaland_rtl8139cp *card, uint32_t n)
{
	struct dmaland_packet *packets[BURST];
	uint32_t sent = 0, received = 0, number;
	time_t begun = time(NULL);

	while (sent < n || received < n || dmaland_rtl8139cp_clean(card)) {
		if (sent < n && sent < received + 32) {
			packets[0] = frame_make(0, sent, length_of(sent), 1 + sent % 4);
			if (dmaland_rtl8139cp_send(card, packets, 1) == 1)
				sent++;
			else
				dmaland_packet_free(packets[0]);
		}
		for (unsigned int i = 0, k = dmaland_rtl8139cp_receive(card, packets, BURST); i < k;
		     i++) {
			unsigned int length = length_of(received);
			bool good = packets[i]->len == (length < 60 ? 60 : length);

			memcpy(&number, packets[i]->data + NUMBER_AT, sizeof(number));
			good = good && number == received;
			for (unsigned int at = NUMBER_AT + sizeof(number); good && at < length;
			     at++)
				good = packets[i]->data[at] == content(number, at);
			dmaland_packet_free(packets[i]);
			if (!good) {
				fprintf(stderr, "frame %u is not as it was sent\n", received);
				return false;
			}
			received++;
		}
		if (time(NULL) - begun > (time_t)patience(200)) {
			fprintf(stderr, "of %u frames %u went and %u came\n", n, sent, received);
			return false;
		}
	}
	return true;
}

/* The end's QEMU goes on until the other has all: it may hold frames back. */
static bool end_exchanges(unsigned int me, const char *directory, uint32_t n, const int *turn)
{
	struct dmaland_device *dev;
	struct dmaland_rtl8139cp *card;
	char spec[256], word = 0;
	bool good;

	snprintf(spec, sizeof(spec),
		 "qemu:rtl8139,netdev=dgram,,local.type=unix,,local.path=%s/%u,,remote.type=unix,,"
		 "remote.path=%s/%u,mac=52:54:00:12:34:%02x",
		 directory, me, directory, !me, me);
	dev = dmaland_open(spec, NULL);
	card = dev ? dmaland_rtl8139cp_open(dev, NULL) : NULL;
	if (!card) {
		fprintf(stderr, "%s\n", dmaland_last_error());
		return false;
	}
	/* frame_make() sends from end 0 to end 1. */
	ends[0].card = card;
	memcpy(ends[0].mac, "\x52\x54\0\x12\x34", 5);
	memcpy(ends[1].mac, "\x52\x54\0\x12\x34", 5);
	ends[0].mac[5] = (unsigned char)me;
	ends[1].mac[5] = (unsigned char)!me;
	good = write(turn[1], "r", 1) == 1 && read(turn[0], &word, 1) == 1 &&
	       frames_exchange(card, n) && write(turn[1], "e", 1) == 1 &&
	       read(turn[0], &word, 1) == 1;
	dmaland_rtl8139cp_close(card);
	dmaland_close(dev);
	return good;
}

static void two_processes_exchange_frames(void **state)
{
	char directory[] = "/tmp/dmaland-cards-XXXXXX", path[64];
	int there[2], back[2], status;
	pid_t other;
	bool good;

	(void)state;
	assert_non_null(mkdtemp(directory));
	assert_int_equal(pipe(there), 0);
	assert_int_equal(pipe(back), 0);
	other = fork();
	if (other == 0) {
		const int turn[2] = {there[0], back[1]};

		close(there[1]);
		close(back[0]);
		_exit(end_exchanges(1, directory, packets_asked / 2, turn) ? 0 : 1);
	}
	close(there[0]);
	close(back[1]);
	good = end_exchanges(0, directory, packets_asked / 2, (const int[]){back[0], there[1]});
	close(there[1]);
	close(back[0]);
	assert_int_equal(waitpid(other, &status, 0), other);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%d", directory, i);
		unlink(path);
	}
	rmdir(directory);
	assert_true(good);
	assert_int_equal(status, 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_arrive_in_order_by_every_way),
		cmocka_unit_test_setup_teardown(the_chip_counts_what_it_sends_and_receives,
						with_defaults, done),
		cmocka_unit_test_setup_teardown(the_filter_takes_what_it_is_told, with_defaults,
						done),
		cmocka_unit_test_setup_teardown(another_address_is_heard, with_defaults, done),
		cmocka_unit_test_setup_teardown(a_ring_that_is_full_loses_and_goes_on,
						with_defaults, done),
		cmocka_unit_test(buffers_that_run_out_lose_and_go_on),
		cmocka_unit_test_setup_teardown(bad_packets_are_refused_in_words, with_defaults,
						done),
		cmocka_unit_test_setup_teardown(a_frame_with_a_tag_is_longer, with_defaults, done),
		cmocka_unit_test_setup_teardown(packets_on_any_memory_are_sent, with_defaults,
						done),
		cmocka_unit_test(a_frame_that_can_not_be_mapped_leaves_nothing),
		cmocka_unit_test_setup_teardown(interrupts_wake_who_waits, with_defaults, done),
		cmocka_unit_test_setup_teardown(old_interrupts_wake_nobody, with_defaults, done),
		cmocka_unit_test_setup_teardown(a_reset_under_load_releases_all, with_defaults,
						done),
		cmocka_unit_test(another_device_is_refused),
	};
	const struct CMUnitTest processes[] = {
		cmocka_unit_test(two_processes_exchange_frames),
	};
	int failed;

	if (argc > 1)
		packets_asked = (unsigned int)atoi(argv[1]);
	if (argc > 4) {
		specs[0] = argv[2];
		specs[1] = argv[3];
		other_spec = argv[4];
	}
	log_capture();
	failed = cmocka_run_group_tests_name("cards", tests, NULL, NULL);
	if (argc <= 4)
		failed += cmocka_run_group_tests_name("cards, two QEMUs", processes, NULL, NULL);
	return failed;
}
