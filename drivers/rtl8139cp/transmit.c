/* SPDX-License-Identifier: MIT */
/*
 * transmit.c - frames to send
 *
 * The pieces behind the first get their descriptors first. The first one's is handed over last, and the chip, which waits for
 * it, sees a frame whole or not at all.
 */
#include "card.h"

#include <errno.h>
#include <string.h>

_Static_assert(DMALAND_VLAN_ETH_FRAME_LEN + CRC <= RX_BUFFER, "a frame fits into its buffer");

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
	status_set(desc, opts1 | DESC_OWN | desc_end(i));
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

/*
 * n pieces of a frame whose first one was not handed over. Their descriptors are the chip's already: it would go on to
 * them behind the next frame.
 */
static void pieces_unmap(struct dmaland_rtl8139cp *card, unsigned int n)
{
	while (n > 0) {
		unsigned int i = (card->tx.next + n--) % RING;

		status_set(&card->shared->tx[i], desc_end(i));
		rtl8169_unmap_tx_skb(card, &card->tx.slots[i]);
	}
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
			pieces_unmap(card, f - skipped);
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

	if (packet->len)
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
		pieces_unmap(card, n - 1);
		return err;
	}
	desc_put(card, i, card->tx.slots[i].mapping,
		 opts | size | DESC_FS | (n == 1 ? DESC_LS : 0));
	return 0;
}

/* Its header may lie in several pieces. */
static bool packet_is_tagged(const struct dmaland_packet *packet)
{
	unsigned char header[HEADER_LEN];
	unsigned int n = packet->len < HEADER_LEN ? packet->len : HEADER_LEN;

	if (n)
		memcpy(header, packet->data, n);
	for (unsigned int f = 0; f < packet->nr_frags && n < HEADER_LEN; f++) {
		const struct dmaland_frag *frag = &packet->frags[f];
		unsigned int size = frag->size < HEADER_LEN - n ? frag->size : HEADER_LEN - n;

		memcpy(header + n, frag->data, size);
		n += size;
	}
	return n == HEADER_LEN && is_tagged(header);
}

/* The length of a packet that is long, or can't be sent. 0, or -errno in words. */
static int packet_check_closely(const struct dmaland_packet *packet, unsigned int *length)
{
	uint64_t sum = packet->len;

	if (packet->nr_frags > DMALAND_MAX_FRAGS)
		return dmaland_set_error(EINVAL, "a packet of %u pieces: there are %d at most",
					 packet->nr_frags, DMALAND_MAX_FRAGS);
	for (unsigned int f = 0; f < packet->nr_frags; f++) {
		unsigned int size = packet->frags[f].size;

		if (size == 0 || size > DMALAND_VLAN_ETH_FRAME_LEN)
			return dmaland_set_error(EINVAL, "piece %u of a packet has %u bytes", f,
						 size);
		sum += size;
	}
	if (sum > DMALAND_VLAN_ETH_FRAME_LEN ||
	    (sum > DMALAND_ETH_FRAME_LEN && !packet_is_tagged(packet)))
		return dmaland_set_error(EMSGSIZE,
					 "a frame of %llu bytes: there are %d at most, %d with a "
					 "tag of 802.1Q",
					 (unsigned long long)sum, DMALAND_ETH_FRAME_LEN,
					 DMALAND_VLAN_ETH_FRAME_LEN);
	if (sum < HEADER_LEN)
		return dmaland_set_error(EINVAL, "a frame of %llu bytes: its header has %d",
					 (unsigned long long)sum, HEADER_LEN);
	*length = (unsigned int)sum;
	return 0;
}

/* Its length, in *length. 0, or -errno in words. A size that is too large, in a sum that wraps, too, is found. */
static inline int packet_check(const struct dmaland_packet *packet, unsigned int *length)
{
	bool good = packet->nr_frags <= DMALAND_MAX_FRAGS;

	*length = packet->len;
	for (unsigned int f = 0; good && f < packet->nr_frags; f++) {
		good = packet->frags[f].size - 1 < DMALAND_ETH_FRAME_LEN;
		*length += packet->frags[f].size;
	}
	good &= packet->len <= DMALAND_ETH_FRAME_LEN;
	if (good && *length - HEADER_LEN <= DMALAND_ETH_FRAME_LEN - HEADER_LEN)
		return 0;
	return packet_check_closely(packet, length);
}

/* Is a frame of n pieces copied? */
static bool is_linear(const struct dmaland_rtl8139cp *card, unsigned int length, unsigned int n)
{
	return length < DMALAND_ETH_ZLEN || card->options.tx_way == DMALAND_TX_LINEAR ||
	       (card->options.tx_way == DMALAND_TX_AUTO &&
		length < (uint64_t)card->options.linear_below * n);
}

/* One frame. -EBUSY: the ring is full. */
static int rtl8169_start_xmit(struct dmaland_rtl8139cp *card, struct dmaland_packet *packet)
{
	unsigned int length, n, last;
	bool linear;
	int err;

	err = packet_check(packet, &length);
	if (err)
		return err;
	n = (packet->len != 0) + packet->nr_frags;
	linear = is_linear(card, length, n);
	n = linear ? 1 : n;
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
	if (linear)
		xmit_linear(card, packet, length);
	else
		err = xmit_pieces(card, packet, n);
	if (err)
		return err;
	place_set(&card->tx.next, card->tx.next + n);
	card->stats.tx_packets++;
	card->stats.tx_bytes += length < DMALAND_ETH_ZLEN ? DMALAND_ETH_ZLEN : length;
	return 0;
}

int dmaland_rtl8139cp_send(struct dmaland_rtl8139cp *card, struct dmaland_packet *const *packets,
			   unsigned int n)
{
	unsigned int sent = 0;
	int err = 0;

	if (card->tx.clearing)
		return dmaland_set_error(ESHUTDOWN, "%s is being reset or closed",
					 dmaland_name(card->dev));
	while (sent < n && !err) {
		err = rtl8169_start_xmit(card, packets[sent]);
		sent += !err;
	}
	if (sent)
		writeb(TPPOLL_NPQ, card->regs + TPPOLL);
	return sent ? (int)sent : err;
}

/* Unmap it. The packet that ends there, or NULL. */
static struct dmaland_packet *slot_end(struct dmaland_rtl8139cp *card, struct tx_slot *slot)
{
	struct dmaland_packet *packet = slot->packet;

	rtl8169_unmap_tx_skb(card, slot);
	slot->packet = NULL;
	return packet;
}

/*
 * Packets of the card's own are released together at the end; others one by one. What a release sends is for the next time: the
 * chip may be as fast as the program.
 */
unsigned int dmaland_rtl8139cp_clean(struct dmaland_rtl8139cp *card)
{
	struct dmaland_packet *first = NULL, *last = NULL;
	const unsigned int end = card->tx.releasing ? card->tx.dirty : card->tx.next;

	while (card->tx.dirty != end) {
		unsigned int i = card->tx.dirty % RING;
		uint32_t status = status_get(&card->shared->tx[i]);
		struct dmaland_packet *packet;

		if (status & DESC_OWN)
			break;
		dma_rmb();
		packet = slot_end(card, &card->tx.slots[i]);
		place_set(&card->tx.dirty, card->tx.dirty + 1);
		if (!packet)
			continue;
		card->stats.tx_errors += (status & TX_FAILED) != 0;
		if (packet->release != packet_release || packet->card != card) {
			card->tx.releasing = true;
			dmaland_packet_free(packet);
			card->tx.releasing = false;
			continue;
		}
		packet->next = first;
		first = packet;
		last = last ? last : packet;
	}
	if (first)
		packets_release(card, first, last);
	return card->tx.next - card->tx.dirty;
}

void tx_start(struct dmaland_rtl8139cp *card)
{
	memset(card->shared->tx, 0, sizeof(card->shared->tx));
	card->shared->tx[RING - 1].opts1 = htole32(DESC_EOR);
	card->tx.next = card->tx.dirty = 0;
}

/* A release that sends again finds no card: else this would not end. */
void tx_clear(struct dmaland_rtl8139cp *card)
{
	card->tx.releasing = card->tx.clearing = true;
	while (card->tx.dirty != card->tx.next)
		dmaland_packet_free(slot_end(card, &card->tx.slots[card->tx.dirty++ % RING]));
	card->tx.releasing = card->tx.clearing = false;
}
