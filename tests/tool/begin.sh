# shellcheck shell=bash
# begin.sh - the beginning of tests of the command: . begin.sh, with the script's own argument, the build directory
#
# $tool is the command, $root the repository. They run in $here, a directory of their own, and have the functions of tap.sh.

# shellcheck disable=SC2034 # for who sources it
[ $# = 1 ] || { echo "usage: ${0##*/} BUILD-DIRECTORY" >&2; exit 2; }
tool=$(cd "$1" && pwd)/tools/dmaland
[ -x "$tool" ] || { echo "${0##*/}: there is no $tool" >&2; exit 2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here" || exit 1

# shellcheck source=tests/common/tap.sh
. "$root/tests/common/tap.sh" "$here"
