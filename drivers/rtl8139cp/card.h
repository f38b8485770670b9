/* SPDX-License-Identifier: MIT */
/*
 * card.h - what the files of the driver share
 *
 *   rtl8139cp.c   open, close, reset
 *   receive.c     frames that have come       struct rx
 *   transmit.c    frames to send              struct tx
 *   packet.c      packets in the card's reach struct packets
 *   control.c     address, link, filter, counters, interrupts
 *
 * The chip can write to descriptors and to buffers at any time. What the driver relies on, addresses, lengths and whose packet
 * it is, stands beside the rings, where it does not reach; of a descriptor a status is read, once.
 */
#ifndef RTL8139CP_CARD_H
#define RTL8139CP_CARD_H

#include <endian.h>

#include <dmaland/dmaland.h>
#include <dmaland/rtl8139cp.h>

#include "chip.h"

/*
 * Where ways cost the same, as `./run bench net` measures it (instructions of a frame, Linux 6.12 in a VM, strict IOMMU, packets of
 * the card's own), by straight lines between the sizes:
 *
 *                                    64    256   1024   1514 bytes
 *   received   kept, copied         223    241    335    383
 *              mapped for each      266    266    266    266         cross at 460
 *   sent       copied               236    254    349    397
 *              one mapping          319    319    319    319         cross at 782
 *   in four    copied               386    394    479    595
 *   pieces     four mappings        965    965    965    965         cross nowhere
 *
 * So a piece costs some 210 as a mapping and 50 as a copy, beside its bytes: what is copied grows with the count of pieces.
 */
enum {
	HEADER_LEN = 14,    /* two addresses and a type */
	RX_BUFFER = 1536,   /* bytes for a frame, with its CRC */
	COPYBREAK = 460,    /* shorter frames are copied */
	LINEAR_BELOW = 782, /* so many bytes a piece */
	MAX_PACKETS = 4096,
};

/* A tag of 802.1Q is behind the addresses, 0x88a8 a provider's (IEEE 802.1Q, 9.6). */
static inline bool is_tagged(const unsigned char *header)
{
	unsigned int type = header[12] << 8 | header[13];

	return type == 0x8100 || type == 0x88a8;
}

/* Memory that chip and driver share. */
struct shared {
	struct descriptor rx[RING], tx[RING];
	char linear[RING][RX_BUFFER]; /* pieces that are copied together, of each descriptor */
	struct tally tally __attribute__((aligned(64)));
};

struct rx_slot {
	struct dmaland_packet *packet;
	dma_addr_t mapping;
};

struct tx_slot {
	dma_addr_t mapping;
	unsigned int size;	       /* bytes that are mapped; 0: none */
	struct dmaland_packet *packet; /* that ends here */
};

struct packets {
	uint32_t lock; /* of all that follows; packets_lock() */
	struct dmaland_packet *free;
	struct dmaland_packet *all; /* by context; see packet.c */
	unsigned int n, max;
};

struct dmaland_rtl8139cp {
	struct dmaland_device *dev;
	char *regs;
	struct shared *shared;
	dma_addr_t shared_dma;
	struct dma_pool *pool; /* the packets' memory */
	struct packets packets;
	struct dmaland_rtl8139cp_options options;
	struct dmaland_rtl8139cp_stats stats;
	int irq; /* eventfd; -1: none */
	uint16_t cpcr;
	uint32_t rcr, mar[2];

	struct {
		struct rx_slot slots[RING];
		unsigned int next;
	} rx;
	struct {
		struct tx_slot slots[RING];
		unsigned int next, dirty; /* count on; the slot is the rest by RING */
		bool releasing;		  /* by releases: none is called meanwhile */
		bool clearing;		  /* by tx_clear(): they may not send either */
	} tx;
};

/*
 * dmaland_rtl8139cp_wait() reads, in a thread of its own, what those that receive and send write: where they are in the rings, and
 * statuses of descriptors. It may see what was there before: what has come since is told by an interrupt.
 */
static inline unsigned int place_get(const unsigned int *place)
{
	return __atomic_load_n(place, __ATOMIC_RELAXED);
}

static inline void place_set(unsigned int *place, unsigned int value)
{
	__atomic_store_n(place, value, __ATOMIC_RELAXED);
}

static inline uint32_t status_get(const struct descriptor *desc)
{
	return le32toh(__atomic_load_n(&desc->opts1, __ATOMIC_RELAXED));
}

static inline void status_set(struct descriptor *desc, uint32_t status)
{
	__atomic_store_n(&desc->opts1, htole32(status), __ATOMIC_RELAXED);
}

static inline uint64_t shared_dma(const struct dmaland_rtl8139cp *card, const void *at)
{
	return card->shared_dma + (uint64_t)((const char *)at - (const char *)card->shared);
}

/*
 * A few loads and stores are done under it, and no call. A frame takes it twice, to allocate and to release its packet: 3 instructions
 * each time, lock and unlock, where a mutex of pthread's has 59; of a frame's 223. The library's own (base/spin.h) is not for
 * drivers, which have its public headers and nothing else.
 */
static inline void packets_lock(struct packets *packets)
{
	while (__atomic_exchange_n(&packets->lock, 1, __ATOMIC_ACQUIRE))
		while (__atomic_load_n(&packets->lock, __ATOMIC_RELAXED))
			;
}

static inline void packets_unlock(struct packets *packets)
{
	__atomic_store_n(&packets->lock, 0, __ATOMIC_RELEASE);
}

/* The release of the card's own packets. */
void packet_release(struct dmaland_packet *packet);

/* Packets of the card's own that are free now, in a list from first to last. */
void packets_release(struct dmaland_rtl8139cp *card, struct dmaland_packet *first,
		     struct dmaland_packet *last);

int packets_init(struct dmaland_rtl8139cp *card);
void packets_fini(struct dmaland_rtl8139cp *card);

/* Give each descriptor a buffer; or the ones that are there, after a reset. */
int rx_fill(struct dmaland_rtl8139cp *card);
void rx_start(struct dmaland_rtl8139cp *card);
void rx_free(struct dmaland_rtl8139cp *card);

void tx_start(struct dmaland_rtl8139cp *card);
/* Release all that was not sent; the chip is stopped. */
void tx_clear(struct dmaland_rtl8139cp *card);

/* What a reset of the chip takes: the filter, interrupts. */
void control_start(struct dmaland_rtl8139cp *card);

bool chip_is_gone(const struct dmaland_rtl8139cp *card);
int gone_error(const struct dmaland_rtl8139cp *card);

#endif
