/* SPDX-License-Identifier: MIT */
/*
 * cards.c - two network cards on one hub, in one process: QEMU's in one machine, or those of two specs
 *
 *   cards [PACKETS [SPEC SPEC OTHER]]     each way, in both directions, so many in all; OTHER is a device of another kind
 */
#include "cards.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
	int failed;

	if (argc > 1)
		packets_asked = (unsigned int)atoi(argv[1]);
	if (argc > 4) {
		specs[0] = argv[2];
		specs[1] = argv[3];
		other_spec = argv[4];
	}
	log_capture();
	failed = run_frame_tests() + run_control_tests();
	if (argc <= 4)
		failed += run_process_tests();
	return failed;
}
