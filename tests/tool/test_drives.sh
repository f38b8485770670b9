#!/bin/bash
# The command `dmaland nvme` on drives of another kind: several namespaces, which drives share; zones; metadata; virtual
# functions; and images that are opened in another way. All are QEMU's, by specs alone. Prints TAP.
#
#   test_drives.sh BUILD-DIRECTORY

# shellcheck disable=SC2015,SC2016,SC2317 # tests are strings for eval, which expands and calls what is in them
set -uo pipefail

# shellcheck source=tests/tool/begin.sh
. "$(dirname "${BASH_SOURCE[0]}")/begin.sh"

if ! command -v qemu-system-x86_64 >/dev/null; then
	skip "everything" "no qemu-system-x86_64"
	tap_end
fi

# refused WORDS COMMAND...: it fails, and says so in words on stderr
refused() {
	local words=$1 status=0
	shift
	"$@" 2>err || status=$?
	cat err
	[ "$status" = 1 ] && grep -q "$words" err
}

# subsystem NAME PROPERTIES...: $spec is a controller of a subsystem, in which there are namespaces with these properties, of 16 MiB
# each on a file NAME-1.img, ...
subsystem() {
	local name=$1 n=0 properties
	shift
	spec=qemu:nvme,serial=shared,subsys=subsystem,child=nvme-subsys,,id=subsystem
	for properties; do
		n=$((n + 1))
		head -c 16M /dev/urandom >"$name-$n.img"
		spec+=,child=nvme-ns,,drive=$here/$name-$n.img,,${properties//,/,,}
	done
}

# same IMAGE ARGUMENT...: that is what is read
same() { "$tool" nvme read "${@:2}" | cmp - "$1"; }

# ---- several namespaces

subsystem several nsid=3 nsid=7,logical_block_size=4096,physical_block_size=4096 nsid=200
check "all namespaces are shown, by the ids that they have" eval '
	"$tool" nvme identify "$spec" >out && cat out && grep -E "^ +3 +32768 +512 +0 +16 MiB$" out &&
		grep -E "^ +7 +4096 +4096 +0 +16 MiB$" out && grep -E "^ +200 +32768 " out && [ "$(grep -c MiB$ out)" = 3 ]'
check "each is read" eval 'same several-1.img "$spec" -n 3 && same several-2.img "$spec" -n 7 && same several-3.img "$spec" -n 200'
check "one that is not there is refused" refused "namespace 4 does not exist (the drive has 3)" "$tool" nvme read "$spec" -n 4
check "one is written, and no other" eval '
	cp several-1.img before && head -c 1M /dev/urandom >data && "$tool" nvme write "$spec" -n 7 -s 10 data &&
		cmp -n 1048576 -i 40960:0 several-2.img data && cmp several-1.img before'

# ---- raw commands

check "a raw admin command is told its data and its result" eval '
	"$tool" nvme admin "$spec" --opcode 6 --cdw10 1 --data-len 4K -r >out 2>err && grep -x "result: 0x00000000 0x00000000" err &&
		[ "$(wc -l <out)" = 256 ] && grep "^000000  .*|.*shared" out'
# raw NSID BLOCK-SIZE IMAGE
raw() {
	local io=("$tool" nvme io "$spec" -n "$1") b=$2 image=$3
	"${io[@]}" -o 2 --cdw10 200 --cdw12 7 -l $((8 * b)) -b 2>err | cmp -n $((8 * b)) -i 0:$((200 * b)) - "$image" &&
		head -c $((2 * b)) data | "${io[@]}" -w -o 1 --cdw10 300 --cdw12 1 -l $((2 * b)) 2>err &&
		cmp -n $((2 * b)) -i $((300 * b)):0 "$image" data && "${io[@]}" -o 1 --cdw10 400 -l "$b" -i data 2>err &&
		cmp -n "$b" -i $((400 * b)):0 "$image" data && refused "LBA out of Range" "${io[@]}" -o 2 --cdw11 1 -l "$b" &&
		head -c 100 data | refused "were asked (--data-len)" "${io[@]}" -o 1 -l "$b"
}
check "the options of nvme-cli's passthru are taken, with their letters" eval '
	"$tool" nvme io "$spec" -o 2 --namespace-id 3 -4 200 -5 0 -6 7 -l 4K -b 2>err | cmp -n 4096 -i 0:102400 - several-1.img &&
		"$tool" nvme admin "$spec" -o 6 -n 0 -4 1 -l 4K -r -b 2>err | grep -aq shared &&
		"$tool" nvme io "$spec" -o 0 --namespace-id=0xffffffff 2>err && ! "$tool" nvme io "$spec" -o 0 -n 0xfffffffe 2>err'
check "none is meant where no namespace is said" refused "Invalid Namespace" "$tool" nvme io "$spec" -o 2 -6 7 -l 4K
check "raw reads and writes move their data, in blocks of 512 bytes" raw 3 512 several-1.img
check "and of 4096" raw 7 4096 several-2.img

# ---- formats

check "all are formatted at once, where that is said" eval '
	"$tool" nvme format "$spec" -n all --format 0 >out && cat out && [ "$(grep -c " has format 0 now: " out)" = 3 ] &&
		cmp -n 1048576 several-3.img /dev/zero'
check "all names no namespace to be read" eval '
	! "$tool" nvme read "$spec" -n all 2>err && grep "not .all." err'

# ---- zones

subsystem zoned zoned=true,zoned.zone_size=1M nsid=2
check "a namespace is said to be zoned" eval '
	"$tool" nvme identify "$spec" | grep -x "namespace 1 is zoned: 16 zones of 2048 blocks (1 MiB)" &&
		"$tool" nvme identify --json "$spec" | grep "\"command_set\": \"zoned\""'
check "it is read, across zones" eval 'same zoned-1.img "$spec"'
check "so is a part that begins in a zone and ends in another" eval '
	"$tool" nvme read "$spec" -s 2000 -c 5000 | cmp -n 2560000 -i 0:1024000 - zoned-1.img'
check "writing to it is refused in words" refused "namespace 1 is zoned: each of its zones of 2048 blocks is written in order" \
	"$tool" nvme write "$spec" -s 0 data
check "so is zeroing" refused "namespace 1 is zoned" "$tool" nvme zero "$spec" -c 1
check "and testing" refused "namespace 1 is zoned" "$tool" nvme test --destroy-data "$spec"
check "discarding and verifying are not" eval '"$tool" nvme discard "$spec" -c 8 && "$tool" nvme verify "$spec"'
check "raw commands append to a zone" eval '
	cp zoned-1.img before && "$tool" nvme io "$spec" -n 1 -o 0x79 --cdw10 2048 --cdw13 4 2>err && head -c 1024 before >data &&
		"$tool" nvme io "$spec" -n 1 -o 0x7d --cdw10 2048 --cdw12 1 -l 1024 -i data 2>err && cat err &&
		grep -x "result: 0x00000800 0x00000000" err && cmp -n 1024 -i 1048576:0 zoned-1.img data'
check "what a zone forbids is said in words" eval '
	! "$tool" nvme io "$spec" -n 1 -o 1 --cdw10 2060 -l 512 -i data 2>err && cat err && grep "Zone Invalid Write (0x1bc)" err'
check "the plain namespace beside it is read and written" eval '
	head -c 1M /dev/urandom >data && "$tool" nvme write "$spec" -n 2 -s 10 data && cmp -n 1048576 -i 5120:0 zoned-2.img data'

# ---- metadata

subsystem metadata ms=8
check "blocks beside which there is metadata are told" eval '"$tool" nvme identify "$spec" | grep -E "^ +1 +[0-9]+ +512 +8 "'
check "and not read" refused "8 bytes of metadata beside each block" "$tool" nvme read "$spec"
check "but they are zeroed" eval '
	"$tool" nvme zero "$spec" -c 8 && cmp -n 4096 metadata-1.img /dev/zero && ! cmp -s -n 4608 metadata-1.img /dev/zero'
check "and discarded" "$tool" nvme discard "$spec" -c 8

# ---- virtual functions

subsystem functions nsid=1
spec+=,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2,max_ioqpairs=6,msix_qsize=4
check "a physical function is a drive as any" eval '"$tool" nvme identify "$spec" && same functions-1.img "$spec"'
check "which lists its secondary controllers, and gives them queues, by raw commands" eval '
	"$tool" nvme admin "$spec" -o 6 --cdw10 0x15 -l 4K >out && head -n 3 out && grep "^000000  02 00" out &&
		grep "^000020  01 00 00 00 00 00 00 00  *01 00 " out && "$tool" nvme admin "$spec" -o 0x1c --cdw10 $((1 << 16 | 8)) --cdw11 2'

# ---- images that are opened in another way

head -c 4M /dev/urandom >plain.img && head -c 64K /dev/urandom >data && cp plain.img before
check "what is written with snapshot=on is gone afterwards" eval '
	"$tool" nvme write "qemu:nvme,drive=plain.img,snapshot=on" -s 0 data && cmp plain.img before'
check "with readonly=on nothing is written" eval '
	same plain.img "qemu:nvme,drive=plain.img,readonly=on" &&
		! "$tool" nvme write "qemu:nvme,drive=plain.img,readonly=on" -s 0 data 2>err; cat err && cmp plain.img before'
# An empty image of 4 MiB, in clusters of 64 KiB (QEMU, docs/interop/qcow2): header, table of reference counts, counts, first level
perl -e 'print pack "a65536 a65536 a65536 a65536", pack("a4 N Q> N2 Q> N2 Q>2 N2 Q>", "QFI\xfb", 2, 0, 0, 16, 4 << 20, 0, 1, 0x30000,
	0x10000, 1, 0, 0), pack("Q>", 0x20000), pack("n4", 1, 1, 1, 1), ""' >image.qcow2
check "a qcow2 image is read and written, and stays one" eval '
	spec=qemu:nvme,drive=image.qcow2,format=qcow2 && "$tool" nvme read $spec | cmp -n 4194304 - /dev/zero &&
		"$tool" nvme write $spec -s 100 data && "$tool" nvme read $spec -s 100 -c 128 | cmp - data &&
		[ "$(stat -c %s image.qcow2)" -lt 1000000 ] && [ "$(head -c 3 image.qcow2)" = QFI ]'
check "an image is described in JSON" eval '
	same plain.img "qemu:nvme,drive={\"driver\": \"raw\",, \"file\": {\"driver\": \"file\",, \"filename\": \"plain.img\"}}"'
check "what an image is opened with goes to QEMU" eval '
	"$tool" nvme identify "qemu:nvme,drive=plain.img,throttling.iops-total=50" >out &&
		refused "throttling.iops-total" "$tool" nvme identify "qemu:nvme,drive=plain.img,throttling.iops-total=few"'

tap_end
