/* SPDX-License-Identifier: MIT */
/*
 * bus_error.c - the handler of SIGBUS
 *
 * It is set up with the first window of mapped registers, and stays. A signal that is not ours goes
 * where it would have gone: to the handler that was there before, or to the default, which is the end.
 * That handler finds what it asked sigaction() for: ours has its mask and flags, which the kernel
 * keeps, but for SA_RESETHAND, which would end ours with the first register that is gone.
 * An application that sets a handler up later gets ours from sigaction() and has to do the same.
 */
#include "backend/bus_error.h"

#ifdef __x86_64__

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>
#include <unistd.h>

/* An entry of the section dmaland_accesses; its ends are the linker's. */
struct access {
	int32_t at, after; /* from where they stand */
};

extern const struct access first __asm__("__start_dmaland_accesses")
	__attribute__((visibility("hidden")));
extern const struct access end __asm__("__stop_dmaland_accesses")
	__attribute__((visibility("hidden")));

static struct {
	pthread_once_t once;
	bool (*is_register)(uintptr_t address);
	struct sigaction before;
	bool spent; /* before was for one signal, and had it */
} watch = {.once = PTHREAD_ONCE_INIT};

/* Where it goes on after an access of ours; 0: it is none. */
static uintptr_t access_after(uintptr_t at)
{
	for (const struct access *a = &first; a < &end; a++)
		if ((uintptr_t)&a->at + (uintptr_t)(intptr_t)a->at == at)
			return (uintptr_t)&a->after + (uintptr_t)(intptr_t)a->after;
	return 0;
}

/* Does the handler from before get this one? One that asked for a single signal has it once. */
static bool is_wanted(void)
{
	if (watch.before.sa_handler == SIG_DFL || watch.before.sa_handler == SIG_IGN)
		return false;
	return !(watch.before.sa_flags & SA_RESETHAND) ||
	       !__atomic_exchange_n(&watch.spent, true, __ATOMIC_RELAXED);
}

/*
 * What would have happened without us. An instruction that raised it raises it again; that memory of the
 * process has failed, which no instruction read, the kernel tells once (BUS_MCEERR_AO).
 */
static void hand_on(int signal, siginfo_t *info, void *context)
{
	bool was_sent = info->si_code <= 0 || info->si_code == BUS_MCEERR_AO;

	if (is_wanted()) {
		if (watch.before.sa_flags & SA_SIGINFO)
			watch.before.sa_sigaction(signal, info, context);
		else
			watch.before.sa_handler(signal);
	} else if (watch.before.sa_handler != SIG_IGN || !was_sent) {
		sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
		if (was_sent)
			pthread_kill(pthread_self(), signal); /* somebody's wish, taken late */
	}
}

static void bus_error(int signal, siginfo_t *info, void *context)
{
	ucontext_t *thread = context;
	greg_t *at = &thread->uc_mcontext.gregs[REG_RIP];
	uintptr_t after = info->si_code > 0 ? access_after((uintptr_t)*at) : 0;

	if (after && watch.is_register((uintptr_t)info->si_addr))
		*at = (greg_t)after;
	else
		hand_on(signal, info, context);
}

static void handler_set(void)
{
	struct sigaction action = {.sa_sigaction = bus_error};

	/* It must be known before the first signal can be handed on. */
	sigaction(SIGBUS, NULL, &watch.before);
	action.sa_mask = watch.before.sa_mask;
	action.sa_flags = watch.before.sa_flags & (SA_RESTART | SA_NODEFER | SA_ONSTACK);
	/* what is ignored interrupts no system call */
	if (watch.before.sa_handler == SIG_DFL || watch.before.sa_handler == SIG_IGN)
		action.sa_flags = SA_RESTART | SA_ONSTACK;
	action.sa_flags |= SA_SIGINFO;
	sigaction(SIGBUS, &action, NULL);
}

void bus_error_watch(bool (*is_register)(uintptr_t address))
{
	__atomic_store_n(&watch.is_register, is_register, __ATOMIC_RELAXED);
	pthread_once(&watch.once, handler_set);
}

#else

void bus_error_watch(bool (*is_register)(uintptr_t address))
{
	(void)is_register;
}

#endif
