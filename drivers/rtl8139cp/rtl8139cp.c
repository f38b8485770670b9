/* SPDX-License-Identifier: MIT */
/*
 * rtl8139cp.c - open, close, reset
 */
#include "card.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { VENDOR = 0x10ec, DEVICE = 0x8139, REVISION_CP = 0x20, BAR = 1, RESET_MS = 100 };

static int chip_check(struct dmaland_device *dev)
{
	uint32_t ids = 0;
	uint8_t revision = 0;
	int err = pci_read_config_dword(dev, PCI_VENDOR_ID, &ids);

	if (!err)
		err = pci_read_config_byte(dev, PCI_REVISION_ID, &revision);
	if (err)
		return err;
	if (ids != ((uint32_t)DEVICE << 16 | VENDOR) || revision < REVISION_CP)
		return dmaland_set_error(
			ENODEV,
			"%s is %04x:%04x, revision %#x, and no RTL8139C+, which is "
			"%04x:%04x, revision %#x or later",
			dmaland_name(dev), ids & 0xffff, ids >> 16, revision, VENDOR, DEVICE,
			REVISION_CP);
	return 0;
}

/* The chip forgets all but its address. */
static int chip_reset(struct dmaland_rtl8139cp *card)
{
	static const struct timespec pause = {0, 1000000};

	writeb(CR_RST, card->regs + CR);
	for (int ms = 0; ms < RESET_MS; ms++) {
		uint8_t command = readb(card->regs + CR);

		if (command == UINT8_MAX)
			return gone_error(card);
		if (!(command & CR_RST))
			return 0;
		nanosleep(&pause, NULL);
	}
	return dmaland_set_error(ETIMEDOUT, "%s does not end its reset within %d ms",
				 dmaland_name(card->dev), RESET_MS);
}

static void ring_write(struct dmaland_rtl8139cp *card, unsigned int reg, uint64_t address)
{
	writel((uint32_t)(address >> 32), card->regs + reg + 4);
	writel((uint32_t)address, card->regs + reg);
}

/* After a reset, with rings that are ready. C+ mode comes before the rings' addresses, and these before RE and TE. */
static void chip_start(struct dmaland_rtl8139cp *card)
{
	writew(card->cpcr, card->regs + CPCR);
	ring_write(card, TNPDS, shared_dma(card, card->shared->tx));
	ring_write(card, THPDS, 0);
	ring_write(card, RDSAR, shared_dma(card, card->shared->rx));
	writeb(CR_RE | CR_TE, card->regs + CR);
	writel(TCR_IFG | TCR_MXDMA, card->regs + TCR);
	writeb(6, card->regs + ETTHR);
	control_start(card);
}

static int masks_set(struct dmaland_rtl8139cp *card)
{
	int err = dma_set_mask_and_coherent(card->dev, DMA_BIT_MASK(64));

	card->cpcr = CPCR_TE | CPCR_RE | CPCR_MULRW | CPCR_RXCHKSUM | CPCR_DAC;
	return err;
}

static int memory_get(struct dmaland_rtl8139cp *card)
{
	int err;

	card->shared =
		dma_alloc_coherent(card->dev, sizeof(*card->shared), &card->shared_dma, GFP_KERNEL);
	if (!card->shared)
		return -errno;
	err = packets_init(card);
	if (err)
		goto free_shared;
	err = rx_fill(card);
	if (!err)
		return 0;
	packets_fini(card);
free_shared:
	dma_free_coherent(card->dev, sizeof(*card->shared), card->shared, card->shared_dma);
	return err;
}

static void memory_put(struct dmaland_rtl8139cp *card)
{
	tx_clear(card);
	rx_free(card);
	packets_fini(card);
	dma_free_coherent(card->dev, sizeof(*card->shared), card->shared, card->shared_dma);
}

/* The chip is reset before it may do DMA: nothing of an earlier driver's is under way. */
static int card_begin(struct dmaland_rtl8139cp *card)
{
	int err = pci_enable_device(card->dev);

	if (err)
		return err;
	card->regs = pci_iomap(card->dev, BAR, 0);
	err = card->regs ? masks_set(card) : -errno;
	if (!err)
		err = chip_reset(card);
	if (!err)
		err = pci_set_master(card->dev);
	if (!err)
		err = memory_get(card);
	if (err) {
		pci_clear_master(card->dev);
		pci_iounmap(card->dev, card->regs);
		pci_disable_device(card->dev);
		return err;
	}
	rx_start(card);
	tx_start(card);
	chip_start(card);
	dmaland_rtl8139cp_set_filter(card, false, NULL, 0);
	return 0;
}

static int options_check(const struct dmaland_rtl8139cp_options *options)
{
	if (options->size != sizeof(*options))
		return dmaland_set_error(EINVAL,
					 "options.size is %zu, and not sizeof(struct "
					 "dmaland_rtl8139cp_options)",
					 options->size);
	if (options->rx_way > DMALAND_RX_MAP || options->tx_way > DMALAND_TX_LINEAR)
		return dmaland_set_error(EINVAL, "rx_way %u or tx_way %u is not known",
					 (unsigned int)options->rx_way,
					 (unsigned int)options->tx_way);
	return 0;
}

struct dmaland_rtl8139cp *dmaland_rtl8139cp_open(struct dmaland_device *dev,
						 const struct dmaland_rtl8139cp_options *options)
{
	struct dmaland_rtl8139cp *card;

	if ((options && options_check(options)) || chip_check(dev))
		return NULL;
	card = calloc(1, sizeof(*card));
	if (!card) {
		dmaland_set_error(ENOMEM, "no memory for a card");
		return NULL;
	}
	card->dev = dev;
	card->irq = -1;
	if (options)
		card->options = *options;
	if (!card->options.copybreak)
		card->options.copybreak = COPYBREAK;
	if (!card->options.linear_below)
		card->options.linear_below = LINEAR_BELOW;
	if (card_begin(card)) {
		free(card);
		return NULL;
	}
	return card;
}

int dmaland_rtl8139cp_reset(struct dmaland_rtl8139cp *card)
{
	int err;

	if (card->tx.releasing)
		return dmaland_set_error(EBUSY, "%s is not reset in a release",
					 dmaland_name(card->dev));
	err = chip_is_gone(card) ? gone_error(card) : chip_reset(card);
	if (err)
		return err;
	tx_clear(card);
	rx_start(card);
	tx_start(card);
	chip_start(card);
	card->stats.resets++;
	return 0;
}

void dmaland_rtl8139cp_close(struct dmaland_rtl8139cp *card)
{
	if (!card)
		return;
	writew(0, card->regs + IMR);
	chip_reset(card);
	pci_clear_master(card->dev);
	if (card->irq >= 0)
		pci_free_irq_vectors(card->dev);
	memory_put(card);
	pci_iounmap(card->dev, card->regs);
	pci_disable_device(card->dev);
	free(card);
}
