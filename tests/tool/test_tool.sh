#!/bin/bash
# The command `dmaland`, run as a user runs it: against QEMU's NVMe drive on images of our own, with the
# image on the host as the witness of what was written. Prints TAP.
#
#   test_tool.sh BUILD-DIRECTORY

# shellcheck disable=SC2015,SC2016,SC2034 # tests are strings for eval, which expands and calls what is in them
set -uo pipefail

# shellcheck source=tests/tool/begin.sh
. "$(dirname "${BASH_SOURCE[0]}")/begin.sh"

# status WANTED COMMAND...: its exit status is so; stdout goes to `out`, stderr to `err`.
status() {
	local wanted=$1 got=0
	shift
	"$@" >out 2>err || got=$?
	[ "$got" = "$wanted" ] && return
	echo "exit status $got, not $wanted: $*"
	cat err
	return 1
}

# refused STATUS WORDS COMMAND...: it fails so, and says so in words on stderr, which begin as ours do.
refused() {
	local wanted=$1 words=$2
	shift 2
	status "$wanted" "$@" || return
	grep -q "$words" err || { echo "not said: $words"; cat err; return 1; }
	! grep -v '^\(dmaland: \|Try \|==\)' err
}

# bytes FILE: how many
bytes() { stat -c %s "$1"; }

json_reader() {
	if command -v python3 >/dev/null; then
		python3 -c 'import json, sys; json.load(sys.stdin)'
	else
		node -e 'JSON.parse(require("fs").readFileSync(0))'
	fi
}

# image_has IMAGE OFFSET FILE: the file's bytes lie there in the image
image_has() { cmp -n "$(bytes "$3")" -i "$2:0" "$1" "$3"; }

# zero_except IMAGE OFFSET SIZE: all else in the image is zero
zero_except() {
	cmp -n "$2" "$1" /dev/zero && cmp -i $(($2 + $3)):0 -n $(($(bytes "$1") - $2 - $3)) "$1" /dev/zero
}

# ---- words and exit codes

check "without a command, help goes to stderr and the status is 2" \
	eval 'status 2 "$tool" && grep -q ^Usage: err && [ ! -s out ]'
check "--help goes to stdout" status 0 "$tool" --help
check "--version says a version" eval '"$tool" --version | grep -x "dmaland [0-9.]*"'
check "an unknown command is refused" refused 2 "no command 'frob'" "$tool" frob
check "an unknown command of nvme is refused" refused 2 "no command 'nvme frob'" "$tool" nvme frob
check "an unknown option is refused" refused 2 "no option '--frob'" "$tool" info --frob
check "an option of another command is refused" refused 2 "no option '--pad'" "$tool" nvme read x --pad
check "a wrong letter is named, wherever in a word it is" eval '
	refused 2 "no option '"'-x'"'" "$tool" nvme read -xv a && refused 2 "no option '"'-x'"'" "$tool" nvme read -vx a &&
		refused 2 "no option '"'-x'"'" "$tool" nvme read a --count=1 -vxv && refused 2 "no option '"'-x'"'" "$tool" nvme read a -x'
check "so is one that an option without a short form has inside" eval '
	refused 2 "no option '"'-J'"'" "$tool" info -J && refused 2 "no option '"'-N'"'" "$tool" nvme bench a -vN'
check "an option that takes no value is refused with one" refused 2 "[-]-json takes no value" "$tool" info --json=1
check "an option without its value is refused" refused 2 "wants a value" "$tool" nvme read x -n
check "a value that is no number is refused" refused 2 "not '12x'" "$tool" nvme read x -s 12x
check "a number that is too large is refused" refused 2 "not '99999999999999999999'" \
	"$tool" nvme read x -c 99999999999999999999
check "a missing SPEC is refused" refused 2 "wants SPEC" "$tool" nvme identify
check "one operand too many is refused" refused 2 "also 'b'" "$tool" nvme identify a b
# told COMMAND PAGE: its manual, PAGE, has all options that its help has
told() {
	local option found=0
	# shellcheck disable=SC2086 # words
	for option in $("$tool" $1 --help | grep -oE -- '--[a-z0-9-]+' | sort -u); do
		found=1
		grep -q -- "\*$option\*" "$root/docs/man/$2.1.scd" || { echo "not in $2: $option" && return 1; }
	done
	[ "$found" = 1 ]
}
for command in info bind unbind pools nvme\ {identify,log,watch,read,write,verify,test,zero,discard,format,bench,admin,io}; do
	page=dmaland
	[ "$command" = "${command#nvme}" ] || page=dmaland-nvme
	check "$command --help names its manual" eval '"$tool" $command --help | grep -x "More: man $page"'
	check "which tells of its options" told "$command" $page
	check "and no line is wider than a terminal" eval '[ "$("$tool" $command --help | wc -L)" -le 80 ]'
done

# ---- info

check "info prints the machine's part" eval '"$tool" info | grep "^locked memory  "'
check "info --json is JSON" eval '"$tool" info --json | json_reader'
check "info --json says of the IOMMU whether it can express write-only" \
	eval '"$tool" info --json | grep "\"iommu_write_only\": *\(false\|true\|null\)"'
if [ -n "$(ls /sys/class/iommu 2>/dev/null)" ]; then
	check "so does info" eval '"$tool" info | grep "^FROM_DEVICE  *a device .* read this memory too"'
else
	check "where there is no IOMMU info says nothing of it" eval '! "$tool" info | grep "^FROM_DEVICE"'
fi
if unshare --user --map-root-user true 2>/dev/null; then
	check "in a user namespace CAP_IPC_LOCK does not count, and info says so" \
		eval '(ulimit -l 64 && unshare --user --map-root-user "$tool" info) | grep "^locked memory  *64 KiB allowed: this is a user namespace"'
else
	skip "a user namespace" "none can be made, which cannot be had here"
fi
check "info of an address that is not there is refused" \
	refused 1 "no PCI device ffff:ff:1f.7" "$tool" info ffff:ff:1f.7
check "bind of an address that is not there is refused" \
	refused 1 "no PCI device ffff:ff:1f.7" "$tool" bind ffff:ff:1f.7
check "an address that is empty is refused, and says how one looks" eval '
	refused 1 "an empty address .*0000:01:00.0" "$tool" bind "" &&
		refused 1 "an empty address .*0000:01:00.0" "$tool" bind vfio:'
# In a mount namespace, where sysfs has four devices of our own: those of one kind count by ascending address, in a spec and in
# an address.
tree_found() {
	local device
	for device in 10000:00:00.0.1 0000:02:00.0.1 0000:01:00.0.2 0000:0a:00.0.1; do
		mkdir -p "tree/pci/devices/${device%.*}" && echo 0x010802 >"tree/pci/devices/${device%.*}/class" &&
			echo 0xfffe >"tree/pci/devices/${device%.*}/vendor" && echo "0x000${device##*.}" >"tree/pci/devices/${device%.*}/device" || return
	done
	unshare --map-root-user --mount bash -c 'mount --bind tree /sys/bus || exit
		n=0
		for address in 0000:02:00.0 0000:0a:00.0 10000:00:00.0; do
			"$1" info "pci:FFFE:1,index=$n" | grep -q "^$address " && ! "$1" nvme identify "pci:fffe:0001,index=$n" 2>err && cat err &&
				grep "^dmaland: .*$address" err || exit
			n=$((n + 1))
		done
		"$1" info pci:fffe:2 | grep -q "^0000:01:00.0 " && "$1" info pci:fffe:1 | grep -q "^0000:02:00.0 " || exit
		! "$1" info pci:fffe:1,index=3 2>err && grep "there are 3, and index 3 was asked" err' - "$tool"
}
if unshare --map-root-user --mount true 2>/dev/null; then
	check "devices are found by their ids, and counted by ascending address" tree_found
else
	skip "devices by their ids" "no mount namespaces, which cannot be had here"
fi
# What is no spec for a drive names no device either.
ids_refused() {
	local text
	for text in 0x80:86 " 8086:29c0" 8086:-1 08086:29c0 8086 8086:29c0: 0000:01:00.0 8086:29c0,index "8086:29c0,"; do
		refused 1 "not " "$tool" info "pci:$text" && grep "VENDOR:DEVICE\|key=value" err &&
			refused 1 "not " "$tool" nvme identify "pci:$text" && grep "VENDOR:DEVICE\|key=value" err || return
	done
	for text in -1 +0 70000 " 0" 0x0 "" 0,index=0; do
		refused 1 "is not a number\|given twice" "$tool" info "pci:8086:29c0,index=$text" &&
			refused 1 "is not a number\|given twice" "$tool" nvme identify "pci:8086:29c0,index=$text" || return
	done
	refused 1 "no PCI device pci:8086:29c0" "$tool" info vfio:pci:8086:29c0
}
check "ids that are none are refused wherever a device is named" ids_refused
if [ -n "$(ls /sys/bus/pci/devices 2>/dev/null)" ]; then
	address=$(find /sys/bus/pci/devices -mindepth 1 -printf "%f\n" | head -n 1)
	check "info of one device tells of its link and how it is reset" \
		eval '"$tool" info "$address" >out && grep "^$address  *link: " out && grep "^ *reset: " out'
	check "on a terminal what can be used has a colour" \
		eval 'env -u NO_COLOR TERM=xterm script -qec "$tool info" /dev/null | grep "$(printf "\033")\["'
	check "without one there is none" eval '! TERM=xterm "$tool" info | grep "$(printf "\033")"'
	check "nor where NO_COLOR is set" \
		eval '! NO_COLOR=1 TERM=xterm script -qec "$tool info" /dev/null | grep "$(printf "\033")\["'
	# bound, and not by a name that was set
	taken=()
	for place in /sys/bus/pci/devices/*; do
		[[ -e $place/driver && $(readlink "$place/driver") != *vfio* && $(cat "$place/class") != 0x06* ]] &&
			[[ $(cat "$place/driver_override") =~ ^(\(null\))?$ ]] && taken+=("${place##*/}")
	done
	if [ ${#taken[@]} -gt 0 ]; then
		check "unbind leaves what the kernel's drivers have, in use or not" \
			eval 'status 0 "$tool" unbind --dry-run "${taken[@]}" && [ ! -s out ]'
	else
		skip "unbind" "no driver has a device, which cannot be had here"
	fi
else
	for name in "info of one device" "a colour" "no colour" "NO_COLOR" "unbind"; do
		skip "$name" "no PCI bus, which cannot be had here"
	done
fi
check "two formats at a time are refused" refused 2 "exclude each other" "$tool" nvme format x --format 1 --block-size 512
check "zeroing a count of blocks and all is refused" refused 2 "exclude each other" "$tool" nvme zero x -c 1 --all
check "a benchmark of a time and of a number of requests is refused" \
	refused 2 "exclude each other" "$tool" nvme bench x --time 1 --requests 1
check "metadata without a format that has some is refused" refused 2 "goes with --format" "$tool" nvme format x --metadata
check "a raw command wants an opcode" refused 2 "say which command" "$tool" nvme admin x
check "its numbers have a range" eval '
	refused 2 "[-]-cdw15 is a number from 0 to 4294967295" "$tool" nvme io x -9 4294967296 &&
		refused 2 "[-]-namespace is a number from 0 to 4294967295" "$tool" nvme io x -n 4294967296'
check "namespace 0 is none for commands that are not raw" refused 2 "from 1 to 4294967294" "$tool" nvme read x -n 0
check "one that reads does not write" refused 2 "writes nothing" "$tool" nvme io x --opcode 2 --write
check "data from a file have a length" refused 2 "wants --data-len" "$tool" nvme io x --opcode 1 -i /dev/null
check "a table where none is printed is refused" refused 2 "prints none" "$tool" nvme format x --format 0 --json
check "a time for formatting without a format is refused" refused 2 "goes with --format" "$tool" nvme format x --timeout 1
check "erasing without a format is refused" refused 2 "say into what" "$tool" nvme format x --erase
check "bind to what is no name of a driver is refused" \
	refused 2 "no driver's name" "$tool" bind --driver a/b ffff:ff:1f.7
check "a full disk is reported by info" \
	refused 1 "stdout: No space left" eval '"$tool" info >/dev/full'

check "help that nobody gets is a failure" refused 1 "cannot write to stdout" eval '"$tool" --help >&-'

# ---- the drive

if ! command -v qemu-system-x86_64 >/dev/null; then
	skip "everything on a drive" "no qemu-system-x86_64"
	tap_end
fi

MiB=1048576

# drive_tests BLOCK-SIZE PROPERTIES: on a drive of 16 MiB
drive_tests() {
	local b=$1 image=drive-$1.img spec=qemu:nvme,drive=$here/drive-$1.img$2
	local blocks=$((16 * MiB / $1)) some=$((5 * MiB / $1))
	truncate -s 16M "$image"
	head -c $((5 * MiB)) /dev/urandom >data
	head -c $((5 * MiB + 100)) /dev/urandom >odd

	check "$b: identify names the block size" \
		eval '"$tool" nvme identify "$spec" | grep -E "^ +1 +$blocks +$b +0 +16 MiB$"'
	check "$b: identify --json is JSON" eval '"$tool" nvme identify "$spec" --json | json_reader'
	check "$b: a file is written" status 0 "$tool" nvme write "$spec" -s 7 data
	check "$b: the image has it" image_has "$image" $((7 * b)) data
	check "$b: and nothing else" zero_except "$image" $((7 * b)) $((5 * MiB))
	check "$b: blocks are read to a file" status 0 "$tool" nvme read "$spec" -s 7 -c $some back
	check "$b: they are what was written" cmp data back
	check "$b: blocks are read to a pipe" eval '"$tool" nvme read "$spec" -s 7 -c $some | cat | cmp - data'
	check "$b: the whole namespace is read" eval '"$tool" nvme read "$spec" | cmp - "$image"'
	truncate -s 0 "$image" && truncate -s 16M "$image"
	check "$b: a slow pipe is written" \
		eval '{ head -c 1000 data; sleep 0.2; tail -c +1001 data; } | "$tool" nvme write "$spec" -s 7 -'
	check "$b: the image has that" image_has "$image" $((7 * b)) data
	check "$b: and nothing but that" zero_except "$image" $((7 * b)) $((5 * MiB))
	head -c $((3 * b)) odd >three
	check "$b: --count takes so much of a file" status 0 "$tool" nvme write "$spec" -s 2000 -c 3 odd
	check "$b: so much is in the image" image_has "$image" $((2000 * b)) three
	check "$b: and no more" cmp -n $((5 * MiB)) -i $((2003 * b)):0 "$image" \
		<(tail -c +$((1996 * b + 1)) data; cat /dev/zero)
	cp "$image" before
	check "$b: verify finds the drive good, and leaves it as it was" eval '
		"$tool" nvme verify "$spec" >out && cat out && cmp before "$image" &&
			grep -x "namespace 1: the drive can read $blocks blocks of $b bytes from block 0 on" out'
	check "$b: of a part, too" eval '
		"$tool" nvme verify "$spec" -s 10 -c 20 | grep -x "namespace 1: the drive can read 20 blocks of $b bytes from block 10 on"'
	check "$b: a test is refused where that data are lost was not said" eval '
		refused 2 "destroy-data if that is meant" "$tool" nvme test "$spec" && cmp before "$image"'
	check "$b: a test finds the drive good" \
		eval '"$tool" nvme test --destroy-data "$spec" | grep "all blocks are as they were written"'
	check "$b: the same seed makes the same data, and another makes other" eval '
		status 0 "$tool" nvme test --destroy-data "$spec" --seed 5 && cp "$image" five &&
		status 0 "$tool" nvme test --destroy-data "$spec" --seed 6 && ! cmp -s "$image" five &&
		status 0 "$tool" nvme test --destroy-data "$spec" --seed 5 && cmp "$image" five'

	# what is refused leaves the drive as it was
	check "$b: a file that is no multiple of the block is refused" \
		refused 1 "not a multiple of the block size" "$tool" nvme write "$spec" odd
	check "$b: a file that does not fit is refused" \
		refused 1 "has 9 from block $((blocks - 9))" "$tool" nvme write "$spec" -s $((blocks - 9)) data
	check "$b: a file shorter than --count is refused" \
		refused 1 "were asked" "$tool" nvme write "$spec" -c $((some + 1)) data
	check "$b: a write past the end is refused" \
		refused 1 "past the end" "$tool" nvme write "$spec" -s $blocks data
	check "$b: a count past the end is refused, and says of what size blocks are" \
		refused 1 "past the end: .* blocks of $b bytes" "$tool" nvme write "$spec" -s 1 -c $blocks data
	check "$b: a range that overflows is refused" \
		refused 1 "past the end" "$tool" nvme read "$spec" -s 1 -c 0xffffffffffffffff untouched
	check "$b: one that begins at the last number there is, too" \
		refused 1 "past the end" "$tool" nvme read "$spec" -s 0xffffffffffffffff -c 2 untouched
	check "$b: a namespace that is not there is refused" \
		refused 1 "namespace" "$tool" nvme write "$spec" -n 9 data
	check "$b: an input that is not there is refused" \
		refused 1 "cannot open nothing: No such file" "$tool" nvme write "$spec" nothing
	check "$b: a directory is refused" refused 1 "is a directory" "$tool" nvme write "$spec" .
	check "$b: all that left the drive as it was" cmp five "$image"
	check "$b: a read past the end is refused" \
		refused 1 "past the end" "$tool" nvme read "$spec" -s 10 -c $blocks untouched
	check "$b: and makes no file" [ ! -e untouched ]

	# pipes, whose size shows at their end
	check "$b: a pipe that ends inside a block fails and says what was written" \
		refused 1 "$some blocks from block 3 on were written" eval 'cat odd | "$tool" nvme write "$spec" -s 3'
	head -c $((5 * MiB)) odd >whole
	check "$b: so much was written" image_has "$image" $((3 * b)) whole
	check "$b: --pad fills the last block" \
		eval 'cat odd | "$tool" nvme write "$spec" --pad -s 3'
	{ cat odd; head -c $((b - 100)) /dev/zero; } >padded
	check "$b: with zeros" image_has "$image" $((3 * b)) padded
	check "$b: --pad does so for files" \
		eval '"$tool" nvme write "$spec" --pad -s 50 odd && image_has "$image" $((50 * b)) padded'
	check "$b: a pipe longer than the drive fails and says what was written" \
		refused 1 "4 blocks from block $((blocks - 4)) on were written" \
		eval 'head -c $((5 * b)) data | "$tool" nvme write "$spec" -s $((blocks - 4))'
	check "$b: a pipe shorter than --count fails and says what was written" \
		refused 1 "2 blocks from block 0 on were written" \
		eval 'head -c $((2 * b)) data | "$tool" nvme write "$spec" -c 3'
	check "$b: an empty pipe is nothing to write" eval ': | "$tool" nvme write "$spec"'

	# blocks that lose what they hold
	cp five "$image"
	check "$b: to zero, blocks must be named" refused 2 "say which blocks" "$tool" nvme zero "$spec"
	check "$b: to discard, too" refused 2 "say which blocks" "$tool" nvme discard "$spec" -s 3
	check "$b: blocks past the end are not zeroed" \
		refused 1 "past the end" "$tool" nvme zero "$spec" -s 1 -c $blocks
	check "$b: that left the drive as it was" cmp five "$image"
	check "$b: blocks are zeroed" status 0 "$tool" nvme zero "$spec" -s 100 -c 1000
	check "$b: they are zeroes" cmp -n $((1000 * b)) -i $((100 * b)):0 "$image" /dev/zero
	check "$b: what was before and after is not" eval '
		cmp -n $((100 * b)) five "$image" && cmp -i $((1100 * b)) five "$image"'
	check "$b: discarding leaves the other blocks" eval '
		status 0 "$tool" nvme discard "$spec" -s 100 -c 1000 &&
			cmp -n $((100 * b)) five "$image" && cmp -i $((1100 * b)) five "$image"'
	check "$b: --all is to the end" eval '
		status 0 "$tool" nvme zero -v "$spec" -s 1 --all && grep "^zeroed .*: $((blocks - 1)) blocks" err &&
			cmp -n "$b" five "$image" && cmp -i "$b:0" -n $((16 * MiB - b)) "$image" /dev/zero'

	check "$b: the health and the errors of a drive are told" eval '
		"$tool" nvme log "$spec" >out && grep -E "^temperature +[0-9]+ C$" out && grep "no error in the log" out'
	check "$b: log --json is JSON" eval '"$tool" nvme log "$spec" --json | json_reader'
	check "$b: the formats are listed" eval '
		"$tool" nvme format "$spec" | grep -E "^ +[0-9] +$b +0 +best +in use$"'
	check "$b: format --json is JSON" eval '"$tool" nvme format "$spec" --json | json_reader'
	check "$b: one with metadata is refused, and the option that it takes is said" refused 1 \
		"format 1 .* 8 bytes of metadata .*; --metadata if that is meant" "$tool" nvme format "$spec" --format 1
	check "$b: a format that is not there is refused" refused 1 "format" "$tool" nvme format "$spec" --format 63

	check "$b: a namespace is formatted, in the time that is given for it" eval '
		"$tool" nvme format "$spec" --block-size "$b" --timeout 3600 | grep "blocks of $b bytes$"'

	cp five "$image"
	check "$b: reads are measured" eval '
		"$tool" nvme bench "$spec" --random --requests 300 >out && cat out &&
			grep -x "300 random reads of 4 KiB, 32 in flight, polled" out && grep -E "^latency +p50 .* max " out'
	check "$b: no more requests are in flight than are asked for" eval '
		"$tool" nvme bench "$spec" --requests=1 | grep -x "1 sequential reads of 4 KiB, 1 in flight, polled" &&
			"$tool" nvme bench "$spec" --requests=3 --depth=8 --json | grep "\"depth\": 3"'
	check "$b: reads are measured by interrupt" \
		eval '"$tool" nvme bench "$spec" --irq --requests 100 | grep -x "100 sequential reads of 4 KiB, 32 in flight, by interrupt"'
	check "$b: that left the drive as it was" cmp five "$image"
	check "$b: writes are measured, only where they may be written" eval '
		"$tool" nvme bench "$spec" --write -s 100 -c 1000 --requests 200 --size 8K --depth 1 --json |
			tee out | json_reader && grep "\"requests\": 200" out && ! cmp -s five "$image" &&
			cmp -n $((100 * b)) five "$image" && cmp -i $((1100 * b)) five "$image"'
	check "$b: requests that are no multiple of the block are refused" \
		refused 1 "not a multiple" "$tool" nvme bench "$spec" --size 1000
	check "$b: requests larger than the range are refused" \
		refused 1 "larger than" "$tool" nvme bench "$spec" --size 1M -c 2
	check "$b: more requests in flight than a queue holds are refused" \
		refused 1 "more than a queue" "$tool" nvme bench "$spec" --depth 65535

	check "$b: 1024 reads of 64 KiB hold 67 pages of PRP lists: slabs of 1, of 2, and of 4 pages" \
		eval '"$tool" pools "$spec" | grep -E "^prp list 256 +1024 +1072 +256 +67 +0$"'
	check "$b: pools --json is JSON" eval '"$tool" pools "$spec" --json | json_reader'
	check "$b: without reads, no block is in use" \
		eval '"$tool" pools "$spec" --reads 0 | grep -E "^prp list 256 +0 "'
	check "$b: more reads than fit are refused" refused 1 "do not fit" "$tool" pools "$spec" --reads 100000
	check "$b: reads that are no multiple of the block are refused" \
		refused 1 "not a multiple" "$tool" pools "$spec" --size 1000
}

drive_tests 512 ""
drive_tests 4096 ",logical_block_size=4096,physical_block_size=4096"

# ---- a small drive, and what goes wrong around it

truncate -s 32K small.img
small=qemu:nvme,drive=$here/small.img
big=qemu:nvme,drive=$here/drive-512.img

check "memory that is too small for what is asked is told with what makes it larger" refused 1 \
	"64 MiB of the device's memory were asked in one piece, and it can have 16 MiB in all: .* ram=" \
	"$tool" nvme bench "$big,ram=16M" --size 1M --depth 64
check "a drive smaller than a request is verified" status 0 "$tool" nvme verify "$small"
check "and tested" status 0 "$tool" nvme test --destroy-data "$small"
check "pools scales its reads down to a small drive" \
	eval '"$tool" pools "$small" | grep "reads of 32 KiB in flight"'
check "a comma in a name is written twice" \
	eval 'cp small.img a,b.img && "$tool" nvme identify "qemu:nvme,drive=$here/a,,b.img"'
check "an image that is not there is an error" \
	refused 1 "nothing.img" "$tool" nvme read "qemu:nvme,drive=$here/nothing.img" out.bin
check "a spec that makes no sense is an error" refused 1 "spec" "$tool" nvme read nonsense out.bin

# hold_drive: a process that writes all of the small drive and then waits for its input to end, as $holder;
# its input is our file 9. It has the drive when its data are in the image.
hold_drive() {
	rm -f hold
	mkfifo hold && head -c 32K /dev/urandom >held || return
	# jobs of a script ignore SIGINT unless told otherwise
	env --default-signal=INT "$tool" nvme write "$small" <hold 2>hold.err &
	holder=$!
	exec 9>hold
	cat held >&9
	until cmp -s held small.img; do kill -0 "$holder" && sleep 0.01 || return; done
}

image_in_use() {
	hold_drive && refused 1 "lock\|in use" "$tool" nvme identify "$small" || return
	exec 9>&-
	wait "$holder"
}
check "an image in use by another process is an error" image_in_use

own_image() {
	local image=${small#*drive=} before
	image=${image%%,*}
	before=$(bytes "$image")
	refused 1 "locked" "$tool" nvme read "$small" "$image" && [ "$(bytes "$image")" = "$before" ]
}
check "a drive is not read into its own image" own_image

check "an output that cannot be made is an error" \
	refused 1 "cannot open /dev/null/x" "$tool" nvme read "$small" /dev/null/x
check "an output that is a directory is an error" \
	refused 1 "cannot open .: Is a directory" "$tool" nvme read "$small" .
check "an output that may not be written to is an error" \
	refused 1 "cannot open /sys/kernel/uevent_seqnum: \(Permission denied\|Read-only\)" \
	"$tool" nvme read "$small" /sys/kernel/uevent_seqnum
check "a full disk is an error that names the file" \
	refused 1 "cannot write to /dev/full: No space left" "$tool" nvme read "$small" /dev/full
check "a full stdout is an error" \
	refused 1 "cannot write to stdout: No space left" eval '"$tool" nvme read "$small" >/dev/full'
check "a closed stdout is an error" \
	refused 1 "cannot write to stdout" eval '"$tool" nvme read "$small" >&-'
check "a closed stdin is an error" \
	refused 1 "stdin: Bad file descriptor" eval '"$tool" nvme write "$small" <&-'
check "a reader that goes away ends a read without words" \
	eval '"$tool" nvme read "$big" 2>err | head -c 1 >/dev/null; [ "${PIPESTATUS[0]}" = 141 ] && [ ! -s err ]'

interrupted() {
	local status=0
	hold_drive && kill -INT "$holder" || return
	wait "$holder" || status=$?
	exec 9>&-
	[ "$status" = 130 ] && grep -qx "dmaland: interrupted: 64 blocks from block 0 on were written" hold.err &&
		status 0 "$tool" nvme identify "$small"
}
check "SIGINT flushes and closes the drive, says what was written, and ends with 130" interrupted

# Far more than is read before the signal; what is said to be in the file is there, and no more.
truncate -s 4G sparse.img && dd if=/dev/urandom of=sparse.img bs=1M count=8 conv=notrunc status=none
interrupted_read() {
	local pid status=0 blocks
	rm -f part
	env --default-signal=INT "$tool" nvme read "qemu:nvme,drive=$here/sparse.img" part 2>err &
	pid=$!
	until [ -s part ]; do kill -0 "$pid" && sleep 0.01 || return; done
	kill -INT "$pid"
	wait "$pid" || status=$?
	cat err
	blocks=$(sed -n 's/^dmaland: interrupted: \([0-9]*\) of 8388608 blocks, from block 0 on, were read to part$/\1/p' err)
	[ "$status" = 130 ] && [ "$(bytes part)" = $((blocks * 512)) ] && cmp -n "$(bytes part)" part sparse.img
}
check "SIGINT leaves in the file what was read, and says how much" interrupted_read

watch_interrupted() {
	local pid code=0
	env --default-signal=INT "$tool" nvme watch -v "qemu:nvme,drive=$here/sparse.img" >out 2>err &
	pid=$!
	until grep -q "watching" err; do kill -0 "$pid" && sleep 0.01 || return; done
	kill -INT "$pid"
	wait "$pid" || code=$?
	[ "$code" = 130 ] && [ ! -s out ]
}
check "watch says what a drive reports until SIGINT, and QEMU's reports nothing by itself" watch_interrupted

# shellcheck source=tests/tool/ends.sh
. "$root/tests/tool/ends.sh"

# A benchmark without an end in sight is ended, and says what it has measured.
interrupted_bench() {
	local pid status=0
	env --default-signal=INT "$tool" nvme bench "$big" --write --time 1000000 >out 2>err &
	pid=$!
	until ! cmp -s -n 512 drive-512.img before; do kill -0 "$pid" && sleep 0.01 || return; done
	kill -INT "$pid"
	wait "$pid" || status=$?
	[ "$status" = 130 ] && grep "sequential writes of 4 KiB" out && [ ! -s err ]
}
head -c 512 drive-512.img >before
check "SIGINT ends a benchmark, which says what it has measured" interrupted_bench

interrupted_test() {
	local pid status=0
	env --default-signal=INT "$tool" nvme test --destroy-data "qemu:nvme,drive=$here/sparse.img" --seed 1 >out 2>err &
	pid=$!
	until ! cmp -s -n 512 sparse.img part; do kill -0 "$pid" && sleep 0.01 || return; done
	kill -INT "$pid"
	wait "$pid" || status=$?
	[ "$status" = 130 ] && grep -q "^dmaland: interrupted, writing: [0-9]* of 8388608 blocks" err
}
check "SIGINT ends a test, which says how far it was" interrupted_test
# On a terminal, of a drive that is not done in a day; the bar has moved.
interrupted_zero() {
	local pid status=0 endless='{"driver":"raw",,"file":{"driver":"null-co",,"size":1125899906842624}}'
	rm -f typescript
	script -qefc "exec env --default-signal=INT '$tool' nvme zero 'qemu:nvme,drive=json:$endless' --all --yes" typescript >/dev/null &
	pid=$!
	until grep -aq "zeroing .* [1-9][0-9.]* [MGT]iB of 1 PiB" typescript; do kill -0 "$pid" && sleep 0.01 || return; done
	kill -INT "$(tr -d ' ' <"/proc/$pid/task/$pid/children")"
	wait "$pid" || status=$?
	[ "$status" = 130 ] &&
		grep -aq "dmaland: interrupted: [1-9][0-9]* of 2199023255552 blocks, from block 0 on, were zeroed" typescript
}
check "SIGINT ends zero, which says how far it was, below a bar that moved" interrupted_zero
check "a file that grows larger than may be is an error that says what was read" eval '
	(ulimit -f 131072 && refused 1 "cannot write to part: File too large" \
		"$tool" nvme read "qemu:nvme,drive=$here/sparse.img,ram=64M" part) &&
		grep -q "262144 of 8388608 blocks, from block 0 on, were read" err && [ "$(bytes part)" = $((128 * MiB)) ]'
rm -f sparse.img part

# ---- what people watch

check "without a terminal, a transfer that succeeds says nothing" \
	eval 'status 0 "$tool" nvme read "$big" out.bin && [ ! -s err ]'
check "--verbose says how fast it was and how long requests took" \
	eval '"$tool" nvme read -v "$big" -c 1024 out.bin 2>&1 |
		grep -E "^latency of 4 requests: p50 [0-9.]+ .?s, p99 [0-9.]+ .?s, p99.9 [0-9.]+ .?s, max [0-9.]+ .?s$"'

# What takes a second to open does not take it to read.
slow_to_open() {
	local begin=${EPOCHREALTIME/[.,]/} hundredths
	mkdir slow && printf '#!/bin/sh\nsleep 1\nexec %s "$@"\n' "$(command -v qemu-system-x86_64)" >slow/qemu-system-x86_64 &&
		chmod +x slow/qemu-system-x86_64 && PATH=$here/slow:$PATH status 0 "$tool" nvme read -v "$small" out.bin || return
	cat err
	hundredths=$(sed -n 's/^read .* from block 0, \([0-9]*\)\.\([0-9][0-9]\) s, .*/\1\2/p' err)
	[ -n "$hundredths" ] && [ $((10#$hundredths * 10000 + 1000000)) -le $((${EPOCHREALTIME/[.,]/} - begin)) ]
}
check "--verbose tells how long the blocks took, not the opening of the drive" slow_to_open

# script is the terminal; who reads the pipe waits until the bar is there.
bar() {
	local pid
	rm -f flow typescript && mkfifo flow
	script -qefc "'$tool' nvme read '$big' $1 >flow" typescript >/dev/null &
	pid=$!
	exec 9<flow
	until grep -q "reading  \[-*\]  0 %" typescript; do kill -0 "$pid" && sleep 0.01 || return; done
	cat <&9 >back
	exec 9<&-
	wait "$pid"
}
check "on a terminal there is a bar, and a summary at the end" \
	eval 'bar "" && cmp back drive-512.img && grep -q "^.*read 16 MiB: 32768 blocks of 512 bytes" typescript &&
		grep -q "^latency of 128 requests" typescript'

# Somebody else copies block 3 over block 30000 all the time; so a test must find it there, sooner or later.
misplaced() {
	local pid i found=1
	while :; do dd if=drive-512.img of=drive-512.img bs=512 skip=3 seek=30000 count=1 conv=notrunc; done 2>/dev/null &
	pid=$!
	for ((i = 0; i < 100 && found; i++)); do
		"$tool" nvme test --destroy-data "$big" --seed 3 >out 2>err && continue
		grep -q "^block 30000 differs.*written to block 3$" out && found=0 && break
	done
	kill "$pid"
	wait "$pid" 2>/dev/null
	grep -q "1 of 32768 blocks are not as they were written" err && return "$found"
}
check "a test names a block that holds another's data" misplaced

# Blocks that can't be read: QEMU's blkdebug fails reads of two sectors.
unreadable() {
	local image='{"driver":"raw",,"file":{"driver":"blkdebug",,"inject-error":[{"event":"read_aio",,"errno":5,,"sector":300,,"once":false}],,"image":{"driver":"file",,"filename":"'$here'/small.img"}}}'
	truncate -s 1M small.img
	refused 1 "reading blocks 256 to 511 of namespace 1 failed: " "$tool" nvme verify "qemu:nvme,drive=json:$image" &&
		grep "^dmaland: 2048 of 2048 blocks, from block 0 on, were verified; 1 requests failed" err
}
check "verify names what the drive can't read, and looks at the rest" unreadable

tap_end
