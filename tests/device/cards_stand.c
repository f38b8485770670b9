/* SPDX-License-Identifier: MIT */
#include "cards.h"

#include <errno.h>
#include <time.h>

unsigned int packets_asked = 2000;
const char *specs[2] = {
	"qemu:rtl8139,machine=cards,hub=0,mac=52:54:00:12:34:00",
	"qemu:rtl8139,machine=cards,hub=0,mac=52:54:00:12:34:01",
};
const char *other_spec = "qemu:edu";

struct end ends[2];

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

void ends_open(const struct dmaland_rtl8139cp_options *options)
{
	log_clear();
	end_open(0, options);
	end_open(1, options);
	assert_int_equal(ends[1].mac[5], ends[0].mac[5] + 1);
	assert_int_equal(dmaland_rtl8139cp_link(ends[0].card), 100);
}

void ends_close(void)
{
	for (int i = 0; i < 2; i++) {
		dmaland_rtl8139cp_close(ends[i].card);
		dmaland_close(ends[i].dev);
	}
	assert_string_equal(log_text(), "");
}

int with_defaults(void **state)
{
	(void)state;
	ends_open(NULL);
	return 0;
}

int done(void **state)
{
	(void)state;
	ends_close();
	return 0;
}

unsigned char content(uint32_t number, unsigned int at)
{
	return (unsigned char)(number * 31 + at * 7);
}

struct dmaland_packet *frame_make(unsigned int from, uint32_t number, unsigned int length,
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

void frame_check(unsigned int to, const struct dmaland_packet *packet, uint32_t number,
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

unsigned int length_of(uint32_t number)
{
	return number % 97 == 0 ? 20 : 60 + number * 61 % (DMALAND_ETH_FRAME_LEN - 60 + 1);
}

/* So many frames are on their way at most: the receiver's ring has a place for each. */
void send_and_receive(unsigned int from, uint32_t first, uint32_t n, unsigned int pieces)
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

unsigned int released;

void count_released(struct dmaland_packet *packet)
{
	(void)packet;
	released++;
}
