/* SPDX-License-Identifier: MIT */
/*
 * child_tests.c - what a spec puts into a device of QEMU is there: the device itself tells
 */
#include "suite.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <dmaland/nvme.h>

static struct {
	char directory[64], a[80], b[80];
} images;

static void image_make(const char *path)
{
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
}

static int images_begin(void **state)
{
	(void)state;
	snprintf(images.directory, sizeof(images.directory), "/tmp/dmaland-children-%d", getpid());
	assert_int_equal(mkdir(images.directory, 0700), 0);
	snprintf(images.a, sizeof(images.a), "%s/a.img", images.directory);
	snprintf(images.b, sizeof(images.b), "%s/b.img", images.directory);
	image_make(images.a);
	image_make(images.b);
	return 0;
}

static int images_end(void **state)
{
	(void)state;
	unlink(images.a);
	unlink(images.b);
	return rmdir(images.directory);
}

/* In the spec %1$s is one image, %2$s the other. */
static struct dmaland_device *try_open(const char *format)
{
	char spec[512];

	/* The formats are this file's. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(spec, sizeof(spec), format, images.a, images.b);
#pragma GCC diagnostic pop
	return dmaland_open(spec, NULL);
}

static struct dmaland_device *must_open(const char *format)
{
	struct dmaland_device *dev = try_open(format);

	if (!dev)
		fail_msg("%s: %s", format, dmaland_last_error());
	return dev;
}

static char *registers(struct dmaland_device *dev, int bar)
{
	char *window;

	assert_int_equal(pci_enable_device(dev), 0);
	window = pci_iomap(dev, bar, 0);
	if (!window)
		fail_msg("%s", dmaland_last_error());
	return window;
}

/* xHCI 1.2, 5.3.3, 5.4.8: how many ports have a device */
static unsigned int xhci_children(struct dmaland_device *dev)
{
	char *bar = registers(dev, 0), *op = bar + readb(bar);
	unsigned int ports = readl(bar + 0x04) >> 24, n = 0;

	for (unsigned int i = 0; i < ports; i++)
		n += readl(op + 0x400 + 0x10 * i) & 1;
	return n;
}

/* AHCI 1.3.1, 3.1.4, 3.3.10: of the ports implemented, those whose link is up */
static unsigned int ahci_children(struct dmaland_device *dev)
{
	char *bar = registers(dev, 5);
	uint32_t implemented = readl(bar + 0x0c);
	unsigned int n = 0;

	for (unsigned int i = 0; i < 32; i++)
		n += implemented >> i & 1 && (readl(bar + 0x128 + 0x80 * i) & 0xf) == 3;
	return n;
}

/* SD Host Controller 3.00, 2.2.9: is a card inserted? */
static unsigned int sdhci_children(struct dmaland_device *dev)
{
	return readl(registers(dev, 0) + 0x24) >> 16 & 1;
}

/* HD Audio 1.0a, 3.3.7, 3.3.9: codecs that answer once the controller is out of its reset */
static unsigned int hda_children(struct dmaland_device *dev)
{
	char *bar = registers(dev, 0);

	writel(0, bar + 0x08);
	writel(1, bar + 0x08);
	return (unsigned int)__builtin_popcount(readw(bar + 0x0e));
}

/* How often QEMU has the first image open. */
static unsigned int image_openings(void)
{
	char path[300], to[300];
	const struct dirent *entry;
	unsigned int n = 0;
	DIR *files;

	snprintf(path, sizeof(path), "/proc/%d/fd", only_child());
	files = opendir(path);
	assert_non_null(files);
	while ((entry = readdir(files))) {
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/%d/fd/%s", only_child(), entry->d_name);
		length = readlink(path, to, sizeof(to) - 1);
		to[length > 0 ? length : 0] = '\0';
		n += strcmp(to, images.a) == 0;
	}
	closedir(files);
	return n;
}

typedef unsigned int children_count(struct dmaland_device *dev);

static void a_device_has_the_children_that_its_spec_names(void **state)
{
	static const struct {
		const char *spec;
		children_count *count;
		unsigned int children;
	} cases[] = {
		{"qemu:qemu-xhci", xhci_children, 0},
		{"qemu:qemu-xhci,child=usb-storage,,drive=%1$s", xhci_children, 1},
		{"qemu:qemu-xhci,child=usb-kbd,child=usb-tablet,p2=6", xhci_children, 2},
		{"qemu:qemu-xhci,child=usb-uas,,id=uas,child=scsi-hd,,bus=uas.0,,drive=%1$s",
		 xhci_children, 1},
		{"qemu:qemu-xhci,child={\"driver\": \"usb-storage\",, \"bus\": \"dev0.0\",, "
		 "\"drive\": \"stick\"},blockdev={\"driver\": \"raw\",, \"node-name\": \"stick\",, "
		 "\"file\": {\"driver\": \"file\",, \"filename\": \"%1$s\"}}",
		 xhci_children, 1},
		{"qemu:ich9-ahci", ahci_children, 0},
		{"qemu:ich9-ahci,child=ide-hd,,drive=%1$s", ahci_children, 1},
		{"qemu:ich9-ahci,child=ide-hd,,drive=%1$s,child=ide-cd,,drive=%2$s,,readonly=on",
		 ahci_children, 2},
		{"qemu:ich9-ahci,child=ide-hd,,bus=dev0.4,,drive=%1$s", ahci_children, 1},
		{"qemu:sdhci-pci", sdhci_children, 0},
		{"qemu:sdhci-pci,child=sd-card,,drive=%1$s", sdhci_children, 1},
		{"qemu:intel-hda", hda_children, 0},
		{"qemu:intel-hda,child=hda-duplex,child=hda-output", hda_children, 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dmaland_device *dev = must_open(cases[i].spec);
		unsigned int n = cases[i].count(dev);

		if (n != cases[i].children)
			fail_msg("%s: the device has %u children", cases[i].spec, n);
		dmaland_close(dev);
	}
	assert_string_equal(log_text(), "");
}

/* What joins a machine is plugged with its children; what is closed lets go of their images. */
static void children_come_and_go_with_a_device_that_joins(void **state)
{
	static const char with_stick[] = "qemu:qemu-xhci,machine=tree,child=usb-kbd,"
					 "child=usb-storage,,drive=%1$s";
	static const char with_json[] =
		"qemu:qemu-xhci,machine=tree,child={\"driver\": \"usb-tablet\"},"
		"child=usb-storage,,drive={\"driver\": \"file\",,,, \"filename\": \"%1$s\"}";
	static const char with_network[] = "qemu:rtl8139,machine=tree,hub=7";
	struct dmaland_device *first = must_open("qemu:edu,machine=tree"), *dev;

	(void)state;
	for (int i = 0; i < 3; i++) {
		dev = must_open(with_stick);
		assert_int_equal(xhci_children(dev), 2);
		errno = 0;
		assert_null(try_open(with_stick));
		assert_int_equal(errno, EBUSY);
		assert_error_says("a.img is used by another");
		dmaland_close(dev);
		dev = must_open(with_json);
		assert_int_equal(xhci_children(dev), 2);
		dmaland_close(dev);
		dmaland_close(must_open(with_network));
	}
	dmaland_close(first);
	assert_string_equal(log_text(), "");
}

static void a_child_that_is_refused_takes_its_device_with_it(void **state)
{
	static const struct {
		const char *spec, *says;
		int code;
	} cases[] = {
		{"qemu:qemu-xhci%3$s,child=usb-storage,,drive=%1$s,child=usb-nothing",
		 "'usb-nothing' is not a valid device model name", ENODEV},
		{"qemu:qemu-xhci%3$s,child=usb-kbd,child=usb-storage,,drive=%1$s,,colour=blue",
		 "colour", EINVAL},
		{"qemu:qemu-xhci%3$s,child=ide-hd,,drive=%1$s",
		 "the model has no bus for such a child", ENODEV},
		{"qemu:qemu-xhci%3$s,child=usb-storage,,drive=%1$s-not", "a.img-not", ENOENT},
		{"qemu:nvme%3$s,drive=%1$s no lock", "No such file", ENOENT},
		{"qemu:nvme%3$s,drive={\"driver\": \"null-co\"},format=qcow2", "'format='", EINVAL},
		{"qemu:qemu-xhci%3$s,child=usb-storage,,drive=%1$s,,format=qcow2",
		 "not in qcow2 format", EINVAL},
		{"qemu:qemu-xhci%3$s,child={\"driver\": \"usb-nothing\"}", "usb-nothing", ENODEV},
		{"qemu:qemu-xhci%3$s,child={\"driver\" \"usb-kbd\"}", "JSON", EINVAL},
		{"qemu:nvme%3$s,drive={\"driver\": \"no-driver\"}", "no-driver", EINVAL},
		/* of what it can't read QEMU complains several times */
		{"qemu:qemu-xhci%3$s,child={\"driver\": usb-kbd}", "JSON", EINVAL},
		{"qemu:qemu-xhci%3$s,child={\"driver\": \"usb-kbd\"]", "JSON", EINVAL},
		{"qemu:qemu-xhci%3$s,child={\"driver\": \"usb\nkbd\"}", "JSON", EINVAL},
		{"qemu:qemu-xhci%3$s,child={\"driver\": %%s}", "JSON", EINVAL},
		{"qemu:qemu-xhci%3$s,child={'driver': '\"',, \"a\": \"}'", "JSON that does not end",
		 EINVAL},
	};
	static const char *const machines[] = {"", ",machine=tree"};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		struct dmaland_device *first = must_open("qemu:edu,machine=tree"), *dev;
		char spec[512];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(spec, sizeof(spec), cases[i / 2].spec, images.a, images.b,
			 machines[i % 2]);
#pragma GCC diagnostic pop
		errno = 0;
		if (dmaland_open(spec, NULL))
			fail_msg("%s opens", spec);
		if (errno != cases[i / 2].code)
			fail_msg("%s: errno %d: %s", spec, errno, dmaland_last_error());
		if (!strstr(dmaland_last_error(), cases[i / 2].says))
			fail_msg("%s: %s", spec, dmaland_last_error());
		dev = must_open("qemu:nvme,machine=tree,drive=%1$s");
		dmaland_close(dev);
		dmaland_close(first);
	}
	assert_string_equal(log_text(), "");
}

/* It is there once more for the next one; what another device's spec has brought stays. */
static void a_node_goes_with_its_device_be_it_closed_or_refused(void **state)
{
	static const char node[] = "qemu:qemu-xhci,machine=tree,blockdev={'file': {'driver': "
				   "'file',, 'node-name': 'inner',, 'filename': '%1$s'},, "
				   "\"node-name\" : \"stick\",, \"driver\": \"raw\"},";
	struct dmaland_device *first = must_open("qemu:edu,machine=tree"), *dev;
	char refused[512], taken[512];

	(void)state;
	snprintf(refused, sizeof(refused), "%s%s", node, "child=usb-nothing");
	snprintf(taken, sizeof(taken), "%s%s", node,
		 "child={'driver': 'usb-storage',, 'bus': 'dev2.0',, 'drive': 'stick'}");
	assert_null(try_open(refused));
	assert_int_equal(image_openings(), 0);
	dev = must_open(taken);
	assert_int_equal(xhci_children(dev), 1);
	assert_null(try_open(refused));
	assert_error_says("Duplicate nodes");
	assert_int_equal(image_openings(), 1);
	dmaland_close(dev);
	assert_int_equal(image_openings(), 0);
	dmaland_close(first);
	assert_string_equal(log_text(), "");
}

/* QEMU takes these when it starts: whose machine it is, is said. */
static void a_child_that_can_not_be_plugged_is_refused_with_the_cure(void **state)
{
	static const char *const specs[] = {
		"qemu:nvme,machine=tree,child=nvme-ns,,drive=%1$s",
		"qemu:ich9-ahci,machine=tree,child=ide-hd,,drive=%1$s",
		"qemu:intel-hda,machine=tree,child=hda-duplex",
		"qemu:nvme,machine=tree,subsys=s,child=nvme-subsys,,id=s",
	};
	struct dmaland_device *first = must_open("qemu:edu,machine=tree"), *dev;

	(void)state;
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		errno = 0;
		if (try_open(specs[i]))
			fail_msg("%s opens", specs[i]);
		if (errno != ENODEV || !strstr(dmaland_last_error(), "first device of its machine"))
			fail_msg("%s: errno %d: %s", specs[i], errno, dmaland_last_error());
		if (image_openings())
			fail_msg("%s: the image stays open", specs[i]);
		dev = must_open("qemu:nvme,machine=tree,drive=%1$s");
		dmaland_close(dev);
	}
	dmaland_close(first);
	assert_string_equal(log_text(), "");
}

static void a_namespace_goes_with_the_only_drive_that_has_it(void **state)
{
	static const char *const specs[] = {
		"qemu:nvme,machine=tree,child=nvme-ns,,drive=%1$s",
		"qemu:nvme,machine=tree,child=nvme-ns,,drive={\"driver\": \"file\",,,, "
		"\"filename\": \"%1$s\"}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
		struct dmaland_device *drive = must_open(specs[i]);
		struct dmaland_device *other = must_open("qemu:edu,machine=tree");

		assert_int_equal(image_openings(), 1);
		dmaland_close(drive);
		assert_int_equal(image_openings(), 0);
		dmaland_close(must_open("qemu:nvme,machine=tree,drive=%1$s"));
		dmaland_close(other);
	}
	assert_string_equal(log_text(), "");
}

static void a_namespace_stays_for_the_other_drives_of_its_subsystem(void **state)
{
	struct dmaland_device *first = must_open("qemu:nvme,machine=tree,subsys=s,serial=s,"
						 "child=nvme-subsys,,id=s,"
						 "child=nvme-ns,,shared=on,,drive=%1$s");
	struct dmaland_device *other = must_open("qemu:nvme,machine=tree,subsys=s,serial=s");
	static char out[512] = "kept", in[512];
	struct dmaland_nvme_queue *queue;
	struct dmaland_nvme *ctrl;

	(void)state;
	dmaland_close(first);
	ctrl = dmaland_nvme_open(other, NULL);
	assert_non_null(ctrl);
	queue = dmaland_nvme_queue_create(ctrl, 0, 0);
	assert_non_null(queue);
	assert_int_equal(dmaland_nvme_write(queue, 1, 7, 1, out), 0);
	assert_int_equal(dmaland_nvme_read(queue, 1, 7, 1, in), 0);
	assert_memory_equal(in, out, sizeof(in));
	dmaland_nvme_close(ctrl);
	dmaland_close(other);
	assert_string_equal(log_text(), "");
}

/* A card's network goes as its device does, and the next of this name can be had. */
static void a_card_has_the_network_that_its_spec_names(void **state)
{
	static const char dgram[] = "qemu:rtl8139%s,netdev=dgram,,local.type=unix,,local.path=%s,,"
				    "remote.type=unix,,remote.path=%s";
	static const char json[] =
		"qemu:rtl8139%s,netdev={\"type\": \"dgram\",, \"local\": {\"type\": "
		"\"unix\",, "
		"\"path\": \"%s\"},, \"remote\": {\"type\": \"unix\",, \"path\": \"%s\"}}";
	static const struct {
		const char *format, *machine, *says;
	} cases[] = {
		{dgram, "", NULL},
		{json, "", NULL},
		{json, ",machine=tree", NULL},
		{"qemu:rtl8139%s,netdev=hubport,,hubid=3", "", NULL},
		{"qemu:rtl8139%s,netdev=hubport,,hubid=3", ",machine=tree", NULL},
		{dgram, ",machine=tree", "as JSON"},
		{"qemu:rtl8139%s,netdev=frob", "", "frob"},
		{"qemu:rtl8139%s,netdev=frob", ",machine=tree", "frob"},
		{"qemu:rtl8139%s,netdev=hubport,,hubid=3,,colour=blue", ",machine=tree", "colour"},
	};
	struct dmaland_device *first = must_open("qemu:edu,machine=tree"), *dev;
	char local[96], remote[96], spec[512];

	(void)state;
	snprintf(local, sizeof(local), "%s/local", images.directory);
	snprintf(remote, sizeof(remote), "%s/remote", images.directory);
	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		const char *says = cases[i / 2].says;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
		snprintf(spec, sizeof(spec), cases[i / 2].format, cases[i / 2].machine, local,
			 remote);
#pragma GCC diagnostic pop
		errno = 0;
		dev = dmaland_open(spec, NULL);
		if (!dev != !!says)
			fail_msg("%s: %s", spec, dev ? "opens" : dmaland_last_error());
		if (says && (errno != EINVAL || !strstr(dmaland_last_error(), says)))
			fail_msg("%s: errno %d: %s", spec, errno, dmaland_last_error());
		dmaland_close(dev);
	}
	unlink(local);
	dmaland_close(first);
	assert_string_equal(log_text(), "");
}

int run_child_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_device_has_the_children_that_its_spec_names),
		cmocka_unit_test(children_come_and_go_with_a_device_that_joins),
		cmocka_unit_test(a_child_that_is_refused_takes_its_device_with_it),
		cmocka_unit_test(a_node_goes_with_its_device_be_it_closed_or_refused),
		cmocka_unit_test(a_child_that_can_not_be_plugged_is_refused_with_the_cure),
		cmocka_unit_test(a_namespace_goes_with_the_only_drive_that_has_it),
		cmocka_unit_test(a_namespace_stays_for_the_other_drives_of_its_subsystem),
		cmocka_unit_test(a_card_has_the_network_that_its_spec_names),
	};

	return cmocka_run_group_tests_name("children", tests, images_begin, images_end);
}
