/* SPDX-License-Identifier: MIT */
/*
 * transmit.c - frames to send
 *
 * The pieces behind the first get their descriptors first. The first one's is handed over last, and the chip, which waits for
 * it, sees a frame whole or not at all.
 */
#include "card.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static uint32_t desc_end(unsigned int i)
{
	return i == RING - 1 ? DESC_EOR : 0;
}

static void desc_put(struct dmaland_rtl8139cp *card, unsigned int i, dma_addr_t address,
		     uint32_t opts1)
{
	struct descriptor *desc = &card->shared->tx[i];

	desc->address = htole64(address);
	desc->opts2 = 0;
	dma_wmb(); /* the chip sees it, and what comes after it, whole */
	WRITE_ONCE(desc->opts1, htole32(opts1 | DESC_OWN | desc_end(i)));
}

/* From the stored length and address: the chip may have written others. */
static void rtl8169_unmap_tx_skb(struct dmaland_rtl8139cp *card, struct tx_slot *slot)
{
	if (slot->size)
		dma_unmap_single(card->dev, slot->mapping, slot->size, DMA_TO_DEVICE);
	slot->size = 0;
}

static int piece_map(struct dmaland_rtl8139cp *card, unsigned int i, void *data, unsigned int size)
{
	struct tx_slot *slot = &card->tx.slots[i];

	slot->mapping = dma_map_single(card->dev, data, size, DMA_TO_DEVICE);
	if (dma_mapping_error(card->dev, slot->mapping))
		return -errno;
	slot->size = size;
	return 0;
}

/* Of a frame that is not sent after all: its descriptors but the first are the chip's already, which would go on to them. */
static void piece_take_back(struct dmaland_rtl8139cp *card, unsigned int i)
{
	WRITE_ONCE(card->shared->tx[i].opts1, htole32(desc_end(i)));
	rtl8169_unmap_tx_skb(card, &card->tx.slots[i]);
}

/* The pieces of a frame but the first, in the descriptors behind the first one. With an error none is mapped. */
static int rtl8169_xmit_frags(struct dmaland_rtl8139cp *card, const struct dmaland_packet *packet,
			      unsigned int skipped, uint32_t opts)
{
	for (unsigned int f = skipped; f < packet->nr_frags; f++) {
		unsigned int i = (card->tx.next + 1 + f - skipped) % RING;
		const struct dmaland_frag *frag = &packet->frags[f];
		int err = piece_map(card, i, frag->data, frag->size);

		if (err) {
			while (f-- > skipped)
				piece_take_back(card, (card->tx.next + 1 + f - skipped) % RING);
			return err;
		}
		desc_put(card, i, card->tx.slots[i].mapping,
			 opts | frag->size | (f == packet->nr_frags - 1 ? DESC_LS : 0));
	}
	return 0;
}

static uint32_t checksum_bits(unsigned int csum)
{
	return (csum & DMALAND_CSUM_IP ? TX_IPCS : 0) | (csum & DMALAND_CSUM_UDP ? TX_UDPCS : 0) |
	       (csum & DMALAND_CSUM_TCP ? TX_TCPCS : 0);
}

/* One descriptor, whose memory is the card's already. */
static void xmit_linear(struct dmaland_rtl8139cp *card, const struct dmaland_packet *packet,
			unsigned int length)
{
	unsigned int i = card->tx.next % RING;
	char *to = card->shared->linear[i];

	memcpy(to, packet->data, packet->len);
	to += packet->len;
	for (unsigned int f = 0; f < packet->nr_frags; f++) {
		memcpy(to, packet->frags[f].data, packet->frags[f].size);
		to += packet->frags[f].size;
	}
	if (length < DMALAND_ETH_ZLEN) {
		memset(to, 0, DMALAND_ETH_ZLEN - length);
		length = DMALAND_ETH_ZLEN;
	}
	card->tx.slots[i].size = 0;
	desc_put(card, i, shared_dma(card, card->shared->linear[i]),
		 checksum_bits(packet->csum) | length | DESC_FS | DESC_LS);
	card->stats.tx_linear++;
}

/* A descriptor for each of n pieces. */
static int xmit_pieces(struct dmaland_rtl8139cp *card, const struct dmaland_packet *packet,
		       unsigned int n)
{
	unsigned int i = card->tx.next % RING, skipped = packet->len ? 0 : 1;
	void *data = packet->len ? packet->data : packet->frags[0].data;
	unsigned int size = packet->len ? packet->len : packet->frags[0].size;
	uint32_t opts = checksum_bits(packet->csum);
	int err = rtl8169_xmit_frags(card, packet, skipped, opts);

	if (err)
		return err;
	err = piece_map(card, i, data, size);
	if (err) {
		for (unsigned int piece = 1; piece < n; piece++)
			piece_take_back(card, (i + piece) % RING);
		return err;
	}
	desc_put(card, i, card->tx.slots[i].mapping,
		 opts | size | DESC_FS | (n == 1 ? DESC_LS : 0));
	return 0;
}

static int packet_check(const struct dmaland_packet *packet, unsigned int length)
{
	if (packet->nr_frags > DMALAND_MAX_FRAGS)
		return dmaland_set_error(EINVAL, "a packet of %u pieces: there are %d at most",
					 packet->nr_frags, DMALAND_MAX_FRAGS);
	for (unsigned int f = 0; f < packet->nr_frags; f++)
		if (packet->frags[f].size == 0 || packet->frags[f].size > DMALAND_ETH_FRAME_LEN)
			return dmaland_set_error(EINVAL, "piece %u of a packet has %u bytes", f,
						 packet->frags[f].size);
	if (length > DMALAND_ETH_FRAME_LEN)
		return dmaland_set_error(EMSGSIZE, "a frame of %u bytes: there are %d at most",
					 length, DMALAND_ETH_FRAME_LEN);
	if (length < 14)
		return dmaland_set_error(EINVAL, "a frame of %u bytes: its header has 14", length);
	return 0;
}

static bool is_linear(const struct dmaland_rtl8139cp *card, unsigned int length)
{
	return length < DMALAND_ETH_ZLEN || card->options.tx_way == DMALAND_TX_LINEAR ||
	       (card->options.tx_way == DMALAND_TX_AUTO && length < card->options.linear_below);
}

/* One frame. -EBUSY: the ring is full. */
static int rtl8169_start_xmit(struct dmaland_rtl8139cp *card, struct dmaland_packet *packet)
{
	unsigned int length, n, last;
	int err;

	if (packet->nr_frags > DMALAND_MAX_FRAGS)
		return packet_check(packet, 0);
	length = dmaland_packet_length(packet);
	err = packet_check(packet, length);
	if (err)
		return err;
	n = is_linear(card, length) ? 1 : (packet->len != 0) + packet->nr_frags;
	if (RING - (card->tx.next - card->tx.dirty) < n)
		dmaland_rtl8139cp_clean(card);
	if (RING - (card->tx.next - card->tx.dirty) < n) {
		card->stats.tx_busy++;
		return dmaland_set_error(EBUSY, "%s: the ring is full", dmaland_name(card->dev));
	}
	last = (card->tx.next + n - 1) % RING;
	for (unsigned int piece = 0; piece < n; piece++)
		card->tx.slots[(card->tx.next + piece) % RING].packet = NULL;
	card->tx.slots[last].packet = packet;
	if (is_linear(card, length))
		xmit_linear(card, packet, length);
	else
		err = xmit_pieces(card, packet, n);
	if (err)
		return err;
	card->tx.next += n;
	card->stats.tx_packets++;
	card->stats.tx_bytes += length < DMALAND_ETH_ZLEN ? DMALAND_ETH_ZLEN : length;
	return 0;
}

int dmaland_rtl8139cp_send(struct dmaland_rtl8139cp *card, struct dmaland_packet *const *packets,
			   unsigned int n)
{
	unsigned int sent = 0;
	int err = 0;

	while (sent < n && !err) {
		err = rtl8169_start_xmit(card, packets[sent]);
		sent += !err;
	}
	if (sent)
		writeb(TPPOLL_NPQ, card->regs + TPPOLL);
	return sent ? (int)sent : err;
}

static void slot_release(struct dmaland_rtl8139cp *card, struct tx_slot *slot)
{
	struct dmaland_packet *packet = slot->packet;

	rtl8169_unmap_tx_skb(card, slot);
	slot->packet = NULL;
	dmaland_packet_free(packet);
}

unsigned int dmaland_rtl8139cp_clean(struct dmaland_rtl8139cp *card)
{
	while (card->tx.dirty != card->tx.next) {
		unsigned int i = card->tx.dirty % RING;
		uint32_t status = le32toh(READ_ONCE(card->shared->tx[i].opts1));

		if (status & DESC_OWN)
			break;
		dma_rmb();
		if (card->tx.slots[i].packet && status & TX_FAILED)
			card->stats.tx_errors++;
		slot_release(card, &card->tx.slots[i]);
		card->tx.dirty++;
	}
	return card->tx.next - card->tx.dirty;
}

void tx_start(struct dmaland_rtl8139cp *card)
{
	memset(card->shared->tx, 0, sizeof(card->shared->tx));
	card->shared->tx[RING - 1].opts1 = htole32(DESC_EOR);
	card->tx.next = card->tx.dirty = 0;
}

void tx_clear(struct dmaland_rtl8139cp *card)
{
	while (card->tx.dirty != card->tx.next)
		slot_release(card, &card->tx.slots[card->tx.dirty++ % RING]);
}
