/* SPDX-License-Identifier: MIT */
/*
 * soft.c - the backend `soft:`: options, opening
 *
 * bits, granule, mappings and coherent belong to the domain: a device that joins another's takes
 * none of them. reserved is the device's.
 */
#include "backend/soft.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/error.h"

#define BITS_MIN     24
#define BITS_MAX     57 /* a PC's IOMMU with five levels */
#define BITS_DEFAULT 39 /* one with three levels */
#define GRANULE_MAX  ((uint64_t)2 << 20)

/* As many as VFIO's type1 allows. */
#define MAPPINGS_DEFAULT 65535

static int number_parse(const struct spec_option *option, uint64_t least, uint64_t most,
			uint64_t *number)
{
	const char *text = option->value;
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || *number < least || *number > most)
		return error_set(EINVAL, "soft: %s=%s is not a number from %llu to %llu",
				 option->key, text, (unsigned long long)least,
				 (unsigned long long)most);
	return 0;
}

static int granule_parse(const struct spec_option *option, size_t *granule)
{
	uint64_t number, page = (uint64_t)sysconf(_SC_PAGESIZE);
	int err = number_parse(option, page, GRANULE_MAX, &number);

	if (!err && !is_power_of_two(number))
		err = error_set(EINVAL, "soft: granule=%s is not a power of two, as 65536 is",
				option->value);
	if (!err)
		*granule = (size_t)number;
	return err;
}

static int coherent_parse(const struct spec_option *option, bool *coherent)
{
	*coherent = strcmp(option->value, "yes") == 0;
	if (!*coherent && strcmp(option->value, "no"))
		return error_set(EINVAL,
				 "soft: coherent=%s is neither coherent=yes nor coherent=no",
				 option->value);
	return 0;
}

static int reserved_parse(const struct spec_option *option, struct soft_domain_options *options)
{
	struct iova_range *reserved = &options->reserved;
	unsigned long long first, last;
	char rest;

	if (sscanf(option->value, "0x%llx-0x%llx%c", &first, &last, &rest) != 2 || first > last)
		return error_set(EINVAL,
				 "soft: reserved=%s is not a range of dma addresses, as "
				 "0x8000000-0xbffffff is",
				 option->value);
	*reserved = (struct iova_range){first, last};
	options->has_reserved = true;
	return 0;
}

static const char *const soft_keys[] = {"bits",	    "granule",	"mappings",
					"coherent", "reserved", NULL};

static int option_parse(const struct spec_option *option, struct soft_domain_options *options)
{
	uint64_t number = 0;
	int err;

	if (strcmp(option->key, "bits") == 0) {
		err = number_parse(option, BITS_MIN, BITS_MAX, &number);
		options->bits = (unsigned int)number;
		return err;
	}
	if (strcmp(option->key, "mappings") == 0) {
		err = number_parse(option, 1, UINT32_MAX, &number);
		options->mappings = (uint32_t)number;
		return err;
	}
	if (strcmp(option->key, "granule") == 0)
		return granule_parse(option, &options->granule);
	if (strcmp(option->key, "coherent") == 0)
		return coherent_parse(option, &options->coherent);
	return reserved_parse(option, options);
}

/* Only of its own domain may a device say what it is like. */
static int shared_check(const struct spec *spec, const struct pci_function *share)
{
	for (size_t i = 0; i < spec->option_count; i++)
		if (strcmp(spec->options[i].key, "reserved"))
			return error_set(
				EINVAL,
				"soft: %s is the domain's, which %s has made: leave it out with "
				"options.share_with",
				spec->options[i].key, share->name);
	return 0;
}

/* The domain to join: the one to share, or a new one. NULL with the error set. */
static struct soft_domain *domain_for(const struct spec *spec, struct pci_function *share,
				      uint64_t memory_limit)
{
	struct soft_domain_options options = {
		.bits = BITS_DEFAULT,
		.granule = (size_t)sysconf(_SC_PAGESIZE),
		.mappings = MAPPINGS_DEFAULT,
		.coherent = true,
		.memory_limit = memory_limit,
	};
	struct soft_domain *sd = NULL;

	for (size_t i = 0; i < spec->option_count; i++)
		if (option_parse(&spec->options[i], &options))
			return NULL;
	if (share && (soft_domain_of(share, &sd) || shared_check(spec, share)))
		return NULL;
	if (!share)
		sd = soft_domain_create(&options);
	if (sd && options.has_reserved && soft_domain_reserve(sd, &options.reserved)) {
		if (!share)
			sd->domain.ops->destroy(&sd->domain);
		return NULL;
	}
	return sd;
}

static int soft_open(const struct spec *spec, const struct open_options *options,
		     struct pci_function **f)
{
	struct soft_function *sf;
	struct soft_domain *sd;

	if (spec->address[0] && strcmp(spec->address, "engine"))
		return error_set(EINVAL,
				 "soft: there is no device '%s': the spec is soft: or soft:engine, "
				 "then ,key=value",
				 spec->address);
	sf = soft_function_create();
	if (!sf)
		return -errno;
	sd = domain_for(spec, options->share, options->memory_limit);
	if (!sd) {
		int code = errno;

		soft_function_free(sf);
		return -code;
	}
	soft_function_join(sf, sd);
	*f = &sf->f;
	return 0;
}

const struct backend soft_backend = {
	.name = "soft",
	.debug = true,
	.keys = soft_keys,
	.open = soft_open,
};
