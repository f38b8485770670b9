/* SPDX-License-Identifier: MIT */
#include "rtl8139cp_stand.h"

struct end ends[2];

static void open_at(unsigned int i, const char *spec,
		    const struct dmaland_rtl8139cp_options *options)
{
	struct end *end = &ends[i];

	end->dev = soft_rtl8139_open(&end->chip, spec);
	end->chip.regs[IDR0 + 5] = (unsigned char)(i + 1);
	end->card = dmaland_rtl8139cp_open(end->dev, options);
	if (!end->card)
		fail_msg("%s", dmaland_last_error());
	dmaland_rtl8139cp_mac(end->card, end->mac);
}

/* A device that is left with mappings says so in the log. */
static void close_at(unsigned int i)
{
	dmaland_rtl8139cp_close(ends[i].card);
	dmaland_close(ends[i].dev);
	assert_int_equal(ends[i].chip.faults, 0);
	assert_int_equal(ends[i].chip.no_master, 0);
	soft_rtl8139_free(&ends[i].chip);
}

void ends_open(const char *spec, const struct dmaland_rtl8139cp_options *options)
{
	log_clear();
	open_at(0, spec, options);
	open_at(1, spec, options);
	ends[0].chip.peer = &ends[1].chip;
	ends[1].chip.peer = &ends[0].chip;
}

void ends_close(void)
{
	close_at(0);
	close_at(1);
	assert_string_equal(log_text(), "");
}

void end_open(const char *spec, const struct dmaland_rtl8139cp_options *options)
{
	log_clear();
	open_at(0, spec, options);
}

void end_close(void)
{
	close_at(0);
	assert_string_equal(log_text(), "");
}

int two_ends(void **state)
{
	(void)state;
	ends_open("soft:", NULL);
	return 0;
}

int two_ends_done(void **state)
{
	(void)state;
	ends_close();
	return 0;
}

int one_end(void **state)
{
	(void)state;
	end_open("soft:", NULL);
	return 0;
}

int one_end_done(void **state)
{
	(void)state;
	end_close();
	return 0;
}

struct dmaland_rtl8139cp_stats stats(unsigned int i)
{
	struct dmaland_rtl8139cp_stats s;

	dmaland_rtl8139cp_get_stats(ends[i].card, &s);
	return s;
}

struct dmaland_info info(unsigned int i)
{
	struct dmaland_info found;

	dmaland_get_info(ends[i].dev, &found);
	return found;
}

/* ---- frames ---- */

static unsigned char content(uint32_t number, unsigned int at)
{
	return (unsigned char)(number * 31 + at * 7);
}

void frame_fill(unsigned char *frame, unsigned int to, uint32_t number, unsigned int length)
{
	memcpy(frame, ends[to].mac, DMALAND_ETH_ALEN);
	memcpy(frame + DMALAND_ETH_ALEN, ends[!to].mac, DMALAND_ETH_ALEN);
	frame[12] = 0x88;
	frame[13] = 0xb5; /* local experiments: IEEE 802, 9.2.4 */
	for (unsigned int i = HEADER; i < length; i++)
		frame[i] = content(number, i);
	if (length >= NUMBER_AT + sizeof(number))
		memcpy(frame + NUMBER_AT, &number, sizeof(number));
}

struct dmaland_packet *frame_make(unsigned int from, uint32_t number, unsigned int length,
				  unsigned int pieces)
{
	struct dmaland_packet *packet = dmaland_packet_alloc(ends[from].card, 0);
	unsigned char *at = packet ? dmaland_packet_put(packet, length) : NULL;

	if (!at) {
		fail_msg("%s", dmaland_last_error());
		return NULL;
	}
	frame_fill(at, !from, number, length);
	packet->nr_frags = pieces - 1;
	for (unsigned int i = pieces - 1; i-- > 0;) {
		unsigned int size = length / pieces;

		packet->len -= size;
		packet->frags[i] = (struct dmaland_frag){at + packet->len, size};
	}
	assert_int_equal(dmaland_packet_length(packet), length);
	return packet;
}

void frame_check(unsigned int to, const unsigned char *data, unsigned int size, uint32_t number,
		 unsigned int length)
{
	unsigned char wanted[SOFT_RTL8139_FRAME];

	assert_int_equal(size, length < DMALAND_ETH_ZLEN ? DMALAND_ETH_ZLEN : length);
	memset(wanted, 0, sizeof(wanted));
	frame_fill(wanted, to, number, length);
	for (unsigned int i = 0; i < size; i++)
		if (data[i] != wanted[i])
			fail_msg("frame %u: byte %u of %u is %02x and not %02x", number, i, length,
				 data[i], wanted[i]);
}

void send_one(unsigned int from, struct dmaland_packet *packet)
{
	if (dmaland_rtl8139cp_send(ends[from].card, &packet, 1) != 1)
		fail_msg("%s", dmaland_last_error());
}

struct dmaland_packet *receive_one(unsigned int to)
{
	struct dmaland_packet *packet = NULL;

	assert_int_equal(dmaland_rtl8139cp_receive(ends[to].card, &packet, 1), 1);
	return packet;
}

void passes(unsigned int from, uint32_t number, unsigned int length, unsigned int pieces)
{
	struct dmaland_packet *packet;

	send_one(from, frame_make(from, number, length, pieces));
	packet = receive_one(!from);
	frame_check(!from, packet->data, packet->len, number, length);
	dmaland_packet_free(packet);
	assert_int_equal(dmaland_rtl8139cp_clean(ends[from].card), 0);
}

void count_released(struct dmaland_packet *packet)
{
	(*(unsigned int *)packet->context)++;
}
