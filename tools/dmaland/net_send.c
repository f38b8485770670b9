/* SPDX-License-Identifier: MIT */
/*
 * net_send.c - `dmaland net send`: frames of a file, or made here
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "net_card.h"
#include "pcap.h"
#include "progress.h"
#include "report.h"

enum { TYPE_TEST = 0x88b5 /* local experiments: IEEE 802, 9.2.4 */ };

/* @limit: frames that are to be sent, UINT64_MAX: all; @size: of those that are made here */
struct sending {
	struct net_card net;
	struct pcap_reader file;
	unsigned int size;
	uint64_t limit, frames, bytes;
};

/* To all, with a number behind the header, and the rest from it. */
static void frame_make(struct sending *s, unsigned char *at)
{
	memset(at, 0xff, DMALAND_ETH_ALEN);
	memcpy(at + DMALAND_ETH_ALEN, s->net.mac, DMALAND_ETH_ALEN);
	at[12] = TYPE_TEST >> 8;
	at[13] = TYPE_TEST & 0xff;
	for (unsigned int i = ETHERNET_HEADER; i < s->size; i++) {
		unsigned int place = i - ETHERNET_HEADER;

		at[i] = (unsigned char)(place < 4 ? s->frames >> 8 * (3 - place)
						  : s->frames + place);
	}
}

/* The next frame of the file, of what the card sends at most: with a tag of 802.1Q that is longer. */
static int frame_read(struct sending *s, unsigned char *at, unsigned int *length)
{
	int status = pcap_read(&s->file, at, DMALAND_VLAN_ETH_FRAME_LEN, length);
	unsigned int type;

	if (status || *length <= DMALAND_ETH_FRAME_LEN)
		return status;
	type = at[12] << 8 | at[13];
	if (type == 0x8100 || type == 0x88a8)
		return STATUS_OK;
	return fail("frame %llu of %s has %u bytes: there are %u at most without a tag of 802.1Q",
		    (unsigned long long)s->file.frames, s->file.name, *length,
		    DMALAND_ETH_FRAME_LEN);
}

/* The next frame, or none with *packet NULL: it was the last. */
static int frame_next(struct sending *s, struct dmaland_packet **packet)
{
	unsigned int length = s->size;
	int status = STATUS_OK;

	*packet = NULL;
	if (s->frames >= s->limit)
		return STATUS_OK;
	*packet = card_packet(&s->net, s->size ? s->size : DMALAND_VLAN_ETH_FRAME_LEN);
	if (!*packet)
		return STATUS_FAILED;
	if (s->size)
		frame_make(s, (*packet)->data);
	else
		status = frame_read(s, (*packet)->data, &length);
	(*packet)->len = length;
	if (status || !length) {
		dmaland_packet_free(*packet);
		*packet = NULL;
	}
	return status;
}

static int frames_send(struct sending *s)
{
	struct dmaland_packet *packet = NULL;
	unsigned int length;
	int status = STATUS_OK, drained;

	while (!status) {
		status = signals_status() ? signals_status() : frame_next(s, &packet);
		if (status || !packet)
			break;
		length = packet->len;
		status = card_send(&s->net, packet);
		if (status)
			break;
		s->frames++;
		s->bytes += length;
		progress_update(s->size ? s->bytes : s->file.bytes);
	}
	drained = status == STATUS_FAILED ? STATUS_OK : card_drain(&s->net);
	return status ? status : drained;
}

/* Of a file that has a size. */
static uint64_t bytes_expected(const struct sending *s)
{
	struct stat stat;

	if (s->size)
		return s->limit * s->size;
	return fstat(s->file.fd, &stat) == 0 && S_ISREG(stat.st_mode) ? (uint64_t)stat.st_size : 0;
}

static int sending_report(const struct sending *s, double seconds,
			  const struct arguments *arguments)
{
	uint64_t rate = (uint64_t)((double)s->frames / (seconds > 1e-9 ? seconds : 1e-9));
	struct report report;

	report_begin(&report, arguments_have(arguments, 'J'));
	report_note(&report, "%s (%s) sent in %.2f s: %llu a second", frames_text(s->frames).text,
		    size_text(s->bytes).text, seconds, (unsigned long long)rate);
	report_facts(&report, "sent");
	report_member_number(&report, "frames", s->frames);
	report_member_number(&report, "bytes", s->bytes);
	report_member_number(&report, "nanoseconds", (uint64_t)(seconds * 1e9));
	report_member_number(&report, "frames_per_second", rate);
	return report_end(&report, STATUS_OK);
}

static int send_all(struct sending *s, const struct arguments *arguments)
{
	double begin = seconds_now();
	int status, reported;

	progress_begin("sending", bytes_expected(s));
	status = frames_send(s);
	progress_end();
	if (status == STATUS_FAILED)
		return s->frames ? fail("%s of it before were sent", frames_text(s->frames).text)
				 : status;
	reported = sending_report(s, seconds_now() - begin, arguments);
	return status ? status : reported;
}

static int send_run(const struct arguments *arguments)
{
	const char *name = arguments->operand_count > 1 ? arguments->operands[1] : NULL;
	bool made = arguments_have(arguments, 'H');
	struct sending s = {
		.size = (unsigned int)arguments->generate,
		.limit = arguments_have(arguments, 'c') ? arguments->blocks
			 : made				? 1
							: UINT64_MAX,
	};
	int status;

	if (!name == !made)
		return usage_error("net send", name ? "FILE and --generate exclude each other"
						    : "what is to be sent? Name a FILE, - for "
						      "stdin, or say --generate=SIZE");
	status = card_open(&s.net, arguments->operands[0], arguments, NULL);
	if (status)
		return status;
	if (name)
		status = pcap_open(&s.file, strcmp(name, "-") ? name : NULL);
	if (!status) {
		status = send_all(&s, arguments);
		if (name)
			pcap_close(&s.file);
	}
	card_close(&s.net);
	return status;
}

const struct command net_send_command = {
	.name = "net send",
	.summary = "frames of a pcap file, or made here",
	.options = "HcJv",
	.operands = "SPEC [FILE]",
	.least = 1,
	.most = 2,
	.help = "Sends the frames of a pcap file (- for stdin), one after the other, as fast as "
		"the\n"
		"card does; or frames of its own, with a number each, to all. Frames below 60 "
		"bytes\n"
		"are padded.\n\n"
		"      --generate=SIZE  no FILE, but frames of so many bytes\n"
		"  -c, --count=FRAMES   so many; all of FILE, or one that is made, when left out\n"
		"      --json           what was sent, as one JSON object\n"
		"  -v, --verbose        more messages on stderr\n\n"
		"More: man dmaland-net\n",
	.run = send_run,
};
