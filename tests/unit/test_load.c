/* SPDX-License-Identifier: MIT */
/*
 * test_load.c - the shared library, loaded by a program that was not linked with it
 */
#include "test.h"

#include <dlfcn.h>

/* What a thread has of it lies in a place that glibc keeps for all such libraries together. */
static void a_running_program_can_load_the_library(void **state)
{
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

	(void)state;
	if (!library)
		fail_msg("%s", dlerror());
	assert_non_null(dlsym(library, "dma_pool_alloc"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_running_program_can_load_the_library),
	};

	return cmocka_run_group_tests_name("load", tests, NULL, NULL);
}
