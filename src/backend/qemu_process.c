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
 *
 * Between fork and exec only async-signal-safe functions are called: other threads may have held
 * any lock at the moment of the fork.
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
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mutex.h"
#include "backend/deadline.h"

#define COMMAND_TIMEOUT_MS 30000
#define REFUSE_TIMEOUT_MS  2000 /* until QEMU sees that its sockets have ended */
#define REFUSE_AGAIN_MS	   100
#define QUIT_TIMEOUT_MS	   2000
#define KILL_TIMEOUT_MS	   2000
#define ERRORS_MAX	   ((size_t)64 << 10)
#define EXEC_FAILED	   127 /* exit status; errors then holds errno as an int */

/* Lines of QEMU's log as they come. */
struct process_log {
	char text[1024];
	size_t used;
	bool ended;
};

struct launch {
	struct qemu_process *process;
	const struct qemu_command *command;
	int fds[QEMU_FDS]; /* what QEMU finds as 0, 1, 2, ... */
	int fd_limit;
	pid_t parent;
};

static void close_from(int first, int limit)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, first, ~0U, 0) == 0)
		return;
#endif
	for (int fd = first; fd < limit; fd++)
		close(fd);
}

/* For the opener, which looks for it in the file of QEMU's messages. */
static void child_fail(int errors_fd)
{
	int code = errno;

	if (pwrite(errors_fd, &code, sizeof(code), 0) < 0)
		_exit(EXEC_FAILED);
	_exit(EXEC_FAILED);
}

/* Put fds[i] at i. First all go out of the way, so that none is overwritten before its turn. */
static void child_place_fds(struct launch *l)
{
	l->fds[0] = open("/dev/null", O_RDONLY);
	l->fds[1] = open("/dev/null", O_WRONLY);
	for (int i = 0; i < QEMU_FDS; i++) {
		int fd = fcntl(l->fds[i], F_DUPFD_CLOEXEC, QEMU_FDS);

		if (fd < 0)
			child_fail(l->fds[STDERR_FILENO]);
		l->fds[i] = fd;
	}
	for (int i = 0; i < QEMU_FDS; i++)
		if (dup2(l->fds[i], i) < 0)
			child_fail(l->fds[STDERR_FILENO]);
	close_from(QEMU_FDS, l->fd_limit);
}

/* In the child: never returns. A session of its own keeps the terminal's ctrl-C from it. */
static void child_run(struct launch *l)
{
	sigset_t none;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		_exit(EXEC_FAILED);
	if (getppid() != l->parent) /* it ended before the prctl */
		_exit(EXEC_FAILED);
	setsid();
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	child_place_fds(l);
	execv(l->command->path, (char *const *)l->command->arguments);
	child_fail(STDERR_FILENO);
}

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

	while (!log->ended && poll(&file, 1, 0) == 1)
		log_receive(p, log);
}

#define LISTEN_AGAIN_NS 1000000

/* Until the socket ends. What QEMU logged before it answered is handed on before the answer. */
static void process_listen(struct qemu_process *p)
{
	struct process_log log = {.used = 0};
	struct pollfd files[] = {{.fd = p->qtest.fd, .events = POLLIN},
				 {.fd = p->log_fd, .events = POLLIN}};

	for (;;) {
		if (poll(files, 2, -1) < 0) {
			if (errno ==
			    EINVAL) /* poll(2): RLIMIT_NOFILE is below two now; it may be raised again */
				nanosleep(&(struct timespec){.tv_nsec = LISTEN_AGAIN_NS}, NULL);
			else if (errno != EINTR)
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

#ifdef __SANITIZE_THREAD__
/*
 * ThreadSanitizer does not know of _Fork(). Unless it is told, its part of dup2() in the child may wait for good for a lock of its own
 * that another thread held: one start in some thousands. From sanitizer/linux_syscall_hooks.h, which gcc does not install.
 */
void __sanitizer_syscall_pre_impl_fork(void);
void __sanitizer_syscall_post_impl_fork(long result);
#endif

/* The child runs nothing of the program, nor what it has for fork(). */
static pid_t fork_bare(void)
{
	pid_t pid;

#ifdef __SANITIZE_THREAD__
	__sanitizer_syscall_pre_impl_fork();
	pid = _Fork();
	__sanitizer_syscall_post_impl_fork(pid);
#else
	pid = _Fork();
#endif
	return pid;
}

static void *thread_run(void *argument)
{
	struct launch *l = argument;
	struct qemu_process *p = l->process;
	pid_t pid = fork_bare();

	if (pid == 0)
		child_run(l);
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
static int process_fork(struct qemu_process *p, struct launch *l)
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
	if (WIFEXITED(p->status) && WEXITSTATUS(p->status) == EXEC_FAILED &&
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
	struct launch l = {
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

/* The first file of this name in PATH that can be executed. */
static char *path_search(const char *name)
{
	const char *path = getenv("PATH");

	if (!path)
		path = "/usr/local/bin:/usr/bin:/bin";
	while (*path) {
		size_t length = strcspn(path, ":");
		char *file;

		if (asprintf(&file, "%.*s/%s", (int)length, path, name) < 0) {
			errno = ENOMEM;
			return NULL;
		}
		if (length && access(file, X_OK) == 0)
			return file;
		free(file);
		path += length + (path[length] == ':');
	}
	errno = ENOENT;
	return NULL;
}

char *qemu_find_program(const char *name)
{
	char *file;

	if (strchr(name, '/')) {
		if (access(name, X_OK)) {
			error_system("cannot execute %s", name);
			return NULL;
		}
		file = strdup(name);
	} else {
		file = path_search(name);
	}
	if (file)
		return file;
	if (errno != ENOENT)
		error_set(ENOMEM, "no memory for the name of QEMU's program");
	else
		error_set(ENOENT, "%s is not installed: apt-get install qemu-system-x86", name);
	return NULL;
}
