/* SPDX-License-Identifier: MIT */
/*
 * test_load.c - the shared library, loaded by a program that was not linked with it
 *
 * What a thread has of such libraries at a fixed place, glibc keeps for all of them together, in what is left of
 * 1664 bytes. This program has other libraries that use most of it.
 */
#include "test.h"

#include <dlfcn.h>
#include <link.h>

/* What the library may have of them. */
enum { LIBRARY_TLS = 128 };

struct search {
	const char *path;
	size_t bytes; /* SIZE_MAX: not loaded */
};

static int look(struct dl_phdr_info *info, size_t size, void *context)
{
	struct search *search = context;

	(void)size;
	if (strcmp(info->dlpi_name, search->path) != 0)
		return 0;
	search->bytes = 0;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_TLS)
			search->bytes = info->dlpi_phdr[i].p_memsz;
	return 1;
}

static void load(const char *path, size_t bytes)
{
	struct search search = {path, SIZE_MAX};

	if (!dlopen(path, RTLD_NOW | RTLD_LOCAL))
		fail_msg("%s", dlerror());
	dl_iterate_phdr(look, &search);
	if (search.bytes > bytes)
		fail_msg("each thread has %zu bytes of %s; they are to be %zu at most",
			 search.bytes, path, bytes);
}

static void a_running_program_can_load_the_library_where_others_left_little_room(void **state)
{
	void *library;

	(void)state;
	if (!dlopen(HUNGRY, RTLD_NOW | RTLD_LOCAL)) {
		print_message("# cannot be had here: %s\n", dlerror());
		skip();
	}
	load(LIBRARY, LIBRARY_TLS);
	library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	assert_non_null(dlsym(library, "dma_pool_alloc"));
	load(NVME_LIBRARY, LIBRARY_TLS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			a_running_program_can_load_the_library_where_others_left_little_room),
	};

	return cmocka_run_group_tests_name("load", tests, NULL, NULL);
}
