#!/bin/sh
# archive.sh MAP ARCHIVE OUTPUT OBJCOPY AR COMPILER...: a static library that defines nothing global but the public interface
#
# A name of the library's own, such as nvme_reset, would be the program's too. So the objects are linked to one, and what the
# symbol map does not export becomes local to it. With link-time optimization that is the compiler's work: it makes machine code,
# and names of its own, such as dmaland_nvme_status_text.localalias.lto_priv.0, which the map's patterns match; C has no dots.

set -eu
map=$1 archive=$2 output=$3 objcopy=$4 ar=$5
shift 5
work=$output.p
mkdir -p "$work"
sed -n '/global:/,/local:/s/^[[:space:]]*\([a-z0-9_*]*\);.*/\1/p' "$map" >"$work/public"
echo '!*.*' >>"$work/public"
"$@" -r -nostdlib -o "$work/all.o" -Wl,--whole-archive "$archive" -Wl,--no-whole-archive
"$objcopy" --wildcard --keep-global-symbols="$work/public" "$work/all.o" "$work/${output##*/}.o"
rm -f "$output"
"$ar" rcs "$output" "$work/${output##*/}.o"
