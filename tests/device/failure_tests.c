/* SPDX-License-Identifier: MIT */
/*
 * failure_tests.c - a device that is gone, queues that end, a second process, a killed one
 */
#include "suite.h"
#include "nvme_internal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct wait {
	unsigned int done;
	int status[8];
};

static void on_done(struct dmaland_nvme_request *request, int status)
{
	struct wait *wait = request->context;

	if (wait->done < 8)
		wait->status[wait->done] = status;
	wait->done++;
}

/*
 * Reads, of one block each into DMA memory, and into the application's own: 64 KiB, which are
 * mapped where that can be, and a block at an odd address.
 */
struct reads {
	struct dmaland_nvme_request requests[4];
	struct iovec iov[4];
	struct wait wait;
	dma_addr_t handle;
	char *memory;
};

enum { OWN = 65536, POISON = 0x5c };

static char own[OWN + 8192] __attribute__((aligned(4096)));

static void reads_submit(struct reads *r, struct drive *d)
{
	memset(r, 0, sizeof(*r));
	r->memory = dma_alloc_coherent(d->dev, 65536, &r->handle, GFP_KERNEL);
	assert_non_null(r->memory);
	memset(own, POISON, sizeof(own));
	for (int i = 0; i < 4; i++) {
		r->iov[i] = (struct iovec){r->memory + i * 4096, d->ns.block_size};
		if (i == 2)
			r->iov[i] = (struct iovec){own, OWN};
		if (i == 3)
			r->iov[i] = (struct iovec){own + OWN + 1, d->ns.block_size};
		r->requests[i] = (struct dmaland_nvme_request){.opcode = DMALAND_NVME_READ,
							       .nsid = 1,
							       .block = (uint64_t)i,
							       .blocks = r->iov[i].iov_len /
									 d->ns.block_size,
							       .iov = &r->iov[i],
							       .iov_count = 1,
							       .done = on_done,
							       .context = &r->wait};
		assert_int_equal(dmaland_nvme_submit(d->queue, &r->requests[i]), 0);
	}
}

/* The state that a drive is in when neither bus mastering nor a reset nor CC.EN obeys. */
static void memory_of_a_drive_that_cannot_be_stopped_stays_mapped(void **state)
{
	struct dmaland_streaming_stats stats;
	struct drive d;
	struct reads r;
	static char doorbell[8];
	char said[32];
	uint64_t live;

	(void)state;
	drive_open(&d, device_spec, 0);
	d.queue->sq_doorbell = (struct nvme_doorbell){.reg = doorbell};
	reads_submit(&r, &d);
	stats = streaming_stats(d.dev);
	live = stats.live_mapped + stats.live_bounced;
	assert_true(live > 0);
	d.ctrl->refuse = d.ctrl->cancel = EIO;
	atomic_store(&d.ctrl->state, NVME_GENERATION | NVME_RUNAWAY);
	while (r.wait.done < 4)
		dmaland_nvme_poll(d.queue);
	for (int i = 0; i < 4; i++)
		assert_int_equal(r.wait.status[i], -EIO);
	dmaland_nvme_close(d.ctrl);
	stats = streaming_stats(d.dev);
	assert_int_equal(stats.live_mapped + stats.live_bounced, live);
	dma_free_coherent(d.dev, 65536, r.memory, r.handle);
	dmaland_close(d.dev);
	snprintf(said, sizeof(said), "[mappings=%llu]", (unsigned long long)live);
	assert_non_null(strstr(log_text(), said));
	log_clear();
	for (size_t i = 0; i < sizeof(own); i++)
		assert_int_equal(own[i], POISON);
}

static void requests_under_way_at_close_are_answered_once(void **state)
{
	struct drive d;
	struct reads r;

	(void)state;
	drive_open(&d, device_spec, 0);
	reads_submit(&r, &d);
	dmaland_nvme_close(d.ctrl);
	assert_int_equal(streaming_stats(d.dev).live_mapped, 0);
	assert_int_equal(streaming_stats(d.dev).live_bounced, 0);
	assert_int_equal(r.wait.done, 4);
	for (int i = 0; i < 4; i++)
		assert_true(r.wait.status[i] == -ECANCELED || r.wait.status[i] == 0);
	dma_free_coherent(d.dev, 65536, r.memory, r.handle);
	dmaland_close(d.dev);
	assert_string_equal(log_text(), "");
}

static void requests_under_way_when_a_queue_is_destroyed_are_answered_once(void **state)
{
	struct drive d;
	struct reads r;

	(void)state;
	drive_open(&d, device_spec, 0);
	reads_submit(&r, &d);
	dmaland_nvme_queue_destroy(d.queue);
	assert_int_equal(streaming_stats(d.dev).live_mapped, 0);
	assert_int_equal(streaming_stats(d.dev).live_bounced, 0);
	assert_int_equal(r.wait.done, 4);
	dma_free_coherent(d.dev, 65536, r.memory, r.handle);
	drive_close(&d);
	assert_string_equal(log_text(), "");
}

/* Reads one block over and over, and tells that it has begun; never returns. */
static void child_reads(int ready)
{
	struct dmaland_device *dev = dmaland_open(device_spec, NULL);
	struct dmaland_nvme *ctrl = dev ? dmaland_nvme_open(dev, NULL) : NULL;
	struct dmaland_nvme_queue *queue = ctrl ? dmaland_nvme_queue_create(ctrl, 0, 0) : NULL;
	static char data[4096];

	while (queue && dmaland_nvme_read(queue, 1, 0, 1, data) == 0)
		if (write(ready, "1", 1) != 1)
			break;
	fprintf(stderr, "the child: %s\n", dmaland_last_error());
	_exit(1);
}

static pid_t child_with_drive(int *ready)
{
	int fds[2];
	pid_t child;

	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (child == 0)
		child_reads(fds[1]);
	close(fds[1]);
	*ready = fds[0];
	return child;
}

static void wait_ready(int ready)
{
	char byte;

	assert_int_equal(read(ready, &byte, 1), 1);
}

static void kill_and_reap(pid_t child, int ready)
{
	int status;

	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	close(ready);
}

/* A killed owner's QEMU holds the image for a moment longer, while it dies. */
static struct dmaland_device *open_when_free(void)
{
	struct dmaland_device *dev;

	for (unsigned int i = 0; i < patience(200); i++) {
		dev = dmaland_open(device_spec, NULL);
		if (dev || errno != EBUSY)
			return dev;
		poll(NULL, 0, 10);
	}
	return NULL;
}

static void a_second_process_is_told_that_the_device_is_in_use(void **state)
{
	int ready;
	pid_t child = child_with_drive(&ready);

	(void)state;
	wait_ready(ready);
	errno = 0;
	assert_null(dmaland_open(device_spec, NULL));
	assert_int_equal(errno, EBUSY);
	assert_error_says("another process");
	kill_and_reap(child, ready);
}

static void after_kill_9_in_the_middle_the_drive_starts_again(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		int ready;
		pid_t child = child_with_drive(&ready);
		struct dmaland_device *dev;
		struct drive d;

		wait_ready(ready);
		poll(NULL, 0, i * 7);
		kill_and_reap(child, ready);
		dev = open_when_free();
		if (!dev)
			fail_msg("%s", dmaland_last_error());
		dmaland_close(dev);
		drive_open(&d, device_spec, 0);
		drive_close(&d);
	}
	assert_string_equal(log_text(), "");
}

/* ---- what only QEMU lets us do to a device ---- */

static void when_qemu_is_killed_requests_fail_and_registers_read_all_ones(void **state)
{
	struct drive d;
	struct reads r;
	char *bar;
	int qemu;

	(void)state;
	drive_open(&d, device_spec, 0);
	qemu = only_child();
	assert_true(qemu > 0);
	bar = pci_iomap(d.dev, 0, 0);
	assert_non_null(bar);
	kill(qemu, SIGKILL);
	reads_submit(&r, &d);
	while (r.wait.done < 4)
		dmaland_nvme_poll(d.queue);
	for (int i = 0; i < 4; i++)
		assert_int_equal(r.wait.status[i], -ENODEV);
	assert_int_equal(readl(bar), UINT32_MAX);
	assert_true(readq(bar + 8) == UINT64_MAX);
	assert_false(pci_device_is_present(d.dev));
	dma_free_coherent(d.dev, 65536, r.memory, r.handle);
	drive_close(&d);
	assert_int_equal(only_child(), 0);
	log_clear();
}

static void requests_of_a_device_that_hangs_are_answered(void **state)
{
	char spec[512];
	struct drive d;
	struct reads r;
	int qemu;

	(void)state;
	snprintf(spec, sizeof(spec), "%s,timeout=%u", device_spec, patience(300));
	drive_open(&d, spec, patience(200));
	qemu = only_child();
	assert_true(qemu > 0);
	kill(qemu, SIGSTOP);
	reads_submit(&r, &d);
	while (r.wait.done < 4)
		dmaland_nvme_poll(d.queue);
	for (int i = 0; i < 4; i++)
		assert_true(r.wait.status[i] == -ENODEV || r.wait.status[i] == -ETIMEDOUT);
	assert_int_equal(dmaland_nvme_reset(d.ctrl), -ENODEV);
	assert_error_says("out of service");
	dma_free_coherent(d.dev, 65536, r.memory, r.handle);
	drive_close(&d);
	log_clear();
}

/* A file for QEMU, of a size, that begins with a text. */
static void file_make(char *path, size_t size, const char *text)
{
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* QEMU's blkdebug fails what touches a sector; once=on: the first time. */
static void media_errors_come_in_words_with_their_blocks(void **state)
{
	char image[] = "/tmp/dmaland-image-XXXXXX", faults[] = "/tmp/dmaland-faults-XXXXXX";
	static char data[2 << 20];
	struct dmaland_nvme_stats stats;
	struct drive d;
	char spec[256];

	(void)state;
	file_make(image, 16 << 20, "");
	file_make(faults, 0,
		  "[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\nsector = \"1200\"\n"
		  "[inject-error]\nevent = \"write_aio\"\nerrno = \"5\"\nsector = \"3000\"\n"
		  "[inject-error]\nevent = \"read_aio\"\nerrno = \"5\"\nsector = \"9000\"\n"
		  "once = \"on\"\n");
	snprintf(spec, sizeof(spec), "qemu:nvme,drive=blkdebug:%s:%s,mdts=5", faults, image);
	drive_open(&d, spec, 0);
	assert_int_equal(d.ns.block_size, 512);
	assert_int_equal(dmaland_nvme_read(d.queue, 1, 0, sizeof(data) / 512, data), 0x281);
	/* the command of 128 KiB (MDTS) that it was, of a request for 2 MiB */
	assert_error_says(
		"read of blocks 1024 to 1279 of namespace 1: Unrecovered Read Error (0x281)");
	dmaland_nvme_get_stats(d.ctrl, &stats);
	assert_int_equal(stats.repeated, 5);
	assert_int_equal(dmaland_nvme_write(d.queue, 1, 3000, 1, data), 0x280);
	assert_error_says("write of blocks 3000 to 3000 of namespace 1: Write Fault (0x280)");
	assert_int_equal(dmaland_nvme_read(d.queue, 1, 9000, 1, data), 0); /* at the second try */
	assert_int_equal(dmaland_nvme_write(d.queue, 1, 2999, 1, data), 0);
	drive_close(&d);
	unlink(image);
	unlink(faults);
	assert_string_equal(log_text(), "");
}

static void a_register_access_that_does_not_answer_ends(void **state)
{
	char spec[512];
	struct dmaland_device *dev;
	char *bar;
	int qemu;

	(void)state;
	snprintf(spec, sizeof(spec), "%s,timeout=%u", device_spec, patience(300));
	dev = dmaland_open(spec, NULL);
	if (!dev)
		fail_msg("%s", dmaland_last_error());
	qemu = only_child();
	assert_int_equal(pci_enable_device(dev), 0);
	bar = pci_iomap(dev, 0, 0);
	assert_int_not_equal(readl(bar + 8), UINT32_MAX);
	kill(qemu, SIGSTOP);
	assert_int_equal(readl(bar + 8), UINT32_MAX);
	assert_false(pci_device_is_present(dev));
	dmaland_close(dev);
	log_clear();
}

static void qemu_ends_with_the_program_however_that_ends(void **state)
{
	char path[64], byte;
	int fds[2], status, qemu = 0;
	pid_t child;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (child == 0) {
		if (!dmaland_open(device_spec, NULL))
			_exit(1);
		qemu = only_child();
		if (write(fds[1], &qemu, sizeof(qemu)) != sizeof(qemu))
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &qemu, sizeof(qemu)), sizeof(qemu));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(qemu > 0);
	snprintf(path, sizeof(path), "/proc/%d", qemu);
	for (unsigned int i = 0; i < patience(500) && kill(qemu, 0) == 0; i++) {
		FILE *f;
		char state_letter = '?', line[256];

		/* In a container nobody may reap it: a zombie is an end too. */
		snprintf(path, sizeof(path), "/proc/%d/stat", qemu);
		f = fopen(path, "r");
		if (f && fgets(line, sizeof(line), f))
			sscanf(strrchr(line, ')') + 1, " %c", &state_letter);
		if (f)
			fclose(f);
		if (state_letter == 'Z')
			break;
		poll(NULL, 0, 10);
		assert_true(i < patience(500) - 1);
	}
	assert_int_equal(read(fds[0], &byte, 1), 0); /* nobody has our pipe any more */
	close(fds[0]);
}

static void several_devices_live_in_one_machine_and_see_the_same_memory(void **state)
{
	struct dmaland_device *edu[2];
	struct dmaland_info info;
	dma_addr_t handle;
	char *memory;
	int qemu;

	(void)state;
	for (int i = 0; i < 2; i++) {
		edu[i] = dmaland_open("qemu:edu,machine=pair", NULL);
		if (!edu[i])
			fail_msg("%s", dmaland_last_error());
	}
	qemu = only_child();
	assert_true(qemu > 0);
	memory = dma_alloc_coherent(edu[0], 4096, &handle, GFP_KERNEL);
	assert_non_null(memory);
	assert_true(dmaland_virt_to_dma(edu[1], memory, 4096) == handle);
	dmaland_get_info(edu[1], &info);
	assert_int_equal(info.memory_in_use, 4096);
	dma_free_coherent(edu[0], 4096, memory, handle);
	dmaland_close(edu[0]);
	assert_int_equal(only_child(), qemu);
	assert_true(pci_device_is_present(edu[1]));
	dmaland_close(edu[1]);
	assert_int_equal(only_child(), 0);
	assert_string_equal(log_text(), "");
}

static void specs_that_qemu_refuses_are_explained(void **state)
{
	static const struct {
		const char *spec, *says;
	} cases[] = {
		{"qemu:", "qemu"},
		{"qemu:no-such-model", "no-such-model"},
		{"qemu:nvme,mdts=blue", "mdts"},
		{"qemu:nvme,drive=/no/such/file.img", "/no/such/file.img"},
		{"qemu:edu,colour=blue", "colour"},
		{"qemu:edu,qemu=/no/such/qemu", "/no/such/qemu"},
		{"qemu:edu,ram=tiny", "ram"},
		{"qemu:edu,ram= 64M", "is not a size"},
		{"qemu:edu,ram=+64M", "is not a size"},
		{"qemu:edu,ram=14M", "16M to 63G"},
		{"qemu:edu,ram=17M", "steps of 2M"},
		{"qemu:edu,ram=64G", "16M to 63G"},
		{"qemu:edu,timeout= 5", "is not a time"},
		{"qemu:driver=edu", "no name of a device model"},
		{"qemu:edu,,dma_mask=1", "no name of a device model"},
		{"qemu:edu,timeout=soon", "timeout"},
		{"qemu:edu,open_timeout=soon", "open_timeout=soon"},
		{"qemu:edu,open_timeout=0", "open_timeout=0"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dmaland_device *dev = dmaland_open(cases[i].spec, NULL);

		if (dev)
			fail_msg("'%s' opens", cases[i].spec);
		assert_error_says(cases[i].says);
		assert_int_equal(only_child(), 0);
	}
}

int run_failure_tests(void)
{
	const struct CMUnitTest everywhere[] = {
		cmocka_unit_test(memory_of_a_drive_that_cannot_be_stopped_stays_mapped),
		cmocka_unit_test(requests_under_way_at_close_are_answered_once),
		cmocka_unit_test(requests_under_way_when_a_queue_is_destroyed_are_answered_once),
		cmocka_unit_test(a_second_process_is_told_that_the_device_is_in_use),
		cmocka_unit_test(after_kill_9_in_the_middle_the_drive_starts_again),
	};
	const struct CMUnitTest on_qemu[] = {
		cmocka_unit_test(when_qemu_is_killed_requests_fail_and_registers_read_all_ones),
		cmocka_unit_test(requests_of_a_device_that_hangs_are_answered),
		cmocka_unit_test(media_errors_come_in_words_with_their_blocks),
		cmocka_unit_test(a_register_access_that_does_not_answer_ends),
		cmocka_unit_test(qemu_ends_with_the_program_however_that_ends),
		cmocka_unit_test(several_devices_live_in_one_machine_and_see_the_same_memory),
		cmocka_unit_test(specs_that_qemu_refuses_are_explained),
	};
	int failed = cmocka_run_group_tests_name("failure", everywhere, NULL, NULL);

	if (device_is_on("qemu"))
		failed += cmocka_run_group_tests_name("failure on qemu", on_qemu, NULL, NULL);
	return failed;
}
