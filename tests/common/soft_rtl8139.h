/* SPDX-License-Identifier: MIT */
/*
 * soft_rtl8139.h - an RTL8139C+ of a few lines, that does what QEMU's can't be told to do
 *
 * It stands in for the engine of a `soft:` device, and reaches memory through the domain of that, so that
 * what the driver has not mapped, or has unmapped, can't be touched: soft_rtl8139.faults counts. It
 * sends in the thread that writes TPPOLL, and receives in the thread that calls soft_rtl8139_receive().
 * What it sends goes to the other end of its cable, or is kept for the test to look at.
 */
#ifndef TESTS_COMMON_SOFT_RTL8139_H
#define TESTS_COMMON_SOFT_RTL8139_H

#include "test.h"

#include <pthread.h>
#include <stdatomic.h>

#include "backend/soft.h"
#include "chip.h"

enum {
	SOFT_RTL8139_FRAME = 4096, /* bytes of the longest that it handles */
	SOFT_RTL8139_KEPT = 128,
};

struct soft_rtl8139_frame {
	size_t length;
	unsigned int pieces; /* descriptors */
	uint32_t status;     /* of the last descriptor, as it was found */
	unsigned char data[SOFT_RTL8139_FRAME];
};

struct soft_rtl8139 {
	struct pci_function f;
	struct pci_function *engine; /* whose configuration space, interrupt and domain it uses */
	pthread_mutex_t lock;
	unsigned char regs[REGISTERS];
	unsigned int rx, tx;	   /* the next descriptors */
	struct soft_rtl8139 *peer; /* at the other end of the cable; NULL: frames are kept */
	struct tally tally;	   /* of the CPU's byte order */

	/* how it behaves */
	uint32_t ids;
	uint8_t revision;
	atomic_bool gone;     /* all ones from now on */
	bool never_resets;    /* CR.RST stays */
	bool never_tallies;   /* DTCCR.CMD stays */
	bool holds;	      /* sends nothing before soft_rtl8139_go() */
	uint32_t sent_status; /* bits of descriptors that were sent */
	bool keeps_own;	      /* never gives a descriptor of a frame to send back */

	/* what it saw; read with the lock, or when nobody uses it */
	unsigned int faults;		 /* accesses that the domain did not allow */
	struct dmaland_soft_fault fault; /* the last of them */
	unsigned int no_master;		 /* accesses without bus mastering */
	unsigned int resets, polls, isr_writes;
	struct soft_rtl8139_frame kept[SOFT_RTL8139_KEPT]; /* frames that were sent, oldest first */
	unsigned int kept_count;
};

/* A device that is the card, of a spec of `soft:`; dmaland_close() ends it, then soft_rtl8139_free(). */
struct dmaland_device *soft_rtl8139_open(struct soft_rtl8139 *chip, const char *spec);
struct dmaland_device *soft_rtl8139_open_with(struct soft_rtl8139 *chip, const char *spec,
					      const struct dmaland_options *options);
void soft_rtl8139_free(struct soft_rtl8139 *chip);

/*
 * A frame without its CRC comes over the cable. It is taken or not as the filter says, and fills as many
 * descriptors as it needs. True: it was taken.
 */
bool soft_rtl8139_receive(struct soft_rtl8139 *chip, const void *frame, size_t length);

/*
 * Forge what the next descriptor of received frames says: @status as it stands there, but for the ring's end, after
 * @size bytes at its buffer, whosever the descriptor is. With DESC_OWN in @status it is never given back.
 */
void soft_rtl8139_forge(struct soft_rtl8139 *chip, uint32_t status, const void *data, size_t size);

/* Send what waits, however it holds. */
void soft_rtl8139_go(struct soft_rtl8139 *chip);

/* The card is pulled: after this it neither answers nor does anything. */
void soft_rtl8139_vanish(struct soft_rtl8139 *chip);

/* Interrupt for these bits of ISR. */
void soft_rtl8139_raise(struct soft_rtl8139 *chip, uint16_t what);

/* An access of the chip's own accord. True: all of it was allowed. */
bool soft_rtl8139_access(struct soft_rtl8139 *chip, dma_addr_t dma, void *data, size_t size,
			 bool write);

/* A register of up to 64 bits, as the driver left it. */
uint64_t soft_rtl8139_register(struct soft_rtl8139 *chip, unsigned int reg, unsigned int width);

#endif
