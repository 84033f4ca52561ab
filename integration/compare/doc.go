// Command compare measures what a narrow way back costs a TCP transfer, and
// what the two boxes do about it:
//
//	A - box 1 ==== 20 Mbit/s, 50 ms each way, no loss ==== box 2 - B
//	         <==== 200 or 50 kbit/s for the ACKs
//
// A sends to B: plainly, without a box; with ACKs thinned by box 2 and nothing
// else done; acknowledged and kept by box 1 (tcp: reliable); and with both. The
// source's congestion control is cubic and BBR.
//
// `make compare` runs it and prints one table. It needs root, makes its own
// namespaces and removes them.
package main
