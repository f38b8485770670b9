/* SPDX-License-Identifier: MIT */
/*
 * card_kernel.c - the kernel's driver through AF_PACKET with mapped rings (TPACKET_V3)
 *
 * A block is the program's once it is full, or some time after its first frame. What is sent goes past the queueing discipline.
 */
#include "card.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

enum { BLOCK = 65536, RX_BLOCKS = 16, TX_BLOCKS = 4, SLOT = 2048, RETIRE_MS = 40 };
enum {
	TX_SLOTS = TX_BLOCKS * BLOCK / SLOT,
	TX_DATA = TPACKET3_HDRLEN - sizeof(struct sockaddr_ll)
};

struct kernels {
	struct ifreq interface;
	int rx, tx; /* sockets */
	char *blocks, *slots;
	unsigned int block, slot; /* next */
	unsigned int size;
};

static void failed(const char *what)
{
	bench_fail("AF_PACKET: %s: %s", what, strerror(errno));
}

static void interface_switch(struct kernels *k, bool up)
{
	if (ioctl(k->tx, SIOCGIFFLAGS, &k->interface))
		failed("SIOCGIFFLAGS");
	k->interface.ifr_flags = (short)((k->interface.ifr_flags & ~IFF_UP) | (up ? IFF_UP : 0));
	if (ioctl(k->tx, SIOCSIFFLAGS, &k->interface))
		failed("SIOCSIFFLAGS");
}

/* A socket with a ring, of a protocol; 0: it receives nothing. */
static int ring_make(struct kernels *k, int ring, unsigned int blocks, uint16_t protocol,
		     char **memory)
{
	struct tpacket_req3 request = {.tp_block_size = BLOCK,
				       .tp_block_nr = blocks,
				       .tp_frame_size = SLOT,
				       .tp_frame_nr = blocks * BLOCK / SLOT,
				       .tp_retire_blk_tov = ring == PACKET_RX_RING ? RETIRE_MS : 0};
	struct sockaddr_ll address = {.sll_family = AF_PACKET,
				      .sll_protocol = htons(protocol),
				      .sll_ifindex = (int)if_nametoindex(k->interface.ifr_name)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0), version = TPACKET_V3, one = 1;

	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) ||
	    setsockopt(fd, SOL_PACKET, ring, &request, sizeof(request)))
		failed("a ring");
	if (ring == PACKET_TX_RING &&
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)))
		failed("PACKET_QDISC_BYPASS");
	*memory = mmap(NULL, (size_t)blocks * BLOCK, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_POPULATE, fd, 0);
	if (*memory == MAP_FAILED || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		failed("mmap or bind");
	return fd;
}

static void *kernels_open(const struct card_contestant *contestant, const char *interface)
{
	struct kernels *k = calloc(1, sizeof(*k));

	(void)contestant;
	if (!k)
		bench_fail("no memory");
	strncpy(k->interface.ifr_name, interface, sizeof(k->interface.ifr_name) - 1);
	k->tx = ring_make(k, PACKET_TX_RING, TX_BLOCKS, 0, &k->slots);
	interface_switch(k, true);
	k->rx = ring_make(k, PACKET_RX_RING, RX_BLOCKS, CARD_TYPE, &k->blocks);
	return k;
}

static void kernels_close(void *card)
{
	struct kernels *k = card;

	interface_switch(k, false);
	munmap(k->blocks, (size_t)RX_BLOCKS * BLOCK);
	munmap(k->slots, (size_t)TX_BLOCKS * BLOCK);
	close(k->rx);
	close(k->tx);
	free(k);
}

static void kernels_mac(void *card, unsigned char *address)
{
	struct kernels *k = card;

	if (ioctl(k->tx, SIOCGIFHWADDR, &k->interface))
		failed("SIOCGIFHWADDR");
	memcpy(address, k->interface.ifr_hwaddr.sa_data, ETH_ALEN);
}

static struct tpacket_block_desc *block_next(const struct kernels *k)
{
	return (struct tpacket_block_desc *)(void *)(k->blocks + (size_t)k->block * BLOCK);
}

static unsigned int kernels_receive(void *card, struct card_expected *expected)
{
	struct kernels *k = card;
	unsigned int taken = 0;

	for (;;) {
		struct tpacket_block_desc *block = block_next(k);
		struct tpacket_hdr_v1 *header = &block->hdr.bh1;
		char *at;

		if (!(__atomic_load_n(&header->block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
			return taken;
		at = (char *)block + header->offset_to_first_pkt;
		for (unsigned int i = 0; i < header->num_pkts; i++) {
			const struct tpacket3_hdr *packet = (const struct tpacket3_hdr *)(void *)at;

			card_expect(expected, (const unsigned char *)at + packet->tp_mac,
				    packet->tp_snaplen);
			at += packet->tp_next_offset;
		}
		taken += header->num_pkts;
		__atomic_store_n(&header->block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		k->block = (k->block + 1) % RX_BLOCKS;
	}
}

static bool kernels_wait(void *card, int ended)
{
	struct pollfd fds[] = {{.fd = ((struct kernels *)card)->rx, .events = POLLIN},
			       {.fd = ended, .events = POLLIN}};

	if (poll(fds, 2, -1) < 0)
		failed("poll");
	return fds[0].revents != 0;
}

static struct tpacket3_hdr *slot_at(const struct kernels *k, unsigned int i)
{
	return (struct tpacket3_hdr *)(void *)(k->slots + (size_t)i * SLOT);
}

static void kernels_prepare(void *card, const unsigned char *content, unsigned int size,
			    unsigned int pieces)
{
	struct kernels *k = card;

	(void)pieces;
	k->size = size;
	for (unsigned int i = 0; i < TX_SLOTS; i++)
		memcpy((char *)slot_at(k, i) + TX_DATA, content, CARD_FRAME_MAX);
}

static void kernels_send(void *card, uint32_t number)
{
	struct kernels *k = card;

	for (unsigned int i = 0; i < CARD_BURST; i++, number++) {
		struct tpacket3_hdr *slot = slot_at(k, k->slot);

		if (__atomic_load_n(&slot->tp_status, __ATOMIC_ACQUIRE) != TP_STATUS_AVAILABLE)
			bench_fail("AF_PACKET: a frame waits that should have been sent");
		memcpy((char *)slot + TX_DATA + CARD_HEADER, &number, sizeof(number));
		slot->tp_len = k->size;
		slot->tp_next_offset = 0;
		__atomic_store_n(&slot->tp_status, TP_STATUS_SEND_REQUEST, __ATOMIC_RELEASE);
		k->slot = (k->slot + 1) % TX_SLOTS;
	}
	if (send(k->tx, NULL, 0, MSG_DONTWAIT) < 0)
		failed("send");
}

static void kernels_finish(void *card)
{
	struct kernels *k = card;

	for (unsigned int i = 0; i < TX_SLOTS; i++)
		if (__atomic_load_n(&slot_at(k, i)->tp_status, __ATOMIC_ACQUIRE) !=
		    TP_STATUS_AVAILABLE)
			bench_fail("AF_PACKET: a frame was not sent");
}

#define KERNELS(name, irq)                                                                         \
	{                                                                                          \
		.row = (name), .sleeps = (irq), .open = kernels_open, .close = kernels_close,      \
		.mac = kernels_mac, .receive = kernels_receive, .wait = kernels_wait,              \
		.prepare = kernels_prepare, .send = kernels_send, .finish = kernels_finish         \
	}

const struct card_contestant cards_kernels[CARDS_KERNELS] = {KERNELS("kernel", false),
							     KERNELS("kernel_irq", true)};
