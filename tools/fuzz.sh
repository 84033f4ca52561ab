#!/usr/bin/env bash
# Runs every fuzzer of the tree for FUZZTIME (default 3s), one after the other,
# since go test takes one fuzzer of one package at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${FUZZTIME:-3s}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
count=0
while IFS=: read -r file name; do
	dir=./$(dirname "$file")
	echo "fuzz $dir $name $time"
	${GO:-go} test -run '^$' -fuzz "^$name\$" -fuzztime "$time" "$dir" >"$log" 2>&1 || {
		cat "$log"
		exit 1
	}
	count=$((count + 1))
done < <(grep -rEoH --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed 's/^\.\///; s/func //')
[ "$count" -gt 0 ] || { echo "no fuzzer found" >&2; exit 1; }
echo "fuzz: $count fuzzers, no crash"
