# bash completion for dmaland(1)                                  -*- shell-script -*-
#
# Commands, options, which of these take a value, and operands are those that --help prints, so that this file knows none of
# them by itself.

# The words that begin a line of `dmaland [nvme|net] --help`.
_dmaland_commands() {
	"$1" ${2:+"$2"} --help 2>/dev/null | sed -n 's/^  \([a-z][a-z ]*[a-z]\)  .*/\1/p'
}

# Names of options in a help text; with "=" behind them in the help, those that take a value: -n too, in "-n, --namespace=NSID"
_dmaland_options() { grep -oE -- '(^ +|, )(-[a-z0-9]|--[a-z0-9-]+)' <<<"$1" | tr -d ' ,'; }

_dmaland_valued() { grep -oE -- '^ +(-[a-z0-9], )?--[a-z0-9-]+=' <<<"$1" | tr -d ' =' | tr ',' '\n'; }

# PCI addresses, with a prefix
_dmaland_addresses() {
	local path
	for path in /sys/bus/pci/devices/*; do
		[ ! -e "$path" ] || echo "$1${path##*/}"
	done
}

# Files, and directories with a / behind them
_dmaland_files() {
	local path
	compgen -f -- "$1" | while IFS= read -r path; do
		[ ! -d "$path" ] || path=${path%/}/
		printf '%s\n' "$path"
	done
}

# _dmaland_specs HELP BEGINNING: what a spec may begin with, and images of drives, in whose names a comma is written twice.
_dmaland_specs() {
	local model=qemu:nvme,drive=
	[[ $1 != "Usage: dmaland net "* ]] || model=qemu:rtl8139,
	shift
	local value=${1#*drive=}
	case $1 in
	qemu:*drive=*)
		[[ ${value//,,/} == *,* ]] || _dmaland_files "${value//,,/,}" | sed "s/,/,,/g; s|^|${1%"$value"}|"
		;;
	vfio:*) compgen -W "$(_dmaland_addresses vfio:)" -- "$1" ;;
	*) compgen -W "$(_dmaland_addresses '') vfio: $model" -- "$1" ;;
	esac
}

# _dmaland_value HELP OPTION BEGINNING
_dmaland_value() {
	local help=$1
	shift
	case $1 in
	-e | --echo) _dmaland_specs "$help" "$2" ;;
	--driver) compgen -W "$(cd /sys/bus/pci/drivers 2>/dev/null && echo *)" -- "$2" ;;
	-i | --input-file) compgen -f -- "$2" ;;
	esac
}

# _dmaland_operand HELP NUMBER BEGINNING: as the line "Usage:" has it; the last one may be repeated
_dmaland_operand() {
	local kinds
	read -ra kinds < <(sed -n '1s/.*\[OPTION\.\.\.\] *//p' <<<"$1" | tr -d '[]')
	case ${kinds[$2]:-${kinds[*]: -1}} in
	SPEC) [ "$2" -ge ${#kinds[@]} ] || _dmaland_specs "$1" "$3" ;;
	FILE) [ "$2" -ge ${#kinds[@]} ] || _dmaland_files "$3" ;;
	ADDRESS...) compgen -W "$(_dmaland_addresses '') vfio:" -- "$3" ;;
	esac
}

# _dmaland_after HELP WORD...: what the last of the words behind a command may become
_dmaland_after() {
	local help=$1 word wants='' count=0 ended='' valued
	shift
	valued=" $(_dmaland_valued "$help" | tr '\n' ' ')"
	while [ $# -gt 1 ]; do
		word=$1
		shift
		if [ -n "$wants" ]; then
			wants=''
		elif [ -n "$ended" ] || [[ $word != -?* ]]; then
			count=$((count + 1))
		elif [ "$word" = -- ]; then
			ended=1
		elif [[ $word == --* ]]; then
			[[ $valued != *" $word "* ]] || wants=$word
		else
			# of a cluster such as -vn the first that takes a value has the rest for it, if there is one
			word=${word#-}
			while [ -n "$word" ] && [[ $valued != *" -${word:0:1} "* ]]; do word=${word:1}; done
			[ ${#word} != 1 ] || wants=-$word
		fi
	done
	if [ -n "$wants" ]; then
		_dmaland_value "$help" "$wants" "$1"
	elif [ -z "$ended" ] && [[ $1 == --*=* ]]; then
		_dmaland_value "$help" "${1%%=*}" "${1#*=}" | sed "s/^/${1%%=*}=/"
	elif [ -z "$ended" ] && [[ $1 == -* ]]; then
		compgen -W "$(_dmaland_options "$help")" -- "$1"
	else
		_dmaland_operand "$help" "$count" "$1"
	fi
}

# _dmaland_words PROGRAM WORD...: what the last word may become
_dmaland_words() {
	local -a command=("$1" "$2")
	if [ $# = 2 ]; then
		compgen -W "$(_dmaland_commands "$1" | cut -d ' ' -f 1 | sort -u) --help --version" -- "$2"
		return
	fi
	shift 2
	if [[ ${command[1]} == @(nvme|net) ]]; then
		if [ $# = 1 ]; then
			compgen -W "$(_dmaland_commands "${command[@]}" | sed "s/^${command[1]} //") --help" -- "$1"
			return
		fi
		command+=("$1")
		shift
	fi
	_dmaland_after "$("${command[@]}" --help 2>/dev/null)" "$@"
}

# The words of a line, as the shell has them: blanks may be quoted. @quote: one that is open at the end, and how much of the
# last word lies before it.
_dmaland_split() {
	local line=$1 at char word='' begun=''
	words=() quote='' before=0
	for ((at = 0; at < ${#line}; at++)); do
		char=${line:at:1}
		if [ "$char" = "\\" ] && [ "$quote" != "'" ]; then
			at=$((at + 1))
			word+=${line:at:1} begun=1
		elif [ -n "$quote" ] && [ "$char" = "$quote" ]; then
			quote=''
		elif [ -z "$quote" ] && [[ $char == [\"\'] ]]; then
			quote=$char before=${#word} begun=1
		elif [ -z "$quote" ] && [[ $char == [[:space:]] ]]; then
			[ -z "$begun" ] || words+=("$word")
			word='' begun=''
		else
			word+=$char begun=1
		fi
	done
	words+=("$word")
}

# Readline has words of its own: they end at : and = too, where addresses and specs have them, but not inside of quotes. What
# is offered begins where its last one does, and is quoted if that is not.
_dmaland() {
	local words quote before cur cut at special='[][ 	"'\''\\$`&;|<>()*?#!{}]'
	_dmaland_split "${COMP_LINE:0:COMP_POINT}"
	cur=${words[${#words[@]} - 1]}
	mapfile -t COMPREPLY < <(_dmaland_words "${words[@]}")
	if [ -z "$quote" ]; then
		before=0
		[[ $COMP_WORDBREAKS != *:* ]] || cut=${cur##*[:=]} before=$((${#cur} - ${#cut}))
	fi
	[[ ${COMPREPLY[0]:-} != *[=:/] ]] || compopt -o nospace 2>/dev/null
	for at in "${!COMPREPLY[@]}"; do
		COMPREPLY[at]=${COMPREPLY[at]:before}
		[ -n "$quote" ] || COMPREPLY[at]=$(printf '%s\n' "${COMPREPLY[at]}" | sed "s/$special/\\\\&/g")
	done
}

complete -F _dmaland dmaland
