/* SPDX-License-Identifier: MIT */
/*
 * test_rtl8139cp_calls.c - which DMA calls the driver makes, in which order, and what becomes of each that fails
 *
 * A buffer is mapped when it is allocated, synced for the CPU, copied and synced for the device, as r8169 does;
 * or another is mapped and it is unmapped, as 8139cp does. Of a frame to send the pieces are mapped first and
 * what is in front of them last. It is unmapped in the ring's order, by what the driver has stored.
 *
 * The calls go through here (--wrap). Each can be made to fail; and a sync for the device can be left out, as by a driver
 * that forgot it. Then the card, which is told whose each buffer is, finds that it must not write.
 */
#include "rtl8139cp_stand.h"

#include <errno.h>

#include "card.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

enum { CALLS = 64, TEXT = 32, NEVER = -1 };

static struct {
	bool on; /* calls are written down */
	char text[CALLS][TEXT];
	unsigned int n;
	int fails_after;  /* so many mappings */
	bool comes_again; /* with each that fails a frame comes */
	bool forgets_device, forgets_cpu;
	unsigned int maps, unmaps, failed;
} calls;

static void note(const char *verb, uint64_t size, enum dma_data_direction dir)
{
	if (!calls.on)
		return;
	assert_true(calls.n < CALLS);
	snprintf(calls.text[calls.n++], TEXT, "%s %u %s", verb, (unsigned int)size,
		 dir == DMA_TO_DEVICE	  ? "to"
		 : dir == DMA_FROM_DEVICE ? "from"
					  : "?");
}

/* ---- whose is a buffer? ---- */

static struct {
	dma_addr_t dma;
	size_t size;
} cpus[RING];

static void give_to_device(dma_addr_t dma)
{
	for (unsigned int i = 0; i < RING; i++)
		if (cpus[i].dma == dma)
			cpus[i].size = 0;
}

static void give_to_cpu(dma_addr_t dma, size_t size)
{
	give_to_device(dma); /* it may be the CPU's already */
	for (unsigned int i = 0; i < RING; i++)
		if (!cpus[i].size) {
			cpus[i].dma = dma;
			cpus[i].size = size;
			return;
		}
	fail_msg("the CPU has more buffers than there are");
}

static bool is_the_devices(dma_addr_t dma, size_t size)
{
	for (unsigned int i = 0; i < RING; i++)
		if (cpus[i].size && dma < cpus[i].dma + cpus[i].size && cpus[i].dma < dma + size)
			return false;
	return true;
}

static void calls_reset(void)
{
	memset(&calls, 0, sizeof(calls));
	memset(cpus, 0, sizeof(cpus));
	calls.fails_after = NEVER;
}

/* ---- the calls ---- */

dma_addr_t __real_dma_map_single_attrs(struct dmaland_device *dev, void *ptr, size_t size,
				       enum dma_data_direction dir, unsigned long attrs);
dma_addr_t __wrap_dma_map_single_attrs(struct dmaland_device *dev, void *ptr, size_t size,
				       enum dma_data_direction dir, unsigned long attrs);
void __real_dma_unmap_single_attrs(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				   enum dma_data_direction dir, unsigned long attrs);
void __wrap_dma_unmap_single_attrs(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				   enum dma_data_direction dir, unsigned long attrs);
void __real_dma_sync_single_for_cpu(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				    enum dma_data_direction dir);
void __wrap_dma_sync_single_for_cpu(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				    enum dma_data_direction dir);
void __real_dma_sync_single_for_device(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				       enum dma_data_direction dir);
void __wrap_dma_sync_single_for_device(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				       enum dma_data_direction dir);

dma_addr_t __wrap_dma_map_single_attrs(struct dmaland_device *dev, void *ptr, size_t size,
				       enum dma_data_direction dir, unsigned long attrs)
{
	dma_addr_t dma;

	note("map", size, dir);
	if (calls.fails_after == 0) {
		if (calls.comes_again)
			soft_rtl8139_forge(&ends[0].chip, DESC_FS | DESC_LS | 100, NULL, 0);
		calls.failed++;
		dmaland_set_error(ENOMEM, "this mapping was told to fail");
		return DMA_MAPPING_ERROR;
	}
	if (calls.fails_after > 0)
		calls.fails_after--;
	dma = __real_dma_map_single_attrs(dev, ptr, size, dir, attrs);
	give_to_device(dma);
	calls.maps++;
	return dma;
}

void __wrap_dma_unmap_single_attrs(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				   enum dma_data_direction dir, unsigned long attrs)
{
	note("unmap", size, dir);
	calls.unmaps++;
	give_to_device(addr);
	__real_dma_unmap_single_attrs(dev, addr, size, dir, attrs);
}

void __wrap_dma_sync_single_for_cpu(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				    enum dma_data_direction dir)
{
	note("cpu", size, dir);
	if (calls.forgets_cpu)
		return;
	give_to_cpu(addr, size);
	__real_dma_sync_single_for_cpu(dev, addr, size, dir);
}

void __wrap_dma_sync_single_for_device(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				       enum dma_data_direction dir)
{
	note("device", size, dir);
	if (calls.forgets_device)
		return;
	give_to_device(addr);
	__real_dma_sync_single_for_device(dev, addr, size, dir);
}

/* ---- order ---- */

static void calls_are(const char *const *wanted, unsigned int n)
{
	for (unsigned int i = 0; i < n && i < calls.n; i++)
		assert_string_equal(calls.text[i], wanted[i]);
	assert_int_equal(calls.n, n);
	calls.n = 0;
}

#define calls_are(...)                                                                             \
	calls_are((const char *const[]){__VA_ARGS__},                                              \
		  ARRAY_SIZE(((const char *const[]){__VA_ARGS__})))

static struct dmaland_packet *arrives(unsigned int length)
{
	unsigned char frame[DMALAND_ETH_FRAME_LEN];
	struct dmaland_packet *packet;

	frame_fill(frame, 0, 5, length);
	assert_true(soft_rtl8139_receive(&ends[0].chip, frame, length));
	packet = receive_one(0);
	frame_check(0, packet->data, packet->len, 5, length);
	return packet;
}

static void open_noting(const char *spec, enum dmaland_rx_way rx_way, enum dmaland_tx_way tx_way)
{
	struct dmaland_rtl8139cp_options options = {
		.size = sizeof(options), .rx_way = rx_way, .tx_way = tx_way, .max_packets = 8};

	calls_reset();
	end_open(spec, &options);
	ends[0].chip.may_write = is_the_devices;
	calls.on = true;
}

static void close_noting(void)
{
	calls.on = false;
	end_close();
	assert_int_equal(ends[0].chip.lost, 0);
	assert_int_equal(calls.maps, calls.unmaps);
}

static void a_received_frame_makes_the_calls_of_the_kernels_drivers(void **state)
{
	(void)state;
	open_noting("soft:", DMALAND_RX_KEEP, DMALAND_TX_AUTO);
	assert_int_equal(calls.maps, RING); /* when it was opened */
	dmaland_packet_free(arrives(1000));
	calls_are("cpu 1000 from", "device 1000 from");
	dmaland_packet_free(arrives(60));
	calls_are("cpu 60 from", "device 60 from");
	close_noting();

	open_noting("soft:", DMALAND_RX_MAP, DMALAND_TX_AUTO);
	dmaland_packet_free(arrives(60));
	calls_are("map 1536 from", "unmap 1536 from");
	close_noting();

	open_noting("soft:", DMALAND_RX_COPYBREAK, DMALAND_TX_AUTO);
	dmaland_packet_free(arrives(100));
	calls_are("cpu 100 from", "device 100 from");
	dmaland_packet_free(arrives(1000));
	calls_are("map 1536 from", "unmap 1536 from");
	close_noting();
}

static void a_dropped_frame_makes_no_calls(void **state)
{
	(void)state;
	for (int way = 0; way < 3; way++) {
		struct dmaland_packet *packet;

		open_noting("soft:", (enum dmaland_rx_way)way, DMALAND_TX_AUTO);
		soft_rtl8139_forge(&ends[0].chip, DESC_FS | 64, NULL, 0);
		assert_int_equal(dmaland_rtl8139cp_receive(ends[0].card, &packet, 1), 0);
		assert_int_equal(calls.n, 0);
		close_noting();
	}
}

static void a_sent_frame_makes_the_calls_of_the_kernels_drivers(void **state)
{
	(void)state;
	open_noting("soft:", DMALAND_RX_KEEP, DMALAND_TX_SG);
	send_one(0, frame_make(0, 1, 300, 1));
	calls_are("map 300 to");
	assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
	calls_are("unmap 300 to");
	/* the first piece, of 102 bytes, last; the end is the ring's order */
	send_one(0, frame_make(0, 1, 302, 3));
	calls_are("map 100 to", "map 100 to", "map 102 to");
	assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
	calls_are("unmap 102 to", "unmap 100 to", "unmap 100 to");
	close_noting();

	open_noting("soft:", DMALAND_RX_KEEP, DMALAND_TX_LINEAR);
	send_one(0, frame_make(0, 1, 302, 3));
	assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
	assert_int_equal(calls.n, 0);
	close_noting();
}

/* ---- each fails ---- */

static void whichever_mapping_of_a_frame_fails_none_is_left(void **state)
{
	unsigned char memory[17][64];
	unsigned int released = 0;

	(void)state;
	open_noting("soft:,copy_below=1", DMALAND_RX_KEEP, DMALAND_TX_SG);
	calls.on = false;
	for (unsigned int round = 0; round < 3; round++)
		for (int data = 0; data < 2; data++)
			for (unsigned int frags = 1 - (unsigned int)data; frags <= 16; frags++) {
				unsigned int n = frags + (unsigned int)data;
				struct dmaland_packet packet = {.data = memory[16],
								.len = data ? 64 : 0,
								.nr_frags = frags,
								.release = count_released,
								.context = &released};
				struct dmaland_packet *p = &packet;

				for (unsigned int i = 0; i < frags; i++)
					packet.frags[i] = (struct dmaland_frag){memory[i], 64};
				for (unsigned int k = 0; k < n; k++) {
					calls.maps = calls.unmaps = 0;
					calls.fails_after = (int)k;
					assert_int_equal(
						dmaland_rtl8139cp_send(ends[0].card, &p, 1),
						-ENOMEM);
					assert_error_says("told to fail");
					assert_int_equal(calls.maps, k);
					assert_int_equal(calls.unmaps, k);
					assert_int_equal(released, 0);
					/* what the chip looks at now is no frame */
					soft_rtl8139_go(&ends[0].chip);
					assert_int_equal(ends[0].chip.kept_count, 0);
				}
				calls.fails_after = NEVER;
				send_one(0, p);
				assert_int_equal(ends[0].chip.kept_count, 1);
				assert_int_equal(ends[0].chip.kept[0].pieces, n);
				assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
				assert_int_equal(released, 1);
				released = ends[0].chip.kept_count = 0;
			}
	calls.maps = RING; /* of buffers, which the end unmaps */
	calls.unmaps = 0;
	close_noting();
}

/* Of several frames those before it are on their way. */
static void a_frame_that_cannot_be_mapped_does_not_take_others_with_it(void **state)
{
	struct dmaland_packet *packets[4];

	(void)state;
	open_noting("soft:", DMALAND_RX_KEEP, DMALAND_TX_SG);
	for (uint32_t i = 0; i < 4; i++)
		packets[i] = frame_make(0, i, 400, 2);
	calls.fails_after = 5;
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, packets, 4), 2);
	assert_int_equal(ends[0].chip.kept_count, 2);
	calls.fails_after = NEVER;
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, packets + 2, 2), 2);
	assert_int_equal(ends[0].chip.kept_count, 4);
	for (uint32_t i = 0; i < 4; i++)
		frame_check(1, ends[0].chip.kept[i].data, (unsigned int)ends[0].chip.kept[i].length,
			    i, 400);
	assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
	close_noting();
}

/* It is the caller's, also where the next frame takes its descriptors. */
static void a_frame_that_cannot_be_mapped_is_not_released_with_the_next(void **state)
{
	unsigned char memory[5][100];
	unsigned int released[2] = {0};
	struct dmaland_packet packets[2], *p;

	(void)state;
	open_noting("soft:", DMALAND_RX_KEEP, DMALAND_TX_SG);
	for (unsigned int i = 0; i < 2; i++) {
		packets[i] = (struct dmaland_packet){.data = memory[4],
						     .len = 100,
						     .nr_frags = i ? 4 : 1,
						     .release = count_released,
						     .context = &released[i]};
		for (unsigned int f = 0; f < packets[i].nr_frags; f++)
			packets[i].frags[f] = (struct dmaland_frag){memory[f], 100};
	}
	calls.fails_after = 1;
	p = &packets[0];
	assert_int_equal(dmaland_rtl8139cp_send(ends[0].card, &p, 1), -ENOMEM);
	calls.fails_after = NEVER;
	send_one(0, &packets[1]);
	assert_int_equal(dmaland_rtl8139cp_clean(ends[0].card), 0);
	close_noting();
	assert_int_equal(released[0], 0);
	assert_int_equal(released[1], 1);
}

static void a_buffer_that_cannot_be_mapped_costs_a_frame(void **state)
{
	(void)state;
	open_noting("soft:", DMALAND_RX_MAP, DMALAND_TX_AUTO);
	for (unsigned int round = 0; round < 2 * RING; round++) {
		unsigned char frame[500];
		struct dmaland_packet *packet;

		calls.n = 0;
		calls.fails_after = 0;
		frame_fill(frame, 0, round, sizeof(frame));
		assert_true(soft_rtl8139_receive(&ends[0].chip, frame, sizeof(frame)));
		assert_int_equal(dmaland_rtl8139cp_receive(ends[0].card, &packet, 1), 0);
		assert_int_equal(stats(0).rx_dropped, round + 1);
		calls.fails_after = NEVER;
		dmaland_packet_free(arrives(500));
	}
	close_noting();
}

/* A card that always has another one, which can't be taken: a call ends all the same. */
static void a_call_looks_at_so_many_frames_and_no_more(void **state)
{
	struct dmaland_packet *packet;

	(void)state;
	open_noting("soft:", DMALAND_RX_MAP, DMALAND_TX_AUTO);
	calls.on = false;
	calls.fails_after = 0;
	calls.comes_again = true;
	soft_rtl8139_forge(&ends[0].chip, DESC_FS | DESC_LS | 100, NULL, 0);
	assert_int_equal(dmaland_rtl8139cp_receive(ends[0].card, &packet, 1), 0);
	assert_true(calls.failed >= RING && calls.failed <= 4 * RING);
	calls.fails_after = NEVER;
	packet = receive_one(0);
	dmaland_packet_free(packet);
	close_noting();
}

/* Whichever of the buffers: nothing is left, and the error is told. */
static void a_card_whose_buffers_cannot_be_mapped_is_not_there(void **state)
{
	(void)state;
	for (int k = 0; k < RING; k++) {
		struct dmaland_device *dev = soft_rtl8139_open(&ends[0].chip, "soft:");

		calls_reset();
		log_clear();
		calls.fails_after = k;
		assert_null(dmaland_rtl8139cp_open(dev, NULL));
		assert_int_equal(errno, ENOMEM);
		assert_error_says("told to fail");
		assert_int_equal(calls.maps, k);
		assert_int_equal(calls.unmaps, k);
		dmaland_close(dev);
		assert_string_equal(log_text(), "");
		soft_rtl8139_free(&ends[0].chip);
	}
	calls_reset();
}

/* ---- what is forgotten is found ---- */

/* So many of the frames that were sent did not come as they were. */
static unsigned int frames_that_are_wrong(const char *spec, enum dmaland_rx_way way,
					  bool forgets_cpu, bool forgets_device)
{
	unsigned int wrong = 0;

	open_noting(spec, way, DMALAND_TX_AUTO);
	calls.on = false;
	calls.forgets_cpu = forgets_cpu;
	calls.forgets_device = forgets_device;
	for (uint32_t i = 0; i < 2 * RING; i++) {
		unsigned char frame[200];
		struct dmaland_packet *packet;

		frame_fill(frame, 0, i, sizeof(frame));
		assert_true(soft_rtl8139_receive(&ends[0].chip, frame, sizeof(frame)));
		packet = receive_one(0);
		wrong += memcmp(packet->data, frame, sizeof(frame)) != 0;
		dmaland_packet_free(packet);
	}
	if (!forgets_device)
		assert_int_equal(ends[0].chip.lost, 0);
	ends[0].chip.lost = 0;
	close_noting();
	return wrong;
}

static void a_sync_that_is_left_out_is_found(void **state)
{
	static const char *const copying = "soft:,coherent=no,trusted=no";
	static const enum dmaland_rx_way ways[] = {DMALAND_RX_KEEP, DMALAND_RX_COPYBREAK};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(ways); i++) {
		assert_int_equal(frames_that_are_wrong(copying, ways[i], false, false), 0);
		assert_int_equal(frames_that_are_wrong("soft:", ways[i], false, false), 0);
		/* nothing comes from the card's copy */
		assert_int_equal(frames_that_are_wrong(copying, ways[i], true, false), 2 * RING);
		/* the first of each buffer comes, and none after it */
		assert_int_equal(frames_that_are_wrong(copying, ways[i], false, true), RING);
		assert_int_equal(frames_that_are_wrong("soft:", ways[i], false, true), RING);
	}
	assert_int_equal(frames_that_are_wrong(copying, DMALAND_RX_MAP, true, true), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_received_frame_makes_the_calls_of_the_kernels_drivers),
		cmocka_unit_test(a_dropped_frame_makes_no_calls),
		cmocka_unit_test(a_sent_frame_makes_the_calls_of_the_kernels_drivers),
		cmocka_unit_test(whichever_mapping_of_a_frame_fails_none_is_left),
		cmocka_unit_test(a_frame_that_cannot_be_mapped_does_not_take_others_with_it),
		cmocka_unit_test(a_frame_that_cannot_be_mapped_is_not_released_with_the_next),
		cmocka_unit_test(a_buffer_that_cannot_be_mapped_costs_a_frame),
		cmocka_unit_test(a_call_looks_at_so_many_frames_and_no_more),
		cmocka_unit_test(a_card_whose_buffers_cannot_be_mapped_is_not_there),
		cmocka_unit_test(a_sync_that_is_left_out_is_found),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
