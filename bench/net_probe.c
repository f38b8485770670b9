/* SPDX-License-Identifier: MIT */
#include "net_probe.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench.h"
#include "card.h"
#include "syscalls.h"
#include "vm.h"

#define BURSTS	     64 /* of a sample */
#define SAMPLE	     (BURSTS * CARD_BURST)
#define PIECES	     4	 /* of frames that are sent in pieces */
#define LATE_MAX     500 /* times 1 ms, until what AF_PACKET keeps back has come */
#define PRIORITY     20
#define PRIORITY_LOW 10

const unsigned int net_sizes[NET_SIZES] = {64, 256, 1024, 1514};

static const unsigned char nobody[6] = {0x52, 0x54, 0, 0, 0, 0x99};

static struct probe {
	const struct card_contestant *contestant; /* NULL: the sender alone */
	void *card, *sender;
	unsigned char card_mac[6], sender_mac[6];
	struct card_expected expected;
	uint32_t number; /* the next to be sent */
	size_t rounds;

	/* The sender's thread: a sample for each go. */
	pthread_t thread;
	sem_t go, gone;
	int ended; /* eventfd: it is gone */
	bool stop;
} probe;

void card_expect(struct card_expected *expected, const unsigned char *frame, unsigned int size)
{
	uint32_t number;

	memcpy(&number, frame + CARD_HEADER, sizeof(number));
	if (number != expected->number || size != expected->size)
		bench_fail("frame %u of %u bytes has come instead of %u of %u bytes", number, size,
			   expected->number, expected->size);
	expected->number++;
	if (!expected->whole)
		return;
	for (unsigned int i = CARD_HEADER + sizeof(number); i < size; i++)
		if (frame[i] != card_content(i))
			bench_fail("frame %u: byte %u is wrong", number, i);
}

static void prepare(struct probe *p, const struct card_contestant *who, void *card,
		    const unsigned char *from, const unsigned char *to, unsigned int size,
		    unsigned int pieces)
{
	unsigned char content[CARD_FRAME_MAX];

	(void)p;
	for (unsigned int i = 0; i < sizeof(content); i++)
		content[i] = card_content(i);
	memcpy(content, to, 6);
	memcpy(content + 6, from, 6);
	content[12] = CARD_TYPE >> 8;
	content[13] = CARD_TYPE & 0xff;
	who->prepare(card, content, size, pieces);
}

static void burst_send(struct probe *p, const struct card_contestant *who, void *card)
{
	who->send(card, p->number);
	p->number += CARD_BURST;
}

/* Until all has come that was sent. Not counted; and others on this processor have their turn. */
static void take_late(struct probe *p, const struct card_contestant *who, void *card)
{
	static const struct timespec a_ms = {0, 1000000};

	for (int i = 0; p->expected.number != p->number; i++) {
		if (i == LATE_MAX)
			bench_fail("%s: of frames up to %u have come those up to %u", who->row,
				   p->number, p->expected.number);
		nanosleep(&a_ms, NULL);
		who->receive(card, &p->expected);
	}
	nanosleep(&a_ms, NULL);
}

/* ---- samples: instructions of SAMPLE frames ---- */

static double sample_tx(struct probe *p)
{
	double begun = bench_now();

	for (unsigned int i = 0; i < BURSTS; i++)
		burst_send(p, p->contestant, p->card);
	p->contestant->finish(p->card);
	return bench_now() - begun;
}

static double sample_rx_polled(struct probe *p)
{
	double begun = bench_now();

	for (unsigned int i = 0; i < BURSTS; i++) {
		burst_send(p, &card_sender, p->sender);
		if (p->contestant)
			p->contestant->receive(p->card, &p->expected);
	}
	return bench_now() - begun;
}

static void *sender_run(void *unused)
{
	struct probe *p = &probe;

	(void)unused;
	for (;;) {
		while (sem_wait(&p->go))
			;
		if (p->stop)
			return NULL;
		for (unsigned int i = 0; i < BURSTS; i++)
			burst_send(p, &card_sender, p->sender);
		eventfd_write(p->ended, 1);
		sem_post(&p->gone);
	}
}

static double sample_rx_sleeping(struct probe *p)
{
	uint32_t last = p->number + SAMPLE;
	double begun = bench_now(), ended;
	eventfd_t count;

	sem_post(&p->go);
	while (p->contestant && p->expected.number != last &&
	       p->contestant->wait(p->card, p->ended))
		p->contestant->receive(p->card, &p->expected);
	while (sem_wait(&p->gone))
		;
	ended = bench_now();
	eventfd_read(p->ended, &count);
	return ended - begun;
}

/* Per frame: the median. */
static double measure(struct probe *p, double (*sample)(struct probe *p), bool receives)
{
	double samples[BENCH_SAMPLES_MAX];

	for (size_t i = 0; i < p->rounds + 1; i++) { /* the first is not kept */
		samples[i ? i - 1 : 0] = sample(p);
		if (receives && p->contestant)
			take_late(p, p->contestant, p->card);
	}
	return bench_median(samples, p->rounds) / SAMPLE;
}

static double count_syscalls(struct probe *p, double (*sample)(struct probe *p), bool receives)
{
	struct syscalls syscalls;
	uint64_t others, maps;

	syscalls_open(&syscalls);
	syscalls_begin(&syscalls);
	sample(p);
	others = syscalls_end(&syscalls, &maps);
	syscalls_close(&syscalls);
	if (receives)
		take_late(p, p->contestant, p->card);
	return (double)(others + maps) / SAMPLE;
}

/* ---- what is measured ---- */

static void expect(struct probe *p, unsigned int size, bool whole)
{
	p->expected = (struct card_expected){p->number, size, whole};
}

static void receive_measure(struct probe *p, unsigned int size, double sender)
{
	double (*sample)(struct probe * p) =
		p->contestant->sleeps ? sample_rx_sleeping : sample_rx_polled;
	const char *row = p->contestant->row;

	prepare(p, &card_sender, p->sender, p->sender_mac, p->card_mac, size, 1);
	expect(p, size, true);
	burst_send(p, &card_sender, p->sender);
	take_late(p, p->contestant, p->card);
	p->expected.whole = false;
	printf("row instructions_per_packet.%s.rx.%u %.3f\n", row, size,
	       measure(p, sample, true) - sender);
	printf("row syscalls_per_packet.%s.rx.%u %.3f\n", row, size,
	       count_syscalls(p, sample, true));
}

static void send_measure(struct probe *p, unsigned int size, unsigned int pieces, const char *row)
{
	prepare(p, p->contestant, p->card, p->card_mac, p->sender_mac, size, pieces);
	expect(p, size, true);
	burst_send(p, p->contestant, p->card);
	take_late(p, &card_sender, p->sender);
	prepare(p, p->contestant, p->card, p->card_mac, nobody, size, pieces);
	printf("row instructions_per_packet.%s.%s.%u %.3f\n", p->contestant->row, row, size,
	       measure(p, sample_tx, false));
	printf("row syscalls_per_packet.%s.%s.%u %.3f\n", p->contestant->row, row, size,
	       count_syscalls(p, sample_tx, false));
}

static void contestant_measure(struct probe *p, const struct card_contestant *contestant,
			       const char *card)
{
	double sender[NET_SIZES];

	p->contestant = NULL;
	for (unsigned int i = 0; i < NET_SIZES; i++) {
		prepare(p, &card_sender, p->sender, p->sender_mac, nobody, net_sizes[i], 1);
		sender[i] = measure(p, contestant->sleeps ? sample_rx_sleeping : sample_rx_polled,
				    false);
		printf("row sender.%s.%u %.3f\n", contestant->row, net_sizes[i], sender[i]);
	}
	p->contestant = contestant;
	p->card = contestant->open(contestant, card);
	contestant->mac(p->card, p->card_mac);
	for (unsigned int i = 0; i < NET_SIZES; i++)
		receive_measure(p, net_sizes[i], sender[i]);
	for (unsigned int i = 0; i < NET_SIZES && !contestant->sleeps; i++) {
		send_measure(p, net_sizes[i], 1, "tx");
		if (contestant->tx_way) /* one is forced */
			send_measure(p, net_sizes[i], PIECES, "tx4");
	}
	contestant->close(p->card);
}

static void sender_start(struct probe *p)
{
	struct sched_param param = {.sched_priority = PRIORITY_LOW};
	pthread_attr_t attr;

	p->ended = eventfd(0, EFD_CLOEXEC);
	if (p->ended < 0 || sem_init(&p->go, 0, 0) || sem_init(&p->gone, 0, 0))
		bench_fail("no semaphores");
	pthread_attr_init(&attr);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
	pthread_attr_setschedparam(&attr, &param);
	param.sched_priority = PRIORITY;
	if (pthread_create(&p->thread, &attr, sender_run, NULL) ||
	    sched_setscheduler(0, SCHED_FIFO, &param))
		bench_fail("no thread of a higher priority than others can be had");
	pthread_attr_destroy(&attr);
}

static void sender_end(struct probe *p)
{
	p->stop = true;
	sem_post(&p->go);
	pthread_join(p->thread, NULL);
	close(p->ended);
}

int net_probe_answer(int argc, char **argv)
{
	bool ours = argc == 5 && strncmp(argv[2], "vfio:", 5) == 0;
	struct probe *p = &probe;
	struct utsname system;

	if (argc != 5 || strcmp(argv[1], "--card") != 0)
		return -1;
	p->rounds = strtoul(argv[4], NULL, 10);
	if (p->rounds == 0 || p->rounds > BENCH_SAMPLES_MAX)
		bench_fail("%s rounds", argv[4]);
	vm_clock_check();
	uname(&system);
	printf("linux: %s\n", system.release);
	p->sender = card_sender.open(&card_sender, argv[3]);
	card_sender.mac(p->sender, p->sender_mac);
	sender_start(p);
	for (size_t i = 0; i < (ours ? CARDS_OURS : CARDS_KERNELS); i++)
		contestant_measure(p, ours ? &cards_ours[i] : &cards_kernels[i], argv[2]);
	sender_end(p);
	card_sender.close(p->sender);
	return 0;
}
