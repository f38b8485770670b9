/* SPDX-License-Identifier: MIT */
/*
 * nvme_stand.h - a controller opened on the drive of soft_nvme.h, a queue, and requests to it
 *
 * A test that is registered by on_a_drive() begins with them, and ends with the controller closed and
 * nothing left mapped, and with nothing touched by the drive that was not its own.
 */
#ifndef TESTS_UNIT_NVME_STAND_H
#define TESTS_UNIT_NVME_STAND_H

#include "soft_nvme.h"

enum {
	COMMAND_MS = 80, /* see command_ms() */
	N = 6,		 /* requests */
	SIZE = 128 << 10,
	BLOCKS = SIZE / SOFT_NVME_BLOCK, /* of each */
	UNTOUCHED = 1000,
};

/* Of a command; an Abort has half of it. */
static inline unsigned int command_ms(void)
{
	return patience(COMMAND_MS);
}

#define on_a_drive(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

extern struct soft_nvme drive;
extern struct dmaland_device *dev;
extern struct dmaland_nvme *ctrl;
extern struct dmaland_nvme_queue *queue;

int set_up(void **state);
int tear_down(void **state);

/* What they do, for tests that need several drives, or other time-outs. */
void begin(unsigned int timeout_ms, unsigned int abort_ms);
void begin_on_device(unsigned int timeout_ms, unsigned int abort_ms); /* dev is open */
void end(void);
struct dmaland_nvme *open_controller(unsigned int timeout_ms, unsigned int abort_ms);

struct dmaland_nvme_stats stats(void);

/* Requests of one command each, in memory that is mapped for them alone. */
extern struct dmaland_nvme_request requests[N];
extern struct iovec iov[N];
extern int status[N];
extern unsigned int answers[N], answered;
extern char *memory[N];

void on_answer(struct dmaland_nvme_request *request, int result);
void submit(uint8_t opcode);
void finish(void);	 /* each is answered once, and what was read is right */
void expect(int wanted); /* the same, with this result for all */
void all_is_well(void);	 /* writes and reads, as if nothing had happened */

/* The drive's verdict on the next n commands, see soft_nvme.h; times: how many of them are left. */
void judge(int verdict, unsigned int n);
extern unsigned int times;

#endif
