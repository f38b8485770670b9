#!/bin/bash
# test_examples.sh BUILD [PAGE...]: the programs in manual pages and in Markdown are compiled as they stand there, and run; then
# those of examples/. Prints TAP. What a page's example has to be stands at the top of docs/man/meson.build; what one in Markdown
# prints has to stand there too.

set -uo pipefail
build=$(cd "$1" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
shift
# shellcheck source=tests/common/tap.sh
. "$root/tests/common/tap.sh" "$work"

# example FILE: the first block of code under EXAMPLE of a manual page, or the first C block of a Markdown file
example() {
	case $1 in
	*.scd) awk '/^# /{on = $2 == "EXAMPLE" || $2 == "EXAMPLES"; next} /^```/{if (!on) next; if (code) exit; code = 1; next} code && on' "$1" |
		sed 's/\\\(.\)/\1/g' ;; # a backslash is written twice there
	*) awk '/^```c$/{code = 1; next} /^```/{if (code) exit} code' "$1" ;;
	esac
}

# works FILE
works() {
	local words program=$work/program
	example "$1" >"$work/program.c"
	[ -s "$work/program.c" ] || { echo "no example in it" && return 1; }
	cc -std=gnu11 -O1 -Wall -Wextra -Werror -I"$root/include" "$work/program.c" -o "$program" \
		-L"$build/src" -L"$build/drivers/nvme" -L"$build/drivers/rtl8139cp" -ldmaland-rtl8139cp -ldmaland-nvme -ldmaland -pthread \
		-Wl,-rpath,"$build/src:$build/drivers/nvme:$build/drivers/rtl8139cp" || return
	rm -rf "$work/here" && mkdir "$work/here" && truncate -s 64M "$work/here/disk.img" || return
	(cd "$work/here" && "$program") >"$work/output" || { cat "$work/output" && return 1; }
	words=$(sed -n 's|.*/\* prints: \(.*\) \*/.*|\1|p' "$work/program.c")
	cat "$work/output"
	case $1 in
	*.scd) [ -z "$words" ] || grep -qF -- "$words" "$work/output" ;;
	*) [ -s "$work/output" ] && grep -qxF -f "$work/output" "$1" ;;
	esac
}

# refused WORDS COMMAND...
refused() { ! "${@:2}" >"$work/output" 2>&1 && grep -F -- "$1" "$work/output"; }

edu_works() {
	"$build/examples/edu" | tee "$work/output" && grep -qxF -f "$work/output" "$root/README.md" || return
	refused 'soft: is no edu' "$build/examples/edu" soft:
}

nvme_read_works() {
	local image=$work/image
	head -c 64K /dev/urandom >"$image"
	"$build/examples/nvme_read" "qemu:nvme,drive=$image" 3 | cmp - <(tail -c +1537 "$image" | head -c 512) || return
	refused 'namespace 1 has 128' "$build/examples/nvme_read" "qemu:nvme,drive=$image" 128
}

xhci_works() {
	"$build/examples/xhci" 2>&1 | tee "$work/output" && [ "$(grep -c '^port [1-8]: nothing$' "$work/output")" = 8 ] &&
		grep -qx 'no stick' "$work/output" && ! grep dmaland: "$work/output" || return
	refused 'qemu:edu is no xHCI controller' "$build/examples/xhci" qemu:edu
}

# Behind a keyboard, which is at a port of USB 2. A stick at such a port is told, and left alone.
xhci_reads_a_stick() {
	local image=$work/image
	head -c 64K /dev/urandom >"$image"
	"$build/examples/xhci" "qemu:qemu-xhci,child=usb-kbd,child=usb-storage,,drive=$image" 2>&1 | tee "$work/output" &&
		grep -qx 'port [1-8]: not SuperSpeed: left alone' "$work/output" &&
		grep -qx "block 0:$(od -An -tx1 -N16 "$image") ...$(od -An -tx1 -j510 -N2 "$image")" "$work/output" &&
		! grep dmaland: "$work/output" || return
	"$build/examples/xhci" "qemu:qemu-xhci,p3=0,child=usb-storage,,drive=$image" 2>&1 | tee "$work/output" &&
		[ "$(grep -cx 'port [1-4]: not SuperSpeed: left alone' "$work/output")" = 1 ] && grep -qx 'no stick' "$work/output"
}

pages=("${@/#/$root/docs/man/}")
pages=("${pages[@]/%/.3.scd}")
if [ $# = 0 ]; then
	pages=("$root"/docs/man/*.3.scd "$root/README.md" "$root"/docs/{quickstart,your-device-in-qemu,porting-a-linux-driver}.md)
	check "examples/edu carries a text" edu_works
	check "examples/nvme_read reads a block" nvme_read_works
	check "examples/xhci shows ports" xhci_works
	check "examples/xhci reads a stick" xhci_reads_a_stick
fi
for page in "${pages[@]}"; do
	check "the example in ${page#"$root/"} works" works "$page"
done
tap_end
