#!/bin/bash
# test_completion.sh BUILD: what bash offers for `dmaland`, as readline would ask for it; prints TAP.

# shellcheck disable=SC2034,SC2094 # COMP_* are the completion's
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
PATH=$(cd "$1" && pwd)/tools:$PATH
# shellcheck source=tools/completion/dmaland.bash
. "$root/tools/completion/dmaland.bash"
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here" || exit 1
: >disk.img
# shellcheck source=tests/common/tap.sh
. "$root/tests/common/tap.sh" "$here"

# offered LINE WORD...: at the end of LINE these words, and no others
offered() {
	COMP_LINE=$1 COMP_POINT=${#1} COMP_WORDBREAKS=$' \t\n"\'><=;|&(:' COMPREPLY=()
	shift
	_dmaland
	diff <(printf '%s\n' "$@" | sort) <(printf '%s\n' "${COMPREPLY[@]}" | sort)
}

offers() { check "$1" offered "${@:2}"; }

offers "commands" "dmaland " info bind unbind nvme pools --help --version
offers "a command that is begun" "dmaland un" unbind
offers "commands of nvme" "dmaland nvme " identify log watch read write verify zero discard format bench --help
offers "one of them" "dmaland nvme ver" verify
offers "options of a command" "dmaland bind --d" --driver --dry-run
offers "options of a command of nvme" "dmaland nvme zero --" --namespace --start --count --all --verbose
offers "short ones too" "dmaland nvme read -" -n -s -c -v --namespace --start --count --verbose
offers "backends" "dmaland nvme read q" qemu:nvme,drive=
offers "images after a =, from there on" "dmaland nvme read qemu:nvme,drive=di" disk.img
offers "files to read to" "dmaland nvme read qemu:nvme,drive=disk.img di" disk.img
offers "nothing for a number" "dmaland nvme read -s " ""
offers "nothing for a command that is not there" "dmaland frob -" ""
offers "what fits" "dmaland nvme write --namespace=1 qemu:nvme,drive=none" ""

address=$(find /sys/bus/pci/devices -mindepth 1 -printf '%f\n' 2>/dev/null | sort | head -n 1)
if [ -n "$address" ]; then
	offers "addresses, from the last colon on" "dmaland bind $address" "${address##*:}"
	offers "addresses of VFIO" "dmaland nvme identify vfio:$address" "${address##*:}"
else
	skip "addresses" "no PCI bus, which cannot be had here"
	skip "addresses of VFIO" "no PCI bus, which cannot be had here"
fi
tap_end
