/* SPDX-License-Identifier: MIT */
/*
 * nvme_spec.h - registers, commands and completions, as the specification has them
 *
 * Numbers in comments: "NVMe 2.0" is the NVM Express Base Specification 2.0, "PCIe 1.0" the NVMe
 * over PCIe Transport Specification 1.0, "NVM 1.0" the NVM Command Set Specification 1.0.
 */
#ifndef NVME_SPEC_H
#define NVME_SPEC_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Registers: NVMe 2.0, 3.1.3; doorbells: PCIe 1.0, 3.1.2 */
enum {
	NVME_REG_CAP = 0x00,
	NVME_REG_VS = 0x08,
	NVME_REG_INTMS = 0x0c,
	NVME_REG_INTMC = 0x10,
	NVME_REG_CC = 0x14,
	NVME_REG_CSTS = 0x1c,
	NVME_REG_AQA = 0x24,
	NVME_REG_ASQ = 0x28,
	NVME_REG_ACQ = 0x30,
	NVME_REG_DOORBELLS = 0x1000,
};

/* CC: NVMe 2.0, 3.1.3.5. Round robin (AMS 0) needs no bits, nor the NVM command set alone (CSS 0). */
enum {
	NVME_CC_EN = 1u << 0,
	NVME_CC_CSS_ALL = 6u << 4, /* all command sets that the drive has */
	NVME_CC_MPS_SHIFT = 7,
	NVME_CC_SHN_MASK = 3u << 14,
	NVME_CC_SHN_NORMAL = 1u << 14,
	NVME_CC_IOSQES = 6u << 16, /* entries of 64 bytes */
	NVME_CC_IOCQES = 4u << 20, /* entries of 16 bytes */
};

/* CSTS: NVMe 2.0, 3.1.3.6 */
enum {
	NVME_CSTS_RDY = 1u << 0,
	NVME_CSTS_CFS = 1u << 1,
	NVME_CSTS_SHST_MASK = 3u << 2,
	NVME_CSTS_SHST_COMPLETE = 2u << 2,
};

/* CAP: NVMe 2.0, 3.1.3.1 */
static inline unsigned int nvme_cap_mqes(uint64_t cap)
{
	return cap & 0xffff;
}

static inline unsigned int nvme_cap_timeout_ms(uint64_t cap)
{
	unsigned int to = cap >> 24 & 0xff;

	return (to ? to : 1) * 500;
}

static inline unsigned int nvme_cap_stride(uint64_t cap)
{
	return 4u << (cap >> 32 & 0xf);
}

static inline bool nvme_cap_nvm_command_set(uint64_t cap)
{
	return cap >> 37 & 1;
}

/* CSS bit 6: several command sets, and Identify of what concerns each */
static inline bool nvme_cap_command_sets(uint64_t cap)
{
	return cap >> 43 & 1;
}

static inline unsigned int nvme_cap_mpsmin_shift(uint64_t cap)
{
	return 12 + (cap >> 48 & 0xf);
}

static inline unsigned int nvme_cap_mpsmax_shift(uint64_t cap)
{
	return 12 + (cap >> 52 & 0xf);
}

/* Admin opcodes: NVMe 2.0, 5 */
enum {
	NVME_ADMIN_DELETE_SQ = 0x00,
	NVME_ADMIN_CREATE_SQ = 0x01,
	NVME_ADMIN_GET_LOG_PAGE = 0x02,
	NVME_ADMIN_DELETE_CQ = 0x04,
	NVME_ADMIN_CREATE_CQ = 0x05,
	NVME_ADMIN_IDENTIFY = 0x06,
	NVME_ADMIN_ABORT = 0x08,
	NVME_ADMIN_SET_FEATURES = 0x09,
	NVME_ADMIN_EVENT_REQUEST = 0x0c,
	NVME_ADMIN_DOORBELL_BUFFER = 0x7c,
	NVME_ADMIN_FORMAT = 0x80,
};

/* Identify (CNS), features: NVMe 2.0, 5.17 and 5.27 */
enum {
	NVME_IDENTIFY_NAMESPACE = 0,
	NVME_IDENTIFY_CONTROLLER = 1,
	NVME_IDENTIFY_ACTIVE_LIST = 2,
	NVME_IDENTIFY_DESCRIPTORS = 3,
	NVME_IDENTIFY_NAMESPACE_SET = 5,  /* what a command set has of a namespace ... */
	NVME_IDENTIFY_CONTROLLER_SET = 6, /* ... and of the controller */
	NVME_ADMIN_DATA = 4096,		  /* bytes that an admin command moves at most */
	NVME_MOST_VECTORS = 32,		  /* of MSI, and as many as INTMS has bits */
	NVME_FEATURE_QUEUES = 7,
	NVME_FEATURE_EVENTS = 11,
	NVME_DISCARD_RANGES = 256, /* of a command (NVM 1.0, 3.2.3) */
};

/* Identify Controller: NVMe 2.0, 5.17.2.1, figure 275 */
enum {
	NVME_OACS_FORMAT = 1u << 1,
	NVME_OACS_DOORBELL_BUFFER = 1u << 8,
	NVME_LPA_EXTENDED = 1u << 2,
	NVME_ONCS_COMPARE = 1u << 0,
	NVME_ONCS_DATASET_MANAGEMENT = 1u << 2,
	NVME_ONCS_WRITE_ZEROES = 1u << 3,
	NVME_ONCS_VERIFY = 1u << 7,
	NVME_FNA_FORMATS_ALL = 1u << 0,
};

/* Status, SCT << 8 | SC: NVMe 2.0, 3.3.3.2.1 */
enum {
	NVME_STATUS_INVALID_OPCODE = 0x001,
	NVME_STATUS_INVALID_FIELD = 0x002,
	NVME_STATUS_ABORT_REQUESTED = 0x007,
	NVME_STATUS_SQ_DELETED = 0x008,
	NVME_STATUS_INVALID_NAMESPACE = 0x00b,
	NVME_STATUS_SGL_LENGTH = 0x00f,
	NVME_STATUS_LBA_RANGE = 0x080,
	NVME_STATUS_EVENT_LIMIT = 0x105, /* of Asynchronous Event Requests, 5.2 */
};

/* Common submission queue entry: NVMe 2.0, 3.3.3.1. All fields little-endian. */
struct nvme_command {
	uint8_t opcode;
	uint8_t flags;
	uint16_t cid;
	uint32_t nsid;
	uint32_t cdw2, cdw3;
	uint64_t metadata;
	uint64_t prp[2]; /* or an SGL descriptor, where flags have NVME_PSDT_SGL */
	uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};

enum { NVME_PSDT_SGL = 1u << 6, NVME_SGL_DESCRIPTOR = 16 /* bytes */ };

static_assert(sizeof(struct nvme_command) == 64, "submission queue entry");
static_assert(offsetof(struct nvme_command, prp) == 24, "data pointer");
static_assert(offsetof(struct nvme_command, cdw10) == 40, "command dword 10");

/* Common completion queue entry: NVMe 2.0, 3.3.3.2. All fields little-endian. */
struct nvme_completion {
	uint32_t dw0, dw1;
	uint32_t sq; /* head, and from bit 16 on identifier */
	uint16_t cid;
	uint16_t status; /* bit 0 is the phase tag */
};

static_assert(sizeof(struct nvme_completion) == 16, "completion queue entry");
static_assert(offsetof(struct nvme_completion, status) == 14, "status field");

/* Little-endian numbers in what a drive answers. */
static inline uint16_t nvme_get16(const uint8_t *data, size_t offset)
{
	return data[offset] | data[offset + 1] << 8;
}

static inline uint32_t nvme_get32(const uint8_t *data, size_t offset)
{
	return nvme_get16(data, offset) | (uint32_t)nvme_get16(data, offset + 2) << 16;
}

static inline uint64_t nvme_get64(const uint8_t *data, size_t offset)
{
	return nvme_get32(data, offset) | (uint64_t)nvme_get32(data, offset + 4) << 32;
}

#endif
