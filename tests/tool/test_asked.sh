#!/bin/bash
# Who is asked before all of a namespace is lost: a person at a terminal, which `script` is here. Prints TAP.
#
#   test_asked.sh BUILD-DIRECTORY

# shellcheck disable=SC2015,SC2016,SC2317 # tests are strings for eval, which expands and calls what is in them
set -uo pipefail

# shellcheck source=tests/tool/begin.sh
. "$(dirname "${BASH_SOURCE[0]}")/begin.sh"

if ! command -v qemu-system-x86_64 >/dev/null; then
	skip "everything" "no qemu-system-x86_64"
	tap_end
fi

image=drive.img spec=qemu:nvme,drive=$here/drive.img
head -c 5M /dev/urandom >data

# answered ANSWER COMMAND...: on a terminal, where this is typed; what is seen goes to "typescript"
answered() {
	local answer=$1 status=0
	shift
	rm -f typescript
	printf '%s\n' "$answer" | script -qefc "$*" typescript >/dev/null || status=$?
	cat typescript
	return "$status"
}

# kept COMMAND...: a person who says no, or nothing, keeps what "$spec" holds; what the command does not say on the terminal goes to "said"
kept() {
	local answer
	cp "$image" before && : >said
	for answer in no "" nay; do
		answered "$answer" "$*" && return 1
		grep -q "serial dmaland: .*namespace.* will be lost. Go on" typescript && grep -q "nothing was done" typescript said &&
			cmp before "$image" || return
	done
}
head -c 16M /dev/urandom >"$image"
check "zero --all asks" kept "$tool" nvme zero "$spec" --all
check "discard --all asks" kept "$tool" nvme discard "$spec" --all
check "format asks" kept "$tool" nvme format "$spec" --format 0
check "so does format of all namespaces" eval '
	kept "$tool" nvme format "$spec" -n all --format 0 && grep "all that its namespaces hold will be lost" typescript'
check "write without a range asks" kept "$tool" nvme write "$spec" data
check "bench --write without a range asks" kept "$tool" nvme bench "$spec" --write --requests 10
for redirected in "2>said" ">said 2>&1" "<data >said" "<data 2>said"; do
	check "also with $redirected" kept "$tool" nvme zero "$spec" --all "$redirected"
done
check "a yes is enough" eval 'answered yes "$tool" nvme zero "$spec" --all && cmp -n 16777216 "$image" /dev/zero'
check "what comes by a pipe is asked about, too, at the terminal" eval '
	answered y "head -c 1M data | $tool nvme write $spec" && cmp -n 1048576 "$image" data &&
		grep "or as much as comes, will be lost" typescript'
check "--yes asks nothing" eval '
	answered no "$tool" nvme zero "$spec" --all --yes && ! grep "will be lost" typescript && cmp -n 16777216 "$image" /dev/zero'
check "a range is a yes" eval '
	answered no "$tool" nvme write "$spec" -s 0 data && ! grep "will be lost" typescript && cmp -n 1048576 "$image" data'
check "where no person watches, nobody is asked" "$tool" nvme zero "$spec" --all

tap_end
