/* SPDX-License-Identifier: MIT */
/*
 * net_echo.c - `dmaland net echo`: a machine that answers pings, and sends UDP datagrams for port 7 back (RFC 862)
 */
#include <stdio.h>
#include <string.h>

#include <lwip/icmp.h>
#include <lwip/ip.h>
#include <lwip/raw.h>

#include "net_echo.h"
#include "report.h"

/* lwIP answers a ping by itself: it is only counted here. */
static u8_t icmp_take(void *context, struct raw_pcb *pcb, struct pbuf *p, const ip_addr_t *from)
{
	unsigned int header = IPH_HL_BYTES((struct ip_hdr *)p->payload);
	struct echo *echo = context;

	(void)pcb;
	(void)from;
	if (p->tot_len > header && pbuf_get_at(p, (u16_t)header) == ICMP_ECHO)
		echo->pings++;
	return 0;
}

/* Two that echo would send each other the same datagram for ever. */
static void udp_take(void *context, struct udp_pcb *pcb, struct pbuf *p, const ip_addr_t *from,
		     u16_t port)
{
	struct echo *echo = context;

	if (port != ECHO_PORT &&
	    udp_sendto_if(pcb, p, from, port, ip_current_input_netif()) == ERR_OK)
		echo->datagrams++;
	pbuf_free(p);
}

int echo_begin(struct echo *echo)
{
	*echo = (struct echo){.icmp = raw_new(IP_PROTO_ICMP), .udp = udp_new()};
	if (!echo->icmp || !echo->udp || udp_bind(echo->udp, IP4_ADDR_ANY, ECHO_PORT) != ERR_OK) {
		echo_end(echo);
		return fail("no memory for lwIP");
	}
	raw_recv(echo->icmp, icmp_take, echo);
	udp_recv(echo->udp, udp_take, echo);
	return STATUS_OK;
}

void echo_end(struct echo *echo)
{
	if (echo->icmp)
		raw_remove(echo->icmp);
	if (echo->udp)
		udp_remove(echo->udp);
	*echo = (struct echo){.icmp = NULL};
}

static int echo_report(const struct echo *echo, bool json)
{
	struct report report;

	report_begin(&report, json);
	report_facts(&report, "answered");
	report_fact(&report, "pings", "%llu answered", (unsigned long long)echo->pings);
	report_fact(&report, "datagrams", "%llu sent back", (unsigned long long)echo->datagrams);
	report_member_number(&report, "pings", echo->pings);
	report_member_number(&report, "datagrams", echo->datagrams);
	return report_end(&report, STATUS_OK);
}

static int echo_work(struct stack *stack, const struct echo *echo,
		     const struct arguments *arguments)
{
	uint64_t limit = arguments_have(arguments, 'c') ? arguments->blocks : UINT64_MAX;
	double end = seconds_now() + (double)arguments->seconds;
	int status = STATUS_OK;
	bool work;

	while (!status && echo->pings + echo->datagrams < limit &&
	       !(arguments->seconds && seconds_now() >= end)) {
		status = stack_poll(stack, &work);
		if (!status)
			status = signals_status();
		if (!status && !work)
			status = stack_wait(stack, UINT64_MAX);
	}
	/* The last answer is on its way. */
	if (!status)
		status = card_drain(&stack->cards[0].net);
	return status;
}

static int echo_run(const struct arguments *arguments)
{
	const char *ip = arguments->ip ? arguments->ip : "10.0.0.1/24";
	struct stack stack = {.n = 0};
	struct stack_address address;
	struct echo echo;
	int reported, status = address_parse("net echo", ip, &address);

	if (status)
		return status;
	status = stack_add(&stack, arguments->operands[0], arguments, &address);
	if (!status)
		status = echo_begin(&echo);
	if (!status) {
		fprintf(stderr, "dmaland: %s answers as %s; a signal ends it\n",
			mac_text(stack.cards[0].net.mac).text, ip);
		status = echo_work(&stack, &echo, arguments);
		reported = status == STATUS_FAILED
				   ? status
				   : echo_report(&echo, arguments_have(arguments, 'J'));
		status = status ? status : reported;
		echo_end(&echo);
	}
	stack_end(&stack);
	return status;
}

const struct command net_echo_command = {
	.name = "net echo",
	.summary = "answer pings, and echo UDP",
	.options = "YcLJv",
	.operands = "SPEC",
	.least = 1,
	.most = 1,
	.help = "Answers pings, and sends UDP datagrams for port 7 back, until a signal ends "
		"it.\n\n"
		"      --ip=ADDRESS/BITS  the address to have; 10.0.0.1/24 when left out\n"
		"  -c, --count=ANSWERS    or so many were given\n"
		"      --seconds=NUMBER   or this time is over\n"
		"      --json             what was answered, as one JSON object\n"
		"  -v, --verbose          more messages on stderr\n\n"
		"More: man dmaland-net\n",
	.run = echo_run,
};
