/* SPDX-License-Identifier: MIT */
/*
 * backend.h - ways to reach a device: what the floors above may use
 *
 * A backend fills in two small tables. A domain is what the device can see: it provides chunks of
 * memory at dma addresses. A pci_function is what the CPU can say to the device: registers,
 * configuration space, reset. Nothing above this floor knows which backend it stands on.
 *
 *   spec "qemu:nvme,drive=x.img" --> backend_find() --> backend->open() --> domain + pci_function
 *
 * Functions return 0 or -errno and leave the sentence for the user with error_set().
 */
#ifndef BACKEND_BACKEND_H
#define BACKEND_BACKEND_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <dmaland/irq.h>
#include <dmaland/types.h>
#include "iova/iova.h"

struct domain;
struct pci_function;

/* A piece of memory that CPU and device see; cpu - dma is the same for all of it. */
struct chunk {
	char *cpu;
	dma_addr_t dma;
	size_t size;
};

/* What a device may do with memory. */
enum domain_access { DOMAIN_READ = 1, DOMAIN_WRITE = 2 };

enum domain_hand {
	HAND_BEGIN, /* mapped: the device's */
	HAND_TO_CPU,
	HAND_TO_DEVICE,
	HAND_END, /* unmapped: nobody's, as far as this mapping is concerned */
};

struct domain_ops {
	const char *backend; /* "vfio" */

	/*
	 * Memory of size bytes (a multiple of the granule), zeroed, faulted in, not inherited over
	 * fork, inside the domain's window, mapped for the device at an address aligned to align
	 * (a power of two, at least the granule; the CPU address too), no byte of it above last.
	 * -ENOMEM and a sentence when some limit is hit.
	 */
	int (*provide)(struct domain *domain, size_t size, size_t align, dma_addr_t last,
		       struct chunk *chunk);

	/*
	 * Unmap a chunk for the device, whole, and give its memory back. When it fails the device
	 * may still reach it, and the chunk stays where it is.
	 */
	int (*withdraw)(struct domain *domain, const struct chunk *chunk);

	/*
	 * Map whole granules of memory that exists already, where it lies, at a dma address that
	 * the caller took from domain->iova; access is an OR of enum domain_access, and the device
	 * may do more where the IOMMU can't express it. -EFAULT when some of the memory is not
	 * there or may not be accessed so, -ENOMEM when a limit is hit, each in words. NULL where
	 * memory that exists can't be mapped.
	 */
	int (*map)(struct domain *domain, dma_addr_t dma, void *cpu, size_t size,
		   unsigned int access);

	/*
	 * End n mappings made by map, neighbours that fill the range, in one step: after it the
	 * device reaches none of them. When it fails it may still reach all of them.
	 */
	int (*unmap)(struct domain *domain, dma_addr_t dma, size_t size, unsigned int n);

	/*
	 * Where the device has a copy of its own of the memory that map mapped: bring a part of
	 * one mapping to the device, or from it. NULL where both see the same memory.
	 */
	void (*sync)(struct domain *domain, dma_addr_t dma, size_t size, bool for_device);

	/*
	 * There too: a streaming mapping of these bytes begins or ends, or a sync hands some of them over.
	 * memory is the program's, where the mapping begins; otherwise NULL. Bytes that no mapping has
	 * are nobody's, and the device may do with them what it may.
	 */
	void (*hand)(struct domain *domain, enum domain_hand what, dma_addr_t dma, size_t size,
		     const void *memory);

	/* The last device is gone: unmap what is left and give all memory back. */
	void (*destroy)(struct domain *domain);
};

/*
 * Embedded by each backend in a struct of its own. The lock serialises provide, withdraw, joining and
 * leaving, and map and unmap where the backend takes it, and guards iova for who maps.
 */
struct domain {
	const struct domain_ops *ops;
	pthread_mutex_t lock;
	unsigned int devices;	   /* how many devices share it */
	size_t granule;		   /* bytes; at least the CPU's page size */
	char *window;		   /* all memory that is provided lies inside */
	size_t window_size;	   /* bytes, a multiple of the granule */
	const char *window_cure;   /* what makes it larger, in words; NULL: nothing does */
	struct iova_space iova;	   /* dma addresses not in use */
	struct iova_range *usable; /* as the kernel, or the machine, reports them, ascending */
	size_t usable_count;
	uint32_t mapping_limit; /* 0: none */
	uint32_t mappings; /* this, and memory: written by atomic means where it is not locked */
	uint64_t memory_limit; /* bytes, from the options; 0: none */
	uint64_t memory;       /* bytes provided and mapped now */
	int numa_node;	       /* its memory is taken from there if it can be, or NUMA_NO_NODE */
	size_t copy_below; /* bytes under which copying is cheaper than map and unmap; 0: unknown */
	int write_only;	   /* can map give DOMAIN_WRITE alone? 1: yes, 0: no, -1: not known */
	void *owner;	   /* floor 6 keeps the domain's arena here */
	void *mappings_owner; /* and the space of its streaming mappings here */
};

struct pci_function_ops {
	/* Configuration space; width 1, 2 or 4; a device that is gone: -ENODEV. */
	int (*config_read)(struct pci_function *f, unsigned int where, unsigned int width,
			   uint32_t *value);
	int (*config_write)(struct pci_function *f, unsigned int where, unsigned int width,
			    uint32_t value);

	/*
	 * Size in bytes of a memory BAR, 0 when there is none (or it is an I/O BAR), and where it
	 * is mapped into our address space, or NULL when it can't be: then read and write serve it.
	 * Called once per BAR; the backend keeps the mapping until close.
	 */
	int (*bar)(struct pci_function *f, unsigned int bar, uint64_t *size, void **direct);

	/* Registers without a mapping; width 1 to 8. A device that does not answer: all ones. */
	uint64_t (*read)(struct pci_function *f, unsigned int bar, uint64_t offset,
			 unsigned int width);
	void (*write)(struct pci_function *f, unsigned int bar, uint64_t offset, unsigned int width,
		      uint64_t value);

	/* Reset the function, keeping its configuration; -ENOTTY when it has no reset. */
	int (*reset)(struct pci_function *f);

	/*
	 * Interrupts of one kind of PCI_IRQ_*. NULL, all of them, where the backend has none.
	 *
	 * irq_count: vectors that the device has of the kind. irq_enable: vector i makes fds[i]
	 * readable, for the first *n; where the machine has fewer, -ENOSPC and *n is how many to try, or
	 * 0. They are not closed before irq_disable. irq_mask: what interrupts meanwhile is kept,
	 * INTx masks itself at each interrupt, and doing it again changes nothing.
	 */
	unsigned int (*irq_count)(struct pci_function *f, unsigned int kind);
	int (*irq_enable)(struct pci_function *f, unsigned int kind, const int *fds,
			  unsigned int *n);
	void (*irq_disable)(struct pci_function *f, unsigned int kind);
	int (*irq_mask)(struct pci_function *f, unsigned int kind, unsigned int vector,
			bool masked);

	/* What happened since the last call: an OR of enum dmaland_event. NULL: it can't tell. */
	unsigned int (*take_events)(struct pci_function *f);

	/* True when the device can't do DMA any more for a reason only the backend knows. */
	bool (*is_dead)(struct pci_function *f);

	/* Let go of the device and leave its domain (which ends with its last device). */
	void (*close)(struct pci_function *f);

	/*
	 * This process is the child of a fork: close the file descriptors that it inherited with
	 * the function and its domain, if another function did not already; say nothing to the
	 * device and take no lock. NULL where there are none.
	 */
	void (*disown)(struct pci_function *f);
};

/* Embedded by each backend in a struct of its own. */
struct pci_function {
	const struct pci_function_ops *ops;
	struct domain *domain;
	char name[64]; /* "0000:01:00.0", "qemu:nvme@04" */
	int event_fd;  /* with take_events: readable while there is something to take */

	/* Interrupts that are enabled; floor 6 keeps them. */
	struct {
		unsigned int kind; /* PCI_IRQ_*; 0: none */
		unsigned int count;
		int *fds;
	} irq;
};

struct spec {
	char backend[16];  /* "" when the spec names none */
	char address[256]; /* "0000:01:00.0", "nvme" */
	/* key=value pairs in their order; strings live in text */
	struct spec_option {
		const char *key, *value;
	} * options;
	size_t option_count;
	char *text;
};

/* The value of a key, or NULL. */
const char *spec_get(const struct spec *spec, const char *key);

/* What a spec does not say: of struct dmaland_options, what backends want to know. */
struct open_options {
	struct pci_function *share;	       /* join its domain; NULL: one of its own */
	uint64_t memory_limit;		       /* of a new domain */
	int container_fd, group_fd, device_fd; /* the caller's; 0: none */
};

struct backend {
	const char *name;
	bool debug;	  /* its devices are there to find mistakes: options.dma_debug is on */
	bool takes_files; /* container_fd and its like; where it may not look for itself, too */

	/* Keys of the options that it takes, NULL at the end; the spec has others only with @any_key, which it looks at itself. */
	const char *const *keys;
	bool any_key;

	/* Open the device. The function that comes back holds the domain: (*f)->domain. */
	int (*open)(const struct spec *spec, const struct open_options *options,
		    struct pci_function **f);

	/*
	 * Would a bare PCI address work here? 0, or -errno with the sentence that says why not and
	 * what to do. NULL for backends that no bare address can mean.
	 */
	int (*probe)(const char *address);
};

/* What is left of a function in the child of a fork: everything fails with EPERM. */
void pci_function_disown(struct pci_function *f);

/* -EPERM in words: the device is the parent's. */
int error_forked(const char *name);

extern const struct backend vfio_backend, qemu_backend, soft_backend;

/*
 * The backend that a spec asks for or that is best for its address, and that takes the files that
 * were handed; NULL with the error set.
 */
const struct backend *backend_find(const struct spec *spec, const struct open_options *options);

/* All backends, best first, NULL at the end. */
extern const struct backend *const backends[];

/* Common beginnings and ends of every backend's domain. */
int domain_init(struct domain *domain, const struct domain_ops *ops, uint64_t memory_limit);
void domain_fini(struct domain *domain);

/* Would size bytes more pass the domain's memory limit? 0, or -ENOMEM with the error set. */
int domain_check_limit(struct domain *domain, size_t size);

int domain_count_limited(struct domain *domain, size_t size);

/* Count size bytes more against the limit, without a lock: 0, or -ENOMEM with the error set; or fewer. */
static inline int domain_count_memory(struct domain *domain, size_t size)
{
	if (domain->memory_limit)
		return domain_count_limited(domain, size);
	__atomic_fetch_add(&domain->memory, size, __ATOMIC_RELAXED);
	return 0;
}

static inline void domain_discount_memory(struct domain *domain, size_t size)
{
	__atomic_fetch_sub(&domain->memory, size, __ATOMIC_RELAXED);
}

#endif
