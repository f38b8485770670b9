#!/bin/bash
# Runs inside the VM, as root: tool.sh PART BUILD; prints TAP. What of the command `dmaland` needs a machine of its own:
# `bind` and `unbind` with what they refuse, and drives that are formatted.
#
#   machine     booted with --functions
#   no-iommu    booted without an IOMMU
#   iommu-amd, iommu-virtio, iommu-unsafe  booted with an IOMMU of that kind; the last remaps no interrupts
#   shared      booted with two drives in one group, and two controllers of one namespace (in ./run)
#
# Before each test the machine is put in order, whatever the test before it left: drives are nvme's, the others have no
# driver, nothing is mounted on a drive or made of it.

# shellcheck disable=SC2016 # what eval and inner shells expand
set -uo pipefail

part=$1 build=$2
drive=0000:00:01.0 nic=0000:00:02.0 edu=0000:00:04.0 isa=0000:00:1f.0 shared=0000:02:01.0 neighbour=0000:02:02.0
far=0000:81:00.0 # below a host bridge of its own
physical=0000:01:00.0 virtual=0000:01:00.1
ways="0000:00:06.0 0000:00:07.0"
# shellcheck source=tests/common/tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/../common/tap.sh" "$TMPDIR"

dmaland() { "$build/tools/dmaland" "$@"; }

as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }

driver_of() { basename "$(readlink "/sys/bus/pci/devices/$1/driver" || echo none)"; }

override_of() { cat "/sys/bus/pci/devices/$1/driver_override"; }

# refused WORDS COMMAND...: exit status 1, and WORDS on stderr
refused() {
	local words=$1 status=0
	shift
	"$@" 2>"$TMPDIR/err" || status=$?
	cat "$TMPDIR/err"
	[ "$status" = 1 ] && grep -q "^dmaland: .*$words" "$TMPDIR/err"
}

# home ADDRESS DRIVER: the device is where it belongs, DRIVER's or no one's (none), and nobody asks for another
home() {
	local device=/sys/bus/pci/devices/$1
	[ -e "$device" ] || return 0
	[ "$(driver_of "$1")" != "$2" ] || [ "$(override_of "$1")" != "(null)" ] || return 0
	[ "$(driver_of "$1")" = "$2" ] || [ ! -e "$device/driver" ] || echo "$1" >"$device/driver/unbind" || return
	echo >"$device/driver_override" && echo "$1" >/sys/bus/pci/drivers_probe
	[ "$(driver_of "$1")" = "$2" ] || { echo "$1 does not go back to $2" && return 1; }
}

in_order() {
	local address path status=0
	[ ! -e "/sys/bus/pci/devices/$virtual" ] || echo 0 >"/sys/bus/pci/devices/$physical/sriov_numvfs" || status=1
	for path in "$TMPDIR/mnt" /sys/bus/pci/drivers/{nvme,vfio-pci}/unbind; do
		while umount "$path" 2>/dev/null; do :; done
	done
	for path in "/sys/bus/pci/devices/$drive"/nvme/nvme*/nvme*n1/nvme*p1; do
		[ ! -e "$path" ] || delpart "/dev/$(basename "${path%/*}")" 1 || status=1
	done
	swapoff -a
	[ ! -e /dev/mapper/volume ] || dmsetup remove --noudevsync volume || status=1
	[ ! -e /sys/block/md_test/md ] || echo clear >/sys/block/md_test/md/array_state || status=1
	[ "$part" != machine ] || home "$physical" nvme || status=1
	for address in $drive $shared $neighbour $ways; do
		home "$address" nvme || status=1
	done
	home "$edu" none || status=1
	case $(driver_of "$nic") in
	none | 8139cp) ;;
	*) home "$nic" none || home "$nic" 8139cp || status=1 ;;
	esac
	return "$status"
}

# tested NAME: the test, in a machine that is in order, which it leaves so
tested() {
	local status
	in_order || return
	"$1"
	status=$?
	in_order && return "$status"
}

# A file system on the drive, and where to mount it.
file_system() { mkdir -p "$TMPDIR/mnt" && modprobe -d "$DMALAND_MODULES" ext4 && mkfs.ext4 -q -F "$(disk)" 64M; }

# The name changes with each bind, and comes a moment after it.
disk() {
	local path
	for _ in $(seq $((500 * patience))); do
		for path in "/sys/bus/pci/devices/$drive"/nvme/nvme*/nvme*n1; do
			[ ! -b "/dev/${path##*/}" ] || { echo "/dev/${path##*/}" && return; }
		done
		sleep 0.02
	done
	return 1
}

# ---- there and back

dry_run_shows_the_writes_and_does_none() {
	dmaland bind --dry-run "$drive" | tee "$TMPDIR/writes"
	diff "$TMPDIR/writes" - <<END && [ "$(driver_of "$drive")" = nvme ] && [ "$(override_of "$drive")" = "(null)" ]
echo vfio-pci > /sys/bus/pci/devices/$drive/driver_override
echo $drive > /sys/bus/pci/devices/$drive/driver/unbind
echo $drive > /sys/bus/pci/drivers_probe
END
}

what_dry_run_shows_is_what_bind_does() {
	dmaland bind --dry-run "$drive" | bash && [ "$(driver_of "$drive")" = vfio-pci ] &&
		dmaland unbind --dry-run "$drive" | bash && [ "$(driver_of "$drive")" = nvme ] &&
		[ "$(override_of "$drive")" = "(null)" ]
}

bind_gives_a_drive_to_user_space() {
	dmaland bind 00:01.0 | grep -x "$drive is bound to vfio-pci; before: nvme" &&
		[ "$(driver_of "$drive")" = vfio-pci ] && dmaland info "$drive" | grep "vfio-pci .* vfio$" &&
		dmaland nvme read "$drive" -c 1 - | cmp -n 512 - /dev/zero
}

info_tells_what_can_be_used() {
	dmaland info "$nic" >"$TMPDIR/info" && cat "$TMPDIR/info" &&
		grep "^IOMMU  *[^ ]" "$TMPDIR/info" && ! grep "^IOMMU  *none" "$TMPDIR/info" &&
		grep "its IOMMU group keeps free: 0x" "$TMPDIR/info" && dmaland info "$drive" | grep "DMA mask of nvme: 64 bits"
}

# info_of ADDRESS PATTERN...: it says each of them
info_of() {
	local pattern
	dmaland info "$1" >"$TMPDIR/info" && cat "$TMPDIR/info" || return
	for pattern in "${@:2}"; do
		grep -q -- "$pattern" "$TMPDIR/info" || { echo "not there: $pattern" && return 1; }
	done
}

# addresses_of ADDRESS UNIT: info knows them as a program that opens the device does
addresses_of() {
	local ranges
	dmaland bind "$1" && ranges=$("$build/tests/device/ranges" "vfio:$1") && echo "VFIO: $ranges" || return
	info_of "$1" "^IOMMU  *$2; usable $ranges$" "usable addresses, as VFIO reports them: $ranges$" "vfio-pci .* vfio$" &&
		dmaland info --json "$1" | grep -q "\"iommu_usable\": \"$ranges\""
}

info_tells_the_addresses_that_vfio_reports() { addresses_of "$edu" "Intel VT-d, 39 bits"; }

a_device_in_use_is_usable_as_before() {
	dmaland bind "$edu" || return
	exec {held}<>"/dev/vfio/$(basename "$(readlink "/sys/bus/pci/devices/$edu/iommu_group")")" &&
		info_of "$edu" "vfio-pci .* vfio$"
	local status=$?
	exec {held}>&-
	return "$status"
}

without_sys_info_says_so() {
	unshare --mount bash -c 'mount -t tmpfs none /sys && exec "$@"' - "$build/tools/dmaland" info >"$TMPDIR/info" &&
		cat "$TMPDIR/info" && grep "^no /sys here" "$TMPDIR/info" && grep "^IOMMU  *not known: no /sys" "$TMPDIR/info" || return
	refused "no /sys here" unshare --mount bash -c 'mount -t tmpfs none /sys && exec "$@"' - "$build/tools/dmaland" nvme identify "$drive"
}

# ---- other IOMMUs

amd_is_named_with_its_addresses() {
	info_of "$edu" "^IOMMU  *AMD-Vi; which addresses are usable is known of devices that VFIO has" && addresses_of "$edu" AMD-Vi
}

# unsafe ADDRESS: VFIO refuses it, info says so and what to do, and that is true
unsafe() {
	local allowed=/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts status=0
	info_of "$1" "no: VFIO refuses it, since its interrupts are not remapped" "^refused by VFIO" "echo Y > $allowed" || return
	dmaland info --json "$1" | grep -q '"vfio": false' || return
	refused "no interrupt remapping" dmaland nvme identify "vfio:$1" || return
	echo Y >"$allowed" && info_of "$1" "vfio-pci .* vfio$" && "$build/tests/device/ranges" "vfio:$1" || status=1
	echo N >"$allowed"
	return "$status"
}

what_vfio_refuses_is_not_usable() { dmaland bind "$edu" && unsafe "$edu"; }

# Without a driver it has no group, and no driver of the IOMMU is there at first.
a_device_behind_a_virtio_iommu_is_behind_an_iommu() {
	[ "$(driver_of "$far")" = none ] && modprobe -d "$DMALAND_MODULES" virtio-iommu || return
	info_of "$far" "^IOMMU  *virtio-iommu; which addresses" "after: dmaland bind $far" || return
	refused "bound to no driver; give it to VFIO" "$build/tools/dmaland" nvme identify "$far" || return
	info_of "$drive" "no: not behind the IOMMU" && refused "not behind this machine's IOMMU" dmaland nvme identify "$drive"
}

and_vfio_refuses_it() { dmaland bind "$far" && unsafe "$far" && addresses_of_an_unsafe_device; }

addresses_of_an_unsafe_device() {
	local allowed=/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts status
	echo Y >"$allowed"
	addresses_of "$far" virtio-iommu
	status=$?
	echo N >"$allowed"
	return "$status"
}

# one device, whatever it is called
a_device_that_is_named_twice_is_bound_once() {
	dmaland bind "$drive" 00:01.0 "vfio:$drive" vfio:00:01.0 >"$TMPDIR/said" && cat "$TMPDIR/said" &&
		[ "$(cat "$TMPDIR/said")" = "$drive is bound to vfio-pci; before: nvme" ]
}

capitals_are_read() { refused "$isa is a bridge" dmaland bind vfio:00:1F.0 && refused "$isa is a bridge" dmaland bind 0000:00:1F.0; }

bound_twice_is_bound() { dmaland bind "$drive" && dmaland bind vfio:"$drive" | grep -x "$drive is bound to vfio-pci already"; }

unbind_gives_it_back() {
	dmaland bind "$drive" && dmaland unbind "$drive" | grep -x "$drive is bound to nvme" && [ "$(driver_of "$drive")" = nvme ] &&
		[ "$(override_of "$drive")" = "(null)" ] && disk &&
		dmaland unbind "$drive" | grep -x "$drive is bound to nvme already"
}

a_device_that_the_kernel_has_no_driver_for_has_none_again() {
	dmaland bind "$edu" | grep "; before: no driver" && [ "$(driver_of "$edu")" = vfio-pci ] &&
		dmaland unbind "$edu" | grep "no driver" && [ "$(driver_of "$edu")" = none ]
}

a_driver_that_does_not_take_it_leaves_all_as_it_was() {
	refused "nvme does not take $edu" dmaland bind --driver nvme "$edu" && [ "$(driver_of "$edu")" = none ] &&
		[ -z "$(override_of "$edu" | tr -d '()nul')" ]
}

# fails_to_leave DRIVER COMMAND...: sysfs does not let the drive go
fails_to_leave() {
	local unbind=/sys/bus/pci/drivers/$1/unbind override status
	override=$(override_of "$drive")
	mount --bind /dev/full "$unbind" || return
	refused "cannot write '$drive' to .*/driver/unbind: No space left" "${@:2}" &&
		grep -q "$drive is bound to $1$" "$TMPDIR/err" && [ "$(driver_of "$drive")" = "$1" ] &&
		[ "$(override_of "$drive")" = "$override" ]
	status=$?
	umount "$unbind" && return "$status"
}

a_step_that_fails_is_undone() {
	fails_to_leave nvme dmaland bind "$drive" && dmaland bind "$drive" &&
		fails_to_leave vfio-pci dmaland unbind "$drive" && dmaland unbind "$drive"
}

a_driver_that_is_not_there_is_refused() {
	refused "has no driver 'nonsense'" dmaland bind --driver nonsense "$edu" && [ "$(grep -c modprobe: "$TMPDIR/err")" = 1 ]
}

of_two_devices_one_refused_leaves_both() {
	refused "no PCI device ffff:ff:1f.7" dmaland bind "$drive" ffff:ff:1f.7 && [ "$(driver_of "$drive")" = nvme ]
}

# ---- what is in use

# stays WORDS: bind refuses the drive with these words, also to show how; and it is where it was
stays() {
	refused "$drive stays bound to nvme: $1" dmaland bind "$drive" && refused "$1" dmaland bind --dry-run "$drive" &&
		[ "$(driver_of "$drive")" = nvme ] && [ "$(override_of "$drive")" = "(null)" ]
}

a_mounted_file_system_is_refused() {
	file_system && mount -t ext4 "$(disk)" "$TMPDIR/mnt" || return
	stays "nvme.*n1 is mounted on $TMPDIR/mnt; umount $TMPDIR/mnt" && mountpoint -q "$TMPDIR/mnt"
	local status=$?
	umount "$TMPDIR/mnt" && return "$status"
}

# Blanks, quotes and what a terminal would obey: the words of the cure can be pasted, and show nothing but text.
a_mount_point_is_shown_as_it_can_be_pasted() {
	local point="$TMPDIR/my \"disk's" evil=$TMPDIR/$'\e[2J' status=0
	mkdir -p "$point" "$evil" && file_system && mount -t ext4 "$(disk)" "$point" || return
	stays "nvme.*n1 is mounted on $point; umount '$TMPDIR/my " || status=1
	eval "$(sed -n 's/.*; \(umount .*\)/\1/p' "$TMPDIR/err")" && ! mountpoint -q "$point" && mount -t ext4 "$(disk)" "$evil" || return
	stays "nvme.*n1 is mounted on $TMPDIR/?\[2J; umount" && ! grep -q $'\e' "$TMPDIR/err" || status=1
	eval "$(sed -n 's/.*; \(umount .*\)/\1/p' "$TMPDIR/err")" && ! mountpoint -q "$evil" && return "$status"
}

# In another mount namespace it shows in no list of ours; the kernel knows of it.
a_file_system_mounted_elsewhere_is_refused() {
	local status said
	file_system || return
	coproc unshare --mount bash -c "mount -t ext4 $(disk) $TMPDIR/mnt && echo mounted && read"
	read -r said <&"${COPROC[0]}" && [ "$said" = mounted ] || return
	stays "nvme.*n1 is in use by something in the kernel"
	status=$?
	echo >&"${COPROC[1]}"
	wait "$COPROC_PID" && return "$status"
}

a_mounted_partition_is_refused() {
	local path
	file_system && path=$(disk) && addpart "$path" 1 0 131072 && mount -t ext4 "${path}p1" "$TMPDIR/mnt" || return
	stays "nvme.*n1p1 is mounted on $TMPDIR/mnt"
	local status=$?
	umount "$TMPDIR/mnt" && delpart "$path" 1 && return "$status"
}

swap_is_refused() {
	local path
	path=$(disk) && mkswap "$path" && swapon "$path" || return
	stays "nvme.*n1 is swap space; swapoff $path"
	local status=$?
	swapoff "$path" && return "$status"
}

a_mapping_as_of_lvm_is_refused() {
	modprobe -d "$DMALAND_MODULES" dm-mod &&
		dmsetup create --noudevsync --table "0 2048 linear $(disk) 0" volume || return
	stays "nvme.*n1 is part of /dev/mapper/volume .* dmsetup remove volume"
	local status=$?
	dmsetup remove --noudevsync volume && return "$status"
}

an_array_is_refused() {
	local md=/sys/block/md_test/md
	modprobe -d "$DMALAND_MODULES" raid1 && echo md_test >/sys/module/md_mod/parameters/new_array &&
		echo none >"$md"/metadata_version && echo raid1 >"$md"/level && echo 1 >"$md"/raid_disks &&
		cat "/sys/class/block/$(basename "$(disk)")/dev" >"$md"/new_dev || return
	stays "nvme.*n1 is part of /dev/md_test; .*mdadm --stop /dev/md_test"
	local status=$?
	echo clear >"$md"/array_state && return "$status"
}

# held FILE COMMAND...: a process has it open meanwhile, $!
held() {
	local status
	exec 8<"$1" || return
	sleep 1000 &
	exec 8<&-
	"${@:2}"
	status=$?
	kill $! && wait $!
	return "$status"
}

a_disk_that_a_program_has_open_is_refused() { local path && path=$(disk) && held "$path" eval 'stays "nvme.*n1 is open in process $! (sleep); end that"'; }

# As nvme-cli has them, and those who send commands of their own: they are no block devices.
a_drive_that_a_program_has_open_as_a_character_device_is_refused() {
	local path file
	path=$(disk) || return
	for file in "${path%n1}" "${path/nvme/ng}"; do
		[ -c "$file" ] && held "$file" eval 'stays "$file is open in process $! (sleep); end that"' || return
	done
}

# A process says itself what its name is.
a_process_is_named_without_control_characters() {
	local path status
	path=$(disk) && exec 8<"$path" || return
	bash -c 'printf "\e[2J" >/proc/$$/comm; until false; do sleep 0.1 8<&-; done' &
	exec 8<&-
	until [ "$(cat "/proc/$!/comm")" = $'\e[2J' ]; do kill -0 $! && sleep 0.02 || return; done
	stays "nvme.*n1 is open in process $! (?\[2J); end that" && ! grep -q $'\e' "$TMPDIR/err"
	status=$?
	kill $! && wait $!
	return "$status"
}

# Those of this VM's own serial ports are no disks at all; who has them is outside of this root.
a_device_of_another_kind_that_a_program_has_open_is_refused() {
	local ports=0000:00:12.0
	refused "$ports stays bound to virtio-pci: /dev/vport.*p. is open in process [0-9]* (.*); end that" dmaland bind "$ports" &&
		[ "$(driver_of "$ports")" = virtio-pci ]
}

a_drive_that_a_program_drives_is_refused() {
	local status
	dmaland bind "$drive" && rm -f "$TMPDIR/input" && mkfifo "$TMPDIR/input" || return
	exec 8<>"$TMPDIR/input" # waits for nobody
	"$build/tools/dmaland" nvme write "$drive" - <"$TMPDIR/input" 8>&- &
	until [ -n "$(find "/proc/$!/fd" -lname '/dev/vfio/*' 2>/dev/null)" ]; do kill -0 $! || return; done
	refused "stays bound to vfio-pci: process $! (dmaland) drives it" dmaland unbind "$drive" &&
		[ "$(driver_of "$drive")" = vfio-pci ]
	status=$?
	exec 8>&-
	wait $! && dmaland unbind "$drive" && return "$status"
}

a_network_interface_that_is_up_is_refused() {
	local name
	modprobe -d "$DMALAND_MODULES" 8139cp && name=$(ls /sys/bus/pci/devices/"$nic"/net) &&
		ip link set "$name" up &&
		refused "network interface $name is up; ip link set $name down" dmaland bind "$nic" &&
		ip link set "$name" down && dmaland bind "$nic" && dmaland unbind "$nic" | grep "is bound to 8139cp"
}

a_bridge_is_refused() { refused "$isa is a bridge" dmaland bind "$isa"; }

others_than_root_are_told_who_may() {
	chmod 755 "$TMPDIR"
	refused "only root .*: sudo dmaland bind $drive" as_nobody "$build/tools/dmaland" bind "$drive" &&
		as_nobody "$build/tools/dmaland" bind --dry-run "$drive" | grep -q drivers_probe
}

# ---- virtual functions

functions_on() { echo 1 >"/sys/bus/pci/devices/$physical/sriov_numvfs" && [ -e "/sys/bus/pci/devices/$virtual" ]; }

# vfio-pci does not take such a device, and nvme had let go of it by then.
a_device_with_virtual_functions_on_is_refused() {
	local words="$physical stays bound to nvme: 1 virtual functions of it are on.*echo 0 > /sys/bus/pci/devices/$physical/sriov_numvfs"
	functions_on && refused "$words" dmaland bind "$physical" && refused "$words" dmaland bind --dry-run "$physical" &&
		[ "$(driver_of "$physical")" = nvme ] && dmaland info "$physical" | grep "1 virtual functions of it are on" &&
		dmaland info "$virtual" | grep "a virtual function of $physical, which is bound to nvme$" || return
	dmaland info --json "$virtual" | grep "\"physical_function\": *\"$physical\"" && echo 0 >"/sys/bus/pci/devices/$physical/sriov_numvfs" &&
		dmaland bind "$physical" && dmaland unbind "$physical" && [ "$(driver_of "$physical")" = nvme ]
}

# What comes after the token is that nobody has made the function ready.
token_is_right() { dmaland nvme identify "$1" 2>"$TMPDIR/said"; cat "$TMPDIR/said"; ! grep "token" "$TMPDIR/said"; }

a_virtual_function_wants_the_token_of_its_physical_one() {
	local token=2ab74924-c335-45f4-9b16-8569e5b08258 other=2ab74924-c335-45f4-9b16-8569e5b08259
	# QEMU's virtual functions are gone when the physical one is reset, as it is when it is opened
	dmaland bind "$physical" && token_is_right "vfio:$physical,vf_token=$token" &&
		echo 1 >/sys/module/vfio_pci/parameters/enable_sriov && functions_on || return
	[ "$(driver_of "$virtual")" = vfio-pci ] || dmaland bind "$virtual" || return
	token_is_right "$virtual,vf_token=$token" &&
		refused "$virtual wants a token, as its physical function $physical is VFIO's too: add vf_token=UUID" dmaland nvme identify "$virtual" &&
		refused "$virtual: vf_token=$other is not the token that its physical function was opened with" \
			dmaland nvme identify "$virtual,vf_token=$other" &&
		refused "$drive takes no vf_token=" eval 'dmaland bind "$drive" >/dev/null && dmaland nvme identify "$drive,vf_token=$token"' &&
		dmaland info "$virtual" | grep "bound to vfio-pci: its spec wants vf_token="
}

# ---- boards

a_board_is_named_by_its_ids() {
	local words
	dmaland bind pci:1234:11e8 | grep "^$edu is bound to vfio-pci" && dmaland info pci:1234:11E8,index=0 | grep "^$edu .* vfio$" &&
		"$build/tests/device/ranges" pci:1234:11e8 && dmaland bind pci:10ec:8139,index=1 | grep "^0000:00:03.0 is bound" &&
		dmaland unbind pci:10ec:8139,index=1 && refused "of PCI device 1234:11e8 there are 1, and index 1" dmaland bind pci:1234:11e8,index=1
}

# The rule as dmaland(7) has it, with this command and this device; what appears is as at boot to udev.
udevd=/lib/systemd/systemd-udevd

the_manuals_rule_binds_a_device_that_appears() {
	local rule
	rule=$(grep "^ACTION.*RUN" "$(dirname "${BASH_SOURCE[0]}")/../../docs/man/dmaland.7.scd") && [ -n "$rule" ] || return
	rule=${rule/\/usr\/bin\/dmaland/$(realpath "$build/tools/dmaland")}
	rule=${rule/0000:01:00.0/$edu}
	[ "$(driver_of "$edu")" = none ] || return
	unshare --mount bash -c 'mount -t tmpfs run /run && mount -t tmpfs rules /usr/lib/udev/rules.d && mount -t tmpfs own /etc/udev &&
		mkdir /etc/udev/rules.d && echo "$1" | tee /etc/udev/rules.d/60-dmaland.rules || exit
		"$2" & udevd=$!
		until [ -e /run/udev/control ]; do kill -0 "$udevd" && sleep 0.02 || exit; done
		echo 1 >"/sys/bus/pci/devices/$3/remove" && echo 1 >/sys/bus/pci/rescan || exit
		status=1
		for ((i = 0; i < 2000 && status; i++)); do # udevadm settle does nothing in a chroot
			[ ! "/sys/bus/pci/devices/$3/driver" -ef /sys/bus/pci/drivers/vfio-pci ] || status=0
			sleep 0.02
		done
		kill "$udevd"
		wait "$udevd"
		exit "$status"' - "$rule" "$udevd" "$edu" && [ "$(driver_of "$edu")" = vfio-pci ]
}

# ---- drives that forget

# The drive is VFIO's, has blocks of 512 bytes without metadata, and what is in "data".
drive_written() {
	dmaland bind "$drive" && dmaland nvme format "$drive" --format 0 && head -c 2M /dev/urandom >"$TMPDIR/data" &&
		dmaland nvme write "$drive" "$TMPDIR/data"
}

discarded_blocks_are_zeroes_and_the_others_stay() {
	drive_written && dmaland nvme discard "$drive" -s 100 -c 1900 && dmaland nvme read "$drive" -c 4096 "$TMPDIR/back" &&
		cmp -n 51200 "$TMPDIR/data" "$TMPDIR/back" && cmp -i 1024000 "$TMPDIR/data" "$TMPDIR/back" &&
		cmp -i 51200:0 -n 972800 "$TMPDIR/back" /dev/zero
}

a_namespace_with_metadata_is_refused_until_it_is_formatted() {
	drive_written && refused "format 1 .*metadata" dmaland nvme format "$drive" --format 1 &&
		dmaland nvme format "$drive" --format 1 --metadata &&
		refused "8 bytes of metadata beside each block" dmaland nvme read "$drive" -c 1 "$TMPDIR/back" &&
		refused "8 bytes of metadata beside each block" dmaland nvme write "$drive" "$TMPDIR/data" &&
		dmaland nvme format "$drive" --block-size 512 | grep -x "namespace 1 has format 0 now: 524288 blocks of 512 bytes" &&
		dmaland nvme write "$drive" "$TMPDIR/data" && dmaland nvme read "$drive" -c 4096 | cmp - "$TMPDIR/data"
}

blocks_are_of_the_size_that_they_were_formatted_to() {
	drive_written && dmaland nvme format "$drive" --block-size 4K &&
		refused "4096 blocks from block 65535 go past the end: namespace 1 has 65536 blocks of 4096 bytes, 1 from there" \
			dmaland nvme read "$drive" -s 65535 -c 4096 "$TMPDIR/back" &&
		dmaland nvme write "$drive" -s 65024 "$TMPDIR/data" &&
		dmaland nvme read "$drive" -s 65024 | cmp - "$TMPDIR/data" && dmaland nvme format "$drive" | grep "^ *4 .*in use$" &&
		refused "no format with blocks of 1024 bytes" dmaland nvme format "$drive" --block-size 1K
	local status=$?
	dmaland nvme format "$drive" --format 0 && return "$status"
}

# ---- other machines

without_an_iommu_the_drive_goes_back_to_its_driver() {
	refused "vfio-pci does not take $drive, which is behind no IOMMU" dmaland bind "$drive" &&
		grep -q "$drive is bound to nvme$" "$TMPDIR/err" && [ "$(driver_of "$drive")" = nvme ]
}

the_others_of_the_group_are_named() {
	dmaland bind --dry-run "$shared" 2>&1 >/dev/null | grep "shares group [0-9]* with $neighbour (bound to nvme)" &&
		dmaland info "$shared" | grep "after: dmaland bind $shared $neighbour"
}

a_neighbour_that_does_no_dma_is_no_obstacle() {
	modprobe -d "$DMALAND_MODULES" pci-stub && dmaland bind --driver pci-stub "$neighbour" && dmaland bind "$shared" >"$TMPDIR/said" &&
		! grep "shares group" "$TMPDIR/said" && dmaland info "$shared" | grep " vfio$" && dmaland nvme identify "$shared"
}

a_whole_group_is_bound_by_one_command() {
	dmaland bind "$shared" "$neighbour" && dmaland info "$shared" | grep " vfio$" &&
		dmaland unbind "$shared" "$neighbour" && [ "$(driver_of "$neighbour")" = nvme ]
}

# The kernel shows one disk for both ways, below neither; the ways are nvmeXcYnZ, hidden.
a_namespace_is_in_use_whichever_way_leads_to_it() {
	local address path status=0
	for address in $ways; do
		path=$(echo "/sys/bus/pci/devices/$address"/nvme/nvme*/nvme*c*n1) && [ -e "$path" ] || return
	done
	path=$(basename "$path") && path=/dev/${path%%c*}n1 && [ -b "$path" ] || return
	modprobe -d "$DMALAND_MODULES" ext4 && mkdir -p "$TMPDIR/mnt" && mkfs.ext4 -q "$path" && mount -t ext4 "$path" "$TMPDIR/mnt" || return
	for address in $ways; do
		refused "$address stays bound to nvme: ${path#/dev/} is mounted on $TMPDIR/mnt" dmaland bind "$address" || status=1
	done
	umount "$TMPDIR/mnt" && dmaland bind "$address" && dmaland unbind "$address" && return "$status"
}

case $part in
machine)
	tests=(info_tells_what_can_be_used info_tells_the_addresses_that_vfio_reports a_device_in_use_is_usable_as_before
		without_sys_info_says_so dry_run_shows_the_writes_and_does_none what_dry_run_shows_is_what_bind_does
		bind_gives_a_drive_to_user_space a_device_that_is_named_twice_is_bound_once capitals_are_read bound_twice_is_bound unbind_gives_it_back
		a_device_that_the_kernel_has_no_driver_for_has_none_again
		a_driver_that_does_not_take_it_leaves_all_as_it_was a_step_that_fails_is_undone
		a_driver_that_is_not_there_is_refused
		of_two_devices_one_refused_leaves_both a_mounted_file_system_is_refused a_mount_point_is_shown_as_it_can_be_pasted
		a_file_system_mounted_elsewhere_is_refused a_mounted_partition_is_refused swap_is_refused
		a_mapping_as_of_lvm_is_refused an_array_is_refused a_disk_that_a_program_has_open_is_refused
		a_drive_that_a_program_has_open_as_a_character_device_is_refused
		a_device_of_another_kind_that_a_program_has_open_is_refused a_process_is_named_without_control_characters
		a_drive_that_a_program_drives_is_refused a_network_interface_that_is_up_is_refused
		a_device_with_virtual_functions_on_is_refused a_virtual_function_wants_the_token_of_its_physical_one
		a_board_is_named_by_its_ids the_manuals_rule_binds_a_device_that_appears
		a_bridge_is_refused others_than_root_are_told_who_may
		discarded_blocks_are_zeroes_and_the_others_stay
		a_namespace_with_metadata_is_refused_until_it_is_formatted
		blocks_are_of_the_size_that_they_were_formatted_to)
	;;
iommu-amd) tests=(amd_is_named_with_its_addresses) ;;
iommu-virtio) tests=(a_device_behind_a_virtio_iommu_is_behind_an_iommu and_vfio_refuses_it) ;;
iommu-unsafe) tests=(what_vfio_refuses_is_not_usable) ;;
no-iommu) tests=(without_an_iommu_the_drive_goes_back_to_its_driver) ;;
shared)
	tests=(the_others_of_the_group_are_named a_neighbour_that_does_no_dma_is_no_obstacle a_whole_group_is_bound_by_one_command
		a_namespace_is_in_use_whichever_way_leads_to_it)
	;;
esac
for name in "${tests[@]}"; do
	if [ "$name" = the_manuals_rule_binds_a_device_that_appears ] && [ ! -x "$udevd" ]; then
		skip "$name" "udev is not installed: it cannot be had here"
	else
		check "$name" tested "$name"
	fi
done
tap_end
