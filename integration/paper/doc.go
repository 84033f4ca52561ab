// Command paper repeats the experiment of the paper that TCP cheating comes
// from: how fast a source sends over a path whose way back is narrow, or loses
// ACKs, while there is a reservation for its data:
//
//	A - box 1 ==== 20 Mbit/s, 50 ms, 19 of them reserved ==== box 2 - B
//	         <==== 20 Mbit/s down to 32 kbit/s, or 0 to 20% lost
//
// Each point is a transfer of its own, without cheating (tcp: none) and with it
// (realtime, reliable). It prints a table, and draws plots with -plots.
//
// With -latency it measures instead what cheating does to small requests and
// responses on a path without trouble.
//
// `make paper` runs both. It needs root, makes its own namespaces and removes
// them.
package main
