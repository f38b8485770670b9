#!/bin/bash
# QEMU 7.2, TCG: what one CPU writes to a device can arrive at another, while a second CPU switches a BAR's decoding.
#
# Guess: a register access of one CPU goes to the device that is mapped there, whatever other CPUs do to other devices.
# Behaviour: with a thread for each CPU (-accel tcg,thread=multi, the default) it goes elsewhere now and then, as long as
# another CPU switches the memory decoding of some third device off and on. Its translation of the address is the number of
# a section in a list; the list is replaced at once, the translation a moment later. With one thread for all CPUs
# (thread=single) it does not happen. In a guest that runs Linux the access that goes astray is often one to the CPU's own
# interrupt controller. An end of interrupt that is lost keeps back all later interrupts of that priority, the timer's first:
# the CPU sleeps for ever (HLT, ISR and IRR both have the timer's vector), and the others wait for it. Anything that moves or
# switches BARs is a chance: probing, a reset by VFIO, hot-plug.
#
# Seen: QEMU 7.2.22 (Debian 12). A guest of 100 lines, no operating system: CPU 1 reads the identification register of one
# edu device, CPU 0 switches the decoding of another.
#
#   thread=multi    reads 25158245, wrong 559
#   thread=single   reads 38264137, wrong 0
set -euo pipefail

qemu_version=1:7.2+dfsg-7+deb12u18+b3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# QEMU and all that it needs, from no package installed, in a folder of its own
mkdir -p archives/partial root
: >status
apt-get -qq -o Dir::Cache::archives="$work/archives" -o Dir::State::status="$work/status" -o Debug::NoLocking=1 \
	--no-install-recommends --download-only --yes --allow-downgrades install "qemu-system-x86=$qemu_version" >apt 2>&1 ||
	{ tail -n 3 apt && echo "qemu-system-x86 $qemu_version cannot be had (any more)" && exit 69; }
for package in archives/*.deb; do
	dpkg -x "$package" root
done
qemu() {
	local libraries=root/lib/x86_64-linux-gnu:root/usr/lib/x86_64-linux-gnu
	libraries+=:$(find root/usr/lib/x86_64-linux-gnu -mindepth 1 -maxdepth 1 -type d | paste -sd :)
	QEMU_MODULE_DIR=root/usr/lib/x86_64-linux-gnu/qemu root/lib64/ld-linux-x86-64.so.2 --library-path "$libraries" root/usr/bin/qemu-system-x86_64 \
		-L root/usr/share/qemu -L root/usr/share/seabios "$@"
}
qemu --version | head -n 1

cat >guest.c <<'END'
typedef unsigned int u32;

enum { SWITCHES = 200000, EDU_ID = 0x010000ed, APIC = 0xfee00000, TRAMPOLINE = 0x8000 };

/* Multiboot 0.6.96, 3.1.1 */
__attribute__((section(".multiboot"), used)) static const u32 header[3] = {0x1badb002, 0, -0x1badb002u};

static volatile u32 *edu;
static volatile u32 reads, wrong, started, ending;
char stacks[2][4096];

static void outb(unsigned short port, unsigned char v) { __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port)); }
static void outl(unsigned short port, u32 v) { __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port)); }
static u32 inl(unsigned short port)
{
	u32 v;
	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static u32 config(u32 slot, u32 offset)
{
	outl(0xcf8, 0x80000000u | slot << 11 | offset);
	return inl(0xcfc);
}

static void config_write(u32 slot, u32 offset, u32 value)
{
	outl(0xcf8, 0x80000000u | slot << 11 | offset);
	outl(0xcfc, value);
}

static void say(const char *text) { while (*text) outb(0xe9, *text++); }
static void say_number(u32 n)
{
	if (n >= 10)
		say_number(n / 10);
	outb(0xe9, '0' + n % 10);
}

void second(void)
{
	started = 1;
	while (!ending) {
		u32 value, work = reads;

		/* some microseconds in which no other CPU is asked for anything, right before the access */
#pragma GCC unroll 64
		for (u32 i = 0; i < 64; i++)
			__asm__ volatile("divl %1" : "+a"(work) : "r"(3), "d"(0));
		value = *edu;
		reads++;
		wrong += value != EDU_ID;
	}
	started = 2;
	for (;;)
		__asm__ volatile("cli; hlt");
}

void first(void)
{
	extern char trampoline[], trampoline_end[];
	volatile u32 *apic = (volatile u32 *)APIC;
	/* the device that is read lies above the one that is switched: so its number in the list changes */
	u32 above = config(5, 0x10) > config(4, 0x10) ? 5 : 4, below = 9 - above;
	u32 command = config(below, 4) & 0xffff;

	edu = (volatile u32 *)(config(above, 0x10) & ~0xfu);
	config_write(above, 4, (config(above, 4) & 0xffff) | 2);
	for (u32 i = 0; i < (u32)(trampoline_end - trampoline); i++)
		((char *)TRAMPOLINE)[i] = trampoline[i];
	/* Intel SDM, volume 3, "MP initialization": INIT, then start-up at page 8 */
	apic[0x310 / 4] = 1 << 24;
	apic[0x300 / 4] = 0x4500;
	for (volatile u32 i = 0; i < 1000000; i++)
		;
	apic[0x310 / 4] = 1 << 24;
	apic[0x300 / 4] = 0x4608;
	while (!started)
		;
	for (u32 i = 0; i < SWITCHES; i++)
		config_write(below, 4, i & 1 ? command | 2 : command & ~2u);
	ending = 1;
	while (started != 2)
		;
	say("reads ");
	say_number(reads);
	say(", wrong ");
	say_number(wrong);
	say("\n");
	outb(0xf4, 0x10);
	for (;;)
		;
}

__asm__(".globl _start\n"
	"_start: cli; lgdt gdt_pointer; ljmp $8, $1f\n"
	"1: mov $16, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov $stacks + 4096, %esp; call first\n"
	"trampoline: .code16; cli; xor %ax, %ax; mov %ax, %ds; lgdtl (0x8000 + gdt_pointer_low - trampoline)\n"
	"mov %cr0, %eax; or $1, %eax; mov %eax, %cr0; ljmpl $8, $2f\n"
	"gdt_pointer_low: .word 23; .long gdt\n"
	"trampoline_end: .code32\n"
	"2: mov $16, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov $stacks + 8192, %esp; call second\n"
	".balign 8\n"
	"gdt: .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff\n"
	"gdt_pointer: .word 23; .long gdt\n");
END
cat >guest.ld <<'END'
ENTRY(_start)
SECTIONS { . = 1M; .multiboot : { *(.multiboot) } .text : { *(.text*) *(.rodata*) } .data : { *(.data*) } .bss : { *(.bss*) *(COMMON) } }
END
gcc -m32 -O1 -ffreestanding -fno-pic -fno-pie -fno-stack-protector -nostdlib -static -Wl,--build-id=none,--no-warn-rwx-segments -Wl,-T,guest.ld \
	-o guest guest.c

# run THREAD: prints "reads N, wrong N"
run() {
	rm -f out
	timeout 300 bash -c "$(declare -f qemu); qemu \"\$@\"" - -machine q35 -accel "tcg,thread=$1" -smp 2 -m 64 \
		-nodefaults -display none -no-reboot -kernel guest -debugcon file:out -device isa-debug-exit,iobase=0xf4 \
		-device edu,addr=4 -device edu,addr=5 || [ $? = 33 ]
	cat out
}

status=0
multi=$(run multi)
single=$(run single)
echo "thread=multi    $multi"
echo "thread=single   $single"
[[ $multi =~ wrong\ [1-9] ]] || status=1
[[ $single =~ wrong\ 0$ ]] || status=1
[ $status = 0 ] && echo "as found" || echo "CHANGED"
exit $status
