/* SPDX-License-Identifier: MIT */
#include "test.h"

#include <errno.h>

#include "backend/sysfs.h"
#include "device/device.h"

static void a_spec_is_taken_apart(void **state)
{
	static const struct {
		const char *text, *backend, *address, *key, *value;
		size_t options;
	} cases[] = {
		{"0000:01:00.0", "", "0000:01:00.0", "a", NULL, 0},
		{"01:00.0", "", "0000:01:00.0", "a", NULL, 0},
		{"vfio:0000:01:00.0", "vfio", "0000:01:00.0", "a", NULL, 0},
		{"vfio:01:00.0", "vfio", "0000:01:00.0", "a", NULL, 0},
		{"0000:0A:1F.7", "", "0000:0a:1f.7", "a", NULL, 0},
		{"0A:1F.7", "", "0000:0a:1f.7", "a", NULL, 0},
		{"vfio:1F:1E.0", "vfio", "0000:1f:1e.0", "a", NULL, 0},
		{"qemu:nvme,drive=x.img", "qemu", "nvme", "drive", "x.img", 1},
		{"qemu:nvme,drive=a,,b,,c.img,mdts=0", "qemu", "nvme", "drive", "a,b,c.img", 2},
		{"qemu:nvme,drive=a=b,mdts=0", "qemu", "nvme", "drive", "a=b", 2},
		{"qemu:nvme,drive=", "qemu", "nvme", "drive", "", 1},
		{"soft:", "soft", "", "a", NULL, 0},
		{"qemu:A", "qemu", "A", "a", NULL, 0},
		{"10000:e1:00.0", "", "10000:e1:00.0", "a", NULL, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct spec spec;

		assert_int_equal(spec_parse(&spec, cases[i].text), 0);
		assert_string_equal(spec.backend, cases[i].backend);
		assert_string_equal(spec.address, cases[i].address);
		assert_int_equal(spec.option_count, cases[i].options);
		if (cases[i].value)
			assert_string_equal(spec_get(&spec, cases[i].key), cases[i].value);
		else
			assert_null(spec_get(&spec, cases[i].key));
		spec_fini(&spec);
	}
}

static void a_spec_that_makes_no_sense_is_refused_in_words(void **state)
{
	static const struct {
		const char *text, *says;
		int code;
	} cases[] = {
		{NULL, "empty spec", EINVAL},
		{"", "empty spec", EINVAL},
		{":0000:01:00.0", "no backend", EINVAL},
		{"nvme", "not a PCI address", EINVAL},
		{"0000:01:00", "no backend '0000'", EINVAL},
		{"1:0.0", "no backend '1'", EINVAL},
		{"quantum:nvme", "no backend 'quantum'", EINVAL},
		{"a_backend_with_a_long_name:x", "names no backend", EINVAL},
		{"qemu:nvme,drive", "not key=value", EINVAL},
		{"qemu:nvme,=x", "not key=value", EINVAL},
		{"qemu:nvme,", "not key=value", EINVAL},
		{"vfio:nvme", "not a PCI address", EINVAL},
		{"0000:1f:1f.8", "no backend", EINVAL},
		{"vfio:ffff:ff:1f.7", "no PCI device ffff:ff:1f.7", ENODEV},
		{"ffff:ff:1f.7", "no PCI device ffff:ff:1f.7", ENODEV},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		errno = 0;
		assert_null(dmaland_open(cases[i].text, NULL));
		if (errno != cases[i].code)
			fail_msg("'%s' gives errno %d", cases[i].text, errno);
		assert_error_says(cases[i].says);
	}
}

static void drivers_that_do_no_dma_leave_their_group_to_vfio(void **state)
{
	static const struct {
		const char *driver;
		bool blocks;
	} cases[] = {
		{"", false},	     {"vfio-pci", false}, {"mlx5_vfio_pci", false},
		{"pci-stub", false}, {"pcieport", false}, {"nvme", true},
		{"lpc_ich", true},   {"pci", true},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (sysfs_blocks_group("ffff:ff:1f.7", cases[i].driver) != cases[i].blocks)
			fail_msg("'%s'", cases[i].driver);
}

static void options_of_another_version_are_refused_unless_they_say_nothing_new(void **state)
{
	struct {
		struct dmaland_options known;
		uint64_t later;
	} options = {.known.size = sizeof(options), .later = 1};

	(void)state;
	assert_null(dmaland_open("vfio:ffff:ff:1f.7", &options.known));
	assert_int_equal(errno, EINVAL);
	assert_error_says("older than the program");
	options.later = 0;
	assert_null(dmaland_open("vfio:ffff:ff:1f.7", &options.known));
	assert_error_says("no PCI device");
	options.known.size = 0;
	assert_null(dmaland_open("vfio:ffff:ff:1f.7", &options.known));
	assert_error_says("sizeof(struct dmaland_options)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_spec_is_taken_apart),
		cmocka_unit_test(drivers_that_do_no_dma_leave_their_group_to_vfio),
		cmocka_unit_test(a_spec_that_makes_no_sense_is_refused_in_words),
		cmocka_unit_test(
			options_of_another_version_are_refused_unless_they_say_nothing_new),
	};

	log_capture();
	return cmocka_run_group_tests_name("spec", tests, NULL, NULL);
}
