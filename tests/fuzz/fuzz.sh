#!/bin/bash
# fuzz.sh BUILD [RUNS]: lets libFuzzer make so many sequences of calls, always the same ones; prints TAP. To go on for
# longer, or from an input that failed: BUILD/tests/fuzz/fuzz_NAME, with libFuzzer's own options.

set -uo pipefail
runs=${2:-20000}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# shellcheck source=tests/common/tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/../common/tap.sh" "$scratch"

fuzz() {
	"$@" -seed=1 -runs="$runs" -max_len=1024 -len_control=20 -artifact_prefix="$scratch/" && return
	for input in "$scratch"/crash-* "$scratch"/timeout-*; do
		[ ! -f "$input" ] || echo "the input, in base64: $(base64 -w 0 "$input")"
	done
	return 1
}

for name in pool streaming; do
	program=$1/tests/fuzz/fuzz_$name
	if [ -x "$program" ]; then
		tap_limit=300 check "fuzz_$name: $runs sequences of calls keep the model's promises" fuzz "$program"
	else
		skip "fuzz_$name" "needs clang with libFuzzer, and $1 was built without"
	fi
done
tap_end
