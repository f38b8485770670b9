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
: >"my disk.img"
: >a,b.img
mkdir images
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

offers "commands" "dmaland " info bind unbind nvme pools net --help --version
offers "a command that is begun" "dmaland un" unbind
offers "commands of nvme" "dmaland nvme " identify log watch read write verify test zero discard format bench admin io --help
offers "commands of net" "dmaland net " info receive send ping echo bench --help
offers "network cards after them" "dmaland net info q" qemu:rtl8139,
offers "a second one where it is an operand" "dmaland net bench qemu:rtl8139,hub=0 q" qemu:rtl8139,
offers "a third nowhere" "dmaland net bench qemu:rtl8139,hub=0 qemu:rtl8139,hub=0 q" ""
offers "files to send" "dmaland net send -c 1 qemu:rtl8139,hub=0 di" disk.img
offers "one of them" "dmaland nvme ver" verify
offers "options of a command" "dmaland bind --d" --driver --dry-run
offers "options of a command of nvme" "dmaland nvme zero --" --namespace --start --count --all --yes --verbose
offers "short ones too" "dmaland nvme read -" -n -s -c -v --namespace --start --count --verbose
offers "backends" "dmaland nvme read q" qemu:nvme,drive=
offers "images after a =, from there on" "dmaland nvme read qemu:nvme,drive=di" disk.img
offers "files to read to" "dmaland nvme read qemu:nvme,drive=disk.img di" disk.img
offers "letters that are digits" "dmaland nvme io -o 2 -4 1 --cdw15 2 q" qemu:nvme,drive=
offers "nothing for a number" "dmaland nvme read -s " ""
offers "nor in one word with its option" "dmaland nvme read --start=" ""
offers "nor after a flag in one word with it" "dmaland nvme read -vs " ""
offers "a spec after a flag" "dmaland nvme read -v q" qemu:nvme,drive=
offers "a spec after an option's value" "dmaland nvme read -v -n 1 --count 2 q" qemu:nvme,drive=
offers "a spec after values in one word" "dmaland nvme read -n1 --count=2 q" qemu:nvme,drive=
offers "a file after a spec and a flag" "dmaland nvme read qemu:nvme,drive=disk.img -v di" disk.img
offers "a file after options and a spec" "dmaland nvme read -n 1 qemu:nvme,drive=disk.img di" disk.img
offers "a file after --" "dmaland nvme read -- qemu:nvme,drive=disk.img di" disk.img
offers "no file where there is one" "dmaland nvme read qemu:nvme,drive=disk.img disk.img di" ""
offers "no second spec" "dmaland nvme identify qemu:nvme,drive=disk.img q" ""
offers "images with a blank in their name, quoted" "dmaland nvme read qemu:nvme,drive=my" 'my\ disk.img'
offers "so that they can go on" 'dmaland nvme read qemu:nvme,drive=my\ d' 'my\ disk.img'
offers "files with a blank" 'dmaland nvme read qemu:nvme,drive=my\ disk.img my\ ' 'my\ disk.img'
offers "within quotes as they are" 'dmaland nvme read "qemu:nvme,drive=my d' 'qemu:nvme,drive=my disk.img'
offers "also within quotes that begin later" "dmaland nvme read qemu:nvme,drive='my " 'my disk.img'
offers "names with a comma, which is written twice" "dmaland nvme read qemu:nvme,drive=a" 'a,,b.img'
offers "no files for another key" "dmaland nvme read qemu:nvme,drive=disk.img,mdts=" ""
offers "directories, to go on in" "dmaland nvme read qemu:nvme,drive=ima" images/
offers "the options of a command after its operand" "dmaland bind x --d" --driver --dry-run
offers "nothing for a command that is not there" "dmaland frob -" ""
offers "what fits" "dmaland nvme write --namespace=1 qemu:nvme,drive=none" ""

if [[ $(dmaland net ping --help) == *without* ]]; then
	skip "a card that answers" "no lwIP, and so no net ping, which cannot be had here"
else
	offers "a card that answers" "dmaland net ping --echo q" qemu:rtl8139,
fi

address=$(find /sys/bus/pci/devices -mindepth 1 -printf '%f\n' 2>/dev/null | sort | head -n 1)
if [ -n "$address" ]; then
	offers "addresses, from the last colon on" "dmaland bind $address" "${address##*:}"
	offers "addresses of VFIO" "dmaland nvme identify vfio:$address" "${address##*:}"
else
	skip "addresses" "no PCI bus, which cannot be had here"
	skip "addresses of VFIO" "no PCI bus, which cannot be had here"
fi
tap_end
