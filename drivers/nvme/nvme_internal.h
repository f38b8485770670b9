/* SPDX-License-Identifier: MIT */
/*
 * nvme_internal.h - what the files of the NVMe driver share
 *
 *   request.c   requests: checked, split into commands, answered
 *   recover.c   commands that fail or are late; queues that are made again
 *   prepare.c   requests that are prepared once and submitted many times
 *   command.c   the commands beside read and write
 *   raw.c       commands as the caller has them
 *   sync.c      requests that are waited for
 *   queue.c     queue pairs: rings, slots, doorbells
 *   ring.h      ... what each command goes through
 *   shadow.c    shadow doorbells
 *   irq.c       interrupts: queues that are waited for
 *   data.h      a command and its data: what the next three share
 *   map.c       from segments of memory to what the drive reaches: mapped, or copied
 *   prp.c       from that to PRPs
 *   sgl.c       from that to SGLs
 *   admin.c     commands of the admin queue
 *   namespace.c namespaces and their formats
 *   zoned.c     namespaces that are zoned
 *   change.c    namespaces that others change
 *   log.c       log pages
 *   event.c     what the drive reports unasked
 *   nvme.c      the controller: open, close
 *   control.c   its registers and its state: enable, reset, stop
 *   status.c    results in words
 *
 * A command in flight has a slot in its queue, a struct nvme_iod. All that the driver trusts (which
 * slots are taken, the blocks of a PRP list, what is mapped) lies there, in host memory; what
 * lies in DMA memory is written for the drive and never read back. Completions are copied out and
 * checked before they are believed.
 *
 * What the specification has stands in nvme_spec.h.
 */
#ifndef NVME_INTERNAL_H
#define NVME_INTERNAL_H

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include <dmaland/dmaland.h>
#include <dmaland/nvme.h>

#include "data.h"
#include "nvme_spec.h"

/* The driver's own choices. */
enum {
	NVME_MOST_PAGE = 65536, /* bytes of a controller page that mappings can be aligned to */
	NVME_ADMIN_DEPTH = 31,
	NVME_REPORTS = 4, /* slots of the admin queue that they may take */
	NVME_EVENTS = 64,
	NVME_POLLS_LOOK = 256, /* polls until the clock is looked at, see dmaland_nvme_poll() */
};

#define NVME_STALE UINT64_MAX /* what no request can ask for */

/* A namespace; written once, but for the first three, then only read, until the controller is closed. */
struct nvme_ns {
	_Atomic uint64_t current; /* its id, by which it is found; NVME_STALE: this is stale */
	atomic_bool formatted;	  /* by us, since then */
	bool told;		  /* the application goes by it; one for each id. With ctrl->lock */
	unsigned int block_shift;
	uint64_t max_blocks; /* of a transfer that needs no closer look: it is one command */
	uint32_t most, max_zeroes, max_verify; /* of one command */
	bool special;			       /* transfers are to be looked at, see request.c */
	bool zones_apart;		       /* a command that reads stays in a zone */
	uint64_t discard_unit;		       /* blocks; a discard is cut between two of them */
	struct dmaland_nvme_namespace info;
	struct nvme_ns *next;
};

static inline uint64_t nvme_ns_id(const struct nvme_ns *ns)
{
	return atomic_load_explicit(&ns->current, memory_order_relaxed);
}

/* See shadow.c. */
struct nvme_doorbell {
	volatile char __iomem *reg;
	volatile uint32_t *shadow;	/* NULL: it has none */
	const volatile uint32_t *event; /* the value to ring at; NULL: at each */
	uint32_t told;			/* the last value ... */
	bool unrung;			/* ... is in its shadow alone */
};

/*
 * A queue pair; the admin queue too. The rings have one entry more than there are slots, since a
 * full ring is one with a single entry free (NVMe 2.0, 3.3.1.4); so a ring never overflows.
 */
struct dmaland_nvme_queue {
	struct dmaland_nvme *ctrl;
	struct nvme_command *sq, *sq_next, *sq_end; /* ring; entry to fill next; its end */
	struct nvme_command *sq_rung;		    /* what sq_next was when the drive was told */
	const struct nvme_completion *cq_next, *cq_end; /* entry to take next; the ring's end */
	struct nvme_completion *cq;
	struct nvme_doorbell sq_doorbell, cq_doorbell;
	uint32_t depth, entries; /* slots; entries of each ring */
	uint16_t phase;		 /* of entries that are new */
	uint16_t qid;
	uint32_t sq_id;	    /* qid << 16, as it is in completions */
	uint32_t slot_mask; /* which bits of a cid are the slot */
	bool polling;	    /* inside dmaland_nvme_poll() */
	bool closing;	    /* takes no requests any more */
	bool nonsense;	    /* completions were ignored, and that was said */
	uint32_t state;	    /* of the controller, in which the queue can be used; 0: not now */
	uint32_t made;	    /* that in which the drive was told of it */
	uint32_t free_count;
	struct nvme_iod *free; /* slots, in a list */
	struct nvme_iod *iods;
	const struct nvme_ns *ns;	   /* the one asked for last, or nvme_no_ns */
	struct nvme_completion completion; /* that is looked at, or was last */
	struct dmaland_nvme_request *waiting,
		**waiting_end; /* not wholly submitted, oldest first */
	unsigned int finished; /* requests, in this poll */
	unsigned int polls;    /* since the clock was read, empty ones count more */
	uint64_t last_tick;    /* ms */
	bool quiet;	       /* nothing completed since then */
	bool unmask;	       /* the line is masked, and is to be unmasked */
	dma_addr_t sq_dma, cq_dma;
	size_t sq_bytes, cq_bytes;
	int vector; /* that it interrupts by; -1: it is polled */
	int fd;	    /* what is waited for then, see irq.c; -1 */
	struct dmaland_nvme_queue *next;
};

/* See prepare.c. Only the three atomic fields change. */
struct dmaland_nvme_prepared {
	struct nvme_command command; /* all but its identifier, block and control bits */
	struct dmaland_nvme *ctrl;
	_Atomic uint64_t starts; /* it may begin at blocks below this one; or else, look closer */
	uint64_t blocks;	 /* as it was in the request, and what follows */
	const struct iovec *iov;
	uint32_t nsid;
	uint8_t opcode;
	atomic_bool taken; /* from its submission until it is done; and by who takes it back */
	atomic_bool stale;
	bool syncs; /* the device sees a copy */
	const struct nvme_ns *ns;
	struct dmaland_nvme_request *request;
	uint32_t state;	     /* of the controller, in which it can be used */
	struct nvme_iod iod; /* holds the data; never in flight itself */
	struct dmaland_nvme_prepared *next;
};

static inline uint64_t nvme_prepared_starts(const struct dmaland_nvme_prepared *prepared)
{
	return atomic_load_explicit(&prepared->starts, memory_order_relaxed);
}

/* What a request goes by; NULL: a raw one. */
static inline const struct nvme_ns *nvme_request_ns(const struct dmaland_nvme_request *request)
{
	return request->prepared ? request->prepared->ns : request->driver.ns;
}

/* False when it is taken. */
static inline bool nvme_take_prepared(struct dmaland_nvme_prepared *prepared)
{
	return !atomic_exchange_explicit(&prepared->taken, true, memory_order_acquire);
}

/*
 * What the controller is in, see control.c. BUSY: a thread resets or stops it. STOPPED: the drive can't reach
 * memory any more. RUNAWAY: it could not be stopped; memory that it was given is not freed.
 */
enum nvme_service { NVME_LIVE, NVME_BUSY, NVME_STOPPED, NVME_RUNAWAY };

/* ctrl->state: how often it was reset, from 1, and that. Never 0. */
enum { NVME_SERVICE_MASK = 3, NVME_GENERATION = 4 };

/* See struct dmaland_nvme_stats. */
struct nvme_counters {
	_Atomic uint64_t repeated, aborts, remade, resets, ignored;
};

/* See shadow.c. */
struct nvme_shadows {
	char *doorbells, *events; /* NULL: there are none */
	dma_addr_t doorbells_dma, events_dma;
	size_t bytes;	  /* of each */
	atomic_bool used; /* the drive has been told of them */
};

struct dmaland_nvme {
	struct dmaland_device *dev;
	char __iomem *bar;
	uint64_t cap;
	uint32_t cc;
	unsigned int timeout_ms, abort_ms, queue_ms, reset_ms, shutdown_ms, format_ms;
	unsigned int tick_ms, patience; /* a command may be that many ticks old ... */
	unsigned int abort_patience;	/* ... and these, when it was to be aborted */
	size_t max_transfer;		/* what the options allow */
	bool no_sgls, shutdown_given;	/* options */
	struct nvme_prp_pools pools;
	struct dmaland_nvme_info info;
	uint16_t oncs;
	bool log_offsets, formats_all; /* LPA and FNA */
	bool offers_shadows;	       /* OACS */
	struct nvme_shadows shadows;
	size_t max_zeroes, max_verify; /* bytes of one command */
	uint32_t discard_ranges;       /* of one command ... */
	uint32_t discard_range_blocks; /* ... blocks in each ... */
	uint64_t discard_blocks;       /* ... and in all */

	_Atomic uint32_t state;
	int refuse, cancel; /* errno for new requests and for those in flight; valid with why ... */
	char why[400];	    /* ... from STOPPED or RUNAWAY on */
	bool enabled;	    /* pci_enable_device() is to be taken back */
	int queues_refused; /* status of Set Features, Number of Queues */
	bool opened;	    /* from then on it can be reset */
	uint32_t abort_limit;
	_Atomic uint32_t aborting;   /* Abort commands under way */
	atomic_bool admin_late;	     /* an admin command took too long since the last reset */
	_Atomic uint64_t held_until; /* see nvme_waited() */
	struct nvme_counters stats;
	int vectors;		/* interrupt vectors that the device has; 0: it has no interrupts */
	unsigned int irq_type;	/* their kind, PCI_IRQ_* */
	unsigned int irq_types; /* the kinds that may be */
	pthread_mutex_t line_lock; /* unmasking INTx */

	pthread_mutex_t lock; /* the admin queue, the list of queues */
	struct dmaland_nvme_queue *admin, *queues;
	struct dmaland_nvme_prepared *prepared;		     /* with lock */
	struct nvme_completion admin_done[NVME_ADMIN_DEPTH]; /* of each slot that is not busy */
	pthread_mutex_t format_lock;			     /* one at a time; taken before lock */
	pthread_mutex_t data_lock;			     /* data; taken before lock */
	void *data; /* of an admin command, one controller page or 4 KiB */
	dma_addr_t data_dma;
	size_t data_bytes;
	void *own_data; /* as much; of whoever leads a reset, and can't wait for the other */
	dma_addr_t own_data_dma;

	/* event.c; all with lock */
	struct nvme_iod *reports[NVME_REPORTS]; /* Asynchronous Event Requests that the drive has */
	unsigned int report_most;		/* so many it says it takes (AERL) ... */
	unsigned int report_limit;    /* ... and so many it does; 0: none. Anew at a reset */
	unsigned int report_failures; /* rounds that failed, one after the other ... */
	uint64_t report_again;	      /* ... and when to ask again, in ms */
	bool report_said;	      /* that one failed */
	uint32_t report_kinds;	      /* notices that it can send (OAES) */
	struct dmaland_nvme_event events[NVME_EVENTS]; /* a ring of those to be told */
	unsigned int first_event, event_count;
	uint64_t events_missed;
	_Atomic(struct nvme_ns *) namespaces;
	uint64_t formats; /* with lock; see namespace.c */
};

/* command.c: 0 or -errno with the error set */
const char *nvme_opcode_name(uint8_t opcode);
int nvme_refuse_range(const struct dmaland_nvme_request *request, const struct nvme_ns *ns);

static inline int nvme_check_range(const struct dmaland_nvme_request *request,
				   const struct nvme_ns *ns)
{
	bool inside = request->blocks - 1 < ns->info.blocks &&
		      request->block <= ns->info.blocks - request->blocks;

	return inside ? 0 : nvme_refuse_range(request, ns);
}

int nvme_check_command(struct dmaland_nvme *ctrl, const struct dmaland_nvme_request *request,
		       const struct nvme_ns *ns);
int nvme_setup_no_data(struct dmaland_nvme_queue *queue, struct nvme_iod *iod,
		       struct dmaland_nvme_request *request);
void nvme_fill_command(struct dmaland_nvme *ctrl, struct nvme_iod *iod,
		       struct nvme_command *command);

/* raw.c: 0 or -errno with the error set */
int nvme_check_raw(struct dmaland_nvme *ctrl, const struct dmaland_nvme_request *request);
int nvme_setup_raw(struct dmaland_nvme_queue *queue, struct nvme_iod *iod,
		   struct dmaland_nvme_request *request);
void nvme_fill_raw(const struct nvme_prp_pools *pools, struct nvme_iod *iod,
		   struct nvme_command *command);

/* Of an opcode that is known. */
static inline bool nvme_opcode_has_data(uint8_t opcode)
{
	enum {
		WITH_DATA = 1 << DMALAND_NVME_WRITE | 1 << DMALAND_NVME_READ |
			    1 << DMALAND_NVME_COMPARE,
	};

	return WITH_DATA >> opcode & 1;
}

static inline bool nvme_has_data(const struct dmaland_nvme_request *request)
{
	return nvme_opcode_has_data(request->opcode);
}

/* queue.c */
struct dmaland_nvme_queue *nvme_alloc_queue(struct dmaland_nvme *ctrl, uint16_t qid,
					    uint32_t depth);
void nvme_free_queue(struct dmaland_nvme_queue *queue);
void nvme_empty_rings(struct dmaland_nvme_queue *queue);
void nvme_reset_queue(struct dmaland_nvme_queue *queue);
void nvme_submit_cmd(struct dmaland_nvme_queue *queue, struct nvme_iod *iod,
		     const struct nvme_command *command);
void nvme_tell_sq(struct dmaland_nvme_queue *queue);
void nvme_ring_cq(struct dmaland_nvme_queue *queue);
void nvme_ignore_completion(struct dmaland_nvme_queue *queue,
			    const struct nvme_completion *completion);

/* shadow.c */
int nvme_setup_shadows(struct dmaland_nvme *ctrl);
int nvme_setup_shadows_again(struct dmaland_nvme *ctrl);
void nvme_forget_shadows(struct dmaland_nvme *ctrl);
void nvme_release_shadows(struct dmaland_nvme *ctrl);
void nvme_place_shadows(struct dmaland_nvme_queue *queue);
void nvme_ring_shadow(struct nvme_doorbell *doorbell, uint32_t told);
void nvme_ring_unrung(struct dmaland_nvme_queue *queue);

/* irq.c */
void nvme_setup_irqs(struct dmaland_nvme *ctrl);
void nvme_release_irqs(struct dmaland_nvme *ctrl);
void nvme_mask_irqs(struct dmaland_nvme *ctrl);
void nvme_unmask_queue(struct dmaland_nvme_queue *queue);
void nvme_unmask_line(struct dmaland_nvme_queue *queue);
int nvme_take_vector(struct dmaland_nvme_queue *queue);
void nvme_leave_vector(struct dmaland_nvme_queue *queue);

/* prepare.c */
int nvme_check_prepared(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request);
void nvme_sync_prepared(struct dmaland_nvme_prepared *prepared, bool for_device);
void nvme_make_prepared_stale(struct dmaland_nvme *ctrl, uint32_t nsid);
void nvme_free_prepared(struct dmaland_nvme *ctrl);

/* request.c */
int nvme_check_request(struct dmaland_nvme *ctrl, const struct dmaland_nvme_request *request,
		       const struct nvme_ns **ns);
unsigned int nvme_reap(struct dmaland_nvme_queue *queue);
void nvme_submit_waiting(struct dmaland_nvme_queue *queue);
void nvme_pop_waiting(struct dmaland_nvme_queue *queue);
void nvme_give_up_rest(struct dmaland_nvme_request *request, int status);
void nvme_fail_request(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request,
		       int status);

/* It is over. What a read that failed has left is not looked at. */
static inline void nvme_end_prepared(struct dmaland_nvme_prepared *prepared, int status)
{
	if (__builtin_expect(prepared->syncs, 0) && status == 0)
		nvme_sync_prepared(prepared, false);
	atomic_store_explicit(&prepared->taken, false, memory_order_release);
}

/* A request is over, which is prepared, or not (NULL). A prepared one may be another thread's before done() is called. */
static inline void nvme_finish(struct dmaland_nvme_queue *queue,
			       struct dmaland_nvme_request *request,
			       struct dmaland_nvme_prepared *prepared)
{
	void (*done)(struct dmaland_nvme_request * done, int status) = request->done;
	int status = request->driver.status;

	queue->finished++;
	if (prepared)
		nvme_end_prepared(prepared, status);
	done(request, status);
}

static inline void nvme_finish_request(struct dmaland_nvme_queue *queue,
				       struct dmaland_nvme_request *request)
{
	nvme_finish(queue, request, request->prepared);
}

/* recover.c */
int nvme_judge(struct dmaland_nvme_queue *queue, struct nvme_iod *iod,
	       const struct nvme_completion *completion);
void nvme_watch(struct dmaland_nvme_queue *queue);
void nvme_attend(struct dmaland_nvme_queue *queue);
int nvme_take_queue_back(struct dmaland_nvme_queue *queue);
void nvme_drain_queue(struct dmaland_nvme_queue *queue, uint64_t begin);
void nvme_cancel_queue(struct dmaland_nvme_queue *queue, int error);

/* admin.c: 0, a status above 0 with the error set, or -errno; result: NULL, or two dwords of the completion */
int nvme_admin(struct dmaland_nvme *ctrl, uint32_t state, struct nvme_command *command,
	       unsigned int timeout_ms, uint32_t *result);
int nvme_submit_sync_cmd(struct dmaland_nvme *ctrl, struct nvme_command *command,
			 unsigned int timeout_ms, uint32_t *result);
int nvme_fetch(struct dmaland_nvme *ctrl, struct nvme_command *command, void *data, size_t size);
int nvme_identify(struct dmaland_nvme *ctrl, unsigned int cns, uint32_t nsid, void *data);

/* Two that ask the same: the second is of whoever leads a reset. */
typedef int nvme_identify_fn(struct dmaland_nvme *ctrl, unsigned int cns, unsigned int command_set,
			     uint32_t nsid, void *data);
nvme_identify_fn nvme_identify_set, nvme_identify_alone;

int nvme_admin_alone(struct dmaland_nvme *ctrl, struct nvme_command *command,
		     unsigned int timeout_ms);
void nvme_reap_admin(struct dmaland_nvme *ctrl);
bool nvme_delete_queues(struct dmaland_nvme *ctrl, unsigned int ms);
int nvme_abort(struct dmaland_nvme_queue *queue, uint16_t cid);
int nvme_create_queue(struct dmaland_nvme_queue *queue, uint32_t state);
int nvme_delete_sq(struct dmaland_nvme_queue *queue);
int nvme_delete_cq(struct dmaland_nvme_queue *queue);
int nvme_identify_controller(struct dmaland_nvme *ctrl);
int nvme_set_queue_count(struct dmaland_nvme *ctrl);
int nvme_set_queue_count_again(struct dmaland_nvme *ctrl);

/* namespace.c */
extern const struct nvme_ns nvme_no_ns;
const struct nvme_ns *nvme_find_ns(struct dmaland_nvme *ctrl, uint32_t nsid);
const struct nvme_ns *nvme_cached_ns(struct dmaland_nvme *ctrl, uint32_t nsid);
bool nvme_same_blocks(const struct nvme_ns *a, const struct nvme_ns *b);
bool nvme_same_zones(const struct nvme_ns *a, const struct nvme_ns *b);
int nvme_ns_changed(struct dmaland_nvme *ctrl, nvme_identify_fn *identify,
		    const struct nvme_ns *known);
void nvme_forget_ns(struct dmaland_nvme *ctrl, uint32_t nsid, bool formatted);
void nvme_free_namespaces(struct dmaland_nvme *ctrl);
void nvme_begin_change(struct dmaland_nvme *ctrl, uint32_t nsid, bool format);
void nvme_end_change(struct dmaland_nvme *ctrl, uint32_t nsid, bool format);

/* zoned.c */
int nvme_identify_command_set(struct dmaland_nvme *ctrl, nvme_identify_fn *identify, uint32_t nsid,
			      unsigned int *command_set);

static inline bool nvme_knows_command_set(unsigned int command_set)
{
	return command_set == DMALAND_NVME_SET_NVM || command_set == DMALAND_NVME_SET_ZONED;
}

int nvme_check_command_set(const struct dmaland_nvme_namespace *info);
int nvme_parse_zones(const uint8_t *data, struct nvme_ns *ns);
uint64_t nvme_zone_left(const struct nvme_ns *ns, uint64_t block);
int nvme_check_zoned_write(const struct dmaland_nvme_request *request, const struct nvme_ns *ns,
			   uint64_t most);

/* change.c */
bool nvme_may_go_on(struct dmaland_nvme *ctrl, struct dmaland_nvme_request *request);
void nvme_doubt_ns(struct dmaland_nvme *ctrl, uint32_t nsid);
int nvme_check_namespaces_alone(struct dmaland_nvme *ctrl);
int nvme_check_ns(struct dmaland_nvme *ctrl, uint32_t nsid);
int nvme_check_namespaces(struct dmaland_nvme *ctrl);

/* Has there been a reset since, or another change? */
static inline bool nvme_prepared_is_stale(const struct dmaland_nvme_prepared *prepared)
{
	return atomic_load_explicit(&prepared->ctrl->state, memory_order_acquire) !=
		       prepared->state ||
	       atomic_load_explicit(&prepared->stale, memory_order_relaxed);
}

/*
 * Is what a request goes by stale, so that no command of it may be given to the drive? A raw request goes
 * by nothing.
 */
static inline bool nvme_is_stale(struct dmaland_nvme *ctrl, struct dmaland_nvme_request *request)
{
	if (request->prepared)
		return nvme_prepared_is_stale(request->prepared);
	return request->driver.ns && nvme_ns_id(request->driver.ns) != request->nsid &&
	       !nvme_may_go_on(ctrl, request);
}

/* event.c */
int nvme_ask_for_reports(struct dmaland_nvme *ctrl);
int nvme_ask_for_reports_alone(struct dmaland_nvme *ctrl);
void nvme_take_reports(struct dmaland_nvme *ctrl);

/* log.c */
bool nvme_parse_error(const uint8_t *entry, struct dmaland_nvme_error *error);

/* control.c */
uint64_t nvme_now_ms(void);
void nvme_pause(unsigned int *looks);
uint64_t nvme_waited(struct dmaland_nvme *ctrl, uint64_t begin, uint64_t now);
int nvme_disable_ctrl(struct dmaland_nvme *ctrl, unsigned int ms);
int nvme_disable_as_found(struct dmaland_nvme *ctrl);
int nvme_enable_ctrl(struct dmaland_nvme *ctrl);
void nvme_shutdown_ctrl(struct dmaland_nvme *ctrl);
int nvme_check_alive(struct dmaland_nvme *ctrl, char *what, size_t size);
void nvme_stop(struct dmaland_nvme *ctrl, int refuse, int cancel, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void nvme_reset(struct dmaland_nvme *ctrl, uint32_t state, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int nvme_refuse(struct dmaland_nvme *ctrl);
uint32_t nvme_settled(struct dmaland_nvme *ctrl);

static inline uint32_t nvme_state(struct dmaland_nvme *ctrl)
{
	return atomic_load_explicit(&ctrl->state, memory_order_acquire);
}

static inline enum nvme_service nvme_service(struct dmaland_nvme *ctrl)
{
	return (enum nvme_service)(nvme_state(ctrl) & NVME_SERVICE_MASK);
}

#endif
