/* SPDX-License-Identifier: MIT */
/*
 * test_rtl8139cp_hostile.c - a card that writes anything to anywhere that it reaches, while it is used
 *
 * What it brings is of no interest: that nothing else is touched, no packet is lost or released twice, and close ends.
 */
#include "rtl8139cp_stand.h"

#include <errno.h>
#include <stdlib.h>

#include "card.h"

enum { ROUNDS = 3000, MINE = 96, PIECES = 5, HELD = 64 };

/* A packet of the application's own, and how often it was taken and released. */
struct mine {
	struct dmaland_packet packet;
	unsigned int sent, released;
	unsigned char memory[DMALAND_ETH_FRAME_LEN];
};

static struct mine mine[MINE];
static atomic_bool stop;

static void on_release(struct dmaland_packet *packet)
{
	((struct mine *)packet->context)->released++;
}

static unsigned char own_byte(unsigned int i, unsigned int at)
{
	return (unsigned char)(i * 13 + at);
}

static void mine_init(void)
{
	for (unsigned int i = 0; i < MINE; i++) {
		mine[i].sent = mine[i].released = 0;
		for (unsigned int k = 0; k < sizeof(mine[i].memory); k++)
			mine[i].memory[k] = own_byte(i, k);
	}
}

static void mine_check(void)
{
	for (unsigned int i = 0; i < MINE; i++) {
		assert_int_equal(mine[i].sent, mine[i].released);
		for (unsigned int k = 0; k < sizeof(mine[i].memory); k++)
			if (mine[i].memory[k] != own_byte(i, k))
				fail_msg("byte %u of packet %u was written", k, i);
	}
}

/* ---- the card ---- */

static uint32_t any_status(uint64_t *random)
{
	static const uint32_t bits[] = {0,
					DESC_OWN,
					DESC_FS | DESC_LS | 64,
					DESC_FS | DESC_LS | 1518,
					DESC_FS | DESC_LS | RX_BUFFER,
					DESC_FS | DESC_LS | RX_LENGTH,
					DESC_EOR | DESC_FS | DESC_LS | 100,
					DESC_OWN | DESC_EOR | DESC_FS};
	uint64_t number = random_next(random);

	return number & 1 ? (uint32_t)(number >> 32) : bits[(number >> 8) % 8];
}

/* A whole descriptor, its status, or an address in it: of another descriptor, of anything mapped, of nothing. */
static void descriptor_spoil(struct soft_rtl8139 *chip, uint64_t *random)
{
	unsigned int ring = random_below(random, 2) ? RDSAR : TNPDS;
	uint64_t base = soft_rtl8139_register(chip, ring, 8);
	dma_addr_t at = base + random_below(random, RING) * sizeof(struct descriptor);
	struct descriptor desc = {htole32(any_status(random)), (uint32_t)random_next(random),
				  random_next(random)};

	if (!base)
		return;
	if (random_below(random, 2))
		desc.address = soft_domain_pick((struct soft_domain *)chip->engine->domain,
						random_next(random));
	soft_rtl8139_access(chip, at, &desc, random_below(random, 3) ? 4 : sizeof(desc), true);
}

static void memory_spoil(struct soft_rtl8139 *chip, uint64_t *random)
{
	unsigned char bytes[64];
	dma_addr_t at =
		soft_domain_pick((struct soft_domain *)chip->engine->domain, random_next(random));

	for (unsigned int i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)random_next(random);
	soft_rtl8139_access(chip, at, bytes, 1 + random_below(random, sizeof(bytes)), true);
}

static void *spoil(void *context)
{
	uint64_t random = 88172645463325252u;

	while (!atomic_load(&stop)) {
		for (unsigned int i = 0; i < 2; i++) {
			descriptor_spoil(&ends[i].chip, &random);
			memory_spoil(&ends[i].chip, &random);
			if (random_below(&random, 16) == 0)
				soft_rtl8139_raise(&ends[i].chip, (uint16_t)random);
			if (random_below(&random, 64) == 0)
				soft_rtl8139_go(&ends[i].chip);
		}
	}
	return context;
}

/* Frames that nobody sent, while the other threads go on. */
static void *babble(void *context)
{
	unsigned char frame[2000] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	uint64_t random = 1181783497276652981u;

	while (!atomic_load(&stop))
		soft_rtl8139_receive(&ends[random_below(&random, 2)].chip, frame,
				     60 + random_below(&random, 1900));
	return context;
}

/* ---- the application ---- */

/* One of those that the card does not have, in some pieces; NULL: it has all. */
static struct dmaland_packet *mine_get(uint64_t *random)
{
	unsigned int first = (unsigned int)random_below(random, MINE);

	for (unsigned int k = 0; k < MINE; k++) {
		struct mine *m = &mine[(first + k) % MINE];
		unsigned int pieces = 1 + (unsigned int)random_below(random, PIECES);
		unsigned int size = 14 + (unsigned int)random_below(random, 280), at = size;

		if (m->sent != m->released)
			continue;
		m->packet = (struct dmaland_packet){.data = m->memory,
						    .len = size,
						    .nr_frags = pieces - 1,
						    .release = on_release,
						    .context = m};
		for (unsigned int i = 0; i + 1 < pieces; i++, at += size)
			m->packet.frags[i] = (struct dmaland_frag){m->memory + at, size};
		return &m->packet;
	}
	return NULL;
}

static void send_some(unsigned int from, uint64_t *random, struct dmaland_packet **held,
		      unsigned int *n)
{
	struct dmaland_packet *packet = mine_get(random);
	int err;

	if (packet) {
		struct mine *m = packet->context;

		m->sent++; /* it may be released before the call returns */
		err = dmaland_rtl8139cp_send(ends[from].card, &packet, 1);
		if (err != 1) {
			assert_int_equal(err, -EBUSY);
			m->sent--;
		}
	}
	/* What has come goes out again, of either card. */
	if (*n) {
		packet = held[*n - 1];
		if (packet->len > DMALAND_ETH_FRAME_LEN)
			packet->len = DMALAND_ETH_FRAME_LEN;
		err = dmaland_rtl8139cp_send(ends[from].card, &packet, 1);
		*n -= err == 1;
	}
	if (dmaland_rtl8139cp_clean(ends[from].card) > RING - 6 &&
	    dmaland_rtl8139cp_reset(ends[from].card))
		fail_msg("%s", dmaland_last_error());
}

static void receive_some(unsigned int to, uint64_t *random, struct dmaland_packet **held,
			 unsigned int *n)
{
	unsigned int taken = dmaland_rtl8139cp_receive(ends[to].card, held + *n,
						       (unsigned int)random_below(random, 9));

	for (unsigned int i = 0; i < taken; i++) {
		struct dmaland_packet *packet = held[*n + i];

		assert_ptr_equal(packet->data, packet->head + DMALAND_PACKET_HEAD);
		assert_in_range(packet->len, DMALAND_ETH_ZLEN, DMALAND_VLAN_ETH_FRAME_LEN);
		packet->data[packet->len - 1] ^= packet->data[0];
	}
	*n += taken;
	while (*n > HELD / 2 || (*n && random_below(random, 2)))
		dmaland_packet_free(held[--*n]);
}

static void something_else(unsigned int i, uint64_t *random)
{
	struct dmaland_rtl8139cp_counters counters;
	int found;

	switch (random_below(random, 200)) {
	case 0:
		assert_int_equal(dmaland_rtl8139cp_reset(ends[i].card), 0);
		break;
	case 1:
		dmaland_rtl8139cp_get_counters(ends[i].card, &counters);
		break;
	case 2:
		dmaland_rtl8139cp_set_filter(ends[i].card, random_below(random, 2), NULL, 1);
		break;
	case 3:
		/* With all bits of ISR it passes for a card that is gone. */
		found = dmaland_rtl8139cp_wait(ends[i].card, 0);
		assert_true(found >= 0 || found == -ENODEV);
		break;
	default:
		break;
	}
}

static void use_spoilt(const char *spec, enum dmaland_rx_way rx_way, enum dmaland_tx_way tx_way)
{
	struct dmaland_rtl8139cp_options options = {
		.size = sizeof(options), .rx_way = rx_way, .tx_way = tx_way};
	struct dmaland_packet *held[2][HELD];
	unsigned int n[2] = {0, 0};
	uint64_t random = 2463534242u + rx_way * 3 + tx_way;
	pthread_t threads[2];

	ends_open(spec, &options);
	assert_true(dmaland_rtl8139cp_irq(ends[1].card) >= 0);
	mine_init();
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&threads[0], NULL, spoil, NULL), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, babble, NULL), 0);
	for (unsigned int round = 0; round < ROUNDS; round++)
		for (unsigned int i = 0; i < 2; i++) {
			send_some(i, &random, held[i], &n[i]);
			receive_some(i, &random, held[i], &n[i]);
			something_else(i, &random);
		}
	for (unsigned int i = 0; i < 2; i++)
		while (n[i])
			dmaland_packet_free(held[i][--n[i]]);
	/* The cards close one after the other, while all goes on. */
	for (unsigned int i = 0; i < 2; i++)
		dmaland_rtl8139cp_close(ends[i].card);
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	for (unsigned int i = 0; i < 2; i++) {
		dmaland_close(ends[i].dev);
		soft_rtl8139_free(&ends[i].chip);
	}
	assert_string_equal(log_text(), "");
	mine_check();
}

static void whatever_the_card_writes_is_contained(void **state)
{
	static const char *const specs[] = {"soft:", "soft:,copy_below=1",
					    "soft:,coherent=no,trusted=no"};

	(void)state;
	for (unsigned int spec = 0; spec < sizeof(specs) / sizeof(specs[0]); spec++)
		for (int way = 0; way < 3; way++)
			use_spoilt(specs[spec], (enum dmaland_rx_way)way,
				   (enum dmaland_tx_way)((way + (int)spec) % 3));
}

/* A card is reset while frames come, and goes on after it: none is damaged. */
static void a_reset_while_frames_come_is_only_a_loss(void **state)
{
	pthread_t thread;

	(void)state;
	ends_open("soft:,copy_below=1", NULL);
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&thread, NULL, babble, NULL), 0);
	for (unsigned int round = 0; round < 300; round++) {
		struct dmaland_packet *packets[8];
		unsigned int n = dmaland_rtl8139cp_receive(ends[1].card, packets, 8);

		while (n)
			dmaland_packet_free(packets[--n]);
		send_one(1, frame_make(1, round, 700, 3));
		assert_int_equal(dmaland_rtl8139cp_reset(ends[1].card), 0);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(dmaland_rtl8139cp_reset(ends[0].card), 0);
	assert_int_equal(dmaland_rtl8139cp_reset(ends[1].card), 0);
	for (uint32_t i = 0; i < 100; i++) {
		passes(0, i, 1000, 2);
		passes(1, i, 1000, 2);
	}
	ends_close();
}

static void *pull_soon(void *context)
{
	for (unsigned int i = 0; i < *(unsigned int *)context; i++)
		soft_rtl8139_register(&ends[0].chip, CR, 1);
	soft_rtl8139_vanish(&ends[0].chip);
	return NULL;
}

/* At any moment. */
static void a_card_that_is_pulled_under_load_loses_no_packet(void **state)
{
	(void)state;
	for (unsigned int round = 0; round < 40; round++) {
		struct dmaland_rtl8139cp_options options = {
			.size = sizeof(options), .rx_way = (enum dmaland_rx_way)(round % 3)};
		uint64_t random = 88172645463325252u + round;
		struct dmaland_packet *held[HELD];
		unsigned int n = 0, looks = round * 100;
		pthread_t thread;
		int err = 0;

		ends_open("soft:,copy_below=1", &options);
		mine_init();
		assert_int_equal(pthread_create(&thread, NULL, pull_soon, &looks), 0);
		while (!err) {
			struct dmaland_packet *packet = mine_get(&random);

			if (packet && dmaland_rtl8139cp_send(ends[0].card, &packet, 1) == 1)
				((struct mine *)packet->context)->sent++;
			receive_some(0, &random, held, &n);
			packet = frame_make(1, 1, 500, 2);
			if (dmaland_rtl8139cp_send(ends[1].card, &packet, 1) != 1)
				dmaland_packet_free(packet);
			dmaland_rtl8139cp_clean(ends[1].card);
			err = dmaland_rtl8139cp_link(ends[0].card);
			err = err < 0 ? err : 0;
		}
		assert_int_equal(err, -ENODEV);
		assert_int_equal(dmaland_rtl8139cp_reset(ends[0].card), -ENODEV);
		pthread_join(thread, NULL);
		while (n)
			dmaland_packet_free(held[--n]);
		ends_close();
		mine_check();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_the_card_writes_is_contained),
		cmocka_unit_test(a_reset_while_frames_come_is_only_a_loss),
		cmocka_unit_test(a_card_that_is_pulled_under_load_loses_no_packet),
	};

	watchdog(110);
	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
