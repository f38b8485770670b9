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

# archive_is_public ARCHIVE LIBRARY: what is global in a static library is what the shared one exports by its symbol map
archive_is_public() {
	diff <(nm -g --defined-only "$1" | awk 'NF == 3 {print $3}' | sort) \
		<(nm -D --defined-only "$build/$2" | awk '$2 == "T" {sub("@.*", "", $3); print $3}' | sort)
}

# install_into DIRECTORY: once
install_into() {
	[ -d "$1" ] || DESTDIR=$1 meson install -C "$build" --no-rebuild --quiet
}

archives_are_public() {
	install_into "$work/install" && archive_is_public "$(find "$work/install" -name libdmaland.a)" src/libdmaland.so &&
		archive_is_public "$(find "$work/install" -name libdmaland-nvme.a)" drivers/nvme/libdmaland-nvme.so &&
		archive_is_public "$(find "$work/install" -name libdmaland-rtl8139cp.a)" drivers/rtl8139cp/libdmaland-rtl8139cp.so
}

# Functions of a program's own, named as some of the libraries' are inside: each calls its own.
named_alike() {
	cat <<'END'
#include <dmaland/dmaland.h>
#include <dmaland/nvme.h>
#include <stdio.h>
static int calls;
void coherent_alloc(void) { calls++; }
void arena_take(void) { calls++; }
void pool_create(void) { calls++; }
void nvme_reset(void) { calls++; }
void error_set(void) { calls++; }
int main(void)
{
	struct dmaland_device *dev = dmaland_open("soft:", NULL);
	dma_addr_t dma;
	void *memory = dev ? dma_alloc_coherent(dev, 8192, &dma, GFP_KERNEL) : NULL;
	struct dma_pool *pool = dev ? dma_pool_create("own", dev, 64, 64, 0) : NULL;

	if (!memory || !pool || dmaland_nvme_open(dev, NULL) || calls)
		return 1;
	coherent_alloc(), arena_take(), pool_create(), nvme_reset(), error_set();
	puts(dmaland_last_error());
	dma_pool_destroy(pool);
	dma_free_coherent(dev, 8192, memory, dma);
	dmaland_close(dev);
	return calls != 5;
}
END
}

# links_beside DIRECTORY FLAGS...: such a program, with the static libraries of that directory
links_beside() {
	named_alike >"$work/alike.c" && cc "${@:2}" -Wall -Werror -I"$root/include" "$work/alike.c" \
		"$1/libdmaland-nvme.a" "$1/libdmaland.a" -pthread -o "$work/alike" && "$work/alike"
}

names_may_be_alike() {
	install_into "$work/install" && links_beside "$(dirname "$(find "$work/install" -name libdmaland.a)")" -O2 &&
		links_beside "$(dirname "$(find "$work/install" -name libdmaland.a)")" -O3 -flto
}

# optimized TARGET...: the libraries themselves built so
optimized() {
	{
		{ [ -e "$work/optimized/build.ninja" ] || meson setup "$work/optimized" "$root" -Dc_args="-O3 -flto"; } &&
			ninja -C "$work/optimized" "$@"
	} >"$work/optimized.log" || { tail "$work/optimized.log" && return 1; }
}

optimized_archives_are_public() {
	optimized src/archive/libdmaland.a src/archive/libdmaland-nvme.a src/archive/libdmaland-rtl8139cp.a || return
	archive_is_public "$work/optimized/src/archive/libdmaland.a" src/libdmaland.so &&
		archive_is_public "$work/optimized/src/archive/libdmaland-nvme.a" drivers/nvme/libdmaland-nvme.so &&
		archive_is_public "$work/optimized/src/archive/libdmaland-rtl8139cp.a" drivers/rtl8139cp/libdmaland-rtl8139cp.so &&
		links_beside "$work/optimized/src/archive" -O2 && links_beside "$work/optimized/src/archive" -O3 -flto
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

# What docs/design/threats.md promises, it promises with a test: each name there is a test's.
threats_have_tests() {
	local names
	names=$(grep '^|' "$root/docs/design/threats.md" | grep -oE "\`[a-z0-9]+(_[a-z0-9]+){2,}\`" | tr -d "\`")
	! grep '^|' "$root/docs/design/threats.md" | grep -vE '^\|(---|\| test|.*\| test \|)' | grep -v "\`[^\`]*\` |$" || return
	for name in $names; do
		grep -rqw --include='*.c' --include='*.sh' -- "$name" "$root/tests" || echo "no test: $name"
	done >"$work/difference"
	cat "$work/difference"
	[ -n "$names" ] && [ ! -s "$work/difference" ]
}

# The library's objects are optimized together with the program's: nothing of it is inlined that asks who called.
call_sites_are_right() {
	optimized tests/unit/test_pool_debug || return
	CMOCKA_MESSAGE_OUTPUT=TAP "$work/optimized/tests/unit/test_pool_debug" >"$work/sites" 2>&1
	cat "$work/sites"
	grep "^ok .* a_call_site_is_inside_the_function_that_called" "$work/sites"
}

# 32-bit programs, also by the ABI with 64-bit registers. meson wants to link one first, and not every machine has their libraries.
narrow_programs_are_refused() {
	local option
	for option in -m32 -mx32; do
		cat >"$work/cc$option" <<-END
			#!/bin/sh
			for word; do case \$word in -c|-E) exec cc $option "\$@" ;; esac; done
			exec cc "\$@"
		END
		chmod +x "$work/cc$option"
		! CC=$work/cc$option meson setup "$work/narrow$option" "$root" -Dtests=false >"$work/narrow" || return
		tail "$work/narrow"
		grep "ERROR: .*dmaland is for 64-bit programs" "$work/narrow" || return
	done
}

installed_program_builds() {
	local prefix=$work/install
	install_into "$prefix" || return
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

# Medians 20 and 10 of three rounds; the farthest are 30 and 15, half of the median away each.
two_builds_are_compared() {
	rows "$work/theirs" 20 18 30 && rows "$work/ours" 10 15 9 &&
		DMALAND_BENCH_ROUNDS=3 "$root/bench/against.sh" HEAD "$work/theirs" "$work/ours" | tee "$work/table" &&
		grep -E "^row +20 +10 +0\.500 +100\.0%  ns$" "$work/table"
}

check "every public header compiles alone as C11" header c -std=c11
check "every public header compiles alone as GNU C" header c -std=gnu11 -Wshadow -Wstrict-prototypes
check "every public header compiles alone as C++" header c++ -std=c++17
check "libdmaland exports what its headers declare" symbols_match src/libdmaland.so \
	"coherent.h device.h io.h irq.h pool.h scatterlist.h soft.h streaming.h types.h"
check "libdmaland-nvme exports what its header declares" symbols_match drivers/nvme/libdmaland-nvme.so nvme.h
check "libdmaland-rtl8139cp exports what its header declares" symbols_match drivers/rtl8139cp/libdmaland-rtl8139cp.so rtl8139cp.h
check "each manual page says what may not be called from a signal handler" contexts_tell
check "the manual pages tell of all that is exported" pages_tell src/libdmaland.so drivers/nvme/libdmaland-nvme.so \
	drivers/rtl8139cp/libdmaland-rtl8139cp.so
check "each line of docs/design/threats.md names a test that there is" threats_have_tests
check "a program builds against the installed library" installed_program_builds
check "the installed static libraries define what their symbol maps name, and nothing else" archives_are_public
check "a program may name its functions as it likes beside the static libraries" names_may_be_alike
tap_limit=600 check "so it is with -O3 -flto" optimized_archives_are_public
tap_limit=600 check "and debug mode names the call sites" call_sites_are_right
check "a build for 32-bit programs is refused in words" narrow_programs_are_refused
check "nothing in the libraries aborts or exits" nothing_aborts
check "two builds of a benchmark are compared row by row" two_builds_are_compared
tap_end
