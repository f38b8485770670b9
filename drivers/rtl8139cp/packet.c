/* SPDX-License-Identifier: MIT */
/*
 * packet.c - packets in memory that the card reaches
 *
 * The bytes are blocks of a DMA pool; what describes them is memory of the process. A packet that is free keeps its block, so that
 * to allocate one is to take it from a list.
 */
#include "card.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A packet as the card keeps it. */
struct owned_packet {
	struct dmaland_packet packet;
	dma_addr_t dma;
	struct owned_packet *older; /* in the list of all */
};

void packets_release(struct dmaland_rtl8139cp *card, struct dmaland_packet *first,
		     struct dmaland_packet *last)
{
	struct packets *packets = &card->packets;

	packets_lock(packets);
	last->next = packets->free;
	packets->free = first;
	packets_unlock(packets);
}

void packet_release(struct dmaland_packet *packet)
{
	packets_release(packet->card, packet, packet);
}

/* One more may be made; counted from now on. */
static bool packets_count(struct packets *packets)
{
	bool may;

	packets_lock(packets);
	may = packets->n < packets->max;
	packets->n += may;
	packets_unlock(packets);
	return may;
}

static struct dmaland_packet *packet_make(struct dmaland_rtl8139cp *card)
{
	struct packets *packets = &card->packets;
	struct owned_packet *owned;

	if (!packets_count(packets)) {
		dmaland_set_error(ENOBUFS,
				  "%s: all %u packets are in use: free some, or raise max_packets",
				  dmaland_name(card->dev), packets->max);
		return NULL;
	}
	owned = calloc(1, sizeof(*owned));
	if (owned)
		owned->packet.head = dma_pool_alloc(card->pool, GFP_KERNEL, &owned->dma);
	else
		dmaland_set_error(ENOMEM, "no memory for a packet");
	packets_lock(packets);
	if (owned && owned->packet.head) {
		owned->older = (struct owned_packet *)packets->all;
		packets->all = &owned->packet;
	} else {
		packets->n--;
	}
	packets_unlock(packets);
	if (!owned || !owned->packet.head) {
		free(owned);
		return NULL;
	}
	owned->packet.card = card;
	owned->packet.release = packet_release;
	return &owned->packet;
}

/* With its data not set. NULL where there is none that is free. */
static inline struct dmaland_packet *packet_take(struct packets *packets)
{
	struct dmaland_packet *packet;

	packets_lock(packets);
	packet = packets->free;
	if (packet)
		packets->free = packet->next;
	packets_unlock(packets);
	return packet;
}

static inline struct dmaland_packet *packet_begin(struct dmaland_packet *packet,
						  unsigned int headroom)
{
	packet->data = packet->head + headroom;
	packet->room = DMALAND_PACKET_ROOM;
	packet->len = 0;
	packet->nr_frags = 0;
	packet->csum = 0;
	return packet;
}

/* Else than from the list; or not at all. */
static __attribute__((noinline)) struct dmaland_packet *
packet_alloc_otherwise(struct dmaland_rtl8139cp *card, unsigned int headroom)
{
	struct dmaland_packet *packet;

	if (headroom > DMALAND_PACKET_ROOM) {
		dmaland_set_error(EINVAL, "a packet has %u bytes, and %u in front were asked",
				  DMALAND_PACKET_ROOM, headroom);
		return NULL;
	}
	packet = packet_make(card);
	return packet ? packet_begin(packet, headroom) : NULL;
}

struct dmaland_packet *dmaland_packet_alloc(struct dmaland_rtl8139cp *card, unsigned int headroom)
{
	struct dmaland_packet *packet =
		headroom <= DMALAND_PACKET_ROOM ? packet_take(&card->packets) : NULL;

	return packet ? packet_begin(packet, headroom) : packet_alloc_otherwise(card, headroom);
}

void dmaland_packet_free(struct dmaland_packet *packet)
{
	if (packet && packet->release == packet_release)
		packet_release(packet);
	else if (packet && packet->release)
		packet->release(packet);
}

int packets_init(struct dmaland_rtl8139cp *card)
{
	card->packets.max =
		RING + (card->options.max_packets ? card->options.max_packets : MAX_PACKETS);
	card->pool = dma_pool_create("rtl8139cp packet", card->dev, DMALAND_PACKET_ROOM, 64, 0);
	return card->pool ? 0 : -errno;
}

void packets_fini(struct dmaland_rtl8139cp *card)
{
	struct owned_packet *owned = (struct owned_packet *)card->packets.all;

	while (owned) {
		struct owned_packet *older = owned->older;

		dma_pool_free(card->pool, owned->packet.head, owned->dma);
		free(owned);
		owned = older;
	}
	dma_pool_destroy(card->pool);
}
