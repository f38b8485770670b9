#!/bin/bash
# Two builds of one benchmark, in turn, row by row: ./run bench NAME --against COMMIT [OPTION...]
#
#   against.sh COMMIT ITS-PROGRAM OUR-PROGRAM [OPTION...]
#
# Both run $DMALAND_BENCH_ROUNDS times (5), each first every other time, so that neither has the quieter machine. A row is the
# median of each, and their ratio: below 1 is less than at COMMIT. "+-" is how far the rounds of both lie from their medians, at
# most, added up: a ratio that is no further from 1 than that says nothing. With --json, one object with a row "ratio.NAME" each.
set -euo pipefail

commit=$1 theirs=$2 ours=$3
shift 3
rounds=${DMALAND_BENCH_ROUNDS:-5}
[[ $rounds =~ ^[1-9][0-9]?$ ]] || { echo "dmaland: DMALAND_BENCH_ROUNDS=$rounds: not a number from 1 to 99" >&2 && exit 2; }
json='' words=()
for word; do
	if [ "$word" = --json ]; then json=yes; else words+=("$word"); fi
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# measure WHO PROGRAM: appends "WHO NAME VALUE UNIT" to rows
measure() {
	"$2" --json "${words[@]}" >"$work/json"
	{ grep -oE '"name": *"[^"]*", *"value": *[-+.0-9eE]+, *"unit": *"[^"]*"' "$work/json" || true; } |
		sed -E "s/\"name\": *\"([^\"]*)\", *\"value\": *([^,]*), *\"unit\": *\"([^\"]*)\"/$1\t\1\t\2\t\3/" >>"$work/rows"
}

for ((round = 1; round <= rounds; round++)); do
	[ ! -t 2 ] || printf '\rround %d of %d ' "$round" "$rounds" >&2
	if ((round % 2)); then
		measure theirs "$theirs"
		measure ours "$ours"
	else
		measure ours "$ours"
		measure theirs "$theirs"
	fi
done
[ ! -t 2 ] || printf '\r                \r' >&2
[ -s "$work/rows" ] || { echo "dmaland: no row was measured" >&2 && exit 1; }

awk -F '\t' -v json="$json" -v commit="$commit" -v rounds="$rounds" '
	function median(who, name,    n, i, j, t, v) {
		n = count[who, name]
		for (i = 1; i <= n; i++)
			v[i] = value[who, name, i]
		for (i = 2; i <= n; i++)
			for (j = i; j > 1 && v[j - 1] > v[j]; j--) {
				t = v[j]; v[j] = v[j - 1]; v[j - 1] = t
			}
		return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
	}
	function spread(who, name, m,    i, d, most) {
		for (i = 1; i <= count[who, name]; i++) {
			d = value[who, name, i] - m
			if (d < 0)
				d = -d
			if (d > most)
				most = d
		}
		return m ? most / m : 0
	}
	{
		if (!(($2) in unit)) {
			order[++names] = $2
			unit[$2] = $4
		}
		value[$1, $2, ++count[$1, $2]] = $3
	}
	END {
		if (json)
			printf "{\"bench\": \"against\", \"commit\": \"%s\", \"rounds\": %d, \"rows\": [", commit, rounds
		else
			printf "%-44s %12s %12s %8s %7s\n", "medians of " rounds, substr(commit, 1, 12), "here", "ratio", "+-"
		for (i = 1; i <= names; i++) {
			name = order[i]
			if (!count["theirs", name] || !count["ours", name]) {
				if (!json)
					printf "%-44s %12s %12s\n", name, count["theirs", name] ? median("theirs", name) : "-", \
						count["ours", name] ? median("ours", name) : "-"
				continue
			}
			a = median("theirs", name)
			b = median("ours", name)
			s = spread("theirs", name, a) + spread("ours", name, b)
			if (json)
				printf "%s\n  {\"name\": \"ratio.%s\", \"value\": %.4f, \"unit\": \"x\", \"spread\": %.4f}", \
					printed++ ? "," : "", name, a ? b / a : 0, s
			else
				printf "%-44s %12.4g %12.4g %8.3f %6.1f%%  %s\n", name, a, b, a ? b / a : 0, 100 * s, unit[name]
		}
		if (json)
			print "\n]}"
	}' "$work/rows"
