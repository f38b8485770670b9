#!/bin/bash
# QEMU 7.2: registers of a PCI device that was taken out read zero where they are memory, and all ones where they are ports.
#
# Guess: nobody answers, so that a read is all ones, as of PCI's master abort: in configuration space, by ports and in memory alike. A
# driver that has read all ones from a register that never has them knows that its device is gone; Linux's drivers do so.
# Behaviour: configuration space and ports are all ones; memory that no device has is 0. A driver that waits for all ones of a mapped
# register never sees them on QEMU. A register that is never 0 either, a version or a configuration, tells in both worlds.
#
# Seen: QEMU 7.2.22 (Debian 12), machine "pc", model rtl8139, its transmit configuration register; the accesses are those of qtest.
#
#   there: configuration 813910ec, port 74800000, memory 74800000
#   taken out: configuration ffffffff, port ffffffff, memory 0
set -euo pipefail

qemu_version=1:7.2+dfsg-7+deb12u18+b3
work=$(mktemp -d)
qemu=
trap '[ -z "$qemu" ] || { kill -KILL "$qemu" && wait "$qemu" 2>/dev/null || true; }; rm -rf "$work"' EXIT
cd "$work"

# All of it from no package installed, in a folder of its own
mkdir -p archives/partial tree
: >status
apt-get -qq -o Dir::Cache::archives="$work/archives" -o Dir::State::status="$work/status" -o Debug::NoLocking=1 \
	--no-install-recommends --download-only --yes --allow-downgrades install "qemu-system-x86=$qemu_version" >apt 2>&1 ||
	{ tail -n 3 apt && echo "QEMU $qemu_version cannot be had (any more)" && exit 69; }
for package in archives/*.deb; do
	dpkg -x "$package" tree
done
libraries=tree/lib/x86_64-linux-gnu:tree/usr/lib/x86_64-linux-gnu
libraries+=:$(find tree/usr/lib/x86_64-linux-gnu -mindepth 1 -maxdepth 1 -type d | paste -sd :)

mkfifo accesses.in accesses.out monitor.in monitor.out
QEMU_MODULE_DIR=tree/usr/lib/x86_64-linux-gnu/qemu tree/lib64/ld-linux-x86-64.so.2 \
	--library-path "$libraries" tree/usr/bin/qemu-system-x86_64 -L tree/usr/share/qemu -L tree/usr/share/seabios \
	-M pc -m 64 -nodefaults -display none -S -netdev hubport,hubid=0,id=hub -device rtl8139,id=it,addr=5,netdev=hub,romfile= \
	-chardev pipe,id=accesses,path=accesses -object qtest,id=qtest,chardev=accesses,log=none \
	-chardev pipe,id=monitor,path=monitor -mon chardev=monitor,mode=readline >qemu 2>&1 &
qemu=$!
exec 3>accesses.in 4<accesses.out 5>monitor.in 6<monitor.out

# access COMMAND...: $answer is what was read, in hexadecimal
access() {
	local line
	echo "$*" >&3
	while read -t 20 -r line <&4; do
		[[ $line != OK* ]] || break
	done
	answer=$((${line#OK}))
	answer=$(printf %x "$answer")
}

configuration=0x80002800 # slot 5, by PCI's ports (PCI Local Bus 3.0, 3.2.2.3.2)
port=0xc000 memory=0xe0000000 register=0x40

access outl 0xcf8 $((configuration + 0x10))
access outl 0xcfc $((port + 1))
access outl 0xcf8 $((configuration + 0x14))
access outl 0xcfc $memory
access outl 0xcf8 $((configuration + 4))
access outw 0xcfc 3

look() {
	local words=$1
	access outl 0xcf8 $configuration
	access inl 0xcfc
	words+=": configuration $answer"
	access inl $((port + register))
	words+=", port $answer"
	access readl $((memory + register))
	echo "$words, memory $answer"
}

{
	look there
	echo "device_del it" >&5
	sleep 1                # the monitor has answered by then
	access outl 0xae08 0x20 # the guest's ACPI code lets go of slot 5
	look "taken out"
} | tee said
diff said - <<END
there: configuration 813910ec, port 74800000, memory 74800000
taken out: configuration ffffffff, port ffffffff, memory 0
END
