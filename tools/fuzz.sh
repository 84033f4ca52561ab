#!/usr/bin/env bash
# Runs every fuzzer of the tree for FUZZTIME (default 3s), as many at once as
# the machine has processors. A package's test program is built only once, with
# the instrumentation of the go command; `go test -fuzz` builds it anew for each.
set -euo pipefail
cd "$(dirname "$0")/.."
export GO=${GO:-go} time=${FUZZTIME:-3s} work jobs
work=$(mktemp -d)
jobs=$(nproc)
trap 'rm -rf "$work"' EXIT

# build DIR
build() {
	"$GO" test -c -fuzz . -o "$work/$(tr / . <<<"$1").test" "./$1"
}

# try DIR NAME LOG
try() {
	(cd "$1" && "$work/$(tr / . <<<"$1").test" -test.run '^$' -test.fuzz "^$2\$" -test.fuzztime "$time" \
		-test.fuzzcachedir "$cache/$1" -test.parallel 1) >"$3" 2>&1
}

# fuzz DIR:NAME
fuzz() {
	local dir=${1%:*} name=${1#*:} log
	log=$work/$(tr /: .. <<<"$1").log
	if ! try "$dir" "$name" "$log"; then
		# On a busy machine the fuzzing engine itself may miss the end of its
		# time. That is no finding: a finding names its input.
		if grep -q 'Failing input written' "$log" || ! grep -q 'context deadline exceeded' "$log" || ! try "$dir" "$name" "$log"; then
			echo "fuzz $dir $name: FAILED"
			cat "$log"
			return 255 # xargs starts no more
		fi
	fi
	# A program that had no such fuzzer would end well too.
	grep -q '^fuzz: elapsed: ' "$log" || { echo "fuzz $dir $name: did not run"; cat "$log"; return 255; }
	echo "fuzz $dir $name $time"
}
export -f build try fuzz

cache=$("$GO" env GOCACHE)/fuzz/$("$GO" list -m)
export cache
list=$(grep -rEoH --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed -E 's|^\./||; s|/[^/]*:func |:|' | sort)
[ -n "$list" ] || { echo "no fuzzer found" >&2; exit 1; }
cut -d: -f1 <<<"$list" | sort -u | xargs -P "$jobs" -I{} bash -c 'build "$1"' - {}
xargs -P "$jobs" -I{} bash -c 'fuzz "$1"' - {} <<<"$list"
echo "fuzz: $(wc -l <<<"$list") fuzzers, no crash"
