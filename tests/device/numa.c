/* SPDX-License-Identifier: MIT */
/*
 * numa.c - memory for a device lies on the device's NUMA node: ./numa SPEC OTHER, as root
 *
 * SPEC names a device on node 1, OTHER one on no node, on a machine with two nodes and 8 free
 * hugepages of 2 MiB on each. The program runs on node 0, so that what is found on node 1 is there
 * for the device's sake. Where pages lie is asked of the kernel, page by page.
 */
#include "test.h"

#include <linux/filter.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { HERE, FAR, PAGE = 4096, MIB = 1 << 20 };

static const char *spec, *other_spec;
static struct dmaland_device *dev;

static struct dmaland_device *open_device(const char *name, struct dmaland_device *share)
{
	const struct dmaland_options options = {.size = sizeof(options), .share_with = share};
	struct dmaland_device *opened = dmaland_open(name, &options);

	if (!opened)
		fail_msg("%s", dmaland_last_error());
	dma_set_mask_and_coherent(opened, DMA_BIT_MASK(64));
	return opened;
}

static int open_far(void **state)
{
	(void)state;
	dev = open_device(spec, NULL);
	return 0;
}

static int close_far(void **state)
{
	(void)state;
	dmaland_close(dev);
	return 0;
}

static int node_of(const void *page)
{
	int node = -1;

	if (syscall(SYS_get_mempolicy, &node, NULL, 0, page, MPOL_F_NODE | MPOL_F_ADDR))
		return -1;
	return node;
}

/* How many of these pages lie on the node. */
static size_t pages_on(const char *memory, size_t size, int node)
{
	size_t n = 0;

	for (size_t i = 0; i < size; i += PAGE)
		n += node_of(memory + i) == node;
	return n;
}

static int numa_node_told(struct dmaland_device *of)
{
	struct dmaland_info info;

	dmaland_get_info(of, &info);
	return info.numa_node;
}

static unsigned long free_hugepages(int node)
{
	char path[128], text[32] = "";
	FILE *f;

	snprintf(path, sizeof(path),
		 "/sys/devices/system/node/node%d/hugepages/hugepages-2048kB/free_hugepages", node);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	return strtoul(text, NULL, 10);
}

/* Without this the others would prove nothing. */
static void the_programs_own_memory_lies_elsewhere(void **state)
{
	char *own = mmap(NULL, MIB, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	(void)state;
	assert_ptr_not_equal(own, MAP_FAILED);
	assert_int_equal(pages_on(own, MIB, HERE), MIB / PAGE);
	munmap(own, MIB);
}

static void the_devices_node_is_told(void **state)
{
	(void)state;
	assert_int_equal(numa_node_told(dev), FAR);
}

static void coherent_memory_lies_on_the_devices_node(void **state)
{
	static const size_t sizes[] = {PAGE, 64 * 1024, 3 * MIB};
	unsigned long before = free_hugepages(FAR);

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		dma_addr_t handle;
		char *memory = dma_alloc_coherent(dev, sizes[i], &handle, GFP_KERNEL);

		assert_non_null(memory);
		assert_int_equal(pages_on(memory, sizes[i], FAR), sizes[i] / PAGE);
	}
	assert_true(free_hugepages(FAR) == before); /* these are ordinary pages */
}

static void blocks_of_a_pool_lie_on_the_devices_node(void **state)
{
	struct dma_pool *pool = dma_pool_create_node("near", dev, 256, 0, 0, HERE);
	dma_addr_t handle;

	(void)state;
	assert_non_null(pool);
	for (int i = 0; i < 2000; i++) {
		void *block = dma_pool_alloc(pool, GFP_KERNEL, &handle);

		assert_non_null(block);
		assert_int_equal(node_of(block), FAR);
	}
	dma_pool_destroy(pool); /* busy: closing takes the blocks */
}

static void hugepages_come_from_the_devices_node(void **state)
{
	unsigned long here = free_hugepages(HERE), far = free_hugepages(FAR);
	dma_addr_t handle;
	char *memory = dma_alloc_coherent(dev, 8 * MIB, &handle, GFP_KERNEL);

	(void)state;
	assert_non_null(memory);
	assert_int_equal(pages_on(memory, 8 * MIB, FAR), 8 * MIB / PAGE);
	assert_int_equal(free_hugepages(FAR), far - 4);
	assert_int_equal(free_hugepages(HERE), here);
}

static void hugepages_that_the_node_lacks_come_from_another(void **state)
{
	unsigned long here = free_hugepages(HERE), far = free_hugepages(FAR);
	dma_addr_t handle;
	char *memory;

	(void)state;
	assert_int_equal(far, 8);
	memory = dma_alloc_coherent(dev, 24 * MIB, &handle, GFP_KERNEL);
	assert_non_null(memory);
	assert_int_equal(free_hugepages(FAR), 0);
	assert_int_equal(free_hugepages(HERE), here - 4);
	assert_int_equal(pages_on(memory, 24 * MIB, FAR), 16 * MIB / PAGE);
	assert_int_equal(pages_on(memory, 24 * MIB, HERE), 8 * MIB / PAGE);
}

/* More than there are hugepages, so that it is ordinary pages; more than the arena keeps. */
static void memory_given_back_comes_from_the_node_again(void **state)
{
	const size_t size = 40 * MIB;
	struct dmaland_info before, after;
	char *memory[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		dma_addr_t handle;

		memory[i] = dma_alloc_coherent(dev, size, &handle, GFP_KERNEL);
		assert_non_null(memory[i]);
		assert_int_equal(pages_on(memory[i], size, FAR), size / PAGE);
		dmaland_get_info(dev, &before);
		dma_free_coherent(dev, size, memory[i], handle);
		dmaland_get_info(dev, &after);
		assert_true(after.memory + size <= before.memory);
	}
	assert_ptr_equal(memory[0], memory[1]); /* or it was not the same place */
}

/* Node 1 has 256 MiB. All hugepages go first, so that what follows is ordinary pages. */
static void pages_that_the_node_lacks_come_from_another(void **state)
{
	const size_t size = 16 * MIB;
	size_t near = size / PAGE, pieces = 0;
	dma_addr_t handle;

	(void)state;
	assert_non_null(dma_alloc_coherent(dev, 32 * MIB, &handle, GFP_KERNEL));
	assert_int_equal(free_hugepages(HERE) + free_hugepages(FAR), 0);
	while (near == size / PAGE) {
		char *memory = dma_alloc_coherent(dev, size, &handle, GFP_KERNEL);

		if (!memory)
			fail_msg("after %zu pieces: %s", pieces, dmaland_last_error());
		near = pages_on(memory, size, FAR);
		assert_int_equal(near + pages_on(memory, size, HERE), size / PAGE);
		pieces++;
	}
	assert_true(pieces > 4 && pieces < 20);
}

static void the_first_device_of_a_domain_decides(void **state)
{
	const char *const order[2][2] = {{spec, other_spec}, {other_spec, spec}};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct dmaland_device *first = open_device(order[i][0], NULL);
		struct dmaland_device *second = open_device(order[i][1], first);
		dma_addr_t handle;
		char *memory = dma_alloc_coherent(second, PAGE, &handle, GFP_KERNEL);

		assert_non_null(memory);
		assert_int_equal(node_of(memory), i == 0 ? FAR : HERE);
		assert_int_equal(numa_node_told(first), i == 0 ? FAR : NUMA_NO_NODE);
		assert_int_equal(numa_node_told(second), numa_node_told(first));
		dma_free_coherent(second, PAGE, memory, handle);
		dmaland_close(second);
		dmaland_close(first);
	}
}

/* ---- where mbind is refused, as containers do */

static int mbind_refuse(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mbind, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1 /* EPERM */),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

struct refused {
	const char *spec;
	int refused, node, told;
	bool hugepages;
};

/* In a thread of its own, which is the only one that is refused anything. */
static void *use_device_refused(void *context)
{
	struct refused *result = context;
	struct dmaland_device *mine;
	unsigned long before = free_hugepages(HERE);
	dma_addr_t handle;
	char *memory, *large;

	result->node = result->told = -2;
	result->refused = mbind_refuse();
	mine = dmaland_open(result->spec, NULL);
	if (!mine)
		return NULL;
	memory = dma_alloc_coherent(mine, PAGE, &handle, GFP_KERNEL);
	large = dma_alloc_coherent(mine, 8 * MIB, &handle, GFP_KERNEL);
	result->node = memory ? node_of(memory) : -1;
	result->hugepages = large && free_hugepages(HERE) < before;
	result->told = numa_node_told(mine);
	dmaland_close(mine);
	return NULL;
}

static struct refused refused_with(const char *name)
{
	struct refused result = {.spec = name};
	pthread_t thread;

	log_clear();
	assert_int_equal(pthread_create(&thread, NULL, use_device_refused, &result), 0);
	pthread_join(thread, NULL);
	assert_int_equal(result.refused, 0);
	return result;
}

static void a_node_that_may_not_be_chosen_is_a_line_and_no_failure(void **state)
{
	struct refused result = refused_with(spec);
	const char *line;

	(void)state;
	assert_int_equal(result.node, HERE);
	assert_true(result.hugepages);
	assert_int_equal(result.told, NUMA_NO_NODE);
	line = strstr(log_text(), "mbind: Operation not permitted");
	assert_non_null(line);
	assert_null(strstr(line + 1, "mbind"));
}

static void for_a_device_of_no_node_none_is_chosen(void **state)
{
	struct refused result = refused_with(other_spec);

	(void)state;
	assert_int_equal(result.node, HERE);
	assert_int_equal(result.told, NUMA_NO_NODE);
	assert_null(strstr(log_text(), "mbind")); /* nothing was refused: nothing was asked */
}

static int run_here(void **state)
{
	unsigned int cpu, node;
	cpu_set_t cpus;

	(void)state;
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) || getcpu(&cpu, &node))
		return -1;
	return node == HERE ? 0 : -1;
}

#define WITH_DEVICE(test) cmocka_unit_test_setup_teardown(test, open_far, close_far)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_programs_own_memory_lies_elsewhere),
		WITH_DEVICE(the_devices_node_is_told),
		WITH_DEVICE(coherent_memory_lies_on_the_devices_node),
		WITH_DEVICE(blocks_of_a_pool_lie_on_the_devices_node),
		WITH_DEVICE(hugepages_come_from_the_devices_node),
		WITH_DEVICE(hugepages_that_the_node_lacks_come_from_another),
		WITH_DEVICE(memory_given_back_comes_from_the_node_again),
		WITH_DEVICE(pages_that_the_node_lacks_come_from_another),
		cmocka_unit_test(the_first_device_of_a_domain_decides),
		cmocka_unit_test(a_node_that_may_not_be_chosen_is_a_line_and_no_failure),
		cmocka_unit_test(for_a_device_of_no_node_none_is_chosen),
	};

	if (argc != 3) {
		fprintf(stderr, "usage: %s SPEC OTHER\n", argv[0]);
		return 2;
	}
	spec = argv[1];
	other_spec = argv[2];
	log_capture();
	return cmocka_run_group_tests_name("numa", tests, run_here, NULL);
}
