#!/bin/bash
# test_aarch64.sh BUILD: the libraries built for aarch64, and a program's use of <dmaland/io.h>, as machine code; prints
# TAP. None of it is run. What is expected is what Linux does for dma_wmb(), readl() and the others on arm64: a device is
# in the outer shareable domain.

set -uo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=tests/common/tap.sh
. "$root/tests/common/tap.sh" "$work"

# code OBJDUMP-OPTION... FILE: instructions with their operands, and what is called
code() { aarch64-linux-gnu-objdump -dr --no-show-raw-insn --no-addresses "$@" | sed -n 's/^\t*//p' | tr -s '\t ' ' '; }

# barriers FUNCTION: those of the program's function, and what it calls, in their order
barriers() {
	code -j ".text.$1" "$work/program.o" | grep -oE '^(dmb|dsb) [a-z]+|R_AARCH64_(CALL|JUMP)26 [a-z0-9_]+' |
		sed 's/^R_AARCH64_.* //' | paste -sd ,
}

program_write() {
	cat >"$work/program.c" <<'END'
#include <dmaland/dmaland.h>
#define BARRIER(name) void do_##name(void) { name(); }
BARRIER(dma_wmb) BARRIER(dma_rmb) BARRIER(mb) BARRIER(wmb) BARRIER(rmb)
#define ACCESS(letter, bits) \
	uint##bits##_t do_read##letter(void *at) { return read##letter(at); } \
	void do_write##letter(uint##bits##_t value, void *at) { write##letter(value, at); } \
	uint##bits##_t do_read##letter##_relaxed(void *at) { return read##letter##_relaxed(at); } \
	void do_write##letter##_relaxed(uint##bits##_t value, void *at) { write##letter##_relaxed(value, at); }
ACCESS(b, 8) ACCESS(w, 16) ACCESS(l, 32) ACCESS(q, 64)
END
}

# expect FUNCTION BARRIERS
expect() {
	[ "$(barriers "do_$1")" = "$2" ] || echo "$1: $(barriers "do_$1"), not $2"
}

a_program_compiles() {
	program_write &&
		aarch64-linux-gnu-gcc -O2 -ffunction-sections -Wall -Werror -I"$root/include" -c "$work/program.c" -o "$work/program.o"
}

barriers_are_for_devices() {
	local letter bits=8
	{
		expect dma_wmb "dmb oshst"
		expect dma_rmb "dmb oshld"
		expect mb "dsb sy"
		expect wmb "dsb st"
		expect rmb "dsb ld"
		for letter in b w l q; do
			expect "read$letter" "dmaland_read$bits,dmb oshld"
			expect "write$letter" "dmb oshst,dmaland_write$bits"
			expect "read${letter}_relaxed" "dmaland_read$bits"
			expect "write${letter}_relaxed" "dmaland_write$bits"
			bits=$((2 * bits))
		done
	} >"$work/difference"
	cat "$work/difference"
	[ ! -s "$work/difference" ]
}

# The access itself: one load or store of the width, by one register that stays as it is.
registers_are_accessed_once() {
	local library=$build/src/libdmaland.so access
	for access in "read8 ldrb w" "read16 ldrh w" "read32 ldr w" "read64 ldr x" "write8 strb w" "write16 strh w" "write32 str w" "write64 str x"; do
		# shellcheck disable=SC2086 # three words
		set -- $access
		code --disassemble="dmaland_$1" "$library" | grep -qE "^$2 $3[0-9]+, \[x[0-9]+\]( |$)" || echo "dmaland_$1 has no: $2 $3N, [xN]"
	done >"$work/difference"
	cat "$work/difference"
	[ ! -s "$work/difference" ]
}

# Its queues and doorbells: each barrier of its is one for devices.
the_driver_has_barriers_for_devices() {
	code "$build/drivers/nvme/libdmaland-nvme.so" | grep -oE '^(dmb|dsb) [a-z]+' | sort | uniq -c | tee "$work/all"
	grep -q 'dmb oshst$' "$work/all" && grep -q 'dmb oshld$' "$work/all"
}

check "a program compiles" a_program_compiles
check "barriers are those that a device sees" barriers_are_for_devices
check "a register is accessed once, at its width" registers_are_accessed_once
check "so are those of the NVMe driver" the_driver_has_barriers_for_devices
tap_end
