/* SPDX-License-Identifier: MIT */
/*
 * namespace.c - what is known of namespaces, and formatting them
 *
 * A namespace is asked for when it is first used, and then found without a lock in a list that only
 * grows at its head, until the controller is closed. What is known of it is never changed. It becomes
 * stale, by clearing the id by which it is found, and the next use asks the drive again:
 *
 *   formatting   before it begins; asking is refused until the format is over
 *   a change     that the drive reports (change.c), that a reset brings to light, or that a command's
 *                status hints at: others may use the drive, too
 *
 * For nobody is to submit blocks of the old size to a drive that takes them for blocks of the new one.
 * Where the size of blocks has changed and this process did not do it, the application does not know:
 * its requests are refused until it asks dmaland_nvme_get_namespace(). What it goes by is `told`.
 *
 * ctrl->formats holds how many formats and changes there were, above the id of the namespace that a
 * format is under way of, or UINT32_MAX for all, or 0. What the drive said while that changed is not
 * believed.
 */
#include "nvme_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

/* How many namespaces are active; 0 when the drive does not say, at most 1,024. */
static size_t count_namespaces(struct dmaland_nvme *ctrl)
{
	uint32_t ids[NVME_ADMIN_DATA / sizeof(uint32_t)];
	size_t n = 0;

	if (nvme_identify(ctrl, NVME_IDENTIFY_ACTIVE_LIST, 0, ids) != 0)
		return 0;
	while (n < sizeof(ids) / sizeof(ids[0]) && ids[n] != 0)
		n++;
	return n;
}

/* -ENODEV in words. QEMU's and most drives' NN is a highest id, not a count: count the active. */
static int no_such_namespace(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	size_t n = count_namespaces(ctrl);

	if (n == 0)
		return dmaland_set_error(ENODEV, "namespace %" PRIu32 " does not exist", nsid);
	return dmaland_set_error(ENODEV,
				 "namespace %" PRIu32 " does not exist (the drive has %zu%s)", nsid,
				 n, n == NVME_ADMIN_DATA / sizeof(uint32_t) ? " or more" : "");
}

/* The formats, and which is in use, from Identify Namespace (NVM 1.0, 4.1.5.1). */
static void parse_formats(const uint8_t *data, struct dmaland_nvme_namespace *info)
{
	enum { MOST = sizeof(info->formats) / sizeof(info->formats[0]) };
	unsigned int i;

	info->format_count = data[25] + 1u;
	if (info->format_count > MOST)
		info->format_count = MOST;
	/* FLBAS: bits 6:5 are the upper ones, where there are more than 16 formats */
	info->format = (data[26] & 0xf) | (info->format_count > 16 ? (data[26] & 0x60) >> 1 : 0);
	for (i = 0; i < info->format_count; i++) {
		uint32_t lbaf = nvme_get32(data, 128 + 4 * i);
		unsigned int shift = lbaf >> 16 & 0xff;

		info->formats[i] = (struct dmaland_nvme_lba_format){
			.block_size = shift >= 9 && shift < 32 ? 1u << shift : 0,
			.metadata = lbaf & 0xffff,
			.performance = lbaf >> 24 & 3,
		};
	}
}

/* So many blocks are a limit in bytes; NLB has 16 bits and counts from 0 (NVM 1.0, 3.2.4). */
static uint32_t blocks_limit(const struct nvme_ns *ns, size_t bytes)
{
	size_t blocks = bytes >> ns->block_shift;

	if (blocks == 0)
		return 1;
	return blocks < 65536 ? blocks : 65536;
}

/*
 * In how many blocks, and from multiples of how many on, the drive discards (NVM 1.0, 4.1.5.1: NPDG and
 * NPDA, counted from 0, where NSFEAT has OPTPERF); 4 KiB where it does not say.
 */
static uint64_t discard_unit(const uint8_t *data, unsigned int block_shift)
{
	enum { OPTPERF = 1 << 4 };
	uint64_t size = nvme_get16(data, 68) + 1u, start = nvme_get16(data, 70) + 1u, unit = size;

	if (!(data[24] & OPTPERF))
		return block_shift < 12 ? 1u << (12 - block_shift) : 1;
	while (unit % start != 0)
		unit += size;
	return unit;
}

/* From Identify Namespace to what we keep. 0 or -errno. */
static int parse_namespace(struct dmaland_nvme *ctrl, const uint8_t *data, struct nvme_ns *ns)
{
	struct dmaland_nvme_namespace *info = &ns->info;
	const struct dmaland_nvme_lba_format *format;

	info->blocks = nvme_get64(data, 0);
	parse_formats(data, info);
	format = &info->formats[info->format];
	if (info->format >= info->format_count || format->block_size == 0 ||
	    info->blocks > UINT64_MAX / format->block_size)
		return dmaland_set_error(EOPNOTSUPP,
					 "namespace %u has format %u of %u, with %llu blocks of "
					 "2^%u bytes, which this driver can't use; "
					 "dmaland_nvme_format() can change that",
					 info->nsid, info->format, info->format_count,
					 (unsigned long long)info->blocks,
					 data[128 + 4 * info->format + 2]);
	info->block_size = format->block_size;
	info->metadata = format->metadata;
	ns->block_shift = __builtin_ctz(format->block_size);
	ns->max_blocks = blocks_limit(ns, ctrl->info.max_transfer);
	ns->max_zeroes = blocks_limit(ns, ctrl->max_zeroes);
	ns->max_verify = blocks_limit(ns, ctrl->max_verify);
	ns->discard_unit = discard_unit(data, ns->block_shift);
	return 0;
}

/* Ask the drive. The namespace, or NULL with the error set. */
static struct nvme_ns *identify_ns(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	uint8_t data[NVME_ADMIN_DATA];
	struct nvme_ns *ns;
	int status = nvme_identify(ctrl, NVME_IDENTIFY_NAMESPACE, nsid, data);

	if (status == NVME_STATUS_INVALID_NAMESPACE || (status == 0 && nvme_get64(data, 0) == 0))
		status = no_such_namespace(ctrl, nsid);
	if (status != 0)
		return NULL;
	ns = calloc(1, sizeof(*ns));
	if (!ns) {
		dmaland_set_error(ENOMEM, "no memory for a namespace");
		return NULL;
	}
	ns->info.nsid = nsid;
	if (parse_namespace(ctrl, data, ns) != 0) {
		int code = errno;

		free(ns);
		errno = code;
		return NULL;
	}
	return ns;
}

const struct nvme_ns *nvme_cached_ns(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	const struct nvme_ns *ns = atomic_load_explicit(&ctrl->namespaces, memory_order_acquire);

	while (ns && nvme_ns_id(ns) != nsid)
		ns = ns->next;
	return ns;
}

/* 0 and the formats so far, or -EBUSY with the error set when one of the namespace is under way. */
static int formats_before(struct dmaland_nvme *ctrl, uint32_t nsid, uint64_t *formats)
{
	pthread_mutex_lock(&ctrl->lock);
	*formats = ctrl->formats;
	pthread_mutex_unlock(&ctrl->lock);
	if ((uint32_t)*formats != nsid && (uint32_t)*formats != UINT32_MAX)
		return 0;
	return dmaland_set_error(EBUSY, "namespace %" PRIu32 " is being formatted", nsid);
}

/* Do blocks look alike? */
bool nvme_same_blocks(const struct nvme_ns *a, const struct nvme_ns *b)
{
	return a->info.block_size == b->info.block_size && a->info.metadata == b->info.metadata;
}

static bool same_ns(const struct nvme_ns *a, const struct nvme_ns *b)
{
	return nvme_same_blocks(a, b) && a->info.nsid == b->info.nsid &&
	       a->info.blocks == b->info.blocks && a->info.format == b->info.format &&
	       a->info.format_count == b->info.format_count && a->max_blocks == b->max_blocks &&
	       a->discard_unit == b->discard_unit;
}

/* With ctrl->lock held, here and below: what is known, stale or not, and was not formatted. */
static struct nvme_ns *first_ns(struct dmaland_nvme *ctrl)
{
	return atomic_load_explicit(&ctrl->namespaces, memory_order_relaxed);
}

/* What the application goes by; or NULL. */
static struct nvme_ns *told_ns(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	struct nvme_ns *ns = first_ns(ctrl);

	while (ns && !(ns->told && ns->info.nsid == nsid))
		ns = ns->next;
	return ns;
}

/* One that is no other than the new one, which is freed then; or the new one, in the list from now on. */
static struct nvme_ns *merge_ns(struct dmaland_nvme *ctrl, struct nvme_ns *new)
{
	struct nvme_ns *ns = first_ns(ctrl);

	while (ns && (atomic_load(&ns->formatted) || !same_ns(ns, new)))
		ns = ns->next;
	if (ns) {
		free(new);
		return ns;
	}
	new->next = first_ns(ctrl);
	atomic_store_explicit(&ctrl->namespaces, new, memory_order_release);
	return new;
}

/*
 * Believe what the drive said of a namespace, unless one was formatted or changed meanwhile: then NULL.
 * It is found by its id from then on, if the application knows what blocks look like, or is being told.
 */
static struct nvme_ns *add_ns(struct dmaland_nvme *ctrl, struct nvme_ns *new, uint64_t formats,
			      bool telling, const struct nvme_ns **told)
{
	struct nvme_ns *ns = NULL;

	pthread_mutex_lock(&ctrl->lock);
	if (ctrl->formats == formats) {
		struct nvme_ns *before = told_ns(ctrl, new->info.nsid);

		ns = merge_ns(ctrl, new);
		if (!before || telling || nvme_same_blocks(before, ns)) {
			if (before && before != ns) {
				before->told = false;
				atomic_store_explicit(&before->current, 0, memory_order_relaxed);
			}
			ns->told = true;
			before = ns;
			atomic_store_explicit(&ns->current, ns->info.nsid, memory_order_release);
		}
		*told = before;
	}
	pthread_mutex_unlock(&ctrl->lock);
	if (!ns)
		free(new);
	return ns;
}

static int has_changed(const struct nvme_ns *ns, const struct nvme_ns *told)
{
	return dmaland_set_error(
		ESTALE,
		"namespace %" PRIu32 " has blocks of %u bytes and %u of metadata "
		"now, and had %u and %u: somebody else has formatted it; "
		"dmaland_nvme_get_namespace() says what it is, and makes it usable",
		ns->info.nsid, ns->info.block_size, ns->info.metadata, told->info.block_size,
		told->info.metadata);
}

/* telling: the caller tells the application. NULL with the error set. */
static const struct nvme_ns *ask_ns(struct dmaland_nvme *ctrl, uint32_t nsid, bool telling)
{
	const struct nvme_ns *told = NULL;
	uint64_t formats;
	struct nvme_ns *ns;

	if (nsid == 0 || nsid == UINT32_MAX) {
		dmaland_set_error(EINVAL, "0x%" PRIx32 " is no namespace; they count from 1", nsid);
		return NULL;
	}
	if (nsid > ctrl->info.namespaces) {
		no_such_namespace(ctrl, nsid);
		return NULL;
	}
	do {
		if (formats_before(ctrl, nsid, &formats) != 0)
			return NULL;
		ns = identify_ns(ctrl, nsid);
		if (!ns)
			return NULL;
		ns = add_ns(ctrl, ns, formats, telling, &told);
	} while (!ns);
	if (ns == told)
		return ns;
	has_changed(ns, told);
	return NULL;
}

/*
 * A namespace, or NULL with the error set. Two threads that ask at once may both ask the drive,
 * harmlessly.
 */
const struct nvme_ns *nvme_find_ns(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	const struct nvme_ns *known = nvme_cached_ns(ctrl, nsid);

	return known ? known : ask_ns(ctrl, nsid, false);
}

/* With ctrl->lock held. UINT32_MAX: all. What the drive says at this moment may be older. */
void nvme_forget_ns(struct dmaland_nvme *ctrl, uint32_t nsid, bool formatted)
{
	struct nvme_ns *ns;

	ctrl->formats += UINT64_C(1) << 32;
	for (ns = first_ns(ctrl); ns; ns = ns->next) {
		if (nsid != UINT32_MAX && ns->info.nsid != nsid)
			continue;
		atomic_store_explicit(&ns->current, 0, memory_order_relaxed);
		if (!formatted)
			continue;
		ns->told = false;
		atomic_store(&ns->formatted, true);
	}
}

/* Is a namespace still what is known of it? From what Identify Namespace gives. */
bool nvme_ns_is_still(struct dmaland_nvme *ctrl, const struct nvme_ns *known, const uint8_t *data)
{
	struct nvme_ns now = {.info.nsid = known->info.nsid};

	return nvme_get64(data, 0) != 0 && parse_namespace(ctrl, data, &now) == 0 &&
	       same_ns(known, &now);
}

void nvme_free_namespaces(struct dmaland_nvme *ctrl)
{
	struct nvme_ns *ns = atomic_load_explicit(&ctrl->namespaces, memory_order_acquire);

	while (ns) {
		struct nvme_ns *next = ns->next;

		free(ns);
		ns = next;
	}
}

int dmaland_nvme_get_namespace(struct dmaland_nvme *ctrl, uint32_t nsid,
			       struct dmaland_nvme_namespace *info)
{
	const struct nvme_ns *ns;

	if (dmaland_check(ctrl->dev) != 0)
		return -errno;
	ns = nvme_cached_ns(ctrl, nsid);
	if (!ns)
		ns = ask_ns(ctrl, nsid, true);
	if (!ns)
		return -errno;
	*info = ns->info;
	return 0;
}

/* ---- formatting ---- */

/* Formats take turns. While one is under way no other command is late. */
static void begin_format(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	pthread_mutex_lock(&ctrl->format_lock);
	atomic_store_explicit(&ctrl->held_until, UINT64_MAX, memory_order_relaxed);
	pthread_mutex_lock(&ctrl->lock);
	nvme_forget_ns(ctrl, nsid, true);
	ctrl->formats += nsid;
	pthread_mutex_unlock(&ctrl->lock);
}

static void end_format(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	pthread_mutex_lock(&ctrl->lock);
	ctrl->formats -= nsid;
	pthread_mutex_unlock(&ctrl->lock);
	atomic_store_explicit(&ctrl->held_until, nvme_now_ms(), memory_order_relaxed);
	pthread_mutex_unlock(&ctrl->format_lock);
}

/* Does a namespace have this format, and may it be chosen? 0, a status or -errno. */
static int check_format(struct dmaland_nvme *ctrl, uint32_t nsid, unsigned int format,
			unsigned int flags)
{
	struct dmaland_nvme_namespace info = {.nsid = nsid};
	uint8_t data[NVME_ADMIN_DATA];
	int status = nvme_identify(ctrl, NVME_IDENTIFY_NAMESPACE, nsid, data);

	if (status == NVME_STATUS_INVALID_NAMESPACE || (status == 0 && nvme_get64(data, 0) == 0))
		return no_such_namespace(ctrl, nsid);
	if (status != 0)
		return status;
	parse_formats(data, &info);
	if (format >= info.format_count || info.formats[format].block_size == 0)
		return dmaland_set_error(EINVAL,
					 "namespace %u has no format %u; there are %u, from 0",
					 nsid, format, info.format_count);
	if (info.formats[format].metadata > 0 && !(flags & DMALAND_NVME_FORMAT_METADATA))
		return dmaland_set_error(EOPNOTSUPP,
					 "format %u of namespace %u has %u bytes of metadata "
					 "beside each block, which this driver can't transfer; "
					 "DMALAND_NVME_FORMAT_METADATA if it is meant",
					 format, nsid, info.formats[format].metadata);
	return 0;
}

static int check_format_request(struct dmaland_nvme *ctrl, uint32_t nsid, unsigned int format,
				unsigned int flags)
{
	enum { ERASES = DMALAND_NVME_FORMAT_ERASE | DMALAND_NVME_FORMAT_CRYPTO_ERASE };
	uint32_t ids[NVME_ADMIN_DATA / sizeof(uint32_t)];
	int status;

	if ((flags & ~(ERASES | DMALAND_NVME_FORMAT_METADATA)) || (flags & ERASES) == ERASES)
		return dmaland_set_error(EINVAL,
					 "flags 0x%x: one way to erase at most, and no others than "
					 "those of enum dmaland_nvme_format_flags",
					 flags);
	if (!ctrl->info.can_format)
		return dmaland_set_error(EOPNOTSUPP, "%s has no Format NVM command (OACS)",
					 dmaland_name(ctrl->dev));
	if (nsid == 0)
		return dmaland_set_error(EINVAL, "0 is no namespace; they count from 1");
	if (nsid != UINT32_MAX && ctrl->formats_all && count_namespaces(ctrl) > 1)
		return dmaland_set_error(EINVAL,
					 "%s can only format all its %zu namespaces at once (FNA); "
					 "if that is meant, give 0xffffffff",
					 dmaland_name(ctrl->dev), count_namespaces(ctrl));
	if (nsid != UINT32_MAX)
		return check_format(ctrl, nsid, format, flags);
	status = nvme_identify(ctrl, NVME_IDENTIFY_ACTIVE_LIST, 0, ids);
	for (size_t i = 0; status == 0 && i < sizeof(ids) / sizeof(ids[0]) && ids[i] != 0; i++)
		status = check_format(ctrl, le32toh(ids[i]), format, flags);
	return status;
}

/* NVMe 2.0, 5.14 */
int dmaland_nvme_format(struct dmaland_nvme *ctrl, uint32_t nsid, unsigned int format,
			unsigned int flags)
{
	/* SES: 0 nothing, 1 user data, 2 cryptographic. LBAFL and, for more than 16, LBAFU */
	uint32_t erase = flags & (DMALAND_NVME_FORMAT_ERASE | DMALAND_NVME_FORMAT_CRYPTO_ERASE);
	struct nvme_command command = {
		.opcode = NVME_ADMIN_FORMAT,
		.nsid = htole32(nsid),
		.cdw10 = htole32((format & 0xf) | erase << 9 | (format >> 4 & 3) << 12),
	};
	int status = dmaland_check(ctrl->dev);

	if (status == 0)
		status = check_format_request(ctrl, nsid, format, flags);
	if (status != 0)
		return status;
	begin_format(ctrl, nsid);
	status = nvme_submit_sync_cmd(ctrl, &command, ctrl->format_ms, NULL);
	end_format(ctrl, nsid);
	return status;
}
