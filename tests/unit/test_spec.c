/* SPDX-License-Identifier: MIT */
#include "test.h"

#include <errno.h>

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
		{"qemu:nvme,drive=x.img", "qemu", "nvme", "drive", "x.img", 1},
		{"qemu:nvme,drive=a,,b,,c.img,mdts=0", "qemu", "nvme", "drive", "a,b,c.img", 2},
		{"qemu:nvme,drive=a=b,mdts=0", "qemu", "nvme", "drive", "a=b", 2},
		{"qemu:nvme,drive=", "qemu", "nvme", "drive", "", 1},
		{"soft:", "soft", "", "a", NULL, 0},
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
		{"qemu:nvme,mdts,,id=x", "has a comma", EINVAL},
		{"soft:,bits,,=32", "has a comma", EINVAL},
		{"soft:,bits=32,bits=33", "'bits=' is given twice", EINVAL},
		{"soft:,bits=32,coherent=no,bits=32", "'bits=' is given twice", EINVAL},
		{"soft:,unmap=lazy,unmap=strict", "'unmap=' is given twice", EINVAL},
		{"vfio:ffff:ff:1f.7,lazy_ms=1,lazy_ms=1", "'lazy_ms=' is given twice", EINVAL},
		{"qemu:nvme,drive=a,drive=b", "'drive=' is given twice", EINVAL},
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

static void a_quoted_value_is_one_value_again(void **state)
{
	static const struct {
		const char *value, *quoted;
	} cases[] = {
		{"", ""},	{"disk.img", "disk.img"}, {"a,b.img", "a,,b.img"}, {",", ",,"},
		{",,", ",,,,"}, {"a=b", "a=b"},		  {"x,id=y", "x,,id=y"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[64] = "qemu:nvme,drive=";
		size_t used = strlen(text), length = strlen(cases[i].quoted);
		struct spec spec;

		assert_int_equal(dmaland_spec_quote(NULL, 0, cases[i].value), length);
		assert_int_equal(dmaland_spec_quote(text + used, length + 1, cases[i].value),
				 length);
		assert_string_equal(text + used, cases[i].quoted);
		assert_int_equal(spec_parse(&spec, text), 0);
		assert_int_equal(spec.option_count, 1);
		assert_string_equal(spec_get(&spec, "drive"), cases[i].value);
		spec_fini(&spec);
	}
}

static void a_quoted_value_that_is_too_long_is_cut_off_and_told(void **state)
{
	char text[] = "xxxxxx";

	(void)state;
	assert_int_equal(dmaland_spec_quote(text, 4, "ab,c"), 5);
	assert_string_equal(text, "ab,");
	assert_int_equal(text[4], 'x');
	assert_int_equal(dmaland_spec_quote(text, 1, "ab,c"), 5);
	assert_string_equal(text, "");
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
		cmocka_unit_test(a_spec_that_makes_no_sense_is_refused_in_words),
		cmocka_unit_test(a_quoted_value_is_one_value_again),
		cmocka_unit_test(a_quoted_value_that_is_too_long_is_cut_off_and_told),
		cmocka_unit_test(
			options_of_another_version_are_refused_unless_they_say_nothing_new),
	};

	log_capture();
	return cmocka_run_group_tests_name("spec", tests, NULL, NULL);
}
