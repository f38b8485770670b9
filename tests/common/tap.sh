# shellcheck shell=bash
# tap.sh - tests that are shell commands, as TAP: . tap.sh SCRATCH, a directory that the script removes
#
#   check NAME COMMAND...
#   skip NAME WHY
#   tap_end                 prints the plan, where there was a test, and exits
#
# A test runs in a subshell: the variables, directory and open descriptors that it leaves are gone for the next test, and
# what it has started and left running is killed. After $tap_limit seconds (120, times DMALAND_PATIENCE) it has failed.

# shellcheck source=tests/common/limit.sh
. "$(dirname "${BASH_SOURCE[0]}")/limit.sh"

tap_log=$1/tap.log tap_count=0 tap_failed=0

# check NAME COMMAND...: one test; the last lines that the command printed are shown when it fails.
check() {
	local name=$1 status=0 lines=40
	tap_count=$((tap_count + 1))
	shift
	limited "${tap_limit:-120}" "$@" >"$tap_log" 2>&1 </dev/null || status=$?
	if [ $status = 0 ]; then
		echo "ok $tap_count - $name"
	else
		[ $status != 124 ] || lines=400 # with stacks
		echo "not ok $tap_count - $name"
		tail -n $lines "$tap_log" | sed 's/^/# /'
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
