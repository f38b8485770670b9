/* SPDX-License-Identifier: MIT */
/*
 * qemu_machine.c - a machine of QEMU with nothing in it but RAM that is ours, and free slots
 *
 * The machine has no guest: its BIOS is ours and halts. It runs all the same, since some device
 * models do their work only while it does. It starts with its first device among QEMU's arguments, as
 * some buses take no devices later; others are plugged at run time. Machines with a name are in a list,
 * where others find them to join, and wait while one starts. The last device to leave ends the machine.
 *
 * Locks: machines.lock, then domain.lock.
 */
#include "backend/qemu_machine.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/mutex.h"
#include "backend/qemu_plug.h"
#include "backend/qemu_refusal.h"

/* Registers lie where QEMU has no RAM. */
#define BARS_FIRST	QEMU_RAM_SPLIT
#define BARS_LAST	UINT64_C(0xfebfffff) /* the I/O APIC begins at 0xfec00000 */
#define BARS_HIGH_FIRST (512 * GIB)	     /* for large 64-bit BARs */
#define BARS_HIGH_LAST	(768 * GIB - 1)

#define BIOS_SIZE	(64 << 10)
#define PROGRAM_DEFAULT "qemu-system-x86_64"
#define CONFIG_ADDRESS	0xcf8 /* PCI 3.0, 3.2.2.3.2 */
#define CONFIG_DATA	0xcfc
#define CONFIG_SPACE	256

static struct {
	pthread_mutex_t lock;
	pthread_cond_t started; /* or it did not */
	struct qemu_machine *first;
} machines = {.lock = PTHREAD_MUTEX_INITIALIZER, .started = PTHREAD_COND_INITIALIZER};

static const struct domain_ops qemu_domain_ops;

/* What a machine starts with. */
struct start {
	const char *label; /* for messages */
	const struct qemu_model *model;
	struct qemu_plugged *plugged;
};

static const char *const part_arguments[] = {
	[QEMU_DRIVE] = "-drive",
	[QEMU_NODE] = "-blockdev",
	[QEMU_NETWORK] = "-netdev",
	[QEMU_DEVICE] = "-device",
};

static struct qemu_machine *machine_of(struct domain *domain)
{
	return (struct qemu_machine *)((char *)domain - offsetof(struct qemu_machine, ram.domain));
}

/* --- start and end -------------------------------------------------------------------------- */

/*
 * The machine's BIOS is empty but for the reset vector, 16 bytes below its end (Intel SDM,
 * volume 3, 10.1.4): `cli; 1: hlt; jmp 1b`.
 */
static int bios_open(void)
{
	static const unsigned char reset[] = {0xfa, 0xf4, 0xeb, 0xfd};
	int fd = file_raise(memfd_create("dmaland-qemu-bios", MFD_CLOEXEC));
	int err;

	if (fd < 0)
		return error_system("cannot make a file in memory for QEMU's BIOS");
	if (ftruncate(fd, BIOS_SIZE) ||
	    pwrite(fd, reset, sizeof(reset), BIOS_SIZE - 16) != (ssize_t)sizeof(reset)) {
		err = error_system("cannot write QEMU's BIOS");
		close(fd);
		return err;
	}
	return fd;
}

/* What QEMU wrote, where it begins with the argument that it refuses: that part's refusal, as an error. */
static int start_refusal(const struct qemu_parts *parts, const char *words)
{
	char argument[32];

	for (unsigned int i = 0; i < parts->n; i++) {
		const struct qemu_part *part = &parts->part[i];
		const char *at;

		snprintf(argument, sizeof(argument), ": %s ", part_arguments[part->kind]);
		for (at = strstr(words, argument); at; at = strstr(at, argument)) {
			at += strlen(argument);
			if (strncmp(at, part->text, part->length) == 0 &&
			    strncmp(at + part->length, ": ", 2) == 0)
				return qemu_refusal_error(at + part->length + 2, part->file);
		}
	}
	return 0;
}

/* Timers that interrupt nobody, and buses that nobody looks at, are left out. */
static int process_start(struct qemu_machine *machine, const struct start *start, const char *path,
			 int bios_fd, int doorbell_fd)
{
	char board[160], ram[160], size[32], bios[32], qtest[32], qmp[32], doorbell[48];
	char complaints[32];
	const char *const board_arguments[] = {
		path,
		"-nodefaults",
		"-no-user-config",
		"-display",
		"none",
		"-accel",
		"tcg",
		"-M",
		board,
		"-m",
		size,
		"-object",
		ram,
		"-bios",
		bios,
		"-chardev",
		qtest,
		"-object",
		"qtest,id=qtest,chardev=qtest,log=none",
		"-chardev",
		qmp,
		"-mon",
		"chardev=qmp,mode=control",
		"-chardev",
		doorbell,
		"-d",
		"guest_errors",
		"-D",
		complaints,
	};
	const struct qemu_parts *parts = &start->plugged->parts;
	size_t n = sizeof(board_arguments) / sizeof(board_arguments[0]);
	const char **arguments = calloc(n + 2 * (size_t)parts->n + 1, sizeof(*arguments));
	char words[2048] = "";
	struct qemu_command command = {
		.name = start->label,
		.path = path,
		.arguments = arguments,
		.timeout = start->model->open_timeout,
		.words = words,
		.words_size = sizeof(words),
		.ram_fd = machine->ram.fd,
		.bios_fd = bios_fd,
		.doorbell_fd = doorbell_fd,
		.listener = {qemu_lines_change, qemu_lines_end, &machine->lines},
		.complain = qemu_complain,
		.complain_context = machine,
	};
	int err, refusal = 0;

	if (!arguments)
		return error_set(ENOMEM, "no memory for a machine of QEMU");
	memcpy(arguments, board_arguments, sizeof(board_arguments));
	for (unsigned int i = 0; i < parts->n; i++) {
		arguments[n++] = part_arguments[parts->part[i].kind];
		arguments[n++] = parts->part[i].text;
	}
	snprintf(board, sizeof(board),
		 "pc,pit=off,hpet=off,usb=off,vmport=off,smm=off,memory-backend=ram,"
		 "max-ram-below-4g=%" PRIu64,
		 QEMU_RAM_SPLIT);
	snprintf(size, sizeof(size), "%" PRIu64 "M", machine->ram.size / MIB);
	snprintf(ram, sizeof(ram),
		 "memory-backend-file,id=ram,size=%" PRIu64 "M,share=on,mem-path=/proc/self/fd/%d",
		 machine->ram.size / MIB, QEMU_FD_RAM);
	snprintf(bios, sizeof(bios), "/proc/self/fd/%d", QEMU_FD_BIOS);
	snprintf(complaints, sizeof(complaints), "/proc/self/fd/%d", QEMU_FD_LOG);
	snprintf(qtest, sizeof(qtest), "socket,id=qtest,fd=%d", QEMU_FD_QTEST);
	snprintf(qmp, sizeof(qmp), "socket,id=qmp,fd=%d", QEMU_FD_QMP);
	snprintf(doorbell, sizeof(doorbell), "socket,id=" QEMU_DOORBELL_CHARDEV ",fd=%d",
		 QEMU_FD_DOORBELL);
	err = qemu_process_start(&machine->process, &command);
	free(arguments);
	if (err)
		refusal = start_refusal(parts, words);
	return refusal ? refusal : err;
}

static int machine_run(struct qemu_machine *machine, const struct start *start)
{
	char *path = qemu_find_program(machine->program);
	int bios = -1, doorbell = -1, err;

	if (!path)
		return -errno;
	err = qemu_doorbell_init(&machine->doorbell, &doorbell);
	if (err)
		goto free_path;
	bios = bios_open();
	err = bios < 0 ? bios : process_start(machine, start, path, bios, doorbell);
	close(doorbell);
	if (bios >= 0)
		close(bios);
	if (err) {
		qemu_complaints_end(&machine->complaints);
		qemu_doorbell_fini(&machine->doorbell);
	}
free_path:
	free(path);
	return err;
}

/* What is not the domain's. */
static void machine_free(struct qemu_machine *machine)
{
	iova_space_destroy(&machine->bars);
	qemu_complaints_fini(&machine->complaints);
	qemu_lines_fini(&machine->lines);
	pthread_mutex_destroy(&machine->command_lock);
	pthread_mutex_destroy(&machine->config_lock);
	free(machine->program);
	free(machine->name);
	free(machine);
}

/* 0 or an error number. */
static int locks_init(struct qemu_machine *machine)
{
	int err = pthread_mutex_init(&machine->config_lock, NULL);

	if (err)
		return err;
	err = pthread_mutex_init(&machine->command_lock, NULL);
	if (err)
		goto config;
	err = qemu_lines_init(&machine->lines);
	if (err)
		goto command;
	err = qemu_complaints_init(&machine->complaints);
	if (!err)
		return 0;
	qemu_lines_fini(&machine->lines);
command:
	pthread_mutex_destroy(&machine->command_lock);
config:
	pthread_mutex_destroy(&machine->config_lock);
	return err;
}

/* A machine in memory, before anything of it is opened. */
static int machine_alloc(const struct qemu_machine_options *options, struct qemu_machine **result)
{
	const char *program = options->program ? options->program : PROGRAM_DEFAULT;
	struct qemu_machine *machine = calloc(1, sizeof(*machine));
	int err = machine ? locks_init(machine) : ENOMEM;

	if (err) {
		free(machine);
		return error_set(err, "cannot make a machine of QEMU: %s", strerror(err));
	}
	iova_space_init(&machine->bars);
	machine->slots = (1u << QEMU_SLOT_FIRST) - 1;
	machine->program = strdup(program);
	machine->name = options->name ? strdup(options->name) : NULL;
	if (!machine->program || (options->name && !machine->name) ||
	    iova_space_add(&machine->bars, BARS_FIRST, BARS_LAST) ||
	    iova_space_add(&machine->bars, BARS_HIGH_FIRST, BARS_HIGH_LAST)) {
		machine_free(machine);
		return error_set(ENOMEM, "no memory for a machine of QEMU");
	}
	*result = machine;
	return 0;
}

/* What is the machine's own stays when it does not start. */
static int machine_start(struct qemu_machine *machine, const struct qemu_machine_options *options,
			 const struct start *start)
{
	int err = qemu_plug_first(machine, start->model, start->plugged);

	if (!err)
		err = qemu_ram_init(&machine->ram, &qemu_domain_ops,
				    options->ram ? options->ram : QEMU_RAM_DEFAULT,
				    options->memory_limit);
	if (!err) {
		err = machine_run(machine, start);
		if (err)
			qemu_ram_fini(&machine->ram);
	}
	if (err) {
		qemu_parts_free(&start->plugged->parts);
		return err;
	}
	machine->ram.domain.devices = 1;
	return 0;
}

static int machine_new(const struct qemu_machine_options *options, const struct start *start,
		       struct qemu_machine **machine)
{
	int err = machine_alloc(options, machine);

	if (err)
		return err;
	err = machine_start(*machine, options, start);
	if (err)
		machine_free(*machine);
	return err;
}

static void machine_destroy(struct domain *domain)
{
	struct qemu_machine *machine = machine_of(domain);

	qemu_process_stop(&machine->process);
	qemu_complaints_end(&machine->complaints);
	qemu_doorbell_fini(&machine->doorbell);
	qemu_ram_fini(&machine->ram);
	machine_free(machine);
}

static const struct domain_ops qemu_domain_ops = {
	.backend = "qemu",
	.provide = qemu_ram_provide,
	.withdraw = qemu_ram_withdraw,
	.destroy = machine_destroy,
};

/* --- joining and leaving -------------------------------------------------------------------- */

/* Does what a spec asks for agree with the machine that is there? */
static int machine_check(const struct qemu_machine *machine,
			 const struct qemu_machine_options *options)
{
	const char *name = machine->name ? machine->name : "(no name)";

	if (options->name && (!machine->name || strcmp(options->name, machine->name)))
		return error_set(EINVAL,
				 "machine=%s was asked, but the device to share with is in machine "
				 "%s: leave machine= out, or share with a device of that machine",
				 options->name, name);
	if (options->ram && options->ram != machine->ram.size)
		return error_set(EINVAL,
				 "ram= asks for %" PRIu64 " MiB, but machine %s runs already and "
				 "has %" PRIu64 " MiB: say the same, or leave ram= out",
				 options->ram / MIB, name, machine->ram.size / MIB);
	if (options->program && strcmp(options->program, machine->program))
		return error_set(EINVAL,
				 "qemu= asks for %s, but machine %s runs already with %s: say the "
				 "same, or leave qemu= out",
				 options->program, name, machine->program);
	return 0;
}

static int machine_enter(struct qemu_machine *machine, const struct qemu_machine_options *options)
{
	int err = machine_check(machine, options);

	if (err)
		return err;
	if (qtest_has_ended(&machine->process.qtest))
		return error_set(ENODEV,
				 "the machine's QEMU has ended: close all of its devices first");
	mutex_lock(&machine->ram.domain.lock);
	machine->ram.domain.devices++;
	mutex_unlock(&machine->ram.domain.lock);
	return 0;
}

static int machine_join_share(const struct qemu_machine_options *options, struct domain *share,
			      struct qemu_machine **machine)
{
	int err;

	if (share->ops != &qemu_domain_ops)
		return error_set(EINVAL,
				 "a device of QEMU can't share memory with one of backend %s: only "
				 "devices of one machine see the same RAM",
				 share->ops->backend);
	err = machine_enter(machine_of(share), options);
	if (!err)
		*machine = machine_of(share);
	return err;
}

/* Nobody can join it by name any more. With the list's lock held. */
static void machine_unlist(struct qemu_machine *machine)
{
	struct qemu_machine **at = &machines.first;

	while (*at && *at != machine)
		at = &(*at)->next;
	if (*at)
		*at = machine->next;
}

/* The machine of this name once it has started; NULL: there is none. With the list's lock held. */
static struct qemu_machine *machine_find(const char *name)
{
	struct qemu_machine *m = machines.first;

	while (m) {
		if (strcmp(m->name, name)) {
			m = m->next;
		} else if (m->starting) {
			pthread_cond_wait(&machines.started, &machines.lock);
			m = machines.first;
		} else {
			break;
		}
	}
	return m;
}

/* Who asks for the same name meanwhile waits; an image may take long to open. */
static int machine_new_listed(const struct qemu_machine_options *options, const struct start *start,
			      struct qemu_machine **machine)
{
	int err = machine_alloc(options, machine);

	if (err)
		return err;
	(*machine)->starting = true;
	(*machine)->next = machines.first;
	machines.first = *machine;
	mutex_unlock(&machines.lock);
	err = machine_start(*machine, options, start);
	mutex_lock(&machines.lock);
	(*machine)->starting = false;
	pthread_cond_broadcast(&machines.started);
	if (err) {
		machine_unlist(*machine);
		machine_free(*machine);
	}
	return err;
}

static int machine_join_name(const struct qemu_machine_options *options, const struct start *start,
			     struct qemu_machine **machine)
{
	int err;

	mutex_lock(&machines.lock);
	*machine = machine_find(options->name);
	err = *machine ? machine_enter(*machine, options)
		       : machine_new_listed(options, start, machine);
	mutex_unlock(&machines.lock);
	return err;
}

int qemu_machine_join(const struct qemu_machine_options *options, struct domain *share,
		      const struct qemu_model *model, struct qemu_machine **machine,
		      struct qemu_plugged *plugged)
{
	const struct start start = {options->label, model, plugged};

	if (share)
		return machine_join_share(options, share, machine);
	if (options->name)
		return machine_join_name(options, &start, machine);
	return machine_new(options, &start, machine);
}

bool qemu_machine_is_last(struct qemu_machine *machine)
{
	bool last;

	mutex_lock(&machines.lock);
	mutex_lock(&machine->ram.domain.lock);
	last = machine->ram.domain.devices == 1;
	mutex_unlock(&machine->ram.domain.lock);
	if (last)
		machine_unlist(machine);
	mutex_unlock(&machines.lock);
	return last;
}

void qemu_machine_leave(struct qemu_machine *machine)
{
	bool last;

	mutex_lock(&machines.lock);
	mutex_lock(&machine->ram.domain.lock);
	last = --machine->ram.domain.devices == 0;
	mutex_unlock(&machine->ram.domain.lock);
	if (last)
		machine_unlist(machine);
	mutex_unlock(&machines.lock);
	if (last)
		machine->ram.domain.ops->destroy(&machine->ram.domain);
}

/* --- configuration space -------------------------------------------------------------------- */

static int config_check(unsigned int where, unsigned int width)
{
	if ((width == 1 || width == 2 || width == 4) && where % width == 0 &&
	    where + width <= CONFIG_SPACE)
		return 0;
	return error_set(EINVAL,
			 "%u bytes at %#x of configuration space were asked; QEMU's machine has %u "
			 "bytes of it, in aligned pieces of 1, 2 or 4",
			 width, where, CONFIG_SPACE);
}

/* Select a dword; the data port comes next. With config_lock held. */
static int config_select(struct qemu_machine *machine, unsigned int slot, unsigned int where,
			 unsigned int timeout)
{
	return qtest_post(&machine->process.qtest, QTEST_PORT, CONFIG_ADDRESS, 4, timeout,
			  UINT32_C(1) << 31 | slot << 11 | (where & ~3u));
}

int qemu_config_read(struct qemu_machine *machine, unsigned int slot, unsigned int where,
		     unsigned int width, unsigned int timeout, uint32_t *value)
{
	uint64_t data = UINT64_MAX;
	int err = config_check(where, width);

	*value = UINT32_MAX;
	if (err)
		return err;
	mutex_lock(&machine->config_lock);
	err = config_select(machine, slot, where, timeout);
	if (!err)
		err = qtest_read(&machine->process.qtest, QTEST_PORT, CONFIG_DATA + where % 4,
				 width, timeout, &data);
	mutex_unlock(&machine->config_lock);
	if (!err)
		*value = (uint32_t)data;
	return err;
}

int qemu_config_write(struct qemu_machine *machine, unsigned int slot, unsigned int where,
		      unsigned int width, unsigned int timeout, uint32_t value)
{
	int err = config_check(where, width);

	if (err)
		return err;
	mutex_lock(&machine->config_lock);
	err = config_select(machine, slot, where, timeout);
	if (!err)
		err = qtest_write(&machine->process.qtest, QTEST_PORT, CONFIG_DATA + where % 4,
				  width, timeout, value);
	mutex_unlock(&machine->config_lock);
	return err;
}

/* Called for each function of the machine. */
void qemu_machine_disown(struct qemu_machine *machine)
{
	struct qemu_process *p = &machine->process;
	int *const files[] = {&p->qtest_fd, &p->qmp_fd, &p->errors, &p->log_fd, &machine->ram.fd};

	qemu_doorbell_disown(&machine->doorbell);

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		if (*files[i] >= 0)
			close(*files[i]);
		*files[i] = -1;
	}
	pthread_mutex_init(&machines.lock, NULL);
	pthread_cond_init(&machines.started, NULL);
	machines.first = NULL;
}
