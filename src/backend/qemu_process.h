/* SPDX-License-Identifier: MIT */
/*
 * qemu_process.h - a QEMU process that never outlives this one
 */
#ifndef BACKEND_QEMU_PROCESS_H
#define BACKEND_QEMU_PROCESS_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

#include "backend/qemu_sockets.h"
#include "backend/qmp.h"
#include "backend/qtest.h"

/* The file descriptors that QEMU finds open, to be named in its arguments. */
enum qemu_fd {
	QEMU_FD_QTEST = 3,
	QEMU_FD_QMP,
	QEMU_FD_RAM,
	QEMU_FD_BIOS,
	QEMU_FD_DOORBELL,
	QEMU_FD_LOG,
	QEMU_FDS
};

struct qemu_process {
	char name[64]; /* in messages */
	struct qtest qtest;
	struct qmp qmp;
	int qtest_fd, qmp_fd;
	int errors; /* a file in memory: what QEMU writes to stderr */
	int log_fd; /* a pipe: the lines of its log */
	void (*complain)(void *context, char *line);
	void *complain_context;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool forked, gone; /* steps of its life; the rest is valid after them */
	bool expected;	   /* that it ends is no news */
	int fork_error;
	pid_t pid;
	int status; /* of waitpid() */
};

/* What to run: path is executable; the files are the caller's. */
struct qemu_command {
	const char *name, *path;
	const char *const *arguments; /* NULL at the end */
	unsigned int timeout; /* ms until it answers: the images of its devices are open then */
	char *words;	      /* where it does not start: what it wrote */
	size_t words_size;
	int ram_fd, bios_fd, doorbell_fd;
	struct qtest_listener listener;
	void (*complain)(void *context, char *line); /* a line of its log; as the listener's */
	void *complain_context;
};

/* Start QEMU and wait until it answers. */
int qemu_process_start(struct qemu_process *p, const struct qemu_command *command);

/* End QEMU, gently first, and free all. */
void qemu_process_stop(struct qemu_process *p);

/* True once QEMU has ended for certain: nothing of it touches memory any more. */
bool qemu_process_is_gone(struct qemu_process *p);

/*
 * qmp_execute(); a monitor that does not answer is QEMU's end. Accesses to
 * registers wait meanwhile, and none of their time passes.
 */
int qemu_process_command(struct qemu_process *p, const char *execute, const char *command,
			 const char **text);

/*
 * qmp_execute() for what may open an image. When timeout ms have passed the sockets that are
 * not among the files are ended: -ETIMEDOUT, and where QEMU then answers it goes on.
 */
int qemu_process_plug(struct qemu_process *p, const char *execute, const char *command,
		      unsigned int timeout, const struct qemu_files *files, const char **text);

/*
 * The file that a program's name means: a path as it is, else found by PATH. To be freed; NULL
 * with the error set.
 */
char *qemu_find_program(const char *name);

#endif
