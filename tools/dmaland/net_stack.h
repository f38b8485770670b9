/* SPDX-License-Identifier: MIT */
/*
 * net_stack.h - what is above Ethernet: lwIP on one card, or on several of one process
 *
 * Debian's library is one for programs with threads (NO_SYS is 0), and starts its own when tcpip_init() is called. We do not: its
 * core, the raw API, is used from one thread, which also runs its timers. What hands over to that other thread is not there: a
 * packet to a card's own address (netif_loop_output), which is refused before.
 */
#ifndef NET_STACK_H
#define NET_STACK_H

#include <lwip/ip4_addr.h>
#include <lwip/netif.h>

#include "net_card.h"

enum { STACK_CARDS = 2, ECHO_PORT = 7 };

/* @status: of a frame that could not be sent */
struct stack_card {
	struct net_card net;
	struct netif netif;
	bool added;
	int status;
};

struct stack {
	struct stack_card cards[STACK_CARDS];
	unsigned int n;
};

/* An address with the bits of its network, as --ip has it: 0, or a status with the user told. */
struct stack_address {
	ip4_addr_t ip, mask;
	unsigned int bits;
};
int address_parse(const char *command, const char *text, struct stack_address *address);

/* Are they of one network, and both of a single machine? */
bool address_is_neighbour(const struct stack_address *address, const ip4_addr_t *other);
bool address_is_host(const struct stack_address *address);

/* "10.0.0.2" */
struct text ip_text(const ip4_addr_t *ip);

/* A card with an address: 0, or a status with the user told. Then there is the stack to end. */
int stack_add(struct stack *stack, const char *spec, const struct arguments *arguments,
	      const struct stack_address *address);
void stack_end(struct stack *stack);

/* Take what has arrived, on all cards, and answer; run timers: 0, or a status with the user told. *work: was there something? */
int stack_poll(struct stack *stack, bool *work);

/*
 * Sleep until a frame has arrived, so many ms, or a moment. Of several cards, what arrives at another than the first is seen when
 * the moment is over. 0, or a status with the user told.
 */
int stack_wait(struct stack *stack, uint64_t ms);

#endif
