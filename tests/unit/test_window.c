/* SPDX-License-Identifier: MIT */
#include "test.h"

#include <errno.h>
#include <limits.h>

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/numa.h"
#include "backend/window.h"

/* ---- a kernel with hugepages of two sizes ---- */

int __real_memfd_create(const char *name, unsigned int flags);
int __wrap_memfd_create(const char *name, unsigned int flags);
int __real_fallocate64(int fd, int mode, off_t offset, off_t size);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size);

enum { HUGE_SHIFT = 26, MIB = 1 << 20 };

static struct {
	bool on;
	struct {
		unsigned int shift; /* log2 of the size */
		size_t free, used;
	} pages[2];
	int fd;		       /* the file that was made last ... */
	unsigned int fd_pages; /* ... and of which pages */
} kernel;

int __wrap_memfd_create(const char *name, unsigned int flags)
{
	if (!kernel.on || !(flags & MFD_HUGETLB))
		return __real_memfd_create(name, flags);
	for (unsigned int i = 0; i < 2; i++)
		if (flags >> HUGE_SHIFT == kernel.pages[i].shift) {
			kernel.fd_pages = i;
			kernel.fd = __real_memfd_create(name, MFD_CLOEXEC);
			return kernel.fd;
		}
	errno = ENODEV;
	return -1;
}

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size)
{
	size_t n = (size_t)size >> kernel.pages[kernel.fd_pages].shift;

	if (!kernel.on)
		return __real_fallocate64(fd, mode, offset, size);
	assert_int_equal(fd, kernel.fd);
	if (kernel.pages[kernel.fd_pages].free < n) {
		errno = ENOSPC;
		return -1;
	}
	kernel.pages[kernel.fd_pages].free -= n;
	kernel.pages[kernel.fd_pages].used += n;
	return ftruncate(fd, size);
}

/* What one piece of memory takes of the kernel's pages of 64 KiB and 2 MiB: most of the sizes are neither's. */
static void hugepages_of_each_size_are_used_the_largest_that_fit(void **state)
{
	static const struct {
		size_t size, align, free_64k, free_2m, used_64k, used_2m;
	} cases[] = {
		{65536, 65536, 1, 1, 1, 0},	   {256 << 10, 256 << 10, 4, 9, 4, 0},
		{2 * MIB, 2 * MIB, 32, 1, 0, 1},   {6 * MIB, 2 * MIB, 0, 3, 0, 3},
		{6 * MIB, 2 * MIB, 96, 2, 96, 0}, /* all of a piece is of one size */
		{MIB, MIB, 15, 9, 0, 0},	   {4096, 4096, 9, 9, 0, 0},
		{65536 + 4096, 65536, 9, 9, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct memory_window window;
		char *cpu;

		assert_int_equal(window_open(&window), 0);
		memset(&kernel, 0, sizeof(kernel));
		kernel.on = true;
		kernel.pages[0].shift = 16;
		kernel.pages[0].free = cases[i].free_64k;
		kernel.pages[1].shift = 21;
		kernel.pages[1].free = cases[i].free_2m;
		assert_int_equal(window_take(&window, cases[i].size, cases[i].align, &cpu), 0);
		kernel.on = false;
		assert_int_equal(kernel.pages[0].used, cases[i].used_64k);
		assert_int_equal(kernel.pages[1].used, cases[i].used_2m);
		memset(cpu, 1, cases[i].size);
		window_give(&window, cpu, cases[i].size);
		window_close(&window);
	}
}

static void memory_is_had_whatever_node_is_preferred(void **state)
{
	static const int nodes[] = {NUMA_NO_NODE, 0, 1023, 1024, INT_MAX, -2, INT_MIN};
	const size_t size = 2 << 20;

	(void)state;
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
		struct memory_window window;

		assert_int_equal(window_open(&window), 0);
		window_prefer_node(&window, nodes[i]);
		for (int again = 0; again < 2; again++) {
			char *small, *large;

			assert_int_equal(window_take(&window, 4096, 4096, &small), 0);
			assert_int_equal(window_take(&window, size, size, &large), 0);
			for (size_t at = 0; at < size; at++)
				assert_int_equal(large[at], 0);
			memset(small, 1, 4096);
			memset(large, 1, size);
			window_give(&window, small, 4096);
			window_give(&window, large, size);
		}
		window_close(&window);
	}
}

static void a_node_that_is_not_there_is_a_line_of_the_log(void **state)
{
	static const int nodes[] = {1023, 1024, INT_MAX, -2, INT_MIN};

	(void)state;
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
		struct memory_window window;
		char line[64];

		assert_int_equal(window_open(&window), 0);
		log_clear();
		window_prefer_node(&window, nodes[i]);
		snprintf(line, sizeof(line), "NUMA node %d: mbind: ", nodes[i]);
		assert_logged(line);
		assert_int_equal(window.node, NUMA_NO_NODE);
		window_close(&window);
	}
}

static void no_node_is_no_line(void **state)
{
	struct memory_window window;

	(void)state;
	assert_int_equal(window_open(&window), 0);
	log_clear();
	window_prefer_node(&window, NUMA_NO_NODE);
	assert_string_equal(log_text(), "");
	window_close(&window);
}

/* A child, which may not lock more than a limit, and says so. */
static void limits_of_the_process_are_named(void **state)
{
	static const struct {
		int resource;
		const char *says;
	} cases[] = {{RLIMIT_MEMLOCK, "ulimit -l"}, {RLIMIT_AS, "ulimit -v"}};

	(void)state;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	print_message("# cannot be had here: sanitizers map memory of their own\n");
	skip();
#endif
	for (size_t i = 0; i < 2; i++) {
		pid_t child = fork();
		int status;

		if (child == 0) {
			const struct rlimit limit = {1 << 20, 1 << 20};
			struct memory_window window;
			int err;

			/* Who may lock memory without a limit has none. */
			if (setrlimit(cases[i].resource, &limit) ||
			    (geteuid() == 0 && setresuid(65534, 65534, 65534)) ||
			    (cases[i].resource == RLIMIT_MEMLOCK && mlockall(MCL_FUTURE)))
				_exit(2);
			err = window_open(&window);
			_exit(err != -ENOMEM || errno != ENOMEM ||
			      !strstr(dmaland_last_error(), cases[i].says) ||
			      !strstr(dmaland_last_error(), "1024 KiB"));
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
}

/* 0000:00:00.0 may be there, this one is not. */
static void a_device_that_is_not_there_has_no_node(void **state)
{
	(void)state;
	assert_int_equal(numa_node_of_device("ffff:ff:1f.7"), NUMA_NO_NODE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hugepages_of_each_size_are_used_the_largest_that_fit),
		cmocka_unit_test(memory_is_had_whatever_node_is_preferred),
		cmocka_unit_test(a_node_that_is_not_there_is_a_line_of_the_log),
		cmocka_unit_test(no_node_is_no_line),
		cmocka_unit_test(limits_of_the_process_are_named),
		cmocka_unit_test(a_device_that_is_not_there_has_no_node),
	};

	log_capture();
	return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
