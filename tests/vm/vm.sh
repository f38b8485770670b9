#!/bin/bash
# A Debian kernel with an IOMMU and some devices, in QEMU; the host's / is its root, read-only.
#
#   vm.sh [OPTION...] [--] COMMAND [ARGUMENT...]    run COMMAND as root in the same directory
#   vm.sh [OPTION...]                               a shell (Ctrl-A X ends it the hard way)
#
# Devices, each in an IOMMU group of its own:
#   0000:00:01.0   NVMe, serial dmaland0, 256 MiB; bound to nvme: /dev/nvme0n1
#   0000:00:02.0   RTL8139, 52:54:00:00:00:02, without a driver   } both on one hub
#   0000:00:03.0   RTL8139, 52:54:00:00:00:03, without a driver   }
#   0000:00:04.0   edu (1234:11e8), DMA mask of 28 bits
# with --shared-group also these two, which share one:
#   0000:02:01.0   NVMe, serial dmaland1, 64 MiB
#   0000:02:02.0   NVMe, serial dmaland2, 64 MiB
# with --removable this one, in a slot that it can be taken out of:
#   0000:01:00.0   NVMe, serial dmaland3, 64 MiB
# with --numa this one, on node 1:
#   0000:81:00.0   edu
# with --functions this one:
#   0000:01:00.0   NVMe, serial dmaland4, no namespace, up to 2 virtual functions
#
# Options:
#   --drive FILE        the first NVMe drive's content, a raw image; else an empty one, thrown away afterwards
#   --bind ADDRESS      bind a device to vfio-pci before COMMAND; may be repeated
#   --no-iommu          without an IOMMU
#   --shared-group      see above
#   --removable         see above; "device_del dmaland3", written to the port dmaland.monitor, takes it out
#   --functions         see above; not with --removable, whose slot it has
#   --numa              two NUMA nodes: CPU 0 and the memory on node 0, but for CPU 1 and 256 MiB on node 1
#   --timeout SECONDS   end it then, and tell where everything stood (300, times DMALAND_PATIENCE; a shell has no limit)
#   --memory SIZE       as QEMU's -m (1G)
#   --icount            one CPU whose clock counts instructions: CLOCK_MONOTONIC advances 1 ns for each
#   --append WORDS      to the kernel's command line
#   --qemu WORDS        to QEMU's; pcie.0 is free from addr=06.0 to 0f.0
#
# COMMAND's environment: PATH, TERM, CI and DMALAND_*, CMOCKA_*, ASAN_*, UBSAN_*, TSAN_*, LSAN_* as here, and
#   TMPDIR, HOME       a tmpfs, the only place to write to
#   DMALAND_SHARE      where the host's directory $DMALAND_VM_SHARE, if that is set, is mounted for reading and writing
#   DMALAND_MODULES    modprobe -d "$DMALAND_MODULES" 8139cp   loads any module of the kernel
# stdin is empty. Where stdout and stderr are the same here, so they are there, and keep their order.
#
#   DMALAND_ACCEL=kvm        rather than tcg, which is slower and works everywhere
#   DMALAND_VM_THREAD=multi  a thread for each CPU, where the VM may stop; "single" is what is taken
#
# Exit status: COMMAND's; 124 when it took too long; 2 for wrong use; 69 when there is no kernel or QEMU to be had;
# 70 when the VM died; 71 when it could not be prepared as asked; 75 when it stopped: the guest writes a heartbeat every
# 5 s, and none came for a minute.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=vm
work=
# shellcheck source=tests/common/limit.sh
. "$here/../common/limit.sh"
silence=$((60 * patience)) # s without a heartbeat

die() {
	local status=$1
	shift
	echo "dmaland: $program: $*" >&2
	exit "$status"
}

cleanup() {
	trap '' INT TERM HUP
	# shellcheck disable=SC2046 # one word for each job
	kill -KILL $(jobs -p) 2>/dev/null || true # a QEMU that hangs hears nothing else
	wait
	rm -rf "$work"
}

options_parse() {
	drive='' bind='' iommu=yes shared_group='' removable='' functions='' numa='' seconds='' memory=1G icount='' append='' extra=''
	while [ $# -gt 0 ]; do
		case $1 in
		--drive | --bind | --timeout | --memory | --append | --qemu)
			[ $# -ge 2 ] || die 2 "$1 wants a value"
			;;&
		--drive) drive=$2 ;;
		--bind) bind+=" $2" ;;
		--timeout) seconds=$2 ;;
		--memory) memory=$2 ;;
		--append) append+=" $2" ;;
		--qemu) extra+=" $2" ;;
		--no-iommu) iommu='' ;;
		--shared-group) shared_group=yes ;;
		--removable) removable=yes ;;
		--functions) functions=yes ;;
		--numa) numa=yes ;;
		--icount) icount=yes ;;
		--) shift && break ;;
		-h | --help)
			sed -n '2,/^$/s/^# \?//p' "${BASH_SOURCE[0]}"
			exit 0
			;;
		-*) die 2 "unknown option $1" ;;
		*) break ;;
		esac
		case $1 in
		--no-iommu | --shared-group | --removable | --functions | --numa | --icount) shift ;;
		*) shift 2 ;;
		esac
	done
	command=("$@")
	merged=
	[ ! /dev/fd/1 -ef /dev/fd/2 ] || merged=yes
	interactive=
	[ $# -gt 0 ] || interactive=yes
	[[ ${seconds:=300} =~ ^[0-9]+$ ]] || die 2 "--timeout $seconds: not a number of seconds"
	seconds=$((seconds * patience))
	[ -z "$functions" ] || [ -z "$removable" ] || die 2 "--functions and --removable are one slot's"
	[ -z "$numa" ] || [ -z "$icount" ] || die 2 "--numa wants two CPUs, and --icount has one"
	[ -z "$shared_group" ] || [ -z "$removable" ] || die 2 "--shared-group and --removable want the same place"
	[ -z "$drive" ] || { [ -f "$drive" ] && [ -w "$drive" ]; } || die 2 "--drive $drive: no file that can be written to"
	[ -z "${DMALAND_VM_SHARE:-}" ] || [ -d "$DMALAND_VM_SHARE" ] || die 2 "DMALAND_VM_SHARE=$DMALAND_VM_SHARE: no directory"
	[ -z "$interactive" ] || [ -t 0 ] || die 2 "a shell needs a terminal; or give a command"
}

environment_write() {
	local name
	echo "export PATH=$(printf %q "$PATH:/usr/sbin:/sbin") TERM=$(printf %q "${TERM:-dumb}") LANG=C.UTF-8"
	echo "export HOME=/dev/shm/tmp TMPDIR=/dev/shm/tmp DMALAND_MODULES=$(printf %q "$(readlink -f "$kernel/modules")")"
	for name in ${!DMALAND_*} ${!CMOCKA_*} ${!ASAN_*} ${!UBSAN_*} ${!TSAN_*} ${!LSAN_*} CI; do
		[ -z "${!name+set}" ] || echo "export $name=$(printf %q "${!name}")"
	done
	[ -z "${DMALAND_VM_SHARE:-}" ] || echo "export DMALAND_SHARE=/dev/shm/share"
}

job_write() {
	{
		echo "bind='$bind' interactive='$interactive' share='${DMALAND_VM_SHARE:+yes}' heartbeat='$heartbeat' patience=$patience"
		echo "limits=$(printf %q "$here/../common/limit.sh")"
		[ -z "$interactive" ] || stty size | { read -r rows cols && echo "terminal='rows $rows cols $cols'"; }
	} >"$work/settings"
	{
		environment_write
		echo "cd $(printf %q "$PWD") || exit"
		if [ -n "$interactive" ]; then
			echo 'exec bash'
		else
			[ -z "$merged" ] || echo 'exec 2>&1'
			echo "exec </dev/null"
			echo "exec $(printf '%q ' "${command[@]}")"
		fi
	} >"$work/command"
}

# nvme_add SERIAL IMAGE PROPERTIES. The image's content has to survive this run, not this machine: no fsync.
nvme_add() {
	qemu+=(-drive "file=${2//,/,,},if=none,id=$1,format=raw,cache=unsafe,discard=unmap"
		-device "nvme,drive=$1,serial=$1,$3")
}

# monitor_add NAME: a monitor of QEMU's that takes lines from NAME.in and answers to NAME.out
monitor_add() {
	mkfifo "$work/$1.in" "$work/$1.out"
	qemu+=(-chardev "pipe,id=$1,path=$work/$1" -mon "chardev=$1,mode=readline")
}

# A monitor, which takes the drive out, is on the other end of a port of the guest's.
removable_add() {
	qemu+=(-device "pcie-root-port,id=slot0,chassis=2,addr=05.0")
	nvme_add dmaland3 "$(image_make drive3 64M)" id=dmaland3,bus=slot0,addr=00.0
	monitor_add operated
	ln "$work/operated.in" "$work/operator.out"
	ln "$work/operated.out" "$work/operator.in"
	qemu+=(-chardev "pipe,id=operator,path=$work/operator"
		-device "virtserialport,bus=ports.0,nr=4,chardev=operator,name=dmaland.monitor")
}

# The guest's heartbeat, and a monitor to look into a guest that has none any more.
heartbeat_add() {
	mkfifo "$work/heartbeat.in" "$work/heartbeat.out"
	qemu+=(-chardev "pipe,id=heartbeat,path=$work/heartbeat"
		-device "virtserialport,bus=ports.0,nr=5,chardev=heartbeat,name=dmaland.heartbeat")
	monitor_add inspector
}

# The nodes' memory is QEMU's -m in two pieces; a number alone is MiB there.
nodes_add() {
	local bytes size=${memory^^} far=$((256 << 20))
	[[ $size =~ [A-Z]$ ]] || size+=M
	bytes=$(numfmt --from=iec "$size") || die 2 "--memory $memory: not a size"
	[ "$bytes" -gt $((2 * far)) ] || die 2 "--memory $memory: --numa wants more than 512M"
	qemu+=(-object "memory-backend-ram,id=near,size=$((bytes - far))" -numa "node,nodeid=0,cpus=0,memdev=near"
		-object "memory-backend-ram,id=far,size=$far" -numa "node,nodeid=1,cpus=1,memdev=far"
		-device "pxb-pcie,id=host1,bus=pcie.0,addr=13.0,bus_nr=128,numa_node=1"
		-device "pcie-root-port,id=port1,bus=host1,chassis=1,addr=00.0" -device "edu,bus=port1,addr=00.0")
}

# Queues and interrupts that its virtual functions could have, as the model wants them; nobody makes them ready.
physical_function_add() {
	qemu+=(-device "pcie-root-port,id=slot4,chassis=4,addr=14.0" -device "nvme-subsys,id=physical"
		-device "nvme,serial=dmaland4,subsys=physical,bus=slot4,max_ioqpairs=6,msix_qsize=5,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2")
}

image_make() {
	truncate -s "$2" "$work/$1"
	echo "$work/$1"
}

# A file takes whatever is written at once; so with ioeventfd=off every byte is there before the guest's
# write() returns, and nothing is lost when it powers off.
port_add() {
	: >"$work/$2"
	qemu+=(-chardev "file,id=$2,path=$work/$2" -device "virtserialport,bus=ports.0,nr=$1,chardev=$2,name=dmaland.$2")
}

qemu_assemble() {
	local accel=${DMALAND_ACCEL:-tcg} words="console=ttyS0 panic=-1 quiet no_timer_check hugepages=16"
	qemu=(qemu-system-x86_64 -name dmaland -nodefaults -no-user-config -display none -monitor none -no-reboot)
	case $accel in
	tcg) qemu+=(-machine q35 -cpu max) ;;
	kvm) qemu+=(-machine "q35,kernel-irqchip=split" -accel kvm -cpu host) ;;
	*) die 2 "DMALAND_ACCEL=$accel: neither tcg nor kvm" ;;
	esac
	if [ -n "$icount" ]; then
		qemu+=(-accel "tcg,thread=single" -smp 1 -icount "shift=0,sleep=off")
	else
		# One thread for both CPUs. With a thread each, QEMU 7.2 sends what one CPU writes to its interrupt
		# controller to another device while the other CPU moves a BAR or switches its decoding: a timer or
		# an end of interrupt is lost, and the guest stops (findings/qemu-tcg-decode.sh; tests/vm/decode.sh counts).
		[ "$accel" = kvm ] || qemu+=(-accel "tcg,thread=${DMALAND_VM_THREAD:-single}")
		qemu+=(-smp 2)
	fi
	# An IOMMU has to come before what it is to translate for.
	if [ -n "$iommu" ]; then
		qemu+=(-device "intel-iommu,intremap=on")
		words+=" intel_iommu=on"
	fi
	qemu+=(-m "$memory" -kernel "$kernel/kernel" -initrd "$kernel/initramfs.cpio"
		-append "$words$append dmaland.job=$work" -serial "file:$work/console")
	[ -z "$interactive" ] || qemu+=(-serial mon:stdio)

	nvme_add dmaland0 "${drive:-$(image_make drive0 256M)}" addr=01.0
	qemu+=(-netdev "hubport,id=hub0,hubid=0" -netdev "hubport,id=hub1,hubid=0"
		-device "rtl8139,netdev=hub0,mac=52:54:00:00:00:02,romfile=,addr=02.0"
		-device "rtl8139,netdev=hub1,mac=52:54:00:00:00:03,romfile=,addr=03.0"
		-device "edu,addr=04.0")
	if [ -n "$shared_group" ]; then
		qemu+=(-device "pcie-root-port,id=port0,addr=05.0" -device "pcie-pci-bridge,id=bridge,bus=port0")
		nvme_add dmaland1 "$(image_make drive1 64M)" bus=bridge,addr=01.0
		nvme_add dmaland2 "$(image_make drive2 64M)" bus=bridge,addr=02.0
	fi

	qemu+=(-fsdev "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"
		-device "virtio-9p-pci,fsdev=host,mount_tag=host,addr=10.0")
	[ -z "${DMALAND_VM_SHARE:-}" ] || qemu+=(
		-fsdev "local,id=share,path=${DMALAND_VM_SHARE//,/,,},security_model=none,multidevs=remap"
		-device "virtio-9p-pci,fsdev=share,mount_tag=share,addr=11.0")
	qemu+=(-device "virtio-serial-pci,id=ports,ioeventfd=off,addr=12.0")
	port_add 1 stdout
	port_add 2 stderr
	port_add 3 status
	[ -z "$removable" ] || removable_add
	[ -z "$functions" ] || physical_function_add
	[ -z "$heartbeat" ] || heartbeat_add
	# shellcheck disable=SC2206 # words, as documented
	qemu+=($extra)
	# Last: QEMU puts devices that name no bus on the newest.
	[ -z "$numa" ] || nodes_add
}

# What ends before QEMU does: 75 without a heartbeat for too long, 124 at the limit.
watch() {
	local left
	while left=$((seconds - SECONDS)) && [ $left -gt 0 ]; do
		if [ -z "$heartbeat" ]; then
			sleep $left
		elif ! read -rt $((left < silence ? left : silence)) <&"$beats" && [ $left -ge $silence ]; then
			return 75
		fi
	done
	return 124
}

# The guest answers no more: what its CPUs wait for.
inspect() {
	local answers line
	exec {answers}<>"$work/inspector.out"
	printf '%s\n' "info registers -a" "info lapic 0" "info lapic 1" "info irq" "info version" 1<>"$work/inspector.in"
	# Of all registers, where the CPUs are; the monitor's echo has control characters in it.
	while read -rt 5 line <&"$answers"; do
		[[ $line =~ ^(CPU#|RIP=|EIP=|[0-9]+\.[0-9]+\.) ]] || [[ $line == *LVT* || $line =~ ^(ICR|SPIV|ISR|IRR|PPR|TPR|APR|dumping) ]] || continue
		echo "${line//[^[:print:]]/}"
	done
}

# The guest is alive: it tells where its processes are, to stderr.
stacks_ask() {
	local line end=$((SECONDS + 180 * patience))
	echo stacks 1<>"$work/heartbeat.in"
	while [ $SECONDS -lt $end ] && read -rt $((end - SECONDS)) line <&"$beats"; do
		[ "$line" != told ] || break
	done
}

# tail shows what arrives as it arrives, and a last time when QEMU has ended. setpriv: no QEMU outlives us, even if
# we are killed without being asked. Status: QEMU's, 128 and the signal that ended it, or that of watch().
qemu_run() {
	local tails=() rc=0 first='' pid watcher
	[ -z "$heartbeat" ] || exec {beats}<>"$work/heartbeat.out"
	setpriv --pdeathsig KILL "${qemu[@]}" </dev/null >"$work/qemu" 2>&1 &
	pid=$!
	setpriv --pdeathsig TERM tail -c +1 -s 0.1 -f --pid=$pid "$work/stdout" &
	tails+=($!)
	setpriv --pdeathsig TERM tail -c +1 -s 0.1 -f --pid=$pid "$work/stderr" >&2 &
	tails+=($!)
	SECONDS=0
	watch &
	watcher=$!
	wait -n -p first $pid $watcher 2>/dev/null || rc=$?
	if [ "$first" = $watcher ]; then
		{
			if [ $rc = 75 ]; then
				echo "dmaland: $program: the VM stopped: no heartbeat for $silence s; its CPUs:"
				inspect
				echo "and the console:"
				console_end
			else
				echo "dmaland: $program: not finished after $seconds s: ${command[*]}"
				[ -z "$heartbeat" ] || stacks_ask
			fi
		} >&2
		kill -KILL $pid
	fi
	# shellcheck disable=SC2046 # several
	kill $(family $watcher) 2>/dev/null || true
	wait $pid $watcher 2>/dev/null || true
	wait "${tails[@]}" || true
	return $rc
}

console_end() { [ ! -e "$work/console" ] || tail -n 40 "$work/console" | tr -d '\r'; }

# death_report STATUS: the guest has said nothing about its end: what QEMU and the console said last
death_report() {
	{
		if [ "$1" -gt 128 ]; then
			echo "dmaland: $program: QEMU was ended by signal $(($1 - 128)) ($(kill -l $(($1 - 128)))); the VM's last words:"
		else
			echo "dmaland: $program: the VM died (QEMU's status is $1); its last words:"
		fi
		[ ! -e "$work/qemu" ] || grep -v 'hub 0 is not connected' "$work/qemu" | tail -n 5 || true
		console_end
	} >&2
	exit 70
}

main() {
	local rc=0 status
	options_parse "$@"
	command -v qemu-system-x86_64 >/dev/null || die 69 "qemu-system-x86_64 is not installed (Debian: qemu-system-x86)"
	kernel=$("$here/kernel.sh")
	[[ ${TMPDIR:-} != *[[:space:],]* ]] || die 2 "TMPDIR=$TMPDIR: blanks and commas do not go with QEMU's options"
	work=$(mktemp -d "$(readlink -f "${TMPDIR:-/tmp}")/dmaland-vm.XXXXXX")
	heartbeat=
	[ -n "$interactive$icount" ] || heartbeat=yes
	trap cleanup EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	job_write
	qemu_assemble

	if [ -n "$interactive" ]; then
		setpriv --pdeathsig KILL "${qemu[@]}" 2>"$work/qemu" || rc=$?
	else
		qemu_run || rc=$?
	fi
	status=$(sed -n 's/^exit //p' "$work/status")
	if [ -n "$status" ]; then
		exit "$status"
	elif [ $rc = 75 ] || [ $rc = 124 ]; then
		exit $rc
	fi
	# Ctrl-A X in a shell is no accident.
	[ $rc = 0 ] && [ -n "$interactive" ] && exit 0
	death_report $rc
}

main "$@"
