/* SPDX-License-Identifier: MIT */
/*
 * cards_removed.c - of two network cards that send to each other, one is taken away
 *
 *   cards_removed [SPEC SPEC]
 *
 * On qemu: (without specs) QEMU takes the second card out of its slot at once, as its monitor is told; once a boot of QEMU. On vfio:
 * the kernel removes it, and waits until it is let go of: the event says so, and the driver closes it. Then the bus is scanned
 * again, and vfio-pci gets what is found.
 *
 * Every packet that was given for sending comes back, once; no call hangs; the card that stays goes on.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <dmaland/rtl8139cp.h>

enum {
	PACKETS = 200, /* more than a ring has */
	RING = 64,
	SIZE = 700,
	BURST = 16,
	BUSY = 300, /* frames that have come before it happens */
	WAIT_S = 60,
};

static const char *specs[2];
static const char *address; /* of the second card on vfio, else NULL */
static char directory[] = "/tmp/dmaland-removed-XXXXXX";

/* A packet of the test's own, in two pieces: how often it was taken to be sent, and has come back. */
struct mine {
	struct dmaland_packet packet;
	unsigned int given, back;
};

static struct end {
	struct dmaland_device *dev;
	struct dmaland_rtl8139cp *card;
	unsigned char mac[DMALAND_ETH_ALEN], frame[SIZE];
	struct mine mine[PACKETS];
	unsigned int received;
} ends[2];

static void come_back(struct dmaland_packet *packet)
{
	struct mine *mine = packet->context;

	mine->back++;
}

static bool end_try_open(unsigned int i)
{
	struct dmaland_rtl8139cp_options options = {.size = sizeof(options),
						    .tx_way = DMALAND_TX_SG};
	struct end *end = &ends[i];

	memset(end, 0, sizeof(*end));
	end->dev = dmaland_open(specs[i], NULL);
	if (!end->dev)
		return false;
	end->card = dmaland_rtl8139cp_open(end->dev, &options);
	if (!end->card)
		fail_msg("%s", dmaland_last_error());
	dmaland_rtl8139cp_mac(end->card, end->mac);
	return true;
}

static void end_open(unsigned int i)
{
	if (!end_try_open(i))
		fail_msg("%s", dmaland_last_error());
}

/* Both are open. */
static void frames_make(void)
{
	for (unsigned int i = 0; i < 2; i++) {
		unsigned char *frame = ends[i].frame;

		memcpy(frame, ends[!i].mac, DMALAND_ETH_ALEN);
		memcpy(frame + DMALAND_ETH_ALEN, ends[i].mac, DMALAND_ETH_ALEN);
		frame[12] = 0x88;
		frame[13] = 0xb5; /* local experiments: IEEE 802, 9.2.4 */
		memset(frame + 14, 0x40 + (int)i, SIZE - 14);
	}
}

/* Returns what the driver says: 1, or an error. */
static int one_send(unsigned int i)
{
	struct end *end = &ends[i];

	for (unsigned int p = 0; p < PACKETS; p++) {
		struct mine *mine = &end->mine[p];
		struct dmaland_packet *packet = &mine->packet;
		int code;

		if (mine->given != mine->back)
			continue;
		*packet = (struct dmaland_packet){.data = end->frame,
						  .len = 14,
						  .nr_frags = 1,
						  .frags = {{end->frame + 14, SIZE - 14}},
						  .release = come_back,
						  .context = mine};
		code = dmaland_rtl8139cp_send(end->card, &packet, 1);
		mine->given += code == 1;
		return code;
	}
	fail_msg("of %d packets none has come back", PACKETS);
	return 0;
}

/* Frames that have come are whole. */
static unsigned int some_receive(unsigned int i)
{
	struct dmaland_packet *packets[BURST];
	unsigned int n = dmaland_rtl8139cp_receive(ends[i].card, packets, BURST);

	for (unsigned int p = 0; p < n; p++) {
		assert_int_equal(packets[p]->len, SIZE);
		assert_memory_equal(packets[p]->data, ends[!i].frame, SIZE);
		dmaland_packet_free(packets[p]);
	}
	ends[i].received += n;
	return n;
}

static void traffic(void)
{
	for (unsigned int i = 0; i < 2; i++) {
		int code = one_send(i);

		if (code != 1 && code != -EBUSY)
			fail_msg("%s", dmaland_last_error());
	}
	some_receive(0);
	some_receive(1);
}

/* Until both have so many more. */
static void traffic_until(unsigned int n)
{
	unsigned int until[2] = {ends[0].received + n, ends[1].received + n};
	time_t begun = time(NULL);

	while (ends[0].received < until[0] || ends[1].received < until[1]) {
		traffic();
		assert_true(time(NULL) - begun < (time_t)patience(WAIT_S));
	}
}

static void end_close(unsigned int i)
{
	dmaland_rtl8139cp_close(ends[i].card);
	for (unsigned int p = 0; p < PACKETS; p++)
		if (ends[i].mine[p].back != ends[i].mine[p].given)
			fail_msg("packet %u was given %u times, and came back %u times", p,
				 ends[i].mine[p].given, ends[i].mine[p].back);
	dmaland_close(ends[i].dev);
}

/* The other card is gone; this one sends all the same. */
static void the_first_goes_on(void)
{
	time_t begun = time(NULL);

	assert_int_equal(dmaland_rtl8139cp_link(ends[0].card), 100);
	for (unsigned int sent = 0; sent < 3 * RING;) {
		int code = one_send(0);

		assert_true(code == 1 || code == -EBUSY);
		sent += code == 1;
		assert_true(time(NULL) - begun < (time_t)patience(WAIT_S));
	}
	while (dmaland_rtl8139cp_clean(ends[0].card))
		assert_true(time(NULL) - begun < (time_t)patience(WAIT_S));
	assert_int_equal(dmaland_rtl8139cp_reset(ends[0].card), 0);
}

/* ---- QEMU takes it out ---- */

static char monitor_path[64], program_path[64];

/* A program that starts QEMU with a monitor of ours. */
static void qemu_program_make(void)
{
	FILE *file;

	assert_non_null(mkdtemp(directory));
	snprintf(program_path, sizeof(program_path), "%s/qemu", directory);
	snprintf(monitor_path, sizeof(monitor_path), "%s/monitor", directory);
	file = fopen(program_path, "we");
	assert_non_null(file);
	fprintf(file,
		"#!/bin/sh\nexec qemu-system-x86_64 \"$@\" -chardev socket,id=ours,path=%s,"
		"server=on,wait=off -mon chardev=ours,mode=readline\n",
		monitor_path);
	assert_int_equal(fchmod(fileno(file), 0700), 0);
	assert_int_equal(fclose(file), 0);
}

/*
 * The second card of the machine is dev1 in slot 3. Its slot is emptied as an operating system does: QEMU,
 * docs/specs/acpi_pci_hotplug.rst, PCI device eject register.
 */
static void *qemu_takes_it_out(void *result)
{
	static const char words[] = "device_del dev1\no /w 0xae08 0x8\n";
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", monitor_path);
	*(int *)result = -1;
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0 &&
	    write(fd, words, sizeof(words) - 1) == sizeof(words) - 1)
		*(int *)result = fd;
	return NULL;
}

static void until_it_is_gone(void)
{
	time_t begun = time(NULL);
	int link = 0;

	while ((link = dmaland_rtl8139cp_link(ends[1].card)) != -ENODEV) {
		assert_int_equal(link, 100);
		traffic();
		assert_true(time(NULL) - begun < (time_t)patience(WAIT_S));
	}
	assert_error_says("is gone");
}

/* Calls that ask the chip say so; the others do nothing, or fill the ring. */
static void each_call_of_a_card_that_is_gone_returns(void)
{
	struct dmaland_rtl8139cp *card = ends[1].card;
	struct dmaland_rtl8139cp_counters counters;
	unsigned char mac[DMALAND_ETH_ALEN] = {2};
	int code;

	some_receive(1);
	assert_int_equal(some_receive(1), 0);
	for (unsigned int sent = 0; (code = one_send(1)) == 1; sent++)
		assert_true(sent < RING);
	assert_int_equal(code, -EBUSY);
	assert_true(dmaland_rtl8139cp_clean(card) > 0);
	assert_int_equal(dmaland_rtl8139cp_wait(card, 0), -ENODEV);
	assert_int_equal(dmaland_rtl8139cp_wait(card, -1), -ENODEV);
	assert_int_equal(dmaland_rtl8139cp_get_counters(card, &counters), -ENODEV);
	assert_int_equal(dmaland_rtl8139cp_reset(card), -ENODEV);
	dmaland_rtl8139cp_set_filter(card, true, NULL, 0);
	dmaland_rtl8139cp_set_mac(card, mac);
	assert_int_equal(dmaland_rtl8139cp_link(card), -ENODEV);
	assert_true(dmaland_rtl8139cp_clean(card) > 0);
}

static void qemu_takes_a_busy_card_and_all_comes_back(void **state)
{
	pthread_t remover;
	int monitor;

	(void)state;
	end_open(0);
	end_open(1);
	frames_make();
	assert_true(dmaland_rtl8139cp_irq(ends[1].card) >= 0);
	traffic_until(BUSY);
	assert_int_equal(pthread_create(&remover, NULL, qemu_takes_it_out, &monitor), 0);
	until_it_is_gone();
	pthread_join(remover, NULL);
	close(monitor);
	each_call_of_a_card_that_is_gone_returns();
	end_close(1);
	the_first_goes_on();
	end_close(0);
	unlink(monitor_path);
	unlink(program_path);
	rmdir(directory);
	/* Its pool was empty, and nothing of it is mapped any more: that would be told. What is told is the removal. */
	assert_null(strstr(log_text(), "rtl8139cp packet"));
	assert_null(strstr(log_text(), "mapped"));
	assert_logged("there is no register");
	log_clear();
}

/* ---- the kernel removes it ---- */

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

static void kernel_finds_it_again(void)
{
	assert_int_equal(sysfs_write("/sys/bus/pci/rescan", "1"), 0);
	assert_int_equal(sysfs_write(device_path("driver_override"), "vfio-pci"), 0);
	if (access(device_path("driver"), F_OK) == 0) /* 8139cp is loaded */
		assert_int_equal(sysfs_write(device_path("driver/unbind"), address), 0);
	assert_int_equal(sysfs_write("/sys/bus/pci/drivers_probe", address), 0);
}

/* The kernel waits, and so the card is at work until it is closed. */
static void the_kernel_removes_a_busy_card_and_all_comes_back(void **state)
{
	struct pollfd event = {.events = POLLIN};
	time_t begun = time(NULL);
	pthread_t remover;
	int removed;

	(void)state;
	end_open(0);
	end_open(1);
	frames_make();
	event.fd = dmaland_event_fd(ends[1].dev);
	traffic_until(BUSY);
	assert_int_equal(pthread_create(&remover, NULL, kernel_removes, &removed), 0);
	while (poll(&event, 1, 0) == 0) {
		traffic();
		assert_true(time(NULL) - begun < (time_t)patience(WAIT_S));
	}
	assert_int_equal(dmaland_get_events(ends[1].dev), DMALAND_EVENT_REMOVE);
	traffic_until(20);
	assert_int_equal(one_send(1), 1);
	end_close(1);
	pthread_join(remover, NULL);
	assert_int_equal(removed, 0);
	assert_int_not_equal(access(device_path(""), F_OK), 0);
	the_first_goes_on();
	assert_false(end_try_open(1));
	assert_error_says("there is no PCI device");
	kernel_finds_it_again();
	end_open(1);
	frames_make();
	traffic_until(20);
	end_close(1);
	end_close(0);
	assert_string_equal(log_text(), "");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest qemu[] = {
		cmocka_unit_test(qemu_takes_a_busy_card_and_all_comes_back),
	};
	const struct CMUnitTest vfio[] = {
		cmocka_unit_test(the_kernel_removes_a_busy_card_and_all_comes_back),
	};
	char spec[2][192];

	log_capture();
	if (argc == 3 && strncmp(argv[2], "vfio:", 5) == 0) {
		specs[0] = argv[1];
		specs[1] = argv[2];
		address = argv[2] + 5;
		return cmocka_run_group_tests_name("cards removed", vfio, NULL, NULL);
	}
	if (argc != 1) {
		fprintf(stderr, "usage: %s [vfio:ADDRESS vfio:ADDRESS]\n", argv[0]);
		return 2;
	}
	qemu_program_make();
	for (int i = 0; i < 2; i++) {
		snprintf(spec[i], sizeof(spec[i]),
			 "qemu:rtl8139,machine=removed,hub=0,mac=52:54:00:00:00:0%d,qemu=%s", i,
			 program_path);
		specs[i] = spec[i];
	}
	return cmocka_run_group_tests_name("cards removed", qemu, NULL, NULL);
}
