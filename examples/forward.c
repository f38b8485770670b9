/* SPDX-License-Identifier: MIT */
/*
 * forward.c - what arrives at one network card leaves by the other, as it is
 *
 *   ./forward vfio:0000:00:02.0 vfio:0000:00:03.0 [SECONDS]
 *
 * No byte is copied: a packet is handed over by one card, and sent by the other from where it lies. Both share one address space, so
 * that each reaches the other's memory.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <dmaland/dmaland.h>
#include <dmaland/rtl8139cp.h>

enum { BURST = 32 };

struct port {
	struct dmaland_device *dev;
	struct dmaland_rtl8139cp *card;
	unsigned long forwarded, lost;
};

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

/* share: the other port's device, or NULL for the first. */
static int port_open(struct port *port, const char *spec, struct dmaland_device *share)
{
	struct dmaland_options options = {.size = sizeof(options), .share_with = share};
	struct dmaland_rtl8139cp_options as = {.size = sizeof(as), .rx_way = DMALAND_RX_MAP};

	port->dev = dmaland_open(spec, &options);
	port->card = port->dev ? dmaland_rtl8139cp_open(port->dev, &as) : NULL;
	if (!port->card || dmaland_rtl8139cp_irq(port->card) < 0) {
		fprintf(stderr, "forward: %s\n", dmaland_last_error());
		return -1;
	}
	dmaland_rtl8139cp_set_filter(port->card, true, NULL, 0);
	return 0;
}

/* What has come to one port goes to the other, until the ring there is full: the rest is lost, as on any wire. So is what is refused. */
static unsigned int forward(struct port *from, struct port *to)
{
	struct dmaland_packet *packets[BURST];
	unsigned int n = dmaland_rtl8139cp_receive(from->card, packets, BURST);

	for (unsigned int i = 0; i < n;) {
		int sent = dmaland_rtl8139cp_send(to->card, packets + i, n - i);

		if (sent > 0) {
			i += (unsigned int)sent;
			from->forwarded += (unsigned int)sent;
		} else {
			dmaland_packet_free(packets[i++]);
			from->lost++;
		}
	}
	dmaland_rtl8139cp_clean(to->card);
	return n;
}

/* Look at each, which arms its interrupt; then wait for either. */
static int ports_wait(struct port *ports)
{
	struct pollfd irqs[2];

	for (int i = 0; i < 2; i++) {
		int work = dmaland_rtl8139cp_wait(ports[i].card, 0);

		if (work)
			return work;
	}
	for (int i = 0; i < 2; i++)
		irqs[i] = (struct pollfd){dmaland_rtl8139cp_irq(ports[i].card), POLLIN, 0};
	poll(irqs, 2, 100);
	return 0;
}

int main(int argc, char **argv)
{
	struct port ports[2] = {0};
	int err = 0;

	if (argc < 3) {
		fprintf(stderr, "usage: %s SPEC SPEC [SECONDS]\n", argv[0]);
		return 2;
	}
	signal(SIGINT, stop);
	signal(SIGTERM, stop);
	signal(SIGALRM, stop);
	if (argc > 3)
		alarm((unsigned int)atoi(argv[3]));
	if (port_open(&ports[0], argv[1], NULL) || port_open(&ports[1], argv[2], ports[0].dev))
		err = -1;
	if (!err)
		fprintf(stderr, "forwarding between %s and %s\n", dmaland_name(ports[0].dev),
			dmaland_name(ports[1].dev));
	while (!err && !stopped) {
		if (forward(&ports[0], &ports[1]) + forward(&ports[1], &ports[0]) == 0)
			err = ports_wait(ports) < 0 ? -1 : 0;
	}
	/* A packet of one card may wait in the other's ring: that one lets go of all, before either ends. */
	for (int i = 0; i < 2; i++)
		if (ports[i].card)
			dmaland_rtl8139cp_reset(ports[i].card);
	for (int i = 0; i < 2; i++) {
		dmaland_rtl8139cp_close(ports[i].card);
		if (ports[i].dev)
			printf("%s: %lu forwarded, %lu lost\n", argv[1 + i], ports[i].forwarded,
			       ports[i].lost);
	}
	dmaland_close(ports[1].dev);
	dmaland_close(ports[0].dev);
	return err ? 1 : 0;
}
