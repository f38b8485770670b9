#!/bin/bash
# fuzz.sh TARGET...: each libFuzzer target for a stated number of runs with a stated seed; answers in TAP.

set -uo pipefail

runs=${FUZZ_RUNS:-20000}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
n=0

echo "1..$#"
for target in "$@"; do
	n=$((n + 1))
	if "$target" -runs="$runs" -seed=1 -max_len=512 -len_control=0 -artifact_prefix="$target-" >"$log" 2>&1; then
		echo "ok $n - $(basename "$target"): $runs runs find nothing"
	else
		sed 's/^/# /' "$log" | tail -n 60
		echo "not ok $n - $(basename "$target")"
	fi
done
