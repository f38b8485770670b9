# shellcheck shell=bash
# ends.sh - a part of test_tool.sh, which has made the drives $small, $big and sparse.img: what is left when a transfer does not
# come to its end

# shellcheck disable=SC2154 # variables of test_tool.sh

# In a mount namespace, with a file system of 1 MiB.
full_disk() {
	mkdir -p disk || return
	# shellcheck disable=SC2016
	unshare --map-root-user --mount bash -c 'mount -t tmpfs -o size=1M disk disk && head -c 300000 /dev/urandom >disk/old && cp disk/old old &&
		! "$1" nvme read "$2" disk/old 2>err && grep "^dmaland: cannot write 16 MiB to disk/old: No space left" err &&
		cmp old disk/old && ! "$1" nvme read "$2" disk/new 2>err && grep "cannot write 16 MiB to disk/new" err && [ ! -e disk/new ] && "$1" nvme read "$2" -c 100 disk/old && cmp disk/old <(head -c 51200 "${2#*drive=}") &&
		head -c 900000 /dev/zero >disk/rest' - "$tool" "$big"
}
if unshare --map-root-user --mount true 2>/dev/null; then
	check "a full disk leaves the old file as it was, and no new one" full_disk
else
	skip "a full disk leaves the old file as it was, and no new one" "no mount namespaces, which cannot be had here"
fi

# The reader of the pipe takes 1,000 bytes, and all that is in it when the tool is gone; what is said is what came, to the byte.
interrupted_pipe() {
	local pid status=0 got
	rm -f flow && mkfifo flow || return
	env --default-signal=INT "$tool" nvme read "qemu:nvme,drive=$here/sparse.img" >flow 2>err &
	pid=$!
	exec 9<flow
	head -c 1000 <&9 >came
	kill -INT "$pid"
	wait "$pid" || status=$?
	cat <&9 >>came
	exec 9<&-
	cat err
	got=$(sed -nE 's/^dmaland: interrupted: ([0-9]+) of 8388608 blocks, from block 0 on, were read to stdout(, and ([0-9]+) bytes of the next one)?$/\1*512+0\3/p' err)
	[ "$status" = 130 ] && [ -n "$got" ] && [ "$(bytes came)" = $((got)) ] && cmp -n "$(bytes came)" came sparse.img
}
check "SIGINT says how much a pipe got" interrupted_pipe

# timeout(1) signals the process and its group. Two of one kind may become one on their way, so that these are of two kinds, and
# come while the tool is stopped: it takes one right after the other. Only the first may end a write.
signals_together() {
	local pid status=0
	rm -f hold && mkfifo hold && head -c 32K /dev/urandom >held || return
	env --default-signal=INT "$tool" nvme write "$small" <hold 2>hold.err &
	pid=$!
	exec 9>hold
	cat held >&9
	until cmp -s held small.img; do kill -0 "$pid" && sleep 0.01 || return; done
	kill -STOP "$pid"
	until grep -q "^State:.*stopped" "/proc/$pid/status"; do kill -0 "$pid" && sleep 0.01 || return; done
	kill -TERM "$pid" && kill -INT "$pid" && kill -CONT "$pid"
	wait "$pid" || status=$?
	exec 9>&-
	cat hold.err
	[[ $status = 130 || $status = 143 ]] && grep -qx "dmaland: interrupted: 64 blocks from block 0 on were written" hold.err
}
check "signals that come together, as from timeout, end a write once" signals_together
