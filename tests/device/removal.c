/* SPDX-License-Identifier: MIT */
/*
 * removal.c - a device behind VFIO is removed while it is used: ./removal ADDRESS COMMAND
 *
 * COMMAND, for a shell, asks for it. The kernel then wants the device back and waits; it says when the
 * device is gone by a uevent, which the test waits for.
 */
#include "test.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mover.h"
#include "uevents.h"

enum { WAIT_MS = 30000 };

static const char *address, *command;
static char spec[64];

static pid_t ask_for_removal(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	return pid;
}

static void assert_readable(int fd)
{
	struct pollfd poller = {.fd = fd, .events = POLLIN};

	assert_int_equal(poll(&poller, 1, (int)patience(WAIT_MS)), 1);
}

static void one_that_is_used_is_let_go_when_it_is_wanted(void **state)
{
	int uevents = uevents_open(), status;
	struct mover m;
	pid_t pid;

	(void)state;
	assert_true(mover_begin(&m, spec, NULL));
	assert_int_equal(pci_alloc_irq_vectors(m.dev, 1, 2, PCI_IRQ_MSIX), 2);
	m.vectors = 2;
	mover_start(&m);
	assert_int_equal(dmaland_get_events(m.dev), 0);

	pid = ask_for_removal();
	assert_readable(dmaland_event_fd(m.dev));
	assert_int_equal(dmaland_get_events(m.dev), DMALAND_EVENT_REMOVE);

	/* It waits, and so the device works on. */
	assert_false(is_removed_within(uevents, address, 0));
	assert_true(pci_device_is_present(m.dev));
	mover_fill(&m, 0x6b, m.unit);
	assert_true(all_are(mover_holds(&m, m.unit), m.unit, 0x6b));
	m.ops->interrupts(&m, 1);
	assert_readable(dmaland_irq(m.dev, 1));
	m.ops->handled(&m, 1);

	mover_close(&m);
	assert_true(is_removed_within(uevents, address, (int)patience(WAIT_MS)));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_null(dmaland_open(spec, NULL));
	assert_int_equal(errno, ENODEV);
	assert_error_says("there is no PCI device");
	close(uevents);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_that_is_used_is_let_go_when_it_is_wanted),
	};

	if (argc != 3) {
		fprintf(stderr, "usage: %s ADDRESS COMMAND\n", argv[0]);
		return 2;
	}
	address = argv[1];
	command = argv[2];
	snprintf(spec, sizeof(spec), "vfio:%.40s", address);
	log_capture();
	return cmocka_run_group_tests_name("removal", tests, NULL, NULL);
}
