/* SPDX-License-Identifier: MIT */
/*
 * mmio.c - register windows: where readl() and its family land
 *
 * Windows that are not mapped stand in a list. Its nodes are only ever added, and used again once
 * their window is closed, so that a reader needs no lock. lowest..highest bounds all of them: in a
 * process that has none, an access costs one comparison more than the bare load.
 */
#include "backend/mmio.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <dmaland/io.h>
#include "base/error.h"
#include "base/file.h"
#include "base/mutex.h"
#include "backend/bus_error.h"

struct window {
	struct window *next;
	_Atomic(uintptr_t) base; /* 0: not in use; written last when a window opens */
	_Atomic(uintptr_t) size;
	struct pci_function *function;
	unsigned int bar;
	void *direct; /* where the registers really are; NULL: nowhere */
};

static struct {
	pthread_mutex_t lock; /* for opening and closing */
	_Atomic(struct window *) first;
	_Atomic(uintptr_t) lowest, highest; /* of all windows that ever were without a mapping */
} table = {.lock = PTHREAD_MUTEX_INITIALIZER, .lowest = UINTPTR_MAX};

struct mmio_bounds mmio_bounds;

/* The open window that an address lies in; what it says holds as long as nobody closes it. */
static struct window *window_at(uintptr_t address)
{
	for (struct window *w = atomic_load_explicit(&table.first, memory_order_acquire); w;
	     w = w->next) {
		uintptr_t base = atomic_load_explicit(&w->base, memory_order_acquire);
		bool inside = base && address - base < atomic_load(&w->size);

		/* A node that is just used again has another base by now. */
		if (inside && atomic_load(&w->base) == base)
			return w;
	}
	return NULL;
}

bool mmio_overlaps(const void *ptr, size_t size, bool only_trapped)
{
	uintptr_t begin = (uintptr_t)ptr, end = begin + size;

	for (struct window *w = atomic_load_explicit(&table.first, memory_order_acquire); w;
	     w = w->next) {
		uintptr_t base = atomic_load_explicit(&w->base, memory_order_acquire);

		if (base && base < end && begin < base + atomic_load(&w->size) &&
		    !(only_trapped && w->direct))
			return true;
	}
	return false;
}

bool mmio_contains(const void *ptr, size_t size)
{
	const struct window *w = window_at((uintptr_t)ptr);
	uintptr_t inside =
		w ? (uintptr_t)ptr - atomic_load_explicit(&w->base, memory_order_acquire) : 0;

	return w && inside < atomic_load(&w->size) && size <= atomic_load(&w->size) - inside;
}

/* Called in a handler of SIGBUS. */
static bool is_direct(uintptr_t address)
{
	struct window *w = window_at(address);

	return w && w->direct;
}

/* The window without a mapping that an address lies in; NULL: follow the address. */
static struct window *window_trapped(uintptr_t address)
{
	struct window *w = window_at(address);

	return w && !w->direct ? w : NULL;
}

static inline bool is_mapped_surely(uintptr_t address)
{
	return address < atomic_load_explicit(&table.lowest, memory_order_relaxed) ||
	       address > atomic_load_explicit(&table.highest, memory_order_relaxed);
}

/* A driver reads and writes registers with locks of its own held: no cancellation points. */
static uint64_t window_read(struct window *w, uintptr_t address, unsigned int width)
{
	uint64_t value;

	cancel_hold();
	value = w->function->ops->read(w->function, w->bar, address - w->base, width);
	cancel_release();
	return value;
}

static void window_write(struct window *w, uintptr_t address, unsigned int width, uint64_t value)
{
	cancel_hold();
	w->function->ops->write(w->function, w->bar, address - w->base, width, value);
	cancel_release();
}

/* The second half stands apart, so that the first needs no stack. */
#define MMIO_ACCESS(bits)                                                                          \
	static __attribute__((noinline))                                                           \
	uint##bits##_t look_up_read##bits(const volatile void *addr)                               \
	{                                                                                          \
		struct window *w = window_trapped((uintptr_t)addr);                                \
                                                                                                   \
		return w ? (uint##bits##_t)window_read(w, (uintptr_t)addr, bits / 8)               \
			 : bus_read##bits(addr);                                                   \
	}                                                                                          \
	uint##bits##_t dmaland_read##bits(const volatile void *addr)                               \
	{                                                                                          \
		if (__builtin_expect(is_mapped_surely((uintptr_t)addr), 1))                        \
			return bus_read##bits(addr);                                               \
		return look_up_read##bits(addr);                                                   \
	}                                                                                          \
	static __attribute__((noinline)) void look_up_write##bits(uint##bits##_t value,            \
								  volatile void *addr)             \
	{                                                                                          \
		struct window *w = window_trapped((uintptr_t)addr);                                \
                                                                                                   \
		if (w)                                                                             \
			window_write(w, (uintptr_t)addr, bits / 8, value);                         \
		else                                                                               \
			bus_write##bits(value, addr);                                              \
	}                                                                                          \
	void dmaland_write##bits(uint##bits##_t value, volatile void *addr)                        \
	{                                                                                          \
		if (__builtin_expect(is_mapped_surely((uintptr_t)addr), 1))                        \
			bus_write##bits(value, addr);                                              \
		else                                                                               \
			look_up_write##bits(value, addr);                                          \
	}

MMIO_ACCESS(8)
MMIO_ACCESS(16)
MMIO_ACCESS(32)
MMIO_ACCESS(64)

/* A node for a new window; the lock is held. */
static struct window *window_node(void)
{
	struct window *w;

	for (w = table.first; w; w = w->next)
		if (!w->base)
			return w;
	w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	w->next = table.first;
	atomic_store_explicit(&table.first, w, memory_order_release);
	return w;
}

static void table_widen(uintptr_t base, uintptr_t size)
{
	if (base < table.lowest)
		table.lowest = base;
	if (base + size - 1 > table.highest)
		table.highest = base + size - 1;
}

static void bounds_widen(uintptr_t base, uintptr_t size)
{
	uintptr_t lowest = mmio_bounds.lowest, end = lowest + mmio_bounds.bytes;

	if (!mmio_bounds.bytes)
		lowest = end = base;
	if (base < lowest)
		lowest = base;
	if (base + size > end)
		end = base + size;
	/* In between the bytes reach too far, rather than not far enough. */
	__atomic_store_n(&mmio_bounds.bytes, end - lowest, __ATOMIC_RELAXED);
	__atomic_store_n(&mmio_bounds.lowest, lowest, __ATOMIC_RELEASE);
}

void *mmio_open(struct pci_function *f, unsigned int bar, uint64_t size)
{
	uint64_t bar_size;
	struct window *w;
	void *cookie, *direct;
	int err;

	cancel_hold();
	err = f->ops->bar(f, bar, &bar_size, &direct);
	cancel_release();
	if (err)
		return NULL;
	if (bar_size == 0) {
		error_set(EINVAL, "%s has no memory BAR %u", f->name, bar);
		return NULL;
	}
	if (size == 0 || size > bar_size)
		size = bar_size;
	cookie = direct;
	if (direct) {
		bus_error_watch(is_direct);
	} else {
		cookie = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			      -1, 0);
		if (cookie == MAP_FAILED) {
			error_mmap("cannot reserve %llu bytes of addresses for BAR %u of %s",
				   (unsigned long long)size, bar, f->name);
			return NULL;
		}
	}

	mutex_lock(&table.lock);
	w = window_node();
	if (w) {
		w->size = size;
		w->function = f;
		w->bar = bar;
		w->direct = direct;
		if (!direct)
			table_widen((uintptr_t)cookie, size);
		bounds_widen((uintptr_t)cookie, size);
		atomic_store_explicit(&w->base, (uintptr_t)cookie, memory_order_release);
	}
	mutex_unlock(&table.lock);
	if (!w) {
		if (!direct)
			munmap(cookie, size);
		error_set(ENOMEM, "no memory for a register window of %s", f->name);
		return NULL;
	}
	return cookie;
}

/* The lock is held. */
static void window_close(struct window *w)
{
	if (!w->direct)
		munmap((void *)w->base, w->size);
	atomic_store_explicit(&w->base, 0, memory_order_release);
}

void mmio_close(struct pci_function *f, void *cookie)
{
	mutex_lock(&table.lock);
	for (struct window *w = table.first; w; w = w->next)
		if (w->base == (uintptr_t)cookie && w->base && w->function == f) {
			window_close(w);
			break;
		}
	mutex_unlock(&table.lock);
}

void mmio_close_all(struct pci_function *f)
{
	mutex_lock(&table.lock);
	for (struct window *w = table.first; w; w = w->next)
		if (w->base && w->function == f)
			window_close(w);
	mutex_unlock(&table.lock);
}

/* However large the windows are: an empty file in their place raises SIGBUS, as registers that are gone. */
void mmio_disown(struct pci_function *f)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int nothing = file_raise(memfd_create("dmaland-registers", MFD_CLOEXEC));

	pthread_mutex_init(&table.lock, NULL);
	for (struct window *w = table.first; w; w = w->next) {
		uintptr_t base = w->base & ~(page - 1), end = w->base + w->size;

		if (w->base && w->direct && w->function == f)
			mmap((void *)base, end - base, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_FIXED, nothing, 0);
	}
	close(nothing);
}
