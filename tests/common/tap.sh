# shellcheck shell=bash
# tap.sh - tests that are shell commands, as TAP: . tap.sh SCRATCH, a directory that the script removes
#
#   check NAME COMMAND...
#   skip NAME WHY
#   tap_end                 prints the plan, where there was a test, and exits

tap_log=$1/tap.log tap_count=0 tap_failed=0

# check NAME COMMAND...: one test; the last lines that the command printed are shown when it fails.
check() {
	local name=$1
	tap_count=$((tap_count + 1))
	shift
	if "$@" >"$tap_log" 2>&1; then
		echo "ok $tap_count - $name"
	else
		echo "not ok $tap_count - $name"
		tail -n 40 "$tap_log" | sed 's/^/# /'
		tap_failed=1
	fi
}

skip() {
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - $1 # SKIP $2"
}

tap_end() {
	[ $tap_count = 0 ] || echo "1..$tap_count"
	exit $tap_failed
}
