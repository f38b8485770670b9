/* SPDX-License-Identifier: MIT */
/*
 * test_bus_error.c - registers that are mapped and then are not there any more
 *
 * The BAR is a file that is made shorter while it is mapped: the kernel answers accesses beyond its
 * end as those to a device that does not decode them, with SIGBUS.
 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/mmio.h"

enum { SIZE = 8192 };

static struct {
	struct pci_function function;
	int file;
	char *registers;
	uint64_t size;
} fake;

static int bar(struct pci_function *f, unsigned int bar, uint64_t *size, void **direct)
{
	(void)f;
	*size = bar == 0 ? fake.size : 0;
	*direct = fake.registers;
	return 0;
}

static const struct pci_function_ops ops = {.bar = bar};

static void decode(bool on)
{
	assert_int_equal(ftruncate(fake.file, on ? SIZE : 0), 0);
}

static int setup(void **state)
{
	fake.file = memfd_create("registers", MFD_CLOEXEC);
	assert_true(fake.file >= 0);
	decode(true);
	fake.size = SIZE;
	fake.registers = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fake.file, 0);
	assert_true(fake.registers != MAP_FAILED);
	fake.function = (struct pci_function){.ops = &ops, .name = "fake"};
	*state = mmio_open(&fake.function, 0, 0);
	assert_ptr_equal(*state, fake.registers);
	return 0;
}

static int teardown(void **state)
{
	mmio_close(&fake.function, *state);
	munmap(fake.registers, SIZE);
	close(fake.file);
	return 0;
}

static void registers_that_are_gone_read_all_ones_and_lose_what_is_written(void **state)
{
	char *window = *state;

	bus_errors_to_library();
	for (int i = 0; i < 3; i++) {
		writeq(0x1122334455667788, window + 8);
		assert_int_equal(readb(window + 9), 0x77);
		assert_int_equal(readw(window + 10), 0x5566);
		decode(false);
		for (int at = 0; at < SIZE; at += 1000) {
			assert_int_equal(readb(window + at), 0xff);
			assert_int_equal(readw(window + at), 0xffff);
			assert_int_equal(readl(window + at), UINT32_MAX);
			assert_true(readq(window + at) == UINT64_MAX);
			writeb(1, window + at);
			writew(1, window + at);
			writel(1, window + at);
			writeq(1, window + at);
			assert_int_equal(readl(window + at), UINT32_MAX);
		}
		decode(true);
		assert_int_equal(readl(window + 8), 0);
		writel(5, window + 4096);
		assert_int_equal(readl(window + 4096), 5);
	}
}

static void *read_and_write(void *window)
{
	uint64_t others = 0;

	for (unsigned int i = 0; i < 20000; i++) {
		uint32_t value = readl((char *)window + 16);

		others += value != 0 && value != 7 && value != UINT32_MAX;
		writel(7, (char *)window + 16);
	}
	return (void *)others;
}

static void registers_come_and_go_under_all_threads(void **state)
{
	pthread_t threads[4];
	void *others;

	bus_errors_to_library();
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, read_and_write, *state), 0);
	for (int i = 0; i < 500; i++)
		decode(i % 2);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], &others), 0);
		assert_null(others);
	}
}

/* ---- in the child of a fork ---- */

static long page_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

static int child_lives_without(char *window, size_t size)
{
	long before;

	bus_errors_to_library();
	before = page_faults();
	mmio_disown(&fake.function);
	for (size_t at = 0; at < size; at += size / 4) {
		if (readl(window + at) != UINT32_MAX)
			return 1;
		writel(1, window + at);
		if (readl(window + at) != UINT32_MAX)
			return 2;
	}
	return page_faults() - before < 1000 ? 0 : 3;
}

/* Registers are not inherited (MADV_DONTFORK); what stands in for them costs nothing. */
static void a_child_reads_all_ones_of_a_bar_of_any_size(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	fake.size = UINT64_C(4) << 30;
	fake.registers = mmap(NULL, fake.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(fake.registers != MAP_FAILED);
	assert_int_equal(madvise(fake.registers, fake.size, MADV_DONTFORK), 0);
	fake.function = (struct pci_function){.ops = &ops, .name = "fake"};
	assert_ptr_equal(mmio_open(&fake.function, 0, 0), fake.registers);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(child_lives_without(fake.registers, fake.size));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	mmio_close(&fake.function, fake.registers);
	munmap(fake.registers, fake.size);
}

/* ---- SIGBUS of others ---- */

/* How a child ends that does so: its signal, or the status it exits with. */
static int child_ends(void (*act)(void *window), void *window)
{
	const struct rlimit none = {0, 0};
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &none);
		act(window);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

/* What sanitizers set up shall not be what was there before. */
static void take_over(void (*handler)(int))
{
	const struct sigaction action = {.sa_handler = handler};

	assert_int_equal(sigaction(SIGBUS, &action, NULL), 0);
}

static void follow_pointer(void *window)
{
	*(volatile int *)window = 1;
}

static void read_elsewhere(void *window)
{
	mmio_close(&fake.function, window);
	readl(window);
}

static void send_it(void *window)
{
	(void)window;
	kill(getpid(), SIGBUS);
}

/* As the kernel tells of memory that failed before somebody read it. */
static void lose_memory(void *window)
{
	siginfo_t info = {.si_signo = SIGBUS, .si_code = BUS_MCEERR_AO};

	(void)window;
	syscall(SYS_rt_sigqueueinfo, getpid(), SIGBUS, &info);
}

static void exit_3(int signal)
{
	(void)signal;
	_exit(3);
}

/* ---- what the handler from before asked for ---- */

static atomic_int calls, was_blocked, other_was_blocked;

static void note_mask(int signal)
{
	sigset_t mask;

	sigprocmask(SIG_BLOCK, NULL, &mask);
	was_blocked = sigismember(&mask, signal);
	other_was_blocked = sigismember(&mask, SIGUSR1);
	calls++;
}

static void take_over_with(int flags, int masked)
{
	struct sigaction action = {.sa_handler = note_mask, .sa_flags = flags};

	if (masked)
		sigaddset(&action.sa_mask, masked);
	assert_int_equal(sigaction(SIGBUS, &action, NULL), 0);
}

enum { PESTERED = 100 };

struct reader {
	pthread_t thread;
	pid_t id;
	int fd;
};

/* In a call of the kernel: what comes before is no interruption of it. */
static bool is_asleep(pid_t id)
{
	char path[64], state = '?';
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)id);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%*d (%*[^)]) %c", &state), 1);
	fclose(file);
	return state == 'S';
}

/* Something to read comes after so many signals. */
static void *pester(void *context)
{
	const struct reader *reader = context;

	while (!is_asleep(reader->id))
		sched_yield();
	for (int seen = 0; seen < PESTERED; seen = calls)
		pthread_kill(reader->thread, SIGBUS);
	assert_int_equal(write(reader->fd, "x", 1), 1);
	return NULL;
}

/* Does read() come back with EINTR? */
static bool is_interrupted(void)
{
	struct reader reader = {.thread = pthread_self(), .id = gettid()};
	pthread_t thread;
	ssize_t n;
	int fds[2];
	char byte;

	calls = 0;
	assert_int_equal(pipe(fds), 0);
	reader.fd = fds[1];
	assert_int_equal(pthread_create(&thread, NULL, pester, &reader), 0);
	n = read(fds[0], &byte, 1);
	assert_true(n == 1 || errno == EINTR);
	assert_int_equal(pthread_join(thread, NULL), 0);
	close(fds[0]);
	close(fds[1]);
	return n != 1;
}

static void its_flags_are_kept(const char *before, void *window)
{
	raise(SIGBUS);
	assert_int_equal(readl(window), UINT32_MAX);
	assert_int_equal(calls, 1);
#ifndef __SANITIZE_THREAD__ /* which has handlers called with all signals blocked */
	assert_int_equal(was_blocked, strcmp(before, "nodefer") != 0);
	assert_int_equal(other_was_blocked, strcmp(before, "masking") == 0);
#endif
	if (strcmp(before, "once") == 0) {
		assert_int_equal(child_ends(send_it, window), SIGBUS);
		assert_int_equal(child_ends(follow_pointer, window), SIGBUS);
	} else {
		assert_int_equal(child_ends(send_it, window), 0);
		assert_int_equal(is_interrupted(), strcmp(before, "restart") != 0);
	}
}

/* In a process of its own, as the handler is set up once: with what the application had before. */
static void in_process(const char *before)
{
	void *window;

	if (strcmp(before, "default") == 0)
		take_over(SIG_DFL);
	else if (strcmp(before, "ignored") == 0)
		take_over(SIG_IGN);
	else if (strcmp(before, "handled") == 0)
		take_over(exit_3);
	else if (strcmp(before, "masking") == 0)
		take_over_with(0, SIGUSR1);
	else if (strcmp(before, "nodefer") == 0)
		take_over_with(SA_NODEFER, 0);
	else if (strcmp(before, "restart") == 0)
		take_over_with(SA_RESTART, 0);
	else
		take_over_with(SA_RESETHAND, 0);
	setup(&window);
	decode(false);
	assert_int_equal(readl(window), UINT32_MAX);
	if (strcmp(before, "default") == 0) {
		assert_int_equal(child_ends(follow_pointer, window), SIGBUS);
		assert_int_equal(child_ends(read_elsewhere, window), SIGBUS);
		assert_int_equal(child_ends(send_it, window), SIGBUS);
		assert_int_equal(child_ends(lose_memory, window), SIGBUS);
	} else if (strcmp(before, "ignored") == 0) {
		assert_int_equal(child_ends(follow_pointer, window), SIGBUS);
		assert_int_equal(child_ends(send_it, window), 0);
		assert_int_equal(child_ends(lose_memory, window), 0);
	} else if (strcmp(before, "handled") != 0) {
		its_flags_are_kept(before, window);
	} else {
		assert_int_equal(child_ends(follow_pointer, window), -3);
		assert_int_equal(child_ends(read_elsewhere, window), -3);
		assert_int_equal(child_ends(send_it, window), -3);
		assert_int_equal(child_ends(lose_memory, window), -3);
	}
	assert_int_equal(readl(window), UINT32_MAX);
	teardown(&window);
}

static const char *self;

static void any_other_bus_error_goes_where_it_went_before(void **state)
{
	static const char *const before[] = {"default", "ignored", "handled", "masking",
					     "nodefer", "restart", "once"};

	(void)state;
	for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
		pid_t pid = fork();
		int status;

		assert_true(pid >= 0);
		if (pid == 0) {
			execl(self, self, before[i], NULL);
			_exit(127);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (status)
			fail_msg("%s: status 0x%x", before[i], (unsigned int)status);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			registers_that_are_gone_read_all_ones_and_lose_what_is_written, setup,
			teardown),
		cmocka_unit_test_setup_teardown(registers_come_and_go_under_all_threads, setup,
						teardown),
		cmocka_unit_test(a_child_reads_all_ones_of_a_bar_of_any_size),
		cmocka_unit_test(any_other_bus_error_goes_where_it_went_before),
	};

	void *window;

	self = argv[0];
	if (argc > 1) {
		in_process(argv[1]);
		return 0;
	}
	setup(&window); /* the handler comes with the first */
	bus_errors_note();
	teardown(&window);
	return cmocka_run_group_tests_name("bus error", tests, NULL, NULL);
}
