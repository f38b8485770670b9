#!/bin/bash
# Runs inside the VM, as root: console.sh BUILD FILE
#
# The commands of a Markdown file's console blocks, in order, in one directory where the file's program is first.c. They are an
# ordinary user's, and root's after sudo. What one prints has to be the lines that follow it, up to the next command, or up to "...".

set -uo pipefail
build=$(readlink -f "$1") file=$(readlink -f "$2")
work=$TMPDIR/console
mkdir "$work" && chown 65534 "$work" && cd "$work" || exit 1
awk '/^```c$/{code = 1; next} /^```/{if (code) exit} code' "$file" >first.c
export PATH=$build/tools:$PATH USER=65534 HOME=$work LD_LIBRARY_PATH=$build/src PKG_CONFIG_PATH=$build/meson-uninstalled

# run COMMAND
run() {
	case $1 in
	"sudo "*) bash -c "${1#sudo }" ;;
	*) setpriv --reuid=65534 --regid=65534 --clear-groups bash -c "$1" ;;
	esac
}

# compare: what $command prints with $wanted
compare() {
	local printed
	[ -n "$command" ] || return 0
	count=$((count + 1))
	printed=$(run "$command" 2>&1)
	[[ $wanted != *$'\n...' ]] || printed=$(head -n $(($(wc -l <<<"$wanted") - 2)) <<<"$printed" && echo ...)
	[ "${wanted#$'\n'}" = "$printed" ] || { printf '$ %s\n%s\n' "$command" "$printed" && failed=1; }
}

command='' wanted='' failed=0 count=0
while IFS= read -r line; do
	case $line in
	'$ '*)
		compare
		command=${line#'$ '} wanted=''
		;;
	*) wanted+=$'\n'$line ;;
	esac
done < <(awk '/^```console$/{code = 1; next} /^```/{code = 0} code' "$file")
compare
[ $count != 0 ] && exit $failed
