/* SPDX-License-Identifier: MIT */
/*
 * net_card.h - a network card opened by its spec, and frames sent by it
 */
#ifndef NET_CARD_H
#define NET_CARD_H

#include <dmaland/dmaland.h>
#include <dmaland/rtl8139cp.h>

#include "command.h"

enum { ETHERNET_HEADER = 14 };

struct net_card {
	struct dmaland_device *dev;
	struct dmaland_rtl8139cp *card;
	unsigned char mac[DMALAND_ETH_ALEN];
};

/* 0, or a status with the user told. With options NULL, the card has the driver's defaults, and interrupts to wait for. */
int card_open(struct net_card *net, const char *spec, const struct arguments *arguments,
	      const struct dmaland_rtl8139cp_options *options);
void card_close(struct net_card *net);

/*
 * Sleep until there is something to do, so many ms, or a moment: who waits asks signals_status() between two moments. 0, or a
 * status with the user told.
 */
int card_wait(struct net_card *net, uint64_t ms);

/*
 * Send a frame, when there is room: 0, or a status with the user told. The packet is the card's in any case. A card that sends
 * nothing for some seconds is given up.
 */
int card_send(struct net_card *net, struct dmaland_packet *packet);

/* Wait until all is sent: 0, or a status with the user told. */
int card_drain(struct net_card *net);

/* A packet of the card's with room for so many bytes, which are its data; NULL, with the user told. */
struct dmaland_packet *card_packet(struct net_card *net, unsigned int length);

/* "52:54:00:12:34:56" */
struct text mac_text(const unsigned char *address);

/* "1 frame", "2 frames" */
struct text frames_text(uint64_t n);

#endif
