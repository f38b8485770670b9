/* SPDX-License-Identifier: MIT */
/*
 * soft_nvme_data.c - what the drive in software does with memory: PRPs, SGLs, and the commands that move data
 */
#include "soft_nvme_parts.h"

void soft_nvme_access(struct soft_nvme *drive, uint64_t dma, void *data, size_t size, bool write)
{
	struct soft_domain *sd = (struct soft_domain *)drive->engine->domain;
	const struct soft_access access = {dma, dma, data, size, write};
	struct dmaland_soft_fault fault;
	uint32_t command = 0;

	drive->engine->ops->config_read(drive->engine, PCI_COMMAND, 2, &command);
	if (!(command & PCI_COMMAND_MASTER))
		return;
	if (soft_domain_access(sd, &access, &fault) < size)
		drive->faults++;
}

static uint64_t list_entry(struct soft_nvme *drive, uint64_t at)
{
	uint64_t entry = 0;

	soft_nvme_access(drive, at, &entry, sizeof(entry), false);
	return le64toh(entry);
}

/* Between the media and memory, by PRPs of 4 KiB pages (NVMe 2.0, 4.1.1). */
static void move(struct soft_nvme *drive, const struct nvme_command *command, unsigned char *media,
		 size_t bytes)
{
	uint64_t page = le64toh(command->prp[0]), list = le64toh(command->prp[1]);
	size_t piece = 4096 - page % 4096, done = 0;
	bool is_list = bytes > piece + 4096;

	while (done < bytes) {
		if (piece > bytes - done)
			piece = bytes - done;
		soft_nvme_access(drive, page, media + done, piece,
				 command->opcode == DMALAND_NVME_READ);
		done += piece;
		piece = 4096;
		page = list;
		if (!is_list || done >= bytes)
			continue;
		page = list_entry(drive, list);
		if ((list + 8) % 4096 == 0 && bytes - done > 4096) {
			list = page;
			page = list_entry(drive, list);
		}
		list += 8;
	}
}

/* By an SGL: one data block, or one segment of them, of the exact length (NVMe 2.0, 4.1.2). 0 or a status. */
static int move_sgl(struct soft_nvme *drive, const struct nvme_command *command,
		    unsigned char *media, size_t bytes)
{
	enum { MOST = 256, LAST_SEGMENT = 0x30, LENGTH = 0x00f, TYPE = 0x011, COUNT = 0x00d };
	uint64_t list[2 * MOST] = {command->prp[0], command->prp[1]};
	size_t n = 1, sum = 0;

	drive->sgls_used++;
	if (le64toh(list[1]) >> 56 == LAST_SEGMENT) {
		size_t size = (uint32_t)le64toh(list[1]);

		if (size == 0 || size % 16 != 0 || size > sizeof(list))
			return COUNT | SOFT_NVME_DNR;
		soft_nvme_access(drive, le64toh(list[0]), list, size, false);
		n = size / 16;
	}
	for (size_t i = 0; i < n; i++) {
		if (le64toh(list[2 * i + 1]) >> 32 != 0)
			return TYPE | SOFT_NVME_DNR;
		sum += (uint32_t)le64toh(list[2 * i + 1]);
	}
	if (sum != bytes)
		return LENGTH | SOFT_NVME_DNR;
	for (size_t i = 0; i < n; i++) {
		size_t piece = (uint32_t)le64toh(list[2 * i + 1]);

		soft_nvme_access(drive, le64toh(list[2 * i]), media, piece,
				 command->opcode == DMALAND_NVME_READ);
		media += piece;
	}
	return 0;
}

int soft_nvme_carry_out(struct soft_nvme *drive, const struct nvme_command *command)
{
	uint64_t block = le32toh(command->cdw10) | (uint64_t)le32toh(command->cdw11) << 32;
	size_t blocks = (le32toh(command->cdw12) & 0xffff) + 1;
	uint64_t room = ((uint64_t)SOFT_NVME_BLOCKS * SOFT_NVME_BLOCK) >> drive->lba_shift;
	unsigned char *media = drive->media + (block << drive->lba_shift);

	if (command->opcode == DMALAND_NVME_FLUSH || command->opcode == DMALAND_NVME_DISCARD ||
	    command->opcode >= 0xc0)
		return 0;
	if (block > room || blocks > room - block)
		return 0x080 | SOFT_NVME_DNR;
	if (command->opcode == DMALAND_NVME_WRITE_ZEROES)
		memset(media, 0, blocks << drive->lba_shift);
	else if (command->opcode != DMALAND_NVME_READ && command->opcode != DMALAND_NVME_WRITE)
		return 0;
	else if (command->flags >> 6 == 1)
		return move_sgl(drive, command, media, blocks << drive->lba_shift);
	else
		move(drive, command, media, blocks << drive->lba_shift);
	return 0;
}

size_t soft_nvme_look(struct soft_nvme *drive, uint64_t dma, void *data, size_t size)
{
	unsigned int faults = drive->faults;

	soft_nvme_access(drive, dma, data, size, false);
	return drive->faults == faults ? size : 0;
}
