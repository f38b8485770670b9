#!/bin/bash
# The command `dmaland net`: two cards of QEMU's on one hub in one process, and two processes with a card and a QEMU each, which
# -netdev dgram joins. Frames are compared with what another program, perl here, makes and reads of pcap files. Prints TAP.
#
#   test_net.sh BUILD-DIRECTORY

# shellcheck disable=SC2015,SC2016,SC2317 # tests are strings for eval, which expands and calls what is in them
set -uo pipefail

# shellcheck source=tests/tool/begin.sh
. "$(dirname "${BASH_SOURCE[0]}")/begin.sh"
# shellcheck source=tests/common/frames.sh
. "$root/tests/common/frames.sh"

if ! command -v qemu-system-x86_64 >/dev/null; then
	skip "everything" "no qemu-system-x86_64"
	tap_end
fi

one=qemu:rtl8139,machine=m,hub=0,mac=52:54:00:00:00:01
# shellcheck disable=SC2034 # in strings
two=qemu:rtl8139,machine=m,hub=0,mac=52:54:00:00:00:02
# joined OWN OTHER NUMBER: a spec
joined() { echo "qemu:rtl8139,mac=52:54:00:00:00:0$3,netdev=dgram,,local.type=unix,,local.path=$here/$1,,remote.type=unix,,remote.path=$here/$2"; }
here_spec=$(joined a b 3)
there_spec=$(joined b a 4)

# refused STATUS WORDS COMMAND...: it fails, and says so in words on stderr
refused() {
	local expected=$1 words=$2 status=0
	shift 2
	"$@" >out 2>err || status=$?
	cat out err
	[ "$status" = "$expected" ] && grep -q -- "$words" err
}

# wrong WORDS ARGUMENT...: so the command is used wrongly, and says so
wrong() { check "wrong: ${*:2}" refused 2 "$1" "$tool" "${@:2}"; }

# ---- the forwarder of examples/, and QEMU's own record of frames

# joining OWN OTHER NUMBER: the spec of a card that joins a machine
joining() {
	echo "qemu:rtl8139,machine=f,mac=52:54:00:00:00:0$3,netdev={\"type\": \"dgram\",, \"local\": {\"type\": \"unix\",, \"path\":" \
		"\"$here/$1\"},, \"remote\": {\"type\": \"unix\",, \"path\": \"$here/$2\"}}"
}

forwards() {
	local forward=${tool%/tools/*}/examples/forward forwarder
	pcap_make '<' a1b23c4d 60 64 100 459 460 1513 1514 61 >through.pcap
	"$forward" "$(joined l2 l1 5),machine=f" "$(joining r2 r1 6)" >forward.out 2>forward.err &
	forwarder=$!
	says "$forwarder" forward.err "forwarding between" && begin receive "listening as" net receive -v -c 8 "$(joined r1 r2 7)" come.pcap &&
		"$tool" net send "$(joined l1 l2 8)" through.pcap && ended 0 && diff <(pcap_frames through.pcap) <(pcap_frames come.pcap) || return
	kill -INT "$forwarder" && wait "$forwarder" && cat forward.out && grep "mac=52:54:00:00:00:05.*: 8 forwarded, 0 lost" forward.out
}
check "examples/forward hands frames from one card to another" forwards

# A program that has QEMU write what passes the card's network.
cat >dumping <<END
#!/bin/sh
exec "$(command -v qemu-system-x86_64)" "\$@" -object filter-dump,id=dump,netdev=net0,file=$here/dump.pcap
END
chmod +x dumping
check "what is sent is what QEMU has seen, frame by frame" eval '
	pcap_make "<" a1b23c4d $(seq 60 97 1514) 1514 >sent.pcap && "$tool" net send "$one,qemu=$here/dumping" sent.pcap &&
		diff <(pcap_frames sent.pcap) <(pcap_frames dump.pcap) && [ "$(pcap_frames dump.pcap | wc -l)" = 16 ]'

# ---- info

check "info tells address and link" eval '
	"$tool" net info "$one" >out && cat out && grep -x "address  *52:54:00:00:00:01" out && grep -x "link  *100 Mbit/s" out &&
		grep "^received  *0 frames" out'
check "and so it does in JSON" eval '
	"$tool" net info --json "$one" >out && cat out && grep "\"address\": \"52:54:00:00:00:01\"" out &&
		grep "\"link_mbits\": 100" out && grep "\"rx_missed\": 0" out && perl -MJSON::PP -e "undef $/; decode_json <STDIN>" <out'

# ---- send and receive: two processes

# travels FILE OUTPUT: what is sent of FILE is what is received, in OUTPUT, or as receive.out where that is -. The sender goes on
# until all have come, for its QEMU may hold frames back that the other has not taken, and takes them along when it ends.
travels() {
	local file=$1 count send
	rm -f flow && mkfifo flow && pcap_frames "$file" >expected && count=$(wc -l <expected) || return
	exec 9<>flow
	begin send "" net send "$here_spec" - <flow && send=$pid || return
	begin receive "listening as 52:54:00:00:00:04" net receive -v -c "$count" "$there_spec" "$2" && cat "$file" >&9 && ended 0 || return
	exec 9>&-
	pid=$send
	cat receive.err && ended 0 && cat send.out && grep "^$count frames .* sent in" send.out || return
	[ "$2" != - ] || set - "$1" receive.out
	pcap_frames "$2" >come && diff expected come
}
# As many as the ring of the receiver holds, so that it need not keep up.
mapfile -t sizes < <(perl -e 'print "$_\n" for 14, 20, 59, 60, 61, 64, 65, 255, 256, 257, 1513, 1514, map { 60 + int rand 1455 } 1 .. 48')
pcap_make '<' a1b23c4d "${sizes[@]}" >ns.pcap
pcap_make '<' a1b2c3d4 "${sizes[@]}" >us.pcap
pcap_make '>' a1b23c4d "${sizes[@]}" >big-ns.pcap
pcap_make '>' a1b2c3d4 "${sizes[@]}" >big-us.pcap
for file in ns us big-ns big-us; do
	check "the frames of a file that one process sends are those that another receives: $file" travels $file.pcap come.pcap
done
check "what was received can be sent" eval '
	travels ns.pcap again.pcap && travels again.pcap come.pcap && pcap_frames ns.pcap | cmp - come'
check "a file has nanoseconds, and today's date" eval '
	travels ns.pcap come.pcap && [ "$(od -An -tx4 -N 4 come.pcap)" = " a1b23c4d" ] &&
		[ "$(perl -e "undef $/; print abs(time - unpack q(x24L<), <STDIN>) < 3600" <come.pcap)" = 1 ]'
check "frames come by a pipe and go to one" travels ns.pcap -
check "so many are sent, and received, as --count says" eval '
	begin receive "listening as" net receive -v -c 3 "$there_spec" come.pcap && "$tool" net send -c 5 "$here_spec" ns.pcap >out && cat out &&
		grep "^5 frames .* sent in" out && ended 0 && grep "3 frames .* came, and 0 were lost" receive.err && [ "$(pcap_frames come.pcap | wc -l)" = 3 ]'
check "frames are made, with a number each" eval '
	begin receive "listening as" net receive -v -c 4 "$there_spec" come.pcap && "$tool" net send --json --generate=100 -c 4 "$here_spec" >out && cat out &&
		grep "\"frames\": 4" out && grep "\"bytes\": 400" out && ended 0 && pcap_frames come.pcap >come && cat come &&
		[ "$(cut -c 29-36 come | paste -sd " ")" = "00000000 00000001 00000002 00000003" ] &&
		[ "$(cut -c 1-28 come | sort -u)" = ffffffffffff52540000000388b5 ]'
check "without a file there is a line a frame" eval '
	begin receive "listening as" net receive -v -c 2 "$there_spec" && "$tool" net send --generate=14 -c 2 "$here_spec" && ended 0 && cat receive.out &&
		[ "$(grep -cE "^[0-9:.]+  52:54:00:00:00:03 > ff:ff:ff:ff:ff:ff  test +60 bytes$" receive.out)" = 2 ]'
check "or an object for each in JSON" eval '
	begin receive "listening as" net receive -v -c 2 --json "$there_spec" && "$tool" net send --generate=1514 -c 2 "$here_spec" && ended 0 &&
		cat receive.out && perl -MJSON::PP -e "undef \$/; my \$o = decode_json <STDIN>;
			exit !(@{\$o->{frames}} == 2 && \$o->{frames}[1]{length} == 1514 && \$o->{received}{bytes} == 3028 && !\$o->{received}{lost})" <receive.out'
check "--seconds ends it" eval '"$tool" net receive --seconds=1 "$there_spec" come.pcap && [ "$(stat -c %s come.pcap)" = 24 ]'
check "Ctrl-C ends it, and what came is there" eval '
	begin receive "listening as" net receive -v "$there_spec" come.pcap && "$tool" net send -c 7 "$here_spec" ns.pcap &&
		until [ "$(pcap_frames come.pcap | wc -l)" = 7 ]; do kill -0 $pid && sleep 0.01 || break; done &&
		kill -INT $pid && ended 130 && cat receive.err && grep "7 frames .* came" receive.err && diff <(pcap_frames ns.pcap | head -n 7) <(pcap_frames come.pcap)'
# The writer of the pipe has given the header, all of which is taken when the pipe is empty.
interrupted_send() {
	rm -f flow && mkfifo flow || return
	exec 9<>flow
	begin send "" net send "$here_spec" - <flow && head -c 24 ns.pcap >&9 || return
	until [ "$(perl -e 'my $n = pack "L", 0; ioctl STDIN, 0x541b, $n; print unpack "L", $n' <&9)" = 0 ]; do kill -0 "$pid" && sleep 0.01 || return; done
	kill -INT "$pid" && ended 130 && cat send.out && grep "^0 frames .* sent in" send.out
}
check "Ctrl-C ends sending, and says how much was sent" interrupted_send

# ---- files that are refused

cut_pcap() { pcap_make '<' a1b2c3d4 100 200 | perl -e 'undef $/; $_ = <STDIN>; substr($_, 36, 4) = pack "L<", 300; print'; }
pcap_make '<' a1b2c3d4 100 1515 >long.pcap
pcap_make '<' a1b2c3d4 100 13 >short.pcap
cut_pcap >cut.pcap
head -c 300 ns.pcap >end.pcap
printf '\x0a\x0d\x0d\x0a0000000000000000000000000' >ng.pcap
head -c 100 /dev/zero >zero.pcap
head -c 10 ns.pcap >ten.pcap
pcap_make '<' a1b2c3d4 100 | perl -e 'undef $/; $_ = <STDIN>; substr($_, 20, 4) = pack "L<", 113; print' >cooked.pcap
check "a frame that is too long is refused by its number" eval '
	refused 1 "frame 2 of long.pcap has 1515 bytes: there are 1514 at most" "$tool" net send "$here_spec" long.pcap && grep "1 frame of it" err'
pcap_make '<' a1b2c3d4 1518 | perl -e 'undef $/; $_ = <STDIN>; substr($_, 52, 2) = pack "n", 0x8100; print' >tagged.pcap
pcap_make '<' a1b2c3d4 1519 >longer.pcap
check "with a tag it may have four bytes more" "$tool" net send "$here_spec" tagged.pcap
check "and no more" refused 1 "frame 1 of longer.pcap has 1519 bytes: there are 1518 at most" "$tool" net send "$here_spec" longer.pcap
check "one without a header too" refused 1 "a frame of 13 bytes: its header has 14" "$tool" net send "$here_spec" short.pcap
check "one that was cut" refused 1 "frame 1 of cut.pcap was cut when it was taken, from 300 bytes to 100" "$tool" net send "$here_spec" cut.pcap
check "a file that ends in a frame" refused 1 "end.pcap ends within frame" "$tool" net send "$here_spec" end.pcap
check "one of pcapng, with what helps" refused 1 "editcap -F pcap ng.pcap" "$tool" net send "$here_spec" ng.pcap
check "one that is no pcap file" refused 1 "zero.pcap is no pcap file" "$tool" net send "$here_spec" zero.pcap
check "one that is hardly a file" refused 1 "ten.pcap is no pcap file: it has 10 bytes" "$tool" net send "$here_spec" ten.pcap
check "one of another kind of link" refused 1 "link type 113, and not Ethernet's" "$tool" net send "$here_spec" cooked.pcap
check "one that is not there" refused 1 "cannot open none.pcap" "$tool" net send "$here_spec" none.pcap
check "a place that can't be written to" refused 1 "cannot open nowhere/x.pcap" "$tool" net receive -c 1 "$here_spec" nowhere/x.pcap

# ---- two cards in one process

check "bench has a row for each way and size, and costs that are those of the ways" eval '
	"$tool" net bench --json -c 100 "$one" "$two" >out && perl -MJSON::PP -e "undef \$/; my @r = @{decode_json(<STDIN>)->{bench}};
		my %c = map { (qq(\$_->{receive} \$_->{send} \$_->{size}), \$_->{copies_per_packet}) } @r;
		exit !(@r == 24 && \$c{q(keep linear 1514)} == 2 && \$c{q(map linear 1514)} == 1 && \$c{q(copybreak linear 64)} == 2 &&
			\$c{q(copybreak linear 1024)} == 1 && !grep { !\$_->{packets_per_second} || !\$_->{system_calls_per_packet} || \$_->{system_calls_per_packet} > 10 || \$_->{packets} != 100 } @r)" <out || { cat out && false; }'
check "and as a table" eval '
	"$tool" net bench -c 50 "$one" "$two" >out && cat out && [ "$(grep -cE "^(copybreak|keep|map) +(sg|linear) +(64|256|1024|1514) +[0-9]+ +[0-9.]+ +[0-9.]+ +[0-9.]+$" out)" = 24 ]'
check "cards that do not hear each other are told so" refused 1 "do both cards hear each other" "$tool" net bench "$one" "qemu:rtl8139,machine=m,hub=1"
check "Ctrl-C ends bench" eval '
	begin bench "" net bench -c 1000000000 "$one" "$two"
	until cat /proc/$pid/task/*/children | grep -q .; do kill -0 $pid && sleep 0.01 || break; done
	kill -INT $pid && ended 130 && cat bench.err && ! grep dmaland: bench.err'

# ---- arguments

wrong "wants SPEC" net info
wrong "there is also 'x'" net info "$one" x
wrong "no command 'net frob'" net frob
wrong "no option '--irq'" net info --irq "$one"
wrong "what is to be sent" net send "$one"
wrong "exclude each other" net send --generate=64 "$one" ns.pcap
wrong "number from 14 to 1514" net send --generate=13 "$one"
wrong "number from 14 to 1514" net send --generate=1515 "$one"
wrong "number from 1," net receive --count=0 "$one"
wrong "stdout can't have both" net receive --json "$one" -
wrong "wants SPEC SPEC" net bench "$one"
check "another device is refused in words" refused 1 "no RTL8139C+" "$tool" net info qemu:edu
check "help names the commands of net and its page" eval '
	"$tool" net --help >out && cat out && [ "$(grep -c "^  net " out)" = 6 ] && grep "man dmaland-net," out && ! "$tool" net 2>err && grep "^  net info" err'

# ---- what stands on lwIP

if [[ $("$tool" net ping --help) == *without* ]]; then
	check "ping says what it was built without" refused 1 "built without lwIP" "$tool" net ping "$one" 10.0.0.1
	check "so does echo" refused 1 "built without lwIP" "$tool" net echo "$one"
	skip "ping and echo" "no lwIP (liblwip-dev)"
	tap_end
fi

check "two cards of one process ping each other" eval '
	"$tool" net ping --interval=0 -c 10 "$one" 10.0.0.1 --echo="$two" >out && cat out && grep -x "10.0.0.1 is at 52:54:00:00:00:02" out &&
		[ "$(grep -cE "^64 bytes from 10.0.0.1: icmp_seq=[0-9]+ ttl=[0-9]+ time=[0-9.]+ ms$" out)" = 10 ] &&
		grep -E "^10 packets transmitted, 10 received, 0% packet loss, time [0-9]+ms$" out && grep -E "^rtt min/avg/max/mdev = ([0-9.]+/){3}[0-9.]+ ms$" out'
check "and echo UDP" eval '"$tool" net ping --udp --interval=0 -c 10 "$one" 10.0.0.1 --echo="$two" >out && cat out && grep "^10 packets transmitted, 10 received, 0%" out'
for size in 4 56 700 1472; do
	check "with $size bytes of data" eval '
		"$tool" net ping --size=$size --interval=0 "$one" 10.0.0.1 -e "$two" >out && cat out && grep " 0% packet loss" out &&
			"$tool" net ping -u --size=$size --interval=0 "$one" 10.0.0.1 -e "$two" >out && cat out && grep " 0% packet loss" out'
done
check "in JSON" eval '
	"$tool" net ping --json --interval=0 -c 5 "$one" 192.168.7.10 --ip=192.168.7.9/29 --echo="$two" >out && cat out && perl -MJSON::PP -e "undef \$/;
		my \$o = decode_json <STDIN>; my \$p = \$o->{ping}; exit !(@{\$o->{replies}} == 5 && \$p->{sent} == 5 && \$p->{received} == 5 &&
			\$p->{loss_percent} == 0 && \$p->{own} eq q(192.168.7.9) && \$p->{min_ns} <= \$p->{avg_ns} && \$p->{avg_ns} <= \$p->{max_ns})" <out'
check "where nobody is, all are lost" eval '
	! "$tool" net ping --interval=10 -t 50 "$one" 10.0.0.7 >out && cat out && grep "3 packets transmitted, 0 received, 100% packet loss" out && ! grep rtt out'
check "a process pings another, by ICMP and UDP, and both count" eval '
	begin echo "answers as 10.0.0.1/24" net echo --json "$there_spec" && "$tool" net ping --interval=0 -c 20 "$here_spec" 10.0.0.1 >out && cat out &&
		grep "^20 packets transmitted, 20 received" out && grep -x "10.0.0.1 is at 52:54:00:00:00:04" out &&
		"$tool" net ping -u --size=1400 --interval=0 -c 30 "$here_spec" 10.0.0.1 >out && grep "^30 packets transmitted, 30 received" out &&
		kill -INT $pid && ended 130 && cat echo.out && grep "\"pings\": 20" echo.out && grep "\"datagrams\": 30" echo.out'
check "echo ends after so many answers" eval '
	begin echo "answers as 10.0.0.1/24" net echo -c 4 "$there_spec" && "$tool" net ping --interval=0 -c 4 "$here_spec" 10.0.0.1 && ended 0 && grep "4 answered" echo.out'
check "and has another address, if told" eval '
	begin echo "answers as 172.16.0.5/16" net echo -c 1 --ip=172.16.0.5/16 "$there_spec" &&
		"$tool" net ping -c 1 --ip=172.16.9.9/16 "$here_spec" 172.16.0.5 && ended 0'
check "Ctrl-C ends ping, with what was counted" eval '
	: >ping.out && begin ping "" net ping --interval=5 -c 1000000 "$one" 10.0.0.1 --echo="$two" && says $pid ping.out seq=3 && kill -INT $pid && ended 130 &&
		tail -n 4 ping.out && grep -E "^[0-9]+ packets transmitted, [0-9]+ received" ping.out'
wrong "wants SPEC ADDRESS" net ping "$one"
wrong "no address such as" net ping "$one" somewhere
wrong "own address" net ping "$one" 10.0.0.2
wrong "no machine of the card's network" net ping "$one" 10.0.1.1
wrong "no machine of the card's network" net ping "$one" 10.0.0.255
wrong "and not '10.0.0.2'" net ping --ip=10.0.0.2 "$one" 10.0.0.1
wrong "and not '10.0.0.2/31'" net ping --ip=10.0.0.2/31 "$one" 10.0.0.1
wrong "no machine's address" net echo --ip=10.0.0.0/24 "$one"
wrong "--size is from 4 to 1472" net ping --size=1473 "$one" 10.0.0.1

tap_end
