#!/bin/bash
# test_package.sh: the Debian packages are built from a copy of the source, and have in them what they should; prints TAP.

set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/source" "$work/unpacked"
# shellcheck source=tests/common/tap.sh
. "$root/tests/common/tap.sh" "$work"

if ! command -v dpkg-buildpackage >/dev/null || ! command -v dh >/dev/null; then
	skip "the packages" "dpkg-buildpackage or debhelper is not installed"
	tap_end
fi

# Dependencies are not asked for: what is missing shows by itself.
packages_build() {
	tar -C "$root" --exclude='./build*' --exclude=./.git -cf - . | tar -C "$work/source" -xf - &&
		cd "$work/source" && dpkg-buildpackage -d -us -uc -b
}

# has PACKAGE FILE...: files whose directory is that of libraries may be given from lib/ on
has() {
	local package=$1 file
	dpkg -c "$work/${package}_"*.deb | awk '{ print $6 }' |
		sed 's#^\./usr/##; s#^lib/[^/]*-linux-gnu/#lib/#' >"$work/files"
	shift
	for file; do
		grep -qxF "$file" "$work/files" || { echo "not there: $file" && cat "$work/files" && return 1; }
	done
}

library_has_libraries() {
	has libdmaland0 lib/libdmaland.so.0 lib/libdmaland-nvme.so.0 lib/libdmaland-rtl8139cp.so.0 && ! grep -E '\.(h|a|pc|so)$|^bin/.' "$work/files"
}

dev_has_headers() {
	has libdmaland-dev lib/libdmaland.so lib/libdmaland.a lib/pkgconfig/dmaland.pc lib/pkgconfig/dmaland-nvme.pc lib/pkgconfig/dmaland-rtl8139cp.pc \
		share/man/man3/dma_pool.3.gz && cmp <(grep '^include/.*h$' "$work/files" | sort) \
		<(cd "$root/include" && printf 'include/%s\n' dmaland/*.h | sort)
}

command_has_manuals() {
	has dmaland bin/dmaland share/man/man1/dmaland.1.gz share/man/man1/dmaland-nvme.1.gz share/man/man1/dmaland-net.1.gz share/man/man7/dmaland.7.gz \
		share/bash-completion/completions/dmaland && ! grep '^lib/.' "$work/files"
}

debug_symbols_are_apart() { ls "$work"/libdmaland0-dbgsym_*.deb "$work"/dmaland-dbgsym_*.deb; }

versions_agree() {
	local version
	version=$(sed -n "s/^  version: '\(.*\)',$/\1/p" "$root/meson.build")
	dpkg-parsechangelog -l "$root/debian/changelog" -S Version | grep -x "$version"
}

# As they are installed, but for the root.
unpacked_program() {
	unpack && LD_LIBRARY_PATH=$libraries "$work/unpacked/usr/bin/dmaland" --version
}

unpack() {
	local file
	for file in "$work"/*.deb; do
		dpkg -x "$file" "$work/unpacked" || return
	done
	libraries=$(dirname "$(find "$work/unpacked" -name libdmaland.so.0)")
}

program_compiles() {
	unpack || return
	export PKG_CONFIG_SYSROOT_DIR=$work/unpacked PKG_CONFIG_PATH=$libraries/pkgconfig
	# shellcheck disable=SC2046 # words
	cc "$root/examples/nvme_read.c" -o "$work/program" $(pkg-config --cflags --libs dmaland dmaland-nvme) &&
		{ LD_LIBRARY_PATH=$libraries "$work/program" nowhere: 0 2>&1 || true; } | grep "no backend"
}

lintian_finds_no_error() { lintian --allow-root --fail-on error "$work"/*.changes; }

tap_limit=600 check "the packages are built" packages_build
check "libdmaland0 has the libraries, and nothing to develop with" library_has_libraries
check "libdmaland-dev has all headers" dev_has_headers
check "dmaland has the command, its manuals and its completion" command_has_manuals
check "debug symbols are in packages of their own" debug_symbols_are_apart
check "their version is that of the source" versions_agree
check "the command runs from where it was unpacked" unpacked_program
check "a program compiles and runs against what was unpacked" program_compiles
if command -v lintian >/dev/null; then
	check "lintian finds no error" lintian_finds_no_error
else
	skip "lintian" "not installed, and cannot be had here: it is no part of what tests need"
fi
tap_end
