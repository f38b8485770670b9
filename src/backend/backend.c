/* SPDX-License-Identifier: MIT */
/*
 * backend.c - which backend serves a spec, and what every backend's domain has in common
 */
#include "backend/backend.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "backend/sysfs.h"

const struct backend *const backends[] = {&vfio_backend, &qemu_backend, &soft_backend, NULL};

const char *spec_get(const struct spec *spec, const char *key)
{
	for (size_t i = 0; i < spec->option_count; i++)
		if (strcmp(spec->options[i].key, key) == 0)
			return spec->options[i].value;
	return NULL;
}

static const struct backend *backend_named(const char *name)
{
	for (size_t i = 0; backends[i]; i++)
		if (strcmp(backends[i]->name, name) == 0)
			return backends[i];
	error_set(EINVAL, "there is no backend '%s'; there are: vfio, qemu, soft", name);
	return NULL;
}

/* The first backend that would work, untried where files were handed; the best one's reason when none would. */
static const struct backend *backend_for_address(const char *address, bool files)
{
	const struct backend *best = NULL;

	if (!sysfs_is_pci_address(address)) {
		error_set(EINVAL,
			  "'%s' is not a PCI address: one looks like 0000:01:00.0; "
			  "a spec is [backend:]address[,key=value...]",
			  address);
		return NULL;
	}
	for (size_t i = 0; backends[i]; i++) {
		if (!backends[i]->probe)
			continue;
		if (!best)
			best = backends[i];
		if (files ? backends[i]->takes_files : backends[i]->probe(address) == 0)
			return backends[i];
	}
	best->probe(address);
	return NULL;
}

const struct backend *backend_find(const struct spec *spec, const struct open_options *options)
{
	bool files = options->container_fd || options->group_fd || options->device_fd;
	const struct backend *backend;

	if (!spec->backend[0])
		return backend_for_address(spec->address, files);
	backend = backend_named(spec->backend);
	if (!backend || !files || backend->takes_files)
		return backend;
	error_set(EINVAL,
		  "%s takes no open files: options.container_fd, group_fd and device_fd are for "
		  "vfio",
		  backend->name);
	return NULL;
}

/* ---- after fork, in the child ---- */

int error_forked(const char *name)
{
	return error_set(EPERM,
			 "%s was opened before fork() and is the parent's: use it there, or open "
			 "a device of the child's own",
			 name);
}

static int forked_config_read(struct pci_function *f, unsigned int where, unsigned int width,
			      uint32_t *value)
{
	(void)where, (void)width, (void)value;
	return error_forked(f->name);
}

static int forked_config_write(struct pci_function *f, unsigned int where, unsigned int width,
			       uint32_t value)
{
	(void)where, (void)width, (void)value;
	return error_forked(f->name);
}

static int forked_bar(struct pci_function *f, unsigned int bar, uint64_t *size, void **direct)
{
	(void)bar, (void)size, (void)direct;
	return error_forked(f->name);
}

/* As a device that does not answer. */
static uint64_t forked_read(struct pci_function *f, unsigned int bar, uint64_t offset,
			    unsigned int width)
{
	(void)f, (void)bar, (void)offset, (void)width;
	return UINT64_MAX;
}

static void forked_write(struct pci_function *f, unsigned int bar, uint64_t offset,
			 unsigned int width, uint64_t value)
{
	(void)f, (void)bar, (void)offset, (void)width, (void)value;
}

static int forked_reset(struct pci_function *f)
{
	return error_forked(f->name);
}

static bool forked_is_dead(struct pci_function *f)
{
	(void)f;
	return false;
}

static void forked_close(struct pci_function *f)
{
	(void)f;
}

static const struct pci_function_ops forked_function_ops = {
	.config_read = forked_config_read,
	.config_write = forked_config_write,
	.bar = forked_bar,
	.read = forked_read,
	.write = forked_write,
	.reset = forked_reset,
	.is_dead = forked_is_dead,
	.close = forked_close,
};

void pci_function_disown(struct pci_function *f)
{
	for (unsigned int i = 0; i < f->irq.count; i++)
		close(f->irq.fds[i]);
	f->irq.count = 0;
	if (f->ops->disown)
		f->ops->disown(f);
	f->ops = &forked_function_ops;
}

/* ---- domains ---- */

int domain_init(struct domain *domain, const struct domain_ops *ops, uint64_t memory_limit)
{
	int err = pthread_mutex_init(&domain->lock, NULL);

	if (err)
		return error_set(err, "cannot make a lock for a domain: %s", strerror(err));
	domain->ops = ops;
	domain->memory_limit = memory_limit;
	domain->numa_node = NUMA_NO_NODE;
	iova_space_init(&domain->iova);
	return 0;
}

void domain_fini(struct domain *domain)
{
	iova_space_destroy(&domain->iova);
	pthread_mutex_destroy(&domain->lock);
}

int domain_check_limit(struct domain *domain, size_t size)
{
	uint64_t memory = __atomic_load_n(&domain->memory, __ATOMIC_RELAXED);

	if (!domain->memory_limit || size <= domain->memory_limit - memory)
		return 0;
	return error_set(ENOMEM,
			 "memory_limit is %llu KiB, %llu KiB are mapped and %zu KiB were asked: "
			 "raise options.memory_limit",
			 (unsigned long long)(domain->memory_limit >> 10),
			 (unsigned long long)(memory >> 10), size >> 10);
}

int domain_count_limited(struct domain *domain, size_t size)
{
	uint64_t limit = domain->memory_limit;
	uint64_t memory = __atomic_load_n(&domain->memory, __ATOMIC_RELAXED);

	for (;;) {
		if (size <= limit - memory) {
			if (__atomic_compare_exchange_n(&domain->memory, &memory, memory + size,
							true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
				return 0;
			continue;
		}
		if (domain_check_limit(domain, size))
			return -ENOMEM;
		memory = __atomic_load_n(&domain->memory, __ATOMIC_RELAXED);
	}
}
