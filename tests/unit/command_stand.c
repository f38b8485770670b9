/* SPDX-License-Identifier: MIT */
#include "command_stand.h"

#include <sys/mman.h>
#include <unistd.h>

#define SPEC "the-drive"

struct soft_nvme soft;
void (*soft_prepare)(void);
struct dmaland_nvme_options opened_with;
char out[8192], err[8192];

static bool soft_is_made;

struct dmaland_device *__real_dmaland_open(const char *spec, const struct dmaland_options *options);
struct dmaland_device *__wrap_dmaland_open(const char *spec, const struct dmaland_options *options);
struct dmaland_device *__wrap_dmaland_open(const char *spec, const struct dmaland_options *options)
{
	struct dmaland_device *dev;

	if (strcmp(spec, SPEC) != 0)
		return __real_dmaland_open(spec, options);
	dev = soft_nvme_open(&soft);
	soft_is_made = true;
	if (soft_prepare)
		soft_prepare();
	return dev;
}

struct dmaland_nvme *__real_dmaland_nvme_open(struct dmaland_device *dev,
					      const struct dmaland_nvme_options *options);
struct dmaland_nvme *__wrap_dmaland_nvme_open(struct dmaland_device *dev,
					      const struct dmaland_nvme_options *options);
struct dmaland_nvme *__wrap_dmaland_nvme_open(struct dmaland_device *dev,
					      const struct dmaland_nvme_options *options)
{
	opened_with = *options;
	return __real_dmaland_nvme_open(dev, options);
}

static void redirect(int fd, int to)
{
	assert_true(dup2(to, fd) >= 0);
	close(to);
}

static void take(int fd, int back, char *text, size_t size)
{
	ssize_t n = pread(fd, text, size - 1, 0);

	assert_true(n >= 0);
	text[n] = '\0';
	redirect(fd, back);
}

static void arguments_make(struct arguments *arguments, const struct command *command,
			   const char *options)
{
	static char text[256];
	static char *argv[32];
	int argc = 0;

	snprintf(text, sizeof(text), "%s %s " SPEC, command->name + strlen("nvme "), options);
	for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
		argv[argc++] = word;
	argv[argc] = NULL;
	assert_int_equal(arguments_read(arguments, command, argc, argv), STATUS_OK);
}

int run(const struct command *command, const char *options)
{
	struct arguments arguments;
	int out_back = dup(STDOUT_FILENO), err_back = dup(STDERR_FILENO), status;

	arguments_make(&arguments, command, options);
	fflush(stdout);
	redirect(STDOUT_FILENO, memfd_create("out", MFD_CLOEXEC));
	redirect(STDERR_FILENO, memfd_create("err", MFD_CLOEXEC));
	status = command->run(&arguments);
	fflush(stdout);
	take(STDOUT_FILENO, out_back, out, sizeof(out));
	take(STDERR_FILENO, err_back, err, sizeof(err));
	if (soft_is_made) {
		assert_int_equal(soft.faults, 0);
		soft_nvme_free(&soft);
		soft_is_made = false;
	}
	return status;
}
