/* SPDX-License-Identifier: MIT */
/*
 * decode.c - both CPUs sleep and wake while one of them switches a device's decoding off and on: ./decode CONFIG SECONDS
 *
 * Runs in the VM, and tests the VM. Where QEMU runs each CPU in a thread of its own (tcg,thread=multi), each switch is a
 * chance that the other CPU's write to its interrupt controller goes to another device: its timer is never set, or its
 * interrupt never ended, and it wakes no more. See findings/qemu-tcg-decode.sh.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { CPUS = 2, NAP_NS = 200000, PCI_COMMAND = 4, PCI_COMMAND_MEMORY = 2 };

static atomic_ulong naps[CPUS], switches;
static atomic_bool ending;

static void run_on(size_t cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

static void *nap(void *context)
{
	const struct timespec time = {.tv_nsec = NAP_NS};
	size_t cpu = (size_t)(uintptr_t)context;

	run_on(cpu);
	while (!atomic_load(&ending)) {
		nanosleep(&time, NULL);
		atomic_fetch_add(&naps[cpu], 1);
	}
	return NULL;
}

static void *decode(void *context)
{
	int config = *(int *)context;
	uint16_t on, off;

	run_on(0);
	if (pread(config, &on, 2, PCI_COMMAND) != 2)
		return NULL;
	on |= PCI_COMMAND_MEMORY;
	off = (uint16_t)(on & ~PCI_COMMAND_MEMORY);
	while (!atomic_load(&ending) && pwrite(config, &off, 2, PCI_COMMAND) == 2 &&
	       pwrite(config, &on, 2, PCI_COMMAND) == 2)
		atomic_fetch_add(&switches, 2);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[CPUS + 1];
	int config = argc == 3 ? open(argv[1], O_RDWR | O_CLOEXEC) : -1;
	unsigned int seconds = argc == 3 ? (unsigned int)atoi(argv[2]) : 0;
	bool good;

	if (config < 0) {
		fprintf(stderr, "usage: %s CONFIG SECONDS   (a PCI device's in sysfs)\n", argv[0]);
		return 2;
	}
	puts("1..1");
	fflush(stdout);
	for (uintptr_t cpu = 0; cpu < CPUS; cpu++)
		if (pthread_create(&threads[cpu], NULL, nap, (void *)cpu))
			return 1;
	if (pthread_create(&threads[CPUS], NULL, decode, &config))
		return 1;
	sleep(seconds);
	atomic_store(&ending, true);
	for (int i = 0; i < CPUS + 1; i++)
		pthread_join(threads[i], NULL);
	printf("# %lu naps on CPU 0, %lu on CPU 1, decoding switched %lu times\n", naps[0], naps[1],
	       switches);
	good = naps[0] > seconds && naps[1] > seconds && switches > seconds;
	printf("%sok 1 - both CPUs sleep and wake while decoding is switched\n",
	       good ? "" : "not ");
	return !good;
}
