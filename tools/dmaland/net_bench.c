/* SPDX-License-Identifier: MIT */
/*
 * net_bench.c - `dmaland net bench`: what each way of receiving and sending costs, between two cards
 *
 * A frame is a header in memory of the card, and a piece of the program's own memory behind it. So the ways to send differ: what
 * is not copied together is mapped, or copied by the mapping where that is cheaper. Both cards are polled.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "latency.h"
#include "net_card.h"
#include "progress.h"
#include "report.h"
#include "syscalls.h"

enum {
	COUNT_DEFAULT = 1000,
	COUNTED_MAX = 128, /* frames while system calls are counted, which takes its time */
	IN_FLIGHT = 32,	   /* the ring of the receiver has room for twice as many */
	HEAD = 42,	   /* Ethernet, IPv4, UDP */
	NUMBER_AT = ETHERNET_HEADER,
	STUCK_NS = 1000000000,
	STUCK_S = 5,
};

static const unsigned int sizes[] = {64, 256, 1024, 1514};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static const struct {
	enum dmaland_rx_way way;
	const char *name;
} rx_ways[] = {
	{DMALAND_RX_COPYBREAK, "copybreak"}, {DMALAND_RX_KEEP, "keep"}, {DMALAND_RX_MAP, "map"}};
enum { RX_WAYS = sizeof(rx_ways) / sizeof(rx_ways[0]) };

static const struct {
	enum dmaland_tx_way way;
	const char *name;
} tx_ways[] = {{DMALAND_TX_SG, "sg"}, {DMALAND_TX_LINEAR, "linear"}};
enum { TX_WAYS = sizeof(tx_ways) / sizeof(tx_ways[0]) };

/* What was counted until now: of both cards. */
struct costs {
	uint64_t copies, mappings;
};

struct bench {
	struct net_card from, to;
	unsigned int rx, tx, size;
	uint64_t limit, sent, received, moved; /* moved: bytes, of all that was measured */
	unsigned char *data;
	int uncounted; /* why system calls are not: -errno */
	struct report report;
};

enum {
	ROW_RX,
	ROW_TX,
	ROW_SIZE,
	ROW_FRAMES,
	ROW_NS,
	ROW_RATE,
	ROW_COPIES,
	ROW_MAPPINGS,
	ROW_CALLS,
	ROWS
};

static const struct column columns[] = {
	[ROW_RX] = {"RECEIVE", "receive", COLUMN_TEXT, FIT_NO},
	[ROW_TX] = {"SEND", "send", COLUMN_TEXT, FIT_NO},
	[ROW_SIZE] = {"SIZE", "size", COLUMN_NUMBER, FIT_NO},
	[ROW_FRAMES] = {NULL, "packets", COLUMN_NUMBER, FIT_NO},
	[ROW_NS] = {NULL, "nanoseconds", COLUMN_NUMBER, FIT_NO},
	[ROW_RATE] = {"PACKETS/S", "packets_per_second", COLUMN_NUMBER, FIT_NO},
	[ROW_COPIES] = {"COPIES", "copies_per_packet", COLUMN_NUMBER, FIT_NO},
	[ROW_MAPPINGS] = {"MAPPINGS", "mappings_per_packet", COLUMN_NUMBER, FIT_NO},
	[ROW_CALLS] = {"SYSCALLS", "system_calls_per_packet", COLUMN_NUMBER, FIT_NO},
};

/* Copies of whole packets by the driver, and of pieces by mappings that are not worth a real one. */
static void costs_add(struct net_card *net, struct costs *costs)
{
	struct dmaland_streaming_stats s;
	struct dmaland_rtl8139cp_stats stats;

	dmaland_get_streaming_stats(net->dev, &s);
	dmaland_rtl8139cp_get_stats(net->card, &stats);
	costs->copies += stats.rx_copied + stats.tx_linear + s.bounced_small + s.bounced_limit +
			 s.bounced_unmappable + s.bounced_untrusted;
	costs->mappings += s.mapped;
}

static struct costs costs_now(struct bench *bench)
{
	struct costs costs = {0, 0};

	costs_add(&bench->from, &costs);
	costs_add(&bench->to, &costs);
	return costs;
}

/* The next frame; NULL, with the user told. */
static struct dmaland_packet *frame_make(struct bench *bench)
{
	struct dmaland_packet *packet = card_packet(&bench->from, HEAD);
	uint64_t number = bench->sent;

	if (!packet)
		return NULL;
	memcpy(packet->data, bench->to.mac, DMALAND_ETH_ALEN);
	memcpy(packet->data + DMALAND_ETH_ALEN, bench->from.mac, DMALAND_ETH_ALEN);
	packet->data[12] = 0x88; /* local experiments: IEEE 802, 9.2.4 */
	packet->data[13] = 0xb5;
	memset(packet->data + ETHERNET_HEADER, 0, HEAD - ETHERNET_HEADER);
	memcpy(packet->data + NUMBER_AT, &number, sizeof(number));
	packet->frags[0] = (struct dmaland_frag){bench->data, bench->size - HEAD};
	packet->nr_frags = 1;
	return packet;
}

/* Frames to all, of others on the hub, are passed over. */
static int frame_check(struct bench *bench, const struct dmaland_packet *packet)
{
	uint64_t number;

	if (memcmp(packet->data, bench->to.mac, DMALAND_ETH_ALEN) != 0)
		return STATUS_OK;
	memcpy(&number, packet->data + NUMBER_AT, sizeof(number));
	if (number != bench->received || packet->len != bench->size)
		return fail("frame %llu of %u bytes was sent next, and frame %llu of %u came: "
			    "frames were lost",
			    (unsigned long long)bench->received, bench->size,
			    (unsigned long long)number, packet->len);
	bench->received++;
	bench->moved += packet->len;
	return STATUS_OK;
}

static int some_send(struct bench *bench)
{
	while (bench->sent < bench->limit && bench->sent - bench->received < IN_FLIGHT) {
		struct dmaland_packet *packet = frame_make(bench);
		int code = packet ? dmaland_rtl8139cp_send(bench->from.card, &packet, 1) : 0;

		if (!packet)
			return STATUS_FAILED;
		if (code < 0)
			dmaland_packet_free(packet);
		if (code == -EBUSY)
			return STATUS_OK;
		if (code < 0)
			return fail_library(NULL);
		bench->sent++;
	}
	return STATUS_OK;
}

static int some_receive(struct bench *bench)
{
	struct dmaland_packet *packets[IN_FLIGHT];
	unsigned int n = dmaland_rtl8139cp_receive(bench->to.card, packets, IN_FLIGHT);
	int status = STATUS_OK;

	for (unsigned int i = 0; i < n; i++) {
		if (!status)
			status = frame_check(bench, packets[i]);
		dmaland_packet_free(packets[i]);
	}
	return status;
}

/* All frames of a row. */
static int frames_move(struct bench *bench)
{
	uint64_t until = nanoseconds_now() + STUCK_S * (uint64_t)STUCK_NS, before = 0;
	int status = STATUS_OK;

	bench->sent = bench->received = 0;
	while (!status && bench->received < bench->limit) {
		status = signals_status() ? signals_status() : some_send(bench);
		if (!status)
			status = some_receive(bench);
		if (bench->received != before) {
			before = bench->received;
			until = nanoseconds_now() + STUCK_S * (uint64_t)STUCK_NS;
		} else if (!status && nanoseconds_now() >= until) {
			status = fail(
				"frame %llu of %llu does not arrive within %d s: do both "
				"cards hear each other, as with machine=m,hub=0 in both specs?",
				(unsigned long long)before + 1, (unsigned long long)bench->limit,
				STUCK_S);
		}
		progress_update(bench->moved);
	}
	return status ? status : card_drain(&bench->from);
}

/* What moving some frames more takes in system calls, each; below 0: not counted. */
static int calls_count(struct bench *bench, double *calls)
{
	uint64_t limit = bench->limit, moved = bench->moved;
	struct syscalls syscalls;
	long counted;
	int status;

	*calls = -1;
	if (!bench->uncounted)
		bench->uncounted = syscalls_begin(&syscalls);
	if (bench->uncounted)
		return STATUS_OK;
	if (bench->limit > COUNTED_MAX)
		bench->limit = COUNTED_MAX;
	status = frames_move(bench);
	counted = syscalls_end(&syscalls);
	if (counted < 0 && !status) /* else a signal ended both */
		bench->uncounted = (int)counted;
	else if (counted >= 0)
		*calls = (double)counted / (double)bench->limit;
	bench->limit = limit;
	bench->moved = moved;
	return status;
}

static int row_report(struct bench *bench, const struct costs *before, uint64_t ns)
{
	struct costs costs = costs_now(bench);
	double n = (double)bench->limit, calls;
	int status = calls_count(bench, &calls);
	char text[32];

	if (status)
		return status;
	report_row(&bench->report);
	report_text(&bench->report, ROW_RX, rx_ways[bench->rx].name);
	report_text(&bench->report, ROW_TX, tx_ways[bench->tx].name);
	report_number(&bench->report, ROW_SIZE, bench->size);
	report_number(&bench->report, ROW_FRAMES, bench->limit);
	report_number(&bench->report, ROW_NS, ns);
	report_number(&bench->report, ROW_RATE, (uint64_t)(n * 1e9 / (double)(ns ? ns : 1)));
	snprintf(text, sizeof(text), "%.2f", (double)(costs.copies - before->copies) / n);
	report_text(&bench->report, ROW_COPIES, text);
	snprintf(text, sizeof(text), "%.2f", (double)(costs.mappings - before->mappings) / n);
	report_text(&bench->report, ROW_MAPPINGS, text);
	if (calls >= 0) {
		snprintf(text, sizeof(text), "%.2f", calls);
		report_text(&bench->report, ROW_CALLS, text);
	}
	return STATUS_OK;
}

/* A pair of ways, with all sizes. */
static int pair_measure(struct bench *bench, const struct arguments *arguments)
{
	const struct dmaland_rtl8139cp_options options = {
		.size = sizeof(options),
		.rx_way = rx_ways[bench->rx].way,
		.tx_way = tx_ways[bench->tx].way,
	};
	int status = card_open(&bench->from, arguments->operands[0], arguments, &options);

	if (status)
		return status;
	status = card_open(&bench->to, arguments->operands[1], arguments, &options);
	for (unsigned int i = 0; i < SIZES && !status; i++) {
		struct costs before = costs_now(bench);
		uint64_t begin = nanoseconds_now();

		bench->size = sizes[i];
		status = frames_move(bench);
		if (!status)
			status = row_report(bench, &before, nanoseconds_now() - begin);
	}
	if (bench->to.card)
		card_close(&bench->to);
	card_close(&bench->from);
	return status;
}

static int ways_measure(struct bench *bench, const struct arguments *arguments)
{
	uint64_t bytes = 0;
	int status = STATUS_OK;

	for (unsigned int i = 0; i < SIZES; i++)
		bytes += sizes[i];
	progress_begin("moving", bytes * bench->limit * RX_WAYS * TX_WAYS);
	for (unsigned int way = 0; way < RX_WAYS * TX_WAYS && !status; way++) {
		bench->rx = way / TX_WAYS;
		bench->tx = way % TX_WAYS;
		status = pair_measure(bench, arguments);
	}
	progress_end();
	return status;
}

static int bench_run(const struct arguments *arguments)
{
	struct bench bench = {
		.limit = arguments_have(arguments, 'c') ? arguments->blocks : COUNT_DEFAULT,
		.data = calloc(1, DMALAND_ETH_FRAME_LEN),
	};
	int status, reported;

	if (!bench.data)
		return fail("no memory");
	report_begin(&bench.report, arguments_have(arguments, 'J'));
	report_note(
		&bench.report,
		"%llu packets a row, in two pieces, polled; copies, mappings and system calls a "
		"packet, of both cards",
		(unsigned long long)bench.limit);
	report_table(&bench.report, "bench", columns, ROWS);
	status = ways_measure(&bench, arguments);
	if (bench.uncounted)
		report_note(&bench.report,
			    "System calls could not be counted, for which a child traces this "
			    "program: %s.",
			    strerror(-bench.uncounted));
	reported = report_end(&bench.report, status < STATUS_SIGNAL ? status : STATUS_OK);
	free(bench.data);
	return status ? status : reported;
}

const struct command net_bench_command = {
	.name = "net bench",
	.summary = "what each way to receive and to send costs",
	.options = "cJv",
	.operands = "SPEC SPEC",
	.least = 2,
	.most = 2,
	.help = "Sends frames from the first card to the second, which hear each other, by each "
		"way\n"
		"of sending and receiving and in four sizes, and prints how many a second, and\n"
		"what was copied, mapped and asked of the kernel for each.\n\n"
		"  -c, --count=FRAMES  of each way and size; 1000 when left out\n"
		"      --json          as one JSON object\n"
		"  -v, --verbose       more messages on stderr\n\n"
		"More: man dmaland-net\n",
	.run = bench_run,
};
