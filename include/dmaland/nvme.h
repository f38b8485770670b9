/* SPDX-License-Identifier: MIT */
/*
 * nvme.h - an NVMe driver on top of dmaland: library libdmaland-nvme
 *
 * A controller is driven through an open struct dmaland_device. Queues are coherent memory, PRP
 * lists blocks of pools, and the data of requests are handed over by dma_map_sg(): memory of the
 * arena and registered memory is translated, large memory of the application is mapped where it
 * lies, small memory is copied, and all of it where the backend can't map
 * (dmaland_get_streaming_stats() counts). The drive is told where data are by SGLs of their exact length,
 * where it takes them; else by PRPs. Pages that PRPs can't express, since they lie in several
 * pieces or at an address that is no multiple of 4, are gathered by the driver, they alone, in ordinary
 * memory of its own, which is handed over like the application's. With no_syscalls that asks for a
 * copy_below above their bytes. A command of more than 256 pieces goes by PRPs, and, with a drive that wants multiples
 * of 4 in SGLs, one that has others.
 *
 * Numbers in comments refer to the NVM Express Base Specification 2.0.
 */
#ifndef DMALAND_NVME_H
#define DMALAND_NVME_H

#include <stdbool.h>
#include <sys/uio.h>

#include <dmaland/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dmaland_nvme;
struct dmaland_nvme_queue;
struct dmaland_nvme_prepared;
struct nvme_ns;

/**
 * struct dmaland_nvme_options - zeroes are good defaults
 * @size:              sizeof(struct dmaland_nvme_options)
 * @timeout_ms:        how long a command may take, admin commands too; 0: 30,000
 * @max_transfer:      bytes that one command may carry at most, besides the drive's own limit (MDTS);
 *                     0: 2 MiB, whose PRPs fit in one list page. Larger requests are split. (QEMU
 *                     7.2 answers more than 1,024 pages in a command with an internal error)
 * @format_timeout_ms: how long dmaland_nvme_format() may take; 0: 600,000
 * @abort_timeout_ms:  how long a command may take to come back after the drive was asked to abort
 *                     it, and how long that question may take; 0: 5,000
 * @queue_timeout_ms:  how long each command may take that deletes or makes half a queue; 0: 5,000
 * @reset_timeout_ms:  how long a controller may take to become disabled, and to become ready, in a
 *                     reset; 0: as long as it says (CAP.TO)
 * @irq_types:         kinds of interrupts that may be used, PCI_IRQ_* of <dmaland/irq.h>; 0: all
 * @no_sgls:           describe data by PRPs alone, also where the drive takes SGLs: see
 *                     dmaland_nvme_get_namespace() for what that may cost
 * @shutdown_timeout_ms: how long dmaland_nvme_close() lets the drive end its queues (half of it at most) and write
 *                     back what it holds; 0: as long as it says (RTD3E), but 60,000 at most, and 5,000
 *                     where it does not say
 *
 * See dmaland_nvme_poll() for how the time-outs follow on one another.
 */
struct dmaland_nvme_options {
	size_t size;
	unsigned int timeout_ms;
	size_t max_transfer;
	unsigned int format_timeout_ms;
	unsigned int abort_timeout_ms, queue_timeout_ms, reset_timeout_ms;
	unsigned int irq_types;
	bool no_sgls;
	unsigned int shutdown_timeout_ms;
};

/**
 * dmaland_nvme_open() - reset and enable the controller
 * @dev:     the device; stays the caller's, and must outlive the controller
 * @options: or NULL
 *
 * The device's masks are set, and the limits of its mappings: dma_set_min_align_mask() of a
 * controller page, dma_set_max_seg_size() and dma_set_seg_boundary() as wide as can be.
 *
 * Context: one thread a controller until it returns; makes system calls.
 * Return: the controller, or NULL with errno set and dmaland_last_error() in words.
 */
struct dmaland_nvme *dmaland_nvme_open(struct dmaland_device *dev,
				       const struct dmaland_nvme_options *options);

/**
 * dmaland_nvme_close() - shut the drive down and free all; NULL does nothing
 *
 * Requests under way get up to a second to complete; then they are answered with -ECANCELED, once
 * the drive can't reach their memory any more. Those that wait for a slot are not begun. Queues that
 * were not destroyed are destroyed. Bus mastering and memory decoding are turned off; the device can
 * be opened again. Of a drive that can't be stopped, what it was given stays allocated, and what is
 * mapped for it stays mapped, until the device is closed or longer. The drive is waited for asleep: after
 * the requests for shutdown_timeout_ms at most until it is shut down, and for reset_timeout_ms until it is
 * disabled; one that fails at that is reset.
 *
 * Context: no other thread may use the controller or its queues any more; not from done().
 */
void dmaland_nvme_close(struct dmaland_nvme *ctrl);

/**
 * struct dmaland_nvme_info - what the controller says of itself
 * @serial, @model, @firmware: Identify Controller, without the padding
 * @version:         VS register: major << 16 | minor << 8 | tertiary
 * @namespaces:      NN, the highest namespace id
 * @page_size:       bytes of a controller page (CC.MPS)
 * @max_transfer:    bytes one command may carry: MDTS and the option
 * @max_queue_depth: commands that an I/O queue can hold
 * @max_queues:      I/O queue pairs that the drive gives us; 0 where it refuses to, and only
 *                   identify, logs and the like are to be had
 * @commands:        which commands the drive has: bit 1 << opcode (enum dmaland_nvme_opcode)
 * @can_format:      it has Format NVM
 * @error_entries:   how many entries its error log has
 * @sgls:            it takes SGLs, and they are used
 * @shadow_doorbells: it looks for doorbells in memory (Doorbell Buffer Config), and is rung only where it asks for it. A
 *                   drive that forgets to ask is rung half a second later, by dmaland_nvme_poll()
 */
struct dmaland_nvme_info {
	char serial[21], model[41], firmware[9];
	uint32_t version, namespaces;
	size_t page_size, max_transfer;
	uint32_t max_queue_depth, max_queues;
	uint32_t commands;
	bool can_format;
	uint32_t error_entries;
	bool sgls, shadow_doorbells;
};

/** dmaland_nvme_get_info() - fill @info; known since dmaland_nvme_open(). */
void dmaland_nvme_get_info(struct dmaland_nvme *ctrl, struct dmaland_nvme_info *info);

/**
 * struct dmaland_nvme_stats - what went wrong since the controller was opened
 * @repeated:      commands that were given to the drive again: the drive said that they may be
 *                 (DNR clear), or they were cut off
 * @aborts:        commands that the drive was asked to abort
 * @queues_remade: queues that were deleted and made again (those after a reset are not counted)
 * @resets:        of the controller
 * @ignored:       completions of commands that were not in flight
 */
struct dmaland_nvme_stats {
	uint64_t repeated, aborts, queues_remade, resets, ignored;
};

/** dmaland_nvme_get_stats() - fill @stats. Context: any thread. */
void dmaland_nvme_get_stats(struct dmaland_nvme *ctrl, struct dmaland_nvme_stats *stats);

/**
 * dmaland_nvme_reset() - disable the controller and enable it again
 *
 * Commands in flight are dealt with as dmaland_nvme_poll() has it for those that a reset cuts off;
 * each queue is made again when its thread polls.
 *
 * Context: any thread, not from done().
 * Return: 0; or -errno: then the controller is out of service, and can only be closed.
 */
int dmaland_nvme_reset(struct dmaland_nvme *ctrl);

/**
 * dmaland_nvme_identify() - the Identify command (5.17)
 * @cns:  0: namespace, 1: controller, 2: list of active namespaces, ...
 * @nsid: namespace id, where the CNS wants one
 * @data: 4,096 bytes
 *
 * Return: 0, a status above 0, or -errno.
 */
int dmaland_nvme_identify(struct dmaland_nvme *ctrl, unsigned int cns, uint32_t nsid, void *data);

/**
 * struct dmaland_nvme_lba_format - a way in which a namespace can be formatted
 * @block_size:  bytes of a block; 0: the entry is not in use
 * @metadata:    bytes of metadata beside each block
 * @performance: 0 best, 3 degraded: by the drive's own judgement
 */
struct dmaland_nvme_lba_format {
	uint32_t block_size;
	uint16_t metadata;
	uint8_t performance;
};

/* What commands a namespace has (NVMe 2.0, figure 274). Others than these can be used by raw commands alone. */
enum dmaland_nvme_command_set {
	DMALAND_NVME_SET_NVM = 0,
	DMALAND_NVME_SET_ZONED = 2,
};

/**
 * struct dmaland_nvme_namespace - an active namespace
 * @nsid:         its id, from 1
 * @blocks:       how many there are (NSZE); 0 happens
 * @block_size:   bytes of a block
 * @metadata:     bytes of metadata beside each block; only 0 can be read and written
 * @format:       index of the format in use
 * @format_count: how many formats there are
 * @formats:      the formats, for dmaland_nvme_format()
 * @command_set:  enum dmaland_nvme_command_set
 * @zone_blocks:  of a zoned namespace, from a zone's first block to the next one's
 *
 * In a zoned namespace, requests that read are split where zones meet, if the drive wants that. A write or
 * write zeroes lies within a zone, and is as small as a command (info.max_transfer): else it is
 * refused with -EOPNOTSUPP. It begins at the zone's write pointer: else the drive fails it.
 */
struct dmaland_nvme_namespace {
	uint32_t nsid;
	uint64_t blocks;
	uint32_t block_size, metadata;
	unsigned int format, format_count;
	struct dmaland_nvme_lba_format formats[64];
	unsigned int command_set;
	uint64_t zone_blocks;
};

/**
 * dmaland_nvme_get_namespace() - what is known of a namespace; the drive is asked where it is not known
 *
 * Others may use the drive and format a namespace: another controller, another host. What is known is
 * dropped when the drive reports a change, when a command's status hints at one (0x00b, 0x00f, 0x080), after a
 * reset if the drive says something else then, and by dmaland_nvme_rescan(). Where blocks are of
 * another size from then on, requests are refused with -ESTALE until this call has told the application.
 *
 * Between the change and the moment that this process hears of it, requests go to the drive with
 * blocks of the old size, which it takes for blocks of the new one. A drive that takes SGLs
 * (info.sgls) then answers 0x00f, and touches no memory but the request's. Any other may read and write
 * memory behind the request's. Let nobody format a namespace that is in use.
 *
 * Return: 0, or -ENODEV when there is no such active namespace, or -errno.
 */
int dmaland_nvme_get_namespace(struct dmaland_nvme *ctrl, uint32_t nsid,
			       struct dmaland_nvme_namespace *ns);

/**
 * dmaland_nvme_list_namespaces() - the ids of namespaces, ascending
 * @above: only ids above this one; 0: from the first
 * @ids:   where they go
 * @max:   how many fit; 1,024 come at most, so that the next are those above the last
 *
 * These are the active ones, whatever the highest id that the drive claims (info.namespaces). Of a drive
 * that has no such list (before NVMe 1.1, and some later ones) they are all ids up to that, of which
 * dmaland_nvme_get_namespace() finds the active.
 *
 * Return: how many; 0 when there are no more; or -errno.
 */
int dmaland_nvme_list_namespaces(struct dmaland_nvme *ctrl, uint32_t above, uint32_t *ids,
				 unsigned int max);

/**
 * dmaland_nvme_rescan() - ask the drive again about the namespaces that are known
 *
 * Context: any thread; makes admin commands, and waits for them.
 * Return: how many have changed or are gone; or -errno.
 */
int dmaland_nvme_rescan(struct dmaland_nvme *ctrl);

/**
 * struct dmaland_nvme_event - what the drive reported unasked (5.2.1)
 * @type:   of the event: 0 error, 1 health, 2 notice, 6 of a command set, 7 the vendor's
 * @info:   what happened, in numbers of its type
 * @page:   the log page that says more; the driver has read it, which lets the drive report again
 * @nsid:   of a namespace that has changed; 0xffffffff: of more than the drive can list; else 0
 * @missed: how many events before this one were dropped, since nobody took them
 */
struct dmaland_nvme_event {
	uint8_t type, info, page;
	uint32_t nsid;
	uint64_t missed;
};

/**
 * dmaland_nvme_event() - take the oldest event
 * @event: where it goes
 *
 * The drive always has requests to report: namespaces that change, its health, errors of its own, new
 * firmware. They are looked at about twice a second by whoever polls a queue, and here. One that the
 * drive fails is given again half a second later, after a minute at most if it goes on failing
 * them; that is logged once. Only a drive that knows no such command (status 0x001) has none, until a
 * reset. Up to 64 events are kept.
 *
 * Context: any thread, not from done(); makes admin commands when there is something new. It does not wait
 * for an event.
 * Return: 1; 0: there is none; or -errno.
 */
int dmaland_nvme_event(struct dmaland_nvme *ctrl, struct dmaland_nvme_event *event);

/**
 * dmaland_nvme_event_text() - an event in words
 *
 * Return: @text, with something like "namespace 1 has changed", cut to @size bytes.
 */
const char *dmaland_nvme_event_text(const struct dmaland_nvme_event *event, char *text,
				    size_t size);

enum dmaland_nvme_format_flags {
	DMALAND_NVME_FORMAT_ERASE = 1,	      /* erase what the user wrote */
	DMALAND_NVME_FORMAT_CRYPTO_ERASE = 2, /* the same by throwing away the key */
	DMALAND_NVME_FORMAT_METADATA = 4,     /* a format with metadata is meant */
};

/**
 * dmaland_nvme_format() - Format NVM (5.14): all data of a namespace are lost
 * @nsid:   namespace, or 0xffffffff for all. A drive that can format only all of them at once
 *          refuses one of several
 * @format: index into the namespace's formats
 * @flags:  enum dmaland_nvme_format_flags
 *
 * Formats with metadata are refused unless @flags has DMALAND_NVME_FORMAT_METADATA, since this
 * driver can't read or write them afterwards. While a namespace is formatted, new requests to it are
 * refused with -EBUSY; those that wait in a queue for a slot are answered with -ESTALE, when the drive
 * has let go of what it has of them. Let the drive have none: one that lets them wait carries them out
 * afterwards, in blocks of the new size, which may be more memory than they have.
 *
 * A drive may let all other commands wait meanwhile, of other namespaces and of the admin queue (the
 * first use of a namespace, making and destroying queues): their time-outs begin once more when the
 * format is over.
 *
 * Context: any thread, one format at a time, others wait; takes options.format_timeout_ms at most.
 * Return: 0, a status above 0, or -errno: -EINVAL (no such format), -EOPNOTSUPP (the drive can't,
 * or metadata), -ENODEV (no such namespace).
 */
int dmaland_nvme_format(struct dmaland_nvme *ctrl, uint32_t nsid, unsigned int format,
			unsigned int flags);

/**
 * dmaland_nvme_get_log() - Get Log Page (5.16)
 * @page:   log page identifier: 1 errors, 2 SMART / health, 3 firmware slots, ...
 * @nsid:   namespace where the page wants one; 0xffffffff: the controller
 * @offset: bytes of the page to leave out, a multiple of 4; only 0 with drives that know no
 *          offsets (LPA bit 2)
 * @data:   where it goes
 * @size:   bytes, a multiple of 4; above 4,096 it takes several commands
 *
 * Return: 0, a status above 0, or -errno.
 */
int dmaland_nvme_get_log(struct dmaland_nvme *ctrl, unsigned int page, uint32_t nsid,
			 uint64_t offset, void *data, size_t size);

/**
 * struct dmaland_nvme_log_page - which log page, and what of it
 * @id:           identifier: 1 errors, 2 SMART / health, ...
 * @lsp:          log specific parameter, 7 bits
 * @lsi:          log specific identifier
 * @retain_event: the event that pointed here is not to come again (RAE)
 * @nsid:         namespace where the page wants one; 0xffffffff: the controller
 * @offset:       as of dmaland_nvme_get_log()
 */
struct dmaland_nvme_log_page {
	uint8_t id, lsp;
	uint16_t lsi;
	bool retain_event;
	uint32_t nsid;
	uint64_t offset;
};

/** dmaland_nvme_get_log_page() - dmaland_nvme_get_log(), of a page that is told more exactly */
int dmaland_nvme_get_log_page(struct dmaland_nvme *ctrl, const struct dmaland_nvme_log_page *page,
			      void *data, size_t size);

/**
 * struct dmaland_nvme_command - a command as the drive is given it (3.3.3.1)
 * @opcode:     of the queue's commands; its bits 1:0 say which way the data go
 * @nsid:       namespace; 0 where the command has none
 * @cdw2, @cdw3, @cdw10, @cdw11, @cdw12, @cdw13, @cdw14, @cdw15: its dwords, in the CPU's byte order
 * @data:       where the data come from or go to
 * @size:       their bytes, a multiple of 4, up to info.max_transfer: as many as the command transfers. A
 *              drive that transfers more may reach beyond them, to the end of their last page
 * @timeout_ms: of an admin command; 0: as others (options.timeout_ms, or format_timeout_ms)
 * @result:     dwords 0 and 1 of what it completed with
 */
struct dmaland_nvme_command {
	uint8_t opcode;
	uint32_t nsid;
	uint32_t cdw2, cdw3, cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
	void *data;
	size_t size;
	unsigned int timeout_ms;
	uint32_t result[2];
};

/**
 * dmaland_nvme_admin() - an admin command that this interface has no call for
 *
 * It is given to the drive once, as it is. Commands about queues, Asynchronous Event Request and Doorbell
 * Buffer Config are the driver's own and refused. After one that changes namespaces the driver asks
 * again about them. One that is late has the controller reset.
 *
 * Context: any thread.
 * Return: 0, a status above 0, or -errno: -EINVAL, -EPERM (the driver's own), -ETIMEDOUT, -ECANCELED (a
 * reset cut it off).
 */
int dmaland_nvme_admin(struct dmaland_nvme *ctrl, struct dmaland_nvme_command *command);

/**
 * struct dmaland_nvme_error - an entry of the error log (5.16.1.2)
 * @count:     of all errors of the drive's life, this one's number
 * @queue:     submission queue; 0 is the admin queue, 0xffff: of no command
 * @command:   command identifier; 0xffff: of no command
 * @status:    as in done(): SCT << 8 | SC
 * @parameter: the byte of the command that was wrong, and its bit << 8; 0xffff: none in particular
 * @nsid:      namespace
 * @block:     the first block that failed, where the command was about blocks
 */
struct dmaland_nvme_error {
	uint64_t count;
	uint16_t queue, command, parameter;
	int status;
	uint32_t nsid;
	uint64_t block;
};

/**
 * dmaland_nvme_get_errors() - the error log, newest first
 * @errors: where the entries go
 * @max:    how many fit
 *
 * Return: how many there are of those that fit; a negative errno. A status of the drive is -EIO.
 */
int dmaland_nvme_get_errors(struct dmaland_nvme *ctrl, struct dmaland_nvme_error *errors,
			    unsigned int max);

/**
 * dmaland_nvme_error_text() - an entry in words
 *
 * Return: @text, with something like "error 17: Unrecovered Read Error (0x281), namespace 1, block
 * 4711, queue 2, command 0x0103", cut to @size bytes.
 */
const char *dmaland_nvme_error_text(const struct dmaland_nvme_error *error, char *text,
				    size_t size);

enum dmaland_nvme_queue_flags {
	DMALAND_NVME_QUEUE_IRQ = 1, /* it can be waited for; else it is polled */
};

/**
 * dmaland_nvme_queue_create() - an I/O queue pair
 * @depth: commands in flight, 1 to max_queue_depth; 0: what suits most, at most 1,023
 * @flags: enum dmaland_nvme_queue_flags
 *
 * A queue belongs to one thread at a time; different queues can be used at the same time. A drive
 * has info.max_queues of them; more are refused with -EBUSY. A queue that can be waited for
 * takes an interrupt vector, of which there are as many as CPUs and one more, or as the drive has.
 * Further queues share them: an interrupt then wakes the threads of all queues of its vector; INTx does so
 * again and again until each of them has polled what is complete. Where there are no interrupts it is
 * refused with -EOPNOTSUPP; so is every queue of a drive that gives none.
 *
 * Return: the queue, or NULL with errno set.
 */
struct dmaland_nvme_queue *dmaland_nvme_queue_create(struct dmaland_nvme *ctrl, unsigned int depth,
						     unsigned int flags);

/**
 * dmaland_nvme_queue_destroy() - end a queue; NULL does nothing
 *
 * Requests under way get up to a second to complete; then they are answered with -ECANCELED. Those
 * that wait for a slot are not begun.
 *
 * Context: the queue's thread, not from done().
 */
void dmaland_nvme_queue_destroy(struct dmaland_nvme_queue *queue);

/*
 * The specification's numbers (NVM Command Set 1.0, 3.2). Flush, write and read every drive has; info.commands
 * tells of the others.
 */
enum dmaland_nvme_opcode {
	DMALAND_NVME_FLUSH = 0,
	DMALAND_NVME_WRITE = 1,
	DMALAND_NVME_READ = 2,
	DMALAND_NVME_COMPARE = 5,      /* with the data given; they differ: 0x285 */
	DMALAND_NVME_WRITE_ZEROES = 8, /* blocks read as zeroes afterwards */
	/*
	 * Dataset Management, deallocate: their content is not needed. Cut where the drive discards
	 * (NPDG and NPDA, else 4 KiB), since many ignore parts of that.
	 */
	DMALAND_NVME_DISCARD = 9,
	DMALAND_NVME_VERIFY = 12, /* the drive reads them, and tells whether it can */
	DMALAND_NVME_RAW = 31,	  /* not a number of theirs: a command as request.raw has it */
};

/* Bits of request.control, which is the upper half of a command's dword 12; others are the specification's. */
enum dmaland_nvme_control {
	DMALAND_NVME_FUA = 1 << 14,	      /* on the medium when it is done */
	DMALAND_NVME_LIMITED_RETRY = 1 << 15, /* the drive does not try for long */
	DMALAND_NVME_DEALLOCATE = 1 << 9, /* write zeroes: by discarding, if that reads as zeroes */
};

/* Statuses that a program may want to tell from others. */
enum dmaland_nvme_status {
	DMALAND_NVME_STATUS_COMPARE_FAILURE = 0x285,
};

/* Where in a request's segments something begins: the driver's. */
struct nvme_position {
	size_t segment, offset;
};

/**
 * struct dmaland_nvme_request - a request for an I/O queue; the caller's memory until it is done
 *
 * What is not set is zero.
 *
 * @opcode:    enum dmaland_nvme_opcode
 * @control:   enum dmaland_nvme_control; of each command that it is split into; 0 for flush, discard and raw
 * @nsid:      namespace; of a raw request the command has it
 * @block:     first block
 * @blocks:    how many; any number: what is above the drive's limits is split
 * @iov:       the data of a read, write or compare, in blocks * block_size bytes in all; segments of
 *             any length at any address. They and their memory must stay until the request is done,
 *             and the memory is the drive's until then: with commands in flight its content is not
 *             known. What a drive that answers a read with success leaves alone of it is what was
 *             there before
 * @iov_count: how many segments; 0 for the other opcodes
 * @raw:       of a raw request: the command, which stays as long as the request does. Its data are @iov (its
 *             own @data and @size are not looked at), @blocks is 0. It is one command, and never given to the
 *             drive twice: when it is cut off, it ends with -ECANCELED
 * @done:      called once by dmaland_nvme_poll() (or when the queue ends) with the result: 0, an
 *             NVMe status above 0 (SCT << 8 | SC), or -errno. The request is the caller's again;
 *             done() may submit it or others, but neither wait for the queue nor destroy it, nor
 *             let its thread be cancelled (pthread_setcancelstate())
 * @context:   the caller's
 * @prepared:  NULL, or set by dmaland_nvme_prepare()
 */
struct dmaland_nvme_request {
	uint8_t opcode;
	uint16_t control;
	uint32_t nsid;
	uint64_t block;
	uint64_t blocks;
	const struct iovec *iov;
	int iov_count;
	void (*done)(struct dmaland_nvme_request *request, int status);
	void *context;
	struct dmaland_nvme_command *raw;
	struct dmaland_nvme_prepared *prepared;

	/* the driver's, from submit to done */
	struct {
		struct dmaland_nvme_request *next; /* in the list of those that wait */
		const struct nvme_ns *ns;
		uint64_t left;		 /* blocks to be submitted; 1 for a flush, or raw */
		struct nvme_position at; /* where their data begin */
		unsigned int pending;	 /* commands in flight, and 1 while blocks are left */
		int status;		 /* of the first command that failed ... */
		uint64_t failed_block,
			failed_blocks; /* ... and its blocks; 0: none in particular */
		uint16_t failed_command;
		bool logged;			  /* the drive's error log says more */
		struct dmaland_nvme_queue *queue; /* of a raw request ... */
		void (*done)(struct dmaland_nvme_request *request, int status); /* ... and its */
	} driver;
};

/**
 * dmaland_nvme_submit() - give a request to the drive
 *
 * The drive has been told of it on return; in done(), when dmaland_nvme_poll() has handled all that was complete.
 * When all slots are taken, or memory is short while other requests are under way, the request
 * waits in the queue; dmaland_nvme_poll() goes on with it. The first request to a namespace asks
 * the drive about it, and waits for the answer; so does the first after what was known became stale, see
 * dmaland_nvme_get_namespace().
 *
 * Context: the queue's thread; done() too.
 * Return: 0, or -errno when the request is refused (it is not done() then): -EINVAL, -ERANGE (past
 * the end), -ENODEV (no such namespace, or the drive is gone), -EOPNOTSUPP (metadata, blocks larger
 * than a command may carry, what zones forbid, or a command that the drive does not have), -ENOMEM,
 * -EBUSY (the namespace is being formatted), -ESTALE (somebody else formatted it),
 * -EIO (the controller is out of service), -ECANCELED (the queue is being destroyed); or what
 * dma_map_sg() has against the memory: -EFAULT (it is not there, or read-only and to be read into,
 * or of a file that the kernel won't pin), -EPERM (no_syscalls). What shows when a part of the
 * request is under way already, or when it waited, is what done() is told.
 */
int dmaland_nvme_submit(struct dmaland_nvme_queue *queue, struct dmaland_nvme_request *request);

/**
 * dmaland_nvme_submit_bulk() - give several requests to the drive, and tell it once
 * @requests: the requests, in the order in which the drive is given them
 * @n:        how many
 *
 * Each is submitted as by dmaland_nvme_submit(), and the drive's doorbell is rung once for all.
 *
 * Context: the queue's thread; done() too.
 * Return: how many were submitted. Fewer than @n: requests[that many] was refused, with errno and
 * dmaland_last_error() saying why, and those behind it were not looked at.
 */
unsigned int dmaland_nvme_submit_bulk(struct dmaland_nvme_queue *queue,
				      struct dmaland_nvme_request *const *requests, unsigned int n);

/**
 * dmaland_nvme_prepare() - make a request ready to be submitted many times
 * @request: a read, write or compare that is one command: of info.max_transfer bytes at most
 *
 * Its data are mapped, and checked, and what the drive is told of them is written once; they are the drive's until
 * dmaland_nvme_unprepare(), but where a submission is not under way the CPU may read and write them. It is submitted as any
 * request is, to any queue of the controller, one at a time. Between, @block, @control, @done and @context may be changed;
 * another opcode, nsid, number of blocks or iov is refused with -EINVAL, and so is a copy of the request. The request
 * stays where it is until dmaland_nvme_unprepare() or dmaland_nvme_close(), and so do the data, but not the segments.
 *
 * A change of the namespace, a format of it and a reset of the controller make it stale, and so does a status that hints at a
 * change (0x00b, 0x00f, 0x080), whosever command has it: it is refused with -ESTALE, or answered so if it waited, and nothing of it is sent.
 * Prepare it anew then. One that a reset cuts off is not repeated: a read or compare is answered with -ESTALE, a
 * write as any write (dmaland_nvme_poll()). It is refused with -EALREADY while it is under way. That finds mistakes, and
 * is no way to wait: the request is the caller's again when it is done(). What a drive that answers a read with success leaves alone of the data is what was
 * there before, or what the last read put there.
 *
 * The request is not under way, and no copy of another that is prepared.
 *
 * Context: any thread; may ask the drive about the namespace, and make system calls.
 * Return: 0, or -errno: what dmaland_nvme_submit() refuses; -ECANCELED: the controller is being reset, try again;
 * -EINVAL: another opcode, or more than a command carries; -EALREADY: it is prepared; -EOPNOTSUPP: the data lie where PRPs can't say, so that each transfer would be gathered.
 */
int dmaland_nvme_prepare(struct dmaland_nvme *ctrl, struct dmaland_nvme_request *request);

/**
 * dmaland_nvme_unprepare() - unmap what dmaland_nvme_prepare() has mapped
 *
 * dmaland_nvme_close() does so for all that are left.
 *
 * Context: any thread; done() too, of this request or others. Not before done() was called, where another thread polls.
 * Return: 0; -EBUSY: it is under way, and stays prepared; -EINVAL: it is not prepared, or for another controller.
 */
int dmaland_nvme_unprepare(struct dmaland_nvme *ctrl, struct dmaland_nvme_request *request);

/**
 * dmaland_nvme_poll() - handle what is complete
 *
 * Mostly it does not wait; when the drive has reported something it asks for the log page that says
 * more. A command that the drive fails and says may be tried again (DNR clear) is, up
 * to 5 times. A command that takes longer than options.timeout_ms is dealt with in steps, which this
 * call carries out and waits for:
 *
 * - The drive is asked to abort it. If it comes back aborted: -ETIMEDOUT.
 * - When it does not come back within abort_timeout_ms: its queue is deleted and made again.
 * - When one of the commands for that fails, or takes longer than queue_timeout_ms, or the Abort
 *   command does, or the drive reports a fatal error: the controller is reset, and all its queues
 *   are made again, each when it is polled next.
 * - When the controller does not become disabled and ready within reset_timeout_ms each, or is gone:
 *   it is out of service, and can only be closed. Requests end with -EIO, or -ENODEV.
 *
 * Commands of a queue that was deleted or reset are answered once: with their result if it came; with
 * -ETIMEDOUT those that were late; the others with -ECANCELED if they write (write, write zeroes,
 * discard), since nobody knows whether they were carried out: submit them again, or read. What
 * changes nothing (read, compare, verify, flush) is repeated, or answered with -ESTALE where blocks
 * are not what they were before the reset. Requests that waited for a slot go on.
 * Memory is given back when the drive can't reach it any more.
 *
 * Context: the queue's thread; in done() it does nothing.
 * Return: how many requests were done.
 */
unsigned int dmaland_nvme_poll(struct dmaland_nvme_queue *queue);

/**
 * dmaland_nvme_wait() - sleep until there may be something to poll
 * @queue:      made with DMALAND_NVME_QUEUE_IRQ
 * @timeout_ms: 0: do not sleep; below 0: for as long as it takes
 *
 * It returns when the drive interrupts, and now and then before that, so that commands that are
 * late, and resets, are seen to: call dmaland_nvme_poll() then, and wait again. Interrupts between
 * are not lost.
 *
 * Context: the queue's thread; makes system calls, and is a cancellation point.
 * Return: 1: poll; 0: the time is up, or nothing is under way; -EINTR: a signal came, and nothing is
 * lost; -EINVAL: the queue is polled; or another -errno.
 */
int dmaland_nvme_wait(struct dmaland_nvme_queue *queue, int timeout_ms);

/**
 * dmaland_nvme_queue_fd() - what dmaland_nvme_wait() sleeps on, to wait for other things too
 *
 * When it is readable: dmaland_nvme_wait() with a time-out of 0, which takes the interrupt, then
 * dmaland_nvme_poll(). Poll at least once a second too, for what is late. It may be readable with
 * nothing complete. The queue closes it.
 *
 * Return: a file descriptor to be polled, not read; or -EINVAL when the queue is polled.
 */
int dmaland_nvme_queue_fd(struct dmaland_nvme_queue *queue);

/**
 * dmaland_nvme_request_text() - the result of a request that is done, in words
 *
 * Of a request of many blocks it names those of the command that failed.
 *
 * Return: @text, with something like "read of blocks 96 to 103 of namespace 1: Unrecovered Read Error
 * (0x281)", cut to @size bytes.
 */
const char *dmaland_nvme_request_text(const struct dmaland_nvme_request *request, char *text,
				      size_t size);

/*
 * One request, waited for. @data has blocks * block_size bytes, anywhere. Compare returns
 * DMALAND_NVME_STATUS_COMPARE_FAILURE where the drive holds something else.
 * Return: 0, a status above 0, or -errno with dmaland_last_error() in words for both.
 */
int dmaland_nvme_read(struct dmaland_nvme_queue *queue, uint32_t nsid, uint64_t block,
		      uint64_t blocks, void *data);
int dmaland_nvme_write(struct dmaland_nvme_queue *queue, uint32_t nsid, uint64_t block,
		       uint64_t blocks, const void *data);
int dmaland_nvme_compare(struct dmaland_nvme_queue *queue, uint32_t nsid, uint64_t block,
			 uint64_t blocks, const void *data);
int dmaland_nvme_flush(struct dmaland_nvme_queue *queue, uint32_t nsid);
int dmaland_nvme_write_zeroes(struct dmaland_nvme_queue *queue, uint32_t nsid, uint64_t block,
			      uint64_t blocks);
int dmaland_nvme_discard(struct dmaland_nvme_queue *queue, uint32_t nsid, uint64_t block,
			 uint64_t blocks);
int dmaland_nvme_verify(struct dmaland_nvme_queue *queue, uint32_t nsid, uint64_t block,
			uint64_t blocks);

/**
 * dmaland_nvme_io() - a command to a queue that this interface has no call for, waited for
 *
 * It is given to the drive once, as it is, and has the queue's time-outs; see dmaland_nvme_poll(). A request of
 * DMALAND_NVME_RAW is the same without waiting.
 *
 * Return: as above; -EINVAL for data that no such command can have.
 */
int dmaland_nvme_io(struct dmaland_nvme_queue *queue, struct dmaland_nvme_command *command);

/**
 * dmaland_nvme_status_text() - a result in words
 * @status: 0, an NVMe status, or -errno
 *
 * Return: a string such as "LBA out of Range (0x080)". It stays; but for a code that is not known,
 * and for -errno, until the thread's next call.
 */
const char *dmaland_nvme_status_text(int status);

#ifdef __cplusplus
}
#endif

#endif
