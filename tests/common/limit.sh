# shellcheck shell=bash
# limit.sh - whatever may hang gets a limit, and is ended with where it stood: . limit.sh
#
#   limited SECONDS COMMAND...   COMMAND, or a function, in a subshell and a process group of its own
#   stacks PID...                where each thread of these processes is
#   family PID                   the process and all that descend from it
#
# DMALAND_PATIENCE (1) multiplies every limit: for machines that are slow or busy.

patience=${DMALAND_PATIENCE:-1}
[[ $patience =~ ^[1-9][0-9]{0,2}$ ]] || {
	echo "dmaland: DMALAND_PATIENCE=$patience: not a whole number from 1 to 999" >&2
	exit 2
}

# A process that ends meanwhile is left out.
family() {
	{ cat /proc/[0-9]*/stat 2>/dev/null || true; } | sed 's/(.*)/-/' | awk -v root="$1" '
		{ parent[$1] = $4 }
		END {
			for (pid in parent) {
				for (up = pid; up in parent && up != root; up = parent[up])
					;
				if (up == root)
					print pid
			}
		}' | sort -n
}

# The kernel's stack of each thread is root's to read. Shells and small tools are not given to gdb.
stacks() {
	local pid task words
	command -v gdb >/dev/null || echo "gdb is not installed: there are no stacks of the programs' own"
	[ "$(id -u)" = 0 ] || [ "$(cat /proc/sys/kernel/yama/ptrace_scope 2>/dev/null || echo 0)" = 0 ] ||
		echo "kernel.yama.ptrace_scope is not 0: gdb may look at no process of ours"
	for pid; do
		words=$({ tr '\0' ' ' <"/proc/$pid/cmdline"; } 2>/dev/null) || continue
		[ -n "$words" ] || continue # the kernel's own, or dead
		echo "== process $pid: ${words:0:300}"
		for task in "/proc/$pid/task"/*; do
			echo "   thread ${task##*/} ($(cat "$task/comm")): $(sed -n 's/^State:\t//p' "$task/status")," \
				"in $(cat "$task/wchan")"
			sed 's/^/      /' "$task/stack"
		done
		case $(basename "$(readlink "/proc/$pid/exe")") in
		bash | dash | busybox | sleep | cat | tail | tee | grep | timeout | setpriv) ;;
		*) ! command -v gdb >/dev/null || timeout -k 5 $((60 * patience)) gdb -p "$pid" -batch -nx -iex 'set debuginfod enabled off' \
			-ex 'thread apply all backtrace 30' </dev/null | grep -v '^\[New\|^warning: \|^$' ;;
		esac
	done 2>&1
}

# limited SECONDS COMMAND...: its status, or 124 and the stacks of what it had started on stderr. What it leaves
# running in its process group is killed.
limited() {
	local seconds=$(($1 * patience)) job timer first='' status=0 members
	shift
	set -m # process groups of their own
	("$@") &
	job=$!
	sleep "$seconds" >/dev/null 2>&1 &
	timer=$!
	set +m
	wait -n -p first $job $timer 2>/dev/null || status=$?
	if [ "$first" = $timer ]; then
		members=$(family $job)
		{
			echo "not finished after $seconds s, which is its limit here; it is ended. It stood here:"
			# shellcheck disable=SC2086 # several
			stacks $members
		} >&2
		# shellcheck disable=SC2086
		{
			kill -TERM $members
			for _ in {1..50}; do
				kill -0 $members || break
				sleep 0.1
			done
			kill -KILL $members
			# What the kernel does not let go of is left behind.
			for _ in {1..100}; do
				kill -0 $job || break
				sleep 0.1
			done
			kill -0 $job || wait $job
		} 2>/dev/null
		! kill -0 $job 2>/dev/null || echo "process $job does not end, even when it is killed" >&2
		status=124
	else
		# Not TERM: a child of bash that has not called exec yet would run the caller's EXIT trap.
		kill -KILL $timer 2>/dev/null
		wait $timer 2>/dev/null
	fi
	kill -KILL -- -$job 2>/dev/null
	return $status
}
