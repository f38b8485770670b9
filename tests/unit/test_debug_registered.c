/* SPDX-License-Identifier: MIT */
/*
 * test_debug_registered.c - debug mode finds registered memory that the program unmapped: whatever the memory is, and
 * whatever the kernel answers
 */
#include "test.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <dmaland/dmaland.h>
#include "base/vma.h"
#include "streaming_stand.h"

enum { PAGE = 4096, PAGES = 40, AT = 20 };

/* ---- a kernel, or a container, that refuses ---- */

static struct {
	bool query;  /* PROCMAP_QUERY: a kernel before 6.11 */
	bool policy; /* a container without CAP_SYS_NICE */
	bool mbind;  /* with ENOMEM: no more mappings for this process */
} refused;

int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __real_ioctl(int fd, unsigned long request, void *argument);

int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	if (!refused.query)
		return __real_ioctl(fd, request, argument);
	errno = ENOTTY;
	return -1;
}

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);
long __real_syscall(long number, long a, long b, long c, long d, long e, long f);

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	bool is_policy = number == SYS_mbind || number == SYS_get_mempolicy;

	if (refused.policy && is_policy)
		errno = EPERM;
	else if (refused.mbind && number == SYS_mbind)
		errno = ENOMEM;
	else
		return __real_syscall(number, a, b, c, d, e, f);
	return -1;
}

/* ---- memory ---- */

static char *pages_map_from(char *at, size_t pages, int flags, int file, off_t offset)
{
	void *ptr = mmap(at, pages * PAGE, PROT_READ | PROT_WRITE, flags | (at ? MAP_FIXED : 0),
			 file, offset);

	assert_true(ptr != MAP_FAILED);
	memset(ptr, 1, pages * PAGE);
	return ptr;
}

static char *pages_map(char *at, size_t pages, int flags, int file)
{
	return pages_map_from(at, pages, flags, file, 0);
}

static char *anonymous(char *at, size_t pages)
{
	return pages_map(at, pages, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

static char *anonymous_shared(char *at, size_t pages)
{
	return pages_map(at, pages, MAP_SHARED | MAP_ANONYMOUS, -1);
}

static char *of_a_file(char *at, size_t pages, int flags)
{
	int file = memfd_create("test", MFD_CLOEXEC);
	char *ptr;

	assert_true(file >= 0);
	assert_int_equal(ftruncate(file, (off_t)pages * PAGE), 0);
	ptr = pages_map(at, pages, flags, file);
	close(file);
	return ptr;
}

static char *file_shared(char *at, size_t pages)
{
	return of_a_file(at, pages, MAP_SHARED);
}

static char *file_private(char *at, size_t pages)
{
	return of_a_file(at, pages, MAP_PRIVATE);
}

/* The second half is a file. */
static char *of_two_kinds(char *at, size_t pages)
{
	char *ptr = anonymous(at, pages);

	if (pages > 1)
		file_shared(ptr + pages / 2 * PAGE, pages - pages / 2);
	return ptr;
}

static char *(*const kinds[])(char *at, size_t pages) = {
	anonymous, anonymous_shared, file_shared, file_private, of_two_kinds,
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* ---- what is found ---- */

static void open_debug(void)
{
	open_kind(FAKE_MAPS, (struct streaming_options){.debug = true});
}

/* ptr was registered; what lies at a page of it is not any more what it was. */
static void expect_found(char *ptr, char *page, const char *what)
{
	char where[64];
	dma_addr_t dma;

	snprintf(where, sizeof(where), "from %p on", (void *)page);
	log_clear();
	assert_int_equal(streaming_check(s), 1);
	assert_logged(where);
	assert_logged(what);
	assert_true(streaming_map(s, page - 8, 16, DMA_TO_DEVICE, 0) == DMA_MAPPING_ERROR);
	assert_int_equal(errno, EFAULT);
	assert_error_says(where);
	assert_error_says(what);
	dma = streaming_map(s, ptr, 16, DMA_TO_DEVICE, 0);
	assert_true(dma != DMA_MAPPING_ERROR);
	streaming_unmap(s, dma, 16, DMA_TO_DEVICE, 0);
	log_clear();
	assert_int_equal(streaming_unregister(s, ptr), 0);
	assert_logged(where);
	assert_logged(what);
	log_clear();
}

static void expect_nothing_found(char *ptr, size_t size)
{
	dma_addr_t dma = streaming_map(s, ptr, size, DMA_TO_DEVICE, 0);

	assert_true(dma != DMA_MAPPING_ERROR);
	streaming_unmap(s, dma, size, DMA_TO_DEVICE, 0);
	assert_int_equal(streaming_check(s), 0);
}

/* All of it but the ends of the first and the last page. */
static void check_pages(size_t kind, size_t pages)
{
	size_t at = pages > 2 ? pages / 2 : pages - 1, size = pages * PAGE - 30;
	char *ptr = kinds[kind](NULL, pages), *page = ptr + at * PAGE;

	for (size_t other = 0; other <= KINDS; other++) {
		assert_int_equal(streaming_register(s, ptr + 10, size), 0);
		expect_nothing_found(ptr + 10, size);
		if (other < KINDS) {
			munmap(page, PAGE);
			kinds[other](page, 1);
			expect_found(ptr + 10, page, "and mapped others");
		} else {
			munmap(page, PAGE);
			expect_found(ptr + 10, page, "since:");
		}
		munmap(ptr, pages * PAGE);
		assert_ptr_equal(kinds[kind](ptr, pages), ptr);
	}
	assert_int_equal(streaming_register(s, ptr + 10, size), 0);
	expect_nothing_found(ptr + 10, size);
	assert_int_equal(streaming_unregister(s, ptr + 10), 0);
	munmap(ptr, pages * PAGE);
}

static void memory_that_is_unmapped_is_found_whatever_it_is(void **state)
{
	(void)state;
	open_debug();
	for (int what = 0; what < 4; what++) {
		refused.query = what & 1;
		refused.policy = what & 2;
		for (size_t kind = 0; kind < KINDS; kind++) {
			check_pages(kind, 2);
			check_pages(kind, 5);
			check_pages(kind, PAGES);
		}
	}
	refused.query = refused.policy = false;
	close_quietly();
}

/* As malloc() does where it is much: the same place again, in all its length. */
static void memory_that_is_mapped_anew_as_a_whole_is_found(void **state)
{
	(void)state;
	open_debug();
	for (size_t pages = 1; pages <= PAGES; pages += PAGES - 1) {
		char *ptr = anonymous(NULL, pages);

		assert_int_equal(streaming_register(s, ptr, pages * PAGE), 0);
		munmap(ptr, pages * PAGE);
		anonymous(ptr, pages);
		assert_int_equal(streaming_check(s), 1);
		assert_logged("and mapped others");
		assert_int_equal(streaming_unregister(s, ptr), 0);
		munmap(ptr, pages * PAGE);
	}
	close_place();
}

/* The process may have no more mappings: what is gone is found still. */
static void memory_that_gets_no_mark_is_found_when_it_is_gone(void **state)
{
	char *ptr = anonymous(NULL, PAGES);

	(void)state;
	open_debug();
	refused.mbind = true;
	assert_int_equal(streaming_register(s, ptr, PAGES * PAGE), 0);
	refused.mbind = false;
	anonymous(ptr + 3 * PAGE, 1);
	expect_nothing_found(ptr, PAGES * PAGE);
	munmap(ptr + AT * PAGE, PAGE);
	expect_found(ptr, ptr + AT * PAGE, "since:");
	munmap(ptr, PAGES * PAGE);
	close_quietly();
}

/* What can't be known is no mistake of the program's: it may have locked itself in meanwhile. */
static void memory_that_cannot_be_looked_at_any_more_counts_as_it_was(void **state)
{
	char *ptr = anonymous(NULL, PAGES);

	(void)state;
	open_debug();
	assert_int_equal(streaming_register(s, ptr, PAGES * PAGE), 0);
	assert_int_equal(streaming_register(s, memory, 64), 0);
	refused.policy = true;
	expect_nothing_found(ptr, PAGES * PAGE);
	expect_nothing_found(ptr, PAGE);
	expect_nothing_found(memory, 64);
	assert_int_equal(streaming_unregister(s, ptr), 0);
	refused.policy = false;
	assert_int_equal(streaming_unregister(s, memory), 0);
	munmap(ptr, PAGES * PAGE);
	close_quietly();
}

/* ---- what stays as it was ---- */

/* Skips where policies are not to be had: then there is nothing to be left. */
static int policy_of(const char *ptr)
{
	int mode = -1;

	if (syscall(SYS_get_mempolicy, &mode, NULL, 0UL, ptr, MPOL_F_ADDR, 0L)) {
		print_message("no memory policies: %s\n", strerror(errno));
		skip();
	}
	return mode;
}

/* How many mappings the pages are, without what lies beside them. */
static size_t mappings_of(const char *ptr, size_t pages)
{
	uintptr_t at = (uintptr_t)ptr, end = at + pages * PAGE;
	struct vma_reader reader;
	struct vma vma;
	size_t n = 0;

	assert_true(vma_open(&reader, false));
	for (; at < end && vma_next(&reader, at, &vma); at = vma.end)
		n++;
	vma_close(&reader);
	return n;
}

static void memory_has_no_marks_afterwards(void **state)
{
	char *ptr = anonymous(NULL, PAGES), *parts[2] = {ptr + 100, ptr + 100 + PAGE};

	(void)state;
	assert_int_equal(policy_of(ptr), MPOL_DEFAULT);
	open_debug();
	for (int first = 0; first < 2; first++) {
		assert_int_equal(streaming_register(s, parts[0], PAGE), 0);
		assert_int_equal(streaming_register(s, parts[1], PAGE), 0);
		assert_int_equal(streaming_register(s, ptr + AT * PAGE, PAGE), 0);
		assert_int_equal(mappings_of(ptr, PAGES), 4);
		/* The second page is of both, and stays marked. */
		assert_int_equal(streaming_unregister(s, parts[first]), 0);
		assert_int_equal(policy_of(ptr), first ? MPOL_LOCAL : MPOL_DEFAULT);
		assert_int_equal(policy_of(ptr + PAGE), MPOL_LOCAL);
		assert_int_equal(policy_of(ptr + 2 * PAGE), first ? MPOL_DEFAULT : MPOL_LOCAL);
		assert_int_equal(streaming_check(s), 0);
		assert_int_equal(streaming_unregister(s, parts[!first]), 0);
		assert_int_equal(streaming_unregister(s, ptr + AT * PAGE), 0);
		assert_int_equal(mappings_of(ptr, PAGES), 1);
		assert_int_equal(policy_of(ptr), MPOL_DEFAULT);
	}
	munmap(ptr, PAGES * PAGE);
	close_quietly();
}

static void a_policy_of_the_programs_stays(void **state)
{
	unsigned long node = 1;
	char *ptr = anonymous(NULL, PAGES);

	(void)state;
	assert_int_equal(policy_of(ptr), MPOL_DEFAULT);
	assert_int_equal(
		syscall(SYS_mbind, ptr + 2 * PAGE, 3L * PAGE, MPOL_PREFERRED, &node, 64UL, 0L), 0);
	open_debug();
	assert_int_equal(streaming_register(s, ptr, PAGES * PAGE), 0);
	assert_int_equal(policy_of(ptr), MPOL_LOCAL);
	assert_int_equal(policy_of(ptr + 2 * PAGE), MPOL_PREFERRED);
	assert_int_equal(streaming_unregister(s, ptr), 0);
	assert_int_equal(policy_of(ptr), MPOL_DEFAULT);
	assert_int_equal(policy_of(ptr + 2 * PAGE), MPOL_PREFERRED);
	assert_int_equal(streaming_register(s, ptr, PAGES * PAGE), 0);
	anonymous(ptr + 2 * PAGE, 1);
	expect_found(ptr, ptr + 2 * PAGE, "and mapped others");
	munmap(ptr, PAGES * PAGE);
	close_quietly();
}

/* Two devices that share nothing have the same memory, or neighbours in a page: each one's stays as it was. */
static void what_two_domains_have_registered_stays_known_to_both(void **state)
{
	struct dmaland_device *a = dmaland_open("soft:", NULL), *b = dmaland_open("soft:", NULL);
	char *ptr = anonymous(NULL, PAGES);
	const struct {
		char *ptr;
		size_t size;
	} of_a[] = {{ptr, 2 * PAGE}, {ptr + 64, 64}}, of_b[] = {{ptr, 2 * PAGE}, {ptr + 1024, 64}};

	(void)state;
	assert_non_null(a);
	assert_non_null(b);
	for (size_t i = 0; i < 2; i++) {
		dma_addr_t dma;

		assert_int_equal(dmaland_register(a, of_a[i].ptr, of_a[i].size), 0);
		assert_int_equal(dmaland_register(b, of_b[i].ptr, of_b[i].size), 0);
		assert_int_equal(dmaland_unregister(b, of_b[i].ptr), 0);
		dma = dma_map_single(a, of_a[i].ptr, of_a[i].size, DMA_TO_DEVICE);
		assert_false(dma_mapping_error(a, dma));
		dma_unmap_single(a, dma, of_a[i].size, DMA_TO_DEVICE);
		assert_int_equal(dmaland_check_registered(a), 0);
		assert_int_equal(dmaland_unregister(a, of_a[i].ptr), 0);
	}
	dmaland_close(b);
	dmaland_close(a);
	assert_string_equal(log_text(), "");
	munmap(ptr, PAGES * PAGE);
}

/* A file's memory policy would be that of all its mappings. */
static void a_file_that_is_mapped_twice_is_two(void **state)
{
	int file = memfd_create("test", MFD_CLOEXEC);
	char *one, *other;

	(void)state;
	assert_int_equal(ftruncate(file, (PAGES + 1) * PAGE), 0);
	one = pages_map(NULL, PAGES, MAP_SHARED, file);
	other = pages_map(NULL, PAGES, MAP_SHARED, file);
	open_debug();
	assert_int_equal(streaming_register(s, one, PAGES * PAGE), 0);
	assert_int_equal(streaming_register(s, other, PAGES * PAGE), 0);
	assert_int_equal(streaming_unregister(s, one), 0);
	expect_nothing_found(other, PAGES * PAGE);
	file_shared(other, PAGES);
	assert_int_equal(streaming_check(s), 1);
	pages_map(other, PAGES, MAP_SHARED, file);
	assert_int_equal(streaming_check(s), 0); /* the same pages again */
	pages_map_from(other, PAGES, MAP_SHARED, file, PAGE);
	assert_int_equal(streaming_check(s), 1);
	assert_int_equal(streaming_unregister(s, other), 0);
	munmap(one, PAGES * PAGE);
	munmap(other, PAGES * PAGE);
	close(file);
	close_place();
}

/* ---- base/vma.c ---- */

enum { VMAS = 8 };

/* What the pages are, as from a kernel that knows PROCMAP_QUERY or not, or as it tells advice. */
static void vmas_read(const char *ptr, bool as_text, bool advice, struct vma *vmas)
{
	uintptr_t at = (uintptr_t)ptr, end = at + PAGES * PAGE;
	struct vma_reader reader;
	size_t n = 0;

	refused.query = as_text;
	assert_true(vma_open(&reader, advice));
	for (; at < end; at = vmas[n++].end) {
		assert_true(n < VMAS);
		assert_true(vma_next(&reader, at, &vmas[n]));
	}
	vma_close(&reader);
	refused.query = false;
	assert_int_equal(n, VMAS);
}

static void mappings_are_read_alike_by_question_and_as_text(void **state)
{
	char *ptr = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vma vmas[3][VMAS];

	(void)state;
	/* Nothing to be read, file, its third page, more of the file, nothing, hole, nothing, private mapping, nothing. */
	file_shared(ptr + PAGE, 8);
	madvise(ptr + 3 * PAGE, PAGE, MADV_RANDOM);
	munmap(ptr + 12 * PAGE, PAGE);
	file_private(ptr + 20 * PAGE, 2);
	for (int i = 0; i < 3; i++)
		vmas_read(ptr, i > 0, i == 2, vmas[i]);
	for (int i = 0; i < 3; i++)
		for (size_t k = 0; k < VMAS; k++) {
			assert_int_equal(vmas[i][k].begin, vmas[0][k].begin);
			assert_int_equal(vmas[i][k].end, vmas[0][k].end);
			assert_int_equal(vmas[i][k].inode, vmas[0][k].inode);
			assert_int_equal(vmas[i][k].device, vmas[0][k].device);
			assert_int_equal(vmas[i][k].offset, vmas[0][k].offset);
			assert_int_equal(vmas[i][k].shared, k >= 1 && k <= 3);
			assert_int_equal(vmas[i][k].random, i == 2 && k == 2);
		}
	assert_int_equal(vmas[0][2].begin, (uintptr_t)ptr + 3 * PAGE);
	assert_int_equal(vmas[0][2].offset, 2 * PAGE);
	assert_true(vmas[0][1].inode && vmas[0][6].inode && vmas[0][1].inode != vmas[0][6].inode);
	munmap(ptr, PAGES * PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_that_is_unmapped_is_found_whatever_it_is),
		cmocka_unit_test(memory_that_is_mapped_anew_as_a_whole_is_found),
		cmocka_unit_test(memory_that_gets_no_mark_is_found_when_it_is_gone),
		cmocka_unit_test(memory_that_cannot_be_looked_at_any_more_counts_as_it_was),
		cmocka_unit_test(memory_has_no_marks_afterwards),
		cmocka_unit_test(a_policy_of_the_programs_stays),
		cmocka_unit_test(what_two_domains_have_registered_stays_known_to_both),
		cmocka_unit_test(a_file_that_is_mapped_twice_is_two),
		cmocka_unit_test(mappings_are_read_alike_by_question_and_as_text),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
