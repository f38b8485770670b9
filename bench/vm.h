/* SPDX-License-Identifier: MIT */
/*
 * vm.h - measuring in the VM, whose clock counts instructions (tests/vm/vm.sh --icount)
 *
 * The benchmark boots it and runs itself there; what it finds it prints as lines of "row NAME VALUE".
 * bench_now() advances 1 ns for each instruction there, of kernel and program alike. What does not show:
 * caches, what a device register costs, waiting for an IOMMU. An instruction that repeats (rep movs)
 * counts once for each time.
 */
#ifndef BENCH_VM_H
#define BENCH_VM_H

#include <stdbool.h>
#include <stddef.h>

#define VM_DRIVE "0000:00:01.0" /* tests/vm/vm.sh: its NVMe drive */

/*
 * Boot it with the script vm_sh and run this program in it. options are the script's and, behind "--",
 * what stands in front of the program's name; arguments are the program's; both end with NULL. False
 * when there is no VM to be had here, with the reason on stderr; what fails in it ends the program.
 */
bool vm_run(const char *vm_sh, const char *const *options, const char *const *arguments,
	    char *answer, size_t size);

/*
 * The same by the script beside it that prepares the guest, guest.sh: command is what it is asked for, append stands in the kernel's
 * command line.
 */
bool vm_run_guest(const char *vm_sh, const char *append, const char *command,
		  const char *const *arguments, char *answer, size_t size);

/* The value of a row in that; NAN when it isn't there. */
double vm_row(const char *answer, const char *name);

/* In the VM: ends the program if the clock does not count instructions. */
void vm_clock_check(void);

#endif
