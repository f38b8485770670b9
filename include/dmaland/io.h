/* SPDX-License-Identifier: MIT */
/*
 * io.h - registers, configuration space, barriers
 *
 * A register window is a pointer that only readl() and its family may follow. On VFIO it is the
 * device's memory itself; where a backend has no such memory, it is an address that nothing is
 * mapped at, and the access is carried to the device. Pointer arithmetic works on both.
 */
#ifndef DMALAND_IO_H
#define DMALAND_IO_H

#include <dmaland/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef __iomem
#define __iomem
#endif

/**
 * pci_iomap() - open a window to a BAR's registers
 * @dev:    the device
 * @bar:    0 to 5
 * @maxlen: bytes wanted from the BAR's start at most; 0: all of it
 *
 * The device must answer to memory accesses: pci_enable_device() first, which the kernel does not
 * ask for. While it does not any more (its command register says so, or it is removed), registers
 * read all ones and what is written is lost; once it does again, the window works as before.
 *
 * On VFIO, on x86-64, this takes a handler of SIGBUS, which comes with the first window of the
 * process and hands on to the one that was there before, with the mask and flags that it had. An
 * application that sets up a handler later must call the one that sigaction(2) returns for what is
 * not its own, and SIGBUS must not be blocked in threads that use registers.
 *
 * Return: the window, or NULL with errno set (EINVAL: no such memory BAR, EIO: not enabled).
 */
void __iomem *pci_iomap(struct dmaland_device *dev, int bar, unsigned long maxlen);

/** pci_iounmap() - close it; NULL does nothing. */
void pci_iounmap(struct dmaland_device *dev, void __iomem *window);

/** pci_resource_len() - bytes of a BAR; 0 when the device has no such BAR. */
uint64_t pci_resource_len(struct dmaland_device *dev, int bar);

/**
 * pci_enable_device() - let the device answer to memory accesses (PCI 3.0, 6.2.2)
 *
 * Calls that succeed are counted.
 *
 * Return: 0 or -errno.
 */
int pci_enable_device(struct dmaland_device *dev);

/**
 * pci_disable_device() - take back one pci_enable_device(); the last: no DMA any more
 *
 * As in the kernel, bus mastering ends and the device goes on answering to memory accesses. One that is not
 * enabled is reported to the log.
 */
void pci_disable_device(struct dmaland_device *dev);

/** pci_set_master() - let the device do DMA; pci_clear_master() - stop it. Return: 0 or -errno. */
int pci_set_master(struct dmaland_device *dev);
int pci_clear_master(struct dmaland_device *dev);

/**
 * pci_reset_function() - reset the function; its configuration is restored
 *
 * Return: 0; -ENOTTY when the function has no reset of its own; or -errno.
 */
int pci_reset_function(struct dmaland_device *dev);

/** pci_device_is_present() - does the device still answer? */
bool pci_device_is_present(struct dmaland_device *dev);

/*
 * Configuration space; @where is a multiple of the width. Return: 0 or -errno, with all ones in
 * *value.
 */
int pci_read_config_byte(struct dmaland_device *dev, int where, uint8_t *value);
int pci_read_config_word(struct dmaland_device *dev, int where, uint16_t *value);
int pci_read_config_dword(struct dmaland_device *dev, int where, uint32_t *value);
int pci_write_config_byte(struct dmaland_device *dev, int where, uint8_t value);
int pci_write_config_word(struct dmaland_device *dev, int where, uint16_t value);
int pci_write_config_dword(struct dmaland_device *dev, int where, uint32_t value);

/* The accesses behind readl() and its family. A device that does not answer reads all ones. */
uint8_t dmaland_read8(const volatile void __iomem *addr);
uint16_t dmaland_read16(const volatile void __iomem *addr);
uint32_t dmaland_read32(const volatile void __iomem *addr);
uint64_t dmaland_read64(const volatile void __iomem *addr);
void dmaland_write8(uint8_t value, volatile void __iomem *addr);
void dmaland_write16(uint16_t value, volatile void __iomem *addr);
void dmaland_write32(uint32_t value, volatile void __iomem *addr);
void dmaland_write64(uint64_t value, volatile void __iomem *addr);

/*
 * Barriers. x86 keeps loads in order with loads and stores with stores, and its register windows
 * are uncached, so that only the compiler must be held back (Intel SDM, volume 3, 9.2).
 *
 * On Arm a device is in the outer shareable domain: a barrier for other CPUs alone, which is what
 * compilers make of __sync_synchronize(), does not reach it (Arm ARM, B2.3.12). dsb, for mb() and its
 * like, also waits until what came before has arrived.
 */
#if defined(__x86_64__)
#define dma_wmb() __asm__ __volatile__("" ::: "memory")
#define dma_rmb() __asm__ __volatile__("" ::: "memory")
#define mb()	  __asm__ __volatile__("mfence" ::: "memory")
#define wmb()	  __asm__ __volatile__("sfence" ::: "memory")
#define rmb()	  __asm__ __volatile__("lfence" ::: "memory")
#elif defined(__aarch64__)
#define dma_wmb() __asm__ __volatile__("dmb oshst" ::: "memory")
#define dma_rmb() __asm__ __volatile__("dmb oshld" ::: "memory")
#define mb()	  __asm__ __volatile__("dsb sy" ::: "memory")
#define wmb()	  __asm__ __volatile__("dsb st" ::: "memory")
#define rmb()	  __asm__ __volatile__("dsb ld" ::: "memory")
#else
#error "dmaland knows the barriers for devices of x86-64 and aarch64 alone"
#endif

#ifndef READ_ONCE
#define READ_ONCE(x)	     (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, value) (*(volatile __typeof__(x) *)&(x) = (value))
#endif

/*
 * read*() completes before later reads of DMA memory; write*() is seen by the device after
 * earlier writes to DMA memory. The _relaxed forms promise neither. Values are in CPU order.
 */
#define DMALAND_IO(letter, bits)                                                                   \
	static inline uint##bits##_t read##letter##_relaxed(const volatile void __iomem *addr)     \
	{                                                                                          \
		return dmaland_read##bits(addr);                                                   \
	}                                                                                          \
	static inline uint##bits##_t read##letter(const volatile void __iomem *addr)               \
	{                                                                                          \
		uint##bits##_t value = dmaland_read##bits(addr);                                   \
		dma_rmb();                                                                         \
		return value;                                                                      \
	}                                                                                          \
	static inline void write##letter##_relaxed(uint##bits##_t value,                           \
						   volatile void __iomem *addr)                    \
	{                                                                                          \
		dmaland_write##bits(value, addr);                                                  \
	}                                                                                          \
	static inline void write##letter(uint##bits##_t value, volatile void __iomem *addr)        \
	{                                                                                          \
		dma_wmb();                                                                         \
		dmaland_write##bits(value, addr);                                                  \
	}

DMALAND_IO(b, 8)
DMALAND_IO(w, 16)
DMALAND_IO(l, 32)
DMALAND_IO(q, 64)
#undef DMALAND_IO

#ifdef __cplusplus
}
#endif

#endif
