#!/usr/bin/env bash
# Runs the tests that need root, with the race detector. All test programs are
# built first, as many at once as the machine has processors; then they run one
# by one, for the rig's namespaces and timings do not bear another's load, and
# some look at what is left on the whole machine.
#
# Beside each other run only the demonstration and the experiments of `make
# paper` and `compare`: they wait for most of their time, each in
# namespaces of its own, and what they want of a figure leaves wide margins.
#
# If AGAIN names a file, what fails is taken down there for a second look.
set -euo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}
work=$(mktemp -d)
# What runs is told to end, and clears up after itself.
trap 'trap - EXIT; jobs -p | xargs -r kill 2>/dev/null; wait; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# run DIR FLAG... A shell's background jobs ignore SIGINT, of which some tests are.
run() {
	local dir=$1 log from=$SECONDS
	shift
	log=$(mktemp -p "$work")
	(cd "$dir" && exec env --default-signal=INT "$work/$(basename "$dir").test" -test.paniconexit0 -test.shuffle=on -test.timeout=25m "$@") >"$log" 2>&1 &
	if wait $! && ! grep -q 'no tests to run' "$log"; then
		echo "ok   $dir $* $((SECONDS - from))s"
		return
	fi
	cat "$log"
	printf 'FAIL\t./%s\t%s %ds\n' "$dir" "$*" $((SECONDS - from)) | tee -a "$log"
	[ -n "${AGAIN:-}" ] && tools/again.sh note "$AGAIN" "$log" -race
}

packages=$("$GO" list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}' "$@")
[ -n "$packages" ] || { echo "no tests in $*" >&2; exit 1; }
whole='^Test(Asymmetric|Bridge)$' other='^TestVoiceAdmit$' # scenarios of the demonstration
awk '{print $1}' <<<"$packages" | xargs "$GO" test -race -c -o "$work/"
failed=0 demo= experiments=
while read -r _ dir; do
	dir=${dir#"$PWD"/}
	case $dir in
	integration/compare | integration/paper) experiments+=" $dir" ;;
	integration/demo) demo=$dir; run "$dir" -test.skip "$whole|$other" || failed=1 ;;
	*) run "$dir" || failed=1 ;;
	esac
done <<<"$packages"
if [ -n "$demo" ]; then
	run "$demo" -test.run "$whole" &
	beside=$!
fi
for dir in $experiments; do run "$dir" || failed=1; done
[ -z "$demo" ] || run "$demo" -test.run "$other" || failed=1
[ -z "$demo" ] || wait $beside || failed=1
exit $failed
