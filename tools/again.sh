#!/usr/bin/env bash
# The second look of `make test`: a test that failed beside everything else that runs
# there, on a machine that may be somebody else's too, is run by itself when all has
# ended, and a second time if it fails then. A data race, a panic (of a box, too), a
# timeout of a whole program and what does not build is not looked at again, nor are
# more than a few tests.
#
#	again.sh note FILE LOG FLAG...   takes down which tests have failed in the output of
#	                                 `go test FLAG...`; fails if that was not all
#	again.sh run FILE                runs them
set -euo pipefail
cd "$(dirname "$0")/.."
GO=${GO:-go}
most=8 # tests
what=$1 file=$2
shift 2

case $what in
note)
	log=$1
	shift
	awk -v flags="$*" '
		/^WARNING: DATA RACE|^panic: |^fatal error: |\[(build|setup) failed\]/ { hard = 1 }
		/ says (panic:|DATA RACE|fatal error:)/ { hard = 1 } # integration: checkLog
		/^--- FAIL: / { names = names "|" $3 }
		/^ok / { names = "" }
		/^FAIL\t/ {
			if (names == "") hard = 1
			else { print $2, substr(names, 2), flags; some = 1 }
			names = ""
		}
		END { exit hard || !some }' "$log" >>"$file"
	;;
run)
	[ -s "$file" ] || exit 0
	n=$(awk '{ n += split($2, names, "|") } END { print n }' "$file")
	if [ "$n" -gt $most ]; then
		echo "again: $n tests failed, too many for a second look:"
		cat "$file"
		exit 1
	fi
	failed=0 log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	while read -r package names flags; do
		ok=
		for try in 1 2; do
			# shellcheck disable=SC2086 # flags are words
			if "$GO" test $flags -count 1 -timeout 20m -run "^($names)\$" "$package" </dev/null 2>&1 | tee "$log" &&
				! grep -q 'no tests to run' "$log"; then
				ok=$try
				break
			fi
		done
		if [ -n "$ok" ]; then
			echo "again: ok   $package $names: failed beside others, passes by itself (try $ok)"
		else
			echo "again: FAIL $package $names: failed beside others, and twice by itself"
			failed=1
		fi
	done <"$file"
	exit $failed
	;;
*)
	echo "again.sh note|run FILE ..., not $what" >&2
	exit 2
	;;
esac
