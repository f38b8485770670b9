/* SPDX-License-Identifier: MIT */
/*
 * namespace.c - what is known of namespaces, and formatting them
 *
 * A namespace is asked for when it is first used, and then found without a lock in a list that only
 * grows at its head, until the controller is closed. What is known of it is never changed. It becomes
 * stale, by taking away the id by which it is found, and the next use asks the drive again:
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
#include <string.h>

const struct nvme_ns nvme_no_ns = {.current = NVME_STALE};

enum { LIST_IDS = NVME_ADMIN_DATA / sizeof(uint32_t) };

/*
 * The drive's list of active namespaces above an id (NVMe 2.0, 5.17.2.2), which came with NVMe 1.1.
 * How many ids there are, ascending; a status when the drive has no list, as status 0x002 has it; or -errno.
 */
static int fetch_list(struct dmaland_nvme *ctrl, uint32_t above, uint32_t ids[LIST_IDS],
		      unsigned int *count)
{
	int status = NVME_STATUS_INVALID_FIELD;

	*count = 0;
	if (ctrl->info.version >= 0x10100)
		status = nvme_identify(ctrl, NVME_IDENTIFY_ACTIVE_LIST, above, ids);
	while (status == 0 && *count < LIST_IDS && le32toh(ids[*count]) > above) {
		above = ids[*count] = le32toh(ids[*count]);
		++*count;
	}
	return status;
}

int dmaland_nvme_list_namespaces(struct dmaland_nvme *ctrl, uint32_t above, uint32_t *ids,
				 unsigned int max)
{
	uint32_t list[LIST_IDS];
	unsigned int n;
	int status = dmaland_check(ctrl->dev);

	if (status == 0)
		status = fetch_list(ctrl, above, list, &n);
	if (status < 0)
		return status;
	if (n > max)
		n = max;
	memcpy(ids, list, n * sizeof(ids[0]));
	if (status == 0)
		return (int)n;
	for (n = 0; n < max && n < LIST_IDS && above < ctrl->info.namespaces; n++)
		ids[n] = ++above;
	return (int)n;
}

/* How many namespaces are active; 0 when the drive does not say, at most 1,024. */
static size_t count_namespaces(struct dmaland_nvme *ctrl)
{
	uint32_t ids[LIST_IDS];
	unsigned int n;

	fetch_list(ctrl, 0, ids, &n);
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
				 n, n == LIST_IDS ? " or more" : "");
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

/* An inactive namespace is all zeroes (NVMe 2.0, 5.17.2.1); one without blocks has formats. */
static bool is_inactive(const uint8_t *data)
{
	for (size_t i = 0; i < NVME_ADMIN_DATA; i++)
		if (data[i] != 0)
			return false;
	return true;
}

/* So many blocks are a limit in bytes; NLB has 16 bits and counts from 0 (NVM 1.0, 3.2.4). */
static uint32_t blocks_limit(const struct nvme_ns *ns, size_t bytes)
{
	size_t blocks = bytes >> ns->block_shift;

	return blocks < 65536 ? blocks : 65536;
}

static uint32_t at_least_1(uint32_t blocks)
{
	return blocks > 0 ? blocks : 1;
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

/* What the drive says of a namespace: of all, and of those that are zoned. */
struct ns_answers {
	unsigned int command_set;
	uint8_t data[NVME_ADMIN_DATA], zones[NVME_ADMIN_DATA];
};

/*
 * Ask for all that is to be known of a namespace. 0; a status, which is NVME_STATUS_INVALID_NAMESPACE for
 * one that is not active, in whatever way the drive says so; or -errno. A command set that the driver does
 * not know may have no such answers: it is not asked then.
 */
static int ask_drive(struct dmaland_nvme *ctrl, nvme_identify_fn *identify, uint32_t nsid,
		     struct ns_answers *answers)
{
	int status = nvme_identify_command_set(ctrl, identify, nsid, &answers->command_set);

	if (status != 0 || !nvme_knows_command_set(answers->command_set))
		return status;
	status = identify(ctrl, NVME_IDENTIFY_NAMESPACE, DMALAND_NVME_SET_NVM, nsid, answers->data);
	if (status == 0 && is_inactive(answers->data))
		status = NVME_STATUS_INVALID_NAMESPACE;
	if (status == 0 && answers->command_set == DMALAND_NVME_SET_ZONED)
		status = identify(ctrl, NVME_IDENTIFY_NAMESPACE_SET, DMALAND_NVME_SET_ZONED, nsid,
				  answers->zones);
	return status;
}

/* Blocks, and how they look. 0 or -errno. */
static int parse_blocks(const uint8_t *data, struct nvme_ns *ns)
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
	return 0;
}

/* Up to so many blocks, a transfer needs no other look than whether it ends with the namespace. */
static uint64_t max_blocks(const struct dmaland_nvme *ctrl, const struct nvme_ns *ns)
{
	const struct nvme_prp_pools *pools = &ctrl->pools;
	uint64_t blocks = (pools->max_run - pools->page_size) >> ns->block_shift;

	if (ns->special || ns->zones_apart)
		return 0;
	if (blocks > ns->most)
		blocks = ns->most;
	return blocks < ns->info.blocks ? blocks : ns->info.blocks;
}

/* From what the drive says to what we keep. Asks nothing more. 0 or -errno with the error set. */
static int parse_namespace(const struct dmaland_nvme *ctrl, const struct ns_answers *answers,
			   struct nvme_ns *ns)
{
	int code;

	ns->info.command_set = answers->command_set;
	code = nvme_check_command_set(&ns->info);
	if (code == 0)
		code = parse_blocks(answers->data, ns);
	if (code != 0)
		return code;
	ns->most = blocks_limit(ns, ctrl->info.max_transfer);
	ns->max_zeroes = at_least_1(blocks_limit(ns, ctrl->max_zeroes));
	ns->max_verify = at_least_1(blocks_limit(ns, ctrl->max_verify));
	ns->discard_unit = discard_unit(answers->data, ns->block_shift);
	ns->special = ns->info.metadata > 0 || ns->most == 0;
	if (ns->info.command_set == DMALAND_NVME_SET_ZONED)
		code = nvme_parse_zones(answers->zones, ns);
	ns->max_blocks = max_blocks(ctrl, ns);
	return code;
}

/* Ask the drive. The namespace, or NULL with the error set. */
static struct nvme_ns *identify_ns(struct dmaland_nvme *ctrl, uint32_t nsid)
{
	struct ns_answers answers;
	struct nvme_ns *ns;
	int status = ask_drive(ctrl, nvme_identify_set, nsid, &answers);

	if (status == NVME_STATUS_INVALID_NAMESPACE)
		no_such_namespace(ctrl, nsid);
	if (status != 0)
		return NULL;
	ns = calloc(1, sizeof(*ns));
	if (!ns) {
		dmaland_set_error(ENOMEM, "no memory for a namespace");
		return NULL;
	}
	ns->info.nsid = nsid;
	if (parse_namespace(ctrl, &answers, ns) != 0) {
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

/* Is writing and reading split alike? */
bool nvme_same_zones(const struct nvme_ns *a, const struct nvme_ns *b)
{
	return a->info.command_set == b->info.command_set &&
	       a->info.zone_blocks == b->info.zone_blocks && a->zones_apart == b->zones_apart;
}

static bool same_ns(const struct nvme_ns *a, const struct nvme_ns *b)
{
	return nvme_same_blocks(a, b) && nvme_same_zones(a, b) && a->info.nsid == b->info.nsid &&
	       a->info.blocks == b->info.blocks && a->info.format == b->info.format &&
	       a->info.format_count == b->info.format_count && a->most == b->most &&
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
				atomic_store_explicit(&before->current, NVME_STALE,
						      memory_order_relaxed);
				nvme_make_prepared_stale(ctrl, before->info.nsid);
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
	nvme_make_prepared_stale(ctrl, nsid);
	for (ns = first_ns(ctrl); ns; ns = ns->next) {
		if (nsid != UINT32_MAX && ns->info.nsid != nsid)
			continue;
		atomic_store_explicit(&ns->current, NVME_STALE, memory_order_relaxed);
		if (!formatted)
			continue;
		ns->told = false;
		atomic_store(&ns->formatted, true);
	}
}

/* Ask whether a namespace is what is known of it: 0; 1: it is something else, or nothing we know; -errno. */
int nvme_ns_changed(struct dmaland_nvme *ctrl, nvme_identify_fn *identify,
		    const struct nvme_ns *known)
{
	struct nvme_ns now = {.info.nsid = known->info.nsid};
	struct ns_answers answers;
	int status = ask_drive(ctrl, identify, known->info.nsid, &answers);

	if (status != 0)
		return status < 0 ? status : 1;
	return parse_namespace(ctrl, &answers, &now) != 0 || !same_ns(known, &now);
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

/*
 * One namespace (0xffffffff: all) is about to change. Changes take turns. While one is formatted, no other
 * command is late.
 */
void nvme_begin_change(struct dmaland_nvme *ctrl, uint32_t nsid, bool format)
{
	pthread_mutex_lock(&ctrl->format_lock);
	if (format)
		atomic_store_explicit(&ctrl->held_until, UINT64_MAX, memory_order_relaxed);
	pthread_mutex_lock(&ctrl->lock);
	nvme_forget_ns(ctrl, nsid, true);
	ctrl->formats += nsid;
	pthread_mutex_unlock(&ctrl->lock);
}

void nvme_end_change(struct dmaland_nvme *ctrl, uint32_t nsid, bool format)
{
	pthread_mutex_lock(&ctrl->lock);
	ctrl->formats -= nsid;
	pthread_mutex_unlock(&ctrl->lock);
	if (format)
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

	if (status == NVME_STATUS_INVALID_NAMESPACE || (status == 0 && is_inactive(data)))
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

/* Without a list of the active ones, those that do not exist are left out. */
static int check_all_formats(struct dmaland_nvme *ctrl, unsigned int format, unsigned int flags)
{
	uint32_t ids[LIST_IDS], last = 0;
	int n, status = 0;

	do {
		n = dmaland_nvme_list_namespaces(ctrl, last, ids, LIST_IDS);
		for (int i = 0; i < n && (status == 0 || status == -ENODEV); i++) {
			last = ids[i];
			status = check_format(ctrl, last, format, flags);
		}
	} while (n == LIST_IDS && (status == 0 || status == -ENODEV));
	if (n < 0)
		return n;
	return status == -ENODEV && nvme_service(ctrl) == NVME_LIVE ? 0 : status;
}

static int check_format_request(struct dmaland_nvme *ctrl, uint32_t nsid, unsigned int format,
				unsigned int flags)
{
	enum { ERASES = DMALAND_NVME_FORMAT_ERASE | DMALAND_NVME_FORMAT_CRYPTO_ERASE };

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
		return dmaland_set_error(
			EINVAL,
			"%s can only format all its %zu namespaces at once (FNA); "
			"if that is meant, give 0xffffffff (dmaland nvme format -n all)",
			dmaland_name(ctrl->dev), count_namespaces(ctrl));
	return nsid != UINT32_MAX ? check_format(ctrl, nsid, format, flags)
				  : check_all_formats(ctrl, format, flags);
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
	nvme_begin_change(ctrl, nsid, true);
	status = nvme_submit_sync_cmd(ctrl, &command, ctrl->format_ms, NULL);
	nvme_end_change(ctrl, nsid, true);
	return status;
}
