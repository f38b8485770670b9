/* SPDX-License-Identifier: MIT */
/*
 * pcap.h - frames in files, as tcpdump and Wireshark have them: pcap (draft-ietf-opsawg-pcap)
 *
 *   header: magic, version, two words of nothing, most bytes of a frame, link type
 *   each frame: seconds, ns or us, bytes that are here, bytes that it had; then these bytes
 *
 * Who writes takes the order of bytes and the fraction of a second that it likes, and the magic tells them. We write
 * nanoseconds.
 */
#ifndef PCAP_H
#define PCAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct pcap_writer {
	int fd;
	const char *name;
	bool ours;
	size_t used;
	unsigned char buffer[64 << 10];
};

/* name: NULL for stdout. 0, or a status with the user told. */
int pcap_create(struct pcap_writer *pcap, const char *name);

/* A frame, of what Ethernet has at most. What is written waits in the buffer until this, a flush or the end. */
int pcap_write(struct pcap_writer *pcap, const struct timespec *time, const void *frame,
	       unsigned int length);
int pcap_flush(struct pcap_writer *pcap);

/* What is left in the buffer is written, also after a failure: status, or another when that failed. */
int pcap_finish(struct pcap_writer *pcap, int status);

/* @frames: that were read; @bytes: of the file, that were read */
struct pcap_reader {
	int fd;
	const char *name;
	bool swapped;
	uint64_t frames, bytes;
};

/* name: NULL for stdin. 0, or a status with the user told. */
int pcap_open(struct pcap_reader *pcap, const char *name);

/* The next frame, into memory of so many bytes: 0 with *length, 0 at the end, or a status with the user told. */
int pcap_read(struct pcap_reader *pcap, void *frame, unsigned int room, unsigned int *length);
void pcap_close(struct pcap_reader *pcap);

#endif
