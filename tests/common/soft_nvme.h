/* SPDX-License-Identifier: MIT */
/*
 * soft_nvme.h - an NVMe controller of a few lines, that does what QEMU's can't be told to do
 *
 * It stands in for the engine of a `soft:` device, and reaches memory through the domain of that, so that
 * what the driver has not mapped, or has unmapped, can't be touched: soft_nvme.faults counts. It
 * works in the thread that rings a doorbell. A command of an I/O queue is carried out, held back or
 * failed as `verdict` says. Held ones are ended by an Abort, if `aborts` is set, or by the end of their queue, and touch their
 * memory until then.
 */
#ifndef TESTS_COMMON_SOFT_NVME_H
#define TESTS_COMMON_SOFT_NVME_H

#include "test.h"

#include <pthread.h>
#include <stdatomic.h>

#include "backend/soft.h"
#include "nvme_internal.h"

enum {
	SOFT_NVME_QUEUES = 8, /* of I/O */
	SOFT_NVME_BLOCKS = 4096,
	SOFT_NVME_BLOCK = 512,
	SOFT_NVME_HELD = 256,
	SOFT_NVME_REPORTS = 4, /* Asynchronous Event Requests that it takes */
	/* verdicts beside a status word, whose bits are those of a completion's status above the phase */
	SOFT_NVME_CARRY_OUT = 0,
	SOFT_NVME_HOLD = -1,
	SOFT_NVME_TWICE = -2,	   /* carry out, complete twice */
	SOFT_NVME_FORGED = -3,	   /* carry out, after completions that nobody asked for */
	SOFT_NVME_REPLAY = -4,	   /* carry out, after a failure of the command before */
	SOFT_NVME_NOTHING = -5,	   /* success, and not a byte is moved */
	SOFT_NVME_ANSWERED = -6,   /* an Identify, with what answer() has made */
	SOFT_NVME_AGAIN = 1 << 15, /* complete with that status twice */
	SOFT_NVME_DNR = 1 << 14,
	SOFT_NVME_MORE = 1 << 13,
};

struct soft_nvme_queue {
	bool sq_made, cq_made;
	uint64_t sq, cq;
	uint32_t sq_size, cq_size;
	uint32_t sq_head, sq_tail, cq_tail, phase;
};

struct soft_nvme {
	struct pci_function f;
	struct pci_function *engine; /* whose configuration space and domain it uses */
	pthread_mutex_t lock;
	uint32_t cc, csts, aqa;
	uint64_t asq, acq;
	struct soft_nvme_queue queues[SOFT_NVME_QUEUES + 1];
	struct {
		uint16_t qid;
		struct nvme_command command;
	} held[SOFT_NVME_HELD];
	unsigned int held_count;
	struct nvme_command reports[SOFT_NVME_REPORTS];
	unsigned int report_count;
	unsigned char
		*media; /* SOFT_NVME_BLOCKS of SOFT_NVME_BLOCK bytes, whatever blocks it claims */

	/* how it behaves; set while nobody else uses it */
	int (*verdict)(struct soft_nvme *drive, const struct nvme_command *command);
	/* A status of an admin command, or 0; @data: 4 KiB that an Identify answers, to be changed, else NULL. */
	int (*answer)(struct soft_nvme *drive, const struct nvme_command *command,
		      unsigned char *data);
	void *context;
	bool aborts;	       /* Abort ends held commands ... */
	int abort_status;      /* ... with this; 0x007 */
	bool never_ready;      /* CC.EN does nothing */
	bool fatal_when_ready; /* CC.EN leads to CSTS.CFS */
	atomic_bool gone;      /* all ones from now on */
	int silent_admin;      /* the admin opcode that is never answered; -1: none */
	bool keeps_half;       /* refuses Create I/O Submission and Delete I/O Completion Queue */
	bool keeps_format; /* a format goes on, and nothing else, until soft_nvme_end_format() */
	uint64_t blocks;   /* it claims; SOFT_NVME_BLOCKS ... */
	uint8_t lba_shift; /* ... of this size; 9 */
	uint16_t metadata;
	uint32_t changed[8]; /* namespaces, for the log page */
	bool lacks_reports;  /* refuses Asynchronous Event Request */
	uint32_t babbles;    /* completes each of them at once, as this event; 0: it does not */
	uint32_t rtd3e;	     /* how long it says a shutdown takes, in us */
	bool never_shuts_down;
	unsigned int shutdown_looks; /* at CSTS, until it has shut down */
	bool tells_discards;	     /* NPDG and NPDA, which count from 0 */
	uint16_t npdg, npda;
	uint32_t sgls;	     /* SGLS */
	bool offers_shadows; /* shadow doorbells: OACS bit 8 */
	/* What it writes as an event, whose honest value is given; NULL: that. */
	uint32_t (*event)(struct soft_nvme *drive, uint32_t honest);
	uint32_t class_code;
	uint64_t cap;		 /* MQES 63, CQR, TO 500 ms, NVM command set */
	uint16_t queues_claimed; /* SOFT_NVME_QUEUES */
	uint32_t answer_dw0;	 /* of completions of I/O */
	uint8_t entry_sizes[2];	 /* SQES, CQES */

	atomic_bool formatting;
	struct nvme_command format;
	uint64_t shadows, events; /* dma addresses; 0: none */

	/* what it saw; read with the lock, or when nobody uses it */
	unsigned int faults; /* accesses that the domain did not allow */
	unsigned int commands, aborted, enables;
	unsigned int sgls_used;	   /* commands with an SGL */
	unsigned int status_reads; /* of CSTS */
	unsigned int doorbells;	   /* of I/O queues that were rung: of submission ... */
	unsigned int cq_doorbells; /* ... and of completion */
	unsigned int shadows_told; /* Doorbell Buffer Config */
	bool shadows_old;	   /* the admin queue had something in the buffers then */
	unsigned int reports_asked, identified; /* requests to report; Identify Namespace */
	unsigned int logs_read[256];		/* by page */
	unsigned int
		cut_off; /* I/O commands that it had when CC.EN was cleared; QEMU 7.2 dies of them */
	uint64_t error_block; /* in the error log */
	uint16_t error_cid, error_qid, last_cid;
};

/* A device that is the drive, of `soft:` with options of its own or without; dmaland_close() ends it, then soft_nvme_free(). */
struct dmaland_device *soft_nvme_open(struct soft_nvme *drive);
struct dmaland_device *soft_nvme_open_on(struct soft_nvme *drive, const char *spec);
void soft_nvme_free(struct soft_nvme *drive);

/* From a verdict: memory, as the drive reads it. Returns how much of it could be read. */
size_t soft_nvme_look(struct soft_nvme *drive, uint64_t dma, void *data, size_t size);

/* Report an event, whose type, information and log page are in dword 0 of the completion. False: nobody asked. */
bool soft_nvme_report(struct soft_nvme *drive, uint32_t dw0);

/* It looks at the shadow doorbells, as a drive may at any time. */
void soft_nvme_look_at_shadows(struct soft_nvme *drive);

/* Somebody else formats the namespace. */
void soft_nvme_become(struct soft_nvme *drive, uint8_t lba_shift, uint64_t blocks);

/* End a format that goes on, and take up what has come meanwhile. */
void soft_nvme_end_format(struct soft_nvme *drive);

#endif
