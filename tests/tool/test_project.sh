#!/bin/bash
# test_project.sh BUILD: headers, symbols, installation; prints TAP.

set -uo pipefail
build=$(cd "$1" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck source=tests/common/tap.sh
. "$root/tests/common/tap.sh" "$work"

# header LANGUAGE FLAGS...: each public header on its own
header() {
	local file
	for file in "$root"/include/dmaland/*.h; do
		echo "#include <dmaland/${file##*/}>" |
			cc -x "$1" "${@:2}" -Wall -Wextra -Werror -I"$root/include" -fsyntax-only - || return
	done
}

# What the headers declare is what the library exports.
symbols_match() {
	local library=$1 headers=$2
	nm -D --defined-only "$build/$library" | awk '$2 == "T" {sub("@.*", "", $3); print $3}' | sort >"$work/exported"
	# shellcheck disable=SC2086 # several headers
	(cd "$root/include/dmaland" && cat $headers) | gcc -fpreprocessed -dD -E -P - 2>/dev/null |
		grep -oE '\b(dma_|dmaland_|pci_|sg_)[a-z0-9_]+ ?\(' | tr -d ' (' | sort -u >"$work/declared"
	comm -23 "$work/exported" "$work/declared" | sed 's/^/exported, not declared: /' | tee "$work/difference"
	[ -s "$work/exported" ] && [ ! -s "$work/difference" ]
}

# Each page of functions says what may not be called from a signal handler.
contexts_tell() {
	local page
	for page in "$root"/docs/man/*.3.scd; do
		awk '/^# /{on = $2 == "CONTEXT"} on' "$page" | grep -qF 'signal handler' || echo "no word of signal handlers: $page"
	done >"$work/difference"
	cat "$work/difference"
	[ ! -s "$work/difference" ]
}

# Each function that the libraries export stands in a manual page.
pages_tell() {
	(cd "$build" && nm -D --defined-only "$@") | awk '$2 == "T" {sub("@.*", "", $3); print $3}' | while read -r name; do
		grep -qw -- "$name" "$root"/docs/man/*.3.scd || echo "in no page: $name"
	done >"$work/difference"
	cat "$work/difference"
	[ ! -s "$work/difference" ]
}

installed_program_builds() {
	local prefix=$work/install
	DESTDIR=$prefix meson install -C "$build" --no-rebuild --quiet || return
	local libdir
	libdir=$(dirname "$(find "$prefix" -name dmaland.pc)")
	cat >"$work/first.c" <<'END'
#include <dmaland/dmaland.h>
#include <dmaland/nvme.h>
#include <stdio.h>
int main(void)
{
	struct dmaland_device *dev = dmaland_open("nowhere:", NULL);
	if (!dev)
		puts(dmaland_last_error());
	puts(dmaland_nvme_status_text(0));
	return dev != NULL;
}
END
	export PKG_CONFIG_SYSROOT_DIR=$prefix PKG_CONFIG_PATH=$libdir
	# shellcheck disable=SC2046 # words
	cc -Wall -Werror "$work/first.c" -o "$work/first" $(pkg-config --cflags --libs dmaland dmaland-nvme) &&
		LD_LIBRARY_PATH=$libdir/.. "$work/first" | grep 'no backend' &&
		find "$prefix" -name dmaland.1 | grep -q . && find "$prefix" -name libdmaland.a | grep -q .
}

nothing_aborts() {
	! grep -rnE --include='*.c' '(^|[^_[:alnum:]])(abort|exit|assert|raise)[[:space:]]*\(' "$root/src" "$root/drivers"
}

# rows FILE VALUE...: a program that prints one row, with the next of these values at each call
rows() {
	printf '%s\n' "${@:2}" >"$1.values"
	cat >"$1" <<'END'
#!/bin/sh
value=$(head -n 1 "$0.values")
sed -i 1d "$0.values"
echo "{\"bench\": \"x\", \"rows\": [{\"name\": \"row\", \"value\": $value, \"unit\": \"ns\"}]}"
END
	chmod +x "$1"
}

# Medians 20 and 10 of three rounds; the farthest round is 15, half of ten away.
two_builds_are_compared() {
	rows "$work/theirs" 20 18 30 && rows "$work/ours" 10 15 9 &&
		DMALAND_BENCH_ROUNDS=3 "$root/bench/against.sh" HEAD "$work/theirs" "$work/ours" | tee "$work/table" &&
		grep -E "^row +20 +10 +0\.500 +50\.0%  ns$" "$work/table"
}

check "every public header compiles alone as C11" header c -std=c11
check "every public header compiles alone as GNU C" header c -std=gnu11 -Wshadow -Wstrict-prototypes
check "every public header compiles alone as C++" header c++ -std=c++17
check "libdmaland exports what its headers declare" symbols_match src/libdmaland.so \
	"coherent.h device.h io.h irq.h pool.h scatterlist.h soft.h streaming.h types.h"
check "libdmaland-nvme exports what its header declares" symbols_match drivers/nvme/libdmaland-nvme.so nvme.h
check "each manual page says what may not be called from a signal handler" contexts_tell
check "the manual pages tell of all that is exported" pages_tell src/libdmaland.so drivers/nvme/libdmaland-nvme.so
check "a program builds against the installed library" installed_program_builds
check "nothing in the libraries aborts or exits" nothing_aborts
check "two builds of a benchmark are compared row by row" two_builds_are_compared
tap_end
