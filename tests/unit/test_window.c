/* SPDX-License-Identifier: MIT */
#include "test.h"

#include <errno.h>
#include <limits.h>

#include "backend/numa.h"
#include "backend/window.h"

static void memory_is_had_whatever_node_is_preferred(void **state)
{
	static const int nodes[] = {NUMA_NO_NODE, 0, 1023, 1024, INT_MAX, -2, INT_MIN};
	const size_t huge = window_hugepage_size(), size = huge ? huge : 1 << 20;

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

/* 0000:00:00.0 may be there, this one is not. */
static void a_device_that_is_not_there_has_no_node(void **state)
{
	(void)state;
	assert_int_equal(numa_node_of_device("ffff:ff:1f.7"), NUMA_NO_NODE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_is_had_whatever_node_is_preferred),
		cmocka_unit_test(a_node_that_is_not_there_is_a_line_of_the_log),
		cmocka_unit_test(no_node_is_no_line),
		cmocka_unit_test(a_device_that_is_not_there_has_no_node),
	};

	log_capture();
	return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
