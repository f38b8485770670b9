# shellcheck shell=bash
# runner.sh - what ./run test runs, and how: sourced by run, whose step(), build_project() and so on it uses.
#
# A test is a program or a script that prints TAP. Each has a log and a limit, and relies on nothing that another left. What hangs is ended, with the stacks of all that it had started in its log (common/limit.sh).
# A VM that died or stopped (vm.sh: 70, 75) is started once more and counted; two in one run are a failure.
#
#   $all       every build, and the loops; else each thing once
#   $results   a file a test: passed, failed, skipped
#   $logs      a file a test: what it said
#   $repeats   a file a VM that was started once more

# shellcheck disable=SC2154 # cpus and root are run's
# shellcheck source=tests/common/limit.sh
. tests/common/limit.sh
unset limit boots title properties source

# tap_count LOG: passed, failed, skipped, planned, and how many skips say that nothing can be done about them.
# cmocka reports a skipped test as "not ok 2 # SKIP name".
tap_count() {
	awk '
		/^1\.\.[0-9]+/ { planned += substr($1, 4) }
		/cannot be had here/ { excused++ }
		/^(not )?ok [0-9]+.*# *[Ss][Kk][Ii][Pp]/ { skipped++; next }
		/^ok [0-9]/ { passed++ }
		/^not ok [0-9]/ { failed++ }
		END { print passed + 0, failed + 0, skipped + 0, planned + 0, excused + 0 }' "$1"
}

# result NAME SECONDS PASSED FAILED SKIPPED [WHY]
result() {
	local line="$3 passed"
	echo "$3 $4 $5" >"$results/${1//\//-}"
	[ "$4" = 0 ] || line+=", $4 failed"
	[ "$5" = 0 ] || line+=", $5 skipped"
	printf '%-56s %s   %s s%s\n' "$1" "$line" "$2" "${6:+   ($6)}"
}

# tap_failures LOG WHY: each failed test with the lines before and after it; the log's end too where something else was wrong
tap_failures() {
	awk '
		/^(not )?ok [0-9]/ {
			failed = /^not ok/ && !/# *[Ss][Kk][Ii][Pp]/
			for (i = n > 15 ? n - 15 : 0; failed && i < n; i++)
				print before[i]
			if (failed)
				print
			lines = n = 0
			next
		}
		failed && lines++ < 60 { print; next }
		{ before[n++] = $0 }' "$1" | head -n 300
	[ -z "$2" ] || { echo "..." && tail -n 30 "$1"; }
}

# tap_output LOG COMMAND...: what it says, and its status. What a shell starts in the background ignores SIGINT unasked.
tap_output() {
	CMOCKA_MESSAGE_OUTPUT=TAP limited "${limit:-600}" env --default-signal=INT,QUIT "${@:2}" >"$1" 2>&1 </dev/null
}

# run_tap NAME COMMAND...: takes TAP at its word only where the plan is kept and the exit status agrees. With CI set, a
# test that was skipped and could have run is a failed one.
run_tap() {
	local name=$1 log=$logs/${1//\//-}.log started=$EPOCHREALTIME status=0 why=''
	local passed failed skipped planned excused
	shift
	tap_output "$log" "$@" || status=$?
	if [ -n "${boots:-}" ] && [[ $status =~ ^7[05]$ ]] && ! grep '^not ok' "$log" | grep -qv '# *SKIP'; then
		mv "$log" "$log.1"
		grep -om 1 'dmaland: vm: .*' "$log.1" >"$repeats/${name//\//-}" || echo "exit status $status" >"$repeats/${name//\//-}"
		status=0
		tap_output "$log" "$@" || status=$?
	fi
	read -r passed failed skipped planned excused < <(tap_count "$log")
	if [ $status = 124 ]; then
		why="ended at its limit"
		failed=$((failed + 1))
	elif [ $((passed + failed + skipped)) != "$planned" ] || [ "$planned" = 0 ]; then
		why="$((passed + failed + skipped)) of $planned planned tests reported, exit status $status"
		failed=$((failed + 1))
	elif [ $status != 0 ] && [ "$failed" = 0 ]; then
		why="exit status $status"
		failed=1
	fi
	if [ -n "${CI:-}" ] && [ "$skipped" -gt "$excused" ]; then
		why="${why:+$why; }$((skipped - excused)) skipped that could run"
		failed=$((failed + skipped - excused))
		skipped=$excused
	fi
	{
		result "$name" "$(seconds_since "$started")" "$passed" "$failed" "$skipped" "$why"
		[ "$failed" = 0 ] || { tap_failures "$log" "$why" | sed 's/^/    /' && echo "    all of it: $log"; }
	} >"$log.line"
	cat "$log.line"
}

# start NAME COMMAND...: in the background, as many at a time as there are CPUs. It has failed until it says otherwise.
start() {
	while [ "$(jobs -rp | wc -l)" -ge "$cpus" ]; do
		wait -n || true
	done
	echo "0 1 0" >"$results/${1//\//-}"
	run_tap "$@" &
}

# test_start PROGRAM [ARGUMENT...]: under its own name
test_start() { start "$*" "$@"; }

# drive_spec NAME [PROPERTIES]: a drive of QEMU's with an image of its own
drive_spec() {
	truncate -s 256M "$scratch/$1.img"
	echo "qemu:nvme,drive=$scratch/$1.img${2:-}"
}

# on_drive NAME PROGRAM [ARGUMENT...]: with a drive, whose spec is the program's first argument; PROPERTIES are its own
on_drive() {
	local name=$1 program=$2
	start "$program $name" "$program" "$(drive_spec "${program//\//-}-${name//[^a-z0-9]/-}" "${properties:-}")" "${@:3}"
}

# ---- on the host

# unit_programs BUILD: all orders of the pool's steps are tried once; ThreadSanitizer, which takes twenty times
# as long, has nothing to find in what is long and of one thread.
unit_programs() {
	case $1 in
	build) programs "$1"/tests/{unit,model,interleave}/* ;;
	build-tsan) programs "$1"/tests/{unit,model}/* | grep -vE '/test_(nvme_prp|streaming_lazy)$' ;;
	*) programs "$1"/tests/{unit,model}/* ;;
	esac
}

# soak BUILD: 200,000 requests, 100,000 frames; for ThreadSanitizer to a drive in software, and fewer by QEMU
soak() {
	local requests=200000 frames=100000
	if [ "$1" = build-tsan ]; then
		test_start "$1/tests/device/soak" soft:nvme 200000
		requests=20000 frames=10000
	fi
	on_drive qemu:nvme "$1/tests/device/soak" $requests
	test_start "$1/tests/device/cards" $frames
}

# device_suite BUILD: the device suite and what stands beside it, on soft: and QEMU's models
device_suite() {
	local device=$1/tests/device spec
	for spec in soft: soft:engine,coherent=no; do
		test_start "$device/suite" $spec
	done
	on_drive qemu:nvme "$device/suite"
	test_start "$device/irq" soft:
	test_start "$device/irq" qemu:edu,machine=irq
	on_drive qemu:nvme "$device/irq"
	test_start "$device/permissions" soft:
	test_start "$device/edu" qemu:edu,machine=edu qemu:edu,machine=edu
	test_start "$device/complaints"
	soak "$1"
}

# end_suite BUILD TIMES: processes that are killed, devices that are removed
end_suite() {
	on_drive "qemu:nvme, $2 times" "$1/tests/device/killed" "$2"
	on_drive "qemu:nvme, $(($2 / 5)) times" "$1/tests/device/removed" $(($2 / 5))
	test_start "$1/tests/device/card_removed" $(($2 / 5))
}

# fault_suite BUILD: each system call fails once
fault_suite() {
	local spec
	for spec in soft: soft:engine,coherent=no; do
		test_start "$1/tests/device/faults" $spec
	done
	on_drive qemu:nvme "$1/tests/device/faults"
}

unit_suite() {
	local program
	for program in $(unit_programs "$1"); do
		test_start "$program"
	done
}

# Each where it can tell most: AddressSanitizer's build does all but what it slows down or can't see, ThreadSanitizer's
# what has threads, gcc's plain one what depends on time or counts system calls.
host_once() {
	unit_suite build-asan
	device_suite build-asan
	fault_suite build-asan
	properties=,mdts=0,logical_block_size=4096,physical_block_size=4096 on_drive "qemu:nvme, 4096-byte blocks" \
		build-asan/tests/device/suite
	unit_suite build-tsan
	device_suite build-tsan
	test_start build/tests/unit/test_atomic
	test_start build/tests/interleave/test_interleave
	end_suite build 100
	start "tests/tool/test_tool.sh, pci.ids empty" tests/tool/without_pci_ids.sh tests/tool/test_tool.sh build-asan
	for script in asked drives net; do
		test_start tests/tool/test_$script.sh build-asan
	done
	for script in project completion examples runner; do
		test_start tests/tool/test_$script.sh build
	done
	test_start tests/tool/test_package.sh
	test_start tests/fuzz/fuzz.sh build-clang
}

# What host_once() leaves out: gcc's and clang's builds by themselves, and the loops of the others.
host_rest() {
	local program
	for program in $(unit_programs build | grep -vE '/test_(atomic|interleave)$') $(unit_programs build-clang); do
		test_start "$program"
	done
	device_suite build
	test_start build-clang/tests/device/suite soft:
	test_start build-clang/tests/device/suite soft:engine,coherent=no
	end_suite build-asan 10
	end_suite build-tsan 10
	for script in tool asked drives net; do
		test_start tests/tool/test_$script.sh build
	done
	test_start tests/tool/test_aarch64.sh build-aarch64
}

# ---- in the VM

# vm_part BUILD PART [VM-OPTION...]: a boot, and tests/vm/guest.sh in it; as $title
vm_part() {
	local build=$1 part=$2
	shift 2
	boots=yes limit=1200 start "$build in the VM, ${title:-$part}" \
		tests/vm/vm.sh --timeout 900 "$@" tests/vm/guest.sh "$part" "$build"
}

# Below a root port, 0000:02:00.0, which reports errors when the monitor says so
reporter() {
	echo -device pcie-root-port,id=slot1,chassis=3,addr=08.0 -device virtio-rng-pci,id=reports,bus=slot1,aer=on
}

# A USB controller with a stick, whose content is a file that guest.sh has, too: 0000:00:09.0
stick() {
	echo -device qemu-xhci,id=usb,addr=09.0 -drive file=README.md,format=raw,if=none,id=stick,readonly=on \
		-device usb-storage,bus=usb.0,drive=stick
}

# Two controllers that lead to one namespace: 0000:00:06.0 and 07.0
two_ways() {
	echo -device nvme-subsys,id=subsys0 -device nvme,serial=ways,subsys=subsys0,addr=06.0 \
		-drive file.driver=null-co,file.size=64M,file.read-zeroes=on,snapshot=on,if=none,id=ways,format=raw \
		-device nvme-ns,drive=ways,shared=on -device nvme,serial=ways,subsys=subsys0,addr=07.0
}

# Below it, 0000:81:00.0; all else goes past the IOMMU, whose driver is a module that virtio's devices would wait for
virtio_iommu() {
	echo -machine default_bus_bypass_iommu=true -device virtio-iommu-pci,addr=0f.0 \
		-device pxb-pcie,id=host1,bus=pcie.0,addr=13.0,bus_nr=128 \
		-device pcie-root-port,id=port1,bus=host1,chassis=1,addr=00.0 -device edu,bus=port1,addr=00.0
}

# The command on IOMMUs of other kinds
iommu_parts() {
	vm_part build iommu-amd --no-iommu --qemu "-device amd-iommu,intremap=on"
	vm_part build iommu-virtio --no-iommu --qemu "$(virtio_iommu)"
	vm_part build iommu-unsafe --no-iommu --append intel_iommu=on --qemu "-device intel-iommu,intremap=off"
}

# device_part BUILD [VM-OPTION...]
device_part() { vm_part "$1" device --removable --qemu "$(reporter) $(stick)" "${@:2}"; }

vm_once() {
	vm_part build machine --functions
	vm_part build no-iommu --no-iommu
	vm_part build shared --shared-group --append nvme_core.multipath=1 --qemu "$(two_ways)"
	vm_part build numa --numa
	vm_part build decode
}

vm_rest() {
	title="device with 256 MiB" device_part build --memory 256M
	vm_part build-asan machine --functions
	iommu_parts
	boots=yes limit=900 test_start tests/vm/module.sh
	DMALAND_KERNEL=6.1 kernel_told "the VM, Linux 6.1" || return 0
	DMALAND_KERNEL=6.1 title="machine, Linux 6.1" vm_part build machine --functions
	DMALAND_KERNEL=6.1 title="device, Linux 6.1" device_part build
}

# ---- all of it

# kernel_told NAME: there is what the VM boots; else that is said, and with CI set it is a failure.
kernel_told() {
	kernel_need && return
	if [ -n "${CI:-}" ]; then
		result "$1" 0 0 1 0 "could not run"
	else
		result "$1" 0 0 0 1 "could not run"
	fi
	return 1
}

# The longest of the VM's part first, so that both CPUs have work to the end.
suites() {
	local vm=''
	! kernel_told "the VM" || vm=yes
	[ -z "$vm" ] || device_part build-asan --memory 3G
	[ -z "$vm" ] || [ -z "$all" ] || device_part build-tsan --memory 3G # ThreadSanitizer wants four times what is used
	host_once
	[ -z "$all" ] || host_rest
	[ -z "$vm" ] || vm_once
	[ -z "$vm" ] || [ -z "$all" ] || vm_rest
}

tests_total() {
	local again
	again=$(find "$repeats" -type f | wc -l)
	if [ "$again" != 0 ]; then
		echo "VMs that were started once more: $again"
		(cd "$repeats" && grep -H '' -- * | sed 's/^/   /') || true
		[ "$again" = 1 ] || result "VMs that were started once more" 0 0 1 0 "$again, and one is borne"
	fi
	cat "$results"/* 2>/dev/null | awk '
		{ passed += $1; failed += $2; skipped += $3 }
		END {
			printf "%d passed, %d failed", passed, failed
			printf skipped ? ", " skipped " skipped\n" : "\n"
			exit failed != 0 || passed == 0
		}'
}

tests_end() {
	local members
	trap '' TERM
	members=$(family $$ | grep -vx $$) || true
	# shellcheck disable=SC2086 # several
	kill $members 2>/dev/null || true
	wait
	rm -rf "$scratch"
}

tests_run() {
	build_project build -Dwerror=true
	CC=clang CXX=clang++ build_project build-clang -Dwerror=true
	build_project build-asan -Db_sanitize=address,undefined
	build_project build-tsan -Db_sanitize=thread
	[ -z "$all" ] || build_project build-aarch64 -Dwerror=true -Dtests=false --cross-file tests/tool/aarch64.ini

	scratch=$(mktemp -d)
	results=$scratch/results
	repeats=$scratch/repeats
	logs=$root/build/log
	rm -rf "$logs"
	mkdir -p "$results" "$repeats" "$logs"
	trap tests_end EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
	export ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
	export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

	suites
	wait
	tests_total
}
