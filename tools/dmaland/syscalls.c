/* SPDX-License-Identifier: MIT */
/*
 * syscalls.c - system calls of this thread, counted by a child that traces it (ptrace(2))
 *
 *   thread   begin: a mark ... what is counted ... end: a mark   read(answer)
 *   child    sees each call as it is entered, the marks too
 *
 * The child makes nothing but system calls: it is a fork of a process that may have threads.
 */
#include "syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a mark writes to no file: nothing else does. */
static const char mark_text[] = "mark";

struct counter {
	pid_t thread;
	int answer;
	long calls;
	unsigned int marked; /* of two */
};

/* The thread entered a system call, or left one. */
static void call_note(struct counter *counter)
{
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, counter->thread, sizeof(info), &info) < 0 ||
	    info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return;
	if (info.entry.nr == SYS_write && info.entry.args[1] == (uintptr_t)mark_text)
		counter->marked++;
	else if (counter->marked == 1)
		counter->calls++;
}

/* Let the thread run to its next stop. False when it is no more. A signal that stopped it goes on to it. */
static bool thread_step(const struct counter *counter, int *status)
{
	int signal = 0;

	if (WSTOPSIG(*status) != (SIGTRAP | 0x80) && *status >> 16 == 0)
		signal = WSTOPSIG(*status);
	return ptrace(PTRACE_SYSCALL, counter->thread, 0, (uintptr_t)signal) == 0 &&
	       waitpid(counter->thread, status, __WALL) == counter->thread && WIFSTOPPED(*status);
}

/* What the child does. It answers twice: that it traces, or why not; and the count. */
static void count(struct counter *counter)
{
	long ready = 0;
	int status;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (ptrace(PTRACE_SEIZE, counter->thread, 0, PTRACE_O_TRACESYSGOOD) < 0 ||
	    ptrace(PTRACE_INTERRUPT, counter->thread, 0, 0) < 0 ||
	    waitpid(counter->thread, &status, __WALL) != counter->thread)
		ready = -errno;
	if (write(counter->answer, &ready, sizeof(ready)) != sizeof(ready) || ready)
		return;
	while (counter->marked < 2 && thread_step(counter, &status))
		if (WSTOPSIG(status) == (SIGTRAP | 0x80))
			call_note(counter);
	if (counter->marked < 2)
		counter->calls = -ESRCH;
	ptrace(PTRACE_DETACH, counter->thread, 0, 0);
	if (write(counter->answer, &counter->calls, sizeof(counter->calls)) < 0)
		return; /* nobody is there any more */
}

static long answer_read(const struct syscalls *syscalls)
{
	long answer;
	ssize_t n;

	do
		n = read(syscalls->answer, &answer, sizeof(answer));
	while (n < 0 && errno == EINTR);
	return n == sizeof(answer) ? answer : -EIO;
}

static void mark(void)
{
	syscall(SYS_write, -1, mark_text, sizeof(mark_text));
}

static void counter_end(const struct syscalls *syscalls)
{
	close(syscalls->answer);
	while (waitpid(syscalls->counter, NULL, 0) < 0 && errno == EINTR)
		;
}

int syscalls_begin(struct syscalls *syscalls)
{
	struct counter counter = {.thread = (pid_t)syscall(SYS_gettid)};
	int answer[2], code;

	if (pipe2(answer, O_CLOEXEC) < 0)
		return -errno;
	counter.answer = answer[1];
	syscalls->counter = fork();
	if (syscalls->counter < 0) {
		code = -errno;
		close(answer[0]);
		close(answer[1]);
		return code;
	}
	if (!syscalls->counter) {
		count(&counter);
		_exit(0);
	}
	prctl(PR_SET_PTRACER, syscalls->counter, 0, 0, 0); /* else Yama may refuse */
	close(answer[1]);
	syscalls->answer = answer[0];
	code = (int)answer_read(syscalls);
	if (code)
		counter_end(syscalls);
	else
		mark();
	return code;
}

long syscalls_end(struct syscalls *syscalls)
{
	long calls;

	mark();
	calls = answer_read(syscalls);
	counter_end(syscalls);
	return calls;
}
