#!/usr/bin/env bash
# Shows that the committed eBPF object and its Go bindings are what the C source
# makes with the compiler named in the go:generate line.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v clang-14 >/dev/null || { echo "generate-check: install clang-14, llvm-14 and libbpf-dev" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cp -r pkg/shaper/bpf "$tmp/before"
go generate ./pkg/shaper/bpf
diff -r "$tmp/before" pkg/shaper/bpf || {
	echo "generate-check: the committed object is not what its source makes: run make generate and commit" >&2
	exit 1
}
echo "generate-check: object and source agree"
