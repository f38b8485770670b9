/* SPDX-License-Identifier: MIT */
/*
 * card.h - contestants that receive and send frames with a card: this project's driver, and the kernel's through AF_PACKET
 *
 * Each is written as a good user would write it, for one thread, and takes or hands over CARD_BURST frames at a time where they are
 * there. Of a frame it looks at the number, or writes it; the rest of a frame to send lies there already. Whatever fails ends the
 * program with a sentence.
 */
#ifndef BENCH_CARD_H
#define BENCH_CARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CARD_BURST     32 /* half of a ring of the chip */
#define CARD_HEADER    14
#define CARD_FRAME_MAX 1514
#define CARD_TYPE      0x88b5 /* local experiments: IEEE 802, 9.2.4 */

/* Frames from here on are expected; whole: their content is compared, which is not measured. */
struct card_expected {
	uint32_t number;
	unsigned int size;
	bool whole;
};

struct card_contestant {
	const char *row; /* in names of rows */
	bool sleeps;	 /* until frames come; else it polls */

	/* card: a spec of dmaland's, or the kernel's interface. Until close() it takes what is sent to it. */
	void *(*open)(const struct card_contestant *contestant, const char *card);
	void (*close)(void *card);
	void (*mac)(void *card, unsigned char *address);

	/* Take frames that are there, and give their memory back. How many. */
	unsigned int (*receive)(void *card, struct card_expected *expected);

	/* Sleep until there are some, or ended is readable: then false. */
	bool (*wait)(void *card, int ended);

	/* Frames of this content follow, so many bytes; in so many pieces, where the contestant has any. */
	void (*prepare)(void *card, const unsigned char *content, unsigned int size,
			unsigned int pieces);
	/* CARD_BURST of them, numbered from here on. */
	void (*send)(void *card, uint32_t number);
	/* All has been sent. */
	void (*finish)(void *card);

	int rx_way, tx_way; /* ours: of <dmaland/rtl8139cp.h> */
};

#define CARDS_OURS    6
#define CARDS_KERNELS 2

extern const struct card_contestant cards_ours[CARDS_OURS];
extern const struct card_contestant cards_kernels[CARDS_KERNELS];
extern const struct card_contestant card_sender; /* ours, too: all receive what it sends */

/* The number-th frame's content from its number on. */
static inline unsigned char card_content(unsigned int at)
{
	return (unsigned char)(at * 7 + at / 256);
}

/* Is this the frame that is expected? Ends the program, or expects the next. */
void card_expect(struct card_expected *expected, const unsigned char *frame, unsigned int size);

#endif
