#!/bin/bash
# module.sh: a module that is built against the kernel's headers is loaded by that kernel, and its source is of the same version;
# prints TAP.

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

module_load() { "$here/vm.sh" bash -c "insmod '$work/hello.ko' && dmesg | grep 'hello from a module of ours'"; }

# What the kernel says of itself, against the head of the source's Makefile.
source_agrees() {
	local running
	running=$("$here/vm.sh" uname -r) && echo "the kernel is $running" || return
	tar -xOf "$kernel/source.tar.xz" --occurrence=1 --wildcards 'linux-source-*/Makefile' | head -n 10 >"$work/head"
	cat "$work/head"
	[[ $running = "$(sed -n 's/^VERSION = //p' "$work/head").$(sed -n 's/^PATCHLEVEL = //p' "$work/head").$(sed -n 's/^SUBLEVEL = //p' "$work/head")"[+-]* ]]
}

if kernel=$("$here/kernel.sh" --source); then
	check "a module is built against the headers" module_build
	check "the kernel loads it" module_load
	check "the source is the kernel's" source_agrees
else
	skip "a module" "headers and source of the VM's kernel cannot be had here"
fi
tap_end
