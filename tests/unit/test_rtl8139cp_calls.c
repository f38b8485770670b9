/* SPDX-License-Identifier: MIT */
/*
 * test_rtl8139cp_calls.c - which DMA calls the driver makes, in which order, and what becomes of each that fails
 *
 * A buffer is mapped when it is allocated, synced for the CPU, copied and synced for the device, as r8169 does;
 * or another is mapped and it is unmapped, as 8139cp does. Of a frame to send the pieces are mapped first and
 * what is in front of them last. It is unmapped in the ring's order, by what the driver has stored.
 *
 * The calls go through here (--wrap). Each can be made to fail; and a sync can be left out, as by a driver that
 * forgot it. Then the checker of a machine that is not coherent (soft:,coherent=no) finds that the card must not write.
 */
#include "rtl8139cp_stand.h"

#include <errno.h>

#include "card.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define INCOHERENT "soft:,coherent=no"

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

static void calls_reset(void)
{
	memset(&calls, 0, sizeof(calls));
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
	calls.maps++;
	return dma;
}

void __wrap_dma_unmap_single_attrs(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				   enum dma_data_direction dir, unsigned long attrs)
{
	note("unmap", size, dir);
	calls.unmaps++;
	__real_dma_unmap_single_attrs(dev, addr, size, dir, attrs);
}

void __wrap_dma_sync_single_for_cpu(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				    enum dma_data_direction dir)
{
	note("cpu", size, dir);
	if (!calls.forgets_cpu)
		__real_dma_sync_single_for_cpu(dev, addr, size, dir);
}

void __wrap_dma_sync_single_for_device(struct dmaland_device *dev, dma_addr_t addr, size_t size,
				       enum dma_data_direction dir)
{
	note("device", size, dir);
	if (!calls.forgets_device)
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
	calls.on = true;
}

static void close_noting(void)
{
	calls.on = false;
	end_close();
	assert_int_equal(calls.maps, calls.unmaps);
}

static void a_received_frame_makes_the_calls_of_the_kernels_drivers(void **state)
{
	(void)state;
	open_noting(INCOHERENT, DMALAND_RX_KEEP, DMALAND_TX_AUTO);
	assert_int_equal(calls.maps, RING); /* when it was opened */
	dmaland_packet_free(arrives(1000));
	calls_are("cpu 1000 from", "device 1000 from");
	dmaland_packet_free(arrives(60));
	calls_are("cpu 60 from", "device 60 from");
	close_noting();

	open_noting(INCOHERENT, DMALAND_RX_MAP, DMALAND_TX_AUTO);
	dmaland_packet_free(arrives(60));
	calls_are("map 1536 from", "unmap 1536 from");
	close_noting();

	open_noting(INCOHERENT, DMALAND_RX_COPYBREAK, DMALAND_TX_AUTO);
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

		open_noting(INCOHERENT, (enum dmaland_rx_way)way, DMALAND_TX_AUTO);
		soft_rtl8139_forge(&ends[0].chip, DESC_FS | 64, NULL, 0);
		assert_int_equal(dmaland_rtl8139cp_receive(ends[0].card, &packet, 1), 0);
		assert_int_equal(calls.n, 0);
		close_noting();
	}
}

static void a_sent_frame_makes_the_calls_of_the_kernels_drivers(void **state)
{
	(void)state;
	open_noting(INCOHERENT, DMALAND_RX_KEEP, DMALAND_TX_SG);
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

	open_noting(INCOHERENT, DMALAND_RX_KEEP, DMALAND_TX_LINEAR);
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
	open_noting(INCOHERENT, DMALAND_RX_KEEP, DMALAND_TX_SG);
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
	open_noting(INCOHERENT, DMALAND_RX_KEEP, DMALAND_TX_SG);
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
	open_noting(INCOHERENT, DMALAND_RX_MAP, DMALAND_TX_AUTO);
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
	open_noting(INCOHERENT, DMALAND_RX_MAP, DMALAND_TX_AUTO);
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

struct found {
	unsigned int wrong;  /* frames that did not come as they were sent */
	unsigned int faults; /* of the card */
};

/* Of two frames for each buffer. */
static struct found frames_come(const char *spec, enum dmaland_rx_way way, bool forgets_cpu,
				bool forgets_device)
{
	struct soft_rtl8139 *chip = &ends[0].chip;
	struct found found = {0};

	open_noting(spec, way, DMALAND_TX_AUTO);
	calls.on = false;
	calls.forgets_cpu = forgets_cpu;
	calls.forgets_device = forgets_device;
	for (uint32_t i = 0; i < 2 * RING; i++) {
		unsigned char frame[200];
		struct dmaland_packet *packet;

		frame_fill(frame, 0, i, sizeof(frame));
		assert_true(soft_rtl8139_receive(chip, frame, sizeof(frame)));
		packet = receive_one(0);
		found.wrong += memcmp(packet->data, frame, sizeof(frame)) != 0;
		dmaland_packet_free(packet);
	}
	found.faults = chip->faults;
	chip->faults = 0; /* the stand wants none */
	close_noting();
	return found;
}

static void check_found(struct found found, unsigned int wrong, unsigned int faults)
{
	assert_int_equal(found.wrong, wrong);
	assert_int_equal(found.faults, faults);
}

/* The last fault is the card's, at a buffer for frames, and says what cures it. */
static void check_named(void)
{
	const struct dmaland_soft_fault *fault = &ends[0].chip.fault;

	assert_true(fault->write);
	assert_int_equal(fault->reason, DMALAND_SOFT_CPU);
	assert_int_equal(fault->kind, DMALAND_SOFT_MAPPING);
	assert_true(fault->address == fault->first);
	assert_int_equal(fault->size, RX_BUFFER);
	assert_false(fault->unmapped);
	soft_fault_log("card", fault, false);
	assert_logged("card: DMA fault: write of ");
	assert_logged("it is the CPU's since dma_sync_*_for_cpu(): give it back by "
		      "dma_sync_*_for_device() first");
	log_clear();
}

static const char *const incoherent[] = {INCOHERENT, INCOHERENT ",trusted=no",
					 INCOHERENT ",copy_below=1"};

static void with_every_sync_in_its_place_nothing_is_found(void **state)
{
	(void)state;
	for (int way = 0; way < 3; way++) {
		for (unsigned int i = 0; i < ARRAY_SIZE(incoherent); i++)
			check_found(
				frames_come(incoherent[i], (enum dmaland_rx_way)way, false, false),
				0, 0);
		check_found(frames_come("soft:", (enum dmaland_rx_way)way, false, false), 0, 0);
	}
}

/* The first frame of each buffer comes, and none after it. */
static void a_sync_for_the_device_that_is_left_out_is_found_and_named(void **state)
{
	static const enum dmaland_rx_way ways[] = {DMALAND_RX_KEEP, DMALAND_RX_COPYBREAK};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(incoherent); i++) {
		for (unsigned int k = 0; k < ARRAY_SIZE(ways); k++) {
			check_found(frames_come(incoherent[i], ways[k], false, true), RING, RING);
			check_named();
		}
		/* this way has none */
		check_found(frames_come(incoherent[i], DMALAND_RX_MAP, true, true), 0, 0);
	}
	/* A coherent machine needs none. */
	for (unsigned int k = 0; k < ARRAY_SIZE(ways); k++)
		check_found(frames_come("soft:", ways[k], false, true), 0, 0);
}

/* Nothing comes from the card's copy. */
static void a_sync_for_the_cpu_that_is_left_out_is_seen_in_the_data(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(incoherent); i++) {
		check_found(frames_come(incoherent[i], DMALAND_RX_KEEP, true, false), 2 * RING, 0);
		check_found(frames_come(incoherent[i], DMALAND_RX_COPYBREAK, true, false), 2 * RING,
			    0);
	}
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
		cmocka_unit_test(with_every_sync_in_its_place_nothing_is_found),
		cmocka_unit_test(a_sync_for_the_device_that_is_left_out_is_found_and_named),
		cmocka_unit_test(a_sync_for_the_cpu_that_is_left_out_is_seen_in_the_data),
	};

	log_capture();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
