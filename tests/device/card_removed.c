/* SPDX-License-Identifier: MIT */
/*
 * card_removed.c - a network card is taken away while it receives and sends
 *
 *   card_removed ROUNDS             QEMU's: out of its slot by a monitor; and QEMU is killed; each with a QEMU of its own
 *   card_removed ROUNDS SPEC SPEC   VFIO's: the kernel removes the first, as root asks by /sys/bus/pci/devices/ADDRESS/remove, and
 *                                   waits until it is let go of; then the bus is scanned again, and vfio-pci gets what is found
 *
 * The two cards hear each other, and a thread each sends and receives. However the first one goes: its thread's calls return, each
 * packet that was to be sent is released once, no block and no mapping is left, and the other card goes on.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <dmaland/rtl8139cp.h>

enum {
	MINE = 96, /* packets on the application's own memory: more than a ring has places for */
	LENGTH = 700,
	BURST = 16,
	BUSY = 400,	 /* frames before it happens, at most */
	WAIT_MS = 30000, /* for the event, and all else that is to come */
	MOMENT_MS = 100,
};

enum way { BY_MONITOR, BY_SIGNAL, BY_KERNEL };

static unsigned long rounds;
static const char *specs[2];
static char directory[] = "/tmp/dmaland-removed-XXXXXX", monitor[64], wrapper[64];

struct end {
	struct dmaland_device *dev;
	struct dmaland_rtl8139cp *card;
	unsigned char mac[DMALAND_ETH_ALEN], to[DMALAND_ETH_ALEN];
	pthread_t thread;
	bool sleeps; /* until it interrupts */
	atomic_bool ending;
	atomic_ulong sent, received;
	struct mine {
		struct dmaland_packet packet;
		struct end *end;
		unsigned char data[LENGTH];
		atomic_bool given;
		unsigned long gave, released;
	} mine[MINE];
};

static struct end ends[2];

/* ---- a card at work ---- */

static void mine_release(struct dmaland_packet *packet)
{
	struct mine *mine = packet->context;

	mine->released++;
	atomic_store(&mine->given, false);
}

static void header_fill(const struct end *e, unsigned char *at)
{
	memcpy(at, e->to, DMALAND_ETH_ALEN);
	memcpy(at + DMALAND_ETH_ALEN, e->mac, DMALAND_ETH_ALEN);
	at[12] = 0x88; /* local experiments: IEEE 802, 9.2.4 */
	at[13] = 0xb5;
}

/* One of the application's own, or of the card's in turn; NULL: all of them are on their way. */
static struct dmaland_packet *frame_make(struct end *e)
{
	unsigned long n = atomic_load(&e->sent);
	struct mine *mine = &e->mine[n / 2 % MINE];
	struct dmaland_packet *packet = &mine->packet;

	if (n % 2) {
		unsigned char *at;

		packet = dmaland_packet_alloc(e->card, 0);
		at = packet ? dmaland_packet_put(packet, LENGTH) : NULL;
		if (at)
			header_fill(e, at);
		return packet;
	}
	if (atomic_load(&mine->given))
		return NULL;
	header_fill(e, mine->data);
	*packet = (struct dmaland_packet){
		.release = mine_release, .context = mine, .data = mine->data, .len = 100};
	packet->nr_frags = 1;
	packet->frags[0] = (struct dmaland_frag){mine->data + 100, LENGTH - 100};
	atomic_store(&mine->given, true);
	return packet;
}

static void frame_take_back(struct dmaland_packet *packet)
{
	if (packet->release == mine_release)
		atomic_store(&((struct mine *)packet->context)->given, false);
	else
		dmaland_packet_free(packet);
}

static void some_send(struct end *e)
{
	for (int i = 0; i < BURST; i++) {
		struct dmaland_packet *packet = frame_make(e);
		int code = packet ? dmaland_rtl8139cp_send(e->card, &packet, 1) : 0;

		if (!packet)
			return;
		if (code != 1) {
			assert_int_equal(code, -EBUSY);
			frame_take_back(packet);
			return;
		}
		if (packet->release == mine_release)
			((struct mine *)packet->context)->gave++;
		atomic_fetch_add(&e->sent, 1);
	}
}

static void *keep_busy(void *context)
{
	struct dmaland_packet *packets[BURST];
	struct end *e = context;

	while (!atomic_load(&e->ending)) {
		unsigned int n = dmaland_rtl8139cp_receive(e->card, packets, BURST);

		for (unsigned int i = 0; i < n; i++)
			dmaland_packet_free(packets[i]);
		atomic_fetch_add(&e->received, n);
		some_send(e);
		dmaland_rtl8139cp_clean(e->card);
		/* The first is sent to, or gone, until it ends. Where it does not sleep it is looked at. */
		if (!n && e->sleeps)
			dmaland_rtl8139cp_wait(e->card, e == &ends[0] ? -1 : MOMENT_MS);
		else if (!n)
			dmaland_rtl8139cp_link(e->card);
	}
	return NULL;
}

static void end_open(struct end *e, const char *spec, unsigned long round)
{
	const struct dmaland_rtl8139cp_options options = {
		.size = sizeof(options),
		.rx_way = (enum dmaland_rx_way)(round % 3),
		.tx_way = (enum dmaland_tx_way)(round / 3 % 3),
	};

	memset(e, 0, sizeof(*e));
	e->sleeps = round % 2;
	e->dev = dmaland_open(spec, NULL);
	e->card = e->dev ? dmaland_rtl8139cp_open(e->dev, &options) : NULL;
	if (!e->card || (e->sleeps && dmaland_rtl8139cp_irq(e->card) < 0))
		fail_msg("%s", dmaland_last_error());
	dmaland_rtl8139cp_mac(e->card, e->mac);
}

static void end_start(struct end *e, const struct end *other)
{
	memcpy(e->to, other->mac, DMALAND_ETH_ALEN);
	atomic_store(&e->ending, false);
	assert_int_equal(pthread_create(&e->thread, NULL, keep_busy, e), 0);
}

static void end_stop(struct end *e)
{
	atomic_store(&e->ending, true);
	pthread_join(e->thread, NULL);
}

/* All that it had is back. */
static void end_close(struct end *e)
{
	struct dmaland_streaming_stats streaming;
	struct dmaland_pool_stats pools[16];
	size_t n;

	dmaland_rtl8139cp_close(e->card);
	for (unsigned int i = 0; i < MINE; i++) {
		assert_false(atomic_load(&e->mine[i].given));
		assert_int_equal(e->mine[i].released, e->mine[i].gave);
	}
	dmaland_get_streaming_stats(e->dev, &streaming);
	assert_int_equal(streaming.live_mapped + streaming.live_bounced, 0);
	assert_int_equal(streaming.bad_calls, 0);
	n = dmaland_get_pools(e->dev, pools, 16);
	for (size_t i = 0; i < n && i < 16; i++)
		assert_int_equal(pools[i].in_use, 0);
	dmaland_close(e->dev);
}

/* Both have sent and received so many more. */
static void frames_pass(unsigned long n)
{
	unsigned long sent[2], received[2];
	time_t begun = time(NULL);

	for (int i = 0; i < 2; i++) {
		sent[i] = ends[i].sent;
		received[i] = ends[i].received;
	}
	for (int i = 0; i < 2; i++) {
		while (ends[i].sent - sent[i] < n || ends[i].received - received[i] < n) {
			if (time(NULL) - begun > (time_t)patience(WAIT_MS / 1000))
				fail_msg("card %d: of %lu frames %lu were sent, %lu came", i, n,
					 ends[i].sent - sent[i], ends[i].received - received[i]);
			sched_yield();
		}
	}
}

/* ---- how it goes ---- */

static void monitor_does(const char *lines)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char answer[80];

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", monitor);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(write(fd, lines, strlen(lines)), strlen(lines));
	/* QEMU drops what it has not read of a connection that ends. */
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	while (read(fd, answer, sizeof(answer)) > 0)
		;
	close(fd);
}

static unsigned long slot_of(const struct end *e)
{
	const char *slot = strrchr(dmaland_name(e->dev), '@');

	assert_non_null(slot);
	return strtoul(slot + 1, NULL, 16);
}

/* The first card is the machine's first device, dev0. Lines for the monitor: out, and the guest's consent (qemu_plug.c). */
static void monitor_removes(const struct end *e)
{
	char lines[80];

	snprintf(lines, sizeof(lines), "device_del dev0\no /w 0xae08 %#lx\n", 1ul << slot_of(e));
	monitor_does(lines);
}

static void sysfs_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fail_msg("cannot write '%s' to %s: %s", text, path, strerror(errno));
	close(fd);
}

static const char *device_path(const char *file)
{
	static _Thread_local char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", specs[0] + strlen("vfio:"),
		 file);
	return path;
}

/* Returns when the card was let go of, and is removed. */
static void *kernel_removes(void *unused)
{
	sysfs_write(device_path("remove"), "1");
	return unused;
}

static void kernel_finds_it_again(void)
{
	assert_int_not_equal(access(device_path(""), F_OK), 0);
	sysfs_write("/sys/bus/pci/rescan", "1");
	sysfs_write(device_path("driver_override"), "vfio-pci");
	if (access(device_path("driver"), F_OK) == 0)
		sysfs_write(device_path("driver/unbind"), specs[0] + strlen("vfio:"));
	sysfs_write("/sys/bus/pci/drivers_probe", specs[0] + strlen("vfio:"));
}

/* Returns when the library says so. */
static void take_away(enum way way, pthread_t *remover)
{
	struct pollfd event = {.fd = dmaland_event_fd(ends[0].dev), .events = POLLIN};

	if (way == BY_MONITOR)
		monitor_removes(&ends[0]);
	else if (way == BY_SIGNAL)
		assert_int_equal(kill(only_child(), SIGKILL), 0);
	else
		assert_int_equal(pthread_create(remover, NULL, kernel_removes, NULL), 0);
	if (poll(&event, 1, (int)patience(WAIT_MS)) != 1)
		fail_msg("nothing tells that the card is gone, or to go");
	assert_int_equal(dmaland_get_events(ends[0].dev),
			 way == BY_KERNEL ? DMALAND_EVENT_REMOVE : DMALAND_EVENT_GONE);
}

/* What each call says of a card that is there no more; also for who waits without end. */
static void calls_fail(struct end *e)
{
	struct dmaland_rtl8139cp_counters counters;
	struct dmaland_packet *packet;

	while (dmaland_rtl8139cp_receive(e->card, &packet, 1))
		dmaland_packet_free(packet);
	dmaland_rtl8139cp_clean(e->card);
	assert_int_equal(dmaland_rtl8139cp_wait(e->card, -1), -ENODEV);
	assert_error_says("gone");
	assert_int_equal(dmaland_rtl8139cp_wait(e->card, 0), -ENODEV);
	assert_int_equal(dmaland_rtl8139cp_link(e->card), -ENODEV);
	assert_int_equal(dmaland_rtl8139cp_get_counters(e->card, &counters), -ENODEV);
	assert_int_equal(dmaland_rtl8139cp_reset(e->card), -ENODEV);
	assert_false(pci_device_is_present(e->dev));
	some_send(e); /* as many as the ring takes, which close releases */
}

static void remove_one(enum way way, unsigned long round, unsigned long busy)
{
	pthread_t remover;

	log_clear();
	for (int i = 0; i < 2; i++)
		end_open(&ends[i], specs[i], round);
	for (int i = 0; i < 2; i++)
		end_start(&ends[i], &ends[!i]);
	frames_pass(busy);
	take_away(way, &remover);
	if (way == BY_KERNEL)
		frames_pass(busy); /* it waits, and so the cards work on */
	end_stop(&ends[0]);
	if (way != BY_KERNEL) {
		calls_fail(&ends[0]);
		assert_int_equal(dmaland_get_events(ends[0].dev), 0); /* was told before */
	}
	end_close(&ends[0]);
	if (way == BY_KERNEL) {
		pthread_join(remover, NULL);
		kernel_finds_it_again();
	}
	if (way != BY_SIGNAL) {
		end_open(&ends[0], specs[0], round + 1);
		end_start(&ends[0], &ends[1]);
		frames_pass(10);
		end_stop(&ends[0]);
		end_close(&ends[0]);
	}
	end_stop(&ends[1]);
	if (way == BY_SIGNAL)
		calls_fail(&ends[1]);
	end_close(&ends[1]);
	if (way == BY_KERNEL)
		assert_string_equal(log_text(), "");
	if (way == BY_MONITOR) /* its slot and its place on the hub were free again */
		assert_null(strstr(log_text(), "stays taken"));
	assert_null(strstr(log_text(), "leak"));
}

static void removed_in_rounds(enum way way)
{
	uint64_t random = 16;

	for (unsigned long i = 0; i < rounds; i++)
		remove_one(way, i, 1 + random_below(&random, BUSY));
}

static void a_busy_card_is_pulled_out_and_the_other_goes_on(void **state)
{
	(void)state;
	removed_in_rounds(BY_MONITOR);
}

/* Its slot is free, and not the other's, whose one it is not. */
static void what_is_put_in_the_slot_then_is_another_card(void **state)
{
	struct end *e = &ends[0];
	char line[80];

	(void)state;
	for (int i = 0; i < 2; i++)
		end_open(&ends[i], specs[i], 0);
	monitor_removes(e);
	assert_int_equal(dmaland_rtl8139cp_wait(e->card, 0), -ENODEV);
	assert_int_equal(dmaland_get_events(e->dev), DMALAND_EVENT_GONE);
	snprintf(line, sizeof(line), "device_add rtl8139,id=theirs,addr=%#lx\n", slot_of(e));
	monitor_does(line);
	assert_int_equal(dmaland_rtl8139cp_wait(e->card, 0), -ENODEV);
	assert_int_equal(dmaland_get_events(e->dev), 0);
	log_clear();
	end_close(e);
	assert_logged("stays taken");
	end_close(&ends[1]);
	log_clear();
}

/* QEMU has asked the guest, who did not answer, and is to ask again. */
static void a_card_that_a_guest_was_asked_for_in_vain_closes_as_others(void **state)
{
	unsigned long slot;

	(void)state;
	for (int i = 0; i < 2; i++)
		end_open(&ends[i], specs[i], 0);
	slot = slot_of(&ends[0]);
	monitor_does("device_del dev0\n");
	log_clear();
	end_close(&ends[0]);
	assert_string_equal(log_text(), "");
	end_open(&ends[0], specs[0], 1);
	assert_int_equal(slot_of(&ends[0]), slot);
	for (int i = 0; i < 2; i++)
		end_close(&ends[i]);
}

static void busy_cards_end_with_their_machine(void **state)
{
	(void)state;
	removed_in_rounds(BY_SIGNAL);
}

static void the_kernel_removes_a_busy_card_and_finds_it_again(void **state)
{
	(void)state;
	removed_in_rounds(BY_KERNEL);
}

/* A QEMU with a monitor that the library knows nothing of. */
static int monitored(void **state)
{
	static char made[2][160];
	FILE *script;

	(void)state;
	if (!mkdtemp(directory))
		return -1;
	snprintf(monitor, sizeof(monitor), "%s/monitor", directory);
	snprintf(wrapper, sizeof(wrapper), "%s/qemu", directory);
	script = fopen(wrapper, "we");
	if (!script)
		return -1;
	fprintf(script,
		"#!/bin/sh\nexec qemu-system-x86_64 \"$@\" -monitor unix:%s,server=on,wait=off\n",
		monitor);
	if (fclose(script) || chmod(wrapper, 0700))
		return -1;
	for (int i = 0; i < 2; i++) {
		snprintf(made[i], sizeof(made[i]),
			 "qemu:rtl8139,machine=removed,hub=0,qemu=%s,mac=52:54:00:00:00:0%d",
			 wrapper, i + 1);
		specs[i] = made[i];
	}
	return 0;
}

static int unmonitored(void **state)
{
	(void)state;
	unlink(monitor);
	unlink(wrapper);
	return rmdir(directory);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest of_qemu[] = {
		cmocka_unit_test(a_busy_card_is_pulled_out_and_the_other_goes_on),
		cmocka_unit_test(what_is_put_in_the_slot_then_is_another_card),
		cmocka_unit_test(a_card_that_a_guest_was_asked_for_in_vain_closes_as_others),
		cmocka_unit_test(busy_cards_end_with_their_machine),
	};
	const struct CMUnitTest of_vfio[] = {
		cmocka_unit_test(the_kernel_removes_a_busy_card_and_finds_it_again),
	};

	if (argc != 2 && argc != 4) {
		fprintf(stderr, "usage: %s ROUNDS [SPEC SPEC]\n", argv[0]);
		return 2;
	}
	rounds = strtoul(argv[1], NULL, 10);
	log_capture();
	if (argc == 2)
		return cmocka_run_group_tests_name("cards removed", of_qemu, monitored,
						   unmonitored);
	specs[0] = argv[2];
	specs[1] = argv[3];
	return cmocka_run_group_tests_name("cards removed", of_vfio, NULL, NULL);
}
