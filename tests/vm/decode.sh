#!/bin/bash
# decode.sh BUILD [ROUNDS] [single|multi]: how often the VM stops while a device's decoding is switched: boots it so often (10),
# 20 s each, with one thread for its CPUs (single) or one for each (multi), and counts.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$1 rounds=${2:-10} stopped=0 died=0
export DMALAND_VM_THREAD=${3:-single}
for ((round = 1; round <= rounds; round++)); do
	"$here/vm.sh" --timeout 150 "$here/guest.sh" decode "$build" >/dev/null 2>&1
	case $? in
	0) ;;
	75 | 124) stopped=$((stopped + 1)) ;;
	*) died=$((died + 1)) ;;
	esac
done
echo "tcg,thread=$DMALAND_VM_THREAD: $stopped of $rounds boots stopped, $died ended otherwise"
