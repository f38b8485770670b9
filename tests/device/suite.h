/* SPDX-License-Identifier: MIT */
/*
 * suite.h - the one suite that every backend must pass: ./suite SPEC
 *
 * SPEC names any device. On an NVMe drive, whose data may be destroyed, and on the engine of soft:
 * there is more to test.
 */
#ifndef TESTS_DEVICE_SUITE_H
#define TESTS_DEVICE_SUITE_H

#include "test.h"

#include <dmaland/nvme.h>

extern const char *device_spec;

bool device_is_on(const char *backend);
bool device_is_drive(void);

/* The drive, enabled, with a queue; data lie in namespace 1. */
struct drive {
	struct dmaland_device *dev;
	struct dmaland_nvme *ctrl;
	struct dmaland_nvme_queue *queue;
	struct dmaland_nvme_namespace ns;
	struct dmaland_nvme_info info;
};

/* timeout_ms: 0, or of a command; half of it of an abort, four times of a queue's command. */
void drive_open(struct drive *d, const char *spec, unsigned int timeout_ms);

/* Drives are opened to be told by PRPs alone where data are. */
extern bool drive_without_sgls;

/* What the driver mapped is unmapped. */
void drive_close(struct drive *d);

struct dmaland_streaming_stats streaming_stats(struct dmaland_device *dev);

/* Blocks of this pool that are in use. */
struct dmaland_pool_stats pool_stats(struct dmaland_device *dev, const char *name);

/* Each file's tests. */
int run_device_tests(void);
int run_register_tests(void);
int run_transfer_tests(void);
int run_command_tests(void);
int run_recovery_tests(void);
int run_queue_irq_tests(void);
int run_doorbell_tests(void);
int run_failure_tests(void);
int run_engine_tests(void);
int run_fault_tests(void);
int run_soft_tests(void);
int run_share_tests(void);
int run_atomic_tests(void);
int run_fork_tests(void);
int run_cancel_tests(void);
int run_streaming_tests(void);
int run_list_tests(void);
int run_random_list_tests(void);
int run_registered_tests(void);
int run_idle_tests(void);
int run_machine_tests(void);
int run_child_tests(void);

#endif
