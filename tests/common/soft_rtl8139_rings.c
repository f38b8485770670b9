/* SPDX-License-Identifier: MIT */
/*
 * soft_rtl8139_rings.c - the card in software: memory, descriptors, frames
 */
#include "soft_rtl8139_parts.h"

/* ---- memory ---- */

static bool may_master(struct soft_rtl8139 *chip)
{
	uint32_t command = 0;

	return !chip->engine->ops->config_read(chip->engine, PCI_COMMAND, 2, &command) &&
	       command & PCI_COMMAND_MASTER;
}

bool soft_rtl8139_access_locked(struct soft_rtl8139 *chip, dma_addr_t dma, void *data, size_t size,
				bool write)
{
	struct soft_domain *sd = (struct soft_domain *)chip->engine->domain;
	struct soft_access access = {
		.begin = dma, .dma = dma, .data = data, .size = size, .write = write};
	struct dmaland_soft_fault fault;

	if (!may_master(chip)) {
		chip->no_master++;
		return false;
	}
	if (soft_domain_access(sd, &access, &fault) == size)
		return true;
	fault.length = size - (size_t)(fault.address - dma);
	chip->faults++;
	chip->fault = fault;
	return false;
}

bool soft_rtl8139_access(struct soft_rtl8139 *chip, dma_addr_t dma, void *data, size_t size,
			 bool write)
{
	bool done;

	pthread_mutex_lock(&chip->lock);
	done = !atomic_load(&chip->gone) &&
	       soft_rtl8139_access_locked(chip, dma, data, size, write);
	pthread_mutex_unlock(&chip->lock);
	return done;
}

/* ---- descriptors ---- */

/* Not of a chip that has no ring. */
static bool desc_read(struct soft_rtl8139 *chip, unsigned int ring, unsigned int i,
		      struct descriptor *desc)
{
	uint64_t base = reg_get(chip, ring, 8) & ~(uint64_t)(RING_ALIGN - 1);

	return base && soft_rtl8139_access_locked(chip, base + i * sizeof(*desc), desc,
						  sizeof(*desc), false);
}

/* Without DAC its addresses have 32 bits. */
static dma_addr_t buffer_of(const struct soft_rtl8139 *chip, const struct descriptor *desc)
{
	return le64toh(desc->address) &
	       (reg_get(chip, CPCR, 2) & CPCR_DAC ? UINT64_MAX : UINT32_MAX);
}

/* The status alone, last. */
static void desc_write_back(struct soft_rtl8139 *chip, unsigned int ring, unsigned int i,
			    uint32_t status)
{
	uint64_t base = reg_get(chip, ring, 8) & ~(uint64_t)(RING_ALIGN - 1);
	uint32_t opts1 = htole32(status);

	soft_rtl8139_access_locked(chip, base + i * sizeof(struct descriptor), &opts1,
				   sizeof(opts1), true);
}

/* As in QEMU's model: a ring to send ends at 64 in any case, one of received frames where it says so. */
static unsigned int tx_next(unsigned int i, uint32_t opts1)
{
	return opts1 & DESC_EOR || i == RING - 1 ? 0 : i + 1;
}

static unsigned int rx_next(unsigned int i, uint32_t opts1)
{
	return opts1 & DESC_EOR ? 0 : i + 1;
}

/* ---- frames that come ---- */

/* The bit of an address in the filter: the CRC of Ethernet, reflected, as a table-less loop. */
static bool group_is_in_filter(const struct soft_rtl8139 *chip, const unsigned char *address)
{
	uint32_t crc = UINT32_MAX, bit = 0;

	for (int i = 0; i < 6; i++) {
		crc ^= address[i];
		for (int k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0xedb88320) : 0);
	}
	for (int k = 0; k < 6; k++) /* what is upper in the CRC as it is sent is lower here */
		bit = bit << 1 | (crc >> k & 1);
	return reg_get(chip, MAR0, 8) >> bit & 1;
}

static bool is_for_me(const struct soft_rtl8139 *chip, const unsigned char *frame)
{
	static const unsigned char all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	uint32_t rcr = (uint32_t)reg_get(chip, RCR, 4);

	if (rcr & RCR_AAP)
		return true;
	if (memcmp(frame, all, sizeof(all)) == 0)
		return rcr & RCR_AB;
	if (frame[0] & 1)
		return rcr & RCR_AM && group_is_in_filter(chip, frame);
	return rcr & RCR_APM && memcmp(frame, chip->regs + IDR0, 6) == 0;
}

static bool may_receive(const struct soft_rtl8139 *chip)
{
	return !atomic_load(&chip->gone) && reg_get(chip, CR, 1) & CR_RE &&
	       reg_get(chip, CPCR, 2) & CPCR_RE;
}

/* A frame with its CRC, over as many descriptors as it needs. */
static bool frame_put(struct soft_rtl8139 *chip, const unsigned char *frame, size_t length)
{
	unsigned int i = chip->rx;
	uint32_t first = DESC_FS;

	for (size_t done = 0; done < length;) {
		struct descriptor desc;
		unsigned char piece[SOFT_RTL8139_FRAME];
		size_t size;
		uint32_t opts1;

		if (!desc_read(chip, RDSAR, i, &desc))
			return false;
		opts1 = le32toh(desc.opts1);
		size = opts1 & RX_LENGTH;
		if (!(opts1 & DESC_OWN) || !size) {
			chip->tally.miss_pkt++;
			soft_rtl8139_raise_locked(chip, INT_RXOVW);
			return false;
		}
		if (size > length - done)
			size = length - done;
		memcpy(piece, frame + done, size);
		soft_rtl8139_access_locked(chip, buffer_of(chip, &desc), piece, size, true);
		done += size;
		desc_write_back(chip, RDSAR, i,
				(opts1 & DESC_EOR) | first | (done == length ? DESC_LS : 0) |
					(uint32_t)length);
		first = 0;
		i = rx_next(i, opts1);
	}
	chip->rx = i;
	return true;
}

bool soft_rtl8139_receive(struct soft_rtl8139 *chip, const void *frame, size_t length)
{
	unsigned char whole[SOFT_RTL8139_FRAME] = {0};
	bool taken;

	assert_true(length <= sizeof(whole) - CRC);
	memcpy(whole, frame, length);
	memset(whole + length, 0xcc, CRC); /* nobody looks at it */
	pthread_mutex_lock(&chip->lock);
	taken = may_receive(chip) && is_for_me(chip, whole) && frame_put(chip, whole, length + CRC);
	if (taken) {
		chip->tally.rx_ok++;
		chip->tally.rx_ok_phy += !(whole[0] & 1);
		soft_rtl8139_raise_locked(chip, INT_ROK);
	}
	pthread_mutex_unlock(&chip->lock);
	return taken;
}

void soft_rtl8139_forge(struct soft_rtl8139 *chip, uint32_t status, const void *data, size_t size)
{
	unsigned char bytes[SOFT_RTL8139_FRAME];
	struct descriptor desc = {0};

	assert_true(size <= sizeof(bytes));
	pthread_mutex_lock(&chip->lock);
	if (!atomic_load(&chip->gone) && desc_read(chip, RDSAR, chip->rx, &desc)) {
		uint32_t end = le32toh(desc.opts1) & DESC_EOR;

		if (size) {
			memcpy(bytes, data, size);
			soft_rtl8139_access_locked(chip, buffer_of(chip, &desc), bytes, size, true);
		}
		desc_write_back(chip, RDSAR, chip->rx, status | end);
		chip->rx = rx_next(chip->rx, end);
	}
	pthread_mutex_unlock(&chip->lock);
}

/* ---- frames to send ---- */

static bool may_send(const struct soft_rtl8139 *chip)
{
	return !atomic_load(&chip->gone) && reg_get(chip, CR, 1) & CR_TE &&
	       reg_get(chip, CPCR, 2) & CPCR_TE;
}

/*
 * The next frame, from its descriptors, which are given back one by one. False: there is none. What the
 * descriptors say can't be believed either: a driver that is wrong is to be seen, and not to end the chip.
 */
static bool frame_take(struct soft_rtl8139 *chip, struct soft_rtl8139_frame *frame)
{
	frame->length = 0;
	frame->pieces = 0;
	while (frame->pieces < RING) {
		struct descriptor desc;
		uint32_t opts1;
		size_t size;

		if (!desc_read(chip, TNPDS, chip->tx, &desc))
			return false;
		opts1 = le32toh(desc.opts1);
		if (!(opts1 & DESC_OWN)) {
			soft_rtl8139_raise_locked(chip, INT_TDU);
			return false;
		}
		size = opts1 & 0xffff;
		if (size > sizeof(frame->data) - frame->length)
			size = sizeof(frame->data) - frame->length;
		memset(frame->data + frame->length, 0, size);
		soft_rtl8139_access_locked(chip, buffer_of(chip, &desc),
					   frame->data + frame->length, size, false);
		frame->length += size;
		frame->status = opts1;
		frame->pieces++;
		if (!chip->keeps_own)
			desc_write_back(chip, TNPDS, chip->tx,
					(opts1 & ~DESC_OWN) | chip->sent_status);
		chip->tx = tx_next(chip->tx, opts1);
		if (opts1 & DESC_LS)
			return true;
	}
	return false;
}

static void frame_keep(struct soft_rtl8139 *chip, const struct soft_rtl8139_frame *frame)
{
	pthread_mutex_lock(&chip->lock);
	if (chip->kept_count < SOFT_RTL8139_KEPT)
		chip->kept[chip->kept_count++] = *frame;
	pthread_mutex_unlock(&chip->lock);
}

/* At most a ring's worth. The lock is not held: the other end has one of its own. */
void soft_rtl8139_go(struct soft_rtl8139 *chip)
{
	struct soft_rtl8139_frame frame;

	for (unsigned int n = 0; n < RING; n++) {
		bool found;

		pthread_mutex_lock(&chip->lock);
		found = may_send(chip) && frame_take(chip, &frame);
		if (found) {
			chip->tally.tx_ok++;
			soft_rtl8139_raise_locked(chip, INT_TOK);
		}
		pthread_mutex_unlock(&chip->lock);
		if (!found)
			return;
		if (!chip->peer)
			frame_keep(chip, &frame);
		else if (frame.length <= SOFT_RTL8139_FRAME - CRC)
			soft_rtl8139_receive(chip->peer, frame.data, frame.length);
	}
}
