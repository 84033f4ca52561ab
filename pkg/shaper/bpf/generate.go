package bpf

// The committed object is what Debian's clang 14 makes of treatment.c and the headers
// beside it: the same source with another compiler is another object.
// TestObjectIsCurrent rebuilds it and compares where that compiler is installed
// (packages clang-14, llvm-14, libbpf-dev, linux-libc-dev). The include path of the
// architecture is given because -target bpf drops it.

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel,bpfeb -type flow_key -type flow -type spec -type group -type levels -type change_args -type group_args -type level_key -type level -type level_args -type fragment_key -type frame_key -type frame treatment treatment.c -- -O2 -g -Wall -Wextra -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu
