/* SPDX-License-Identifier: MIT */
#include "test.h"

#include <dirent.h>
#include <errno.h>

#include "backend/qemu_parts.h"
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
		{"qemu:nvme,mdts,,id=x", "has a comma", EINVAL},
		{"soft:,bits,,=32", "has a comma", EINVAL},
		{"soft:,bits=32,bits=33", "'bits=' is given twice", EINVAL},
		{"soft:,bits=32,coherent=no,bits=32", "'bits=' is given twice", EINVAL},
		{"soft:,unmap=lazy,unmap=strict", "'unmap=' is given twice", EINVAL},
		{"vfio:ffff:ff:1f.7,lazy_ms=1,lazy_ms=1", "'lazy_ms=' is given twice", EINVAL},
		{"qemu:nvme,drive=a,drive=b", "'drive=' is given twice", EINVAL},
		{"qemu:help", "'help' is no device model", ENODEV},
		{"qemu:edu,help=x", "'help=' is no property", EINVAL},
		{"qemu:edu,id=x", "'id=' can't be set", EINVAL},
		{"qemu:edu,child=", "child= names no device model", EINVAL},
		{"qemu:edu,child=usb-kbd,child=a=b", "child=a=b names no device model", EINVAL},
		{"qemu:edu,child=usb-kbd,,port", "'port' in child=usb-kbd,port is not key=value",
		 EINVAL},
		{"qemu:edu,child=?", "'?' is no device model", ENODEV},
		{"qemu:edu,child={\"driver\": \"}\"", "JSON that does not end", EINVAL},
		{"qemu:edu,child={\"a\": [1]}}", "JSON that goes on behind its end", EINVAL},
		{"qemu:nvme,drive={\"driver\": \"\\\"}\"", "JSON that does not end", EINVAL},
		{"qemu:rtl8139,hub=one", "hub=one is not a hub's number", EINVAL},
		{"qemu:rtl8139,netdev=", "netdev= names no network", EINVAL},
		{"qemu:rtl8139,netdev=help", "netdev=help names no network", EINVAL},
		{"qemu:rtl8139,netdev=,,restrict=on", "names no network", EINVAL},
		{"qemu:rtl8139,netdev=user,,id=x", "'id=' in netdev=user,id=x can't be set",
		 EINVAL},
		{"qemu:rtl8139,netdev={\"type\": \"user\"", "JSON that does not end", EINVAL},
		{"qemu:rtl8139,netdev=user,netdev=user", "'netdev=' is given twice", EINVAL},
		{"qemu:rtl8139,netdev=user,hub=1", "hub= and netdev= are both given", EINVAL},
		{"soft:,child=x", "no option 'child'", EINVAL},
		{"vfio:nvme", "not a PCI address", EINVAL},
		{"0000:1f:1f.8", "no backend", EINVAL},
		{"vfio:ffff:ff:1f.7", "no PCI device ffff:ff:1f.7", ENODEV},
		{"pci:fffe:fffe", "no PCI device fffe:fffe", ENODEV},
		{"pci:FFFE:fffe,index=1", "no PCI device fffe:fffe", ENODEV},
		{"pci:fffe:fffe,index=x", "index=x is not a number", EINVAL},
		{"pci:fffe", "not pci:VENDOR:DEVICE", EINVAL},
		{"pci:fffe:", "not pci:VENDOR:DEVICE", EINVAL},
		{"pci:0fffe:fffe", "not pci:VENDOR:DEVICE", EINVAL},
		{"pci:0x80:86", "not pci:VENDOR:DEVICE", EINVAL},
		{"pci: fffe:fffe", "not pci:VENDOR:DEVICE", EINVAL},
		{"pci:fffe:-1", "not pci:VENDOR:DEVICE", EINVAL},
		{"pci:fffe:fffe,index=-1", "index=-1 is not a number", EINVAL},
		{"pci:fffe:fffe,index=+0", "index=+0 is not a number", EINVAL},
		{"pci:fffe:fffe,index=65536", "index=65536 is not a number", EINVAL},
		{"pci:0000:01:00.0", "not pci:VENDOR:DEVICE", EINVAL},
		{"soft:,\x1b[2J=1", "no option '?[2J'", EINVAL},
		{"soft:,\xc2\x9b\xff\n=1", "no option '??? '", EINVAL},
		{"soft:,index=1", "no option 'index'; there are: bits", EINVAL},
		{"soft:,vf_token=x", "no option 'vf_token'", EINVAL},
		{"vfio:ffff:ff:1f.7,bits=48", "no option 'bits'; there are: vf_token, trusted",
		 EINVAL},
		{"vfio:ffff:ff:1f.7,vf_token=1234", "vf_token=1234 is no UUID", EINVAL},
		{"vfio:ffff:ff:1f.7,vf_token=2ab74924-c335-45f4-9b16-8569e5b0825", "is no UUID",
		 EINVAL},
		{"vfio:ffff:ff:1f.7,vf_token=2ab74924-c335-45f4-9b16-8569e5b082589", "is no UUID",
		 EINVAL},
		{"vfio:ffff:ff:1f.7,vf_token=2AB74924-c335-45f4-9b16-8569e5b08258", "no PCI device",
		 ENODEV},
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

static void a_line_of_the_log_has_no_control_characters(void **state)
{
	(void)state;
	log_clear();
	dmaland_log(DMALAND_LOG_WARN, "a%cb caf\xc3\xa9 \xed\xa0\x80", '\x1b');
	assert_string_equal(log_text(), "a?b caf\xc3\xa9 ???\n");
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

/* The keys that a section of the manual documents, "bits,granule,", as they stand there. */
static void manual_keys(const char *section, char *keys, size_t size)
{
	FILE *manual = fopen(MANUAL, "re");
	bool inside = false;
	char line[512];
	size_t used = 0;

	assert_non_null(manual);
	keys[0] = '\0';
	while (fgets(line, sizeof(line), manual)) {
		const char *end = strstr(line, "*=");

		if (line[0] == '#')
			inside = strncmp(line + 2, section, strlen(section)) == 0 &&
				 line[2 + strlen(section)] == '\n';
		if (inside && line[0] == '*' && end)
			used += (size_t)snprintf(keys + used, size - used, "%.*s,",
						 (int)(end - line - 1), line + 1);
	}
	fclose(manual);
}

/* The parser's table and the manual's section have the same keys; and the parser means them. */
static void assert_keys_documented(const char *section, const char *const *keys, size_t count,
				   const char *spec)
{
	char documented[512], text[128], words[96];

	manual_keys(section, documented, sizeof(documented));
	for (size_t i = 0; i < count; i++) {
		size_t length = (size_t)snprintf(words, sizeof(words), "%s,", keys[i]);
		char *at = strstr(documented, words);

		if (!at || (at != documented && at[-1] != ','))
			fail_msg("in %s of dmaland(7) there is no key '%s'", section, keys[i]);
		memmove(at, at + length, strlen(at + length) + 1);
		if (!spec)
			continue;
		snprintf(text, sizeof(text), "%s,%s=?", spec, keys[i]);
		snprintf(words, sizeof(words), "%s=?", keys[i]);
		assert_null(dmaland_open(text, NULL));
		assert_error_says(words);
	}
	if (documented[0])
		fail_msg("%s of dmaland(7) has keys that there are not: %s", section, documented);
}

static void the_manual_has_every_key_of_every_backend(void **state)
{
	static const char *const sections[] = {"VFIO", "QEMU", "SOFT"};
	static const char *const specs[] = {"vfio:ffff:ff:1f.7", NULL, "soft:"};
	size_t drive_keys = 0;

	(void)state;
	for (size_t i = 0; backends[i]; i++) {
		size_t count = 0;

		assert_true(i < sizeof(sections) / sizeof(sections[0]));
		while (backends[i]->keys[count])
			count++;
		assert_keys_documented(sections[i], backends[i]->keys, count, specs[i]);
	}
	assert_keys_documented("PCI IDS", find_keys, FIND_KEYS, "pci:fffe:fffe");
	assert_keys_documented("OPTIONS OF ALL BACKENDS", device_keys, DEVICE_KEYS, "soft:");
	while (qemu_drive_keys[drive_keys])
		drive_keys++;
	assert_keys_documented("IMAGES OF QEMU", qemu_drive_keys, drive_keys, NULL);
}

/* The kernel's own list of devices is the witness. */
static void a_device_is_found_by_its_ids(void **state)
{
	static const char bus[] = "/sys/bus/pci/devices";
	char path[320], found[32] = "untouched", text[64];
	unsigned int vendor = 0, device = 0, index = 0;
	bool seen = false;
	struct dirent *entry;
	DIR *dir = opendir(bus);
	FILE *file;

	(void)state;
	while (dir && (entry = readdir(dir)) && entry->d_name[0] == '.')
		;
	if (!dir || !entry) {
		print_message("no PCI bus, which cannot be had here\n");
		skip();
	}
	snprintf(path, sizeof(path), "%s/%s/vendor", bus, entry->d_name);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%x", &vendor), 1);
	fclose(file);
	snprintf(path, sizeof(path), "%s/%s/device", bus, entry->d_name);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%x", &device), 1);
	fclose(file);

	assert_int_equal(dmaland_find(vendor, device, 0, found, 4), -EINVAL);
	assert_string_equal(found, "untouched");
	while (dmaland_find(vendor, device, index, found, sizeof(found)) == 0) {
		struct spec spec;

		seen |= strcmp(found, entry->d_name) == 0;
		snprintf(text, sizeof(text), "pci:%04X:%x,index=%u", vendor, device, index++);
		assert_int_equal(spec_parse(&spec, text), 0);
		assert_string_equal(spec.address, found);
		assert_string_equal(spec.backend, "");
		assert_int_equal(spec.option_count, 0);
		spec_fini(&spec);
	}
	assert_int_equal(errno, ENODEV);
	assert_error_says("they count from 0");
	assert_true(seen);
	closedir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_spec_is_taken_apart),
		cmocka_unit_test(drivers_that_do_no_dma_leave_their_group_to_vfio),
		cmocka_unit_test(a_spec_that_makes_no_sense_is_refused_in_words),
		cmocka_unit_test(a_quoted_value_is_one_value_again),
		cmocka_unit_test(a_quoted_value_that_is_too_long_is_cut_off_and_told),
		cmocka_unit_test(a_line_of_the_log_has_no_control_characters),
		cmocka_unit_test(the_manual_has_every_key_of_every_backend),
		cmocka_unit_test(a_device_is_found_by_its_ids),
		cmocka_unit_test(
			options_of_another_version_are_refused_unless_they_say_nothing_new),
	};

	log_capture();
	return cmocka_run_group_tests_name("spec", tests, NULL, NULL);
}
