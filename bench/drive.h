/* SPDX-License-Identifier: MIT */
/*
 * drive.h - contestants that read and write a drive: this project's driver, and the kernel's through io_uring
 *
 * Each is written as a good user would write it, for one thread: what can be prepared, registered
 * or polled, is. Whatever fails ends the program with a sentence.
 */
#ifndef BENCH_DRIVE_H
#define BENCH_DRIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DRIVE_DEPTH	32		/* at most in flight */
#define DRIVE_IO_MAX	((size_t)65536) /* bytes of one */
#define DRIVE_ALL_BYTES (DRIVE_DEPTH * DRIVE_IO_MAX)

struct drive_io {
	char *data; /* in the buffers that open() was given */
	uint64_t offset;
	uint32_t bytes;
	bool write;
};

struct contestant {
	const char *row; /* in names of rows */
	bool sleeps;	 /* until all have completed; else it polls */

	/* drive: a spec of dmaland's, or a block device; buffers: DRIVE_ALL_BYTES for data */
	void *(*open)(const char *drive, char *buffers);
	void (*close)(void *contestant);

	/* With none in flight; it may keep some until reap(). */
	void (*submit)(void *contestant, const struct drive_io *ios, unsigned int count);

	/*
	 * How many have completed since the last call; count are in flight. One that polls looks once;
	 * one that sleeps returns with all.
	 */
	unsigned int (*reap)(void *contestant, unsigned int count);
};

extern const struct contestant drive_ours; /* polled, memory that was registered */
extern const struct contestant drive_ours_irq;
extern const struct contestant drive_ours_prepared;
extern const struct contestant drive_ours_plain; /* any memory */
extern const struct contestant drive_io_uring;	 /* polled */
extern const struct contestant drive_io_uring_irq;

#endif
