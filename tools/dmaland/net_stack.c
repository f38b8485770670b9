/* SPDX-License-Identifier: MIT */
/*
 * net_stack.c - what is above Ethernet: lwIP on cards
 *
 * A frame that has arrived is copied into lwIP's memory. One that is sent goes from lwIP's memory, in the pieces that it has
 * there; lwIP keeps these until the card is done with them.
 */
#include "net_stack.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lwip/etharp.h>
#include <lwip/init.h>
#include <lwip/timeouts.h>
#include <netif/ethernet.h>

enum { MTU = 1500, BURST = 16 };

/* A frame on its way out. */
struct outgoing {
	struct dmaland_packet packet;
	struct pbuf *memory;
};

static void outgoing_release(struct dmaland_packet *packet)
{
	struct outgoing *out = packet->context;

	pbuf_free(out->memory);
	free(out);
}

static struct outgoing *outgoing_make(struct pbuf *memory)
{
	struct outgoing *out = calloc(1, sizeof(*out));

	if (!out)
		return NULL;
	out->packet.release = outgoing_release;
	out->packet.context = out;
	out->memory = memory;
	pbuf_ref(memory);
	for (struct pbuf *p = memory; p; p = p->next) {
		if (!p->len)
			continue;
		if (out->packet.nr_frags == DMALAND_MAX_FRAGS) {
			outgoing_release(&out->packet);
			return NULL;
		}
		out->packet.frags[out->packet.nr_frags++] =
			(struct dmaland_frag){p->payload, p->len};
	}
	return out;
}

/* lwIP's: a frame is to be sent. One for which there is no room is lost, as on any network. */
static err_t frame_output(struct netif *netif, struct pbuf *memory)
{
	struct stack_card *one = netif->state;
	struct outgoing *out = outgoing_make(memory);
	struct dmaland_packet *packet = out ? &out->packet : NULL;
	int code;

	if (!out)
		return ERR_MEM;
	code = dmaland_rtl8139cp_send(one->net.card, &packet, 1);
	if (code > 0)
		return ERR_OK;
	dmaland_packet_free(packet);
	if (code != -EBUSY && !one->status)
		one->status = fail_library(NULL);
	return ERR_IF;
}

/*
 * PBUF_RAM: the pool's buffers of Debian's library (2.1.3) are longer to who fills them than where they are allocated, 592 bytes:
 * a longer frame would be written past their end.
 */
static void frame_input(struct stack_card *one, struct dmaland_packet *packet)
{
	struct pbuf *memory = pbuf_alloc(PBUF_RAW, (u16_t)packet->len, PBUF_RAM);

	if (memory)
		pbuf_take(memory, packet->data, (u16_t)packet->len);
	dmaland_packet_free(packet);
	if (memory && one->netif.input(memory, &one->netif) != ERR_OK)
		pbuf_free(memory);
}

static err_t netif_setup(struct netif *netif)
{
	struct stack_card *one = netif->state;

	netif->name[0] = 'd';
	netif->name[1] = 'l';
	netif->mtu = MTU;
	netif->hwaddr_len = DMALAND_ETH_ALEN;
	memcpy(netif->hwaddr, one->net.mac, DMALAND_ETH_ALEN);
	netif->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET;
	netif->output = etharp_output;
	netif->linkoutput = frame_output;
	return ERR_OK;
}

int address_parse(const char *command, const char *text, struct stack_address *address)
{
	char ip[20] = "", rest = '\0';
	int fields = sscanf(text, "%19[0-9.]/%2u%c", ip, &address->bits, &rest);

	if (fields != 2 || !ip4addr_aton(ip, &address->ip) || address->bits < 1 ||
	    address->bits > 30)
		return usage_error(command,
				   "--ip is an address and the bits of its network, 1 "
				   "to 30, such as 10.0.0.2/24, and not '%s'",
				   text);
	address->mask.addr = lwip_htonl(UINT32_MAX << (32 - address->bits));
	if (!address_is_host(address))
		return usage_error(command, "%s is no machine's address in its network", text);
	return STATUS_OK;
}

bool address_is_host(const struct stack_address *address)
{
	uint32_t host = address->ip.addr & ~address->mask.addr;

	return host && host != ~address->mask.addr && !ip4_addr_ismulticast(&address->ip) &&
	       !ip4_addr_isloopback(&address->ip);
}

bool address_is_neighbour(const struct stack_address *address, const ip4_addr_t *other)
{
	struct stack_address there = {*other, address->mask, address->bits};

	return ip4_addr_netcmp(&address->ip, other, &address->mask) && address_is_host(&there);
}

struct text ip_text(const ip4_addr_t *ip)
{
	struct text text;

	ip4addr_ntoa_r(ip, text.text, sizeof(text.text));
	return text;
}

int stack_add(struct stack *stack, const char *spec, const struct arguments *arguments,
	      const struct stack_address *address)
{
	struct stack_card *one = &stack->cards[stack->n];
	int status = card_open(&one->net, spec, arguments, NULL);
	ip4_addr_t gateway = {0};

	if (status)
		return status;
	if (!stack->n++)
		lwip_init();
	if (!netif_add(&one->netif, &address->ip, &address->mask, &gateway, one, netif_setup,
		       ethernet_input))
		return fail("lwIP takes no card");
	one->added = true;
	netif_set_up(&one->netif);
	netif_set_link_up(&one->netif);
	return one->status;
}

void stack_end(struct stack *stack)
{
	for (unsigned int i = 0; i < stack->n; i++) {
		if (stack->cards[i].added)
			netif_remove(&stack->cards[i].netif);
		card_close(&stack->cards[i].net);
	}
	stack->n = 0;
}

int stack_poll(struct stack *stack, bool *work)
{
	struct dmaland_packet *packets[BURST];
	int status = STATUS_OK;

	*work = false;
	for (unsigned int c = 0; c < stack->n; c++) {
		struct stack_card *one = &stack->cards[c];
		unsigned int n = dmaland_rtl8139cp_receive(one->net.card, packets, BURST);

		for (unsigned int i = 0; i < n; i++)
			frame_input(one, packets[i]);
		dmaland_rtl8139cp_clean(one->net.card);
		*work |= n > 0;
	}
	sys_check_timeouts();
	for (unsigned int c = 0; c < stack->n && !status; c++)
		status = stack->cards[c].status;
	return status;
}

int stack_wait(struct stack *stack, uint64_t ms)
{
	uint64_t timer = sys_timeouts_sleeptime();

	return card_wait(&stack->cards[0].net, ms < timer ? ms : timer);
}
