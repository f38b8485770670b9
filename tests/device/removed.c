/* SPDX-License-Identifier: MIT */
/*
 * removed.c - a drive is taken away while it is busy, and comes back: ./removed SPEC COUNT
 *
 * On qemu: QEMU is killed. On vfio: the kernel removes the device, as root asks by
 * /sys/bus/pci/devices/ADDRESS/remove, and waits until it is let go of: the event says so, and the
 * driver closes it. The bus is scanned again, and vfio-pci gets what is found. Each time every
 * request must be answered, once, and all of it must be over within the time-out of a command
 * and the second that ending a queue may take.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <dmaland/nvme.h>
#include "load.h"

enum {
	TIMEOUT_MS = 10000, /* of a command; stated to the driver */
	ENDING_MS = 1000,   /* dmaland_nvme_queue_destroy() */
	BUSY = 400,	    /* answers before it happens, at most */
};

static const char *spec, *address; /* address: on vfio, else NULL */
static unsigned long count;

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* ---- the machine ---- */

static int sysfs_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));

	if (fd >= 0)
		close(fd);
	return n < 0 ? -errno : 0;
}

static const char *device_path(const char *file)
{
	static _Thread_local char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", address, file);
	return path;
}

/* Returns when the device was let go of and is removed. */
static void *kernel_removes(void *result)
{
	*(int *)result = sysfs_write(device_path("remove"), "1");
	return NULL;
}

static bool driver_is(const char *name)
{
	char link[256];
	ssize_t n = readlink(device_path("driver"), link, sizeof(link) - 1);
	const char *last;

	link[n < 0 ? 0 : n] = '\0';
	last = strrchr(link, '/');
	return last && strcmp(last + 1, name) == 0;
}

/* The kernel's own driver may be at it, in the background. */
static void kernel_finds_it_again(void)
{
	assert_int_not_equal(access(device_path(""), F_OK), 0);
	assert_int_equal(sysfs_write("/sys/bus/pci/rescan", "1"), 0);
	assert_int_equal(sysfs_write(device_path("driver_override"), "vfio-pci"), 0);
	for (int i = 0; i < 1000 && !driver_is("vfio-pci"); i++) {
		sysfs_write(device_path("driver/unbind"), address);
		sysfs_write("/sys/bus/pci/drivers_probe", address);
	}
	assert_true(driver_is("vfio-pci"));
}

/* ---- a removal ---- */

struct drive {
	struct dmaland_device *dev;
	struct dmaland_nvme *ctrl;
	struct dmaland_nvme_queue *queue;
};

static void drive_open(struct drive *d)
{
	const struct dmaland_nvme_options options = {.size = sizeof(options),
						     .timeout_ms = TIMEOUT_MS};

	d->dev = dmaland_open(spec, NULL);
	if (d->dev)
		d->ctrl = dmaland_nvme_open(d->dev, &options);
	if (d->ctrl)
		d->queue = dmaland_nvme_queue_create(d->ctrl, 0, 0);
	if (!d->queue)
		fail_msg("%s", dmaland_last_error());
}

/* It is asked to let go, or finds that it is alone: either is an event, and ends this. */
static void poll_until_it_happens(struct drive *d, const struct load *load, int64_t begun)
{
	struct pollfd event = {.fd = dmaland_event_fd(d->dev), .events = POLLIN};

	assert_true(event.fd >= 0);
	while (poll(&event, 1, 0) == 0) {
		dmaland_nvme_poll(d->queue);
		assert_null(load->wrong);
		if (now_ms() - begun > TIMEOUT_MS)
			fail_msg("nothing tells that the drive is to go");
	}
	assert_int_equal(dmaland_get_events(d->dev),
			 address ? DMALAND_EVENT_REMOVE : DMALAND_EVENT_GONE);
}

/* The status of those that it cut off; 0: all had completed. */
static int remove_one(struct load_record *record, unsigned long busy)
{
	struct drive d = {0};
	struct load load;
	pthread_t remover;
	const char *wrong;
	int64_t begun;
	int removed = 0;

	drive_open(&d);
	wrong = load_verify(d.ctrl, d.queue, record);
	if (wrong)
		fail_msg("%s", wrong);
	assert_int_equal(load_begin(&load, d.ctrl, d.queue, record), 0);
	while (load.answers < busy && !load.wrong)
		dmaland_nvme_poll(d.queue);

	begun = now_ms();
	if (address)
		assert_int_equal(pthread_create(&remover, NULL, kernel_removes, &removed), 0);
	else
		assert_int_equal(kill(only_child(), SIGKILL), 0);
	poll_until_it_happens(&d, &load, begun);
	load.ending = true;
	while (!address && load.under_way > 0 && now_ms() - begun <= TIMEOUT_MS)
		dmaland_nvme_poll(d.queue);
	dmaland_nvme_queue_destroy(d.queue);
	assert_int_equal(load.under_way, 0);
	assert_null(load.wrong);
	dmaland_nvme_close(d.ctrl);
	dmaland_close(d.dev);
	if (address)
		pthread_join(remover, NULL);
	assert_int_equal(removed, 0);
	assert_in_range(now_ms() - begun, 0, TIMEOUT_MS + ENDING_MS);
	load_free(&load);
	return load.status;
}

static void a_busy_drive_is_removed_and_all_is_answered_in_time(void **state)
{
	struct load_record record = {0};
	uint64_t random = 11;
	unsigned long cut_off = 0;

	(void)state;
	for (unsigned long i = 0; i < count; i++) {
		int status = remove_one(&record, random_below(&random, BUSY));

		assert_true(status == 0 || status == -ENODEV);
		cut_off += status != 0;
		if (address)
			kernel_finds_it_again();
	}
	/* The kernel waits for what was begun; QEMU's death does not. */
	assert_true(address || cut_off > 0);
	log_clear();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_busy_drive_is_removed_and_all_is_answered_in_time),
	};

	if (argc != 3) {
		fprintf(stderr, "usage: %s SPEC COUNT\n", argv[0]);
		return 2;
	}
	spec = argv[1];
	if (strncmp(spec, "vfio:", 5) == 0)
		address = spec + 5;
	count = strtoul(argv[2], NULL, 10);
	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
