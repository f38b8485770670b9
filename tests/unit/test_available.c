/* SPDX-License-Identifier: MIT */
/*
 * test_available.c - memory that is not there is refused, and no process ended
 *
 * What the kernel says of memory stands in files of the test's own, in a directory that is the root.
 */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/available.h"
#include "backend/sysfs.h"

#define MIB	((size_t)1 << 20)
#define ABOUND	"MemTotal: 9999999 kB\nMemFree: 1 kB\nMemAvailable: 9999999 kB\n"
#define NO_LINE "MemTotal: 9999999 kB\n"

/* A file of the kernel's; no path: the last one. */
struct file {
	const char *path, *text;
};

struct case_of_look {
	const char *what;
	struct file files[10];
	size_t fits; /* MiB that are granted, and not one more; 0: nothing is; SIZE_MAX: all is */
	const char *says; /* the sentence where it is refused */
};

static char root[64];

static void file_write(const struct file *file)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s%s", root, file->path);
	for (char *slash = strchr(path + strlen(root), '/'); slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0700);
		*slash = '/';
	}
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(file->text, f);
	fclose(f);
}

static void root_remove(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", root);
	assert_int_equal(system(command), 0);
}

static void root_make(const struct file *files)
{
	snprintf(root, sizeof(root), "/tmp/dmaland-available-XXXXXX");
	assert_non_null(mkdtemp(root));
	strcat(root, "/");
	for (; files->path; files++)
		file_write(files);
}

static const struct case_of_look cases[] = {
	{"nothing is known", {{NULL, NULL}}, SIZE_MAX, NULL},
	{"no MemAvailable", {{"proc/meminfo", NO_LINE}}, SIZE_MAX, NULL},
	{"the system has 100 MiB",
	 {{"proc/meminfo", "MemTotal: 999999 kB\nMemAvailable:  102400 kB\nSwapTotal: 0 kB\n"}},
	 84,
	 "MemAvailable"},
	{"the system has less than is to be left",
	 {{"proc/meminfo", "MemAvailable: 1024 kB\n"}},
	 0,
	 "1 MiB available"},
	{"version 2, its own",
	 {{"proc/meminfo", ABOUND},
	  {"proc/self/cgroup", "0::/a/b\n"},
	  {"sys/fs/cgroup/a/b/memory.max", "134217728\n"},
	  {"sys/fs/cgroup/a/b/memory.current", "33554432\n"},
	  {"sys/fs/cgroup/a/memory.max", "max\n"},
	  {"sys/fs/cgroup/a/memory.current", "33554432\n"}},
	 80,
	 "sys/fs/cgroup/a/b may have 128 MiB (memory.max), of which 32 MiB"},
	{"version 2, one above, which is tighter",
	 {{"proc/meminfo", ABOUND},
	  {"proc/self/cgroup", "0::/a/b/c\n"},
	  {"sys/fs/cgroup/a/b/c/memory.max", "134217728\n"},
	  {"sys/fs/cgroup/a/b/c/memory.current", "0\n"},
	  {"sys/fs/cgroup/a/b/memory.max", "max\n"},
	  {"sys/fs/cgroup/a/memory.max", "134217728\n"},
	  {"sys/fs/cgroup/a/memory.current", "67108864\n"}},
	 48,
	 "sys/fs/cgroup/a may have 128 MiB"},
	{"version 2, the cache of files can be had",
	 {{"proc/meminfo", ABOUND},
	  {"proc/self/cgroup", "0::/a\n"},
	  {"sys/fs/cgroup/a/memory.max", "134217728\n"},
	  {"sys/fs/cgroup/a/memory.current", "134217728\n"},
	  {"sys/fs/cgroup/a/memory.stat",
	   "anon 33554432\ninactive_file 67108864\nactive_file 33554432\n"}},
	 80,
	 "of which 32 MiB are in use"},
	{"version 2, more in use than the limit, which was lowered",
	 {{"proc/self/cgroup", "0::/a\n"},
	  {"sys/fs/cgroup/a/memory.max", "1048576\n"},
	  {"sys/fs/cgroup/a/memory.current", "134217728\n"}},
	 0,
	 "memory.max"},
	{"a container: the path is the host's, and what is mounted is its own",
	 {{"proc/self/cgroup", "0::/host/container\n"},
	  {"sys/fs/cgroup/memory.max", "134217728\n"},
	  {"sys/fs/cgroup/memory.current", "0\n"}},
	 112,
	 "sys/fs/cgroup may have 128 MiB"},
	{"version 1, one above; no limit below",
	 {{"proc/meminfo", ABOUND},
	  {"proc/self/cgroup", "5:cpu,memory:/a/b\n3:cpuset:/c\n0::/\n"},
	  {"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"},
	  {"sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "67108864\n"},
	  {"sys/fs/cgroup/memory/a/memory.limit_in_bytes", "134217728\n"},
	  {"sys/fs/cgroup/memory/a/memory.usage_in_bytes", "67108864\n"},
	  {"sys/fs/cgroup/memory/a/memory.stat",
	   "inactive_file 0\ntotal_inactive_file 16777216\ntotal_active_file 16777216\n"}},
	 80,
	 "sys/fs/cgroup/memory/a may have 128 MiB (memory.limit_in_bytes)"},
	{"another controller's name has memory in it",
	 {{"proc/self/cgroup", "5:memory2:/a\n"},
	  {"sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1048576\n"},
	  {"sys/fs/cgroup/memory/a/memory.usage_in_bytes", "0\n"}},
	 SIZE_MAX,
	 NULL},
};

static void expect_refused(size_t size, const char *says)
{
	errno = 0;
	assert_int_equal(memory_look(root, size), -ENOMEM);
	assert_int_equal(errno, ENOMEM);
	assert_error_says(says);
}

static void what_the_system_and_each_cgroup_have_is_granted_and_no_more(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct case_of_look *c = &cases[i];

		root_make(c->files);
		if (c->fits == SIZE_MAX) {
			if (memory_look(root, SIZE_MAX))
				fail_msg("%s: %s", c->what, dmaland_last_error());
		} else {
			if (c->fits && memory_look(root, c->fits * MIB))
				fail_msg("%s: %s", c->what, dmaland_last_error());
			expect_refused(c->fits * MIB + 1024, c->says);
		}
		root_remove();
	}
}

/* ---- as it is used: the kernel seems to have 50 MiB at all times ---- */

static const struct file fifty[] = {{"proc/meminfo", "MemAvailable: 51200 kB\n"}, {NULL, NULL}};
static const struct file ten[] = {{"proc/meminfo", "MemAvailable: 10240 kB\n"}, {NULL, NULL}};

static int root_enter(void **state)
{
	(void)state;
	root[0] = '\0';
	return 0;
}

static int root_leave(void **state)
{
	(void)state;
	memory_root = "/";
	if (root[0])
		root_remove();
	return 0;
}

/* Where hugepages are free, a device's memory is taken from those, which are counted for themselves. */
static void need_no_hugepages(void)
{
	if (sysfs_kib("/proc/meminfo", "HugePages_Free:") == 0)
		return;
	print_message("# hugepages are free here, and would be taken\n");
	skip();
}

static void coherent_memory_that_is_not_available_is_null(void **state)
{
	struct dmaland_device *dev;
	dma_addr_t dma = 7;
	void *memory;

	(void)state;
	need_no_hugepages();
	dev = dmaland_open("soft:", NULL);
	assert_non_null(dev);
	root_make(fifty);
	memory_root = root;
	errno = 0;
	assert_null(dma_alloc_coherent(dev, 64 * MIB, &dma, GFP_KERNEL));
	assert_int_equal(errno, ENOMEM);
	assert_int_equal(dma, 7);
	assert_error_says("MemAvailable");
	memory = dma_alloc_coherent(dev, 32 * MIB, &dma, GFP_KERNEL);
	assert_non_null(memory);
	dma_free_coherent(dev, 32 * MIB, memory, dma);
	dmaland_close(dev);
}

/* It grows in steps that are small enough for no look each, and all the same does not grow for ever. */
static void a_pool_stops_growing_when_memory_runs_short(void **state)
{
	enum { BLOCK = 65536, MOST = 64 * (int)(MIB / BLOCK) };
	static void *blocks[MOST];
	static dma_addr_t dma[MOST];
	struct dmaland_device *dev;
	struct dma_pool *pool;
	int n = 0;

	(void)state;
	need_no_hugepages();
	dev = dmaland_open("soft:", NULL);
	assert_non_null(dev);
	pool = dma_pool_create("grows", dev, BLOCK, 0, 0);
	assert_non_null(pool);
	root_make(ten);
	memory_root = root;
	while (n < MOST && (blocks[n] = dma_pool_alloc(pool, GFP_KERNEL, &dma[n])))
		n++;
	assert_true(n > 0 && (size_t)n * BLOCK <= 8 * MIB);
	assert_int_equal(errno, ENOMEM);
	assert_error_says("MemAvailable");
	while (n--)
		dma_pool_free(pool, blocks[n], dma[n]);
	dma_pool_destroy(pool);
	dmaland_close(dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_system_and_each_cgroup_have_is_granted_and_no_more),
		cmocka_unit_test_setup_teardown(coherent_memory_that_is_not_available_is_null,
						root_enter, root_leave),
		cmocka_unit_test_setup_teardown(a_pool_stops_growing_when_memory_runs_short,
						root_enter, root_leave),
	};

	return cmocka_run_group_tests_name("available", tests, NULL, NULL);
}
