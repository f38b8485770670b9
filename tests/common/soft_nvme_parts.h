/* SPDX-License-Identifier: MIT */
/*
 * soft_nvme_parts.h - what the files of the drive in software share
 *
 *   soft_nvme.c        rings, registers, the function on the bus
 *   soft_nvme_admin.c  admin commands
 *   soft_nvme_data.c   memory, and the commands that move data
 */
#ifndef TESTS_COMMON_SOFT_NVME_PARTS_H
#define TESTS_COMMON_SOFT_NVME_PARTS_H

#include "soft_nvme.h"

/* soft_nvme.c */
void soft_nvme_complete_as(struct soft_nvme *drive, uint16_t qid, uint16_t sq_id, uint16_t cid,
			   uint32_t dw0, int status);
void soft_nvme_complete(struct soft_nvme *drive, uint16_t qid, const struct nvme_command *command,
			uint32_t dw0, int status);

/* soft_nvme_admin.c */
void soft_nvme_admin(struct soft_nvme *drive, const struct nvme_command *command);
unsigned int soft_nvme_end_held(struct soft_nvme *drive, uint16_t qid, int cid, int status);

/* soft_nvme_data.c: 0 or a status */
void soft_nvme_access(struct soft_nvme *drive, uint64_t dma, void *data, size_t size, bool write);
int soft_nvme_carry_out(struct soft_nvme *drive, const struct nvme_command *command);

#endif
