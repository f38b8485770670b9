# bash completion for dmaland(1)                                  -*- shell-script -*-
#
# Commands and options are those that --help prints, so that this file knows none of them by itself.

# The words that begin a line of `dmaland [nvme] --help`.
_dmaland_commands() {
	"$1" ${2:+"$2"} --help 2>/dev/null | sed -n 's/^  \([a-z][a-z ]*[a-z]\)  .*/\1/p'
}

_dmaland_options() {
	"$@" --help 2>/dev/null | grep -oE -- '(^ +|, )(-[a-z]|--[a-z0-9-]+)' | tr -d ' ,'
}

# PCI addresses, with a prefix
_dmaland_addresses() {
	local path
	for path in /sys/bus/pci/devices/*; do
		[ ! -e "$path" ] || echo "$1${path##*/}"
	done
}

# What a spec may begin with, and images of drives.
_dmaland_specs() {
	case $1 in
	qemu:*drive=*) compgen -P "${1%"${1##*=}"}" -f -- "${1##*=}" ;;
	vfio:*) compgen -W "$(_dmaland_addresses vfio:)" -- "$1" ;;
	*) compgen -W "$(_dmaland_addresses '') vfio: qemu:nvme,drive=" -- "$1" ;;
	esac
}

_dmaland_words() {
	local cur=$1 prev=$2 place=$3
	shift 3
	if [ "$place" = 1 ]; then
		compgen -W "$(_dmaland_commands "$1" | cut -d ' ' -f 1 | sort -u) --help --version" -- "$cur"
	elif [ "$place" = 2 ] && [ "$2" = nvme ]; then
		compgen -W "$(_dmaland_commands "$1" nvme | sed 's/^nvme //') --help" -- "$cur"
	elif [[ $cur == -* ]]; then
		compgen -W "$(_dmaland_options "$@")" -- "$cur"
	elif [ "$prev" = --driver ]; then
		compgen -W "$(cd /sys/bus/pci/drivers 2>/dev/null && echo *)" -- "$cur"
	elif [[ $prev =~ ^(-i|--input-file)$ ]]; then
		compgen -f -- "$cur"
	elif [[ $prev =~ ^(-[nscolt]|--(opcode|cdw[0-9]+|data-len|timeout|namespace|start|count|seed|reads|size|format|block-size|depth|time|requests))$ ]]; then
		: # a number
	elif [[ $2 =~ ^(info|bind|unbind)$ ]]; then
		compgen -W "$(_dmaland_addresses '')" -- "$cur"
	elif [ "$2" != nvme ] || [ "$place" = 3 ] || [[ $prev == -* ]]; then
		_dmaland_specs "$cur"
	elif [[ ${3:-} =~ ^(read|write)$ ]]; then
		compgen -f -- "$cur"
	fi
}

# The line is split at blanks: addresses and specs have colons and = in them, where readline splits, and where what
# is offered must begin.
_dmaland() {
	local words command cur prefix=''
	read -ra words <<<"${COMP_LINE:0:COMP_POINT}"
	[[ ${COMP_LINE:0:COMP_POINT} != *[[:space:]] ]] || words+=('')
	cur=${words[${#words[@]} - 1]}
	command=("${words[0]}" "${words[1]}")
	[ "${words[1]}" != nvme ] || command+=("${words[2]:-}")
	mapfile -t COMPREPLY < <(_dmaland_words "$cur" "${words[${#words[@]} - 2]}" $((${#words[@]} - 1)) "${command[@]}")
	[[ ${COMPREPLY[0]:-} != *[=:] ]] || compopt -o nospace 2>/dev/null
	[[ $COMP_WORDBREAKS != *:* ]] || prefix=${cur%"${cur##*[:=]}"}
	COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
}

complete -F _dmaland dmaland
