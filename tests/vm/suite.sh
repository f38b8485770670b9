#!/bin/bash
# suite.sh SPEC PROGRAM...: runs each PROGRAM on SPEC, inside the VM, all of them even if one fails.
set -uo pipefail

spec=$1
failed=0
shift
for program; do
	echo "# $program $spec"
	timeout -k 10 300 "$program" "$spec"
	status=$?
	[ $status = 0 ] || { echo "# $program: exit status $status" && failed=1; }
done
exit $failed
