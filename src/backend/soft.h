/* SPDX-License-Identifier: MIT */
/*
 * soft.h - the backend `soft:`: an address space in software, and a DMA engine that works in it
 *
 *   soft.c           options, opening, closing               soft_open()
 *   soft_domain.c    memory, mappings                        struct soft_domain
 *   soft_access.c    a device's accesses, checked            soft_domain_access()
 *   soft_owners.c    who has what is mapped, with coherent=no struct soft_owners
 *   soft_ranges.c    which dma address is mapped to what     struct soft_ranges
 *   soft_function.c  configuration space, registers          struct soft_function
 *   soft_irq.c       interrupts, events                      struct soft_irq
 *   soft_engine.c    commands, misbehaviour, faults          struct soft_engine
 *
 * The public header <dmaland/soft.h> describes registers and faults.
 *
 * Locks: a function's lock, one command at a time; inside of it, the domain's lock for each piece
 * that is accessed, so that after unmap has returned nothing is reached any more.
 */
#ifndef BACKEND_SOFT_H
#define BACKEND_SOFT_H

#include <linux/pci_regs.h>

#include "backend/backend.h"
#include "backend/soft_ranges.h"
#include "backend/window.h"

/* ---- the domain ---- */

struct soft_domain_options {
	unsigned int bits; /* width of dma addresses */
	size_t granule;	   /* bytes */
	uint32_t mappings; /* at most */
	bool coherent;	   /* false: mapped memory has a copy for the device */
	bool has_reserved; /* the device can't use these addresses */
	struct iova_range reserved;
	uint64_t memory_limit;
};

struct soft_domain {
	struct domain domain;
	struct memory_window window;
	struct soft_ranges ranges; /* guarded by domain.lock */
	unsigned int joined;	   /* devices ever */
};

/* An address space with no device yet; NULL with the error set. */
struct soft_domain *soft_domain_create(const struct soft_domain_options *options);

/* The domain of a device that was opened by this backend. 0 or -EINVAL in words. */
int soft_domain_of(struct pci_function *share, struct soft_domain **sd);

/*
 * From now on a device is in it that can't use these addresses, nor does anybody: -EBUSY in words when
 * something is mapped there. 0 or -errno.
 */
int soft_domain_reserve(struct soft_domain *sd, const struct iova_range *reserved);

/* One device more in it: its number. The last that leaves ends the domain. */
unsigned int soft_domain_join(struct soft_domain *sd);
void soft_domain_leave(struct soft_domain *sd);

/* ---- who has what is mapped; the domain's lock is held, but for soft_hand() ---- */

/* domain_ops.hand with coherent=no. */
void soft_hand(struct domain *domain, enum domain_hand what, dma_addr_t dma, size_t size,
	       const void *memory);

/* A range's, all nobody's; NULL: no memory. */
struct soft_owners *soft_owners_make(size_t size);
void soft_owners_free(struct soft_owners *owners);

/* Of size bytes at an address in a range, those before the first that the CPU has. */
size_t soft_owners_allow(const struct soft_range *range, dma_addr_t at, size_t size);

/* The mapping that has an address goes into a fault, in place of the range that it lies in. */
void soft_owners_attribute(const struct soft_range *range, dma_addr_t at,
			   struct dmaland_soft_fault *fault);

/* ---- accesses ---- */

/* Copy between data and memory: the bytes that were copied, fewer when some memory isn't there. */
size_t soft_memory_copy(char *memory, void *data, size_t size, bool write);

/*
 * Does the kernel do that for us? Every process may copy from and to itself; a filter of system
 * calls can be in the way. 0 or -errno in words.
 */
int soft_memory_check(void);

/* What a device wants of the address space. */
struct soft_access {
	dma_addr_t begin; /* of the whole transfer, of which this is a part */
	dma_addr_t dma;
	void *data;
	size_t size;
	bool write;
};

/*
 * Copy between a device and memory, as far as it is allowed: the bytes that were. Where fewer than
 * asked, *fault says why, but for how long the transfer would have gone on.
 */
size_t soft_domain_access(struct soft_domain *sd, const struct soft_access *access,
			  struct dmaland_soft_fault *fault);

/* Some place in something that is mapped, for number; 0 when nothing is. */
dma_addr_t soft_domain_pick(struct soft_domain *sd, uint64_t number);

/* ---- the engine ---- */

#define SOFT_PIECE	   4096
#define SOFT_FAULTS_KEPT   256
#define SOFT_FAULTS_LOGGED 16

struct soft_engine {
	struct soft_domain *sd;
	uint32_t mode, count; /* MODE, COUNT */
	uint64_t done;	      /* bytes that the command has written so far */
	uint64_t seed;	      /* of random numbers */
	unsigned char piece[SOFT_PIECE];
	struct {
		dma_addr_t dma;
		size_t size; /* 0: nothing is held back */
		unsigned char data[SOFT_PIECE];
	} late;
	struct dmaland_soft_fault faults[SOFT_FAULTS_KEPT]; /* a ring */
	size_t fault_count;				    /* ever */
	size_t logged;					    /* of them */
};

struct soft_transfer {
	uint32_t command; /* enum dmaland_soft_command */
	uint64_t source, destination;
	uint32_t length;
};

void soft_engine_init(struct soft_engine *engine, struct soft_domain *sd);

/* As after power on, but for the faults, which are kept. */
void soft_engine_reset(struct soft_engine *engine);

/* The function's lock is held. */
enum dmaland_soft_status soft_engine_run(struct soft_engine *engine, const struct soft_transfer *t);
enum dmaland_soft_status soft_engine_run_list(struct soft_engine *engine, dma_addr_t list);

/* Copy the latest faults, oldest first: how many there were. */
size_t soft_engine_faults(const struct soft_engine *engine, struct dmaland_soft_fault *faults,
			  size_t n);

/* The next fault that wants a line in the log; false when there is none. */
bool soft_engine_next_to_log(struct soft_engine *engine, struct dmaland_soft_fault *fault);
void soft_fault_log(const char *name, const struct dmaland_soft_fault *fault, bool last);

/* ---- the function ---- */

#define SOFT_BAR_SIZE 4096

/* What struct pci_function_ops ties to a vector; bitmaps of vectors. */
struct soft_irq {
	unsigned int kind; /* PCI_IRQ_*; 0: none */
	unsigned int count;
	const int *fds;
	uint32_t masked, pending;
	bool asserted; /* INTx */
};

struct soft_function {
	struct pci_function f;
	pthread_mutex_t lock; /* guards all that follows */
	bool vanished;
	unsigned char config[PCI_CFG_SPACE_SIZE];
	unsigned char registers[SOFT_BAR_SIZE];
	struct soft_irq irq;
	struct soft_engine engine;
};

static inline struct soft_function *to_soft_function(struct pci_function *f)
{
	return (struct soft_function *)f;
}

/* A function that is in no domain yet; NULL with the error set. */
struct soft_function *soft_function_create(void);
void soft_function_free(struct soft_function *sf);

/* Put it into a domain, which it leaves when it is closed. */
void soft_function_join(struct soft_function *sf, struct soft_domain *sd);

/* Interrupt with this vector; and it was handled. The function's lock is held, as for the rest. */
void soft_irq_raise(struct soft_function *sf, unsigned int vector);
void soft_irq_handled(struct soft_function *sf);

/* The interrupts of struct pci_function_ops, which take the lock. */
unsigned int soft_irq_count(struct pci_function *f, unsigned int kind);
int soft_irq_enable(struct pci_function *f, unsigned int kind, const int *fds, unsigned int *n);
void soft_irq_disable(struct pci_function *f, unsigned int kind);
int soft_irq_mask(struct pci_function *f, unsigned int kind, unsigned int vector, bool masked);
unsigned int soft_take_events(struct pci_function *f);

/*
 * The latest faults of a device: see dmaland_soft_faults(). -EOPNOTSUPP in words when it is of
 * another backend.
 */
int soft_function_faults(struct pci_function *f, struct dmaland_soft_fault *faults, size_t n,
			 size_t *count);

#endif
