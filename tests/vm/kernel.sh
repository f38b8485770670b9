#!/bin/bash
# Provides what the VM boots: prints a directory that holds `kernel`, `initramfs.cpio` and `modules` (a root
# for modprobe -d).
#
#   kernel.sh            the kernel
#   kernel.sh --source   the directory has also `headers`, to build modules against, and `source.tar.xz`, of this very kernel
#
# The kernel is Debian's, taken from its package without installing it; where no package can be had, this
# host's own, which has no source. Everything is kept in ~/.cache/dmaland (without HOME: in /var/tmp, in a directory
# that must be ours), written under another name first and then renamed, so that neither an interrupted run nor two
# at a time can leave something half made. Image, headers and source are of one version: where the mirror has no
# headers or source for the image that is here, all of them are fetched anew.
#
#   DMALAND_KERNEL=6.1   take this series rather than the newest of 6.12 and 6.1; "host": this host's kernel
#
# Exit status: 0, or 69 when there is no kernel to be had.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -n "${XDG_CACHE_HOME:-}${HOME:-}" ]; then
	cache=${XDG_CACHE_HOME:-$HOME/.cache}/dmaland
else
	cache=/var/tmp/dmaland-$(id -u)
fi
PATH=$PATH:/usr/sbin:/sbin

say() { echo "$*" >&2; }

no_kernel() {
	say "dmaland: no kernel for the VM: $*"
	exit 69
}

# The plain flavour's names; -rt, -cloud, -dbg and -unsigned do not match. 6.12 carries the distribution in
# its name, 6.1 the ABI's number.
package_newest() {
	apt-cache pkgnames "linux-image-$1." 2>/dev/null |
		grep -xE 'linux-image-6\.(12\.[0-9]+\+deb[0-9]+|1\.0-[0-9]+)-amd64' | sort -V | tail -n 1
}

# Others may have made a directory of that name; what lies in it is booted.
cache_make() {
	local others=002
	[ -n "${XDG_CACHE_HOME:-}${HOME:-}" ] || others=022
	mkdir -p "$(dirname "$cache")" || no_kernel "there is no place to keep one in: set XDG_CACHE_HOME"
	mkdir -m 700 "$cache" 2>/dev/null || true
	if [ ! -d "$cache" ] || [ -L "$cache" ] || [ ! -O "$cache" ] || [ $((0$(stat -c %a "$cache") & others)) != 0 ]; then
		no_kernel "$cache is not a directory that only user $(id -un) can write to: remove it, or set XDG_CACHE_HOME"
	fi
}

version_of() { echo "${1#linux-image-}"; }

# cached_newest SERIES [FILE]: that is there already, and has FILE; a kernel is kept until the cache is cleared.
cached_newest() {
	local dir
	for dir in "$cache/linux-$1."*; do
		[ ! -e "$dir/kernel" ] || [ ! -e "$dir/${2:-kernel}" ] || basename "$dir"
	done | sort -V | tail -n 1
}

# A bzImage carries the kernel compressed, and to unpack it inside the guest takes 1.5 s. Unpacked here, it
# boots as an ELF file (PVH). Offsets: Documentation/arch/x86/boot.rst; the payload ends with its unpacked size.
number_at() { od -An -v -t "u$3" -j "$2" -N "$3" "$1" | tr -d ' '; }

kernel_unpack() {
	local image=$1 out=$2 start length unpack size
	start=$((($(number_at "$image" $((0x1f1)) 1) + 1) * 512 + $(number_at "$image" $((0x248)) 4)))
	length=$(number_at "$image" $((0x24c)) 4)
	case $(number_at "$image" "$start" 4) in
	$((0xfd2fb528))) unpack="zstd -dc" ;;
	$((0x587a37fd))) unpack="xz -dc" ;;
	*) return 1 ;;
	esac
	size=$(number_at "$image" $((start + length - 4)) 4)
	tail -c +$((start + 1)) "$image" | head -c $((length - 4)) | $unpack >"$out" 2>/dev/null || true
	[ "$(stat -c %s "$out")" = "$size" ] && [ "$(head -c 4 "$out")" = $'\177ELF' ]
}

kernel_place() {
	local image=$1 dir=$2
	kernel_unpack "$image" "$dir/kernel" || cp "$image" "$dir/kernel"
}

package_fetch() {
	local package=$1 version size temp dir
	version=$(version_of "$package")
	size=$(apt-cache show --no-all-versions "$package" | sed -n 's/^Size: //p' | head -n 1)
	say "fetching $package ($((${size:-0} / 1000000)) MB)"
	temp=$(mktemp -d "$cache/tmp.XXXXXX")
	dir=$temp/linux-$version
	# One chain: set -e is off in a function whose status is asked for.
	mkdir "$dir" &&
		(cd "$temp" && apt-get download "$package") >"$cache/fetch.log" 2>&1 &&
		dpkg -x "$temp"/*.deb "$dir" &&
		{ [ -e "$dir/lib" ] || ln -s usr/lib "$dir/lib"; } &&
		dpkg-deb -f "$temp"/*.deb Version >"$dir/package-version" &&
		depmod -b "$dir" "$version" &&
		kernel_place "$dir/boot/vmlinuz-$version" "$dir" &&
		rm -rf "${dir:?}/boot" "${dir:?}/usr/share" &&
		ln -s . "$dir/modules" &&
		mv -T "$dir" "$cache/linux-$version" &&
		rm -rf "$temp"
}

# source_fetch NAME: headers and source beside an image that is there, of its version, or nothing
source_fetch() {
	local version of temp dir=$cache/$1 headers package packages
	version=$(version_of "linux-image-${1#linux-}")
	headers=linux-headers-$version
	of=$(cat "$dir/package-version" 2>/dev/null || apt-cache show --no-all-versions "linux-image-$version" | sed -n 's/^Version: //p')
	[ -n "$of" ] || return
	# The part that flavours share and the programs of kbuild have names that differ between series.
	mapfile -t packages < <(apt-cache show "$headers=$of" 2>/dev/null |
		sed -n 's/^Depends: //p' | grep -oE 'linux-(headers-[^ ,]*-common|kbuild-[^ ,]*)')
	say "fetching the headers and the source of linux-$version"
	temp=$(mktemp -d "$cache/tmp.XXXXXX")
	mkdir "$temp/all" || return
	(cd "$temp" && apt-get download "$headers=$of" "linux-source-$(cut -d . -f 1,2 <<<"$version")=$of" \
		"${packages[@]/%/=$of}") >"$cache/fetch.log" 2>&1 || return
	for package in "$temp"/*.deb; do
		dpkg -x "$package" "$temp/all" || return
	done
	(cd "$temp/all/usr/src" && ln -s linux-source-*.tar.xz source.tar.xz && ln -s "$headers" headers) &&
		sed -i "s#/usr/src/#$dir/usr/src/#" "$temp/all/usr/src/headers/Makefile" &&
		mkdir -p "$dir/usr/lib" && rm -rf "$dir"/usr/lib/linux-kbuild-* && mv "$temp"/all/usr/lib/linux-kbuild-* "$dir/usr/lib/" &&
		mv -T "$temp/all/usr/src" "$dir/usr/src" && rm -rf "$temp"
}

# source_find SERIES: the newest kernel that has its source here; that of the image that is here; all of it anew
source_find() {
	local name package
	name=$(cached_newest "$1" usr/src/source.tar.xz)
	[ -z "$name" ] || { echo "$name" && return; }
	name=$(cached_newest "$1")
	[ -z "$name" ] || ! source_fetch "$name" || { echo "$name" && return; }
	package=$(package_newest "$1") && [ "linux-$(version_of "$package")" != "$name" ] || return
	package_fetch "$package" && name=linux-$(version_of "$package") && source_fetch "$name" && echo "$name"
}

# For a machine whose apt knows no such package: what it runs itself, if an ordinary user may read it.
host_take() {
	local version image temp
	for version in "$(uname -r)" $(find /lib/modules -mindepth 1 -maxdepth 1 -printf "%f\n" 2>/dev/null | sort -rV); do
		for image in "/boot/vmlinuz-$version" "/lib/modules/$version/vmlinuz"; do
			[ -r "$image" ] || continue
			modprobe -S "$version" --show-depends vfio-pci >/dev/null 2>&1 || continue
			temp=$(mktemp -d "$cache/tmp.XXXXXX")
			kernel_place "$image" "$temp"
			ln -s / "$temp/modules"
			rm -rf "$cache/host-$version"
			mv -T "$temp" "$cache/host-$version"
			echo "host-$version"
			return
		done
	done
	return 1
}

kernel_find() {
	local series=("${DMALAND_KERNEL:-6.12}") one name package
	[ -n "${DMALAND_KERNEL:-}" ] || series+=(6.1)
	if [ -n "$source" ]; then
		for one in "${series[@]}"; do
			source_find "$one" && return
		done
		return 1
	fi
	if [ "${series[0]}" != host ]; then
		for one in "${series[@]}"; do
			name=$(cached_newest "$one")
			[ -z "$name" ] || { echo "$name"; return; }
		done
		for one in "${series[@]}"; do
			package=$(package_newest "$one") || continue
			package_fetch "$package" && { echo "linux-$(version_of "$package")"; return; }
		done
	fi
	host_take
}

# What modprobe would load for MODULE, in its order; what is built in does not show.
module_files() {
	modprobe -d "$1/modules/" -S "$2" --show-depends "$3" | awk '$1 == "insmod" { print $2 }'
}

module_unpack() {
	case $1 in
	*.xz) xz -dc "$1" ;;
	*.zst) zstd -dcq "$1" ;;
	*.gz) gzip -dc "$1" ;;
	*) cat "$1" ;;
	esac
}

# modules_add FOLDER MODULE...: into temp/modules/FOLDER, numbered in the order of loading.
modules_add() {
	local folder=$temp/modules/$1 module files file name n=100
	shift
	mkdir "$folder"
	for module; do
		files=$(module_files "$dir" "$version" "$module") || no_kernel "$version has no module $module"
		for file in $files; do
			name=$(basename "$file")
			name=${name%.ko*}
			[ -z "$(find "$temp/modules" -name "???-$name")" ] || continue
			module_unpack "$file" >"$folder/$n-$name"
			n=$((n + 1))
		done
	done
}

# Not compressed: QEMU loads it in no time, while the guest would take long to unpack it. /dev stays empty,
# since an ordinary user cannot make nodes; devtmpfs fills it.
initramfs_make() {
	local dir=$1 version=$2 out=$3 temp applet
	temp=$(mktemp -d "$cache/tmp.XXXXXX")
	mkdir "$temp"/{bin,modules,proc,sys,dev,host}
	cp "$(command -v busybox)" "$temp/bin/busybox"
	for applet in $(busybox --list); do
		[ "$applet" = busybox ] || ln -s busybox "$temp/bin/$applet"
	done
	install -m 755 "$here/init" "$temp/init"
	modules_add boot virtio_pci virtio_console 9pnet_virtio 9p
	modules_add vfio vfio-pci vfio_iommu_type1
	modules_add nvme nvme
	(cd "$temp" && find . | sort | cpio -o -H newc -R 0:0 --quiet) >"$temp.cpio"
	mv "$temp.cpio" "$out"
	rm -rf "$temp"
}

initramfs_key() {
	cat "$here/init" "$here/kernel.sh" "$(command -v busybox)" | sha256sum | cut -c 1-16
}

main() {
	local name dir key source=''
	case $* in
	'') ;;
	--source) source=yes ;;
	*) say "usage: kernel.sh [--source]" && exit 2 ;;
	esac
	[ "$(uname -m)" = x86_64 ] || no_kernel "it is made for x86_64, and this is $(uname -m)"
	cache_make
	exec 9>"$cache/lock"
	flock -w 900 9 || no_kernel "another process has been fetching one for 15 minutes ($cache/lock)"
	rm -rf "$cache"/tmp.*
	trap 'rm -rf "$cache"/tmp.*' EXIT

	name=$(kernel_find) ||
		no_kernel "apt can fetch none of linux-image-6.12.*-amd64 and linux-image-6.1.0-*-amd64${source:+ with its headers and source} (apt-get update?), and this host's own is not readable or lacks vfio-pci"
	key=$(initramfs_key)
	dir=$cache/$name
	if [ ! -e "$dir/$key/initramfs.cpio" ]; then
		mkdir -p "$dir/$key"
		initramfs_make "$dir" "${name#*-}" "$dir/$key/initramfs.cpio"
		ln -sfn ../kernel "$dir/$key/kernel"
		ln -sfn ../modules "$dir/$key/modules"
	fi
	if [ -n "$source" ]; then
		ln -sfn ../usr/src/headers "$dir/$key/headers"
		ln -sfn ../usr/src/source.tar.xz "$dir/$key/source.tar.xz"
	fi
	echo "$dir/$key"
}

main "$@"
