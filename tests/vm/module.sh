#!/bin/bash
# module.sh: a module that is built against the kernel's headers is loaded by that kernel, and its source is of the same version;
# prints TAP. Exit status: as vm.sh where the VM died or stopped.

set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=tests/common/tap.sh
. "$here/../common/tap.sh" "$work"

module_build() {
	cat >"$work/hello.c" <<'END'
#include <linux/module.h>
static int __init hello(void)
{
	pr_info("hello from a module of ours\n");
	return 0;
}
module_init(hello);
MODULE_LICENSE("Dual MIT/GPL");
END
	echo 'obj-m := hello.o' >"$work/Makefile"
	make -C "$kernel/headers" M="$work" CONFIG_DEBUG_INFO_BTF_MODULES= modules
}

module_loaded() { cat "$work/said" && grep 'hello from a module of ours' "$work/said"; }

# The kernel tells its package's version: "#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-01-01)".
source_agrees() {
	local part version=''
	tar -xOf "$kernel/source.tar.xz" --occurrence=1 "$(basename "$(readlink -f "$kernel/source.tar.xz")" .tar.xz)/Makefile" \
		>"$work/Makefile.top"
	for part in VERSION PATCHLEVEL SUBLEVEL; do
		version+=${version:+.}$(sed -n "s/^$part = //p" "$work/Makefile.top")
	done
	echo "the source is $version" && head -n 1 "$work/said"
	grep -F " Debian $version-" "$work/said"
}

check "there are headers and a source" "$here/kernel.sh" --source
kernel=$("$here/kernel.sh" --source)
tap_limit=300 check "a module is built against the headers" module_build
status=0
"$here/vm.sh" bash -c "uname -v; insmod '$work/hello.ko' && dmesg | grep 'hello from a module of ours'" >"$work/said" 2>&1 || status=$?
[[ ! $status =~ ^7[05]$ ]] || { cat "$work/said" && exit $status; }
check "the kernel loads it" module_loaded
check "the source is the kernel's" source_agrees
tap_end
