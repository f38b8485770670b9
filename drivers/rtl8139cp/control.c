/* SPDX-License-Identifier: MIT */
/*
 * control.c - address, link, filter, counters, interrupts
 */
#include "card.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	INTERRUPTS =
		INT_ROK | INT_RER | INT_TOK | INT_TER | INT_RXOVW | INT_LINK | INT_FOVW | INT_TDU,
	TALLY_MS = 100,
	LOOK_MS = 1000, /* a card that went without a word is found gone within that time */
};

int gone_error(const struct dmaland_rtl8139cp *card)
{
	return dmaland_set_error(ENODEV, "%s is gone", dmaland_name(card->dev));
}

/* A bus answers with ones for a chip that is not there. This register has others: chip_start() has written it. */
bool chip_is_gone(const struct dmaland_rtl8139cp *card)
{
	return readl(card->regs + TCR) == UINT32_MAX;
}

/* Writes are posted: what is read comes after them. What a call has set holds when it returns, whoever sends then. */
static void writes_end(struct dmaland_rtl8139cp *card)
{
	readb(card->regs + CR);
}

void dmaland_rtl8139cp_mac(struct dmaland_rtl8139cp *card, unsigned char *address)
{
	for (int i = 0; i < DMALAND_ETH_ALEN; i++)
		address[i] = readb(card->regs + IDR0 + i);
}

int dmaland_rtl8139cp_set_mac(struct dmaland_rtl8139cp *card, const unsigned char *address)
{
	uint32_t words[2] = {0, 0};

	if (address[0] & 1)
		return dmaland_set_error(
			EINVAL, "%02x:%02x:%02x:%02x:%02x:%02x is a group's address", address[0],
			address[1], address[2], address[3], address[4], address[5]);
	memcpy(words, address, DMALAND_ETH_ALEN);
	writeb(EECR_CONFIG, card->regs + EECR);
	writel(le32toh(words[0]), card->regs + IDR0);
	writel(le32toh(words[1]), card->regs + IDR0 + 4);
	writeb(0, card->regs + EECR);
	writes_end(card);
	return 0;
}

int dmaland_rtl8139cp_link(struct dmaland_rtl8139cp *card)
{
	uint8_t media = readb(card->regs + MSR);

	if (media == UINT8_MAX || chip_is_gone(card))
		return gone_error(card);
	if (media & MSR_LINKB)
		return 0;
	return media & MSR_SPEED_10 ? 10 : 100;
}

/* The upper 6 bits of the CRC of an address, by which the filter knows it (IEEE 802.3, 3.2.9; most significant bit first). */
static unsigned int filter_bit(const unsigned char *address)
{
	uint32_t crc = UINT32_MAX;

	for (int i = 0; i < 8 * DMALAND_ETH_ALEN; i++) {
		uint32_t bit = crc >> 31 ^ (address[i / 8] >> i % 8 & 1u);

		crc = crc << 1 ^ (bit ? UINT32_C(0x04c11db7) : 0);
	}
	return crc >> 26;
}

/* Writes are posted: after the read they are in force for whatever anybody sends from now on. */
static void filter_write(struct dmaland_rtl8139cp *card)
{
	writel(card->mar[0], card->regs + MAR0);
	writel(card->mar[1], card->regs + MAR0 + 4);
	writel(card->rcr, card->regs + RCR);
	writes_end(card);
}

void dmaland_rtl8139cp_set_filter(struct dmaland_rtl8139cp *card, bool promiscuous,
				  const unsigned char *multicast, unsigned int n)
{
	uint32_t all = promiscuous || (n && !multicast) ? UINT32_MAX : 0;

	card->mar[0] = card->mar[1] = all;
	for (unsigned int i = 0; multicast && i < n; i++) {
		unsigned int bit = filter_bit(multicast + (size_t)DMALAND_ETH_ALEN * i);

		card->mar[bit / 32] |= UINT32_C(1) << bit % 32;
	}
	card->rcr = RCR_MXDMA | RCR_RXFTH | RCR_APM | RCR_AB | (n || promiscuous ? RCR_AM : 0) |
		    (promiscuous ? RCR_AAP : 0);
	filter_write(card);
}

void control_start(struct dmaland_rtl8139cp *card)
{
	filter_write(card);
	writew(UINT16_MAX, card->regs + ISR);
	writew(card->irq >= 0 ? INTERRUPTS : 0, card->regs + IMR);
}

void dmaland_rtl8139cp_get_stats(struct dmaland_rtl8139cp *card,
				 struct dmaland_rtl8139cp_stats *stats)
{
	*stats = card->stats;
}

static const struct timespec a_ms = {0, 1000000};

int dmaland_rtl8139cp_get_counters(struct dmaland_rtl8139cp *card,
				   struct dmaland_rtl8139cp_counters *counters)
{
	struct tally *t = &card->shared->tally;
	uint64_t where = shared_dma(card, t);

	writel((uint32_t)(where >> 32), card->regs + DTCCR + 4);
	writel((uint32_t)where | DTCCR_CMD, card->regs + DTCCR);
	for (int ms = 0;; ms++) {
		uint32_t command = readl(card->regs + DTCCR);

		if (command == UINT32_MAX || chip_is_gone(card))
			return gone_error(card);
		if (!(command & DTCCR_CMD))
			break;
		if (ms == TALLY_MS)
			return dmaland_set_error(ETIMEDOUT,
						 "%s does not write its counters within %d ms",
						 dmaland_name(card->dev), TALLY_MS);
		nanosleep(&a_ms, NULL);
	}
	*counters = (struct dmaland_rtl8139cp_counters){
		.tx_ok = le64toh(t->tx_ok),
		.rx_ok = le64toh(t->rx_ok),
		.tx_errors = le64toh(t->tx_er),
		.rx_errors = le32toh(t->rx_er),
		.rx_missed = le16toh(t->miss_pkt),
		.align_errors = le16toh(t->fae),
		.tx_one_collision = le32toh(t->tx_1_col),
		.tx_collisions = le32toh(t->tx_m_col),
		.rx_unicast = le64toh(t->rx_ok_phy),
		.rx_broadcast = le64toh(t->rx_ok_brd),
		.rx_multicast = le32toh(t->rx_ok_mul),
		.tx_aborted = le16toh(t->tx_abt),
		.tx_underruns = le16toh(t->tx_undrn),
	};
	return 0;
}

/* --- interrupts ----------------------------------------------------------------------------- */

/*
 * They are let through all the time. While nobody waits there is at most one: its line masks itself until it
 * is taken.
 */
int dmaland_rtl8139cp_irq(struct dmaland_rtl8139cp *card)
{
	int n, fd;

	if (card->irq >= 0)
		return card->irq;
	n = pci_alloc_irq_vectors(card->dev, 1, 1, PCI_IRQ_ALL_TYPES);
	if (n < 0)
		return n;
	fd = dmaland_irq(card->dev, 0);
	if (fd < 0) {
		pci_free_irq_vectors(card->dev);
		return fd;
	}
	card->irq = fd;
	writew(INTERRUPTS, card->regs + IMR);
	return fd;
}

/* Has a frame come, or has one been sent? */
static bool has_work(struct dmaland_rtl8139cp *card)
{
	unsigned int dirty = place_get(&card->tx.dirty);

	if (!(status_get(&card->shared->rx[place_get(&card->rx.next)]) & DESC_OWN))
		return true;
	return dirty != place_get(&card->tx.next) &&
	       !(status_get(&card->shared->tx[dirty % RING]) & DESC_OWN);
}

/* Take the interrupt: clear what has come, here and in the chip, and let it come again. */
static int irq_take(struct dmaland_rtl8139cp *card)
{
	uint64_t count;
	uint16_t what;

	if (read(card->irq, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return -errno;
	what = readw(card->regs + ISR);
	if (what == UINT16_MAX)
		return gone_error(card);
	writew(what, card->regs + ISR);
	writes_end(card); /* what it clears has come before has_work() looks */
	return dmaland_irq_unmask(card->dev, 0);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What interrupts may have been dealt with already: then there is time left to sleep. */
int dmaland_rtl8139cp_wait(struct dmaland_rtl8139cp *card, int timeout)
{
	struct pollfd fds[] = {{.fd = card->irq, .events = POLLIN},
			       {.fd = dmaland_event_fd(card->dev), .events = POLLIN}};
	int64_t end = timeout > 0 ? now_ms() + timeout : 0;

	while (!has_work(card)) {
		int64_t left = timeout > 0 ? end - now_ms() : timeout;
		int n, err;

		if (chip_is_gone(card))
			return gone_error(card);
		if (card->irq < 0)
			return 0;
		left = left < 0 ? (timeout > 0 ? 0 : LOOK_MS) : left;
		n = poll(fds, 2, left < LOOK_MS ? (int)left : LOOK_MS);
		if (n < 0)
			return -errno;
		if (n == 0 && timeout >= 0 && left < LOOK_MS)
			return has_work(card);
		if (fds[1].revents) /* it may be gone; the event is the application's to take */
			fds[1].fd = -1;
		err = fds[0].revents ? irq_take(card) : 0;
		if (err)
			return err;
	}
	return 1;
}
