/* SPDX-License-Identifier: MIT */
/*
 * qemu_ram.h - the RAM of QEMU's machine: a file in memory that device models and we see
 */
#ifndef BACKEND_QEMU_RAM_H
#define BACKEND_QEMU_RAM_H

#include <stdint.h>

#include "backend/backend.h"
#include "backend/window.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define QEMU_RAM_DEFAULT GIB
#define QEMU_RAM_MAX	 WINDOW_MAX /* it is the domain's window */
#define QEMU_RAM_SPLIT	 (3 * GIB) /* told to QEMU as max-ram-below-4g; what is above goes to 4 GiB */

/* All of a domain but its end, which belongs to the machine. */
struct qemu_ram {
	struct domain domain;
	int fd;
	uint64_t size; /* bytes, a multiple of 2 MiB */
};

int qemu_ram_init(struct qemu_ram *ram, const struct domain_ops *ops, uint64_t size,
		  uint64_t memory_limit);
void qemu_ram_fini(struct qemu_ram *ram);

/* The dma address of a byte of the window. */
dma_addr_t qemu_ram_dma(uint64_t offset);

/* struct domain_ops; the domain is a qemu_ram's. */
int qemu_ram_provide(struct domain *domain, size_t size, size_t align, dma_addr_t last,
		     struct chunk *chunk);
int qemu_ram_withdraw(struct domain *domain, const struct chunk *chunk);

#endif
