/* SPDX-License-Identifier: MIT */
/*
 * xhci.c - a driver for USB host controllers: rings, an interrupt, a scatterlist
 *
 *   ./xhci                                                     qemu:qemu-xhci: no root, no guest
 *   ./xhci qemu:qemu-xhci,child=usb-storage,,drive=stick.img   with a stick
 *   ./xhci vfio:0000:00:09.0                                   the same behind an IOMMU
 *
 * It sends a No-Op to the controller, prints the ports, and reads block 0 of the first stick at one of them.
 *
 *   command ring      -- doorbell 0 -------->               A ring is an array of TRBs. A TRB's cycle
 *   transfer rings    -- doorbell of slot -->  controller   bit says whose it is. Our rings end with a
 *   event ring       <-- MSI-X --------------               Link TRB, behind which the bit is inverted.
 *
 * One command or transfer is in flight at a time. Sections are those of xHCI 1.2; BBB stands for USB Mass
 * Storage Class, Bulk-Only Transport 1.0.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <dmaland/dmaland.h>

/* Registers: 5.3 capability, 5.4 operational, 5.5 runtime. A write to PORTSC repeats PORTSC_KEEP. */
enum { HCSPARAMS1 = 0x04, HCSPARAMS2 = 0x08, HCCPARAMS1 = 0x10, DBOFF = 0x14, RTSOFF = 0x18 };
enum { USBCMD = 0x00, USBCMD_RS = 1, USBCMD_HCRST = 2, USBCMD_INTE = 4 };
enum { USBSTS = 0x04, USBSTS_HCH = 1, USBSTS_EINT = 8, USBSTS_CNR = 0x800 };
enum { PAGESIZE = 0x08, CRCR = 0x18, DCBAAP = 0x30, CONFIG = 0x38, PORTSC = 0x400 };
enum { PORTSC_CCS = 1, PORTSC_PED = 2, PORTSC_PR = 0x10, PORTSC_KEEP = 0x0e00c200 };
enum { IMAN = 0x20, IMAN_IP = 1, IMAN_IE = 2, ERSTSZ = 0x28, ERSTBA = 0x30, ERDP = 0x38, EHB = 8 };

/* TRBs: 6.4 */
enum { NORMAL = 1, SETUP_STAGE = 2, DATA_STAGE = 3, STATUS_STAGE = 4, LINK = 6, ENABLE_SLOT = 9 };
enum { DISABLE_SLOT = 10, ADDRESS_DEVICE = 11, CONFIGURE_ENDPOINT = 12, NO_OP = 23 };
enum { TRANSFER_EVENT = 32, COMMAND_COMPLETION_EVENT = 33, SUCCESS = 1, SHORT_PACKET = 13 };
enum { CYCLE = 1, TOGGLE = 1 << 1, CHAIN = 1 << 4, IOC = 1 << 5, IDT = 1 << 6, IN = 1 << 16 };

enum { COMMANDS, EVENTS, CONTROL, BULK_IN, BULK_OUT, RINGS, TRBS = 64, WAIT_MS = 5000 };

struct trb { /* 4.11.1 */
	uint64_t parameter;
	uint32_t status, control;
};

struct ring {
	struct trb *trbs;
	dma_addr_t dma;
	unsigned int first, next;    /* the first TRB that is not handed over yet; the next one */
	uint32_t cycle;		     /* hands over the next one */
	unsigned int id, max_packet; /* of the endpoint; id: its Device Context Index, 4.5.1 */
};

/* What the controller sees, ordered by alignment: nothing crosses a boundary that it must not (table 6-1). */
struct memory {
	uint32_t input[1024];  /* 6.2.5: a device's contexts, as we want them */
	uint32_t output[1024]; /* 6.2.1: and as they are */
	uint8_t descriptors[4096];
	uint64_t scratchpads[1024]; /* 6.6 */
	uint64_t dcbaa[256];	    /* 6.1: the output of each slot; 0: scratchpads */
	struct trb rings[RINGS][TRBS];
	uint64_t erst[8]; /* 6.5: where the event ring is, and how long */
	struct cbw {	  /* BBB 5.1 */
		uint32_t signature, tag, length;
		uint8_t flags, lun, cb_length, cb[16];
	} cbw;
	struct csw { /* BBB 5.2 */
		uint32_t signature, tag, residue;
		uint8_t status;
	} csw;
};

struct xhci {
	struct dmaland_device *dev;
	char *bar, *op, *runtime; /* registers */
	struct memory *memory;
	dma_addr_t dma;
	size_t size;
	struct ring rings[RINGS];
	unsigned int slot;
};

static dma_addr_t dma_of(struct xhci *hc, const void *memory)
{
	return hc->dma + (dma_addr_t)((const char *)memory - (const char *)hc->memory);
}

static int register_wait(struct xhci *hc, unsigned int reg, uint32_t mask, uint32_t value)
{
	for (int ms = 0; (readl(hc->op + reg) & mask) != value; ms++) {
		if (ms == WAIT_MS)
			return dmaland_set_error(ETIMEDOUT, "operational register 0x%x stays 0x%x",
						 reg, readl(hc->op + reg));
		poll(NULL, 0, 1);
	}
	return 0;
}

static dma_addr_t ring_start(struct xhci *hc, int i, unsigned int id, unsigned int max_packet)
{
	struct trb *trbs = memset(hc->memory->rings[i], 0, sizeof(hc->memory->rings[i]));

	hc->rings[i] = (struct ring){trbs, dma_of(hc, trbs), 0, 0, CYCLE, id, max_packet};
	return hc->rings[i].dma;
}

/* The first TRB has the wrong cycle bit until ring_run(). The controller stops there, and sees no half of a TD. */
static void ring_put(struct ring *ring, uint64_t parameter, uint32_t status, uint32_t control)
{
	uint32_t link = LINK << 10 | TOGGLE | (control & CHAIN) | ring->cycle; /* 4.11.5.1 */

	control |= ring->next == ring->first ? ring->cycle ^ CYCLE : ring->cycle;
	ring->trbs[ring->next] =
		(struct trb){htole64(parameter), htole32(status), htole32(control)};
	if (++ring->next == TRBS - 1) {
		ring->trbs[ring->next] = (struct trb){htole64(ring->dma), 0, htole32(link)};
		ring->cycle ^= CYCLE;
		ring->next = 0;
	}
}

/* The next event that ends a command or transfer. The others, those of ports, are dropped. */
static bool event_take(struct xhci *hc, struct trb *event)
{
	struct ring *ring = &hc->rings[EVENTS];
	uint32_t type;

	while ((le32toh(READ_ONCE(ring->trbs[ring->next].control)) & CYCLE) == ring->cycle) {
		dma_rmb(); /* the event is read after the cycle bit that hands it over */
		*event = ring->trbs[ring->next];
		ring->next = (ring->next + 1) % TRBS;
		ring->cycle ^= ring->next ? 0 : CYCLE;
		type = le32toh(event->control) >> 10 & 0x3f;
		if (type == TRANSFER_EVENT || type == COMMAND_COMPLETION_EVENT)
			return true;
	}
	/* 4.17.2: EHB is cleared. From now on an event interrupts, also one that has come meanwhile. */
	writeq((ring->dma + ring->next * sizeof(*event)) | EHB, hc->runtime + ERDP);
	return false;
}

/* Hand over what was put, and sleep until it has ended. Return: the slot that the event names, or -errno. */
static int ring_run(struct xhci *hc, struct ring *ring, const char *what)
{
	struct pollfd irq = {.fd = dmaland_irq(hc->dev, 0), .events = POLLIN};
	uint32_t *control = &ring->trbs[ring->first].control, slot = ring->id ? hc->slot : 0, code;
	struct trb event;
	uint64_t count;

	dma_wmb(); /* the TRBs are written before the first one's cycle bit hands them over */
	WRITE_ONCE(*control, *control ^ htole32(CYCLE));
	ring->first = ring->next;
	writel(ring->id, hc->bar + readl(hc->bar + DBOFF) + 4 * slot); /* comes after the bit */
	for (int i = 0; !event_take(hc, &event); i++) {
		if (i == 100 || poll(&irq, 1, WAIT_MS) != 1 || read(irq.fd, &count, 8) != 8) {
			pci_clear_master(
				hc->dev); /* no DMA any more: the caller takes memory back */
			return dmaland_set_error(ETIMEDOUT, "%s: no answer in %d ms", what,
						 WAIT_MS);
		}
		/* INTx stays up until IP is cleared, after EINT (5.4.2). MSI-X needs none of this. */
		writel(USBSTS_EINT, hc->op + USBSTS);
		writel(IMAN_IE | IMAN_IP, hc->runtime + IMAN);
		dmaland_irq_unmask(hc->dev, 0);
	}
	code = le32toh(event.status) >> 24;
	if (code != SUCCESS && code != SHORT_PACKET)
		return dmaland_set_error(EIO, "%s: completion code %u (table 6-90)", what, code);
	return (int)(le32toh(event.control) >> 24);
}

static int command(struct xhci *hc, uint32_t type, dma_addr_t input, const char *what)
{
	ring_put(&hc->rings[COMMANDS], input, 0, type << 10 | hc->slot << 24);
	return ring_run(hc, &hc->rings[COMMANDS], what);
}

static int xhci_open(struct xhci *hc, const char *spec)
{
	uint32_t class, params, n;
	size_t page, ours;

	hc->dev = dmaland_open(spec, NULL);
	if (!hc->dev || pci_read_config_dword(hc->dev, 8, &class))
		return -errno;
	if (class >> 8 != 0x0c0330)
		return dmaland_set_error(ENODEV, "%s is no xHCI controller", spec);
	if (pci_enable_device(hc->dev) || pci_set_master(hc->dev) ||
	    !(hc->bar = pci_iomap(hc->dev, 0, 0)) ||
	    dma_set_mask_and_coherent(hc->dev,
				      DMA_BIT_MASK(readl(hc->bar + HCCPARAMS1) & 1 ? 64 : 32)) ||
	    pci_alloc_irq_vectors(hc->dev, 1, 1, PCI_IRQ_ALL_TYPES) < 0)
		return -errno;
	hc->op = hc->bar + readb(hc->bar);
	hc->runtime = hc->bar + readl(hc->bar + RTSOFF);

	/* 4.20: the controller wants pages for itself. They lie behind what we share with it. */
	params = readl(hc->bar + HCSPARAMS2);
	n = (params >> 16 & 0x3e0) | params >> 27;
	page = (size_t)readl(hc->op + PAGESIZE) << 12;
	ours = (sizeof(*hc->memory) + page - 1) & ~(page - 1);
	hc->size = ours + n * page;
	hc->memory = dma_alloc_coherent(hc->dev, hc->size, &hc->dma, GFP_KERNEL);
	if (!hc->memory)
		return -errno;
	for (uint32_t i = 0; i < n; i++)
		hc->memory->scratchpads[i] = htole64(hc->dma + ours + i * page);
	hc->memory->dcbaa[0] = n ? htole64(dma_of(hc, hc->memory->scratchpads)) : 0;
	return 0;
}

/* 4.2: reset it, say where everything is, let it run. Linux has taken it from the firmware at boot (4.22.1). */
static int xhci_start(struct xhci *hc)
{
	writel(0, hc->op + USBCMD);
	if (register_wait(hc, USBSTS, USBSTS_HCH, USBSTS_HCH))
		return -errno;
	writel(USBCMD_HCRST, hc->op + USBCMD);
	if (register_wait(hc, USBCMD, USBCMD_HCRST, 0) || register_wait(hc, USBSTS, USBSTS_CNR, 0))
		return -errno;
	writel(readl(hc->bar + HCSPARAMS1) & 0xff, hc->op + CONFIG); /* slots */
	writeq(dma_of(hc, hc->memory->dcbaa), hc->op + DCBAAP);
	writeq(ring_start(hc, COMMANDS, 0, 0) | CYCLE, hc->op + CRCR);
	hc->memory->erst[0] = htole64(ring_start(hc, EVENTS, 0, 0));
	hc->memory->erst[1] = htole64(TRBS);
	writel(1, hc->runtime + ERSTSZ);
	writeq(hc->rings[EVENTS].dma, hc->runtime + ERDP);
	writeq(dma_of(hc, hc->memory->erst), hc->runtime + ERSTBA);
	writel(IMAN_IE, hc->runtime + IMAN);
	writel(USBCMD_RS | USBCMD_INTE, hc->op + USBCMD);
	return register_wait(hc, USBSTS, USBSTS_HCH, 0);
}

/* Return: the speed of what is connected (7.2.2.1.1), with the port ready for it; 0: nothing is; or -errno. */
static int port_look(struct xhci *hc, unsigned int port)
{
	static const char *const speeds[] = {"nothing", "full speed", "low speed", "high speed"};
	unsigned int reg = PORTSC + 16 * (port - 1), speed;
	uint32_t portsc = readl(hc->op + reg);

	if (portsc & PORTSC_CCS && !(portsc & PORTSC_PED)) { /* 4.3: USB 2 wants a reset */
		writel((portsc & PORTSC_KEEP) | PORTSC_PR, hc->op + reg);
		if (register_wait(hc, reg, PORTSC_PED, PORTSC_PED))
			return -errno;
		poll(NULL, 0, 10); /* USB 2.0, 7.1.7.5 */
		portsc = readl(hc->op + reg);
	}
	speed = portsc & PORTSC_CCS ? portsc >> 10 & 15 : 0;
	printf("port %u: %s\n", port, speed < 4 ? speeds[speed] : "SuperSpeed");
	return (int)speed;
}

static uint32_t *context(struct xhci *hc, unsigned int i)
{
	return hc->memory->input + i * (readl(hc->bar + HCCPARAMS1) & 4 ? 16 : 8);
}

static void endpoint_start(struct xhci *hc, int ring, uint32_t type, uint32_t id,
			   uint32_t max_packet)
{
	dma_addr_t dma = ring_start(hc, ring, id, max_packet);
	uint32_t *endpoint = context(hc, id + 1); /* 6.2.3 */

	endpoint[1] = htole32(max_packet << 16 | type << 3 | 3 << 1);
	endpoint[2] = htole32((uint32_t)dma | CYCLE);
	endpoint[3] = htole32(dma >> 32);
	endpoint[4] = htole32(id == 1 ? 8 : 512); /* a TRB's length on average */
	context(hc, 0)[1] |= htole32(1U << id);	  /* 6.2.5.1: Add Context flags */
}

/* A control transfer. The setup data are those of USB 2.0, 9.3, the first byte lowest. */
static int request(struct xhci *hc, uint64_t setup, dma_addr_t data, const char *what)
{
	struct ring *ring = &hc->rings[CONTROL];

	ring_put(ring, setup, 8, SETUP_STAGE << 10 | IDT | (data ? 3 * IN : 0));
	if (data)
		ring_put(ring, data, setup >> 48, DATA_STAGE << 10 | IN);
	ring_put(ring, 0, 0, STATUS_STAGE << 10 | IOC | (data ? 0 : IN));
	return ring_run(hc, ring, what);
}

/* Start the endpoints of a stick's interface (USB 2.0, 9.6). Return: the highest id; 0: it is no stick. */
static unsigned int stick_find(struct xhci *hc)
{
	const uint8_t *d = hc->memory->descriptors, *end = d + 512 - 8;
	unsigned int id, max_packet, last = 0;
	bool stick = false;

	for (; d < end && d[0] >= 2; d += d[0]) {
		id = (d[2] & 15) * 2 + (d[2] >> 7);
		max_packet = (d[4] | d[5] << 8) & 0x7ff;
		if (d[1] == 4) /* an interface: mass storage, bulk only? */
			stick = !last && d[5] == 8 && d[7] == 0x50;
		if (!stick || d[1] != 5 || (d[3] & 3) != 2 || id < 2 || !max_packet)
			continue; /* no bulk endpoint */
		endpoint_start(hc, id & 1 ? BULK_IN : BULK_OUT, id & 1 ? 6 : 2, id, max_packet);
		last = id > last ? id : last;
	}
	return hc->rings[BULK_IN].id && hc->rings[BULK_OUT].id ? last : 0;
}

/* 4.3. Return: 1: a stick, ready for commands; 0: something else; or -errno. */
static int device_start(struct xhci *hc, unsigned int port, uint32_t speed)
{
	dma_addr_t input = dma_of(hc, hc->memory->input);
	uint8_t *descriptors = hc->memory->descriptors;
	unsigned int last;
	int slot;

	hc->slot = 0;
	slot = command(hc, ENABLE_SLOT, 0, "Enable Slot");
	if (slot < 0)
		return slot;
	hc->slot = (unsigned int)slot;
	hc->memory->dcbaa[slot] = htole64(dma_of(hc, hc->memory->output));
	memset(hc->memory, 0,
	       offsetof(struct memory, scratchpads)); /* the device before left its own */
	context(hc, 0)[1] = htole32(1);		      /* the slot context, 6.2.2 */
	context(hc, 1)[0] = htole32(1 << 27 | speed << 20);
	context(hc, 1)[1] = htole32(port << 16);
	endpoint_start(hc, CONTROL, 4, 1, speed == 3 ? 64 : 512);
	if (command(hc, ADDRESS_DEVICE, input, "Address Device") < 0 ||
	    request(hc, 0x0200000002000680, dma_of(hc, descriptors), "Get Descriptor") < 0)
		return -errno;
	context(hc, 0)[1] = htole32(1);
	last = stick_find(hc);
	if (!last)
		return command(hc, DISABLE_SLOT, 0, "Disable Slot") < 0 ? -errno : 0;
	context(hc, 1)[0] = htole32(last << 27 | speed << 20);
	if (command(hc, CONFIGURE_ENDPOINT, input, "Configure Endpoint") < 0 ||
	    request(hc, 0x0900 | descriptors[5] << 16, 0, "Set Configuration") < 0)
		return -errno;
	return 1;
}

/* A list is one TD: a chain of TRBs, of which the last one interrupts. */
static int list_read(struct xhci *hc, struct scatterlist *list, uint32_t total)
{
	int err, nents = sg_nents(list), n = dma_map_sg(hc->dev, list, nents, DMA_FROM_DEVICE);
	struct ring *ring = &hc->rings[BULK_IN];
	uint32_t packets = (total + ring->max_packet - 1) / ring->max_packet;
	uint32_t done = 0, length, left, td_size;
	dma_addr_t dma;

	for (int i = 0; i < n; i++) {
		dma = sg_dma_address(&list[i]);
		for (left = sg_dma_len(&list[i]); left; left -= length, dma += length) {
			length = 0x10000 - (dma & 0xffff); /* 6.4.1: not across 64 KiB */
			length = length < left ? length : left;
			done += length;
			td_size = packets - done / ring->max_packet; /* 4.11.2.4 */
			td_size = done == total ? 0 : td_size > 31 ? 31 : td_size;
			ring_put(ring, dma, td_size << 17 | length,
				 NORMAL << 10 | (done == total ? IOC : CHAIN));
		}
	}
	if (!n)
		return -errno;
	err = ring_run(hc, ring, "data");
	dma_unmap_sg(hc->dev, list, nents, DMA_FROM_DEVICE);
	return err < 0 ? err : 0;
}

/* BBB 5: a command, data where there are any, a status. Return: the status, 0: good; or -errno. */
static int scsi(struct xhci *hc, const uint8_t cb[10], struct scatterlist *list, uint32_t length)
{
	struct cbw *cbw = &hc->memory->cbw;
	struct csw *csw = &hc->memory->csw;

	*cbw = (struct cbw){htole32(0x43425355), cbw->tag + 1, htole32(length), 0x80, 0, 10, {0}};
	memcpy(cbw->cb, cb, 10);
	ring_put(&hc->rings[BULK_OUT], dma_of(hc, cbw), 31, NORMAL << 10 | IOC);
	if (ring_run(hc, &hc->rings[BULK_OUT], "command block") < 0 ||
	    (list && list_read(hc, list, length)))
		return -errno;
	ring_put(&hc->rings[BULK_IN], dma_of(hc, csw), 13, NORMAL << 10 | IOC);
	if (ring_run(hc, &hc->rings[BULK_IN], "status") < 0)
		return -errno;
	if (csw->signature != htole32(0x53425355) || csw->tag != cbw->tag ||
	    (!csw->status && csw->residue))
		return dmaland_set_error(EPROTO, "the stick sends no status that fits");
	return csw->status;
}

static int stick_read(struct xhci *hc)
{
	static const uint8_t test_unit_ready[10], read_10[10] = {0x28, [8] = 1};
	uint8_t code[446], table[66]; /* the parts of a boot record, each where it is wanted */
	struct scatterlist list[2];
	int status, tries = 0;

	sg_init_table(list, 2);
	sg_set_buf(&list[0], code, sizeof(code));
	sg_set_buf(&list[1], table, sizeof(table));
	/* The first command after a reset fails, to tell of it. */
	while ((status = scsi(hc, test_unit_ready, NULL, 0)) > 0 && tries++ < 20)
		poll(NULL, 0, 50);
	if (!status)
		status = scsi(hc, read_10, list, 512);
	if (status)
		return status < 0 ? status : dmaland_set_error(EIO, "the stick refuses to read");
	printf("block 0:");
	for (int i = 0; i < 16; i++)
		printf(" %02x", code[i]);
	printf(" ... %02x %02x\n", table[64], table[65]);
	return 0;
}

static int xhci_show(struct xhci *hc)
{
	unsigned int ports = readl(hc->bar + HCSPARAMS1) >> 24;
	int speed, stick = 0;

	if (command(hc, NO_OP, 0, "No-Op") < 0)
		return -errno;
	printf("%s: No-Op done, %u ports\n", dmaland_name(hc->dev), ports);
	poll(NULL, 0, 100); /* USB 2.0, 7.1.7.3: by then a port knows what is plugged in */
	for (unsigned int port = 1; port <= ports; port++) {
		speed = port_look(hc, port);
		if (speed >= 3 && !stick) /* slower ones must be asked for max_packet first */
			stick = device_start(hc, port, (uint32_t)speed);
		if (speed < 0 || stick < 0)
			return -errno;
	}
	if (stick)
		return stick_read(hc);
	printf("no stick\n");
	return 0;
}

int main(int argc, char **argv)
{
	struct xhci hc = {0};
	const char *spec = argc > 1 ? argv[1] : "qemu:qemu-xhci";
	int err = xhci_open(&hc, spec) || xhci_start(&hc) || xhci_show(&hc);

	if (err)
		fprintf(stderr, "xhci: %s\n", dmaland_last_error());
	if (hc.memory)
		pci_clear_master(hc.dev); /* before its memory goes */
	dma_free_coherent(hc.dev, hc.size, hc.memory, hc.dma);
	dmaland_close(hc.dev);
	return err;
}
