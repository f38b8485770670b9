/* SPDX-License-Identifier: MIT */
/*
 * soft.h - the device of the backend `soft:`: a programmable DMA engine in software, and its faults
 *
 * The engine copies and fills memory by dma addresses, in the thread that writes COMMAND or
 * DOORBELL: when the write returns, the command has ended. Each access goes through the domain's
 * address space, which knows what is mapped and for what; what is not allowed does not happen,
 * and is a fault. Told to, the engine misbehaves.
 *
 * It interrupts when a command or a list has ended: by MSI-X (8 vectors), MSI (4) or INTx, see
 * <dmaland/irq.h>. Messages are writes by the device, and don't come without bus mastering.
 *
 * It shows itself as a PCI function with these ids, which no real device has (pci.ids), of a class
 * that stands for none, and with one BAR, 0, of 4096 bytes. Registers and descriptors are little
 * endian. A register of 64 bits can be written in two halves, the low one first.
 */
#ifndef DMALAND_SOFT_H
#define DMALAND_SOFT_H

#include <dmaland/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DMALAND_SOFT_VENDOR 0xd3a0
#define DMALAND_SOFT_DEVICE 0x50f7
#define DMALAND_SOFT_CLASS  0xff0000

/* Offsets in BAR 0: width, and ro (read only), rw, or wo (write only, reads 0). */
enum dmaland_soft_register {
	DMALAND_SOFT_ID = 0x00,		 /* 32 ro: DMALAND_SOFT_ID_VALUE */
	DMALAND_SOFT_VERSION = 0x04,	 /* 32 ro: 1 */
	DMALAND_SOFT_STATUS = 0x08,	 /* 32 ro: how the last command ended */
	DMALAND_SOFT_FAULTS = 0x0c,	 /* 32 ro: faults since the device was opened */
	DMALAND_SOFT_SOURCE = 0x10,	 /* 64 rw: dma address that COPY reads */
	DMALAND_SOFT_DESTINATION = 0x18, /* 64 rw: dma address that COPY and FILL write */
	DMALAND_SOFT_LENGTH = 0x20,	 /* 32 rw: bytes, at least 1 */
	DMALAND_SOFT_PATTERN = 0x24,	 /* 32 rw: the byte that FILL writes */
	DMALAND_SOFT_COMMAND = 0x28,	 /* 32 rw: writing a command runs it */
	DMALAND_SOFT_MODE = 0x2c,	 /* 32 rw: how to misbehave; 0: not at all */
	DMALAND_SOFT_COUNT = 0x30,	 /* 32 rw: how much */
	DMALAND_SOFT_DOORBELL = 0x38,	 /* 64 wo: dma address of a list of descriptors: runs it */
	DMALAND_SOFT_DONE = 0x40,      /* 64 ro: bytes that the last command has copied or filled */
	DMALAND_SOFT_INTERRUPT = 0x48, /* 32 rw: a command's end is vector n - 1; 0: none */
	DMALAND_SOFT_HANDLED = 0x4c,   /* 32 wo: writing it ends INTx, which is a level */
};

#define DMALAND_SOFT_ID_VALUE 0x74666f73u /* "soft" */

enum dmaland_soft_command {
	DMALAND_SOFT_COPY = 1, /* from low to high, 4096 bytes at a time */
	DMALAND_SOFT_FILL = 2,
};

enum dmaland_soft_status {
	DMALAND_SOFT_OK = 0,
	DMALAND_SOFT_FAULT = 1,	    /* an access was not allowed: the command ended there */
	DMALAND_SOFT_INVALID = 2,   /* no such command, or 0 bytes */
	DMALAND_SOFT_NO_MASTER = 3, /* bus mastering is off: nothing was done */
};

/*
 * One of a list that DOORBELL runs, in order, up to the first that fails. Any number of threads
 * may ring at the same time: one list runs after the other.
 */
struct dmaland_soft_descriptor {
	uint64_t source; /* for FILL: the byte */
	uint64_t destination;
	uint32_t length;
	uint32_t control; /* the command, and DMALAND_SOFT_LAST, DMALAND_SOFT_WRITE_BACK */
	uint32_t status;  /* written back: DMALAND_SOFT_ENDED | enum dmaland_soft_status */
	uint32_t reserved;
};

#define DMALAND_SOFT_LAST	0x100u /* the list ends here */
#define DMALAND_SOFT_WRITE_BACK 0x200u /* write the status back into the descriptor */
#define DMALAND_SOFT_ENDED	0x80000000u

/*
 * Bits of MODE. What misbehaviour writes changes no status; what the address space stops of it
 * is a fault as any other.
 */
enum dmaland_soft_mode {
	/* COUNT bytes DMALAND_SOFT_GARBAGE more are written, behind the destination's end. */
	DMALAND_SOFT_OVERRUN = 1,
	/* After a copy its source is overwritten with DMALAND_SOFT_GARBAGE. */
	DMALAND_SOFT_WRITE_SOURCE = 2,
	/*
	 * The last piece of a copy or fill, 4096 bytes or fewer, is reported as written but comes
	 * only at the beginning of the next, whatever is mapped there then, and whatever MODE is.
	 */
	DMALAND_SOFT_LATE = 4,
	/* COUNT writes of 1 to 64 random bytes each, all over what is mapped, after the transfer. */
	DMALAND_SOFT_RANDOM = 8,
	/* The device is gone: it reads all ones and does nothing any more. */
	DMALAND_SOFT_VANISH = 16,
};

#define DMALAND_SOFT_GARBAGE 0xee

/*
 * With reserved=0xFIRST-0xLAST in the spec the device can't use these dma addresses, and nobody in its
 * domain does: with options.share_with it is refused where something is mapped there.
 *
 * With coherent=no in the spec, mapped memory has a copy that the device sees; until the first sync
 * it holds this byte. That goes for streaming mappings of all memory, also of pools and coherent memory.
 * What dma_sync_*_for_cpu() has given to the CPU is out of the device's reach, byte by byte, until
 * dma_sync_*_for_device() gives it back, or the mapping ends: also where the CPU has but read it
 * (DMA_FROM_DEVICE). Bytes that several mappings have at one dma address, being registered, are left alone.
 */
#define DMALAND_SOFT_POISON 0xdb

enum dmaland_soft_reason {
	DMALAND_SOFT_NOT_MAPPED = 1, /* nothing is mapped where the access begins */
	DMALAND_SOFT_END = 2,	     /* it ran over the end of what is mapped */
	DMALAND_SOFT_DIRECTION = 3,  /* mapped, but not for reading, or not for writing */
	DMALAND_SOFT_GONE = 4,	     /* mapped, but the memory itself was unmapped or protected */
	DMALAND_SOFT_CPU = 5, /* synced for the CPU, and not for the device again (coherent=no) */
};

enum dmaland_soft_kind {
	DMALAND_SOFT_NOBODY = 0,  /* never mapped, or too long ago */
	DMALAND_SOFT_ARENA = 1,	  /* memory for dma_alloc_coherent() and pools */
	DMALAND_SOFT_MAPPING = 2, /* memory of the application */
};

/**
 * struct dmaland_soft_fault - an access of the device that the address space did not allow
 * @address:  the first dma address that could not be reached
 * @length:   bytes from there to the end of what the device wanted
 * @write:    the device wanted to write
 * @reason:   what was wrong
 * @kind:     who has the address mapped, or had it last; for DMALAND_SOFT_END: whose end it was; for
 *            DMALAND_SOFT_CPU the streaming mapping, however small
 * @first:    where that mapping begins, as a dma address
 * @size:     its bytes
 * @memory:   where it lies or lay for the CPU
 * @readable: the device may, or might, read it
 * @writable: and write it
 * @unmapped: it has ended
 */
struct dmaland_soft_fault {
	dma_addr_t address;
	uint64_t length;
	bool write;
	enum dmaland_soft_reason reason;
	enum dmaland_soft_kind kind;
	dma_addr_t first;
	uint64_t size;
	const void *memory;
	bool readable, writable, unmapped;
};

/**
 * dmaland_soft_faults() - what the device did that it may not
 * @dev:    a device of the backend `soft:`
 * @faults: where the latest go, oldest first; may be NULL when @n is 0
 * @n:      for how many there is room; 256 are kept
 *
 * Each of the first 16 is also a line in the log. Who had an address mapped is known of the last
 * 1024 mappings that ended.
 *
 * Context: any thread, no signal handler.
 * Return: how many faults there were since the device was opened, also when more than fit; 0 with
 * errno EOPNOTSUPP when the device is of another backend, or EPERM in a child after fork().
 */
size_t dmaland_soft_faults(struct dmaland_device *dev, struct dmaland_soft_fault *faults, size_t n);

#ifdef __cplusplus
}
#endif

#endif
