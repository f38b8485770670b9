#!/bin/bash
# test_runner.sh: what tests/runner.sh makes of tests that pass, fail, hang, end early and are killed, and of VMs that die; prints
# TAP.

# shellcheck disable=SC2016 # scripts for another shell
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=tests/common/tap.sh
. "$root/tests/common/tap.sh" "$work"

# A program for each end that a test can have.
cat >"$work/test" <<'END'
#!/bin/bash
echo 1..2
echo "ok 1 - one"
case $1 in
passes) echo "ok 2 - two" ;;
fails) echo "not ok 2 - two" && echo "# the reason" && seq -f "ok %g - later" 3 60 && echo 1..58 && exit 1 ;;
skips) echo "ok 2 # SKIP two" ;;
lies) echo "ok 2 - two" && exit 1 ;;
stops) exit 0 ;;
hangs) exec sleep 1000 ;;
dies) [ -e "$2" ] || { : >"$2" && echo "words before dmaland: vm: the VM died" && exit 70; } && echo "ok 2 - two" ;;
dies-after) [ -e "$2" ] || { : >"$2" && echo "not ok 2 - two" && exit 70; } && echo "ok 2 - two" ;;
killed) kill -KILL $PPID ;;
esac
END
chmod +x "$work/test"

# runs LAST-LINE SCRIPT: what the runner says at the end of a run of the script, in which $t is the program
runs() {
	local status=0
	rm -rf "$work/run" && mkdir -p "$work"/run/{results,repeats,logs}
	env -u CI bash -euo pipefail -c '
		root=$1 scratch=$2/run cpus=2 t=$2/test
		cd "$root"
		seconds_since() { echo 0.0; }
		. tests/runner.sh
		results=$scratch/results repeats=$scratch/repeats logs=$scratch/logs
		eval "$3"
		wait || true
		tests_total' - "$root" "$work" "$2" >"$work/said" 2>&1 || status=$?
	cat "$work/said"
	[ "$(tail -n 1 "$work/said")" = "$1" ] || return
	case $1 in
	*", 0 failed"*) [ "$status" = 0 ] ;;
	*) [ "$status" = 1 ] ;;
	esac
}

# However much the program said after it.
a_failure_is_shown() {
	runs "61 passed, 1 failed" 'start a "$t" fails; start b "$t" passes' && grep -A 1 -x "    not ok 2 - two" "$work/said" |
		grep -x "    # the reason" && ! grep later "$work/said"
}

# What hangs is ended, and its log has where it stood; the test beside it is none the worse.
a_hang_is_ended() {
	runs "3 passed, 1 failed" 'limit=2 start a "$t" hangs; start b "$t" passes' &&
		grep "ended at its limit" "$work/said" && grep "process [0-9]*: sleep 1000" "$work/run/logs/a.log"
}

a_vm_is_started_once_more() {
	rm -f "$work"/once*
	runs "2 passed, 0 failed" 'boots=yes start a "$t" dies "$scratch/../once"' &&
		grep -x "VMs that were started once more: 1" "$work/said" && grep "a:dmaland: vm: the VM died" "$work/said"
}

two_such_are_a_failure() {
	rm -f "$work"/once*
	runs "4 passed, 1 failed" 'for i in 1 2; do boots=yes start "a$i" "$t" dies "$scratch/../once$i"; done'
}

a_failure_before_the_end_of_a_vm_stays() {
	rm -f "$work"/once*
	runs "1 passed, 1 failed" 'boots=yes start a "$t" dies-after "$scratch/../once"'
}

check "tests that pass are counted" runs "4 passed, 0 failed" 'start a "$t" passes; start b "$t" passes'
check "a test that fails is counted, and shown with its reason" a_failure_is_shown
check "a test that is skipped is counted" runs "3 passed, 0 failed, 1 skipped" 'start a "$t" skips; start b "$t" passes'
check "a status that disagrees with the tests is a failure" runs "4 passed, 1 failed" 'start a "$t" lies; start b "$t" passes'
check "fewer tests than planned are a failure" runs "3 passed, 1 failed" 'start a "$t" stops; start b "$t" passes'
check "a test whose runner is killed is a failure" runs "2 passed, 1 failed" \
	'start a "$t" hangs; kill -KILL $(family $!); start b "$t" passes'
check "a test that hangs is ended, with where it stood" a_hang_is_ended
check "a VM that died is started once more, and told" a_vm_is_started_once_more
check "two of them are a failure" two_such_are_a_failure
check "a failure before a VM's end is not forgotten" a_failure_before_the_end_of_a_vm_stays
tap_end
