/* SPDX-License-Identifier: MIT */
/*
 * net_card.c - a network card opened and closed; frames sent by it
 */
#include "net_card.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { MOMENT_MS = 100 };

static const double stuck_seconds = 5;

/* How a signal that came meanwhile is told from what has failed by itself. */
static int open_failed(struct net_card *net)
{
	int status = signals_status() ? signals_status() : fail_library(NULL);

	card_close(net);
	return status;
}

int card_open(struct net_card *net, const char *spec, const struct arguments *arguments,
	      const struct dmaland_rtl8139cp_options *options)
{
	memset(net, 0, sizeof(*net));
	if (arguments_have(arguments, 'v'))
		log_show();
	net->dev = dmaland_open(spec, NULL);
	if (!net->dev)
		return open_failed(net);
	net->card = dmaland_rtl8139cp_open(net->dev, options);
	if (!net->card || (!options && dmaland_rtl8139cp_irq(net->card) < 0))
		return open_failed(net);
	dmaland_rtl8139cp_mac(net->card, net->mac);
	return STATUS_OK;
}

void card_close(struct net_card *net)
{
	dmaland_rtl8139cp_close(net->card);
	dmaland_close(net->dev);
	memset(net, 0, sizeof(*net));
}

int card_wait(struct net_card *net, uint64_t ms)
{
	int code = dmaland_rtl8139cp_wait(net->card, ms < MOMENT_MS ? (int)ms : MOMENT_MS);
	unsigned int events;

	if (code < 0 && code != -EINTR)
		return fail_library(NULL);
	events = dmaland_get_events(net->dev);
	if (events & DMALAND_EVENT_REMOVE)
		return fail("%s is to be removed: the kernel waits until it is let go of",
			    dmaland_name(net->dev));
	if (events & DMALAND_EVENT_ERROR)
		return fail("%s has reported an error that it does not recover from",
			    dmaland_name(net->dev));
	return STATUS_OK;
}

/* Packets wait to be sent: for one of them, until then. */
static int sent_wait(struct net_card *net, double until)
{
	if (signals_status())
		return signals_status();
	if (seconds_now() >= until)
		return fail("%s has sent nothing for %.0f s", dmaland_name(net->dev),
			    stuck_seconds);
	return card_wait(net, MOMENT_MS);
}

int card_send(struct net_card *net, struct dmaland_packet *packet)
{
	int code = dmaland_rtl8139cp_send(net->card, &packet, 1), status = STATUS_OK;
	double until;

	if (code == -EBUSY) {
		until = seconds_now() + stuck_seconds;
		while (!status && code == -EBUSY) {
			status = sent_wait(net, until);
			if (!status)
				code = dmaland_rtl8139cp_send(net->card, &packet, 1);
		}
	}
	if (code > 0)
		return STATUS_OK;
	if (!status)
		status = fail_library(NULL);
	dmaland_packet_free(packet);
	return status;
}

int card_drain(struct net_card *net)
{
	unsigned int left = dmaland_rtl8139cp_clean(net->card), before = left;
	double until = seconds_now() + stuck_seconds;
	int status = STATUS_OK;

	while (!status && left) {
		status = sent_wait(net, until);
		left = dmaland_rtl8139cp_clean(net->card);
		if (left < before)
			until = seconds_now() + stuck_seconds;
		before = left;
	}
	return status;
}

struct dmaland_packet *card_packet(struct net_card *net, unsigned int length)
{
	struct dmaland_packet *packet = dmaland_packet_alloc(net->card, 0);

	if (!packet)
		fail_library(NULL);
	else
		dmaland_packet_put(packet, length);
	return packet;
}

struct text mac_text(const unsigned char *a)
{
	struct text text;

	snprintf(text.text, sizeof(text.text), "%02x:%02x:%02x:%02x:%02x:%02x", a[0], a[1], a[2],
		 a[3], a[4], a[5]);
	return text;
}

struct text frames_text(uint64_t n)
{
	struct text text;

	snprintf(text.text, sizeof(text.text), "%llu frame%s", (unsigned long long)n,
		 n == 1 ? "" : "s");
	return text;
}
