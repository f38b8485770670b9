/* SPDX-License-Identifier: MIT */
/*
 * qemu_process.c - a QEMU process that never outlives this one
 *
 * A thread forks QEMU and lives exactly as long as it: the kernel sends PR_SET_PDEATHSIG when
 * the thread that forked ends, so that QEMU dies with us however we end. The same thread receives
 * on the qtest socket and QEMU's log, and when the socket ends for whatever reason, kills QEMU and reaps
 * it. So there is one way to end QEMU: end the socket. Nobody else needs to know its pid.
 *
 *   opener                        thread                         QEMU
 *   qemu_process_start() -------> fork() ----------------------> exec, setsid, PDEATHSIG
 *   qmp_init(): it answers        process_listen() ... end of socket
 *   qemu_process_stop(): quit     kill(), waitpid(), `gone`
 */
#include "backend/qemu_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mutex.h"
#include "backend/deadline.h"
#include "backend/qemu_child.h"

#define COMMAND_TIMEOUT_MS 30000
#define REFUSE_TIMEOUT_MS  2000 /* until QEMU sees that its sockets have ended */
#define REFUSE_AGAIN_MS	   100
#define QUIT_TIMEOUT_MS	   2000
#define KILL_TIMEOUT_MS	   2000
#define ERRORS_MAX	   ((size_t)64 << 10)

/* Lines of QEMU's log as they come. */
struct process_log {
	char text[1024];
	size_t used;
	bool ended;
};

/* How it ended, with the first line that it wrote, if any: why it did not start, or an assert. */
static void end_describe(struct qemu_process *p, char *text, size_t size)
{
	char words[400];
	ssize_t n = pread(p->errors, words, sizeof(words) - 1, 0);

	words[n < 0 ? 0 : n] = '\0';
	words[strcspn(words, "\n")] = '\0';
	if (WIFSIGNALED(p->status))
		snprintf(text, size, "QEMU (process %d) was killed by signal %d%s%s", (int)p->pid,
			 WTERMSIG(p->status), words[0] ? ": " : "", words);
	else
		snprintf(text, size, "QEMU (process %d) ended with status %d%s%s", (int)p->pid,
			 WEXITSTATUS(p->status), words[0] ? ": " : "", words);
}

/* The socket has ended; so does QEMU. A reaper in the application may have been faster. */
static void process_reap(struct qemu_process *p)
{
	char text[sizeof(p->qtest.why)];
	pid_t pid = waitpid(p->pid, &p->status, WNOHANG);
	bool expected;

	if (pid == 0) {
		kill(p->pid, SIGKILL);
		do {
			pid = waitpid(p->pid, &p->status, 0);
		} while (pid < 0 && errno == EINTR);
	}
	end_describe(p, text, sizeof(text));
	qtest_end(&p->qtest, text);

	mutex_lock(&p->lock);
	expected = p->expected;
	mutex_unlock(&p->lock);
	if (!expected)
		log_line(DMALAND_LOG_ERR, "%s: the device is gone: %s", p->name, p->qtest.why);

	mutex_lock(&p->lock);
	p->gone = true;
	pthread_cond_broadcast(&p->changed);
	mutex_unlock(&p->lock);
	p->qtest.listener.end(p->qtest.listener.context);
}

/* Hand on the lines of QEMU's log that are whole; what is left of the last one moves to the front. */
static void log_receive(struct qemu_process *p, struct process_log *log)
{
	ssize_t n = read(p->log_fd, log->text + log->used, sizeof(log->text) - 1 - log->used);
	char *line = log->text, *end;

	if (n <= 0) {
		log->ended = n == 0 || errno != EINTR;
		return;
	}
	log->used += (size_t)n;
	log->text[log->used] = '\0';
	while ((end = strchr(line, '\n'))) {
		*end = '\0';
		p->complain(p->complain_context, line);
		line = end + 1;
	}
	log->used -= (size_t)(line - log->text);
	if (line == log->text && log->used == sizeof(log->text) - 1)
		log->used = 0; /* longer than any line of it: dropped */
	memmove(log->text, line, log->used);
}

static void log_drain(struct qemu_process *p, struct process_log *log)
{
	struct pollfd file = {.fd = p->log_fd, .events = POLLIN};

	while (!log->ended && file_poll(&file, 1, 0) == 1)
		log_receive(p, log);
}

/* Until the socket ends. What QEMU logged before it answered is handed on before the answer. */
static void process_listen(struct qemu_process *p)
{
	struct process_log log = {.used = 0};
	struct pollfd files[] = {{.fd = p->qtest.fd, .events = POLLIN},
				 {.fd = p->log_fd, .events = POLLIN}};

	for (;;) {
		if (file_poll(files, 2, -1) < 0) {
			if (errno != EINTR)
				break;
			continue;
		}
		if (files[1].revents)
			log_drain(p, &log);
		if (log.ended)
			files[1].fd = -1;
		if (files[0].revents && !qtest_receive(&p->qtest))
			break;
	}
	log_drain(p, &log);
}

static void *thread_run(void *argument)
{
	struct qemu_launch *l = argument;
	struct qemu_process *p = l->process;
	pid_t pid = qemu_child_fork(l);

	mutex_lock(&p->lock);
	p->pid = pid;
	p->fork_error = pid < 0 ? errno : 0;
	p->forked = true; /* l is the opener's, and ends with this */
	pthread_cond_broadcast(&p->changed);
	mutex_unlock(&p->lock);
	if (pid < 0)
		return NULL;
	process_listen(p);
	process_reap(p);
	return NULL;
}

/* Signals are the application's: a thread of ours must not be chosen to handle one. */
static int thread_create_quiet(pthread_t *thread, void *(*run)(void *), void *argument)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(thread, NULL, run, argument);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

/* Start the thread, and wait until it has forked. */
static int process_fork(struct qemu_process *p, struct qemu_launch *l)
{
	int err = thread_create_quiet(&p->thread, thread_run, l);

	if (err)
		return error_set(err, "cannot start a thread for QEMU: %s", strerror(err));
	mutex_lock(&p->lock);
	while (!p->forked)
		pthread_cond_wait(&p->changed, &p->lock);
	mutex_unlock(&p->lock);
	if (p->fork_error) {
		pthread_join(p->thread, NULL);
		return error_set(p->fork_error, "cannot fork a process for QEMU: %s",
				 strerror(p->fork_error));
	}
	return 0;
}

/* Wait for its end; true when it has come. */
static bool gone_wait(struct qemu_process *p, unsigned int timeout)
{
	struct timespec deadline = deadline_in(timeout);
	int late = 0;
	bool gone;

	mutex_lock(&p->lock);
	while (!p->gone && !late)
		late = pthread_cond_timedwait(&p->changed, &p->lock, &deadline);
	gone = p->gone;
	mutex_unlock(&p->lock);
	return gone;
}

/* The monitor gave err instead of its greeting: end QEMU, and say why it did not start. */
static int start_error(struct qemu_process *p, int err, const struct qemu_command *command)
{
	int code;
	ssize_t n;

	if (err == -EPIPE)
		gone_wait(p, QUIT_TIMEOUT_MS); /* it is ending by itself: let it tell its status */
	qtest_end(&p->qtest, NULL);
	pthread_join(p->thread, NULL);
	if (err == -ETIMEDOUT)
		return error_set(ETIMEDOUT,
				 "QEMU did not start, open the image and plug the device in within "
				 "%u ms: open_timeout=MS gives it more time",
				 command->timeout);
	if (err != -EPIPE)
		return error_prefix("QEMU did not start");
	if (WIFEXITED(p->status) && WEXITSTATUS(p->status) == QEMU_EXEC_FAILED &&
	    pread(p->errors, &code, sizeof(code), 0) == sizeof(code) && code)
		return error_set(code, "cannot execute %s: %s", command->path, strerror(code));
	n = pread(p->errors, command->words, command->words_size - 1, 0);
	command->words[n < 0 ? 0 : n] = '\0';
	return error_set(EIO, "QEMU did not start: %s", p->qtest.why);
}

/* A file of fixed size: who writes on past its end gets an error, and fills no memory. */
static int errors_open(struct qemu_process *p)
{
	int err;

	p->errors =
		file_raise(memfd_create("dmaland-qemu-stderr", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	if (p->errors < 0)
		return error_system("cannot make a file in memory for QEMU's messages");
	if (ftruncate(p->errors, ERRORS_MAX) ||
	    fcntl(p->errors, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK)) {
		err = error_system("cannot prepare a file in memory for QEMU's messages");
		close(p->errors);
		return err;
	}
	return 0;
}

static int locks_init(struct qemu_process *p)
{
	int err = pthread_mutex_init(&p->lock, NULL);

	if (err)
		return error_set(err, "cannot make a lock for QEMU: %s", strerror(err));
	err = deadline_cond_init(&p->changed);
	if (!err)
		return 0;
	pthread_mutex_destroy(&p->lock);
	return error_set(err, "cannot make a condition for QEMU: %s", strerror(err));
}

static void locks_fini(struct qemu_process *p)
{
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
}

/* With all resources at hand: fork, and wait for the monitor's greeting. */
static int process_run(struct qemu_process *p, const struct qemu_command *command, int qtest_fd,
		       int qmp_fd, int log_fd)
{
	struct qemu_launch l = {
		.process = p,
		.command = command,
		.fds = {-1, -1, p->errors, qtest_fd, qmp_fd, command->ram_fd, command->bios_fd,
			command->doorbell_fd, log_fd},
		.fd_limit = (int)sysconf(_SC_OPEN_MAX),
		.parent = getpid(),
	};
	int err = process_fork(p, &l);

	/* Only QEMU may hold its ends, or their ends would never show. */
	close(qtest_fd);
	close(qmp_fd);
	close(log_fd);
	if (err)
		return err;
	err = qmp_init(&p->qmp, p->qmp_fd, command->timeout);
	if (!err) {
		mutex_lock(&p->lock);
		p->expected = false;
		mutex_unlock(&p->lock);
		return 0;
	}
	return start_error(p, err, command);
}

/* Both ends of what leads to QEMU: ours in pair[0]. */
struct ends {
	int qtest[2], qmp[2], log[2];
};

static void ends_close(struct ends *ends, int side)
{
	const int *const pairs[] = {ends->qtest, ends->qmp, ends->log};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (pairs[i][side] >= 0)
			close(pairs[i][side]);
}

static int ends_open(struct ends *ends)
{
	int err;

	*ends = (struct ends){{-1, -1}, {-1, -1}, {-1, -1}};
	if (file_socketpair(ends->qtest) == 0 && file_socketpair(ends->qmp) == 0 &&
	    file_pipe(ends->log) == 0)
		return 0;
	err = error_system("cannot make a socket to QEMU");
	ends_close(ends, 0);
	ends_close(ends, 1);
	return err;
}

static int process_connect(struct qemu_process *p, const struct qemu_command *command)
{
	struct ends ends;
	int err = ends_open(&ends);

	if (err)
		return err;
	p->qtest_fd = ends.qtest[0];
	p->qmp_fd = ends.qmp[0];
	p->log_fd = ends.log[0];
	p->complain = command->complain;
	p->complain_context = command->complain_context;
	err = qtest_init(&p->qtest, p->qtest_fd, &command->listener);
	if (err) {
		ends_close(&ends, 1);
	} else {
		err = process_run(p, command, ends.qtest[1], ends.qmp[1], ends.log[1]);
		if (!err)
			return 0;
		qtest_fini(&p->qtest);
	}
	ends_close(&ends, 0);
	return err;
}

int qemu_process_start(struct qemu_process *p, const struct qemu_command *command)
{
	int err;

	memset(p, 0, sizeof(*p));
	p->expected = true;
	snprintf(p->name, sizeof(p->name), "%s", command->name);
	err = locks_init(p);
	if (err)
		return err;
	err = errors_open(p);
	if (!err) {
		err = process_connect(p, command);
		if (!err)
			return 0;
		close(p->errors);
	}
	locks_fini(p);
	return err;
}

void qemu_process_stop(struct qemu_process *p)
{
	mutex_lock(&p->lock);
	p->expected = true;
	mutex_unlock(&p->lock);

	if (!qtest_has_ended(&p->qtest) && qmp_quit(&p->qmp) == 0)
		gone_wait(p, QUIT_TIMEOUT_MS);
	qtest_end(&p->qtest, NULL);
	pthread_join(p->thread, NULL);

	qmp_fini(&p->qmp);
	qtest_fini(&p->qtest);
	close(p->qmp_fd);
	close(p->qtest_fd);
	close(p->log_fd);
	close(p->errors);
	locks_fini(p);
}

bool qemu_process_is_gone(struct qemu_process *p)
{
	return qtest_has_ended(&p->qtest) && gone_wait(p, KILL_TIMEOUT_MS);
}

/* After a failure of the monitor nothing that it says can be trusted to belong to a question. */
static int monitor_result(struct qemu_process *p, int err)
{
	if (!err || err == -ENOMEM || err == -EINVAL || err == -EILSEQ)
		return err;
	if (err != -EPIPE) {
		qtest_end(&p->qtest, error_last());
		return err;
	}
	/* It is ending by itself, and its thread knows better why. */
	gone_wait(p, KILL_TIMEOUT_MS);
	qtest_end(&p->qtest, error_last());
	return error_set(ENODEV, "%s", p->qtest.why);
}

int qemu_process_command(struct qemu_process *p, const char *execute, const char *command,
			 const char **text)
{
	int err;

	qtest_pause(&p->qtest);
	err = qmp_execute(&p->qmp, execute, command, COMMAND_TIMEOUT_MS, text);
	qtest_resume(&p->qtest);
	return monitor_result(p, err);
}

/* Time is up: does QEMU answer once its new sockets have ended? It may open others until it does. */
static bool plug_refuse(struct qemu_process *p, const struct qemu_files *files)
{
	struct timespec deadline = deadline_in(REFUSE_TIMEOUT_MS);
	const char *text;
	int err;

	do {
		qemu_sockets_end(p->pid, files);
		err = qmp_answer(&p->qmp, REFUSE_AGAIN_MS, &text);
	} while (err == -ETIMEDOUT && deadline_left(&deadline));
	return !err || err == -EINVAL;
}

int qemu_process_plug(struct qemu_process *p, const char *execute, const char *command,
		      unsigned int timeout, const struct qemu_files *files, const char **text)
{
	bool goes_on;
	int err;

	qtest_pause(&p->qtest);
	err = qmp_execute(&p->qmp, execute, command, timeout, text);
	goes_on = err == -ETIMEDOUT && plug_refuse(p, files);
	qtest_resume(&p->qtest);
	if (err != -ETIMEDOUT)
		return monitor_result(p, err);
	error_set(ETIMEDOUT,
		  "QEMU did not open the image and plug the device in within %u ms: "
		  "open_timeout=MS gives it more time",
		  timeout);
	return goes_on ? -ETIMEDOUT : monitor_result(p, -ETIMEDOUT);
}
