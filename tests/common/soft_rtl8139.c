/* SPDX-License-Identifier: MIT */
/*
 * soft_rtl8139.c - the card in software: rings, registers and the function on the bus
 */
#include "soft_rtl8139.h"

#include <endian.h>
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "device/device.h"

static struct soft_rtl8139 *to_chip(struct pci_function *f)
{
	return (struct soft_rtl8139 *)f;
}

/* The chip's lock is held, here and below, where nothing else is said. */
static uint64_t reg_get(const struct soft_rtl8139 *chip, unsigned int reg, unsigned int width)
{
	uint64_t value = 0;

	memcpy(&value, chip->regs + reg, width);
	return le64toh(value);
}

static void reg_put(struct soft_rtl8139 *chip, unsigned int reg, unsigned int width, uint64_t value)
{
	value = htole64(value);
	memcpy(chip->regs + reg, &value, width);
}

/* ---- memory ---- */

static bool may_master(struct soft_rtl8139 *chip)
{
	uint32_t command = 0;

	return !chip->engine->ops->config_read(chip->engine, PCI_COMMAND, 2, &command) &&
	       command & PCI_COMMAND_MASTER;
}

static bool chip_access(struct soft_rtl8139 *chip, dma_addr_t dma, void *data, size_t size,
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
	if (write && chip->may_write && !chip->may_write(dma, size)) {
		chip->lost++;
		return false;
	}
	if (soft_domain_access(sd, &access, &fault) == size)
		return true;
	chip->faults++;
	return false;
}

bool soft_rtl8139_access(struct soft_rtl8139 *chip, dma_addr_t dma, void *data, size_t size,
			 bool write)
{
	bool done;

	pthread_mutex_lock(&chip->lock);
	done = !atomic_load(&chip->gone) && chip_access(chip, dma, data, size, write);
	pthread_mutex_unlock(&chip->lock);
	return done;
}

uint64_t soft_rtl8139_register(struct soft_rtl8139 *chip, unsigned int reg, unsigned int width)
{
	uint64_t value;

	pthread_mutex_lock(&chip->lock);
	value = reg_get(chip, reg, width);
	pthread_mutex_unlock(&chip->lock);
	return value;
}

/* ---- interrupts: a level ---- */

static void line_update(struct soft_rtl8139 *chip)
{
	struct soft_function *sf = to_soft_function(chip->engine);

	pthread_mutex_lock(&sf->lock);
	if (reg_get(chip, ISR, 2) & reg_get(chip, IMR, 2))
		soft_irq_raise(sf, 0);
	else
		soft_irq_handled(sf);
	pthread_mutex_unlock(&sf->lock);
}

static void raise_bits(struct soft_rtl8139 *chip, uint16_t what)
{
	reg_put(chip, ISR, 2, reg_get(chip, ISR, 2) | what);
	line_update(chip);
}

void soft_rtl8139_raise(struct soft_rtl8139 *chip, uint16_t what)
{
	pthread_mutex_lock(&chip->lock);
	raise_bits(chip, what);
	pthread_mutex_unlock(&chip->lock);
}

/* ---- descriptors ---- */

/* Not of a chip that has no ring. */
static bool desc_read(struct soft_rtl8139 *chip, unsigned int ring, unsigned int i,
		      struct descriptor *desc)
{
	uint64_t base = reg_get(chip, ring, 8) & ~(uint64_t)(RING_ALIGN - 1);

	return base && chip_access(chip, base + i * sizeof(*desc), desc, sizeof(*desc), false);
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

	chip_access(chip, base + i * sizeof(struct descriptor), &opts1, sizeof(opts1), true);
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
			raise_bits(chip, INT_RXOVW);
			return false;
		}
		if (size > length - done)
			size = length - done;
		memcpy(piece, frame + done, size);
		chip_access(chip, buffer_of(chip, &desc), piece, size, true);
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
		raise_bits(chip, INT_ROK);
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
			chip_access(chip, buffer_of(chip, &desc), bytes, size, true);
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
			raise_bits(chip, INT_TDU);
			return false;
		}
		size = opts1 & 0xffff;
		if (size > sizeof(frame->data) - frame->length)
			size = sizeof(frame->data) - frame->length;
		memset(frame->data + frame->length, 0, size);
		chip_access(chip, buffer_of(chip, &desc), frame->data + frame->length, size, false);
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
static void frames_send(struct soft_rtl8139 *chip)
{
	struct soft_rtl8139_frame frame;

	for (unsigned int n = 0; n < RING; n++) {
		bool found;

		pthread_mutex_lock(&chip->lock);
		found = may_send(chip) && frame_take(chip, &frame);
		if (found) {
			chip->tally.tx_ok++;
			raise_bits(chip, INT_TOK);
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

void soft_rtl8139_go(struct soft_rtl8139 *chip)
{
	frames_send(chip);
}

void soft_rtl8139_vanish(struct soft_rtl8139 *chip)
{
	pthread_mutex_lock(&chip->lock);
	atomic_store(&chip->gone, true);
	pthread_mutex_unlock(&chip->lock);
	eventfd_write(chip->f.event_fd, 1);
}

/* ---- registers ---- */

/* It forgets all but its address. */
static void chip_reset(struct soft_rtl8139 *chip)
{
	unsigned char address[6];

	memcpy(address, chip->regs + IDR0, sizeof(address));
	memset(chip->regs, 0, sizeof(chip->regs));
	memcpy(chip->regs + IDR0, address, sizeof(address));
	chip->rx = chip->tx = 0;
	chip->resets++;
	line_update(chip);
}

static void tally_write(struct soft_rtl8139 *chip)
{
	const struct tally *t = &chip->tally;
	struct tally out = {
		.tx_ok = htole64(t->tx_ok),
		.rx_ok = htole64(t->rx_ok),
		.tx_er = htole64(t->tx_er),
		.rx_er = htole32(t->rx_er),
		.miss_pkt = htole16(t->miss_pkt),
		.fae = htole16(t->fae),
		.tx_1_col = htole32(t->tx_1_col),
		.tx_m_col = htole32(t->tx_m_col),
		.rx_ok_phy = htole64(t->rx_ok_phy),
		.rx_ok_brd = htole64(t->rx_ok_brd),
		.rx_ok_mul = htole32(t->rx_ok_mul),
		.tx_abt = htole16(t->tx_abt),
		.tx_undrn = htole16(t->tx_undrn),
	};

	if (chip->never_tallies)
		return;
	chip_access(chip, reg_get(chip, DTCCR, 8) & ~UINT64_C(63), &out, sizeof(out), true);
	reg_put(chip, DTCCR, 4, reg_get(chip, DTCCR, 4) & ~(uint64_t)DTCCR_CMD);
}

static bool in(uint64_t offset, unsigned int reg, unsigned int size)
{
	return offset >= reg && offset < reg + size;
}

/* What is locked stays as it is: the address by 9346CR, those of rings before C+ mode. */
static bool is_writable(const struct soft_rtl8139 *chip, uint64_t offset, unsigned int width)
{
	if (in(offset, IDR0, 8))
		return width == 4 && reg_get(chip, EECR, 1) == EECR_CONFIG;
	if (in(offset, TNPDS, 16) || in(offset, RDSAR, 8))
		return reg_get(chip, CPCR, 2) & (CPCR_RE | CPCR_TE);
	return offset != MSR;
}

static void chip_write(struct soft_rtl8139 *chip, uint64_t offset, unsigned int width,
		       uint64_t value)
{
	if (offset == ISR) {
		reg_put(chip, ISR, 2, reg_get(chip, ISR, 2) & ~value);
		chip->isr_writes++;
		line_update(chip);
		return;
	}
	if (offset == TPPOLL) {
		chip->polls++;
		return;
	}
	if (!is_writable(chip, offset, width))
		return;
	reg_put(chip, (unsigned int)offset, width, value);
	if (offset == CR && value & CR_RST && !chip->never_resets)
		chip_reset(chip);
	else if (offset == DTCCR && value & DTCCR_CMD)
		tally_write(chip);
	else if (offset == IMR)
		line_update(chip);
}

static uint64_t soft_rtl8139_read(struct pci_function *f, unsigned int bar, uint64_t offset,
				  unsigned int width)
{
	struct soft_rtl8139 *chip = to_chip(f);
	uint64_t value = UINT64_MAX;

	if (atomic_load(&chip->gone) || bar != 1 || offset > REGISTERS - width)
		return value;
	pthread_mutex_lock(&chip->lock);
	value = reg_get(chip, (unsigned int)offset, width);
	pthread_mutex_unlock(&chip->lock);
	return value;
}

static void soft_rtl8139_write(struct pci_function *f, unsigned int bar, uint64_t offset,
			       unsigned int width, uint64_t value)
{
	struct soft_rtl8139 *chip = to_chip(f);
	bool sends;

	if (atomic_load(&chip->gone) || bar != 1 || offset > REGISTERS - width)
		return;
	pthread_mutex_lock(&chip->lock);
	chip_write(chip, offset, width, value);
	sends = offset == TPPOLL && value & TPPOLL_NPQ && !chip->holds;
	pthread_mutex_unlock(&chip->lock);
	if (sends)
		frames_send(chip);
}

/* ---- the function: the engine's, but for its ids, registers and reset; INTx alone ---- */

static int soft_rtl8139_config_read(struct pci_function *f, unsigned int where, unsigned int width,
				    uint32_t *value)
{
	struct soft_rtl8139 *chip = to_chip(f);
	int err;

	if (atomic_load(&chip->gone)) {
		*value = UINT32_MAX;
		return dmaland_set_error(ENODEV, "%s is gone", f->name);
	}
	err = chip->engine->ops->config_read(chip->engine, where, width, value);
	if (where == PCI_VENDOR_ID && width == 4)
		*value = chip->ids;
	if (where == PCI_REVISION_ID && width == 1)
		*value = chip->revision;
	return err;
}

static int soft_rtl8139_config_write(struct pci_function *f, unsigned int where, unsigned int width,
				     uint32_t value)
{
	struct soft_rtl8139 *chip = to_chip(f);

	if (atomic_load(&chip->gone))
		return dmaland_set_error(ENODEV, "%s is gone", f->name);
	return chip->engine->ops->config_write(chip->engine, where, width, value);
}

static int soft_rtl8139_bar(struct pci_function *f, unsigned int bar, uint64_t *size, void **direct)
{
	(void)f;
	*size = bar == 1 ? REGISTERS : 0;
	*direct = NULL;
	return 0;
}

static int soft_rtl8139_reset(struct pci_function *f)
{
	struct soft_rtl8139 *chip = to_chip(f);

	pthread_mutex_lock(&chip->lock);
	chip_reset(chip);
	pthread_mutex_unlock(&chip->lock);
	return 0;
}

static unsigned int soft_rtl8139_irq_count(struct pci_function *f, unsigned int kind)
{
	(void)f;
	return kind == PCI_IRQ_INTX;
}

static int soft_rtl8139_irq_enable(struct pci_function *f, unsigned int kind, const int *fds,
				   unsigned int *n)
{
	return soft_irq_enable(to_chip(f)->engine, kind, fds, n);
}

static void soft_rtl8139_irq_disable(struct pci_function *f, unsigned int kind)
{
	soft_irq_disable(to_chip(f)->engine, kind);
}

static int soft_rtl8139_irq_mask(struct pci_function *f, unsigned int kind, unsigned int vector,
				 bool masked)
{
	return soft_irq_mask(to_chip(f)->engine, kind, vector, masked);
}

static unsigned int soft_rtl8139_take_events(struct pci_function *f)
{
	eventfd_t count;

	return eventfd_read(f->event_fd, &count) == 0 ? DMALAND_EVENT_GONE : 0;
}

static bool soft_rtl8139_is_dead(struct pci_function *f)
{
	return atomic_load(&to_chip(f)->gone);
}

static void soft_rtl8139_close(struct pci_function *f)
{
	struct soft_rtl8139 *chip = to_chip(f);

	close(f->event_fd);
	chip->engine->ops->close(chip->engine);
}

static const struct pci_function_ops soft_rtl8139_ops = {
	.config_read = soft_rtl8139_config_read,
	.config_write = soft_rtl8139_config_write,
	.bar = soft_rtl8139_bar,
	.read = soft_rtl8139_read,
	.write = soft_rtl8139_write,
	.reset = soft_rtl8139_reset,
	.irq_count = soft_rtl8139_irq_count,
	.irq_enable = soft_rtl8139_irq_enable,
	.irq_disable = soft_rtl8139_irq_disable,
	.irq_mask = soft_rtl8139_irq_mask,
	.take_events = soft_rtl8139_take_events,
	.is_dead = soft_rtl8139_is_dead,
	.close = soft_rtl8139_close,
};

struct dmaland_device *soft_rtl8139_open_with(struct soft_rtl8139 *chip, const char *spec,
					      const struct dmaland_options *options)
{
	static const unsigned char address[6] = {0x52, 0x54, 0, 0, 0, 1};
	struct dmaland_device *dev = dmaland_open(spec, options);

	if (!dev) {
		fail_msg("%s", dmaland_last_error());
		return NULL;
	}
	memset(chip, 0, sizeof(*chip));
	pthread_mutex_init(&chip->lock, NULL);
	chip->ids = 0x813910ec;
	chip->revision = 0x20;
	memcpy(chip->regs + IDR0, address, sizeof(address));
	chip->engine = dev->function;
	chip->f.ops = &soft_rtl8139_ops;
	chip->f.domain = chip->engine->domain;
	chip->f.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	snprintf(chip->f.name, sizeof(chip->f.name), "soft:rtl8139");
	dev->function = &chip->f;
	return dev;
}

struct dmaland_device *soft_rtl8139_open(struct soft_rtl8139 *chip, const char *spec)
{
	return soft_rtl8139_open_with(chip, spec, NULL);
}

void soft_rtl8139_free(struct soft_rtl8139 *chip)
{
	pthread_mutex_destroy(&chip->lock);
}
