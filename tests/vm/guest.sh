#!/bin/bash
# Runs inside the VM, as root: guest.sh PART BUILD
#
#   device      booted with --removable, a device that reports errors and a USB stick (in ./run): the device suite on VFIO, edu,
#               isolation, permissions, what VFIO does to mappings, the stick's first block, and network cards, ours and the kernel's,
#               also by `dmaland net`
#   machine     (booted with --functions) what needs states of the machine: other drivers, ordinary users, limits; and the kernel's
#               own nvme driver reading what ours wrote, and the other way round
#   no-iommu    booted without an IOMMU
#   shared      booted with two drives in one group
#   numa        booted with --numa
#   iommu-amd, iommu-virtio, iommu-unsafe  booted with --no-iommu and an IOMMU of that kind (in ./run): what `info` says
#   decode      needs no device of ours: CPUs sleep and wake while a device's decoding is switched on and off
#   demo FILE   the demo's second act
#   bench-nvme  BUILD is the program bench-nvme, its arguments follow: the drive for the kernel's driver, then for ours
#   bench-net   BUILD is the program bench-net, its arguments follow: the first card for the kernel's driver, then for ours
#
# Prints TAP, the programs' own and its own; but for the last three. Each program and test has a limit and gets the devices
# that it names, so that a failure or a hang leads no other astray.

# shellcheck disable=SC2015
set -uo pipefail

part=$1 build=$2
nvme=0000:00:01.0 edu=0000:00:04.0 shared=0000:02:01.0 removable=0000:01:00.0 far=0000:81:00.0
card=0000:00:02.0 other_card=0000:00:03.0 port=0000:00:08.0 reports=0000:02:00.0 usb=0000:00:09.0
# shellcheck source=tests/common/tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/../common/tap.sh" "$TMPDIR"

driver_of() { basename "$(readlink "/sys/bus/pci/devices/$1/driver" || echo none)"; }

# Before Linux 6.4 nvme lets go later of what is unbound from it before it is live, whoever has it then.
nvme_is_live() {
	local i
	for ((i = 0; i < 1000; i++)); do
		[ "$(driver_of "$1")" = nvme ] && ! grep -qsx live "/sys/bus/pci/devices/$1"/nvme/nvme*/state || return 0
		sleep 0.01
	done
	return 1
}

# bind ADDRESS DRIVER
bind() {
	local device=/sys/bus/pci/devices/$1
	echo "$2" >"$device/driver_override"
	[ "$(driver_of "$1")" != "$2" ] || return 0
	nvme_is_live "$1" || echo "nvme does not take $1"
	[ ! -e "$device/driver" ] || echo "$1" >"$device/driver/unbind"
	echo "$1" >/sys/bus/pci/drivers_probe
	[ "$(driver_of "$1")" = "$2" ] || { echo "$1 is bound to $(driver_of "$1"), not to $2" && return 1; }
}

# The port that leads to QEMU's monitor.
monitor() {
	local name
	name=$(grep -lx dmaland.monitor /sys/class/virtio-ports/*/name)
	name=${name%/name}
	echo "/dev/${name##*/}"
}

# A drive that is used is removed: by the kernel, which finds it again, and by its machine.
removals() {
	for _ in 1 2 3; do
		program "$removable" "$build/tests/device/removal" "$removable" "echo 1 >/sys/bus/pci/devices/$removable/remove"
		limited 60 eval 'echo 1 >/sys/bus/pci/rescan'
	done
	program "$removable" "$build/tests/device/removed" "vfio:$removable" 1 "echo device_del dmaland3 >$(monitor)"
}

# QEMU's port hands errors up to the kernel while its bridge control has SERR (PCI-to-PCI Bridge 1.2, 3.2.5.18).
error_reports() {
	printf '\x02\x00' | dd of="/sys/bus/pci/devices/$port/config" bs=1 seek=$((0x3e)) conv=notrunc status=none
	program "$reports" "$build/tests/device/aer" "$reports" "echo pcie_aer_inject_error reports COMP_TIME >$(monitor)"
}

group_file() { echo "/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$1/iommu_group")")"; }

# program "ADDRESS..." COMMAND...: these are VFIO's first; its TAP is part of ours
program() {
	local address
	for address in $1; do
		[ "$(driver_of "$address")" = vfio-pci ] || check "$address is bound to vfio-pci" bind "$address" vfio-pci
	done
	limited "${program_limit:-600}" "${@:2}" || tap_failed=1
}

# checks NAME...: functions of those names, one test each
checks() {
	local name
	for name; do
		check "$name" "$name"
	done
}

# in_cgroup SIZE COMMAND...: in a cgroup that may have so much memory
in_cgroup() {
	local cgroups=/sys/fs/cgroup
	mountpoint -q "$cgroups" || mount -t cgroup2 cgroup "$cgroups" || return
	echo +memory >"$cgroups/cgroup.subtree_control" && mkdir -p "$cgroups/$1" && echo "$1" >"$cgroups/$1/memory.max" &&
		echo "$BASHPID" >"$cgroups/$1/cgroup.procs" && "${@:2}"
}

with_little() { ulimit -l 8192 && "$@"; }

as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }

# An ordinary user can enter the directories that lead here, also where the host's are their owner's alone (a home, mktemp -d). The
# host's / is read-only: the first of them gets a layer for that.
way_open() {
	local path='' part parts layer=$TMPDIR/layer
	IFS=/ read -ra parts <<<"${PWD#/}"
	for part in "${parts[@]}"; do
		path+=/$part
		[ $(($(stat -c 0%a "$path") & 1)) = 1 ] && continue
		[ -e "$layer" ] || {
			modprobe -d "$DMALAND_MODULES" overlay && mkdir -p "$layer/upper" "$layer/work" &&
				mount -t overlay -o "lowerdir=$path,upperdir=$layer/upper,workdir=$layer/work" way "$path"
		} || return
		chmod o+x "$path" || return
	done
	cd "$PWD" || return
}

dmaland() { "$build/tools/dmaland" "$@"; }

# The kernel's name of the drive changes with each bind.
kernel_drive() {
	local path
	for _ in $(seq $((500 * patience))); do
		for path in "/sys/bus/pci/devices/$nvme"/nvme/nvme*/nvme*n1; do
			[ ! -b "/dev/${path##*/}" ] || { echo "/dev/${path##*/}" && return; }
		done
		sleep 0.02
	done
	return 1
}

# What is written to the drive.
file_ours() { [ -e "$TMPDIR/ours" ] || head -c 5000000 /dev/urandom >"$TMPDIR/ours"; }

kernel_reads_what_we_wrote() {
	file_ours && bind "$nvme" vfio-pci && dmaland nvme write "vfio:$nvme" --pad "$TMPDIR/ours" && bind "$nvme" nvme &&
		head -c 5000000 "$(kernel_drive)" | cmp - "$TMPDIR/ours"
}

we_read_what_the_kernel_wrote() {
	head -c 6000128 /dev/urandom >"$TMPDIR/theirs"
	bind "$nvme" nvme &&
		dd if="$TMPDIR/theirs" of="$(kernel_drive)" bs=64K seek=16 conv=fsync,notrunc status=none &&
		bind "$nvme" vfio-pci &&
		dmaland nvme read "vfio:$nvme" -s 2048 -c 11719 - | cmp - "$TMPDIR/theirs"
}

# writes WAYS [OPTION]: the file "ours" from its second block on, as --verbose says; and reads it back
writes() {
	local file=$TMPDIR/ours
	file_ours && bind "$nvme" vfio-pci || return
	{
		dd of=/dev/null bs=512 count=1 status=none
		dmaland nvme write -v --pad "vfio:$nvme$2" -s 9 - 2>"$TMPDIR/said"
	} <"$file" || { cat "$TMPDIR/said" && return 1; }
	grep -q "^requests: $1$" "$TMPDIR/said" || { cat "$TMPDIR/said" && return 1; }
	dmaland nvme read "vfio:$nvme" -s 9 -c 9765 | head -c $((5000000 - 512)) | cmp - <(tail -c +513 "$file")
}

a_file_goes_to_the_drive_as_it_lies() { writes "38 mapped where they lie, 1 in DMA memory, 0 copied" ""; }

a_file_that_is_refused_is_read() { writes "0 mapped where they lie, 39 in DMA memory, 0 copied" ,no_syscalls=yes; }

without_sysfs() { unshare --mount bash -c 'mount -t tmpfs none /sys && exec "$@"' - "$@"; }

# As examples/giver.c has it: nobody reads the drive's first block, as often as it asks for it, and another may not ask.
nobody_reads_a_drive_that_root_gave() {
	local pid status=0
	file_ours && bind "$nvme" vfio-pci && dmaland nvme write "vfio:$nvme" -c 1 "$TMPDIR/ours" || return
	"$build/examples/giver" "$TMPDIR/socket" 65534 "$nvme" &
	pid=$!
	until [ -S "$TMPDIR/socket" ] && [ "$(stat -c %u "$TMPDIR/socket")" = 65534 ]; do
		kill -0 "$pid" && sleep 0.02 || return
	done
	for _ in 1 2 3; do
		without_sysfs setpriv --reuid=65534 --regid=65534 --clear-groups \
			"$build/examples/taker" "$TMPDIR/socket" | cmp - <(head -c 512 "$TMPDIR/ours") || status=1
	done
	! setpriv --reuid=1 --regid=1 --clear-groups "$build/examples/taker" "$TMPDIR/socket" 2>/dev/null || status=1
	kill "$pid"
	return "$status"
}

# As an ordinary user, with the locked memory that one has.
the_quickstart_is_true() { bind "$edu" vfio-pci && dmaland unbind "$edu" && (ulimit -l 8192 && tests/vm/console.sh "$build" docs/quickstart.md); }

edu_carries_a_text() { bind "$edu" vfio-pci && "$build/examples/edu" "vfio:$edu" | grep -xF -f - README.md; }

# The stick is README.md.
xhci_reads_a_stick() {
	bind "$usb" vfio-pci && "$build/examples/xhci" "vfio:$usb" >"$TMPDIR/said" 2>&1 &&
		grep -x "block 0:$(od -An -tx1 -N16 README.md) ...$(od -An -tx1 -j510 -N2 README.md)" "$TMPDIR/said" &&
		! grep dmaland: "$TMPDIR/said" || { cat "$TMPDIR/said" && return 1; }
}

# interface ADDRESS: the kernel's name of a card
interface() { basename "/sys/bus/pci/devices/$1/net/"*; }

# kernel_card ADDRESS IP [COMMAND...]: a card is 8139cp's, up, and has that address; COMMAND enters the network it is in
kernel_card() {
	local name
	modprobe -d "$DMALAND_MODULES" 8139cp && bind "$1" 8139cp && name=$(interface "$1") || return
	[ $# -le 2 ] || ip link set "$name" netns "$3" || return
	"${@:4}" busybox sysctl -qw "net.ipv6.conf.$name.disable_ipv6=1" # asks nobody by itself
	"${@:4}" ip addr add "$2/24" dev "$name" && "${@:4}" ip link set "$name" up
}

# Both cards are the kernel's, which would find its own addresses without the hub: one goes to another network namespace.
the_card_is_the_kernels_again_and_pings_the_other() {
	local pid
	unshare --net sleep 1000 &
	pid=$!
	until [ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ]; do
		kill -0 "$pid" || return
	done
	kernel_card "$card" 10.0.0.2 "$pid" nsenter --net --target "$pid" && busybox ping -c 3 -s 1000 -w $((20 * patience)) 10.0.0.2
}

# reads WAYS [OPTION]: the file "ours" from its second block on, from the drive to a file in memory
reads() {
	file_ours && bind "$nvme" vfio-pci && dd if="$TMPDIR/ours" bs=512 skip=1 status=none |
		dmaland nvme write --pad "vfio:$nvme" -s 9 - && dmaland nvme read -v "vfio:$nvme$2" -s 9 -c 9765 "$TMPDIR/back" 2>"$TMPDIR/said" &&
		grep -q "^requests: $1$" "$TMPDIR/said" || { cat "$TMPDIR/said" && return 1; }
	head -c $((5000000 - 512)) "$TMPDIR/back" | cmp - <(tail -c +513 "$TMPDIR/ours") &&
		[ "$(stat -c %s "$TMPDIR/back")" = $((9765 * 512)) ]
}

the_drive_fills_a_file_in_memory() { reads "38 mapped where they lie, 1 in DMA memory, 0 copied" ""; }

a_file_that_is_not_given_to_the_drive_is_written() { reads "0 mapped where they lie, 39 in DMA memory, 0 copied" ,no_syscalls=yes; }

# A disk that is full shows before anything is read; and so does one that fills up on the way, in words.
a_full_disk_is_an_error_and_leaves_nothing() {
	bind "$nvme" vfio-pci && mkdir "$TMPDIR/full" && mount -t tmpfs -o size=1M full "$TMPDIR/full" || return
	! dmaland nvme read "vfio:$nvme" -c 4096 "$TMPDIR/full/file" 2>"$TMPDIR/said" &&
		grep "^dmaland: cannot write 2 MiB to $TMPDIR/full/file: No space left" "$TMPDIR/said" &&
		! grep "were read" "$TMPDIR/said" && [ ! -s "$TMPDIR/full/file" ] || { cat "$TMPDIR/said" && return 1; }
	! dmaland nvme read "vfio:$nvme" -c 4096 2>"$TMPDIR/said" >"$TMPDIR/full/file" &&
		grep "^dmaland: cannot write to stdout: No space left" "$TMPDIR/said" &&
		grep "^dmaland: 2048 of 4096 blocks, from block 0 on, were read to stdout" "$TMPDIR/said" &&
		umount "$TMPDIR/full" || { cat "$TMPDIR/said" && return 1; }
}

# A filesystem on the kernel's drive, at $TMPDIR/disk.
disk_mount() {
	bind "$nvme" nvme && modprobe -d "$DMALAND_MODULES" ext4 && mkdir -p "$TMPDIR/disk" &&
		mkfs.ext4 -q -F "$(kernel_drive)" && mount -t ext4 "$(kernel_drive)" "$TMPDIR/disk"
}

case $part in
device)
	program "$nvme" "$build/tests/device/suite" "vfio:$nvme"
	# of one thread, and minutes under ThreadSanitizer
	[ "$build" = build-tsan ] || program "$nvme $edu" "$build/tests/device/faults" "vfio:$nvme" "$edu"
	program "$nvme $edu" "$build/tests/device/edu" "vfio:$edu" "vfio:$nvme"
	program "$nvme" "$build/tests/device/irq" "vfio:$nvme"
	program "$edu" "$build/tests/device/irq" "vfio:$edu"
	checks xhci_reads_a_stick
	program "$card $other_card $edu" "$build/tests/device/cards" 2000 "vfio:$card" "vfio:$other_card" "vfio:$edu"
	program "$card $other_card" "$build/tests/device/card_removed" 6 "vfio:$card" "vfio:$other_card"
	program "$card $other_card" tests/vm/net.sh "$build" "$card" "$other_card"
	check "the other card is the kernel's" kernel_card "$other_card" 10.0.0.1
	program "$card" tests/vm/net.sh "$build" "$card" "$(interface "$other_card")"
	program "$card" "$build/tests/device/neighbour" "vfio:$card" "$(interface "$other_card")"
	checks the_card_is_the_kernels_again_and_pings_the_other
	removals
	error_reports
	program "$nvme" "$build/tests/device/isolation" "$nvme"
	program "$nvme" "$build/tests/device/permissions" "vfio:$nvme"
	program "$edu" "$build/tests/device/permissions" "vfio:$edu"
	echo 8 >/proc/sys/vm/nr_hugepages
	program "$nvme $edu" "$build/tests/device/vfio_mappings" "vfio:$nvme" "vfio:$edu"
	;;
machine)
	check "an ordinary user can reach the programs" way_open
	way_open # for this shell, whose directory it is
	check "the drive is the kernel's" bind "$nvme" nvme
	program "" "$build/tests/device/refusals" bound "$nvme"
	program "" tests/vm/tool.sh machine "$build"
	checks kernel_reads_what_we_wrote we_read_what_the_kernel_wrote \
		a_file_goes_to_the_drive_as_it_lies a_file_that_is_refused_is_read the_drive_fills_a_file_in_memory \
		a_file_that_is_not_given_to_the_drive_is_written a_full_disk_is_an_error_and_leaves_nothing
	# with sanitizers on the host, on QEMU
	[ "$build" != build ] || program "$nvme" "$build/tests/device/killed" "vfio:$nvme" 20
	[ "$build" != build ] || program "$nvme" "$build/tests/device/removed" "vfio:$nvme" 20
	check "the kernel's drive is mounted" disk_mount
	program "$edu" "$build/tests/device/vfio_mappings" "vfio:$edu" "vfio:$edu" "$TMPDIR/disk/file"
	check "and unmounted" umount "$TMPDIR/disk"
	program "$nvme $edu" "$build/tests/device/handed" "$nvme" "$edu"
	checks edu_carries_a_text nobody_reads_a_drive_that_root_gave
	chmod 755 /dev/vfio
	# What a user compiles does not go with a library for sanitizers.
	if [ "$build" = build ] && [ -s /usr/share/misc/pci.ids ]; then
		checks the_quickstart_is_true
	elif [ "$build" = build ]; then
		skip the_quickstart_is_true "it has names of devices, which cannot be had here: pci.ids is empty"
	fi
	program "$nvme" "$build/tests/device/refusals" reset "$nvme"
	program "$nvme" as_nobody "$build/tests/device/refusals" no-permission "$nvme"
	program "$nvme" chown 65534 "$(group_file "$nvme")"
	program "$nvme" with_little as_nobody "$build/tests/device/refusals" memlock "$nvme"
	program "$nvme" in_cgroup 128M "$build/tests/device/refusals" cgroup "$nvme"
	echo 3 >/sys/module/vfio_iommu_type1/parameters/dma_entry_limit
	program "$nvme" "$build/tests/device/refusals" mappings "$nvme"
	;;
no-iommu)
	program "" "$build/tests/device/refusals" no-iommu "$nvme"
	program "" tests/vm/tool.sh no-iommu "$build"
	;;
shared)
	program "" tests/vm/tool.sh shared "$build"
	program "$shared" "$build/tests/device/refusals" not-viable "$shared"
	;;
numa) program "$nvme $far" "$build/tests/device/numa" "vfio:$far" "vfio:$nvme" ;;
iommu-*) program "" tests/vm/tool.sh "$part" "$build" ;;
decode) program "" "$build/tests/vm/decode" "/sys/bus/pci/devices/$edu/config" 20 ;;
demo)
	bind "$nvme" vfio-pci || exit 1
	"$build/examples/demo" scatter "vfio:$nvme" "$3" "$TMPDIR/copy" || exit 1
	cmp "$TMPDIR/copy" "$3" || exit 1
	bind "$nvme" nvme || exit 1
	echo "$(uname -r), $(head -c "$(stat -c %s "$3")" "$(kernel_drive)" | sha256sum | cut -d ' ' -f 1)"
	;;
bench-nvme)
	# taken anew, as it makes its queues
	echo 1 >/sys/module/nvme/parameters/poll_queues && bind "$nvme" vfio-pci && bind "$nvme" nvme || exit 1
	"$build" --drive "$(kernel_drive)" "${@:3}" || exit 1
	bind "$nvme" vfio-pci || exit 1
	"$build" --drive "vfio:$nvme" "${@:3}" || exit 1
	;;
bench-net)
	# they have the processor for as long as they want it; but the kernel's part of receiving goes before them
	echo -1 >/proc/sys/kernel/sched_rt_runtime_us
	softirqs=$(grep -lx ksoftirqd/0 /proc/[0-9]*/comm)
	chrt --fifo --pid 30 "$(basename "${softirqs%/comm}")" || exit 1
	bind "$other_card" vfio-pci && modprobe -d "$DMALAND_MODULES" 8139cp && bind "$card" 8139cp &&
		busybox sysctl -qw "net.ipv6.conf.$(interface "$card").disable_ipv6=1" || exit 1
	"$build" --card "$(interface "$card")" "vfio:$other_card" "${@:3}" || exit 1
	bind "$card" vfio-pci || exit 1
	"$build" --card "vfio:$card" "vfio:$other_card" "${@:3}" || exit 1
	;;
esac
tap_end
