#!/bin/bash
# fuzz.sh BUILD [RUNS]: lets libFuzzer make so many sequences of pool calls, always the same ones; prints TAP.
# To go on for longer, or from an input that failed: BUILD/tests/fuzz/fuzz_pool, with libFuzzer's own options.

set -uo pipefail
program=$1/tests/fuzz/fuzz_pool
runs=${2:-20000}

echo 1..1
if [ ! -x "$program" ]; then
	echo "ok 1 # SKIP the pool's fuzzer needs clang with libFuzzer, and $1 was built without"
	exit
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if "$program" -seed=1 -runs="$runs" -max_len=1024 -len_control=20 -artifact_prefix="$scratch/" >"$scratch/log" 2>&1; then
	echo "ok 1 - $runs sequences of pool calls keep the model's promises"
	exit
fi
echo "not ok 1 - $runs sequences of pool calls keep the model's promises"
tail -n 40 "$scratch/log" | sed 's/^/# /'
for input in "$scratch"/crash-* "$scratch"/timeout-*; do
	[ ! -f "$input" ] || echo "# the input, in base64: $(base64 -w 0 "$input")"
done
exit 1
