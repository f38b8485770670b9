/* SPDX-License-Identifier: MIT */
/*
 * test_rtl8139cp_bad.c - a card that says what can't be, does not answer, or is gone; and what is left then
 */
#include "rtl8139cp_stand.h"

#include <errno.h>
#include <linux/pci_regs.h>

#include "card.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static const struct dmaland_rtl8139cp_options *receiving(enum dmaland_rx_way way)
{
	static struct dmaland_rtl8139cp_options options = {.size = sizeof(options)};

	options.rx_way = way;
	return &options;
}

/* ---- descriptors ---- */

enum verdict { TAKEN, SPLIT, FAILED, LENGTH };

static const struct {
	uint32_t status;
	enum verdict verdict;
} forged[] = {
	{DESC_FS | DESC_LS | 64, TAKEN},
	{DESC_FS | DESC_LS | (DMALAND_ETH_FRAME_LEN + CRC), TAKEN},
	{DESC_FS | DESC_LS | (1u << 23) | (1u << 24) | (1u << 26) | 64, TAKEN}, /* to whom it was */
	{DESC_FS | 64, SPLIT},
	{DESC_LS | 64, SPLIT},
	{64, SPLIT},
	{0, SPLIT},
	{DESC_FS | DESC_LS | RX_FAE | 64, FAILED},
	{DESC_FS | DESC_LS | RX_BOVF | 64, FAILED},
	{DESC_FS | DESC_LS | RX_RWT | 64, FAILED},
	{DESC_FS | DESC_LS | RX_RES | 64, FAILED},
	{DESC_FS | DESC_LS | RX_RUNT | 40, FAILED},
	{DESC_FS | DESC_LS | RX_CRC | 64, FAILED},
	{DESC_FS | DESC_LS | 63, LENGTH},
	{DESC_FS | DESC_LS | 4, LENGTH},
	{DESC_FS | DESC_LS | 3, LENGTH},
	{DESC_FS | DESC_LS | 0, LENGTH},
	{DESC_FS | DESC_LS | (DMALAND_ETH_FRAME_LEN + CRC + 1), LENGTH},
	{DESC_FS | DESC_LS | (DMALAND_VLAN_ETH_FRAME_LEN + CRC), LENGTH},
	{DESC_FS | DESC_LS | RX_BUFFER, LENGTH},
	{DESC_FS | DESC_LS | (RX_BUFFER + 1), LENGTH},
	{DESC_FS | DESC_LS | RX_LENGTH, LENGTH},
};

static void what_cannot_be_is_counted_and_dropped(void **state)
{
	unsigned char bytes[RX_BUFFER];

	(void)state;
	memset(bytes, 0x5a, sizeof(bytes));
	for (int way = 0; way < 3; way++) {
		uint64_t counts[4] = {0};

		ends_open("soft:", receiving((enum dmaland_rx_way)way));
		for (unsigned int i = 0; i < ARRAY_SIZE(forged); i++) {
			uint32_t length = forged[i].status & RX_LENGTH;
			struct dmaland_packet *packets[2];
			struct dmaland_rtl8139cp_stats s;

			counts[forged[i].verdict]++;
			soft_rtl8139_forge(&ends[1].chip, forged[i].status, bytes,
					   length < RX_BUFFER ? length : RX_BUFFER);
			assert_int_equal(dmaland_rtl8139cp_receive(ends[1].card, packets, 2),
					 forged[i].verdict == TAKEN);
			if (forged[i].verdict == TAKEN) {
				assert_int_equal(packets[0]->len, length - CRC);
				assert_memory_equal(packets[0]->data, bytes, length - CRC);
				dmaland_packet_free(packets[0]);
			}
			s = stats(1);
			assert_int_equal(s.rx_packets, counts[TAKEN]);
			assert_int_equal(s.rx_split, counts[SPLIT]);
			assert_int_equal(s.rx_errors, counts[FAILED]);
			assert_int_equal(s.rx_length, counts[LENGTH]);
			assert_int_equal(s.rx_dropped, 0);
			/* the next is not harmed */
			counts[TAKEN]++;
			passes(0, i, 60 + 66 * i, 1);
		}
		ends_close();
	}
}

/* Everything behind the buffers, and in front of them, is as it was. */
static void a_frame_longer_than_a_buffer_stays_inside_of_buffers(void **state)
{
	unsigned char frame[SOFT_RTL8139_FRAME - CRC];
	struct dmaland_packet *packet;

	(void)state;
	for (int way = 0; way < 3; way++) {
		struct rx_slot slots[RING];

		end_open("soft:", receiving((enum dmaland_rx_way)way));
		memcpy(slots, ends[0].card->rx.slots, sizeof(slots));
		for (unsigned int i = 0; i < RING; i++)
			memset(slots[i].packet->head, 0x77, DMALAND_PACKET_ROOM);
		memset(frame, 0x11, sizeof(frame));
		memcpy(frame, ends[0].mac, DMALAND_ETH_ALEN);
		for (size_t length = RX_BUFFER - CRC + 1; length <= sizeof(frame); length += 7) {
			assert_true(soft_rtl8139_receive(&ends[0].chip, frame, length));
			assert_int_equal(dmaland_rtl8139cp_receive(ends[0].card, &packet, 1), 0);
		}
		assert_true(stats(0).rx_split > 2 * RING);
		for (unsigned int i = 0; i < RING; i++) {
			const unsigned char *head = slots[i].packet->head;

			for (unsigned int k = 0; k < DMALAND_PACKET_ROOM; k++)
				if (k - DMALAND_PACKET_HEAD >= RX_BUFFER && head[k] != 0x77)
					fail_msg("byte %u of buffer %u was written", k, i);
		}
		end_close();
	}
}

/* A status that comes before its frame: what lay in the buffer is taken for it. */
static void a_descriptor_given_back_early_is_taken_as_it_is(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 3 * RING; i++) {
		soft_rtl8139_forge(&ends[1].chip, DESC_FS | DESC_LS | (64 + i), NULL, 0);
		dmaland_packet_free(receive_one(1));
	}
	passes(0, 1, 1000, 1);
}

static void a_descriptor_that_is_never_given_back_ends_with_a_reset(void **state)
{
	unsigned char frame[100];
	struct dmaland_packet *packet;

	(void)state;
	frame_fill(frame, 1, 7, sizeof(frame));
	soft_rtl8139_forge(&ends[1].chip, DESC_OWN | DESC_FS | DESC_LS | 104, frame, sizeof(frame));
	soft_rtl8139_receive(&ends[1].chip, frame, sizeof(frame));
	assert_int_equal(dmaland_rtl8139cp_receive(ends[1].card, &packet, 1), 0);
	assert_int_equal(dmaland_rtl8139cp_reset(ends[1].card), 0);
	assert_int_equal(stats(1).resets, 1);
	for (uint32_t i = 0; i < 3 * RING; i++)
		passes(0, i, 300, 1);
	/* and one to send */
	ends[0].chip.keeps_own = true;
	send_one(0, frame_make(0, 1, 300, 1));
	assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 1);
	dmaland_packet_free(receive_one(1));
	ends[0].chip.keeps_own = false;
	assert_int_equal(dmaland_rtl8139cp_reset(ends[0].card), 0);
	assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
	for (uint32_t i = 0; i < 3 * RING; i++)
		passes(0, i, 300, 2);
}

/* What is unmapped and whose packet it is stands where the chip does not reach. */
static void addresses_that_the_chip_writes_are_not_believed(void **state)
{
	unsigned char *shared, memory[1200];
	unsigned int released = 0;

	(void)state;
	end_open("soft:,copy_below=1", receiving(DMALAND_RX_MAP));
	shared = (unsigned char *)ends[0].card->shared;
	frame_fill(memory, 1, 1, sizeof(memory));
	for (uint32_t i = 0; i < 10; i++) {
		struct dmaland_packet packet = {.data = memory,
						.len = 600,
						.nr_frags = 1,
						.release = count_released,
						.context = &released};

		packet.frags[0] = (struct dmaland_frag){memory + 600, 600};
		ends[0].chip.holds = true;
		send_one(0, &packet);
		soft_rtl8139_go(&ends[0].chip);
		memset(shared, (int)(i * 16 + 7) & 0x7f, sizeof(struct shared)); /* none is OWN */
		assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
		assert_int_equal(released, i + 1);
		for (struct dmaland_packet *come;
		     dmaland_rtl8139cp_receive(ends[0].card, &come, 1);)
			dmaland_packet_free(come);
		assert_int_equal(dmaland_rtl8139cp_reset(ends[0].card), 0);
	}
	end_close();
}

/* ---- a card that does not answer, or is gone ---- */

static void a_card_that_is_none_is_refused(void **state)
{
	static const struct {
		uint32_t ids;
		uint8_t revision;
		bool never_resets, gone;
		int error;
	} cases[] = {
		{0x813810ec, 0x20, false, false, ENODEV},
		{0x813910ed, 0x20, false, false, ENODEV},
		{0x813910ec, 0x10, false, false, ENODEV},
		{0x813910ec, 0x20, true, false, ETIMEDOUT},
		{0x813910ec, 0x20, false, true, ENODEV},
	};

	(void)state;
	for (unsigned int c = 0; c < ARRAY_SIZE(cases); c++) {
		struct soft_rtl8139 *chip = &ends[0].chip;
		struct dmaland_device *dev = soft_rtl8139_open(chip, "soft:");

		log_clear();
		chip->ids = cases[c].ids;
		chip->revision = cases[c].revision;
		chip->never_resets = cases[c].never_resets;
		if (cases[c].gone)
			soft_rtl8139_vanish(chip);
		assert_null(dmaland_rtl8139cp_open(dev, NULL));
		assert_int_equal(errno, cases[c].error);
		dmaland_close(dev);
		assert_string_equal(log_text(), "");
		soft_rtl8139_free(chip);
	}
}

static void options_that_are_not_known_are_refused(void **state)
{
	struct dmaland_rtl8139cp_options options = {.size = sizeof(options) - 1};
	struct dmaland_device *dev = soft_rtl8139_open(&ends[0].chip, "soft:");

	(void)state;
	assert_null(dmaland_rtl8139cp_open(dev, &options));
	assert_int_equal(errno, EINVAL);
	options.size++;
	options.rx_way = (enum dmaland_rx_way)3;
	assert_null(dmaland_rtl8139cp_open(dev, &options));
	options.rx_way = DMALAND_RX_MAP;
	options.tx_way = (enum dmaland_tx_way)3;
	assert_null(dmaland_rtl8139cp_open(dev, &options));
	dmaland_close(dev);
	soft_rtl8139_free(&ends[0].chip);
}

static void a_card_that_is_gone_says_so_and_closes(void **state)
{
	struct dmaland_rtl8139cp_counters counters;
	struct dmaland_packet mine[3], *packet;
	unsigned char memory[1000];
	unsigned int released[3] = {0};

	(void)state;
	for (int way = 0; way < 3; way++) {
		ends_open("soft:,copy_below=1", receiving((enum dmaland_rx_way)way));
		assert_true(dmaland_rtl8139cp_irq(ends[0].card) >= 0);
		frame_fill(memory, 1, 1, sizeof(memory));
		memset(released, 0, sizeof(released));
		for (int i = 0; i < 3; i++)
			mine[i] = (struct dmaland_packet){.data = memory,
							  .len = sizeof(memory),
							  .release = count_released,
							  .context = &released[i]};
		send_one(0, &mine[0]);
		ends[0].chip.holds = true;
		send_one(0, &mine[1]);
		soft_rtl8139_vanish(&ends[0].chip);
		send_one(0, &mine[2]);
		assert_int_equal(dmaland_rtl8139cp_receive(ends[0].card, &packet, 1), 0);
		/* the first was sent: there is something to do */
		assert_int_equal(dmaland_rtl8139cp_wait(ends[0].card, 0), 1);
		assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 2);
		assert_int_equal(dmaland_rtl8139cp_wait(ends[0].card, -1), -ENODEV);
		assert_int_equal(dmaland_rtl8139cp_link(ends[0].card), -ENODEV);
		assert_int_equal(dmaland_rtl8139cp_get_counters(ends[0].card, &counters), -ENODEV);
		assert_int_equal(dmaland_rtl8139cp_reset(ends[0].card), -ENODEV);
		assert_error_says("gone");
		dmaland_packet_free(receive_one(1));
		ends_close();
		for (int i = 0; i < 3; i++)
			assert_int_equal(released[i], 1);
	}
}

static void a_reset_that_does_not_end_leaves_the_packets_and_closes(void **state)
{
	unsigned char memory[1000];
	unsigned int released = 0;
	struct dmaland_packet packet = {
		.data = memory, .len = 1000, .release = count_released, .context = &released};

	(void)state;
	end_open("soft:,copy_below=1", NULL);
	frame_fill(memory, 1, 1, sizeof(memory));
	ends[0].chip.holds = true;
	send_one(0, &packet);
	ends[0].chip.never_resets = true;
	assert_int_equal(dmaland_rtl8139cp_reset(ends[0].card), -ETIMEDOUT);
	assert_int_equal(released, 0);
	assert_int_equal(stats(0).resets, 0);
	end_close();
	assert_int_equal(released, 1);
}

/* The chip is stopped when packets are released: it reads none any more. */
static void a_reset_releases_what_waits(void **state)
{
	unsigned char memory[1000];
	unsigned int released = 0;

	(void)state;
	end_open("soft:,copy_below=1", NULL);
	frame_fill(memory, 1, 1, sizeof(memory));
	for (uint32_t round = 1; round <= 10; round++) {
		struct dmaland_packet packets[RING], *p;

		ends[0].chip.holds = true;
		for (unsigned int i = 0; i < RING / 2; i++) {
			packets[i] = (struct dmaland_packet){.data = memory,
							     .len = 500,
							     .nr_frags = 1,
							     .release = count_released,
							     .context = &released};
			packets[i].frags[0] = (struct dmaland_frag){memory + 500, 500};
			p = &packets[i];
			send_one(0, p);
		}
		assert_int_equal(dmaland_rtl8139cp_reset(ends[0].card), 0);
		assert_int_equal(released, round * RING / 2);
		assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
		soft_rtl8139_go(&ends[0].chip);
		assert_int_equal(ends[0].chip.kept_count, 0);
	}
	end_close();
}

/* The card reads and writes nothing any more when a packet is given back. */
static void look_at_the_card(struct dmaland_packet *packet)
{
	struct soft_rtl8139 *chip = &ends[0].chip;
	uint32_t word;

	count_released(packet);
	assert_int_equal(soft_rtl8139_register(chip, CR, 1) & (CR_RE | CR_TE), 0);
	assert_int_equal(soft_rtl8139_register(chip, IMR, 2), 0);
	assert_false(
		soft_rtl8139_access(chip, ends[0].card->shared_dma, &word, sizeof(word), false));
}

static void a_card_is_stopped_before_its_packets_are_released(void **state)
{
	unsigned char memory[1000];
	unsigned int released = 0;
	struct dmaland_packet packet = {
		.data = memory, .len = 1000, .release = look_at_the_card, .context = &released};

	(void)state;
	end_open("soft:", NULL);
	assert_true(dmaland_rtl8139cp_irq(ends[0].card) >= 0);
	frame_fill(memory, 1, 1, sizeof(memory));
	ends[0].chip.holds = true;
	send_one(0, &packet);
	dmaland_rtl8139cp_close(ends[0].card);
	assert_int_equal(released, 1);
	assert_int_equal(ends[0].chip.no_master, 1);
	ends[0].card = NULL;
	ends[0].chip.no_master = 0;
	end_close();
}

/* Each packet wants to be sent again, for ever: the card is reset and closed all the same. */
struct eager {
	struct dmaland_packet packet;
	unsigned int released, refused;
};

static void send_again(struct dmaland_packet *packet)
{
	struct eager *eager = packet->context;

	eager->released++;
	if (dmaland_rtl8139cp_send(ends[0].card, &packet, 1) == -ESHUTDOWN)
		eager->refused++;
}

static void a_release_that_sends_for_ever_does_not_keep_a_card(void **state)
{
	static struct eager eager[RING];
	unsigned char memory[1000];

	(void)state;
	end_open("soft:,copy_below=1", NULL);
	frame_fill(memory, 1, 1, sizeof(memory));
	ends[0].chip.holds = true;
	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < RING; i++) {
			eager[i] = (struct eager){.packet = {.data = memory,
							     .len = sizeof(memory),
							     .release = send_again,
							     .context = &eager[i]}};
			send_one(0, &eager[i].packet);
		}
		if (round == 2)
			end_close();
		else
			assert_int_equal(dmaland_rtl8139cp_reset(ends[0].card), 0);
		for (unsigned int i = 0; i < RING; i++) {
			assert_int_equal(eager[i].released, 1);
			assert_int_equal(eager[i].refused, 1);
		}
		assert_error_says("being reset or closed");
	}
}

/* ---- memory ---- */

/* However little there is: the card is there, or nothing is left of it. */
static void a_card_without_memory_is_not_there_at_all(void **state)
{
	unsigned int refused = 0, opened = 0;

	(void)state;
	for (uint64_t limit = 4096; limit < 4 << 20 && opened < 3; limit += 12288) {
		struct dmaland_options device = {.size = sizeof(device), .memory_limit = limit};
		struct dmaland_device *dev =
			soft_rtl8139_open_with(&ends[0].chip, "soft:", &device);
		struct dmaland_rtl8139cp *card;

		log_clear();
		card = dmaland_rtl8139cp_open(dev, NULL);
		opened += card != NULL;
		refused += !card;
		if (!card) {
			uint16_t command;

			assert_int_equal(errno, ENOMEM);
			assert_int_equal(pci_read_config_word(dev, PCI_COMMAND, &command), 0);
			assert_int_equal(command & PCI_COMMAND_MASTER, 0);
		}
		dmaland_rtl8139cp_close(card);
		dmaland_close(dev);
		assert_string_equal(log_text(), "");
		soft_rtl8139_free(&ends[0].chip);
	}
	assert_true(refused > 2);
	assert_int_equal(opened, 3);
}

/* What could not be had is not counted: the memory is short again and again, and not the packets. */
static void packets_without_memory_are_refused_until_there_is_some(void **state)
{
	struct dmaland_rtl8139cp_options options = {.size = sizeof(options), .max_packets = 2000};
	struct dmaland_options device = {.size = sizeof(device), .memory_limit = 2 << 20};
	struct dmaland_packet *packets[2000];
	unsigned int n = 0;

	(void)state;
	ends[0].dev = soft_rtl8139_open_with(&ends[0].chip, "soft:", &device);
	ends[0].card = dmaland_rtl8139cp_open(ends[0].dev, &options);
	assert_non_null(ends[0].card);
	while ((packets[n] = dmaland_packet_alloc(ends[0].card, 0)))
		n++;
	assert_true(n > 100);
	for (unsigned int i = 0; i < 2000; i++) {
		assert_null(dmaland_packet_alloc(ends[0].card, 0));
		assert_int_equal(errno, ENOMEM);
	}
	dmaland_packet_free(packets[--n]);
	packets[n] = dmaland_packet_alloc(ends[0].card, 0);
	assert_non_null(packets[n]);
	n++;
	while (n)
		dmaland_packet_free(packets[--n]);
	end_close();
}

/* The application's own memory in 16 pieces, where fewer mappings than that are allowed. */
static void pieces_that_cannot_all_be_mapped_leave_none(void **state)
{
	static unsigned char memory[17][8192] __attribute__((aligned(4096)));
	unsigned int refused = 0, sent = 0, released = 0;

	(void)state;
	for (unsigned int most = 2; most < 60 && sent < 3; most++) {
		struct dmaland_rtl8139cp_options options = {.size = sizeof(options),
							    .tx_way = DMALAND_TX_SG};
		struct dmaland_packet packet = {.data = memory[16],
						.len = 64,
						.nr_frags = 16,
						.release = count_released,
						.context = &released};
		struct dmaland_packet *p = &packet, small = packet;
		struct dmaland_streaming_stats streaming;
		uint32_t before;
		char spec[64];
		int err;

		for (int i = 0; i < 16; i++)
			packet.frags[i] = (struct dmaland_frag){memory[i], 64};
		snprintf(spec, sizeof(spec), "soft:,copy_below=1,mappings=%u", most);
		ends[0].dev = soft_rtl8139_open(&ends[0].chip, spec);
		ends[0].card = dmaland_rtl8139cp_open(ends[0].dev, &options);
		log_clear();
		if (!ends[0].card) {
			dmaland_close(ends[0].dev);
			assert_string_equal(log_text(), "");
			continue;
		}
		released = 0;
		before = info(0).mappings;
		err = dmaland_rtl8139cp_send(ends[0].card, &p, 1);
		if (err == 1) {
			sent++;
		} else {
			refused++;
			assert_int_equal(err, -ENOMEM);
			assert_error_says("mappings");
			assert_true(info(0).mappings <= before); /* what is idle goes, too */
			dmaland_get_streaming_stats(ends[0].dev, &streaming);
			assert_int_equal(streaming.live_mapped, 0);
			assert_int_equal(released, 0);
			assert_int_equal(stats(0).tx_packets, 0);
			/* A smaller one goes, and the chip sees nothing of what was given up. */
			small.nr_frags = 1;
			small.frags[0] = (struct dmaland_frag){memory[0], 64};
			p = &small;
			if (info(0).mappings + 2 <= most) {
				assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &p, 1), 1);
				soft_rtl8139_go(&ends[0].chip);
				assert_int_equal(ends[0].chip.kept_count, 1);
				assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
				assert_int_equal(released, 1);
			}
		}
		end_close();
	}
	assert_int_equal(sent, 3);
	assert_true(refused > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_cannot_be_is_counted_and_dropped),
		cmocka_unit_test(a_frame_longer_than_a_buffer_stays_inside_of_buffers),
		with_two_cards(a_descriptor_given_back_early_is_taken_as_it_is),
		with_two_cards(a_descriptor_that_is_never_given_back_ends_with_a_reset),
		cmocka_unit_test(addresses_that_the_chip_writes_are_not_believed),
		cmocka_unit_test(a_card_that_is_none_is_refused),
		cmocka_unit_test(options_that_are_not_known_are_refused),
		cmocka_unit_test(a_card_that_is_gone_says_so_and_closes),
		cmocka_unit_test(a_reset_that_does_not_end_leaves_the_packets_and_closes),
		cmocka_unit_test(a_reset_releases_what_waits),
		cmocka_unit_test(a_card_is_stopped_before_its_packets_are_released),
		cmocka_unit_test(a_release_that_sends_for_ever_does_not_keep_a_card),
		cmocka_unit_test(a_card_without_memory_is_not_there_at_all),
		cmocka_unit_test(packets_without_memory_are_refused_until_there_is_some),
		cmocka_unit_test(pieces_that_cannot_all_be_mapped_leave_none),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
