/* SPDX-License-Identifier: MIT */
/*
 * net_ping.c - `dmaland net ping`: is a machine there, and how long does it take to answer?
 *
 * Each ping has a number, under which it stands in a table with the time when it was sent. An answer is one when it has our id, a
 * number that is in the table, and the bytes that were sent. ICMP's echo, or UDP's (RFC 862).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lwip/etharp.h>
#include <lwip/icmp.h>
#include <lwip/inet_chksum.h>
#include <lwip/ip.h>
#include <lwip/raw.h>

#include "latency.h"
#include "net_echo.h"
#include "report.h"

enum {
	COUNT_DEFAULT = 3,
	INTERVAL_MS = 1000,
	TIMEOUT_MS = 5000,
	FLOOD_MS = 10, /* with an interval of 0 the next one goes without an answer */
	SIZE_DEFAULT = 56,
	SIZE_MOST = 1472, /* one frame: 1500 without the headers of IP and ICMP, or UDP */
	SIZE_LEAST = 4,	  /* of UDP: the id and the number */
	NUMBERS = 1 << 16,
	SPIN_MS = 20,
	MS = 1000000,
};

struct ping {
	struct stack stack;
	struct stack_address own;
	ip4_addr_t to;
	struct raw_pcb *icmp;
	struct udp_pcb *udp; /* NULL: by ICMP */
	struct echo echo;
	bool echoes; /* the second card's */
	uint16_t id;
	unsigned int size;
	uint64_t limit, interval, timeout; /* ns */
	uint64_t sent, received, duplicates, wrong, begin, last;
	double min, max, sum, squares; /* ms */
	struct report report;
	struct sent {
		uint64_t at;
		bool waits;
	} * numbers;
};

static unsigned char content(unsigned int at)
{
	return (unsigned char)at;
}

/* --- what comes ----------------------------------------------------------------------------- */

enum { REPLY_SEQ, REPLY_TTL, REPLY_TIME, REPLY_COLUMNS };

static const struct column reply_columns[] = {
	[REPLY_SEQ] = {NULL, "seq", COLUMN_NUMBER, FIT_NO},
	[REPLY_TTL] = {NULL, "ttl", COLUMN_NUMBER, FIT_NO},
	[REPLY_TIME] = {NULL, "time_ns", COLUMN_NUMBER, FIT_NO},
};

static void first_print(struct ping *ping)
{
	const ip4_addr_t *ip;
	struct eth_addr *address;

	if (etharp_find_addr(&ping->stack.cards[0].netif, &ping->to, &address, &ip) >= 0)
		printf("%s is at %s\n", ip_text(&ping->to).text, mac_text(address->addr).text);
}

static void answer_show(struct ping *ping, unsigned int number, unsigned int ttl, uint64_t ns,
			bool again)
{
	if (ping->report.json) {
		report_row(&ping->report);
		report_number(&ping->report, REPLY_SEQ, number);
		report_number(&ping->report, REPLY_TTL, ttl);
		report_number(&ping->report, REPLY_TIME, ns);
		return;
	}
	if (ping->received == 1 && !again)
		first_print(ping);
	printf("%u bytes from %s: %s_seq=%u ttl=%u time=%.3f ms%s\n",
	       ping->size + (ping->udp ? 0 : (unsigned int)sizeof(struct icmp_echo_hdr)),
	       ip_text(&ping->to).text, ping->udp ? "udp" : "icmp", number, ttl, (double)ns / MS,
	       again ? " (DUP!)" : "");
	fflush(stdout);
}

static void answer_take(struct ping *ping, unsigned int number, unsigned int ttl)
{
	struct sent *sent = &ping->numbers[number];
	uint64_t ns = nanoseconds_now() - sent->at;
	double ms = (double)ns / MS;
	bool again = !sent->waits;

	if (!sent->at)
		return;
	sent->waits = false;
	if (again) {
		ping->duplicates++;
	} else {
		ping->min = !ping->received || ms < ping->min ? ms : ping->min;
		ping->max = ms > ping->max ? ms : ping->max;
		ping->sum += ms;
		ping->squares += ms * ms;
		ping->received++;
	}
	answer_show(ping, number, ttl, ns, again);
}

/* Are the bytes from there on those that were sent? */
static bool content_check(struct ping *ping, struct pbuf *p, unsigned int from, unsigned int n)
{
	bool same = p->tot_len == from + n;

	for (unsigned int i = 0; same && i < n; i++)
		same = pbuf_get_at(p, (u16_t)(from + i)) == content(i);
	ping->wrong += !same;
	return same;
}

static u8_t icmp_take(void *context, struct raw_pcb *pcb, struct pbuf *p, const ip_addr_t *from)
{
	unsigned int header = IPH_HL_BYTES((struct ip_hdr *)p->payload);
	struct ping *ping = context;
	struct icmp_echo_hdr icmp;

	(void)pcb;
	if (pbuf_copy_partial(p, &icmp, sizeof(icmp), (u16_t)header) != sizeof(icmp) ||
	    icmp.type != ICMP_ER || icmp.id != lwip_htons(ping->id) ||
	    !ip4_addr_cmp(ip_2_ip4(from), &ping->to))
		return 0;
	if (content_check(ping, p, header + (unsigned int)sizeof(icmp), ping->size))
		answer_take(ping, lwip_ntohs(icmp.seqno), IPH_TTL((struct ip_hdr *)p->payload));
	pbuf_free(p);
	return 1;
}

static void udp_take(void *context, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *from,
		     u16_t port)
{
	struct ping *ping = context;
	uint16_t head[2] = {0, 0};

	(void)pcb;
	pbuf_copy_partial(p, head, sizeof(head), 0);
	if (port == ECHO_PORT && ip4_addr_cmp(ip_2_ip4(from), &ping->to) &&
	    lwip_ntohs(head[0]) == ping->id &&
	    content_check(ping, p, sizeof(head), ping->size - (unsigned int)sizeof(head)))
		answer_take(ping, lwip_ntohs(head[1]), IPH_TTL(ip4_current_header()));
	pbuf_free(p);
}

/* --- what goes ------------------------------------------------------------------------------ */

static void content_fill(unsigned char *at, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		at[i] = content(i);
}

static err_t icmp_send(struct ping *ping, uint16_t number)
{
	struct netif *netif = &ping->stack.cards[0].netif;
	unsigned int length = (unsigned int)sizeof(struct icmp_echo_hdr) + ping->size;
	struct pbuf *p = pbuf_alloc(PBUF_IP, (u16_t)length, PBUF_RAM);
	ip_addr_t to = IPADDR4_INIT(ping->to.addr);
	struct icmp_echo_hdr *icmp;
	err_t err;

	if (!p)
		return ERR_MEM;
	icmp = p->payload;
	*icmp = (struct icmp_echo_hdr){
		.type = ICMP_ECHO, .id = lwip_htons(ping->id), .seqno = lwip_htons(number)};
	content_fill((unsigned char *)(icmp + 1), ping->size);
	icmp->chksum = inet_chksum(icmp, (u16_t)length);
	err = raw_sendto_if_src(ping->icmp, p, &to, netif, &netif->ip_addr);
	pbuf_free(p);
	return err;
}

static err_t udp_send_one(struct ping *ping, uint16_t number)
{
	const uint16_t head[2] = {lwip_htons(ping->id), lwip_htons(number)};
	struct pbuf *p = pbuf_alloc(PBUF_TRANSPORT, (u16_t)ping->size, PBUF_RAM);
	ip_addr_t to = IPADDR4_INIT(ping->to.addr);
	err_t err;

	if (!p)
		return ERR_MEM;
	memcpy(p->payload, head, sizeof(head));
	content_fill((unsigned char *)p->payload + sizeof(head),
		     ping->size - (unsigned int)sizeof(head));
	err = udp_sendto_if(ping->udp, p, &to, ECHO_PORT, &ping->stack.cards[0].netif);
	pbuf_free(p);
	return err;
}

/* One that can't be sent is lost as one that does not come back. */
static void one_send(struct ping *ping)
{
	uint16_t number = (uint16_t)(ping->sent + 1);

	ping->last = nanoseconds_now();
	ping->sent++;
	ping->numbers[number] = (struct sent){ping->last, true};
	if (ping->udp)
		udp_send_one(ping, number);
	else
		icmp_send(ping, number);
}

/* --- all of it ------------------------------------------------------------------------------ */

static uint64_t next_at(const struct ping *ping)
{
	if (!ping->sent)
		return 0;
	if (ping->interval)
		return ping->last + ping->interval;
	return ping->received < ping->sent ? ping->last + (uint64_t)FLOOD_MS * MS : 0;
}

static bool is_over(const struct ping *ping, uint64_t now)
{
	return ping->sent >= ping->limit &&
	       (ping->received == ping->sent || now >= ping->last + ping->timeout);
}

/*
 * Until an answer or the time for the next one. Where we answer ourselves, both cards are looked at, first without a pause, then
 * every ms.
 */
static int moment_wait(struct ping *ping, uint64_t now)
{
	uint64_t until = ping->sent < ping->limit ? next_at(ping) : ping->last + ping->timeout;
	uint64_t ms = until > now ? (until - now + MS - 1) / MS : 0;

	if (ping->echoes && ping->received < ping->sent) {
		if (now - ping->last < (uint64_t)SPIN_MS * MS)
			return STATUS_OK;
		ms = ms < 1 ? ms : 1;
	}
	return stack_wait(&ping->stack, ms);
}

static int ping_work(struct ping *ping)
{
	uint64_t now = ping->begin = nanoseconds_now();
	int status = STATUS_OK;
	bool work;

	while (!status && !is_over(ping, now)) {
		if (ping->sent < ping->limit && now >= next_at(ping))
			one_send(ping);
		status = stack_poll(&ping->stack, &work);
		if (!status)
			status = signals_status();
		now = nanoseconds_now();
		if (!status && !work && !is_over(ping, now))
			status = moment_wait(ping, now);
	}
	return status;
}

static unsigned int loss(const struct ping *ping)
{
	return ping->sent ? (unsigned int)((ping->sent - ping->received) * 100 / ping->sent) : 0;
}

static void ways_print(struct ping *ping)
{
	struct net_card *net = &ping->stack.cards[0].net;
	struct dmaland_streaming_stats streaming;
	struct dmaland_rtl8139cp_stats stats;

	dmaland_rtl8139cp_get_stats(net->card, &stats);
	dmaland_get_streaming_stats(net->dev, &streaming);
	printf("%s sent, %llu of them copied together; %s received, %llu of them copied; %llu "
	       "mappings\n",
	       frames_text(stats.tx_packets).text, (unsigned long long)stats.tx_linear,
	       frames_text(stats.rx_packets).text, (unsigned long long)stats.rx_copied,
	       (unsigned long long)streaming.mapped);
}

static void statistics_print(struct ping *ping, double mdev, uint64_t ns)
{
	char others[80] = "";

	if (ping->duplicates || ping->wrong)
		snprintf(others, sizeof(others), " +%llu duplicates, +%llu corrupted,",
			 (unsigned long long)ping->duplicates, (unsigned long long)ping->wrong);
	printf("\n--- %s ping statistics ---\n"
	       "%llu packets transmitted, %llu received,%s %u%% packet loss, time %llums\n",
	       ip_text(&ping->to).text, (unsigned long long)ping->sent,
	       (unsigned long long)ping->received, others, loss(ping),
	       (unsigned long long)(ns / MS));
	if (ping->received)
		printf("rtt min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms\n", ping->min,
		       ping->sum / (double)ping->received, ping->max, mdev);
	ways_print(ping);
}

/* Ends the report; after a failure there is none. */
static int statistics(struct ping *ping, int status)
{
	double n = ping->received ? (double)ping->received : 1, mean = ping->sum / n;
	double variance = ping->squares / n - mean * mean;
	double mdev = variance > 0 ? sqrt(variance) : 0;
	struct report *report = &ping->report;
	const struct member members[] = {
		{"sent", ping->sent},
		{"received", ping->received},
		{"duplicates", ping->duplicates},
		{"corrupted", ping->wrong},
		{"loss_percent", loss(ping)},
		{"min_ns", (uint64_t)(ping->min * MS)},
		{"avg_ns", (uint64_t)(mean * MS)},
		{"max_ns", (uint64_t)(ping->max * MS)},
		{"mdev_ns", (uint64_t)(mdev * MS)},
	};

	if (status == STATUS_FAILED)
		return report_end(report, status);
	if (!report->json)
		statistics_print(ping, mdev, nanoseconds_now() - ping->begin);
	report_facts(report, "ping");
	report_member_text(report, "address", ip_text(&ping->to).text);
	report_member_text(report, "own", ip_text(&ping->own.ip).text);
	report_member_text(report, "protocol", ping->udp ? "udp" : "icmp");
	report_members(report, members, sizeof(members) / sizeof(members[0]));
	return report_end(report, STATUS_OK);
}

/* Cards, and who answers. What is there is ended by ping_end(). */
static int ping_begin(struct ping *ping, const struct arguments *arguments)
{
	struct stack_address there = {ping->to, ping->own.mask, ping->own.bits};
	int status = stack_add(&ping->stack, arguments->operands[0], arguments, &ping->own);

	if (!status && arguments->echo) {
		status = stack_add(&ping->stack, arguments->echo, arguments, &there);
		if (!status)
			status = echo_begin(&ping->echo);
		ping->echoes = !status;
	}
	if (status)
		return status;
	ping->numbers = calloc(NUMBERS, sizeof(*ping->numbers));
	ping->icmp = raw_new(IP_PROTO_ICMP);
	ping->udp = arguments_have(arguments, 'u') ? udp_new() : NULL;
	if (!ping->numbers || !ping->icmp || (arguments_have(arguments, 'u') && !ping->udp))
		return fail("no memory for pings");
	raw_recv(ping->icmp, icmp_take, ping);
	if (ping->udp && udp_bind(ping->udp, IP4_ADDR_ANY, 0) != ERR_OK)
		return fail("lwIP has no port");
	if (ping->udp)
		udp_recv(ping->udp, udp_take, ping);
	return STATUS_OK;
}

static void ping_end(struct ping *ping)
{
	if (ping->icmp)
		raw_remove(ping->icmp);
	if (ping->udp)
		udp_remove(ping->udp);
	if (ping->echoes)
		echo_end(&ping->echo);
	stack_end(&ping->stack);
	free(ping->numbers);
}

static int ping_choose(struct ping *ping, const struct arguments *arguments)
{
	const char *to = arguments->operands[1];
	int status = address_parse("net ping", arguments->ip ? arguments->ip : "10.0.0.2/24",
				   &ping->own);

	if (status)
		return status;
	if (!ip4addr_aton(to, &ping->to))
		return usage_error("net ping", "'%s' is no address such as 10.0.0.1", to);
	if (ip4_addr_cmp(&ping->own.ip, &ping->to))
		return usage_error("net ping",
				   "%s is the card's own address; --ip gives it another", to);
	if (!address_is_neighbour(&ping->own, &ping->to))
		return usage_error("net ping",
				   "%s is no machine of the card's network, %s/%u, and there is no "
				   "router; --ip gives the card another address",
				   to, ip_text(&ping->own.ip).text, ping->own.bits);
	ping->size = arguments_have(arguments, 'Z') ? (unsigned int)arguments->size : SIZE_DEFAULT;
	if (ping->size > SIZE_MOST || ping->size < SIZE_LEAST)
		return usage_error("net ping", "--size is from %d to %d bytes, and not %llu",
				   SIZE_LEAST, SIZE_MOST, (unsigned long long)arguments->size);
	ping->limit = arguments_have(arguments, 'c') ? arguments->blocks : COUNT_DEFAULT;
	ping->interval = (arguments_have(arguments, 'V') ? arguments->interval : INTERVAL_MS) * MS;
	ping->timeout = (arguments_have(arguments, 't') ? arguments->timeout : TIMEOUT_MS) * MS;
	ping->id = (uint16_t)getpid();
	return STATUS_OK;
}

static int ping_all(struct ping *ping, const struct arguments *arguments)
{
	int status, reported;

	report_begin(&ping->report, arguments_have(arguments, 'J'));
	if (ping->report.json)
		report_table(&ping->report, "replies", reply_columns, REPLY_COLUMNS);
	else
		printf("PING %s from %s (%s): %u bytes of data\n", ip_text(&ping->to).text,
		       ip_text(&ping->own.ip).text, mac_text(ping->stack.cards[0].net.mac).text,
		       ping->size);
	fflush(stdout);
	status = ping_work(ping);
	reported = statistics(ping, status);
	if (status || reported)
		return status ? status : reported;
	return ping->received ? STATUS_OK
			      : STATUS_FAILED; /* as ping has it, and said by the 100% */
}

static int ping_run(const struct arguments *arguments)
{
	struct ping *ping = calloc(1, sizeof(*ping));
	int status;

	if (!ping)
		return fail("no memory");
	status = ping_choose(ping, arguments);
	if (!status) {
		status = ping_begin(ping, arguments);
		if (!status)
			status = ping_all(ping, arguments);
		ping_end(ping);
	}
	free(ping);
	return status;
}

const struct command net_ping_command = {
	.name = "net ping",
	.summary = "is a machine there, and how fast?",
	.options = "YecVZtuJv",
	.operands = "SPEC ADDRESS",
	.least = 2,
	.most = 2,
	.help = "Pings a machine of the card's network, and prints how long each answer took.\n\n"
		"      --ip=ADDRESS/BITS  the card's own address; 10.0.0.2/24 when left out\n"
		"  -e, --echo=SPEC        a second card that answers, as ADDRESS, in this process\n"
		"  -c, --count=NUMBER     how many; 3 when left out\n"
		"      --interval=MS      from one to the next; 1000 when left out; 0: as fast as\n"
		"                         they come back\n"
		"      --size=BYTES       of data; 56 when left out\n"
		"  -t, --timeout=MS       how long the last answer may take; 5000 when left out\n"
		"  -u, --udp              by UDP, port 7\n"
		"      --json             as one JSON object\n"
		"  -v, --verbose          more messages on stderr\n\n"
		"More: man dmaland-net\n",
	.run = ping_run,
};
