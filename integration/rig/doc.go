// Package rig builds networks of namespaces on one machine, joined by veth
// pairs and emulated links, runs processes inside them, and removes everything
// again. Integration scenarios and `qosproxy demo` run on it.
//
// The parts: netns (namespaces and what is in them), emulator (the pure core
// of a link), wire (that core between two interfaces), traffic (sources and
// sinks). It needs root and runs no helper program.
//
// The sysctl net.ipv4.tcp_allowed_congestion_control, global for the machine,
// is left alone: it limits processes without CAP_NET_ADMIN only, and the rig's
// sources choose their congestion control per socket with that capability.
package rig
