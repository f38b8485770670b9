/* SPDX-License-Identifier: MIT */
/*
 * soft_rtl8139.c - the card in software: registers, interrupts and the function on the bus
 */
#include "soft_rtl8139_parts.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "device/device.h"

static struct soft_rtl8139 *to_chip(struct pci_function *f)
{
	return (struct soft_rtl8139 *)f;
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

void soft_rtl8139_raise_locked(struct soft_rtl8139 *chip, uint16_t what)
{
	reg_put(chip, ISR, 2, reg_get(chip, ISR, 2) | what);
	line_update(chip);
}

void soft_rtl8139_raise(struct soft_rtl8139 *chip, uint16_t what)
{
	pthread_mutex_lock(&chip->lock);
	soft_rtl8139_raise_locked(chip, what);
	pthread_mutex_unlock(&chip->lock);
}

/* ---- registers ---- */

uint64_t soft_rtl8139_register(struct soft_rtl8139 *chip, unsigned int reg, unsigned int width)
{
	uint64_t value;

	pthread_mutex_lock(&chip->lock);
	value = reg_get(chip, reg, width);
	pthread_mutex_unlock(&chip->lock);
	return value;
}

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
	soft_rtl8139_access_locked(chip, reg_get(chip, DTCCR, 8) & ~UINT64_C(63), &out, sizeof(out),
				   true);
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
		soft_rtl8139_go(chip);
}

void soft_rtl8139_vanish(struct soft_rtl8139 *chip)
{
	pthread_mutex_lock(&chip->lock);
	atomic_store(&chip->gone, true);
	pthread_mutex_unlock(&chip->lock);
	eventfd_write(chip->f.event_fd, 1);
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
