/* SPDX-License-Identifier: MIT */
/*
 * test_rtl8139cp_threads.c - of each card one thread sends and another receives, all at a time
 */
#include "rtl8139cp_stand.h"

#include <sched.h>
#include <time.h>

enum { FRAMES = 3000, ON_THE_WAY = 32, BURST = 8 };

/* From one end to the other. Asserts are for the main thread: others count. */
static struct direction {
	unsigned int from;
	_Atomic uint32_t sent, received;
	atomic_uint wrong;
	time_t end;
	struct dmaland_packet mine[ON_THE_WAY]; /* of the application's own */
	unsigned char memory[ON_THE_WAY][DMALAND_ETH_FRAME_LEN];
	_Atomic uint32_t released;
} directions[2];

static unsigned int length_of(uint32_t number)
{
	return 60 + number * 61 % (DMALAND_ETH_FRAME_LEN - 60 + 1);
}

static bool is_late(const struct direction *d)
{
	return time(NULL) > d->end || atomic_load(&d->wrong);
}

static void on_release(struct dmaland_packet *packet)
{
	atomic_fetch_add(&((struct direction *)packet->context)->released, 1);
}

/* Every other one from the card's memory, and so released by another thread than takes from there. */
static struct dmaland_packet *packet_for(struct direction *d, uint32_t number)
{
	unsigned int length = length_of(number), half = length / 2;
	struct dmaland_packet *packet;
	unsigned char *at;

	if (number % 2) {
		packet = dmaland_packet_alloc(ends[d->from].card, 0);
		at = packet ? dmaland_packet_put(packet, length) : NULL;
		if (at)
			frame_fill(at, !d->from, number, length);
		return packet;
	}
	packet = &d->mine[number / 2 % ON_THE_WAY];
	at = d->memory[number / 2 % ON_THE_WAY];
	frame_fill(at, !d->from, number, length);
	*packet = (struct dmaland_packet){
		.data = at, .len = half, .nr_frags = 1, .release = on_release, .context = d};
	packet->frags[0] = (struct dmaland_frag){at + half, length - half};
	return packet;
}

static void *sends(void *context)
{
	struct direction *d = context;

	while (atomic_load(&d->sent) < FRAMES && !is_late(d)) {
		uint32_t number = atomic_load(&d->sent);
		struct dmaland_packet *packet;

		/* the card has room for each, and what was sent was released */
		if (number - atomic_load(&d->received) >= ON_THE_WAY ||
		    dmaland_rtl8139cp_clean(ends[d->from].card) >= ON_THE_WAY) {
			sched_yield();
			continue;
		}
		packet = packet_for(d, number);
		if (packet && dmaland_rtl8139cp_send(ends[d->from].card, &packet, 1) == 1)
			atomic_fetch_add(&d->sent, 1);
		else
			atomic_fetch_add(&d->wrong, 1);
	}
	return NULL;
}

static void *receives(void *context)
{
	struct direction *d = context;
	struct dmaland_packet *packets[BURST];
	unsigned char wanted[DMALAND_ETH_FRAME_LEN];

	while (atomic_load(&d->received) < FRAMES && !is_late(d)) {
		unsigned int n = dmaland_rtl8139cp_receive(ends[!d->from].card, packets, BURST);

		if (!n)
			sched_yield();
		for (unsigned int i = 0; i < n; i++) {
			uint32_t number = atomic_fetch_add(&d->received, 1);
			unsigned int length = length_of(number);

			frame_fill(wanted, !d->from, number, length);
			if (packets[i]->len != length || memcmp(packets[i]->data, wanted, length))
				atomic_fetch_add(&d->wrong, 1);
			dmaland_packet_free(packets[i]);
		}
	}
	return NULL;
}

static void frames_go_both_ways_at_a_time(void **state)
{
	(void)state;
	for (int way = 0; way < 3; way++) {
		struct dmaland_rtl8139cp_options options = {.size = sizeof(options),
							    .rx_way = (enum dmaland_rx_way)way,
							    .tx_way = (enum dmaland_tx_way)way};
		pthread_t threads[4];

		ends_open("soft:,copy_below=1", &options);
		for (unsigned int i = 0; i < 2; i++) {
			memset(&directions[i], 0, sizeof(directions[i]));
			directions[i].from = i;
			directions[i].end = time(NULL) + (time_t)patience(60);
			assert_int_equal(
				pthread_create(&threads[2 * i], NULL, sends, &directions[i]), 0);
			assert_int_equal(
				pthread_create(&threads[2 * i + 1], NULL, receives, &directions[i]),
				0);
		}
		for (unsigned int i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
		for (unsigned int i = 0; i < 2; i++) {
			assert_int_equal(atomic_load(&directions[i].wrong), 0);
			assert_int_equal(atomic_load(&directions[i].received), FRAMES);
			assert_int_equal(dmaland_rtl8139cp_clean(ends[i].card), 0);
			assert_int_equal(atomic_load(&directions[i].released), FRAMES / 2);
			assert_int_equal(stats(i).rx_packets, FRAMES);
			assert_int_equal(stats(i).tx_packets, FRAMES);
		}
		ends_close();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_go_both_ways_at_a_time),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
