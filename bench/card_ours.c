/* SPDX-License-Identifier: MIT */
/* card_ours.c - libdmaland-rtl8139cp: polled, or by interrupts */
#include "card.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <dmaland/dmaland.h>
#include <dmaland/rtl8139cp.h>
#include "bench.h"

struct ours {
	struct dmaland_device *dev;
	struct dmaland_rtl8139cp *card;
	int irq; /* -1: polls */
	unsigned int size, pieces;
};

static void *ours_open(const struct card_contestant *contestant, const char *spec)
{
	struct dmaland_rtl8139cp_options options = {
		.size = sizeof(options),
		.rx_way = (enum dmaland_rx_way)contestant->rx_way,
		.tx_way = (enum dmaland_tx_way)contestant->tx_way,
		.max_packets = 128, /* so many are prepared */
	};
	struct ours *ours = calloc(1, sizeof(*ours));

	if (!ours)
		bench_fail("no memory");
	ours->dev = dmaland_open(spec, NULL);
	if (ours->dev)
		ours->card = dmaland_rtl8139cp_open(ours->dev, &options);
	if (ours->card && contestant->sleeps)
		ours->irq = dmaland_rtl8139cp_irq(ours->card);
	if (!ours->card || ours->irq < 0)
		bench_fail("%s", dmaland_last_error());
	return ours;
}

static void ours_close(void *card)
{
	struct ours *ours = card;

	dmaland_rtl8139cp_close(ours->card);
	dmaland_close(ours->dev);
	free(ours);
}

static void ours_mac(void *card, unsigned char *address)
{
	dmaland_rtl8139cp_mac(((struct ours *)card)->card, address);
}

static unsigned int ours_receive(void *card, struct card_expected *expected)
{
	struct dmaland_packet *packets[CARD_BURST];
	unsigned int n =
		dmaland_rtl8139cp_receive(((struct ours *)card)->card, packets, CARD_BURST);

	for (unsigned int i = 0; i < n; i++) {
		card_expect(expected, packets[i]->data, packets[i]->len);
		dmaland_packet_free(packets[i]);
	}
	return n;
}

/* The last burst wakes it, too: nothing else is waited for. */
static bool ours_wait(void *card, int ended)
{
	(void)ended;
	if (dmaland_rtl8139cp_wait(((struct ours *)card)->card, -1) < 0)
		bench_fail("%s", dmaland_last_error());
	return true;
}

/* Each packet of the card has the content from now on: a packet that is free keeps it. */
static void ours_prepare(void *card, const unsigned char *content, unsigned int size,
			 unsigned int pieces)
{
	struct dmaland_packet *packet, *all = NULL;
	struct ours *ours = card;

	ours->size = size;
	ours->pieces = pieces;
	for (unsigned int i = 0; i < CARD_BURST; i++) {
		packet = dmaland_packet_alloc(ours->card, 0);
		if (!packet)
			bench_fail("%s", dmaland_last_error());
		memcpy(packet->data, content, CARD_FRAME_MAX);
		packet->next = all;
		all = packet;
	}
	while ((packet = all)) {
		all = packet->next;
		dmaland_packet_free(packet);
	}
}

/* What is behind the header in pieces of one length. */
static void packet_split(struct dmaland_packet *packet, unsigned int pieces)
{
	unsigned int size = (packet->len - CARD_HEADER) / pieces;

	packet->len -= size * (pieces - 1);
	for (unsigned int i = 0; i + 1 < pieces; i++)
		packet->frags[i] =
			(struct dmaland_frag){packet->data + packet->len + i * size, size};
	packet->nr_frags = pieces - 1;
}

static void ours_send(void *card, uint32_t number)
{
	struct dmaland_packet *packets[CARD_BURST];
	struct ours *ours = card;

	for (unsigned int i = 0; i < CARD_BURST; i++, number++) {
		struct dmaland_packet *packet = dmaland_packet_alloc(ours->card, 0);

		if (!packet)
			bench_fail("%s", dmaland_last_error());
		dmaland_packet_put(packet, ours->size);
		memcpy(packet->data + CARD_HEADER, &number, sizeof(number));
		if (ours->pieces > 1)
			packet_split(packet, ours->pieces);
		packets[i] = packet;
	}
	for (unsigned int i = 0; i < CARD_BURST;) {
		int n = dmaland_rtl8139cp_send(ours->card, packets + i, CARD_BURST - i);

		if (n < 0 && n != -EBUSY)
			bench_fail("%s", dmaland_last_error());
		i += n > 0 ? (unsigned int)n : 0;
	}
	dmaland_rtl8139cp_clean(ours->card);
}

static void ours_finish(void *card)
{
	while (dmaland_rtl8139cp_clean(((struct ours *)card)->card))
		;
}

#define OURS(name, rx, tx, irq)                                                                    \
	{                                                                                          \
		.row = (name), .sleeps = (irq), .open = ours_open, .close = ours_close,            \
		.mac = ours_mac, .receive = ours_receive, .wait = ours_wait,                       \
		.prepare = ours_prepare, .send = ours_send, .finish = ours_finish, .rx_way = (rx), \
		.tx_way = (tx)                                                                     \
	}

const struct card_contestant cards_ours[CARDS_OURS] = {
	OURS("ours_keep", DMALAND_RX_KEEP, DMALAND_TX_AUTO, false),
	OURS("ours_map", DMALAND_RX_MAP, DMALAND_TX_AUTO, false),
	OURS("ours_copybreak", DMALAND_RX_COPYBREAK, DMALAND_TX_AUTO, false),
	OURS("ours_sg", DMALAND_RX_COPYBREAK, DMALAND_TX_SG, false),
	OURS("ours_linear", DMALAND_RX_COPYBREAK, DMALAND_TX_LINEAR, false),
	OURS("ours_irq", DMALAND_RX_COPYBREAK, DMALAND_TX_AUTO, true),
};

const struct card_contestant card_sender =
	OURS("sender", DMALAND_RX_KEEP, DMALAND_TX_LINEAR, false);
