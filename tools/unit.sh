#!/usr/bin/env bash
# go test with the arguments that it is given, flags before packages. If AGAIN names a
# file, what fails is taken down there for a second look (tools/again.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if "$GO" test "$@" 2>&1 | tee "$log"; then
	exit
fi
flags=()
for arg in "$@"; do
	[[ $arg == -race || $arg == -short ]] && flags+=("$arg")
done
[ -n "${AGAIN:-}" ] && tools/again.sh note "$AGAIN" "$log" "${flags[@]}"
