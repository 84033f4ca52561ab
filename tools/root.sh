#!/usr/bin/env bash
# Runs the tests that need root, with the race detector. All test programs are
# built first, as many at once as the machine has processors; then they run one
# by one, for the rig's namespaces and timings do not bear another's load, and
# some look at what is left on the whole machine.
#
# Beside each other run only the demonstration and the experiments of `make
# paper` and `compare`: they wait for most of their time, each in
# namespaces of its own, and what they want of a figure leaves wide margins.
set -euo pipefail
cd "$(dirname "$0")/.."
export GO=${GO:-go} work
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# run DIR FLAG... A shell's background jobs ignore SIGINT, of which some tests are.
run() {
	local dir=$1 log from=$SECONDS
	shift
	log=$(mktemp -p "$work")
	if (cd "$dir" && env --default-signal=INT "$work/$(basename "$dir").test" -test.paniconexit0 -test.shuffle=on -test.timeout=14m "$@") >"$log" 2>&1; then
		echo "ok   $dir $* $((SECONDS - from))s"
		return
	fi
	cat "$log"
	echo "FAIL $dir $* $((SECONDS - from))s"
	return 1
}

# beside NAME: the demonstration, or else all experiments
beside() {
	local failed=0
	if [ "$1" = demo ]; then
		run integration/demo -test.run "$whole"
		return
	fi
	for dir in $experiments; do run "$dir" || failed=1; done
	return $failed
}
export -f run beside

list=$("$GO" list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' "$@" | sed "s|^$PWD/||")
[ -n "$list" ] || { echo "no tests in $*" >&2; exit 1; }
export whole='^TestAsymmetric$' experiments
experiments=$(grep -E '^integration/(compare|paper)$' <<<"$list" || true)
"$GO" test -race -c -o "$work/" "$@" | grep -v 'no test files' || true
failed=0
for dir in $(grep -vE '^integration/(compare|paper)$' <<<"$list" || true); do
	if [ "$dir" = integration/demo ]; then
		run "$dir" -test.skip "$whole" || failed=1
	else
		run "$dir" || failed=1
	fi
done
both=$(grep -qx integration/demo <<<"$list" && echo demo; echo "${experiments:+experiments}")
xargs -r -P 2 -I{} bash -c 'beside "$1"' - {} <<<"$both" || failed=1
exit $failed
