/* SPDX-License-Identifier: MIT */
/*
 * net_receive.c - `dmaland net receive`: all frames that a card hears, to a file, or a line each
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "net_card.h"
#include "pcap.h"
#include "progress.h"
#include "report.h"

enum { BURST = 32, NANOSECONDS = 1000000000 };

/*
 * @limit: frames that are wanted; @end: when it is over; UINT64_MAX and 0: only a signal ends it
 * @file:  that frames go to, or NULL: they are printed
 */
struct receiving {
	struct net_card net;
	struct report report;
	struct pcap_writer *file;
	bool json, verbose;
	uint64_t limit, frames, bytes;
	double end;
};

enum { FRAME_TIME, FRAME_SOURCE, FRAME_DESTINATION, FRAME_TYPE, FRAME_LENGTH, FRAME_COLUMNS };

static const struct column frame_columns[] = {
	[FRAME_TIME] = {NULL, "time_ns", COLUMN_NUMBER, FIT_NO},
	[FRAME_SOURCE] = {NULL, "source", COLUMN_TEXT, FIT_NO},
	[FRAME_DESTINATION] = {NULL, "destination", COLUMN_TEXT, FIT_NO},
	[FRAME_TYPE] = {NULL, "type", COLUMN_NUMBER, FIT_NO},
	[FRAME_LENGTH] = {NULL, "length", COLUMN_NUMBER, FIT_NO},
};

/* What is inside, by its EtherType (IEEE 802, 9.2; below 1536 it is a length). */
static struct text type_text(unsigned int type)
{
	static const struct {
		unsigned int type;
		const char *name;
	} types[] = {
		{0x0800, "IPv4"}, {0x0806, "ARP"},  {0x8100, "VLAN"},
		{0x86dd, "IPv6"}, {0x88b5, "test"}, {0x88cc, "LLDP"},
	};
	struct text text;

	if (type < 1536)
		snprintf(text.text, sizeof(text.text), "802.3");
	else
		snprintf(text.text, sizeof(text.text), "0x%04x", type);
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (types[i].type == type)
			snprintf(text.text, sizeof(text.text), "%s", types[i].name);
	return text;
}

static void frame_report(struct receiving *r, const struct timespec *time,
			 const struct dmaland_packet *packet)
{
	const unsigned char *at = packet->data;
	unsigned int type = (unsigned int)at[12] << 8 | at[13];

	report_row(&r->report);
	report_number(&r->report, FRAME_TIME,
		      (uint64_t)time->tv_sec * NANOSECONDS + (uint64_t)time->tv_nsec);
	report_text(&r->report, FRAME_SOURCE, mac_text(at + DMALAND_ETH_ALEN).text);
	report_text(&r->report, FRAME_DESTINATION, mac_text(at).text);
	report_number(&r->report, FRAME_TYPE, type);
	report_number(&r->report, FRAME_LENGTH, packet->len);
}

static int frame_print(const struct timespec *time, const struct dmaland_packet *packet)
{
	const unsigned char *at = packet->data;
	struct tm tm;

	localtime_r(&time->tv_sec, &tm);
	printf("%02d:%02d:%02d.%06ld  %s > %s  %-5s  %4u bytes\n", tm.tm_hour, tm.tm_min, tm.tm_sec,
	       time->tv_nsec / 1000, mac_text(at + DMALAND_ETH_ALEN).text, mac_text(at).text,
	       type_text((unsigned int)at[12] << 8 | at[13]).text, packet->len);
	return ferror(stdout) ? STATUS_FAILED : STATUS_OK; /* stdout_close() says why */
}

/* One of them, which is freed. */
static int frame_take(struct receiving *r, struct dmaland_packet *packet)
{
	struct timespec now;
	int status = STATUS_OK;

	clock_gettime(CLOCK_REALTIME, &now);
	if (r->file)
		status = pcap_write(r->file, &now, packet->data, packet->len);
	else if (r->json)
		frame_report(r, &now, packet);
	else
		status = frame_print(&now, packet);
	r->frames++;
	r->bytes += packet->len;
	dmaland_packet_free(packet);
	return status;
}

/* What has arrived; the rest of a burst is freed after a failure. */
static int burst_take(struct receiving *r, unsigned int *n)
{
	uint64_t left = r->limit - r->frames;
	struct dmaland_packet *packets[BURST];
	int status = STATUS_OK;

	*n = dmaland_rtl8139cp_receive(r->net.card, packets,
				       left < BURST ? (unsigned int)left : BURST);
	for (unsigned int i = 0; i < *n; i++) {
		if (status)
			dmaland_packet_free(packets[i]);
		else
			status = frame_take(r, packets[i]);
	}
	return status;
}

static bool is_over(const struct receiving *r)
{
	return r->frames >= r->limit || (r->end > 0 && seconds_now() >= r->end);
}

/* Nothing is there: who reads what was written gets all of it, and then the card is waited for. */
static int idle_wait(struct receiving *r)
{
	int status = STATUS_OK;

	if (r->file)
		status = pcap_flush(r->file);
	else if (!r->json && fflush(stdout) != 0)
		status = STATUS_FAILED;
	return status ? status : card_wait(&r->net, UINT64_MAX);
}

static int frames_receive(struct receiving *r)
{
	unsigned int n;
	int status = STATUS_OK;

	while (!status && !is_over(r)) {
		status = burst_take(r, &n);
		if (!status && signals_status())
			status = signals_status();
		progress_update(r->bytes);
		if (!status && !n)
			status = idle_wait(r);
	}
	return status;
}

/* Frames that the chip had no room for, and those that were not whole. */
static uint64_t frames_lost(struct receiving *r)
{
	struct dmaland_rtl8139cp_counters counters = {.rx_missed = 0};
	struct dmaland_rtl8139cp_stats stats;

	dmaland_rtl8139cp_get_stats(r->net.card, &stats);
	dmaland_rtl8139cp_get_counters(r->net.card, &counters);
	return counters.rx_missed + stats.rx_dropped + stats.rx_errors + stats.rx_length +
	       stats.rx_split;
}

/* What has come until a signal is whole, and told as what came until any other end. */
static int receiving_end(struct receiving *r, int status)
{
	uint64_t lost = frames_lost(r);
	int reported;

	report_facts(&r->report, "received");
	report_member_number(&r->report, "frames", r->frames);
	report_member_number(&r->report, "bytes", r->bytes);
	report_member_number(&r->report, "lost", lost);
	if (r->verbose || progress_is_watched())
		fprintf(stderr, "dmaland: %s (%s) came, and %llu were lost\n",
			frames_text(r->frames).text, size_text(r->bytes).text,
			(unsigned long long)lost);
	reported = report_end(&r->report, status < STATUS_SIGNAL ? status : STATUS_OK);
	return status ? status : reported;
}

static int receive_to(struct receiving *r)
{
	int status;

	dmaland_rtl8139cp_set_filter(r->net.card, true, NULL, 0);
	report_begin(&r->report, r->json);
	if (r->json && !r->file)
		report_table(&r->report, "frames", frame_columns, FRAME_COLUMNS);
	if (r->verbose)
		fprintf(stderr, "dmaland: listening as %s\n", mac_text(r->net.mac).text);
	if (r->file)
		progress_begin("receiving", 0);
	status = frames_receive(r);
	progress_end();
	return receiving_end(r, status);
}

static int receive_run(const struct arguments *arguments)
{
	const char *name = arguments->operand_count > 1 ? arguments->operands[1] : NULL;
	struct receiving r = {
		.json = arguments_have(arguments, 'J'),
		.verbose = arguments_have(arguments, 'v'),
		.limit = arguments_have(arguments, 'c') ? arguments->blocks : UINT64_MAX,
	};
	struct pcap_writer file;
	bool to_stdout = name && strcmp(name, "-") == 0;
	int status;

	if (to_stdout && isatty(STDOUT_FILENO))
		return usage_error("net receive",
				   "a pcap file is not text, and stdout is a terminal: "
				   "name a file, or redirect it");
	if (to_stdout && r.json)
		return usage_error("net receive", "stdout can't have both frames and JSON");
	status = card_open(&r.net, arguments->operands[0], arguments, NULL);
	if (status)
		return status;
	if (arguments_have(arguments, 'L'))
		r.end = seconds_now() + (double)arguments->seconds;
	if (name) {
		status = pcap_create(&file, to_stdout ? NULL : name);
		r.file = &file;
	}
	if (!status) {
		status = receive_to(&r);
		if (name)
			status = pcap_finish(&file, status);
	}
	card_close(&r.net);
	return status;
}

const struct command net_receive_command = {
	.name = "net receive",
	.summary = "frames to a pcap file, or a line each",
	.options = "cLJv",
	.operands = "SPEC [FILE]",
	.least = 1,
	.most = 2,
	.help = "All frames that the card hears, to whomever they are: to FILE, or with - to "
		"stdout,\n"
		"as tcpdump and Wireshark read them; or without FILE a line each. Until a signal\n"
		"ends it.\n\n"
		"  -c, --count=FRAMES     or so many came\n"
		"      --seconds=NUMBER   or this time is over\n"
		"      --json             one JSON object at the end: without FILE, of all frames\n"
		"  -v, --verbose          say on stderr when listening begins, and more "
		"messages\n\n"
		"More: man dmaland-net\n",
	.run = receive_run,
};
