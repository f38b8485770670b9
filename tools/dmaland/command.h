/* SPDX-License-Identifier: MIT */
/*
 * command.h - what the files of the command `dmaland` share
 *
 *   main.c       finds the command, --help, --version
 *   arguments.c  options and operands of all commands
 *   console.c    messages, sizes in words, signals, reading and writing of files
 *   report.c     tables and facts, as text or JSON
 *   info.c       `info`, on top of pci.c (devices and what stands in their way) and machine.c
 *   bind.c       `bind`, `unbind`, on top of pci.c and inuse.c (who would miss the device; openfiles.c: who has
 *                files of it open)
 *   identify.c   `nvme identify`
 *   read.c       `nvme read`
 *   write.c      `nvme write`
 *   verify.c     `nvme verify`
 *   pattern.c    `nvme test`
 *   confirm.c    a yes before much is lost
 *   erase.c      `nvme zero`, `nvme discard`
 *   format.c     `nvme format`
 *   log.c        `nvme log`
 *   watch.c      `nvme watch`
 *   bench.c      `nvme bench`
 *   passthru.c   `nvme admin`, `nvme io`
 *   pools.c      `pools`
 *   drive.c      a drive opened and closed
 *   transfer.c   blocks of a namespace, many requests in flight
 *   net_*.c      `net info`, `net receive` and so on, a file each, on top of net_card.c (a card opened and closed, frames sent)
 *   pcap.c       frames in files
 *   net_stack.c  what is above Ethernet: lwIP on a card
 *   latency.c    how long they took
 *   progress.c   how far it is, on a terminal
 *
 * A command returns its exit status. What has failed was reported where it failed.
 */
#ifndef COMMAND_H
#define COMMAND_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	STATUS_OK = 0,
	STATUS_FAILED = 1,
	STATUS_USAGE = 2,
	STATUS_SIGNAL = 128,
	STATUS_PIPE = STATUS_SIGNAL + SIGPIPE,
};

/*
 * What a user gave. @given has the letters of the options that were there; those without a short
 * form have a letter too, see arguments.c.
 */
struct arguments {
	char given[32];
	uint64_t nsid, first, blocks, seed, reads, size;
	uint64_t format, block_size, depth, seconds, requests, format_timeout;
	uint64_t opcode, cdw[8], data_len, timeout; /* of a raw command; cdw: 2, 3, 10 to 15; ms */
	uint64_t generate, interval;		    /* bytes of a frame; ms */
	const char *driver, *input, *ip, *echo;
	char **operands;
	int operand_count;
};

/*
 * @name:     one word or two
 * @options:  letters of the options that it takes, besides --help
 * @operands: as in its synopsis
 * @least, @most: operands that it takes; @most below 0: any number
 */
struct command {
	const char *name, *summary, *options, *operands;
	int least, most;
	const char *help;
	int (*run)(const struct arguments *arguments);
};

extern const struct command info_command, bind_command, unbind_command;
extern const struct command nvme_identify_command, nvme_read_command;
extern const struct command nvme_write_command, nvme_verify_command, nvme_test_command;
extern const struct command nvme_zero_command, nvme_discard_command, nvme_format_command;
extern const struct command nvme_log_command, nvme_watch_command, nvme_bench_command;
extern const struct command nvme_admin_command, nvme_io_command;
extern const struct command pools_command;
extern const struct command net_info_command, net_receive_command, net_send_command;
extern const struct command net_ping_command, net_echo_command, net_bench_command;

/* arguments.c: 0; or a status, with the user told */
int arguments_read(struct arguments *arguments, const struct command *command, int argc,
		   char **argv);
bool arguments_have(const struct arguments *arguments, char option);

/* ---- console.c ---- */

/* Say on stderr what failed, without the control characters that names in it may have. Returns STATUS_FAILED. */
int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same with the library's words for it; with CONTEXT and a colon in front unless it is NULL. */
int fail_library(const char *context);

/* From now on all messages of the library go to stderr, not only those that matter. */
void log_show(void);

/* What was asked can't be meant: STATUS_USAGE, with a hint where to read on. */
int usage_error(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* TEXT as a word that can be pasted into a shell; 4 bytes a byte and 4 are enough for it. */
void shell_word(const char *text, char *word, size_t size);

/* A size in words, such as "64 KiB" or "7.5 MiB". */
struct text {
	char text[32];
};
struct text size_text(uint64_t bytes);
struct text rate_text(uint64_t bytes, double seconds);
double seconds_now(void);

/* Signals that ask to end are noted; who waits asks here. 0, or a status above STATUS_SIGNAL. */
void signals_catch(void);
int signals_status(void);

/* All bytes to a file: 0, or a status with the user told. *done: bytes that were written, also then. */
int write_all(int fd, const char *name, const void *data, size_t size, size_t *done);

/* Bytes from a file until SIZE or its end: 0 with *got set, or a status with the user told. */
int read_full(int fd, const char *name, void *data, size_t size, size_t *got);

/* What stdio still holds for stdout goes out; STATUS, or another when that failed. */
int stdout_close(int status);

#endif
