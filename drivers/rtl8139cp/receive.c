/* SPDX-License-Identifier: MIT */
/*
 * receive.c - frames that have come
 *
 *                 kept, copied (r8169)               handed over (8139cp)
 *
 *   filling       map                                map
 *   a frame       sync for the CPU, copy,            map another packet, unmap this one
 *                 sync for the device
 *
 * The sync for the device gives the buffer back to it. It moves no bytes here; on some machines that are not coherent a
 * frame is lost without it now and then, since the buffer is in the caches still.
 */
#include "card.h"

#include <errno.h>
#include <string.h>

/* Descriptors that one call looks at, whatever the chip does to them meanwhile. */
#define LOOKED_AT_MAX (2 * RING)

static void desc_give(struct dmaland_rtl8139cp *card, unsigned int i)
{
	struct descriptor *desc = &card->shared->rx[i];

	desc->address = htole64(card->rx.slots[i].mapping);
	desc->opts2 = 0;
	dma_wmb(); /* the chip sees it whole */
	status_set(desc, DESC_OWN | (i == RING - 1 ? DESC_EOR : 0) | (uint32_t)RX_BUFFER);
}

/* A packet, mapped for the chip to fill. 0, or -errno in words with nothing changed. */
static int rtl8169_alloc_rx_data(struct dmaland_rtl8139cp *card, struct rx_slot *slot)
{
	struct dmaland_packet *packet = dmaland_packet_alloc(card, DMALAND_PACKET_HEAD);
	dma_addr_t mapping;
	int err;

	if (!packet)
		return -errno;
	mapping = dma_map_single(card->dev, packet->data, RX_BUFFER, DMA_FROM_DEVICE);
	if (dma_mapping_error(card->dev, mapping)) {
		err = -errno;
		dmaland_packet_free(packet);
		return err;
	}
	*slot = (struct rx_slot){packet, mapping};
	return 0;
}

static struct dmaland_packet *frame_copy(struct dmaland_rtl8139cp *card, const struct rx_slot *slot,
					 unsigned int length)
{
	struct dmaland_packet *packet = dmaland_packet_alloc(card, DMALAND_PACKET_HEAD);

	if (!packet)
		return NULL;
	/* A compiler that knows how long it can be at most copies by rep movs, which begins slowly; libc knows better. */
	__asm__("" : "+r"(length));
	dma_sync_single_for_cpu(card->dev, slot->mapping, length, DMA_FROM_DEVICE);
	memcpy(packet->data, slot->packet->data, length);
	dma_sync_single_for_device(card->dev, slot->mapping, length, DMA_FROM_DEVICE);
	card->stats.rx_copied++;
	return packet;
}

static struct dmaland_packet *frame_hand_over(struct dmaland_rtl8139cp *card, struct rx_slot *slot)
{
	struct rx_slot full = *slot;

	if (rtl8169_alloc_rx_data(card, slot))
		return NULL;
	dma_unmap_single(card->dev, full.mapping, RX_BUFFER, DMA_FROM_DEVICE);
	return full.packet;
}

static bool is_copied(const struct dmaland_rtl8139cp *card, unsigned int length)
{
	return card->options.rx_way == DMALAND_RX_KEEP ||
	       (card->options.rx_way == DMALAND_RX_COPYBREAK && length < card->options.copybreak);
}

/* What the chip found right of a frame: the checksum of IP, and that of what is inside. */
static unsigned int checksums(uint32_t status)
{
	uint32_t inside = status & RX_PID;

	if (!inside || status & RX_IPF)
		return 0;
	if (inside == RX_PID_TCP && !(status & RX_TCPF))
		return DMALAND_CSUM_IP | DMALAND_CSUM_TCP;
	if (inside == RX_PID_UDP && !(status & RX_UDPF))
		return DMALAND_CSUM_IP | DMALAND_CSUM_UDP;
	return DMALAND_CSUM_IP;
}

/* May it be longer than others? */
static bool frame_is_tagged(struct dmaland_rtl8139cp *card, const struct rx_slot *slot,
			    unsigned int length)
{
	bool found;

	if (length > DMALAND_VLAN_ETH_FRAME_LEN + CRC)
		return false;
	dma_sync_single_for_cpu(card->dev, slot->mapping, HEADER_LEN, DMA_FROM_DEVICE);
	found = is_tagged(slot->packet->data);
	dma_sync_single_for_device(card->dev, slot->mapping, HEADER_LEN, DMA_FROM_DEVICE);
	return found;
}

/* The frame of a descriptor, or NULL: it was dropped, and counted. */
static struct dmaland_packet *frame_take(struct dmaland_rtl8139cp *card, struct rx_slot *slot,
					 uint32_t status)
{
	unsigned int length = status & RX_LENGTH;
	struct dmaland_packet *packet;

	if ((status & (DESC_FS | DESC_LS)) != (DESC_FS | DESC_LS)) {
		card->stats.rx_split++;
		return NULL;
	}
	if (status & RX_FAILED) {
		card->stats.rx_errors++;
		return NULL;
	}
	if (length < DMALAND_ETH_ZLEN + CRC ||
	    (length > DMALAND_ETH_FRAME_LEN + CRC && !frame_is_tagged(card, slot, length))) {
		card->stats.rx_length++;
		return NULL;
	}
	length -= CRC;
	packet = is_copied(card, length) ? frame_copy(card, slot, length)
					 : frame_hand_over(card, slot);
	if (!packet) {
		card->stats.rx_dropped++;
		return NULL;
	}
	packet->len = length;
	packet->csum = checksums(status);
	card->stats.rx_packets++;
	card->stats.rx_bytes += length;
	return packet;
}

unsigned int dmaland_rtl8139cp_receive(struct dmaland_rtl8139cp *card,
				       struct dmaland_packet **packets, unsigned int n)
{
	unsigned int taken = 0;

	for (unsigned int looked = 0; taken < n && looked < LOOKED_AT_MAX; looked++) {
		unsigned int i = card->rx.next;
		uint32_t status = status_get(&card->shared->rx[i]);

		if (status & DESC_OWN)
			break;
		dma_rmb(); /* the frame is read after its status */
		packets[taken] = frame_take(card, &card->rx.slots[i], status);
		taken += packets[taken] != NULL;
		desc_give(card, i);
		place_set(&card->rx.next, (i + 1) % RING);
	}
	return taken;
}

int rx_fill(struct dmaland_rtl8139cp *card)
{
	for (unsigned int i = 0; i < RING; i++) {
		int err = rtl8169_alloc_rx_data(card, &card->rx.slots[i]);

		if (err) {
			rx_free(card);
			return err;
		}
	}
	return 0;
}

void rx_start(struct dmaland_rtl8139cp *card)
{
	card->rx.next = 0;
	for (unsigned int i = 0; i < RING; i++)
		desc_give(card, i);
}

void rx_free(struct dmaland_rtl8139cp *card)
{
	for (unsigned int i = 0; i < RING; i++) {
		struct rx_slot *slot = &card->rx.slots[i];

		if (!slot->packet)
			continue;
		dma_unmap_single(card->dev, slot->mapping, RX_BUFFER, DMA_FROM_DEVICE);
		dmaland_packet_free(slot->packet);
		slot->packet = NULL;
	}
}
