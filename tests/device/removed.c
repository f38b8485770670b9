/* SPDX-License-Identifier: MIT */
/*
 * removed.c - a drive is taken away while some threads keep it busy: ./removed SPEC COUNT [COMMAND]
 *
 * On qemu: QEMU is killed. On vfio: the kernel removes the device, as root asks by
 * /sys/bus/pci/devices/ADDRESS/remove, and waits until it is let go of: the event says so, and the
 * driver closes it. The bus is scanned again, and vfio-pci gets what is found. With COMMAND, for a
 * shell, the machine takes it out of its slot instead, for good: COUNT is 1. Each time every
 * request must be answered, once, and all of it must be over within the time-out of a command
 * and the second that ending a queue may take.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <dmaland/nvme.h>
#include "load.h"
#include "uevents.h"

enum {
	TIMEOUT_MS = 10000, /* of a command; stated to the driver */
	ENDING_MS = 1000,   /* dmaland_nvme_queue_destroy() */
	WAIT_MS = 30000,    /* for the event; a slot gives its operator 5 s to think better of it */
	THREADS = 3,
	BUSY = 400, /* answers before it happens, at most */
};

static const char *spec, *command;
static const char *address; /* on vfio, else NULL */
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

/* The kernel's own driver takes it first. Before Linux 6.4 that lets go later of what was unbound from it before it was live. */
static void nvme_is_live(void)
{
	glob_t paths;

	for (unsigned int i = 0; i < patience(WAIT_MS); i++) {
		char state[16] = "";
		bool found = glob(device_path("nvme/nvme*/state"), 0, NULL, &paths) == 0;
		FILE *file = found ? fopen(paths.gl_pathv[0], "re") : NULL;

		if (file) {
			found = fgets(state, sizeof(state), file);
			fclose(file);
		}
		globfree(&paths);
		if (strcmp(state, "live\n") == 0)
			return;
		poll(NULL, 0, 1);
	}
	fail_msg("nvme does not take the drive");
}

static void kernel_finds_it_again(void)
{
	assert_int_equal(sysfs_write("/sys/bus/pci/rescan", "1"), 0);
	nvme_is_live();
	assert_int_equal(sysfs_write(device_path("driver_override"), "vfio-pci"), 0);
	assert_int_equal(sysfs_write(device_path("driver/unbind"), address), 0);
	assert_int_equal(sysfs_write("/sys/bus/pci/drivers_probe", address), 0);
	assert_true(driver_is("vfio-pci"));
}

/* ---- a removal ---- */

struct drive {
	struct dmaland_device *dev;
	struct dmaland_nvme *ctrl;
	atomic_ulong answers;
	atomic_bool ending;
};

/* A thread that keeps its part of the drive busy. */
struct user {
	struct drive *drive;
	pthread_t thread;
	struct dmaland_nvme_queue *queue;
	struct load load;
};

static void drive_open(struct drive *d)
{
	const struct dmaland_nvme_options options = {.size = sizeof(options),
						     .timeout_ms = TIMEOUT_MS};

	d->dev = dmaland_open(spec, NULL);
	if (d->dev)
		d->ctrl = dmaland_nvme_open(d->dev, &options);
	if (!d->ctrl)
		fail_msg("%s", dmaland_last_error());
}

/* QEMU's death ends all by itself; the kernel waits, and so the drive is at work until we end it. */
static void *keep_busy(void *context)
{
	struct user *user = context;
	unsigned long before = 0;

	while (!atomic_load(&user->drive->ending)) {
		dmaland_nvme_poll(user->queue);
		atomic_fetch_add(&user->drive->answers, user->load.answers - before);
		before = user->load.answers;
	}
	user->load.ending = true;
	while (!address && user->load.under_way > 0)
		dmaland_nvme_poll(user->queue);
	dmaland_nvme_queue_destroy(user->queue);
	return NULL;
}

static void user_start(struct user *user, struct drive *d, struct load_record *record)
{
	const char *wrong;

	user->drive = d;
	user->queue = dmaland_nvme_queue_create(d->ctrl, 0, 0);
	if (!user->queue)
		fail_msg("%s", dmaland_last_error());
	wrong = load_verify(d->ctrl, user->queue, record);
	if (wrong)
		fail_msg("%s", wrong);
	assert_int_equal(load_begin(&user->load, d->ctrl, user->queue, record), 0);
	assert_int_equal(pthread_create(&user->thread, NULL, keep_busy, user), 0);
}

/* Returns whether something was cut off. */
static bool user_end(struct user *user)
{
	pthread_join(user->thread, NULL);
	assert_null(user->load.wrong);
	assert_int_equal(user->load.under_way, 0);
	assert_true(user->load.status == 0 || user->load.status == -ENODEV);
	load_free(&user->load);
	return user->load.status != 0;
}

/* Have the drive taken away; returns when it says so. */
static void take_away(struct drive *d, pthread_t *remover, int *removed)
{
	struct pollfd event = {.fd = dmaland_event_fd(d->dev), .events = POLLIN};

	assert_true(event.fd >= 0);
	if (command)
		assert_int_equal(system(command), 0);
	else if (address)
		assert_int_equal(pthread_create(remover, NULL, kernel_removes, removed), 0);
	else
		assert_int_equal(kill(only_child(), SIGKILL), 0);
	if (poll(&event, 1, (int)patience(WAIT_MS)) != 1)
		fail_msg("nothing tells that the drive is to go");
	assert_int_equal(dmaland_get_events(d->dev),
			 address ? DMALAND_EVENT_REMOVE : DMALAND_EVENT_GONE);
}

/* Returns how many threads were cut off. */
static unsigned int remove_one(struct load_record records[THREADS], unsigned long busy)
{
	struct drive d = {0};
	struct user users[THREADS] = {0};
	int uevents = command ? uevents_open() : -1, removed = 0;
	unsigned int cut_off = 0;
	pthread_t remover;
	int64_t begun;

	drive_open(&d);
	for (unsigned int i = 0; i < THREADS; i++)
		user_start(&users[i], &d, &records[i]);
	while (atomic_load(&d.answers) < busy)
		sched_yield();

	take_away(&d, &remover, &removed);
	begun = now_ms();
	atomic_store(&d.ending, true);
	for (unsigned int i = 0; i < THREADS; i++)
		cut_off += user_end(&users[i]);
	dmaland_nvme_close(d.ctrl);
	dmaland_close(d.dev);
	assert_in_range(now_ms() - begun, 0, TIMEOUT_MS + (int)patience(ENDING_MS));
	if (command) {
		assert_true(is_removed_within(uevents, address, (int)patience(WAIT_MS)));
		close(uevents);
	} else if (address) {
		pthread_join(remover, NULL);
	}
	assert_int_equal(removed, 0);
	return cut_off;
}

static void a_busy_drive_is_removed_and_all_is_answered_in_time(void **state)
{
	struct load_record records[THREADS] = {0};
	uint64_t random = 11;
	unsigned long cut_off = 0;

	(void)state;
	for (unsigned int i = 0; i < THREADS; i++)
		records[i].part = i;
	for (unsigned long i = 0; i < count; i++) {
		cut_off += remove_one(records, random_below(&random, BUSY));
		if (address)
			assert_int_not_equal(access(device_path(""), F_OK), 0);
		if (address && !command)
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

	if (argc != 3 && argc != 4) {
		fprintf(stderr, "usage: %s SPEC COUNT [COMMAND]\n", argv[0]);
		return 2;
	}
	spec = argv[1];
	if (strncmp(spec, "vfio:", 5) == 0)
		address = spec + 5;
	count = strtoul(argv[2], NULL, 10);
	command = argv[3];
	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
