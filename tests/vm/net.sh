#!/bin/bash
# Runs inside the VM, as root: `dmaland net` on VFIO; prints TAP.
#
#   net.sh BUILD CARD INTERFACE   the card is VFIO's; the interface is the kernel's card on the same hub, 10.0.0.1
#   net.sh BUILD CARD CARD        both are VFIO's: what the ways cost
#
# Frames go to a stranger's address. The kernel's card takes them for a program with an AF_PACKET socket, perl here.

# shellcheck disable=SC2015,SC2154 # pid is frames.sh's
set -uo pipefail

tool=$(readlink -f "$1/tools/dmaland") card=vfio:$2 other=$3
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$TMPDIR/net
mkdir -p "$work" && cd "$work" || exit 1
# shellcheck source=tests/common/tap.sh
. "$root/tests/common/tap.sh" "$work"
# shellcheck source=tests/common/frames.sh
. "$root/tests/common/frames.sh"

# packets send FILE | packets take COUNT: the frames of a file, as lines of hexadecimal digits, go out by the kernel's card; or so
# many that come to the stranger are printed as such lines. It says on stderr when it listens. The kernel's queue, which puts frames
# into another order, is passed by: a send fails where the card has no room.
packets() {
	perl -e 'my ($way, $index, $what) = @ARGV; my ($all, $frame) = (3); # linux/if_ether.h: ETH_P_ALL
		socket(my $s, 17, 3, unpack "S", pack "n", $all) or die "AF_PACKET: $!";
		my $to = pack "S n i S C C a8", 17, $all, $index, 0, 0, 6, "";
		bind($s, $to) or die "bind: $!";
		if ($way eq "send") {
			open my $lines, "<", $what or die "$what: $!";
			setsockopt($s, 263, 20, pack "i", 1) or die "PACKET_QDISC_BYPASS: $!";
			while (<$lines>) {
				chomp;
				until (send($s, pack("H*", $_), 0, $to)) { $!{ENOBUFS} or die "send: $!" }
			}
			exit;
		}
		print STDERR "listening\n";
		while ($what) {
			defined recv($s, $frame, 2000, 0) or die "recv: $!";
			next if substr($frame, 0, 6) ne "\x02\0\0\0\0\x09";
			print unpack("H*", $frame), "\n";
			$what--;
		}' "$1" "$(<"/sys/class/net/$other/ifindex")" "$2"
}

# works PID: it has opened its card
works() {
	until [ -n "$(find "/proc/$1/fd" -lname '*vfio*' 2>/dev/null)" ]; do kill -0 "$1" && sleep 0.01 || return; done
}

info_tells_address_and_link() {
	"$tool" net info "$card" >out && cat out && grep -x "address  *52:54:00:00:00:02" out && grep -x "link  *100 Mbit/s" out
}

# by OPTION...
ping_the_kernel() {
	"$tool" net ping --interval=0 -c 5 "$@" "$card" 10.0.0.1 >out && cat out && grep "^5 packets transmitted, 5 received, 0% packet loss" out &&
		grep -x "10.0.0.1 is at 52:54:00:00:00:03" out
}

ping_pings_the_kernel() { ping_the_kernel && ping_the_kernel --size=1472; }

# A signal between two pings: what was counted is printed.
ping_ends_at_a_signal() {
	: >ping.out && begin ping "" net ping --interval=5 -c 1000000 "$card" 10.0.0.1 && says "$pid" ping.out seq=2 && kill -INT "$pid" && ended 130 &&
		tail -n 4 ping.out && grep -E "^[0-9]+ packets transmitted, [0-9]+ received" ping.out
}

# It says what it has answered when a signal ends it.
echo_answers_the_kernel() {
	local line
	begin echo "answers as 10.0.0.2/24" net echo --ip=10.0.0.2/24 "$card" && busybox ping -c 3 -i 0.1 -s 1000 -w $((20 * patience)) 10.0.0.2 &&
		exec 3<>/dev/udp/10.0.0.2/7 && echo "to port 7" >&3 && line=$(timeout $((20 * patience)) head -c 10 <&3) && [ "$line" = "to port 7" ] &&
		kill -INT "$pid" && ended 130 && cat echo.out && grep "^pings  *3 answered" echo.out && grep "^datagrams  *1 sent back" echo.out
}

# The kernel may ask between them whose our address is.
receive_writes_what_the_kernel_sends() {
	begin receive "listening as" net receive -v "$card" come.pcap && packets send frames || return
	until pcap_frames come.pcap | grep '^020000000009' >come; [ "$(wc -l <come)" -ge "$(wc -l <frames)" ]; do
		kill -0 "$pid" && sleep 0.05 || return
	done
	kill -INT "$pid" && ended 130 && cat receive.err && grep -E "[0-9]+ frames .* came, and 0 were lost" receive.err && diff frames come
}

send_sends_what_the_kernel_takes() {
	local taker
	: >take.err
	packets take "$(wc -l <frames)" >taken 2>take.err &
	taker=$!
	says "$taker" take.err listening && "$tool" net send "$card" sent.pcap >out && cat out && grep "^$(wc -l <frames) frames .* sent in" out &&
		wait "$taker" && diff frames taken
}

bench_has_its_figures() {
	"$tool" net bench --json -c 20 "$card" "vfio:$other" >out && perl -MJSON::PP -e 'undef $/; my @r = @{decode_json(<STDIN>)->{bench}};
		exit !(@r == 24 && !grep { !$_->{packets_per_second} || $_->{packets} != 20 } @r)' <out || { cat out && return 1; }
}

bench_ends_at_a_signal() {
	begin bench "" net bench -c 1000000000 "$card" "vfio:$other" && works "$pid" && kill -INT "$pid" && ended 130 && cat bench.out bench.err &&
		grep "^1000000000 packets a row" bench.out && ! grep dmaland: bench.err
}

# The kernel waits until the card is let go of.
receive_ends_when_the_card_is_to_be_removed() {
	local address=${card#vfio:} remover
	begin receive "listening as" net receive -v "$card" - || return
	echo 1 >"/sys/bus/pci/devices/$address/remove" &
	remover=$!
	ended 1 && wait "$remover" && cat receive.err && grep "^dmaland: .* is to be removed" receive.err && [ ! -e "/sys/bus/pci/devices/$address" ] &&
		echo 1 >/sys/bus/pci/rescan && [ -e "/sys/bus/pci/devices/$address" ]
}

# check takes the names of functions.
checks() {
	local name
	for name; do
		check "dmaland net: ${name//_/ }" "$name"
	done
}

if [[ $other == *:* ]]; then
	checks bench_has_its_figures bench_ends_at_a_signal receive_ends_when_the_card_is_to_be_removed
	tap_end
fi

# As many as our ring has places for.
mapfile -t sizes < <(seq 60 47 1514)
pcap_make '<' a1b23c4d "${sizes[@]}" 1514 14 59 >sent.pcap
pcap_frames sent.pcap >frames
ip link set "$other" promisc on
checks info_tells_address_and_link
if [[ $("$tool" net ping --help) != *without* ]]; then
	checks ping_pings_the_kernel ping_ends_at_a_signal echo_answers_the_kernel
else
	skip "dmaland net ping and echo" "no lwIP (liblwip-dev)"
fi
checks receive_writes_what_the_kernel_sends send_sends_what_the_kernel_takes
ip link set "$other" promisc off
tap_end
