/* SPDX-License-Identifier: MIT */
/*
 * neighbour.c - our card and the kernel's 8139cp on one hub: ./neighbour SPEC INTERFACE [FRAMES]
 *
 * INTERFACE is up and has the address 10.0.0.1/24; the card of SPEC is 10.0.0.2 here. One thread does both sides. What it knows of
 * ARP, IPv4, ICMP and UDP is what it takes to be found, to ping and to be pinged, and to echo. FRAMES go in each direction, by each way
 * of receiving.
 */
#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <dmaland/rtl8139cp.h>

#define KERNEL_ADDRESS	UINT32_C(0x0a000001)
#define OUR_ADDRESS	UINT32_C(0x0a000002)
#define EXPERIMENT_TYPE 0x88b5 /* local experiments: IEEE 802, 9.2.4 */

enum {
	BURST = 32, /* half of a ring */
	PIECES_MAX = 5,
	ECHO_PORT = 7,
	ARP_REQUEST = 1,
	ARP_REPLY = 2,
	ICMP_REPLY = 0,
	ICMP_REQUEST = 8,
};

struct arp {
	uint16_t hardware, protocol;
	uint8_t hardware_size, protocol_size;
	uint16_t operation;
	uint8_t from_mac[ETH_ALEN];
	uint32_t from;
	uint8_t to_mac[ETH_ALEN];
	uint32_t to;
} __attribute__((packed));

struct icmp {
	uint8_t type, code;
	uint16_t sum, id, sequence;
	uint8_t data[];
} __attribute__((packed));

struct udp {
	uint16_t from, to, length, sum;
} __attribute__((packed));

struct ipv4 {
	uint8_t version, service;
	uint16_t length, id, fragment;
	uint8_t ttl, protocol;
	uint16_t sum;
	uint32_t from, to;
} __attribute__((packed));

struct frame {
	struct ether_header eth;
	union {
		struct arp arp;
		struct {
			struct ipv4 ip;
			union {
				struct icmp icmp;
				struct udp udp;
			};
		} __attribute__((packed));
		struct {
			uint32_t number;
			uint8_t data[];
		} __attribute__((packed)) numbered;
	};
} __attribute__((packed));

static const char *spec, *interface;
static unsigned int frames_asked = 10000;

static struct {
	struct dmaland_device *dev;
	struct dmaland_rtl8139cp *card;
	bool sleeps; /* until it interrupts */
	uint8_t mac[ETH_ALEN];
	/* What has come: answered, and in answer to our own. */
	unsigned int arp_requests, pings, echoes, arp_replies, pongs;
	uint16_t pong; /* the last's sequence number */
} ours;

static struct {
	int index;
	uint8_t mac[ETH_ALEN];
} kernels;

static uint8_t pattern[4096];

/* ---- our card ---- */

static const char *const way_names[] = {"copybreak", "keep", "map"};

static void card_open(enum dmaland_rx_way way, bool sleeps)
{
	struct dmaland_rtl8139cp_options options = {.size = sizeof(options), .rx_way = way};

	printf("# %s, %s\n", way_names[way], sleeps ? "by interrupts" : "polled");
	log_clear();
	memset(&ours, 0, sizeof(ours));
	ours.dev = dmaland_open(spec, NULL);
	ours.card = ours.dev ? dmaland_rtl8139cp_open(ours.dev, &options) : NULL;
	if (!ours.card)
		fail_msg("%s", dmaland_last_error());
	ours.sleeps = sleeps;
	if (sleeps && dmaland_rtl8139cp_irq(ours.card) < 0)
		fail_msg("%s", dmaland_last_error());
	dmaland_rtl8139cp_mac(ours.card, ours.mac);
}

static void card_close(void)
{
	struct dmaland_rtl8139cp_stats stats;

	dmaland_rtl8139cp_get_stats(ours.card, &stats);
	assert_int_equal(stats.rx_dropped + stats.rx_errors + stats.rx_length + stats.rx_split +
				 stats.tx_errors,
			 0);
	dmaland_rtl8139cp_close(ours.card);
	dmaland_close(ours.dev);
	assert_string_equal(log_text(), "");
}

static void by_each_way(void (*test)(void))
{
	for (unsigned int i = 0; i < 6; i++) {
		card_open((enum dmaland_rx_way)(i / 2), i % 2);
		test();
		card_close();
	}
}

static unsigned int card_receive(struct dmaland_packet **packets, unsigned int n)
{
	time_t begun = time(NULL);
	unsigned int taken;

	/* Frames that are sent interrupt, too. */
	while (!(taken = dmaland_rtl8139cp_receive(ours.card, packets, n))) {
		dmaland_rtl8139cp_clean(ours.card);
		if (ours.sleeps)
			assert_int_equal(dmaland_rtl8139cp_wait(ours.card, (int)patience(20000)),
					 1);
		assert_true(time(NULL) - begun < (time_t)patience(20));
	}
	return taken;
}

static void card_send(struct dmaland_packet *packet)
{
	int sent;

	while ((sent = dmaland_rtl8139cp_send(ours.card, &packet, 1)) == -EBUSY)
		;
	if (sent != 1)
		fail_msg("%s", dmaland_last_error());
}

static struct frame *frame_new(struct dmaland_packet **packet, unsigned int size, uint16_t type)
{
	struct frame *frame;

	*packet = dmaland_packet_alloc(ours.card, 0);
	frame = *packet ? dmaland_packet_put(*packet, size) : NULL;
	if (!frame) {
		fail_msg("%s", dmaland_last_error());
		return NULL;
	}
	memcpy(frame->eth.ether_dhost, kernels.mac, ETH_ALEN);
	memcpy(frame->eth.ether_shost, ours.mac, ETH_ALEN);
	frame->eth.ether_type = htons(type);
	return frame;
}

/* ---- what answers ---- */

static uint16_t internet_sum(const void *data, size_t size)
{
	const uint8_t *bytes = data;
	uint32_t sum = 0;

	for (size_t i = 0; i < size; i++)
		sum += i % 2 ? bytes[i] : (uint32_t)bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void turn_round(struct frame *frame)
{
	memcpy(frame->eth.ether_dhost, frame->eth.ether_shost, ETH_ALEN);
	memcpy(frame->eth.ether_shost, ours.mac, ETH_ALEN);
}

static bool arp_answer(struct frame *frame)
{
	struct arp *arp = &frame->arp;

	if (ntohl(arp->to) != OUR_ADDRESS)
		return false;
	if (ntohs(arp->operation) == ARP_REPLY) {
		assert_int_equal(ntohl(arp->from), KERNEL_ADDRESS);
		assert_memory_equal(arp->from_mac, kernels.mac, ETH_ALEN);
		ours.arp_replies++;
		return false;
	}
	ours.arp_requests++;
	turn_round(frame);
	arp->operation = htons(ARP_REPLY);
	memcpy(arp->to_mac, arp->from_mac, ETH_ALEN);
	arp->to = arp->from;
	memcpy(arp->from_mac, ours.mac, ETH_ALEN);
	arp->from = htonl(OUR_ADDRESS);
	return true;
}

static bool icmp_answer(struct frame *frame)
{
	size_t size = ntohs(frame->ip.length) - sizeof(frame->ip);
	struct icmp *icmp = &frame->icmp;

	assert_int_equal(internet_sum(icmp, size), 0);
	if (icmp->type == ICMP_REPLY) {
		ours.pongs++;
		ours.pong = ntohs(icmp->sequence);
		assert_memory_equal(icmp->data, pattern + ours.pong, size - sizeof(*icmp));
	}
	if (icmp->type != ICMP_REQUEST)
		return false;
	ours.pings++;
	icmp->type = ICMP_REPLY;
	icmp->sum = 0;
	icmp->sum = internet_sum(icmp, size);
	return true;
}

/* Sums stay as they are: addresses and ports change places. */
static bool ip_answer(struct frame *frame)
{
	struct ipv4 *ip = &frame->ip;
	uint32_t from = ip->from;

	assert_int_equal(internet_sum(ip, sizeof(*ip)), 0);
	if (ntohl(ip->to) != OUR_ADDRESS)
		return false;
	if (ip->protocol == IPPROTO_UDP && ntohs(frame->udp.to) == ECHO_PORT) {
		frame->udp.to = frame->udp.from;
		frame->udp.from = htons(ECHO_PORT);
		ours.echoes++;
	} else if (ip->protocol != IPPROTO_ICMP || !icmp_answer(frame)) {
		return false;
	}
	turn_round(frame);
	ip->from = ip->to;
	ip->to = from;
	return true;
}

/* Until *count says so. */
static void serve(const unsigned int *count, unsigned int until)
{
	struct dmaland_packet *packets[BURST];

	while (*count < until) {
		unsigned int n = card_receive(packets, BURST);

		for (unsigned int i = 0; i < n; i++) {
			struct frame *frame = (struct frame *)packets[i]->data;
			uint16_t type = ntohs(frame->eth.ether_type);

			if ((type == ETHERTYPE_ARP && arp_answer(frame)) ||
			    (type == ETHERTYPE_IP && ip_answer(frame)))
				card_send(packets[i]);
			else
				dmaland_packet_free(packets[i]);
		}
	}
}

/* ---- the kernel's side ---- */

static int socket_make(int domain, int type, int protocol)
{
	struct timeval limit = {.tv_sec = (time_t)patience(20)};
	int fd = socket(domain, type | SOCK_CLOEXEC, protocol);

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	return fd;
}

static int interface_find(void **state)
{
	struct ifreq request = {0};
	int fd = socket_make(AF_INET, SOCK_DGRAM, 0);

	(void)state;
	for (size_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i * 7 + i / 256 * 31);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
	assert_int_equal(ioctl(fd, SIOCGIFHWADDR, &request), 0);
	memcpy(kernels.mac, request.ifr_hwaddr.sa_data, ETH_ALEN);
	kernels.index = (int)if_nametoindex(interface);
	close(fd);
	return 0;
}

/* A socket that takes what comes from us alone, and whose sends go there. */
static int socket_to_us(int type, int protocol, uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(port),
				      .sin_addr.s_addr = htonl(OUR_ADDRESS)};
	int fd = socket_make(AF_INET, type, protocol);

	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static const unsigned int echo_sizes[] = {0, 1, 17, 18, 19, 64, 214, 255, 256, 1000, 1471, 1472};

#define ECHO_SIZES (sizeof(echo_sizes) / sizeof(echo_sizes[0]))

static void kernel_pings_us(void)
{
	int fd = socket_to_us(SOCK_RAW, IPPROTO_ICMP, 0);
	uint8_t message[sizeof(struct icmp) + 1472], answer[2000];
	struct icmp *icmp = (struct icmp *)message;

	for (unsigned int i = 0; i < ECHO_SIZES; i++) {
		unsigned int size = (unsigned int)sizeof(*icmp) + echo_sizes[i];

		*icmp = (struct icmp){
			.type = ICMP_REQUEST, .id = htons(77), .sequence = htons((uint16_t)i)};
		memcpy(icmp->data, pattern + i, echo_sizes[i]);
		icmp->sum = internet_sum(message, size);
		assert_int_equal(send(fd, message, size, 0), size);
		serve(&ours.pings, i + 1);
		assert_int_equal(recv(fd, answer, sizeof(answer), 0), sizeof(struct ipv4) + size);
		icmp->type = ICMP_REPLY;
		icmp->sum = 0;
		icmp->sum = internet_sum(message, size);
		assert_memory_equal(answer + sizeof(struct ipv4), message, size);
	}
	close(fd);
}

static void the_kernel_pings_us(void **state)
{
	(void)state;
	by_each_way(kernel_pings_us);
}

static void arp_ask(void)
{
	struct dmaland_packet *packet;
	struct frame *frame =
		frame_new(&packet, sizeof(struct ether_header) + sizeof(struct arp), ETHERTYPE_ARP);

	memset(frame->eth.ether_dhost, 0xff, ETH_ALEN);
	frame->arp = (struct arp){.hardware = htons(1),
				  .protocol = htons(ETHERTYPE_IP),
				  .hardware_size = ETH_ALEN,
				  .protocol_size = 4,
				  .operation = htons(ARP_REQUEST),
				  .from = htonl(OUR_ADDRESS),
				  .to = htonl(KERNEL_ADDRESS)};
	memcpy(frame->arp.from_mac, ours.mac, ETH_ALEN);
	card_send(packet);
	serve(&ours.arp_replies, 1);
}

static void we_ping_kernel(void)
{
	arp_ask();
	for (unsigned int i = 0; i < ECHO_SIZES; i++) {
		unsigned int size = (unsigned int)sizeof(struct icmp) + echo_sizes[i];
		struct dmaland_packet *packet;
		struct frame *frame = frame_new(
			&packet, (unsigned int)offsetof(struct frame, icmp) + size, ETHERTYPE_IP);

		frame->ip = (struct ipv4){.version = 0x45,
					  .length = htons((uint16_t)(sizeof(frame->ip) + size)),
					  .ttl = 64,
					  .protocol = IPPROTO_ICMP,
					  .from = htonl(OUR_ADDRESS),
					  .to = htonl(KERNEL_ADDRESS)};
		frame->ip.sum = internet_sum(&frame->ip, sizeof(frame->ip));
		frame->icmp = (struct icmp){
			.type = ICMP_REQUEST, .id = htons(78), .sequence = htons((uint16_t)i)};
		memcpy(frame->icmp.data, pattern + i, echo_sizes[i]);
		frame->icmp.sum = internet_sum(&frame->icmp, size);
		card_send(packet);
		serve(&ours.pongs, i + 1);
		assert_int_equal(ours.pong, i);
	}
}

static void we_ping_the_kernel(void **state)
{
	(void)state;
	by_each_way(we_ping_kernel);
}

/* As many datagrams at a time as there are sizes. */
static void udp_echo(void)
{
	int fd = socket_to_us(SOCK_DGRAM, 0, ECHO_PORT);
	uint8_t answer[2000];

	for (unsigned int round = 0; round < 5; round++) {
		for (unsigned int i = 0; i < ECHO_SIZES; i++)
			assert_int_equal(send(fd, pattern + i + round, echo_sizes[i], 0),
					 echo_sizes[i]);
		serve(&ours.echoes, (round + 1) * ECHO_SIZES);
		for (unsigned int i = 0; i < ECHO_SIZES; i++) {
			assert_int_equal(recv(fd, answer, sizeof(answer), 0), echo_sizes[i]);
			assert_memory_equal(answer, pattern + i + round, echo_sizes[i]);
		}
	}
	close(fd);
}

static void datagrams_of_the_kernels_sockets_are_echoed(void **state)
{
	(void)state;
	by_each_way(udp_echo);
}

/* ---- many frames ---- */

static unsigned int length_of(uint32_t number)
{
	return number % 97 == 0 ? 20 : 60 + number * 61 % (DMALAND_ETH_FRAME_LEN - 60 + 1);
}

static unsigned int data_in(unsigned int length)
{
	return length - (unsigned int)offsetof(struct frame, numbered.data);
}

static const uint8_t *data_of(uint32_t number)
{
	return pattern + number % 2039;
}

static void numbered_check(const struct frame *frame, unsigned int size, uint32_t number)
{
	unsigned int length = length_of(number);

	assert_int_equal(ntohs(frame->eth.ether_type), EXPERIMENT_TYPE);
	assert_int_equal(frame->numbered.number, number);
	assert_int_equal(size, length < ETH_ZLEN ? ETH_ZLEN : length);
	assert_memory_equal(frame->numbered.data, data_of(number), data_in(length));
}

static void numbered_fill(struct frame *frame, uint32_t number)
{
	frame->numbered.number = number;
	memcpy(frame->numbered.data, data_of(number), data_in(length_of(number)));
}

/* In up to PIECES_MAX pieces. */
static void ours_send(uint32_t number)
{
	unsigned int length = length_of(number), pieces = 1 + number % PIECES_MAX;
	struct dmaland_packet *packet;

	numbered_fill(frame_new(&packet, length, EXPERIMENT_TYPE), number);
	for (unsigned int i = pieces - 1; i > 0; i--) {
		packet->len -= length / PIECES_MAX;
		packet->frags[i - 1] =
			(struct dmaland_frag){packet->data + packet->len, length / PIECES_MAX};
	}
	packet->nr_frags = pieces - 1;
	card_send(packet);
}

static void kernel_send(int fd, uint32_t number)
{
	uint8_t memory[DMALAND_ETH_FRAME_LEN];
	struct frame *frame = (struct frame *)memory;

	memcpy(frame->eth.ether_dhost, ours.mac, ETH_ALEN);
	memcpy(frame->eth.ether_shost, kernels.mac, ETH_ALEN);
	frame->eth.ether_type = htons(EXPERIMENT_TYPE);
	numbered_fill(frame, number);
	assert_int_equal(send(fd, memory, length_of(number), 0), length_of(number));
}

static unsigned int ours_receive(uint32_t number, uint32_t n)
{
	struct dmaland_packet *packets[BURST];
	unsigned int taken = card_receive(packets, BURST), numbered = 0;

	for (unsigned int i = 0; i < taken; i++) {
		const struct frame *frame = (const struct frame *)packets[i]->data;

		/* The kernel asks now and then who we are. */
		if (ntohs(frame->eth.ether_type) == EXPERIMENT_TYPE)
			numbered_check(frame, packets[i]->len, number + numbered++);
		dmaland_packet_free(packets[i]);
	}
	assert_true(numbered <= n);
	return numbered;
}

static void kernel_receive(int fd, uint32_t number)
{
	uint8_t memory[2000];
	ssize_t size = recv(fd, memory, sizeof(memory), 0);

	if (size < 0)
		fail_msg("frame %u does not come: %s", number, strerror(errno));
	numbered_check((const struct frame *)memory, (unsigned int)size, number);
}

/* Each ring and socket has room for what is on its way in its direction. */
static void flood_run(void)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET,
				      .sll_protocol = htons(EXPERIMENT_TYPE),
				      .sll_ifindex = kernels.index};
	int fd = socket_make(AF_PACKET, SOCK_RAW, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	for (uint32_t number = 0, n; number < frames_asked; number += n) {
		n = frames_asked - number < BURST ? frames_asked - number : BURST;
		for (uint32_t i = 0; i < n; i++) {
			ours_send(number + i);
			kernel_send(fd, number + i);
		}
		for (uint32_t come = 0; come < n;)
			come += ours_receive(number + come, n - come);
		for (uint32_t i = 0; i < n; i++)
			kernel_receive(fd, number + i);
	}
	close(fd);
}

static void floods_arrive_whole_and_in_order(void **state)
{
	(void)state;
	by_each_way(flood_run);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_kernel_pings_us),
		cmocka_unit_test(we_ping_the_kernel),
		cmocka_unit_test(datagrams_of_the_kernels_sockets_are_echoed),
		cmocka_unit_test(floods_arrive_whole_and_in_order),
	};

	if (argc < 3) {
		fprintf(stderr, "usage: %s SPEC INTERFACE [FRAMES]\n", argv[0]);
		return 2;
	}
	spec = argv[1];
	interface = argv[2];
	if (argc > 3)
		frames_asked = (unsigned int)atoi(argv[3]);
	log_capture();
	return cmocka_run_group_tests_name("neighbour", tests, interface_find, NULL);
}
