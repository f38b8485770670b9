/* SPDX-License-Identifier: MIT */
/*
 * machine_tests.c - what a spec of QEMU's asks for is what opens; a device that does not open leaves the
 * others of its machine alone
 *
 * The neighbour is QEMU's educational device (docs/specs/edu in QEMU), whose first register tells what
 * it is. A thread reads it all the time. It has less time for an access than QEMU stands still.
 */
#include "suite.h"
#include "backend/qemu.h"
#include "device/device.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define EDU_ID 0x010000ed

static struct {
	struct dmaland_device *dev;
	char *bar;
	pthread_t thread;
	atomic_uint reads, wrong;
	atomic_bool stop;
} neighbour;

static void *neighbour_read(void *unused)
{
	(void)unused;
	while (!neighbour.stop) {
		neighbour.wrong += readl(neighbour.bar) != EDU_ID;
		neighbour.reads++;
	}
	return NULL;
}

static int neighbour_open(void **state)
{
	char spec[64];

	(void)state;
	memset(&neighbour, 0, sizeof(neighbour));
	snprintf(spec, sizeof(spec), "qemu:edu,machine=street,timeout=%u", patience(500));
	neighbour.dev = dmaland_open(spec, NULL);
	if (!neighbour.dev)
		fail_msg("%s", dmaland_last_error());
	assert_int_equal(pci_enable_device(neighbour.dev), 0);
	neighbour.bar = pci_iomap(neighbour.dev, 0, 0);
	assert_non_null(neighbour.bar);
	assert_int_equal(pthread_create(&neighbour.thread, NULL, neighbour_read, NULL), 0);
	while (!neighbour.reads)
		sched_yield();
	return 0;
}

/* It was never wrong, and is there. */
static void neighbour_check(void)
{
	unsigned int before = neighbour.reads;

	while (neighbour.reads - before < 2)
		sched_yield();
	assert_int_equal(neighbour.wrong, 0);
	assert_true(pci_device_is_present(neighbour.dev));
}

static int neighbour_close(void **state)
{
	(void)state;
	neighbour.stop = true;
	pthread_join(neighbour.thread, NULL);
	dmaland_close(neighbour.dev);
	log_clear();
	return 0;
}

/* A device more finds a place in the machine, and works. */
static void another_opens(void)
{
	struct dmaland_device *dev = dmaland_open("qemu:edu,machine=street", NULL);

	if (!dev)
		fail_msg("%s", dmaland_last_error());
	assert_int_equal(pci_enable_device(dev), 0);
	assert_int_equal(readl(pci_iomap(dev, 0, 0)), EDU_ID);
	dmaland_close(dev);
}

static void a_name_that_is_not_utf8_is_refused_and_the_neighbour_goes_on(void **state)
{
	static const char *const names[] = {
		"qemu:nvme,machine=street,drive=/tmp/\xff.img",
		"qemu:nvme,machine=street,drive=/tmp/\xc3.img",
		"qemu:nvme,machine=street,drive=/tmp/\xc0\xaf.img",
		"qemu:nvme,machine=street,drive=/tmp/\xed\xa0\x80.img",
		"qemu:nvme,machine=street,drive=/tmp/\xef\xbf\xbf.img",
		"qemu:nvme,machine=street,drive=/tmp/\xf4\x90\x80\x80.img",
		"qemu:nvme,machine=street,drive=/tmp/\xe2\x82",
		"qemu:nvme,machine=street,serial=\x80",
		"qemu:\xfe,machine=street",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		errno = 0;
		assert_null(dmaland_open(names[i], NULL));
		assert_int_equal(errno, EILSEQ);
		assert_error_says("UTF-8");
		neighbour_check();
	}
	assert_null(dmaland_open("qemu:nvme,machine=street,drive=/no/such/\xc3\xa4\xe2\x82\xac"
				 "\xf0\x9f\x98\x80.img",
				 NULL));
	assert_int_equal(errno, ENOENT);
	neighbour_check();
	another_opens();
	assert_string_equal(log_text(), "");
}

/* A server of images; spec opens a drive of it in the machine. */
static int server_open(struct sockaddr_un *address, char *spec, size_t size, unsigned int ms)
{
	int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(server >= 0);
	address->sun_family = AF_UNIX;
	snprintf(address->sun_path, sizeof(address->sun_path), "/tmp/dmaland-server-%d", getpid());
	unlink(address->sun_path);
	assert_int_equal(bind(server, (struct sockaddr *)address, sizeof(*address)), 0);
	assert_int_equal(listen(server, 8), 0);
	snprintf(spec, size, "qemu:nvme,machine=street,open_timeout=%u,drive=nbd:unix:%s", ms,
		 address->sun_path);
	return server;
}

static void an_image_that_never_opens_is_given_up_and_the_neighbour_goes_on(void **state)
{
	struct sockaddr_un address;
	char spec[256];
	int server = server_open(&address, spec, sizeof(spec), patience(1200));

	(void)state;
	for (int i = 0; i < 2; i++) {
		errno = 0;
		assert_null(dmaland_open(spec, NULL));
		assert_int_equal(errno, ETIMEDOUT);
		assert_error_says("open_timeout=");
		neighbour_check();
	}
	another_opens();
	close(server);
	unlink(address.sun_path);
	assert_string_equal(log_text(), "");
}

/*
 * The whole of a server's greeting, in the old style (NBD's protocol, "Oldstyle negotiation"): two magic
 * numbers, the size of the image, flags. It comes when QEMU has stood still for longer than an access
 * of the neighbour's may take.
 */
static void *serve_late(void *context)
{
	const int *server = context;
	struct {
		char magic[8];
		uint64_t old_style, size;
		uint32_t flags;
		char zeroes[124];
	} __attribute__((packed)) greeting = {
		.old_style = htobe64(0x00420281861253),
		.size = htobe64(1 << 20),
		.flags = htobe32(1),
	};
	int client = accept(*server, NULL, NULL);
	char request[28];

	memcpy(greeting.magic, "NBDMAGIC", 8);
	poll(NULL, 0, (int)patience(1200));
	if (write(client, &greeting, sizeof(greeting)) == sizeof(greeting))
		while (read(client, request, sizeof(request)) > 0)
			;
	close(client);
	return NULL;
}

static void an_image_that_opens_late_opens_and_the_neighbour_goes_on(void **state)
{
	struct dmaland_device *dev;
	struct sockaddr_un address;
	pthread_t thread;
	char spec[256];
	int server = server_open(&address, spec, sizeof(spec), patience(20000));

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, serve_late, &server), 0);
	dev = dmaland_open(spec, NULL);
	if (!dev)
		fail_msg("%s", dmaland_last_error());
	neighbour_check();
	assert_true(pci_device_is_present(dev));
	dmaland_close(dev);
	neighbour_check();
	pthread_join(thread, NULL);
	close(server);
	unlink(address.sun_path);
	assert_string_equal(log_text(), "");
}

static struct {
	char directory[64];
	int before;
} names;

/* A directory for names, which is the working directory meanwhile. */
static int names_begin(void **state)
{
	(void)state;
	snprintf(names.directory, sizeof(names.directory), "/tmp/dmaland-names-%d", getpid());
	names.before = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(names.before >= 0);
	assert_int_equal(mkdir(names.directory, 0700), 0);
	assert_int_equal(chdir(names.directory), 0);
	return 0;
}

static int names_end(void **state)
{
	(void)state;
	assert_int_equal(fchdir(names.before), 0);
	close(names.before);
	assert_int_equal(rmdir(names.directory), 0);
	return 0;
}

/* What is QEMU's, when there is no file, is a file when there is one. */
static void a_drive_is_the_file_whatever_its_name_is(void **state)
{
	static const char *const files[] = {
		"c:d.img",   "nbd:unix:a.img", "json:{}",    "file:a.img",
		"a,b=c.img", ",id=x",	       "a\"b\\.img",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		struct dmaland_device *dev;
		char spec[128] = "qemu:nvme,drive=";
		size_t used = strlen(spec);
		int fd = open(files[i], O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, 1 << 20), 0);
		close(fd);
		assert_true(dmaland_spec_quote(spec + used, sizeof(spec) - used, files[i]) <
			    sizeof(spec) - used);
		dev = dmaland_open(spec, NULL);
		if (!dev)
			fail_msg("%s: %s", spec, dmaland_last_error());
		dmaland_close(dev);
		assert_int_equal(unlink(files[i]), 0);
		assert_null(dmaland_open(spec, NULL));
	}
	assert_null(dmaland_open("qemu:nvme,drive=c:d.img", NULL));
	assert_int_equal(errno, ENOENT);
	assert_error_says("no file of this name");
	assert_string_equal(log_text(), "");
}

/* As after a device that could be neither plugged in time nor taken out: it is where the next one goes. */
static void a_device_is_not_taken_for_the_one_that_was_asked(void **state)
{
	struct qemu_machine *machine = qemu_of(neighbour.dev->function)->machine;
	unsigned int slot = qemu_of(neighbour.dev->function)->plugged.slot;

	(void)state;
	machine->slots &= ~(UINT32_C(1) << slot);
	errno = 0;
	assert_null(dmaland_open("qemu:nvme,machine=street", NULL));
	assert_int_equal(errno, EBUSY);
	assert_error_says("taken by another device");
	assert_true(machine->slots & UINT32_C(1) << slot);
	neighbour_check();
	another_opens();
	assert_string_equal(log_text(), "");
}

/* From end to end, as dmaland(7) has it. */
static void a_machine_has_the_ram_that_was_asked(void **state)
{
	static const struct {
		const char *ram;
		uint64_t size;
	} cases[] = {
		{"16M", 16 << 20},    {"18874368", 18 << 20},	 {"67108864", 64 << 20},
		{"65536K", 64 << 20}, {"3G", UINT64_C(3) << 30}, {"63G", UINT64_C(63) << 30},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t size = 1 << 20; /* ROMs, which no device gets */
		struct dmaland_device *dev;
		struct dmaland_info info;
		char spec[64];

		snprintf(spec, sizeof(spec), "qemu:edu,ram=%s", cases[i].ram);
		dev = dmaland_open(spec, NULL);
		if (!dev)
			fail_msg("%s: %s", spec, dmaland_last_error());
		dmaland_get_info(dev, &info);
		for (size_t at = 0; at < info.range_count; at++)
			size += info.ranges[at].last - info.ranges[at].first + 1;
		assert_int_equal(size, cases[i].size);
		dmaland_close(dev);
	}
	assert_string_equal(log_text(), "");
}

#define NEIGHBOUR_TEST(name) cmocka_unit_test_setup_teardown(name, neighbour_open, neighbour_close)

int run_machine_tests(void)
{
	const struct CMUnitTest tests[] = {
		NEIGHBOUR_TEST(a_name_that_is_not_utf8_is_refused_and_the_neighbour_goes_on),
		NEIGHBOUR_TEST(an_image_that_never_opens_is_given_up_and_the_neighbour_goes_on),
		NEIGHBOUR_TEST(an_image_that_opens_late_opens_and_the_neighbour_goes_on),
		NEIGHBOUR_TEST(a_device_is_not_taken_for_the_one_that_was_asked),
		cmocka_unit_test(a_machine_has_the_ram_that_was_asked),
		cmocka_unit_test_setup_teardown(a_drive_is_the_file_whatever_its_name_is,
						names_begin, names_end),
	};

	return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
