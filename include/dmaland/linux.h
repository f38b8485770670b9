/* SPDX-License-Identifier: MIT */
/*
 * linux.h - the words that kernel source takes for granted, so that its lines compile here
 *
 * For porting: include it in files that come from the kernel. It defines names as short as the
 * kernel's, and makes `struct device` another name of struct dmaland_device.
 */
#ifndef DMALAND_LINUX_H
#define DMALAND_LINUX_H

#include <dmaland/dmaland.h>

#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <linux/types.h> /* __le16 and friends, __u8 and friends */

#define device dmaland_device

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

/*
 * Layout. Behind a struct's closing brace the compiler takes a word that it does not know for a variable's
 * name, and the layout is another than the device's.
 */
#ifndef __packed
#define __packed __attribute__((__packed__))
#endif
#ifndef __aligned
#define __aligned(x) __attribute__((__aligned__(x)))
#endif
#ifndef SMP_CACHE_BYTES
#define SMP_CACHE_BYTES 64
#endif
#ifndef ____cacheline_aligned
#define ____cacheline_aligned __aligned(SMP_CACHE_BYTES)
#endif
#ifndef ____cacheline_aligned_in_smp
#define ____cacheline_aligned_in_smp ____cacheline_aligned
#endif
#ifndef __randomize_layout
#define __randomize_layout /* never here */
#endif

#define cpu_to_le16(x) htole16(x)
#define cpu_to_le32(x) htole32(x)
#define cpu_to_le64(x) htole64(x)
#define le16_to_cpu(x) le16toh(x)
#define le32_to_cpu(x) le32toh(x)
#define le64_to_cpu(x) le64toh(x)
#define cpu_to_be16(x) htobe16(x)
#define cpu_to_be32(x) htobe32(x)
#define cpu_to_be64(x) htobe64(x)
#define be16_to_cpu(x) be16toh(x)
#define be32_to_cpu(x) be32toh(x)
#define be64_to_cpu(x) be64toh(x)

#ifndef PAGE_SIZE
#define PAGE_SIZE ((unsigned long)sysconf(_SC_PAGESIZE))
#endif
#ifndef PAGE_SHIFT
#define PAGE_SHIFT __builtin_ctzl(PAGE_SIZE)
#endif

#define likely(x)			__builtin_expect(!!(x), 1)
#define unlikely(x)			__builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a)			(sizeof(a) / sizeof((a)[0]))
#define BIT(n)				(1UL << (n))
#define ALIGN(x, a)			(((x) + ((a)-1)) & ~((__typeof__(x))(a)-1))
#define PTR_ALIGN(p, a)			((__typeof__(p))ALIGN((uintptr_t)(p), (uintptr_t)(a)))
#define IS_ALIGNED(x, a)		(((x) & ((__typeof__(x))(a)-1)) == 0)
#define DIV_ROUND_UP(n, d)		(((n) + (d)-1) / (d))
#define upper_32_bits(n)		((u32)(((n) >> 16) >> 16))
#define lower_32_bits(n)		((u32)((n)&0xffffffff))
#define offset_in_page(p)		((unsigned long)(p) & (PAGE_SIZE - 1))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define dev_name(dev)	   dmaland_name(dev)
#define dev_err(dev, ...)  dmaland_dev_log(dev, DMALAND_LOG_ERR, __VA_ARGS__)
#define dev_warn(dev, ...) dmaland_dev_log(dev, DMALAND_LOG_WARN, __VA_ARGS__)
#define dev_info(dev, ...) dmaland_dev_log(dev, DMALAND_LOG_INFO, __VA_ARGS__)

#endif
