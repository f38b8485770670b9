/* SPDX-License-Identifier: MIT */
/*
 * qemu_doorbell.c - a register of a machine that turns messages of its devices into eventfds of ours
 *
 * MSI and MSI-X are writes to an address that the driver chose. QEMU's ivshmem-doorbell has a register
 * that signals eventfds when it is written to (QEMU, docs/specs/ivshmem-spec.txt), made for virtual
 * machines that share memory. Its server, which hands the eventfds out, is played here:
 *
 *   MSI-X, vector i of a device        --> register: P << 16 | i --> eventfd i of peer P
 *   MSI, 16 bits, of the one in slot S --> register: 2 * S       --> eventfd 2 * S of peer 0
 *                       ... if masked  --> register: 2 * S + 1   --> the eventfd after that
 *
 * Each time vectors are had for MSI-X that is another peer: QEMU 7.2 crashes when one comes back.
 *
 * The register's device is plugged when the first vectors are asked for. The socket alone is there
 * from the start, since QEMU takes it from its parent only then. The domain's lock guards all of it.
 */
#include "backend/qemu_doorbell.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mutex.h"
#include "backend/deadline.h"
#include "backend/qemu.h"

/* docs/specs/ivshmem-spec.txt: the server's messages, the registers */
#define IVSHMEM_VERSION	 0
#define IVSHMEM_MEMORY	 (-1)
#define IVSHMEM_DOORBELL 0x0c

#define MESSAGE_PEER  0
#define OWN_PEER      1 /* the register's device itself; nobody rings there */
#define FIRST_PEER    2
#define LAST_PEER     0xffff
#define MESSAGES      (2 * QEMU_SLOTS)
#define RING_AGAIN_MS 2

int qemu_doorbell_init(struct qemu_doorbell *doorbell, int *theirs)
{
	int pair[2];

	if (file_socketpair(pair))
		return error_system("cannot make a socket to QEMU");
	doorbell->fd = pair[0];
	*theirs = pair[1];
	return 0;
}

static void messages_close(int *messages, unsigned int n)
{
	while (n)
		close(messages[--n]);
}

void qemu_doorbell_fini(struct qemu_doorbell *doorbell)
{
	if (doorbell->messages)
		messages_close(doorbell->messages, MESSAGES);
	free(doorbell->messages);
	if (doorbell->function)
		qemu_parts_free(&doorbell->function->plugged.parts);
	free(doorbell->function);
	close(doorbell->fd);
}

void qemu_doorbell_disown(struct qemu_doorbell *doorbell)
{
	if (doorbell->fd < 0)
		return;
	if (doorbell->messages)
		messages_close(doorbell->messages, MESSAGES);
	close(doorbell->fd);
	doorbell->fd = -1;
}

/* One message of the server: a number, and with it a file unless it is -1. */
static int message_send(struct qemu_doorbell *doorbell, int64_t number, int fd,
			unsigned int timeout)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(fd))];
	} control = {.header = {CMSG_LEN(sizeof(fd)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec data = {&number, sizeof(number)};
	struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
	struct pollfd room = {.fd = doorbell->fd, .events = POLLOUT};

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
	}
	while (sendmsg(doorbell->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		if (errno == EAGAIN && file_poll(&room, 1, (int)timeout) == 1)
			continue;
		doorbell->broken = true;
		return error_system("QEMU does not take the eventfds of interrupts");
	}
	return 0;
}

/* What QEMU reads while it plugs the device in; the memory to share, which it wants, is a page. */
static int greeting_send(struct qemu_doorbell *doorbell, unsigned int timeout)
{
	int memory = file_raise(memfd_create("dmaland-qemu-doorbell", MFD_CLOEXEC)), err;

	if (memory < 0)
		return error_system("cannot make a file in memory for QEMU's doorbell");
	if (ftruncate(memory, sysconf(_SC_PAGESIZE)))
		err = error_system("cannot make a file in memory for QEMU's doorbell");
	else
		err = message_send(doorbell, IVSHMEM_VERSION, -1, timeout);
	if (!err)
		err = message_send(doorbell, OWN_PEER, -1, timeout);
	if (!err)
		err = message_send(doorbell, IVSHMEM_MEMORY, memory, timeout);
	close(memory);
	return err;
}

static int device_plug(struct qemu_machine *machine, struct qemu_function *q)
{
	struct spec_option options[] = {
		{"chardev", QEMU_DOORBELL_CHARDEV},
		{"vectors", "256"}, /* QEMU_DOORBELL_VECTORS */
		{"ioeventfd", "off"},
	};
	const struct spec spec = {.address = "ivshmem-doorbell",
				  .options = options,
				  .option_count = sizeof(options) / sizeof(options[0])};
	const struct qemu_model model = {.spec = &spec, .open_timeout = QEMU_OPEN_TIMEOUT_MS};
	int err = greeting_send(&machine->doorbell, q->timeout);

	if (!err)
		err = qemu_function_plug(q, &model);
	if (!err)
		err = qemu_function_config_write(&q->function, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	return err;
}

/* Plug the register's device in, if nobody has. With the lock held. */
static int doorbell_start(struct qemu_machine *machine, unsigned int timeout)
{
	struct qemu_doorbell *doorbell = &machine->doorbell;
	struct qemu_function *q;
	int err;

	if (doorbell->broken)
		return error_set(EIO, "QEMU's doorbell failed before: close all devices of the "
				      "machine first");
	if (doorbell->function)
		return 0;
	q = calloc(1, sizeof(*q));
	if (!q)
		return error_set(ENOMEM, "no memory for QEMU's doorbell");
	q->machine = machine;
	q->timeout = timeout;
	q->function.domain = &machine->ram.domain;
	err = device_plug(machine, q);
	if (err) {
		doorbell->broken = true;
		free(q);
		return error_prefix("no doorbell for interrupts");
	}
	doorbell->function = q;
	doorbell->address = q->bars[0].address + IVSHMEM_DOORBELL;
	return 0;
}

static bool drain(int fd)
{
	eventfd_t count;

	return eventfd_read(fd, &count) == 0;
}

/* QEMU takes what it is sent in order: once the last is heard, all are there. */
static int peer_ring(struct qemu_machine *machine, unsigned int peer, const int *fds,
		     unsigned int n, unsigned int timeout)
{
	struct timespec deadline = deadline_in(timeout);
	struct pollfd last = {.fd = fds[n - 1], .events = POLLIN};
	int err;

	do {
		if (deadline_left(&deadline) == 0)
			return error_set(ETIMEDOUT, "QEMU's doorbell does not ring within %u ms",
					 timeout);
		err = qtest_write(&machine->process.qtest, QTEST_MEMORY, machine->doorbell.address,
				  4, timeout, peer << 16 | (n - 1));
	} while (!err && file_poll(&last, 1, RING_AGAIN_MS) != 1);
	if (!err)
		drain(last.fd);
	return err;
}

/* With the lock held. */
static int peer_connect(struct qemu_machine *machine, unsigned int peer, const int *fds,
			unsigned int n, unsigned int timeout)
{
	int err = doorbell_start(machine, timeout);

	for (unsigned int i = 0; !err && i < n; i++)
		err = message_send(&machine->doorbell, peer, fds[i], timeout);
	return err ? err : peer_ring(machine, peer, fds, n, timeout);
}

int qemu_doorbell_connect(struct qemu_machine *machine, const int *fds, unsigned int n,
			  unsigned int timeout, unsigned int *peer)
{
	int err;

	mutex_lock(&machine->ram.domain.lock);
	*peer = FIRST_PEER + machine->doorbell.peers;
	if (*peer > LAST_PEER) {
		err = error_set(
			ENOSPC,
			"the machine's devices had vectors of MSI-X %u times, as often as "
			"QEMU's doorbell can tell apart: close all of them and open them again",
			machine->doorbell.peers);
	} else {
		machine->doorbell.peers++;
		err = peer_connect(machine, *peer, fds, n, timeout);
	}
	mutex_unlock(&machine->ram.domain.lock);
	if (err)
		qemu_doorbell_disconnect(machine, *peer);
	return err;
}

void qemu_doorbell_disconnect(struct qemu_machine *machine, unsigned int peer)
{
	mutex_lock(&machine->ram.domain.lock);
	if (machine->doorbell.function && !qtest_has_ended(&machine->process.qtest))
		message_send(&machine->doorbell, peer, -1, 0);
	mutex_unlock(&machine->ram.domain.lock);
}

static int messages_open(struct qemu_machine *machine, unsigned int timeout)
{
	int messages[MESSAGES], *kept = malloc(sizeof(messages)), err = 0;
	unsigned int n = 0;

	if (!kept)
		return error_set(ENOMEM, "no memory for QEMU's messages");
	while (n < MESSAGES && (kept[n] = file_raise(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC))) >= 0)
		n++;
	if (n < MESSAGES)
		err = error_system("no %u eventfds for QEMU's messages; raise the limit of open "
				   "files with ulimit -n",
				   (unsigned int)MESSAGES);
	else
		err = peer_connect(machine, MESSAGE_PEER, kept, n, timeout);
	if (!err) {
		machine->doorbell.messages = kept;
		return 0;
	}
	messages_close(kept, n);
	free(kept);
	return err;
}

int qemu_doorbell_message(struct qemu_machine *machine, unsigned int n, unsigned int timeout)
{
	int err = 0;

	mutex_lock(&machine->ram.domain.lock);
	if (!machine->doorbell.messages)
		err = messages_open(machine, timeout);
	mutex_unlock(&machine->ram.domain.lock);
	return err ? err : machine->doorbell.messages[n];
}
