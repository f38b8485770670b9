/* SPDX-License-Identifier: MIT */
/*
 * log.c - log pages (NVMe 2.0, 5.16), and the errors that a drive keeps in one
 */
#include "nvme_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { LOG_ERRORS = 1, ERROR_ENTRY = 64 };

/* One command's worth of a page. */
static int get_piece(struct dmaland_nvme *ctrl, const struct dmaland_nvme_log_page *page,
		     uint64_t offset, void *data, size_t size)
{
	struct nvme_command command = {
		.opcode = NVME_ADMIN_GET_LOG_PAGE,
		.nsid = htole32(page->nsid),
		/* NUMDL: dwords, counted from 0; a piece needs no upper half. RAE, LSP, LID */
		.cdw10 = htole32((uint32_t)(size / 4 - 1) << 16 |
				 (uint32_t)page->retain_event << 15 | (uint32_t)page->lsp << 8 |
				 page->id),
		.cdw11 = htole32((uint32_t)page->lsi << 16),
		.cdw12 = htole32(offset),
		.cdw13 = htole32(offset >> 32),
	};

	return nvme_fetch(ctrl, &command, data, size);
}

int dmaland_nvme_get_log_page(struct dmaland_nvme *ctrl, const struct dmaland_nvme_log_page *page,
			      void *data, size_t size)
{
	size_t done = 0;
	int status = dmaland_check(ctrl->dev);

	if (status != 0)
		return status;
	if (size == 0 || size % 4 != 0 || page->offset % 4 != 0 || page->lsp > 0x7f)
		return dmaland_set_error(
			EINVAL,
			"%zu bytes from %llu of log page %u asked, LSP %u; sizes and "
			"offsets are multiples of 4, LSP has 7 bits",
			size, (unsigned long long)page->offset, page->id, page->lsp);
	if ((page->offset > 0 || size > NVME_ADMIN_DATA) && !ctrl->log_offsets)
		return dmaland_set_error(EOPNOTSUPP,
					 "%s knows no offsets into log pages (LPA), so the first "
					 "%u bytes are all that can be read",
					 dmaland_name(ctrl->dev), NVME_ADMIN_DATA);
	while (status == 0 && done < size) {
		size_t piece = size - done < NVME_ADMIN_DATA ? size - done : NVME_ADMIN_DATA;

		status = get_piece(ctrl, page, page->offset + done, (char *)data + done, piece);
		done += piece;
	}
	return status;
}

int dmaland_nvme_get_log(struct dmaland_nvme *ctrl, unsigned int page, uint32_t nsid,
			 uint64_t offset, void *data, size_t size)
{
	const struct dmaland_nvme_log_page asked = {
		.id = (uint8_t)page,
		.nsid = nsid,
		.offset = offset,
	};

	if (page > 0xff)
		return dmaland_set_error(EINVAL, "log page %u asked; pages are 0 to 255", page);
	return dmaland_nvme_get_log_page(ctrl, &asked, data, size);
}

/* NVMe 2.0, 5.16.1.2. False for an entry that is not in use. */
bool nvme_parse_error(const uint8_t *entry, struct dmaland_nvme_error *error)
{
	*error = (struct dmaland_nvme_error){
		.count = nvme_get64(entry, 0),
		.queue = nvme_get16(entry, 8),
		.command = nvme_get16(entry, 10),
		.status = nvme_get16(entry, 12) >> 1 & 0x7ff, /* bit 0 was the phase tag */
		.parameter = nvme_get16(entry, 14),
		.block = nvme_get64(entry, 16),
		.nsid = nvme_get32(entry, 24),
	};
	return error->count > 0;
}

int dmaland_nvme_get_errors(struct dmaland_nvme *ctrl, struct dmaland_nvme_error *errors,
			    unsigned int max)
{
	unsigned int entries = ctrl->info.error_entries, i, n = 0;
	uint8_t *log;
	int status;

	if (!ctrl->log_offsets && entries > NVME_ADMIN_DATA / ERROR_ENTRY)
		entries = NVME_ADMIN_DATA / ERROR_ENTRY;
	if (entries > max)
		entries = max;
	if (entries == 0)
		return 0;
	log = malloc((size_t)entries * ERROR_ENTRY);
	if (!log)
		return dmaland_set_error(ENOMEM, "no memory for %u entries of the error log",
					 entries);
	status = dmaland_nvme_get_log(ctrl, LOG_ERRORS, UINT32_MAX, 0, log,
				      (size_t)entries * ERROR_ENTRY);
	for (i = 0; status == 0 && i < entries; i++)
		n += nvme_parse_error(log + (size_t)i * ERROR_ENTRY, &errors[n]);
	free(log);
	if (status > 0)
		errno = EIO;
	return status != 0 ? -errno : (int)n;
}

const char *dmaland_nvme_error_text(const struct dmaland_nvme_error *error, char *text, size_t size)
{
	char where[64] = "no command";

	if (error->queue != 0xffff)
		snprintf(where, sizeof(where), "queue %u, command 0x%04x", error->queue,
			 error->command);
	snprintf(text, size, "error %llu: %s, namespace %u, block %llu, %s",
		 (unsigned long long)error->count, dmaland_nvme_status_text(error->status),
		 error->nsid, (unsigned long long)error->block, where);
	return text;
}
