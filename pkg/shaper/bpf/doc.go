// Package bpf loads, pins and feeds the eBPF programs that treat flows in the
// kernel, and is the only importer of cilium/ebpf. See treatment.c.
//
// What it makes is pinned, so that it outlives a crash of this process: the
// next one adopts it. One directory belongs to one network namespace.
package bpf
