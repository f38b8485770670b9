# shellcheck shell=bash
# frames.sh - pcap files as another program than ours makes and reads them, and `dmaland` in the background: . frames.sh
#
# $tool is the command. Functions for tests that have the functions of tap.sh.

# shellcheck disable=SC2034,SC2154 # pid is for who sources this, and tool is set there

# pcap_make ORDER MAGIC SIZE...: frames of these sizes, in that order of bytes, < or >
pcap_make() {
	perl -e 'my ($order, $magic, @sizes) = @ARGV; binmode STDOUT; srand 7;
		print pack("(L S2 L4)$order", hex $magic, 2, 4, 0, 0, 65535, 1);
		for (@sizes) {
			my $frame = join "", "\x02\0\0\0\0\x09", map { chr int rand 256 } 7 .. $_;
			print pack("(L4)$order", 1700000000, 5, $_, $_), $frame;
		}' "$@"
}

# pcap_frames FILE: a line of hexadecimal digits a frame; padded to 60 bytes, as Ethernet has them
pcap_frames() {
	perl -e 'undef $/; my $all = <STDIN>; my $order = substr($all, 0, 1) eq "\xa1" ? ">" : "<"; my $at = 24;
		while ($at < length $all) {
			my ($s, $ns, $n, $m) = unpack "(L4)$order", substr $all, $at, 16;
			die "frame at $at: $n of $m\n" if $n != $m || $ns >= 1e9 || $at + 16 + $n > length $all;
			my $frame = substr $all, $at + 16, $n;
			$frame .= "\0" x (60 - $n) if $n < 60;
			print unpack("H*", $frame), "\n";
			$at += 16 + $n;
		}' <"$1"
}

# says PID FILE WORDS: wait until it does
says() { until grep -q "$3" "$2"; do kill -0 "$1" && sleep 0.01 || return; done; }

# begin FILE WORDS ARGUMENT...: the tool in the background, as $pid, from when it has said so on stderr, if there are words; stdout is
# FILE.out. It has not the descriptor 9, by which a test holds a pipe.
begin() {
	local file=$1 words=$2
	shift 2
	: >"$file.err"
	env --default-signal=INT "$tool" "$@" >"$file.out" 2>"$file.err" <&0 9>&- &
	pid=$!
	[ -z "$words" ] || says "$pid" "$file.err" "$words" || { cat "$file.err" && return 1; }
}

# ended STATUS: that is how $pid ends
ended() {
	local status=0
	wait "$pid" || status=$?
	[ "$status" = "$1" ] || { echo "exit status $status" && return 1; }
}
