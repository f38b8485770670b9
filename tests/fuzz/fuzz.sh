#!/bin/bash
# fuzz.sh BUILD [RUNS]: lets libFuzzer make so many sequences of calls, always the same ones; prints TAP. To go on for
# longer, or from an input that failed: BUILD/tests/fuzz/fuzz_NAME, with libFuzzer's own options.

set -uo pipefail
runs=${2:-20000}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0 count=0

echo 1..2
for name in pool streaming; do
	program=$1/tests/fuzz/fuzz_$name
	count=$((count + 1))
	if [ ! -x "$program" ]; then
		echo "ok $count # SKIP fuzz_$name needs clang with libFuzzer, and $1 was built without"
	elif "$program" -seed=1 -runs="$runs" -max_len=1024 -len_control=20 -artifact_prefix="$scratch/" >"$scratch/log" 2>&1; then
		echo "ok $count - fuzz_$name: $runs sequences of calls keep the model's promises"
	else
		failed=1
		echo "not ok $count - fuzz_$name: $runs sequences of calls keep the model's promises"
		tail -n 40 "$scratch/log" | sed 's/^/# /'
		for input in "$scratch"/crash-* "$scratch"/timeout-*; do
			[ ! -f "$input" ] || echo "# the input, in base64: $(base64 -w 0 "$input")"
		done
	fi
done
exit "$failed"
