/* SPDX-License-Identifier: MIT */
#include "suite.h"

#include <stdlib.h>
#include <unistd.h>

const char *device_spec;

static struct {
	uint32_t class;
	const char *backend;
} device;

/* What the tests go by. */
static int device_learn(void)
{
	struct dmaland_device *dev = dmaland_open(device_spec, NULL);
	struct dmaland_info info;
	int err;

	if (!dev)
		return -1;
	dmaland_get_info(dev, &info);
	device.backend = info.backend;
	err = pci_read_config_dword(dev, 0x08, &device.class);
	if (!err)
		err = pci_enable_device(dev);
	pci_iomap(dev, 0, 0);
	bus_errors_note();
	dmaland_close(dev);
	return err;
}

bool device_is_on(const char *backend)
{
	return strcmp(device.backend, backend) == 0;
}

bool device_is_drive(void)
{
	return device.class >> 8 == 0x010802;
}

bool drive_without_sgls;

void drive_open(struct drive *d, const char *spec, unsigned int timeout_ms)
{
	const struct dmaland_nvme_options options = {.size = sizeof(options),
						     .timeout_ms = timeout_ms,
						     .abort_timeout_ms = timeout_ms / 2,
						     .queue_timeout_ms = timeout_ms * 4,
						     .no_sgls = drive_without_sgls};

	d->dev = dmaland_open(spec, NULL);
	if (!d->dev)
		fail_msg("%s", dmaland_last_error());
	d->ctrl = dmaland_nvme_open(d->dev, &options);
	if (!d->ctrl)
		fail_msg("%s", dmaland_last_error());
	dmaland_nvme_get_info(d->ctrl, &d->info);
	d->queue = dmaland_nvme_queue_create(d->ctrl, 0, 0);
	if (!d->queue)
		fail_msg("%s", dmaland_last_error());
	if (dmaland_nvme_get_namespace(d->ctrl, 1, &d->ns))
		fail_msg("%s", dmaland_last_error());
}

struct dmaland_streaming_stats streaming_stats(struct dmaland_device *dev)
{
	struct dmaland_streaming_stats stats;

	dmaland_get_streaming_stats(dev, &stats);
	return stats;
}

void drive_close(struct drive *d)
{
	struct dmaland_streaming_stats stats;

	dmaland_nvme_close(d->ctrl);
	stats = streaming_stats(d->dev);
	assert_int_equal(stats.live_mapped + stats.live_bounced, 0);
	assert_int_equal(stats.bad_calls, 0);
	dmaland_close(d->dev);
}

struct dmaland_pool_stats pool_stats(struct dmaland_device *dev, const char *name)
{
	struct dmaland_pool_stats stats[8];
	size_t n = dmaland_get_pools(dev, stats, 8);

	for (size_t i = 0; i < n; i++)
		if (strcmp(stats[i].name, name) == 0)
			return stats[i];
	fail_msg("there is no pool '%s'", name);
	return stats[0];
}

int main(int argc, char **argv)
{
	int failed;

	if (argc < 2) {
		fprintf(stderr,
			"usage: %s SPEC [PATTERN]   (an NVMe drive, whose data are destroyed; or "
			"any other device)\n",
			argv[0]);
		return 2;
	}
	if (argc > 2)
		cmocka_set_test_filter(argv[2]);
	device_spec = argv[1];
	log_capture();
	if (device_learn()) {
		fprintf(stderr, "%s\n", dmaland_last_error());
		return 1;
	}
	failed = run_device_tests() + run_register_tests() + run_atomic_tests() + run_fork_tests() +
		 run_cancel_tests() + run_streaming_tests() + run_list_tests() +
		 run_random_list_tests() + run_registered_tests() + run_idle_tests();
	if (device_is_drive())
		failed += run_transfer_tests() + run_command_tests() + run_recovery_tests() +
			  run_queue_irq_tests() + run_doorbell_tests() + run_failure_tests();
	if (device_is_drive() && device_is_on("qemu"))
		failed += run_machine_tests() + run_child_tests();
	if (device_is_on("soft"))
		failed += run_engine_tests() + run_fault_tests() + run_soft_tests() +
			  run_share_tests();
	return failed;
}
