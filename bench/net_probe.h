/* SPDX-License-Identifier: MIT */
/*
 * net_probe.h - the part of bench-net that runs in the VM: instructions per packet, of one contestant after another
 *
 * The contestant's card and the sender's are on one hub. QEMU's model sends, and the other one has received, before the write to the
 * register that tells it to send returns: frames are never waited for.
 *
 *   tx          the contestant sends bursts to nobody's address
 *   rx polled   the sender sends a burst, and the contestant takes what is there; less what the sender's part costs alone
 *   rx sleeps   the same, but that a thread of lower priority sends: each burst wakes the contestant, and the sender goes on when it
 *               sleeps again; less the sender's thread alone. The processor always has work.
 *
 * Interrupts count where they happen, which is in the sender's part as likely as not. What AF_PACKET's last block keeps back is taken
 * later, and not counted.
 */
#ifndef BENCH_NET_PROBE_H
#define BENCH_NET_PROBE_H

#define NET_SIZES 4

extern const unsigned int net_sizes[NET_SIZES];

/* In the VM: `--card CARD SENDER ROUNDS`, CARD a spec of dmaland's or the kernel's interface. -1: not asked. */
int net_probe_answer(int argc, char **argv);

#endif
