/* SPDX-License-Identifier: MIT */
/*
 * rtl8139cp.h - a driver for Realtek's RTL8139C+ on top of dmaland: library libdmaland-rtl8139cp
 *
 * The chip's C+ mode: rings of descriptors, each with the dma address of a buffer, as the 8169 family has them. Rings are coherent
 * memory. Packets are streaming mappings, made and ended for each packet, or made once and synced; options say which.
 *
 * Threads. A call of a line runs in one thread at a time, beside calls of the other lines in others; with no lock it is the caller
 * who sees to that.
 *
 *   receive
 *   send, clean
 *   wait
 *   set_mac, set_filter, mac
 *   get_counters
 *
 * Any number of threads at any time: link, dmaland_packet_alloc(), dmaland_packet_free(). With the card for itself, no other
 * call being under way but those of packets: open, close, reset, irq, get_stats. No call from a signal handler.
 *
 * Nothing here makes a system call but what says so; a mapping does where it has to, see <dmaland/streaming.h>.
 *
 * Registers and bits are those of the RTL8139C+ data sheet, revision 1.6.
 */
#ifndef DMALAND_RTL8139CP_H
#define DMALAND_RTL8139CP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dmaland/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dmaland_rtl8139cp;

#define DMALAND_ETH_ALEN	   6
#define DMALAND_ETH_ZLEN	   60 /* the shortest frame, without its CRC; shorter ones are padded */
#define DMALAND_ETH_FRAME_LEN	   1514 /* the longest, without its CRC, */
#define DMALAND_VLAN_ETH_FRAME_LEN 1518 /* and the longest with an 802.1Q tag */
#define DMALAND_PACKET_ROOM	   2048 /* bytes of a packet's own memory */
#define DMALAND_PACKET_HEAD	   64	/* headroom of a packet that was received */
#define DMALAND_MAX_FRAGS	   16

/* Checksums, in struct dmaland_packet: for the chip to fill in, or found right by it. */
#define DMALAND_CSUM_IP	 1u
#define DMALAND_CSUM_UDP 2u
#define DMALAND_CSUM_TCP 4u

struct dmaland_frag {
	void *data;
	unsigned int size;
};

/**
 * struct dmaland_packet - a frame, in one piece or several
 * @head:     where its own memory begins; NULL: it has none
 * @room:     bytes from there
 * @data:     the first byte of the frame
 * @len:      bytes there, in one piece
 * @nr_frags: further pieces, in @frags
 * @csum:     DMALAND_CSUM_*
 * @release:  called when the packet is done with; NULL: nobody wants to know. It may send, but not close the card
 * @context:  the application's
 * @next:     the driver's; the application's while the packet is its own
 *
 * Packets of dmaland_packet_alloc() lie in memory that the device can reach already, and cost no system call. Packets of the
 * application's own, on memory of any kind, can be sent too.
 */
struct dmaland_packet {
	unsigned char *head, *data;
	unsigned int room, len;
	unsigned int nr_frags;
	unsigned int csum;
	struct dmaland_frag frags[DMALAND_MAX_FRAGS];
	void (*release)(struct dmaland_packet *packet);
	void *context;
	struct dmaland_packet *next;
	struct dmaland_rtl8139cp *card;
};

/** How a frame that has arrived comes to the application. */
enum dmaland_rx_way {
	DMALAND_RX_COPYBREAK, /* short ones are copied, long ones handed over */
	DMALAND_RX_KEEP,      /* copied: a buffer stays mapped */
	DMALAND_RX_MAP,	      /* handed over: each buffer is mapped for one frame */
};

/** How the pieces of a frame go out. */
enum dmaland_tx_way {
	DMALAND_TX_AUTO,   /* as few and short pieces are best sent */
	DMALAND_TX_SG,	   /* a mapping and a descriptor for each */
	DMALAND_TX_LINEAR, /* copied together */
};

/**
 * struct dmaland_rtl8139cp_options - zeroes are good defaults
 * @size:         sizeof(struct dmaland_rtl8139cp_options)
 * @rx_way:       how frames come to the application
 * @copybreak:    DMALAND_RX_COPYBREAK: bytes from which on a frame is handed over; 0: what was measured to be best
 * @tx_way:       how frames go out
 * @linear_below: DMALAND_TX_AUTO: a frame whose pieces have fewer bytes on average is copied; 0: what was measured to be best
 * @max_packets:  that the card may have beside its rings' own; 0: 4096
 */
struct dmaland_rtl8139cp_options {
	size_t size;
	enum dmaland_rx_way rx_way;
	unsigned int copybreak;
	enum dmaland_tx_way tx_way;
	unsigned int linear_below;
	unsigned int max_packets;
};

/**
 * dmaland_rtl8139cp_open() - reset the card and let it receive and send
 * @dev:     the device; stays the caller's, and must outlive the card
 * @options: or NULL
 *
 * It takes what is sent to its own address and to all. The device's masks are set.
 *
 * Context: makes system calls.
 * Return: the card, or NULL with errno set and dmaland_last_error() in words: -ENODEV when it is no RTL8139C+.
 */
struct dmaland_rtl8139cp *dmaland_rtl8139cp_open(struct dmaland_device *dev,
						 const struct dmaland_rtl8139cp_options *options);

/**
 * dmaland_rtl8139cp_close() - stop the card and free all; NULL does nothing
 *
 * Packets that wait to be sent are released unsent. Packets of this card that the application still has must be freed before.
 */
void dmaland_rtl8139cp_close(struct dmaland_rtl8139cp *card);

/**
 * dmaland_rtl8139cp_reset() - reset the card, and go on
 *
 * Address, filters and interrupts are as before. Packets that wait to be sent are released unsent, those that
 * have arrived and were not taken are lost.
 *
 * Context: sleeps.
 * Return: 0; -ENODEV when the card is gone; -ETIMEDOUT; -EBUSY: in a release.
 */
int dmaland_rtl8139cp_reset(struct dmaland_rtl8139cp *card);

/**
 * dmaland_packet_alloc() - a packet in memory that the card reaches
 * @card:     the card
 * @headroom: bytes in front of the data, for headers to come; at most DMALAND_PACKET_ROOM
 *
 * Its data have length 0. dmaland_packet_free() gives it back; so does sending it.
 *
 * Context: any thread; makes a system call when the card must get more memory.
 * Return: the packet, or NULL: -ENOBUFS at max_packets, -ENOMEM, -EINVAL.
 */
struct dmaland_packet *dmaland_packet_alloc(struct dmaland_rtl8139cp *card, unsigned int headroom);

/** dmaland_packet_free() - release a packet, whosever it is; NULL does nothing. Context: any thread. */
void dmaland_packet_free(struct dmaland_packet *packet);

/** dmaland_packet_length() - bytes of the whole frame */
static inline unsigned int dmaland_packet_length(const struct dmaland_packet *packet)
{
	unsigned int length = packet->len;

	for (unsigned int i = 0; i < packet->nr_frags; i++)
		length += packet->frags[i].size;
	return length;
}

/**
 * dmaland_packet_put() - room for more data at the end
 * dmaland_packet_push() - room for more data at the beginning
 * dmaland_packet_pull() - drop data at the beginning
 * @size: bytes
 *
 * Return: where the new data go, or the rest begins; NULL where there is no room, or no data.
 */
static inline void *dmaland_packet_put(struct dmaland_packet *packet, unsigned int size)
{
	unsigned int used = (unsigned int)(packet->data - packet->head) + packet->len;
	void *end = packet->data + packet->len;

	if (!packet->head || size > packet->room - used)
		return NULL;
	packet->len += size;
	return end;
}

static inline void *dmaland_packet_push(struct dmaland_packet *packet, unsigned int size)
{
	if (!packet->head || size > (unsigned int)(packet->data - packet->head))
		return NULL;
	packet->data -= size;
	packet->len += size;
	return packet->data;
}

static inline void *dmaland_packet_pull(struct dmaland_packet *packet, unsigned int size)
{
	if (size > packet->len)
		return NULL;
	packet->data += size;
	packet->len -= size;
	return packet->data;
}

/**
 * dmaland_rtl8139cp_receive() - take frames that have arrived
 * @card:    the card
 * @packets: where they go, oldest first; they are the caller's, to be freed or sent
 * @n:       at most so many
 *
 * Frames with errors, in several buffers, below DMALAND_ETH_ZLEN or longer than can be sent are counted and dropped. Where no packet
 * can be had for one it is dropped, too, and counted. A tag of 802.1Q stays in the frame.
 *
 * Return: how many, 0 when nothing has arrived.
 */
unsigned int dmaland_rtl8139cp_receive(struct dmaland_rtl8139cp *card,
				       struct dmaland_packet **packets, unsigned int n);

/**
 * dmaland_rtl8139cp_send() - send frames
 * @card:    the card
 * @packets: the frames; their memory is the card's until they are released
 * @n:       how many
 *
 * Packets that have been sent are released by later calls, and by dmaland_rtl8139cp_clean(). Frames below 60 bytes are padded with
 * zeroes. A frame has at most DMALAND_ETH_FRAME_LEN bytes; where the type behind the addresses says that a tag follows (0x8100, or
 * 0x88a8), DMALAND_VLAN_ETH_FRAME_LEN.
 *
 * Return: how many were taken, from the first on; fewer than @n when the ring is full (clean and come again), or when the next
 * is refused. When the first was: -EBUSY: the ring is full; -EMSGSIZE: too long; -EINVAL: shorter than a header of 14 bytes,
 * or an empty piece; -ESHUTDOWN: in a release, while the card is reset or closed; or the error of a mapping.
 */
int dmaland_rtl8139cp_send(struct dmaland_rtl8139cp *card, struct dmaland_packet *const *packets,
			   unsigned int n);

/**
 * dmaland_rtl8139cp_clean() - release packets that have been sent
 *
 * Those that releases send meanwhile are left to the next call. In a release it only counts.
 *
 * Return: how many wait still.
 */
unsigned int dmaland_rtl8139cp_clean(struct dmaland_rtl8139cp *card);

/**
 * dmaland_rtl8139cp_irq() - have the card interrupt
 *
 * Context: makes system calls.
 * Return: an eventfd that is readable when dmaland_rtl8139cp_wait(), which has returned 0, may have something to do: poll for it among
 * others, and do not read it; -errno.
 */
int dmaland_rtl8139cp_irq(struct dmaland_rtl8139cp *card);

/**
 * dmaland_rtl8139cp_wait() - sleep until frames have arrived, or none waits to be sent
 * @card:    the card, with dmaland_rtl8139cp_irq(); else it looks, and does not sleep
 * @timeout: ms at most; -1: without end
 *
 * Beside a thread that receives, or one that sends, it may return 1 for what that one takes. It returns 1 until what was received
 * and sent was taken: who waits for frames alone sees to it that another cleans.
 *
 * That the card is to be removed (DMALAND_EVENT_REMOVE) does not end it: who waits long asks dmaland_get_events() between two waits.
 *
 * Context: sleeps.
 * Return: 1 when there is something to do; 0 when the time is over; -ENODEV when the card is gone; -EINTR.
 */
int dmaland_rtl8139cp_wait(struct dmaland_rtl8139cp *card, int timeout);

/** dmaland_rtl8139cp_mac() - its address, DMALAND_ETH_ALEN bytes; dmaland_rtl8139cp_set_mac() - another until a reset of the chip's power */
void dmaland_rtl8139cp_mac(struct dmaland_rtl8139cp *card, unsigned char *address);
int dmaland_rtl8139cp_set_mac(struct dmaland_rtl8139cp *card, const unsigned char *address);

/**
 * dmaland_rtl8139cp_link() - is there a link?
 *
 * Return: its speed in Mbit/s, 10 or 100; 0: none; -ENODEV when the card is gone.
 */
int dmaland_rtl8139cp_link(struct dmaland_rtl8139cp *card);

/**
 * dmaland_rtl8139cp_set_filter() - which frames are taken, besides those to the card's address and to all
 * @card:      the card
 * @promiscuous: all of them
 * @multicast: addresses of groups, DMALAND_ETH_ALEN bytes each; NULL with @n not 0: all groups
 * @n:         how many
 *
 * When it returns the chip has the new filter. It tells groups apart by 6 bits of a hash: others may come along.
 */
void dmaland_rtl8139cp_set_filter(struct dmaland_rtl8139cp *card, bool promiscuous,
				  const unsigned char *multicast, unsigned int n);

/**
 * struct dmaland_rtl8139cp_stats - what has happened since the card was opened
 * @rx_packets, @rx_bytes: frames taken
 * @rx_copied:    of these, copied
 * @rx_dropped:   no packet could be had for them
 * @rx_errors:    the chip found an error
 * @rx_length:    too short, or too long
 * @rx_split:     in more than one buffer
 * @tx_packets, @tx_bytes: frames sent
 * @tx_linear:    of these, copied together
 * @tx_errors:    the chip could not send them
 * @tx_busy:      how often the ring was full
 * @resets:       by dmaland_rtl8139cp_reset()
 */
struct dmaland_rtl8139cp_stats {
	uint64_t rx_packets, rx_bytes, rx_copied, rx_dropped, rx_errors, rx_length, rx_split;
	uint64_t tx_packets, tx_bytes, tx_linear, tx_errors, tx_busy;
	uint64_t resets;
};

void dmaland_rtl8139cp_get_stats(struct dmaland_rtl8139cp *card,
				 struct dmaland_rtl8139cp_stats *stats);

/**
 * struct dmaland_rtl8139cp_counters - what the chip has counted (data sheet, dump tally counters)
 */
struct dmaland_rtl8139cp_counters {
	uint64_t tx_ok, rx_ok, tx_errors;
	uint32_t rx_errors;
	uint16_t rx_missed, align_errors;
	uint32_t tx_one_collision, tx_collisions;
	uint64_t rx_unicast, rx_broadcast;
	uint32_t rx_multicast;
	uint16_t tx_aborted, tx_underruns;
};

/** dmaland_rtl8139cp_get_counters() - have the chip write its counters. Return: 0, -ENODEV, -ETIMEDOUT. Context: sleeps. */
int dmaland_rtl8139cp_get_counters(struct dmaland_rtl8139cp *card,
				   struct dmaland_rtl8139cp_counters *counters);

#ifdef __cplusplus
}
#endif

#endif
