/* SPDX-License-Identifier: MIT */
/*
 * net_echo.h - what answers pings and UDP datagrams, on all cards of a stack
 */
#ifndef NET_ECHO_H
#define NET_ECHO_H

#include <lwip/udp.h>

#include "net_stack.h"

struct raw_pcb;

/* What it has answered; it does not move while it works. */
struct echo {
	struct raw_pcb *icmp;
	struct udp_pcb *udp;
	uint64_t pings, datagrams;
};

/* On a stack with a card: 0, or a status with the user told. */
int echo_begin(struct echo *echo);
void echo_end(struct echo *echo);

#endif
