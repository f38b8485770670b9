/* SPDX-License-Identifier: MIT */
/*
 * chip.h - registers and descriptors of the RTL8139C+, as the data sheet (revision 1.6) has them
 *
 * What differs from the 8169 family, whose descriptors these are:
 *
 *	                        RTL8139C+                     8169
 *	descriptors a ring      at most 64                    at most 1024
 *	poll for transmission   TPPoll at 0xd9                at 0x38
 *	longest frame received  what the descriptor says      RxMaxSize at 0xda
 *	64-bit addresses        DAC in the C+ command         always
 *	addresses of rings      after C+ mode is on           at any time
 */
#ifndef RTL8139CP_CHIP_H
#define RTL8139CP_CHIP_H

#include <stdint.h>

enum {
	IDR0 = 0x00,  /* the card's address; written in words of 32 bits */
	MAR0 = 0x08,  /* the filter of groups, 64 bits */
	DTCCR = 0x10, /* dump tally counters: address, 64 bits */
	TNPDS = 0x20, /* ring of normal priority, 64 bits */
	THPDS = 0x28, /* ring of high priority: not used */
	CR = 0x37,    /* command */
	IMR = 0x3c,   /* interrupts that are let through */
	ISR = 0x3e,   /* those that have come; written to clear them */
	TCR = 0x40,   /* transmit configuration */
	RCR = 0x44,   /* receive configuration */
	EECR = 0x50,  /* 9346CR: lock of the configuration */
	MSR = 0x58,   /* media status */
	TPPOLL = 0xd9,
	CPCR = 0xe0,  /* C+ command */
	RDSAR = 0xe4, /* ring of received frames, 64 bits */
	ETTHR = 0xec, /* early transmit threshold, in words of 32 bytes */
	REGISTERS = 0x100,
};

enum {
	CR_TE = 1 << 2,
	CR_RE = 1 << 3,
	CR_RST = 1 << 4,

	INT_ROK = 1 << 0,
	INT_RER = 1 << 1,
	INT_TOK = 1 << 2,
	INT_TER = 1 << 3,
	INT_RXOVW = 1 << 4, /* no descriptor was the chip's */
	INT_LINK = 1 << 5,
	INT_FOVW = 1 << 6,
	INT_TDU = 1 << 7, /* no descriptor to send */

	TCR_MXDMA = 6 << 8, /* 1024 bytes a burst */
	TCR_IFG = 3 << 24,  /* the standard's gap between frames */

	RCR_AAP = 1 << 0, /* accept: all */
	RCR_APM = 1 << 1, /* the card's address */
	RCR_AM = 1 << 2,  /* groups that are in the filter */
	RCR_AB = 1 << 3,  /* to all */
	RCR_MXDMA = 6 << 8,
	RCR_RXFTH = 7 << 13, /* no early threshold: whole frames */

	EECR_CONFIG = 0xc0, /* configuration may be written */

	MSR_LINKB = 1 << 2, /* no link */
	MSR_SPEED_10 = 1 << 3,

	TPPOLL_NPQ = 1 << 6,

	CPCR_TE = 1 << 0, /* C+ mode, for transmission */
	CPCR_RE = 1 << 1, /* and for reception */
	CPCR_MULRW = 1 << 3,
	CPCR_DAC = 1 << 4,
	CPCR_RXCHKSUM = 1 << 5,

	DTCCR_CMD = 1 << 3, /* set to begin, clear when done */
};

/* Descriptors: 16 bytes; a ring is aligned to 256. */
enum { RING = 64, RING_ALIGN = 256 };

struct descriptor {
	uint32_t opts1, opts2; /* little-endian */
	uint64_t address;
};

#define DESC_OWN UINT32_C(0x80000000) /* the chip's */
#define DESC_EOR UINT32_C(0x40000000) /* the ring's last */
#define DESC_FS	 UINT32_C(0x20000000) /* first of a frame */
#define DESC_LS	 UINT32_C(0x10000000) /* last */

enum {
	/* of a frame to send */
	TX_IPCS = 1 << 18,
	TX_UDPCS = 1 << 17,
	TX_TCPCS = 1 << 16,
	/* and when it was sent */
	TX_UNF = 1 << 25,
	TX_OWC = 1 << 22,
	TX_LNKF = 1 << 21,
	TX_EXC = 1 << 20,
	TX_FAILED = TX_UNF | TX_OWC | TX_LNKF | TX_EXC,

	/* of a frame that has come */
	RX_FAE = 1 << 27,  /* errors: alignment, */
	RX_BOVF = 1 << 22, /* no room in the chip, */
	RX_RWT = 1 << 21,  /* longer than 4096 bytes, */
	RX_RES = 1 << 20,  /* one of them, */
	RX_RUNT = 1 << 19, /* shorter than 64 bytes, */
	RX_CRC = 1 << 18,
	RX_FAILED = RX_FAE | RX_BOVF | RX_RWT | RX_RES | RX_RUNT | RX_CRC,
	RX_PID = 3 << 16, /* IP, with one of these inside */
	RX_PID_TCP = 1 << 16,
	RX_PID_UDP = 2 << 16,
	RX_IPF = 1 << 15, /* checksums that are wrong */
	RX_UDPF = 1 << 14,
	RX_TCPF = 1 << 13,
	RX_LENGTH = 0x1fff, /* with the CRC, 4 bytes */
	CRC = 4,
};

/* What the chip writes for DTCCR, little-endian; aligned to 64. */
struct tally {
	uint64_t tx_ok, rx_ok, tx_er;
	uint32_t rx_er;
	uint16_t miss_pkt, fae;
	uint32_t tx_1_col, tx_m_col;
	uint64_t rx_ok_phy, rx_ok_brd;
	uint32_t rx_ok_mul;
	uint16_t tx_abt, tx_undrn;
};

#endif
