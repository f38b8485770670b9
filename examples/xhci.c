/* SPDX-License-Identifier: MIT */
/*
 * xhci.c - a driver for USB host controllers: rings, an interrupt, a scatterlist
 *
 *   ./xhci                                                     qemu:qemu-xhci: no root, no guest
 *   ./xhci qemu:qemu-xhci,child=usb-storage,,drive=stick.img   with a stick
 *   ./xhci vfio:0000:00:09.0                                   the same behind an IOMMU
 *
 * It prints the ports, and reads block 0 of a stick: the first device at SuperSpeed. Left out: the
 * reset that USB 2 ports want; scratchpads, contexts of 64 bytes, which many real controllers want.
 *
 *   command ring   -- doorbell 0 ------->              A ring is an array of TRBs. A TRB's cycle
 *   transfer rings -- doorbell of slot -> controller   bit says whose it is; it is inverted each
 *   event ring     <- MSI-X --------------             time around. Our rings end with a Link TRB.
 *
 * Sections are those of xHCI 1.2; BBB stands for USB Mass Storage Class, Bulk-Only Transport 1.0.
 */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include <dmaland/dmaland.h>

/* Registers: 5.3 capability, 5.4 operational, 5.5 runtime */
enum { HCSPARAMS1 = 0x04, HCSPARAMS2 = 0x08, HCCPARAMS1 = 0x10, DBOFF = 0x14, RTSOFF = 0x18 };
enum { USBCMD = 0x00, RS = 1, HCRST = 2, INTE = 4, USBSTS = 0x04, CNR = 0x800 };
enum { CRCR = 0x18, DCBAAP = 0x30, CONFIG = 0x38, PORTSC = 0x400, CCS = 1, PED = 2 };
enum { IMAN = 0x20, IMAN_IE = 2, ERSTSZ = 0x28, ERSTBA = 0x30, ERDP = 0x38, ERDP_EHB = 8 };

/* TRBs, 6.4, and our rings of them */
enum { NORMAL = 1, SETUP_STAGE = 2, DATA_STAGE = 3, STATUS_STAGE = 4, LINK = 6, ENABLE_SLOT = 9 };
enum { ADDRESS_DEVICE = 11, CONFIGURE_ENDPOINT = 12, NO_OP = 23, PORT_EVENT = 34, SUCCESS = 1 };
enum { CYCLE = 1, TOGGLE = 2, CHAIN = 1 << 4, IOC = 1 << 5, IDT = 1 << 6, IN = 1 << 16 };
enum { BULK_MORE = NORMAL << 10 | CHAIN, BULK_END = NORMAL << 10 | IOC };
enum { COMMANDS, EVENTS, CONTROL, BULK_IN, BULK_OUT, RINGS, TRBS = 64, LAST = 63, WAIT_MS = 5000 };

struct trb { /* 4.11.1 */
	uint64_t parameter;
	uint32_t status, control;
};

struct ring {
	uint64_t first, next; /* counts TRBs: the first that is not handed over yet; the next one */
	uint32_t id;	      /* of the endpoint: its Device Context Index, 4.5.1 */
};

/* What the controller sees. In this order nothing crosses a boundary that it must not: table 6-1 */
struct memory {
	uint64_t input[64][4];	/* 6.2.5: what is to be added; the slot; its endpoints */
	uint64_t output[64][4]; /* 6.2.1: the controller's own */
	uint64_t dcbaa[256];	/* 6.1: the output of each slot */
	struct trb rings[RINGS][TRBS];
	uint64_t erst[8]; /* 6.5: where the event ring is, and how long */
	uint32_t cbw[8];
	uint8_t csw[16], descriptors[512];
};

struct xhci {
	struct dmaland_device *dev;
	char *bar, *op, *runtime; /* registers */
	struct memory *memory;
	dma_addr_t dma;
	struct ring rings[RINGS];
	struct trb event; /* what ended the last TD */
	uint32_t slot;	  /* of the stick, in the bits where TRBs have it */
};

static dma_addr_t dma_of(struct xhci *hc, const void *memory)
{
	return hc->dma + (dma_addr_t)((const char *)memory - (const char *)hc->memory);
}

/* The first TRB has the wrong cycle bit until ring_run(): the controller sees no half of a TD. */
static void ring_put(struct xhci *hc, int i, uint64_t parameter, uint32_t status, uint32_t control)
{
	struct ring *ring = &hc->rings[i];
	struct trb *trbs = hc->memory->rings[i];
	uint32_t at = ring->next % LAST, cycle = ring->next / LAST % 2 ? 0 : CYCLE;
	uint32_t link = LINK << 10 | TOGGLE | (control & CHAIN) | cycle; /* 4.11.5.1 */

	control |= ring->next++ == ring->first ? cycle ^ CYCLE : cycle;
	trbs[at] = (struct trb){htole64(parameter), htole32(status), htole32(control)};
	if (at == LAST - 1)
		trbs[LAST] = (struct trb){htole64(dma_of(hc, trbs)), 0, htole32(link)};
}

/* Put a TD's last TRB, hand the TD over, and sleep until it has ended. */
static int ring_run(struct xhci *hc, int i, uint64_t parameter, uint32_t status, uint32_t control,
		    const char *what)
{
	struct pollfd irq = {.fd = dmaland_irq(hc->dev, 0), .events = POLLIN};
	struct ring *ring = &hc->rings[i], *events = &hc->rings[EVENTS];
	uint32_t *first = &hc->memory->rings[i][ring->first % LAST].control, cycle, code;
	char *doorbells = hc->bar + readl(hc->bar + DBOFF); /* QEMU is done with the last TD then */
	uint64_t count;

	ring_put(hc, i, parameter, status, control);
	dma_wmb(); /* the TRBs are written before the first one's cycle bit hands them over */
	WRITE_ONCE(*first, *first ^ htole32(CYCLE));
	ring->first = ring->next;
	writel(ring->id, doorbells + (ring->id ? hc->slot >> 22 : 0)); /* comes after the bit */
	do {
		struct trb *event = &hc->memory->rings[EVENTS][events->next % TRBS];

		cycle = events->next++ / TRBS % 2 ? 0 : CYCLE;
		while ((le32toh(READ_ONCE(event->control)) & CYCLE) != cycle) {
			if (poll(&irq, 1, WAIT_MS) == 1 && read(irq.fd, &count, 8) == 8)
				continue;
			pci_clear_master(hc->dev); /* no DMA: the caller takes memory back */
			return dmaland_set_error(ETIMEDOUT, "%s: no answer", what);
		}
		dma_rmb(); /* the event is read after the cycle bit that hands it over */
		hc->event = *event;
		/* 4.17.2: an event behind this one interrupts, also one that has come meanwhile */
		event = &hc->memory->rings[EVENTS][events->next % TRBS];
		writeq(dma_of(hc, event) | ERDP_EHB, hc->runtime + ERDP);
	} while ((le32toh(hc->event.control) >> 10 & 0x3f) >= PORT_EVENT); /* ends no TD */
	code = le32toh(hc->event.status) >> 24;
	return code == SUCCESS ? 0 : dmaland_set_error(EIO, "%s: completion code %u", what, code);
}

static int xhci_open(struct xhci *hc, const char *spec)
{
	uint32_t class;

	hc->dev = dmaland_open(spec, NULL);
	if (!hc->dev || pci_read_config_dword(hc->dev, 8, &class))
		return -errno;
	if (class >> 8 != 0x0c0330)
		return dmaland_set_error(ENODEV, "%s is no xHCI controller", spec);
	if (pci_enable_device(hc->dev) || pci_set_master(hc->dev) ||
	    pci_alloc_irq_vectors(hc->dev, 1, 1, PCI_IRQ_MSIX) < 0 ||
	    dma_set_seg_boundary(hc->dev, 0xffff) || /* 6.4.1: a TRB does not cross 64 KiB */
	    dma_set_mask_and_coherent(hc->dev, DMA_BIT_MASK(32)) || /* without asking for AC64 */
	    !(hc->bar = pci_iomap(hc->dev, 0, 0)))
		return -errno;
	hc->op = hc->bar + readb(hc->bar);
	hc->runtime = hc->bar + readl(hc->bar + RTSOFF);
	if (readl(hc->bar + HCSPARAMS2) & 0xfbe00000 || readl(hc->bar + HCCPARAMS1) & 4) /* CSZ */
		return dmaland_set_error(EOPNOTSUPP, "it wants scratchpads or large contexts");
	hc->memory = dma_alloc_coherent(hc->dev, sizeof(*hc->memory), &hc->dma, GFP_KERNEL);
	return hc->memory ? 0 : -errno;
}

/* 4.2: reset it, say where everything is, let it run. */
static int xhci_start(struct xhci *hc)
{
	writel(0, hc->op + USBCMD);
	poll(NULL, 0, 16); /* 5.4.1.1: by then it has halted */
	writel(HCRST, hc->op + USBCMD);
	for (int ms = 0; readl(hc->op + USBCMD) & HCRST || readl(hc->op + USBSTS) & CNR; ms++) {
		if (ms == WAIT_MS)
			return dmaland_set_error(ETIMEDOUT, "the reset does not end");
		poll(NULL, 0, 1);
	}
	writel(readl(hc->bar + HCSPARAMS1) & 0xff, hc->op + CONFIG); /* slots */
	writeq(dma_of(hc, hc->memory->dcbaa), hc->op + DCBAAP);
	writeq(dma_of(hc, hc->memory->rings[COMMANDS]) | CYCLE, hc->op + CRCR);
	hc->memory->erst[0] = htole64(dma_of(hc, hc->memory->rings[EVENTS]));
	hc->memory->erst[1] = htole64(TRBS);
	writel(1, hc->runtime + ERSTSZ);
	writeq(dma_of(hc, hc->memory->rings[EVENTS]), hc->runtime + ERDP);
	writeq(dma_of(hc, hc->memory->erst), hc->runtime + ERSTBA);
	writel(IMAN_IE, hc->runtime + IMAN);
	writel(RS | INTE, hc->op + USBCMD);
	return ring_run(hc, COMMANDS, 0, 0, NO_OP << 10, "No-Op");
}

static void endpoint_add(struct xhci *hc, int i, uint32_t id, uint32_t type, uint64_t max_packet)
{
	hc->rings[i].id = id;
	hc->memory->input[id + 1][0] = htole64((max_packet << 16 | type << 3 | 3 << 1) << 32);
	hc->memory->input[id + 1][1] =
		htole64(dma_of(hc, hc->memory->rings[i]) | CYCLE); /* 6.2.3 */
	hc->memory->input[id + 1][2] = htole64(512);		   /* a TRB's length on average */
	hc->memory->input[0][0] |= htole64(1ULL << (32 + id));
}

/* 4.3: give the device at a port an address, and start its first bulk endpoints. */
static int stick_start(struct xhci *hc, uint64_t slot)
{
	struct memory *memory = hc->memory;
	const uint8_t *d = memory->descriptors;
	uint64_t input = dma_of(hc, memory->input), last = 0;

	if (ring_run(hc, COMMANDS, 0, 0, ENABLE_SLOT << 10, "Enable Slot"))
		return -errno;
	hc->slot = le32toh(hc->event.control) & 0xff000000;
	memory->dcbaa[hc->slot >> 24] = htole64(dma_of(hc, memory->output));
	memory->input[0][0] = htole64(1ULL << 32); /* the slot's context is to be added */
	memory->input[1][0] = htole64(slot | 1 << 27);
	endpoint_add(hc, CONTROL, 1, 4, 512);
	ring_put(hc, CONTROL, 0x0200000002000680, 8, SETUP_STAGE << 10 | IDT | 3 * IN);
	ring_put(hc, CONTROL, dma_of(hc, d), 512, DATA_STAGE << 10 | IN); /* USB 3.2, 9.4 */
	if (ring_run(hc, COMMANDS, input, 0, ADDRESS_DEVICE << 10 | hc->slot, "Address Device") ||
	    ring_run(hc, CONTROL, 0, 0, STATUS_STAGE << 10 | IOC, "Get Descriptor"))
		return -errno;
	if (d[14] != 8 || d[16] != 0x50) /* the first interface: mass storage, bulk only */
		return dmaland_set_error(ENODEV, "the device at SuperSpeed is no stick");
	memory->input[0][0] = htole64(1ULL << 32);
	for (; d < memory->descriptors + 512 - 8 && d[0]; d += d[0]) {
		uint32_t in = d[2] >> 7, id = (d[2] & 15) * 2 + in;

		if (d[1] != 5 || hc->rings[in ? BULK_IN : BULK_OUT].id)
			continue; /* not the first endpoint of its direction */
		endpoint_add(hc, in ? BULK_IN : BULK_OUT, id, in ? 6 : 2, 1024);
		last = id > last ? id : last;
	}
	memory->input[1][0] = htole64(slot | last << 27);
	ring_put(hc, CONTROL, 0x0900 | memory->descriptors[5] << 16, 8, SETUP_STAGE << 10 | IDT);
	return ring_run(hc, COMMANDS, input, 0, CONFIGURE_ENDPOINT << 10 | hc->slot, "Configure") ||
	       ring_run(hc, CONTROL, 0, 0, STATUS_STAGE << 10 | IOC | IN, "Set Configuration");
}

/* BBB 5: a command, a TD for the data of a list, if any, which are one packet, and a status. */
static int scsi(struct xhci *hc, uint32_t opcode, uint32_t blocks, struct scatterlist *list, int n)
{
	hc->memory->cbw[0] = htole32(0x43425355);
	hc->memory->cbw[2] = htole32(512 * blocks);
	hc->memory->cbw[3] = htole32(opcode << 24 | 10 << 16 | 0x80); /* 10 bytes of it; to us */
	hc->memory->cbw[5] = htole32(blocks << 24);
	if (ring_run(hc, BULK_OUT, dma_of(hc, hc->memory->cbw), 31, BULK_END, "command"))
		return -errno;
	for (; n > 1; n--, list++) /* TD Size, 4.11.2.4: 1 packet ends later */
		ring_put(hc, BULK_IN, sg_dma_address(list), 1 << 17 | sg_dma_len(list), BULK_MORE);
	if (n && ring_run(hc, BULK_IN, sg_dma_address(list), sg_dma_len(list), BULK_END, "data"))
		return -errno;
	return ring_run(hc, BULK_IN, dma_of(hc, hc->memory->csw), 13, BULK_END, "status");
}

static int stick_read(struct xhci *hc)
{
	uint8_t code[446], table[66]; /* the parts of a boot record, each where it is wanted */
	struct scatterlist list[2];
	int n, err;

	sg_init_table(list, 2);
	sg_set_buf(&list[0], code, sizeof(code));
	sg_set_buf(&list[1], table, sizeof(table));
	n = dma_map_sg(hc->dev, list, 2, DMA_FROM_DEVICE);
	if (!n)
		return -errno;
	/* TEST UNIT READY, since the first command after a reset fails to tell of it; READ(10) */
	err = scsi(hc, 0x00, 0, NULL, 0) || scsi(hc, 0x28, 1, list, n);
	dma_unmap_sg(hc->dev, list, 2, DMA_FROM_DEVICE);
	if (err || hc->memory->csw[12])
		return err ? err : dmaland_set_error(EIO, "the stick refuses to read");
	printf("block 0:");
	for (int i = 0; i < 16; i++)
		printf(" %02x", code[i]);
	printf(" ... %02x %02x\n", table[64], table[65]);
	return 0;
}

static int xhci_show(struct xhci *hc)
{
	static const char *const kinds[] = {"nothing", "not SuperSpeed: left alone", "SuperSpeed"};
	uint32_t n = readl(hc->bar + HCSPARAMS1) >> 24, portsc, kind;
	uint64_t stick = 0;

	printf("%s: No-Op done, %u ports\n", dmaland_name(hc->dev), n);
	poll(NULL, 0, 100); /* USB 2.0, 7.1.7.3: by then a port knows what is plugged in */
	for (uint32_t port = 1; port <= n; port++) {
		portsc = readl(hc->op + PORTSC + 16 * (port - 1));
		kind = !!(portsc & CCS) + !!(portsc & PED); /* USB 2: not before a reset */
		printf("port %u: %s\n", port, kinds[kind]);
		if (kind == 2 && !stick)
			stick = (uint64_t)port << 48 | (portsc >> 10 & 15) << 20; /* 6.2.2 */
	}
	if (!stick)
		printf("no stick\n");
	return stick ? stick_start(hc, stick) || stick_read(hc) : 0;
}

int main(int argc, char **argv)
{
	struct xhci hc = {0};
	int err = xhci_open(&hc, argc > 1 ? argv[1] : "qemu:qemu-xhci") || xhci_start(&hc) ||
		  xhci_show(&hc);

	if (err)
		fprintf(stderr, "xhci: %s\n", dmaland_last_error());
	if (hc.memory)
		pci_clear_master(hc.dev); /* before its memory goes */
	dma_free_coherent(hc.dev, sizeof(*hc.memory), hc.memory, hc.dma);
	dmaland_close(hc.dev);
	return err;
}
