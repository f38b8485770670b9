/* SPDX-License-Identifier: MIT */
/*
 * aer.c - a device behind VFIO reports an error (PCIe 4.0, 6.2): ./aer ADDRESS COMMAND
 *
 * COMMAND, for a shell, has it do so. The root port above it interrupts, and the kernel tells of it.
 */
#include "test.h"

#include <poll.h>
#include <stdlib.h>

enum { WAIT_MS = 30000 };

static const char *command;
static char spec[64];

static void an_error_that_is_reported_is_an_event(void **state)
{
	struct dmaland_device *dev = dmaland_open(spec, NULL);
	struct pollfd fd = {.events = POLLIN};

	(void)state;
	if (!dev)
		fail_msg("%s", dmaland_last_error());
	fd.fd = dmaland_event_fd(dev);
	assert_true(fd.fd >= 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(poll(&fd, 1, 0), 0);
		assert_int_equal(dmaland_get_events(dev), 0);
		assert_int_equal(system(command), 0);
		if (poll(&fd, 1, (int)patience(WAIT_MS)) != 1)
			fail_msg("nothing was told within %u ms", patience(WAIT_MS));
		assert_int_equal(dmaland_get_events(dev), DMALAND_EVENT_ERROR);
		assert_true(pci_device_is_present(dev));
		assert_int_equal(pci_reset_function(dev), 0);
	}
	dmaland_close(dev);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_error_that_is_reported_is_an_event),
	};

	if (argc != 3) {
		fprintf(stderr, "usage: %s ADDRESS COMMAND\n", argv[0]);
		return 2;
	}
	snprintf(spec, sizeof(spec), "vfio:%.40s", argv[1]);
	command = argv[2];
	log_capture();
	return cmocka_run_group_tests_name("aer", tests, NULL, NULL);
}
