/* SPDX-License-Identifier: MIT */
/*
 * pcap.c - frames in files
 */
#include "pcap.h"

#include <byteswap.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

#define MAGIC_US UINT32_C(0xa1b2c3d4)
#define MAGIC_NS UINT32_C(0xa1b23c4d)
#define MAGIC_NG UINT32_C(0x0a0d0d0a) /* pcapng, whose first block has this type in either order */

enum {
	VERSION_MAJOR = 2,
	VERSION_MINOR = 4,
	SNAPLEN = 65535,
	LINK_ETHERNET = 1,
	LINK_MASK = 0xffff, /* above it, other things about the link */
};

struct file_header {
	uint32_t magic;
	uint16_t major, minor;
	uint32_t reserved[2], snaplen, link;
};

struct frame_header {
	uint32_t seconds, fraction, here, length;
};

/* --- writing -------------------------------------------------------------------------------- */

static void buffer_add(struct pcap_writer *pcap, const void *data, size_t size)
{
	memcpy(pcap->buffer + pcap->used, data, size);
	pcap->used += size;
}

int pcap_create(struct pcap_writer *pcap, const char *name)
{
	const struct file_header header = {
		.magic = MAGIC_NS,
		.major = VERSION_MAJOR,
		.minor = VERSION_MINOR,
		.snaplen = SNAPLEN,
		.link = LINK_ETHERNET,
	};

	pcap->used = 0;
	pcap->ours = name;
	pcap->name = name ? name : "stdout";
	pcap->fd = STDOUT_FILENO;
	if (name)
		pcap->fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (pcap->fd < 0)
		return fail("cannot open %s: %s", name, strerror(errno));
	buffer_add(pcap, &header, sizeof(header));
	return pcap_flush(pcap);
}

int pcap_flush(struct pcap_writer *pcap)
{
	size_t written;
	int status = pcap->used
			     ? write_all(pcap->fd, pcap->name, pcap->buffer, pcap->used, &written)
			     : STATUS_OK;

	pcap->used = 0;
	return status;
}

int pcap_write(struct pcap_writer *pcap, const struct timespec *time, const void *frame,
	       unsigned int length)
{
	const struct frame_header header = {(uint32_t)time->tv_sec, (uint32_t)time->tv_nsec, length,
					    length};
	int status = STATUS_OK;

	if (pcap->used + sizeof(header) + length > sizeof(pcap->buffer))
		status = pcap_flush(pcap);
	buffer_add(pcap, &header, sizeof(header));
	buffer_add(pcap, frame, length);
	return status;
}

int pcap_finish(struct pcap_writer *pcap, int status)
{
	int flushed = pcap_flush(pcap);

	if (pcap->ours && close(pcap->fd) && !flushed)
		flushed = fail("cannot write to %s: %s", pcap->name, strerror(errno));
	return status ? status : flushed;
}

/* --- reading -------------------------------------------------------------------------------- */

static uint32_t word(const struct pcap_reader *pcap, uint32_t value)
{
	return pcap->swapped ? bswap_32(value) : value;
}

static int header_check(struct pcap_reader *pcap, const struct file_header *header)
{
	if (header->magic == MAGIC_NG)
		return fail("%s is a pcapng file; make a pcap file of it: editcap -F pcap %s FILE",
			    pcap->name, pcap->name);
	pcap->swapped = header->magic == bswap_32(MAGIC_US) || header->magic == bswap_32(MAGIC_NS);
	if (!pcap->swapped && header->magic != MAGIC_US && header->magic != MAGIC_NS)
		return fail("%s is no pcap file", pcap->name);
	if ((word(pcap, header->link) & LINK_MASK) != LINK_ETHERNET)
		return fail("%s has frames of link type %u, and not Ethernet's, which is %d",
			    pcap->name, word(pcap, header->link) & LINK_MASK, LINK_ETHERNET);
	return STATUS_OK;
}

int pcap_open(struct pcap_reader *pcap, const char *name)
{
	struct file_header header = {.magic = 0};
	size_t got;
	int status;

	*pcap = (struct pcap_reader){.fd = STDIN_FILENO, .name = name ? name : "stdin"};
	if (name)
		pcap->fd = open(name, O_RDONLY | O_CLOEXEC);
	if (pcap->fd < 0)
		return fail("cannot open %s: %s", name, strerror(errno));
	status = read_full(pcap->fd, pcap->name, &header, sizeof(header), &got);
	if (!status && got < sizeof(header) && header.magic != MAGIC_NG)
		status = fail("%s is no pcap file: it has %zu bytes", pcap->name, got);
	if (!status)
		status = header_check(pcap, &header);
	if (status)
		pcap_close(pcap);
	pcap->bytes = got;
	return status;
}

int pcap_read(struct pcap_reader *pcap, void *frame, unsigned int room, unsigned int *length)
{
	struct frame_header header;
	unsigned long long number = pcap->frames + 1;
	size_t got;
	int status = read_full(pcap->fd, pcap->name, &header, sizeof(header), &got);

	*length = 0;
	if (status || !got)
		return status;
	if (got < sizeof(header))
		return fail("%s ends within frame %llu", pcap->name, number);
	if (word(pcap, header.here) > room)
		return fail("frame %llu of %s has %u bytes: there are %u at most", number,
			    pcap->name, word(pcap, header.here), room);
	if (header.here != header.length)
		return fail("frame %llu of %s was cut when it was taken, from %u bytes to %u",
			    number, pcap->name, word(pcap, header.length), word(pcap, header.here));
	*length = word(pcap, header.here);
	status = read_full(pcap->fd, pcap->name, frame, *length, &got);
	if (status)
		return status;
	if (got < *length)
		return fail("%s ends within frame %llu", pcap->name, number);
	pcap->frames++;
	pcap->bytes += sizeof(header) + got;
	/* An empty frame would look as the end does. */
	return *length ? STATUS_OK : fail("frame %llu of %s is empty", number, pcap->name);
}

void pcap_close(struct pcap_reader *pcap)
{
	if (pcap->fd > STDERR_FILENO)
		close(pcap->fd);
}
